//! The real peers: how each is configured, started and read from, one file each.
//!
//! They leave to [`crate::Host`] everything that concerns isolation and the end of processes.

mod dovecot;
mod exim;
mod nginx;
mod opensmtpd;
mod postfix;

pub mod clients;
pub mod restante;

pub use dovecot::{Dovecot, LMTP_PORT};
pub use exim::{Exim, EximConfig};
pub use nginx::Nginx;
pub use opensmtpd::{OpenSmtpd, OpenSmtpdConfig, PATIENCE};
pub use postfix::{Postfix, PostfixConfig};
pub use restante::{Restante, RestanteConfig};
