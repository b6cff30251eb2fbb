//! Counts connections by peer, so that none takes more than its share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The count. One for each listener.
#[derive(Debug)]
pub(crate) struct Peers {
    limit: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; given back on drop.
#[derive(Debug)]
pub(crate) struct Seat {
    peers: Arc<Peers>,
    key: IpAddr,
}

impl Peers {
    /// At most `limit` seats for each peer.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, counts: Mutex::default() })
    }

    /// A seat, unless this peer has as many as it may.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let key = peer_key(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&key).copied().unwrap_or(0);
        if count >= self.limit {
            return None;
        }
        counts.insert(key, count + 1);
        Some(Seat { peers: Arc::clone(self), key })
    }
}

impl Seat {
    /// How many its peer has now, this one included.
    pub(crate) fn of_peer(&self) -> usize {
        let counts = self.peers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&self.key).copied().unwrap_or(1)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.peers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// An IPv4 address, or the /64 of an IPv6 one: what one customer holds at least.
pub(crate) fn peer_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_and_given_back() {
        let peers = Peers::new(1);
        let of = |text: &str| peers.admit(text.parse().unwrap());
        let first = of("2001:db8::1");
        assert_eq!(first.as_ref().map(Seat::of_peer), Some(1));
        assert!(first.is_some() && of("2001:db8::2").is_none() && of("2001:db8:0:1::1").is_some());
        drop(first);
        assert!(of("2001:db8::2").is_some());
        let _v4 = of("192.0.2.1");
        assert!(of("::ffff:192.0.2.1").is_none());
        drop(_v4);
        assert!(peers.counts.lock().unwrap().is_empty());
    }
}
