//! Places for jobs, and who waits for one: so many in all, so many for each lane.
//!
//! By rank and then first come, first served within a lane. Owners take turns, and so do the messages of one owner: a list with thousands
//! of destinations is in nobody's way. Where the places are shared, no owner has more of them than are left for others.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use mail::QueueId;
use mail::ledger::Key;

/// What goes first within a lane: the least. Whoever has none goes in the order of arrival.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// There is time.
    pub(crate) can_wait: bool,
    pub(crate) octets: u64,
}

/// Lanes by name; `O` tells owners apart, where there are several.
pub(crate) struct Lanes<L, O = ()> {
    lanes: HashMap<L, Lane<O>>,
    owners: HashMap<O, Owner<L>>,
    /// Owners with a lane that is ready, each once.
    order: VecDeque<O>,
    running: usize,
    total: usize,
    each: usize,
    is_shared: bool,
}

struct Lane<O> {
    running: usize,
    /// In order.
    waiting: VecDeque<(Rank, O, Key)>,
    /// It stands among the ready lanes of the owner of the first who waits.
    is_ready: bool,
}

struct Owner<L> {
    running: usize,
    /// Lanes with somebody waiting and room for him, but for the total; by message.
    ready: Rota<Option<QueueId>, L>,
}

/// Things that come out in turns: one of each name, then one of each again.
struct Rota<N, T> {
    things: HashMap<N, VecDeque<T>>,
    order: VecDeque<N>,
}

impl<L: Eq + Hash + Clone, O: Eq + Hash + Clone> Lanes<L, O> {
    pub(crate) fn new(total: usize, each: usize) -> Self {
        let (lanes, owners, order) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { lanes, owners, order, running: 0, total, each, is_shared: false }
    }

    /// The same, with no owner having more places than are left.
    pub(crate) fn shared(total: usize, each: usize) -> Self {
        Self { is_shared: true, ..Self::new(total, each) }
    }

    /// Is there a place, with nobody waiting for it?
    pub(crate) fn has_room(&self, name: &L) -> bool {
        let lane = self.lanes.get(name);
        self.running < self.total && lane.is_none_or(|lane| lane.running < self.each && lane.waiting.is_empty())
    }

    /// No place will ever be free.
    pub(crate) fn is_closed(&self) -> bool {
        self.total == 0
    }

    /// Waits for a place.
    pub(crate) fn queue(&mut self, name: &L, owner: O, key: Key) {
        self.queue_by(name, owner, Rank::default(), key);
    }

    /// Waits for a place, before all of a higher rank.
    pub(crate) fn queue_by(&mut self, name: &L, owner: O, rank: Rank, key: Key) {
        let waiting = &mut self.lanes.entry(name.clone()).or_default().waiting;
        let place = waiting.partition_point(|(before, ..)| *before <= rank);
        waiting.insert(place, (rank, owner, key));
        self.make_ready(name);
    }

    /// Gives a place back.
    pub(crate) fn leave(&mut self, name: &L, owner: &O) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        lane.running = lane.running.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
        if let Some(state) = self.owners.get_mut(owner) {
            state.running = state.running.saturating_sub(1);
            if state.running == 0 && state.ready.is_empty() {
                self.owners.remove(owner);
            }
        }
        if lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(name);
        } else {
            self.make_ready(name);
        }
    }

    /// Who may go now; he has his place already.
    pub(crate) fn next(&mut self) -> Option<(L, O, Key)> {
        let mut passed_over = 0;
        while self.running < self.total && passed_over < self.order.len() {
            let owner = self.order.pop_front()?;
            let Some(state) = self.owners.get_mut(&owner) else { continue };
            if self.is_shared && state.running >= self.total - self.running {
                passed_over += 1;
                self.order.push_back(owner);
                continue;
            }
            let name = state.ready.pop();
            if !state.ready.is_empty() {
                self.order.push_back(owner.clone());
            }
            let taken = name.and_then(|name| self.take(name));
            self.forget_if_idle(&owner);
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// The first of a lane, if there is a place for him in it.
    fn take(&mut self, name: L) -> Option<(L, O, Key)> {
        let lane = self.lanes.get_mut(&name)?;
        lane.is_ready = false;
        if lane.running >= self.each {
            return None;
        }
        let (_, owner, key) = lane.waiting.pop_front()?;
        lane.running += 1;
        self.running += 1;
        self.owners.entry(owner.clone()).or_default().running += 1;
        self.make_ready(&name);
        Some((name, owner, key))
    }

    /// Others who wait in this lane, to share a place that was just taken.
    pub(crate) fn share(&mut self, name: &L, most: usize) -> Vec<Key> {
        let Some(lane) = self.lanes.get_mut(name) else { return Vec::new() };
        let count = lane.waiting.len().min(most);
        lane.waiting.drain(..count).map(|(.., key)| key).collect()
    }

    fn make_ready(&mut self, name: &L) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let Some((_, owner, key)) = lane.waiting.front().filter(|_| !lane.is_ready && lane.running < self.each) else {
            return;
        };
        let state = self.owners.entry(owner.clone()).or_default();
        if state.ready.is_empty() {
            self.order.push_back(owner.clone());
        }
        state.ready.push(message(key), name.clone());
        lane.is_ready = true;
    }

    fn forget_if_idle(&mut self, owner: &O) {
        if self.owners.get(owner).is_some_and(|state| state.running == 0 && state.ready.is_empty()) {
            self.owners.remove(owner);
        }
    }
}

