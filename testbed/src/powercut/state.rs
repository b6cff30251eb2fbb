//! Disk and power together: counts what programs do, cuts the power when planned, and holds back answers while it is off.
//!
//! It leaves what the disk does to [`super::disk`], and the kernel's requests to [`super::filesystem`].

use std::any::Any;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, Loss};

/// When the power is to be cut, counted from when this is planned; the first is number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// Before the nth sync does anything.
    BeforeSync(u64),
    /// After the nth sync, before the program learns that it succeeded.
    AfterSync(u64),
    /// Before the nth change of any kind (write, sync, a name made, replaced or removed).
    BeforeChange(u64),
}

/// What a request means to the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Changes nothing.
    None,
    /// Changes something that a sync would make safe.
    Change,
    /// Makes something safe.
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    Off,
    /// For good: the disk is being taken away.
    Gone,
}

/// What the mount, the test and the kernel share.
#[derive(Debug)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) disk: Disk,
    power: Power,
    held: Vec<Held>,
    plan: Option<CutAt>,
    syncs: u64,
    changes: u64,
    /// How often the power came back; handles from before are worth nothing.
    pub(super) epoch: u64,
}

/// An answer that is not given; dropping it answers with an I/O error.
struct Held(#[expect(dead_code, reason = "kept for its drop")] Box<dyn Any + Send>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl Shared {
    pub(super) fn new(disk: Disk) -> Self {
        Self(Mutex::new(State { disk, power: Power::On, held: Vec::new(), plan: None, syncs: 0, changes: 0, epoch: 1 }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a request; `None` and the answer is held if there is no power (any more).
    pub(super) fn admit<R: Send + 'static>(&mut self, effect: Effect, reply: R) -> Option<R> {
        if self.power == Power::On {
            self.count(effect);
            let now_due = match self.plan {
                Some(CutAt::BeforeSync(0)) => effect == Effect::Sync,
                Some(CutAt::BeforeChange(0)) => true,
                _ => false,
            };
            if now_due {
                self.cut();
            }
        }
        match self.power {
            Power::On => Some(reply),
            Power::Off => {
                self.held.push(Held(Box::new(reply)));
                None
            }
            Power::Gone => None,
        }
    }

    /// After a sync was done: whether the program may learn of it.
    pub(super) fn release<R: Send + 'static>(&mut self, reply: R) -> Option<R> {
        if self.plan == Some(CutAt::AfterSync(0)) {
            self.cut();
            self.held.push(Held(Box::new(reply)));
            return None;
        }
        Some(reply)
    }

    fn count(&mut self, effect: Effect) {
        let (sync, change) = (u64::from(effect == Effect::Sync), u64::from(effect != Effect::None));
        self.syncs += sync;
        self.changes += change;
        match &mut self.plan {
            Some(CutAt::BeforeSync(left) | CutAt::AfterSync(left)) => *left = left.saturating_sub(sync),
            Some(CutAt::BeforeChange(left)) => *left = left.saturating_sub(change),
            None => {}
        }
    }

    pub(super) fn plan(&mut self, plan: CutAt) {
        self.plan = Some(plan);
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.syncs, self.changes)
    }

    pub(super) fn cut(&mut self) {
        self.plan = None;
        if self.power == Power::On {
            self.power = Power::Off;
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.power == Power::Off
    }

    /// The disk loses what it must, and answers again; what was waiting gets an I/O error.
    pub(super) fn restore(&mut self, loss: Loss) {
        self.disk.cut(loss);
        self.epoch += 1;
        self.plan = None;
        self.power = Power::On;
        self.held.clear();
    }

    /// From now on everything fails at once.
    pub(super) fn take_away(&mut self) {
        self.power = Power::Gone;
        self.held.clear();
    }
}
