//! The vocabulary of mail that every other crate shares: names, addresses, envelopes, identifiers,
//! times, status codes, the rules of an *object*, trace fields, reports, and the rows of the ledger.
//!
//! Pure data and pure functions. Imports nothing else of ours; opens no socket, file or clock.

pub mod address;
pub mod base64url;
pub mod domain;
pub mod dsn;
pub mod envelope;
pub mod id;
pub mod ledger;
pub mod object;
pub mod status;
pub mod time;
pub mod trace;

pub use address::{Address, AddressError};
pub use domain::{Domain, DomainError};
pub use envelope::{Body, DsnReturn, Envelope, MailParams, Notify, Recipient};
pub use id::{Grant, InstanceId, QueueId, ReferenceId, Xuid};
pub use status::{EnhancedStatus, StatusClass};
pub use time::Timestamp;
