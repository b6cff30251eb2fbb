//! The octets of a message on their way: the dots of DATA (RFC 5321 §4.5.2) taken off and put on, the
//! rules of lines watched, and the block of a TBR offer collected. Whole chunks are searched at a time;
//! nothing of a message is kept.

pub(crate) mod block;
mod lines;
mod stuff;
mod unstuff;

pub use lines::{LineFault, LineRules};
pub use stuff::Stuffer;
pub use unstuff::{Unstuffed, Unstuffer};

#[cfg(test)]
mod tests;
