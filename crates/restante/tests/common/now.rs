//! The time, and chance.

use std::time::{SystemTime, UNIX_EPOCH};

use mail::Timestamp;

/// The time.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_secs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// Sixteen octets by chance.
pub(crate) fn rand() -> [u8; 16] {
    let mut octets = [0; 16];
    aws_lc_rs::rand::fill(&mut octets).unwrap();
    octets
}
