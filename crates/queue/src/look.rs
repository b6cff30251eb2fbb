//! Looking at rows again that nobody in memory remembers: after a failed commit, or when only their keys were kept.

use mail::ledger::Key;

use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};

/// Reads rows and begins whatever they are due for.
pub(crate) struct Look {
    pub(crate) keys: Vec<Key>,
}

impl Change for Look {
    fn wants(&self) -> Wants {
        Wants::keys(self.keys.iter().cloned())
    }

    fn apply(&mut self, rows: Rows, _: &mut Context<'_>) -> Plan {
        let effects = rows.into_all().into_iter().map(|row| Effect::Consider(Box::new(row)));
        Plan { effects: effects.chain([Effect::Looked]).collect(), ..Plan::default() }
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}
