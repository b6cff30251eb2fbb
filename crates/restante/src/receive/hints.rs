//! The hint to strangers by value (TBR §3.8): who has been asked, kept across restarts.
//!
//! When somebody is asked is `policy::hint`'s. Only digests of the pairs are kept: who writes to whom is nobody's business.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use mail::Address;
use policy::hint::Pairs;
use tokio_util::sync::CancellationToken;

use crate::kept::{self, Kept};
use crate::runtime::now;

const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Octets of a digest that are kept.
const KEPT: usize = 12;

/// The pairs; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Hints(Arc<Kept<Pairs>>);

impl Hints {
    /// Pairs that are kept in this file.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        Ok(Self(Arc::new(Kept::open(path)?)))
    }

    /// Writes them until the end.
    pub(crate) async fn keep(self, end: CancellationToken) {
        kept::keep(self.0, SAVE_EVERY, end).await;
    }

    /// Is this stranger to be asked for a reference?
    pub(crate) fn ask(&self, sender: &Address, recipients: &[&Address]) -> bool {
        let pairs: Vec<String> = recipients.iter().map(|recipient| name(sender, recipient)).collect();
        self.0.change(|asked| asked.ask(&pairs, now()))
    }
}

fn name(sender: &Address, recipient: &Address) -> String {
    // No address has a line end in it.
    let pair = format!("{sender}\n{recipient}");
    mail::base64url::encode(&digest::digest(&digest::SHA256, pair.as_bytes()).as_ref()[..KEPT])
}
