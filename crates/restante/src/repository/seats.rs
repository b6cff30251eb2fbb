//! How many objects are read at a time: in all, and with one grant. Who finds no seat is told when to come again; with one
//! grant the latest have the seats.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail::Grant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most reads at a time with one grant. A client whose link breaks again and again resumes while the server does not know yet
/// that its last connections are dead: the oldest gives way.
const PER_GRANT: usize = 4;

/// Hands out seats.
#[derive(Clone)]
pub(super) struct Seats {
    all: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    /// By the grant's fingerprint, the oldest first.
    grants: HashMap<String, VecDeque<(u64, OwnedSemaphorePermit)>>,
    last: u64,
}

/// One read; ends on drop, or when it has given way.
pub(super) struct Seat {
    taken: Arc<Mutex<Taken>>,
    grant: String,
    number: u64,
}

/// The server has enough to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Seats {
    pub(super) fn new(all: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), taken: Arc::default() }
    }

    /// A seat for a grant that was found good.
    pub(super) fn take(&self, grant: &Grant) -> Result<Seat, Full> {
        let grant = grant.fingerprint();
        let mut taken = lock(&self.taken);
        if let Some(seats) = taken.grants.get_mut(&grant).filter(|seats| seats.len() >= PER_GRANT) {
            seats.pop_front();
        }
        let permit = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full)?;
        taken.last += 1;
        let number = taken.last;
        taken.grants.entry(grant.clone()).or_default().push_back((number, permit));
        drop(taken);
        Ok(Seat { taken: Arc::clone(&self.taken), grant, number })
    }
}

impl Seat {
    /// Has it not given way? Then nothing more may be read.
    pub(super) fn is_held(&self) -> bool {
        let taken = lock(&self.taken);
        taken.grants.get(&self.grant).is_some_and(|seats| seats.iter().any(|(number, _)| *number == self.number))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(seats) = taken.grants.get_mut(&self.grant) {
            seats.retain(|(number, _)| *number != self.number);
            if seats.is_empty() {
                taken.grants.remove(&self.grant);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_grant_does_not_take_all_and_all_are_bounded() {
        let seats = Seats::new(PER_GRANT + 2);
        let (a, b) = (Grant::new(&[1; 16]).unwrap(), Grant::new(&[2; 16]).unwrap());
        let mut taken: Vec<Seat> = (0..PER_GRANT).map(|_| seats.take(&a).ok().unwrap()).collect();
        taken.extend([seats.take(&b).ok().unwrap(), seats.take(&b).ok().unwrap()]);
        assert_eq!(seats.take(&b).err(), Some(Full));
        drop(taken);
        assert!(seats.take(&a).is_ok());
        assert!(lock(&seats.taken).grants.is_empty(), "nothing is remembered of what is over");
    }

    #[test]
    fn with_one_grant_the_oldest_read_gives_way() {
        let seats = Seats::new(PER_GRANT);
        let grant = Grant::new(&[1; 16]).unwrap();
        let taken: Vec<Seat> = (0..=PER_GRANT).map(|_| seats.take(&grant).ok().unwrap()).collect();
        let held: Vec<bool> = taken.iter().map(Seat::is_held).collect();
        assert_eq!(held, [false, true, true, true, true]);
    }
}
