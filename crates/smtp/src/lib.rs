//! SMTP without sockets: replies, commands (one file per verb), and the state machines of a server and
//! of a client, the TBR verb included.
//!
//! Everything here is pure: octets, decisions and the time come in, actions go out. Whoever owns the
//! socket (`net`) drives the loop shown at [`server::Server`] and [`client::Client`]. Policy (who may
//! send to whom), SASL mechanisms, TLS, DNS, and the syntax of the TBR block are left to others.
//!
//! * RFC 5321 with PIPELINING (2920), SIZE (1870), 8BITMIME (6152), ENHANCEDSTATUSCODES (2034),
//!   STARTTLS (3207), CHUNKING (3030), DSN (3461), AUTH (4954), SMTPUTF8 (6531), REQUIRETLS (8689),
//!   LIMITS (9422), ETRN (1985), ATRN (2645), TBR 1 (TBR §3); the client also speaks LMTP (2033).
//! * A line ends with CR LF and with nothing else, on both sides, in commands, contents and blocks.

pub mod capability;
pub mod client;
pub mod command;
pub mod content;
mod line;
pub mod reply;
pub mod secret;
pub mod server;

pub use capability::Capabilities;
pub use command::Command;
pub use reply::{Reply, Severity};
pub use secret::Secret;
