//! The test equipment: real peers from Debian, each in namespaces of its own, and a disk that loses power.
//!
//! A test makes a [`Sandbox`] (a network of its own with a name server and a certificate authority), puts [`Host`]s
//! on it, and starts peers on them: a [`peers::MailServer`] (Postfix, Exim or OpenSMTPD), [`peers::Dovecot`], [`peers::Nginx`], [`peers::Pebble`], the
//! clients in [`peers::clients`], a signed tree of names ([`signed::SignedTree`]), or the server under test, [`peers::Restante`]. Packages are unpacked beside the build, never installed.
//! Everything that a sandbox started ends with it, and with the test process, however that ends.
//!
//! What it needs: Linux, root, `apt-get` with Debian's packages. What cannot be set up is an error, never a skip.
//! It leaves to others what is tested and what is expected; it is never shipped.

mod ca;
mod dns;
mod host;
mod link;
mod packages;
mod pypi;
mod sandbox;

pub mod maildir;
pub mod peers;
pub mod powercut;
pub mod processor;
pub mod samples;
pub mod signed;
pub mod wait;

pub use ca::{Ca, Identity};
pub use dns::Record;
pub use host::{Host, Process};
pub use link::Counted;
pub use packages::PackageSet;
pub use pypi::Sdist;
pub use sandbox::Sandbox;
