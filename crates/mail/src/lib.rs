//! The vocabulary of mail that every other crate shares: names, addresses, envelopes, identifiers,
//! times, status codes, the rules of an *object*, trace fields, reports, and the rows of the ledger.
//!
//! Pure data and pure functions. Imports nothing else of ours; opens no socket, file or clock.

pub mod address;
pub mod assurance;
pub mod base64url;
pub mod domain;
pub mod dsn;
pub mod envelope;
pub mod holder;
pub mod id;
pub mod ledger;
pub mod mta_sts;
pub mod object;
pub mod report_uri;
pub mod seven_bit;
pub mod status;
pub mod time;
pub mod tls_rpt;
pub mod tlsa;
pub mod trace;

pub use address::{Address, AddressError};
pub use assurance::Assurance;
pub use domain::{Domain, DomainError};
pub use envelope::{Body, DsnReturn, Envelope, MailParams, Notify, Recipient};
pub use holder::{Holder, NotHolder};
pub use id::{Grant, InstanceId, QueueId, ReferenceId, Xuid};
pub use status::{EnhancedStatus, StatusClass};
pub use time::Timestamp;
