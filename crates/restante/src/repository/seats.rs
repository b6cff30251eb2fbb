//! How many objects are read at a time: in all, and with one grant. Whoever is over is told when to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail::Grant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most reads at a time with one grant: resuming clients overlap, many of them are no client's need.
const PER_GRANT: u32 = 4;

/// Hands out seats.
#[derive(Clone)]
pub(super) struct Seats {
    all: Arc<Semaphore>,
    grants: Arc<Mutex<HashMap<String, u32>>>,
}

/// One read; ends on drop.
pub(super) struct Seat {
    grants: Arc<Mutex<HashMap<String, u32>>>,
    grant: String,
    _one: OwnedSemaphorePermit,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// The server has enough to do: 503.
    Full,
    /// This grant is used too often: 429.
    TooMany,
}

impl Seats {
    pub(super) fn new(all: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), grants: Arc::default() }
    }

    /// A seat for a grant that was found good.
    pub(super) fn take(&self, grant: &Grant) -> Result<Seat, NoSeat> {
        let one = Arc::clone(&self.all).try_acquire_owned().map_err(|_| NoSeat::Full)?;
        let grant = grant.fingerprint();
        let mut grants = lock(&self.grants);
        let count = grants.entry(grant.clone()).or_default();
        if *count >= PER_GRANT {
            return Err(NoSeat::TooMany);
        }
        *count += 1;
        drop(grants);
        Ok(Seat { grants: Arc::clone(&self.grants), grant, _one: one })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut grants = lock(&self.grants);
        if let Some(count) = grants.get_mut(&self.grant) {
            *count -= 1;
            if *count == 0 {
                grants.remove(&self.grant);
            }
        }
    }
}

fn lock(grants: &Mutex<HashMap<String, u32>>) -> MutexGuard<'_, HashMap<String, u32>> {
    grants.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_grant_does_not_take_all_and_all_are_bounded() {
        let seats = Seats::new(PER_GRANT as usize + 2);
        let (a, b) = (Grant::new(&[1; 16]).unwrap(), Grant::new(&[2; 16]).unwrap());
        let mut taken: Vec<Seat> = (0..PER_GRANT).map(|_| seats.take(&a).ok().unwrap()).collect();
        assert_eq!(seats.take(&a).err(), Some(NoSeat::TooMany));
        taken.extend([seats.take(&b).ok().unwrap(), seats.take(&b).ok().unwrap()]);
        assert_eq!(seats.take(&b).err(), Some(NoSeat::Full));
        drop(taken);
        assert!(seats.take(&a).is_ok());
        assert!(lock(&seats.grants).is_empty(), "nothing is remembered of what is over");
    }
}
