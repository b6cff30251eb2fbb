//! Nonces that were used: no signature counts twice (TBR §6.2).
//!
//! In memory only. What was signed before this memory began is refused for a moment rather than believed: it may have
//! been used already.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use mail::{Domain, Timestamp};
use reference::message_signature::{Nonce, Presented, WINDOW};

/// Nonces remembered at most, of all domains; about 50 octets each.
const MOST: usize = 1 << 20;
/// And of one domain: some 400 signed requests a second.
const MOST_PER_DOMAIN: usize = 1 << 17;

/// The memory of one process: all its listeners share it.
pub struct Replays {
    since: Timestamp,
    most: usize,
    most_per_domain: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    domains: HashMap<Domain, OfDomain>,
    count: usize,
    /// When all domains were last gone through for what can be forgotten.
    swept: Timestamp,
}

#[derive(Default)]
struct OfDomain {
    nonces: HashSet<Nonce>,
    /// In the order in which they came, with the time from which `created` is out of the window.
    order: VecDeque<(Timestamp, Nonce)>,
}

/// What is known of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Seen for the first time; from now on it is known.
    Fresh,
    /// Used before.
    Repeated,
    /// It cannot be told: made before this memory began, or there is no room for it. The client may sign anew.
    Unknown,
}

impl Replays {
    /// An empty memory that begins now.
    pub fn new(now: Timestamp) -> Self {
        Self::with_limits(now, MOST, MOST_PER_DOMAIN)
    }

    fn with_limits(now: Timestamp, most: usize, most_per_domain: usize) -> Self {
        // `created` is in whole seconds.
        Self { since: Timestamp::from_secs(now.as_secs()), most, most_per_domain, seen: Mutex::default() }
    }

    /// Uses the nonce of a signature that has been verified.
    pub(super) fn take(&self, signature: &Presented, now: Timestamp) -> Freshness {
        if signature.created < self.since {
            return Freshness::Unknown;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget(&signature.id.domain, now);
        if seen.knows(&signature.id.domain, &signature.nonce) {
            return Freshness::Repeated;
        }
        if seen.count >= self.most {
            seen.sweep(now);
        }
        if seen.count >= self.most || seen.count_of(&signature.id.domain) >= self.most_per_domain {
            return Freshness::Unknown;
        }
        seen.remember(signature);
        Freshness::Fresh
    }
}

impl Seen {
    fn knows(&self, domain: &Domain, nonce: &Nonce) -> bool {
        self.domains.get(domain).is_some_and(|of| of.nonces.contains(nonce))
    }

    fn count_of(&self, domain: &Domain) -> usize {
        self.domains.get(domain).map_or(0, |of| of.nonces.len())
    }

    fn remember(&mut self, signature: &Presented) {
        let of = self.domains.entry(signature.id.domain.clone()).or_default();
        of.nonces.insert(signature.nonce);
        of.order.push_back((signature.created.after(WINDOW), signature.nonce));
        self.count += 1;
    }

    fn forget(&mut self, domain: &Domain, now: Timestamp) {
        let Some(of) = self.domains.get_mut(domain) else { return };
        self.count -= of.forget(now);
        if of.nonces.is_empty() {
            self.domains.remove(domain);
        }
    }

    /// All domains, once a second at most.
    fn sweep(&mut self, now: Timestamp) {
        if now.as_secs() == self.swept.as_secs() {
            return;
        }
        self.swept = now;
        self.domains.retain(|_, of| {
            self.count -= of.forget(now);
            !of.nonces.is_empty()
        });
    }
}

impl OfDomain {
    /// Forgets what would not be timely any more; how many.
    fn forget(&mut self, now: Timestamp) -> usize {
        let before = self.nonces.len();
        while let Some((until, nonce)) = self.order.front().copied()
            && until < now
        {
            self.nonces.remove(&nonce);
            self.order.pop_front();
        }
        before - self.nonces.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reference::SigningKey;
    use reference::message_signature::{Fields, KeyId, Request, Signer, parse, sign};

    use super::*;
    use crate::testing::domain;

    fn signature(of: &str, nonce: u8, created: Timestamp) -> Presented {
        let id = KeyId { domain: domain(of), selector: "k1".parse().unwrap() };
        let signer = Signer { id, key: Arc::new(SigningKey::from_seed(&[1; 32]).unwrap()) };
        let host = domain("tbr.a.example");
        let request =
            Request { method: "GET", host: &host, path_and_query: "/", content_digest: None, upload_offset: None };
        let Fields { input, signature } = sign(&request, [(&signer, Nonce([nonce; 16]))], created).unwrap();
        parse(&input, &signature).unwrap().remove(0)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn a_nonce_is_good_once_for_as_long_as_its_signature_is_timely() {
        let replays = Replays::new(at(0));
        let ahead = signature("b.example", 1, at(300));
        assert_eq!(replays.take(&ahead, at(0)), Freshness::Fresh);
        for now in [at(0), at(599), at(600)] {
            assert_eq!(replays.take(&ahead, now), Freshness::Repeated, "{now:?}");
        }
        assert_eq!(replays.take(&signature("c.example", 1, at(0)), at(0)), Freshness::Fresh, "another domain's");
        assert_eq!(replays.take(&signature("b.example", 2, at(0)), at(0)), Freshness::Fresh);
    }

    #[test]
    fn what_was_signed_before_the_memory_began_may_have_been_used() {
        let replays = Replays::new(Timestamp::from_millis(1_800_000_000_700));
        assert_eq!(replays.take(&signature("b.example", 1, at(0)), at(1)), Freshness::Fresh, "the same second");
        let before = Timestamp::from_secs(1_799_999_999);
        assert_eq!(replays.take(&signature("b.example", 2, before), at(1)), Freshness::Unknown);
    }

    #[test]
    fn a_full_memory_believes_nobody_until_there_is_room_again() {
        let replays = Replays::with_limits(at(0), 3, 2);
        let take = |of: &str, nonce, second| replays.take(&signature(of, nonce, at(second)), at(second));
        assert_eq!(take("b.example", 1, 0), Freshness::Fresh);
        assert_eq!(take("b.example", 2, 1), Freshness::Fresh);
        assert_eq!(take("b.example", 3, 1), Freshness::Unknown, "its share is used up");
        assert_eq!(take("c.example", 1, 1), Freshness::Fresh);
        assert_eq!(take("d.example", 1, 1), Freshness::Unknown, "all is used up");
        assert_eq!(take("b.example", 1, 1), Freshness::Repeated);
        assert_eq!(take("d.example", 2, 302), Freshness::Fresh, "what is out of the window is forgotten");
        assert_eq!(replays.seen.lock().unwrap().count, 1);
    }
}
