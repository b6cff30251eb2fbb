//! The link to the world may have become another one (a modem has dialled in anew): what hangs on connections of the old one
//! is not waited for, because nobody will ever tell that they are dead.
//!
//! Who notices is outside; what is done again is decided where it was begun.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Counts links.
pub(super) struct Link {
    renewals: watch::Sender<u64>,
    sign_of_life: Duration,
}

impl Link {
    /// What is under way has so long to show, after a renewal, that it is alive.
    pub(super) fn new(sign_of_life: Duration) -> Self {
        Self { renewals: watch::Sender::new(0), sign_of_life }
    }

    /// See [`Link::new`].
    pub(super) fn sign_of_life(&self) -> Duration {
        self.sign_of_life
    }

    /// It is another one from now on.
    pub(super) fn renew(&self) {
        self.renewals.send_modify(|number| *number += 1);
    }

    /// To be told when it is renewed, from now on.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.renewals.subscribe()
    }

    /// Does `work`; `None` where the link was renewed and it was not over soon after.
    pub(super) async fn hold<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut watch = self.watch();
        let died = async {
            // The sender is our own.
            let _ = watch.changed().await;
            sleep(self.sign_of_life).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = died => None,
        }
    }

    /// Waits before another attempt; no longer once it was renewed.
    pub(super) async fn pause(&self, wait: Duration) {
        let mut renewals = self.watch();
        // Both ends are good ones.
        let _ = timeout(wait, renewals.changed()).await;
    }

    /// Ends when it was renewed and this machine has not got that address any more.
    pub(super) async fn lost(&self, local: Option<IpAddr>) {
        let mut renewals = self.watch();
        loop {
            // The sender is our own.
            let _ = renewals.changed().await;
            if local.is_some_and(|address| !is_ours(address)) {
                return;
            }
        }
    }
}

/// Does this machine still have this address? What comes over connections from one that it has lost comes no more.
pub(super) fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn only_what_was_begun_before_and_hangs_is_given_up() {
        let link = Link::new(Duration::ZERO);
        let renewed = async |work| tokio::join!(link.hold(work), async { link.renew() }).0;
        assert_eq!(renewed(pending::<()>()).await, None);
        let link = Link::new(Duration::from_secs(3600));
        let soon = sleep(Duration::from_millis(1));
        assert_eq!(tokio::join!(link.hold(soon), async { link.renew() }).0, Some(()), "it was alive");
        let link = Link::new(Duration::ZERO);
        link.renew();
        let later = sleep(Duration::from_millis(1));
        assert_eq!(link.hold(later).await, Some(()), "the renewal was before it");
    }

    #[test]
    fn an_address_is_ours_or_not() {
        assert!(is_ours([127, 0, 0, 1].into()));
        assert!(!is_ours([192, 0, 2, 1].into()));
    }
}
