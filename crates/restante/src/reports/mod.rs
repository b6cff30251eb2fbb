//! Reports between mail servers about each other's mail: what happened is written down as it happens, and once a day each domain
//! that asks for it gets a report; reports of others are taken in and shown.
//!
//! One module for all kinds. A kind says what it writes down, how that adds up, and what its report looks like ([`Kind`]); the
//! rest is the same for all: [`journal`] keeps a day's events, [`reporter`] makes reports of them, [`outbox`] keeps these until
//! they are taken, [`post`] hands them over, [`inbox`] takes those of others.

mod day;
mod desk;
pub mod dmarc;
pub mod inbox;
mod journal;
mod letter;
mod outbox;
mod post;
mod reporter;
pub mod tls;

pub(crate) use desk::{Desk, Journals, received_dir};
pub(crate) use journal::Recorder;
pub(crate) use post::Post;
pub use reporter::Sent;