fn message(key: &Key) -> Option<QueueId> {
    match key {
        Key::Leg(id, _) => Some(id.clone()),
        _ => None,
    }
}

impl<O> Default for Lane<O> {
    fn default() -> Self {
        Self { running: 0, waiting: VecDeque::new(), is_ready: false }
    }
}

impl<L> Default for Owner<L> {
    fn default() -> Self {
        Self { running: 0, ready: Rota { things: HashMap::new(), order: VecDeque::new() } }
    }
}

impl<N: Eq + Hash + Clone, T> Rota<N, T> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn push(&mut self, name: N, thing: T) {
        let things = self.things.entry(name.clone()).or_default();
        if things.is_empty() {
            self.order.push_back(name);
        }
        things.push_back(thing);
    }

    fn pop(&mut self) -> Option<T> {
        let name = self.order.pop_front()?;
        let things = self.things.get_mut(&name)?;
        let thing = things.pop_front();
        if things.is_empty() {
            self.things.remove(&name);
        } else {
            self.order.push_back(name);
        }
        thing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        of("q", number)
    }

    fn of(message: &str, number: u32) -> Key {
        Key::Leg(message.parse().unwrap(), number)
    }

    #[test]
    fn lanes_keep_their_limits_and_take_turns() {
        let mut lanes = Lanes::new(3, 2);
        for number in 0..4 {
            lanes.queue(&"a", (), key(number));
        }
        assert_eq!([lanes.next(), lanes.next()], [Some(("a", (), key(0))), Some(("a", (), key(1)))]);
        assert_eq!(lanes.next(), None, "two each");
        assert!(lanes.has_room(&"b") && !lanes.has_room(&"a"));
        lanes.queue(&"b", (), key(4));
        lanes.queue(&"c", (), key(5));
        assert_eq!(lanes.next(), Some(("b", (), key(4))));
        assert_eq!(lanes.next(), None, "three in all");
        lanes.leave(&"b", &());
        assert_eq!(lanes.next(), Some(("c", (), key(5))));
        lanes.leave(&"a", &());
        assert!(!lanes.has_room(&"a"), "who waits comes first");
        assert_eq!(lanes.next(), Some(("a", (), key(2))));
        assert_eq!(lanes.share(&"a", 9), [key(3)]);
        lanes.leave(&"a", &());
        assert_eq!(lanes.next(), None);
    }

    #[test]
    fn what_is_urgent_goes_first_then_the_smallest_then_who_came_first() {
        let mut lanes = Lanes::new(9, 9);
        for (number, (can_wait, octets)) in (0..).zip([(true, 9), (true, 3), (true, 9), (false, 50), (true, 3)]) {
            lanes.queue_by(&"a", (), Rank { can_wait, octets }, key(number));
        }
        let order = std::iter::from_fn(|| lanes.next()).map(|(.., key)| key).collect::<Vec<_>>();
        assert_eq!(order, [3, 1, 4, 0, 2].map(key));
    }

    #[test]
    fn senders_take_turns_and_so_do_their_messages() {
        let mut lanes = Lanes::shared(100, 1);
        for number in 0..9 {
            lanes.queue(&format!("list{number}"), "alice", of("list", number));
        }
        lanes.queue(&"z".to_owned(), "alice", of("note", 0));
        lanes.queue(&"y".to_owned(), "bob", of("late", 0));
        let mut next = || lanes.next().map(|(lane, ..)| lane).unwrap();
        assert_eq!([next(), next(), next(), next()], ["list0", "y", "z", "list1"]);
    }

    #[test]
    fn a_sender_leaves_as_many_places_as_it_has() {
        let mut lanes = Lanes::shared(8, 1);
        let mut begin = |owner: &'static str| {
            for number in 0..20 {
                lanes.queue(&format!("{owner}{number}"), owner, of(owner, number));
            }
            std::iter::from_fn(|| lanes.next()).count()
        };
        assert_eq!([begin("a"), begin("b"), begin("c"), begin("d")], [4, 2, 1, 1]);
        assert_eq!(begin("e"), 0, "all are taken");
        lanes.leave(&"a0".to_owned(), &"a");
        assert_eq!(lanes.next().map(|(_, owner, _)| owner), Some("e"), "not to those who have one");
    }
}
