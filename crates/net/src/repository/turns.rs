//! In which order the objects go that a client has asked for at a time: of what is there to send, that of which least is left. So the smallest
//! are whole first, and a break cuts off one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The objects that are under way on one connection.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: Mutex<Vec<One>>,
}

#[derive(Debug)]
struct One {
    number: u64,
    left: u64,
    /// It has nothing to send before it was read.
    is_held_up: bool,
    waker: Option<Waker>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    /// For an object of which so many octets are to go.
    pub(super) fn take(self: &Arc<Self>, left: u64) -> Turn {
        let mut waiting = self.waiting();
        let number = waiting.iter().map(|one| one.number + 1).max().unwrap_or_default();
        waiting.push(One { number, left, is_held_up: false, waker: None });
        Turn { turns: Arc::clone(self), number }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<One>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Is it this one's turn? If not, its task is woken when it may be.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.turns.waiting();
        let Some(own) = waiting.iter().position(|one| one.number == self.number) else { return Poll::Ready(()) };
        let rank = |one: &One| (one.left, one.number);
        let is_behind = waiting.iter().any(|one| !one.is_held_up && rank(one) < rank(&waiting[own]));
        waiting[own].waker = is_behind.then(|| cx.waker().clone());
        if is_behind { Poll::Pending } else { Poll::Ready(()) }
    }

    /// So much is left of it; or it is held up, and others go first.
    pub(super) fn goes_on(&self, left: Option<u64>) {
        let mut waiting = self.turns.waiting();
        if let Some(own) = waiting.iter_mut().find(|one| one.number == self.number) {
            own.is_held_up = left.is_none();
            own.left = left.unwrap_or(own.left);
        }
        if left.is_none() {
            wake(&mut waiting);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.turns.waiting();
        waiting.retain(|one| one.number != self.number);
        wake(&mut waiting);
    }
}

/// Each sees for itself whether it is its turn.
fn wake(waiting: &mut [One]) {
    waiting.iter_mut().filter_map(|one| one.waker.take()).for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_goes_of_which_least_is_left_unless_it_is_held_up() {
        let (turns, mut cx) = (Arc::new(Turns::default()), Context::from_waker(Waker::noop()));
        let (large, small) = (turns.take(1000), turns.take(10));
        let mut may = |turn: &Turn| turn.poll(&mut cx).is_ready();
        assert!(may(&small) && !may(&large));
        small.goes_on(None);
        assert!(may(&large));
        small.goes_on(Some(5));
        assert!(may(&small) && !may(&large));
        let second = turns.take(5);
        assert!(!may(&second), "who came first goes first");
        large.goes_on(Some(4));
        assert!(may(&large) && !may(&small));
        drop(large);
        assert!(may(&small));
        drop(small);
        assert!(may(&second));
    }
}
