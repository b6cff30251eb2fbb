//! The real peers: how each is configured, started and read from, one file each.
//!
//! They leave to [`crate::Host`] everything that concerns isolation and the end of processes.

mod dovecot;
mod exim;
mod mail_server;
mod middlebox;
mod nginx;
mod opensmtpd;
mod part_time;
mod pebble;
mod postfix;
mod rspamd;

pub mod clients;
pub mod restante;

pub use dovecot::{Dovecot, LMTP_PORT};
pub use mail_server::{MailServer, Site};
pub use middlebox::Middlebox;
pub use nginx::Nginx;
pub use opensmtpd::PATIENCE;
pub use part_time::PartTime;
pub use pebble::Pebble;
pub use restante::{Restante, RestanteConfig};
pub use rspamd::Rspamd;
