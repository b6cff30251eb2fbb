//! The edge of a server: carries the node's actions out on its virtual disk, and hands replies to whoever asked.

use std::collections::BTreeSet;
use std::time::Duration;

use mail::ledger::{Batch, Key, ObjectRef, Phase, RecipientState, Row, RowBody};
use queue::port::{Action, CallId, Input, LedgerAnswer, OfferAnswer, Reply, Token};

use crate::bundle;
use crate::delegation;
use crate::disk::Refused;
use crate::http;
use crate::judge::{self, Settled, Violation};
use crate::mutation::Mutation;
use crate::scenario::{Mood, SERVERS, START, ServerId};
use crate::server::{At, Caller};
use crate::smtp;
use crate::stick;
use crate::upload::{self, Listed};
use crate::world::{Arriving, Event, World};

impl World {
    pub(crate) fn act(&mut self, at: At, action: Action) -> Result<(), Violation> {
        let server = &mut self.servers[at.server];
        match action {
            Action::Reply { call, reply } => self.reply(at, call, reply),
            Action::Load { token, keys } => {
                let rows = server.disk.load(&keys);
                self.read(at, token, LedgerAnswer::Rows(rows))
            }
            Action::Find { token, alternates, limit } => {
                let rows = server.disk.find(&alternates, limit);
                self.read(at, token, LedgerAnswer::Rows(rows))
            }
            Action::Lease { token, now, limit, until } => {
                let answer = server.disk.lease(now, limit, until);
                self.read(at, token, answer)
            }
            Action::ReadHead { token, object, .. } => {
                let head = server.disk.object(&object.key).map(|_| b"Subject: test\r\n\r\n".to_vec());
                let answer = head.map_or_else(|| LedgerAnswer::Failed("no such object".into()), LedgerAnswer::Head);
                self.read(at, token, answer)
            }
            Action::Commit { token, batch, created } => self.begin_commit(at, token, batch, created),
            Action::Start { job, work } => self.start(at, job, work),
            Action::Proceed { job, how } => smtp::proceed(self, at, job, how),
            // Nobody reads the log.
            Action::Tell(_) => Ok(()),
            Action::Wake(time) => {
                self.at(time, Event::Input(at, Input::Tick));
                Ok(())
            }
        }
    }

    fn read(&mut self, at: At, token: Token, mut answer: LedgerAnswer) -> Result<(), Violation> {
        if self.is_in_mood(at.server, Mood::DiskFull) && self.chance.permille(300) {
            answer = LedgerAnswer::Failed("I/O error".into());
        }
        if self.is_mutated(Mutation::FirstSentForgotten) {
            forget_first_sent(&mut answer);
        }
        let delay = self.chance.millis(0, 3);
        self.after(delay, Event::Input(at, Input::Ledger { token, answer }));
        Ok(())
    }

    fn begin_commit(
        &mut self,
        at: At,
        token: Token,
        batch: Batch,
        created: Vec<(ObjectRef, Vec<u8>)>,
    ) -> Result<(), Violation> {
        if self.is_mutated(Mutation::CommittedTooSoon) {
            self.after(Duration::ZERO, Event::Input(at, Input::Ledger { token, answer: LedgerAnswer::Committed }));
        }
        // One writer: commits happen in the order in which they were asked for.
        let delay = self.chance.millis(1, 12);
        let done = self.servers[at.server].disk_free.max(self.now).after(delay);
        self.servers[at.server].disk_free = done;
        self.at(done, Event::Commit(at, token, batch, created));
        Ok(())
    }

    pub(crate) fn commit(
        &mut self,
        at: At,
        token: Token,
        batch: Batch,
        created: Vec<(ObjectRef, Vec<u8>)>,
    ) -> Result<(), Violation> {
        // A commit that was under way when power failed is durable or not: here it is not.
        if !self.is_alive(at) {
            return Ok(());
        }
        let full = self.is_in_mood(at.server, Mood::DiskFull) && self.chance.permille(700);
        let keys: Vec<Key> = batch.put.iter().map(|row| row.key.clone()).collect();
        let answer = if full {
            LedgerAnswer::Failed("no space left on device".into())
        } else {
            match self.servers[at.server].disk.commit(batch, created, self.options.mutation) {
                Ok(()) => {
                    self.check_objects(at.server, &keys)?;
                    self.judge_rows(at.server, &keys)?;
                    LedgerAnswer::Committed
                }
                Err(Refused) => LedgerAnswer::Conflict,
            }
        };
        // Sometimes the word that it is durable comes late, so that a crash can come between.
        let late = self.chance.permille(30);
        let delay = if late { self.chance.millis(100, 5_000) } else { self.chance.millis(0, 3) };
        self.after(delay, Event::Input(at, Input::Ledger { token, answer }));
        Ok(())
    }

    /// A durable row must never name an object that is not there.
    pub(crate) fn check_objects(&self, server: ServerId, keys: &[Key]) -> Result<(), Violation> {
        let disk = &self.servers[server].disk;
        for row in keys.iter().filter_map(|key| disk.row(key)) {
            if let Some(object) = row.object().filter(|object| disk.object(&object.key).is_none()) {
                return Err(Violation(format!("{} names an object that is gone: {:?}", row.key, object.key)));
            }
        }
        Ok(())
    }

    fn judge_rows(&mut self, server: ServerId, keys: &[Key]) -> Result<(), Violation> {
        let disk = &self.servers[server].disk;
        keys.iter().filter_map(|key| disk.row(key)).try_for_each(judge::waited)?;
        let touched: BTreeSet<usize> = self.judge.committed(server, keys.iter().filter_map(|key| disk.row(key)));
        if self.options.verbose {
            for row in keys.iter().filter_map(|key| disk.row(key)) {
                self.tell(|| format!("{} commits {}", SERVERS[server].0, brief(row)));
            }
        }
        self.note_handed(keys)?;
        self.note_taken(keys)?;
        self.check_settled()?;
        if touched.is_empty() {
            return Ok(());
        }
        let rows: Vec<Vec<&Row>> = self.servers.iter().map(|server| server.disk.rows().collect()).collect();
        touched.into_iter().try_for_each(|number| self.judge.custody(number, &rows))
    }

    /// By value, custody has moved the moment that the next hop's rows are durable.
    fn note_handed(&mut self, keys: &[Key]) -> Result<(), Violation> {
        for key in keys {
            let Key::Leg(queue_id, _) = key else { continue };
            let Some(Arriving { from, key, recipients, xuid }) = self.arriving.remove(queue_id) else { continue };
            for to in recipients {
                self.judge.handed(from, &key, &to, &xuid)?;
            }
        }
        Ok(())
    }

    /// What a site sends is its custodian's the moment that this is durable, and that once.
    fn note_taken(&mut self, keys: &[Key]) -> Result<(), Violation> {
        for key in keys {
            let Some(Listed { site, id, recipients, xuid }) = self.letters.remove(key) else { continue };
            self.judge.taken(site, &id, &recipients, &xuid)?;
        }
        Ok(())
    }

    /// Whoever has taken custody without an answer may stop saying so once its origin knows.
    fn check_settled(&mut self) -> Result<(), Violation> {
        for Settled { id, host, index, .. } in self.judge.settled(self.now) {
            let Some(origin) = http::repository(self, &host) else { continue };
            let is_unknown = http::with_recipient(self, origin, &id, index, |state, _| {
                matches!(state, RecipientState::Queued | RecipientState::Offered(_))
            });
            if is_unknown {
                return Err(Violation(format!("{id} was acted on without an answer, and its origin never heard")));
            }
        }
        Ok(())
    }

    fn reply(&mut self, at: At, call: CallId, reply: Reply) -> Result<(), Violation> {
        let Some(caller) = self.servers[at.server].calls.remove(&call) else { return Ok(()) };
        match caller {
            Caller::Submitter { case } => {
                if matches!(reply, Reply::Accepted) {
                    self.check_accepted(at.server, case)?;
                    self.tell(|| format!("{} accepted m{case}", SERVERS[at.server].0));
                    self.judge.acknowledge(case);
                    self.summary.messages += 1;
                } else {
                    self.after(Duration::from_secs(300), Event::Submit(case));
                }
                Ok(())
            }
            Caller::Operator { case, recalls } => {
                self.note_recalled(case, recalls, &reply);
                Ok(())
            }
            Caller::Value { from, job, outcomes, open } => {
                smtp::value_answered(self, at.server, from, job, outcomes, &open, &reply);
                Ok(())
            }
            Caller::Pending => match reply {
                Reply::Offer(OfferAnswer::Pending(id) | OfferAnswer::StillPending(id)) => {
                    smtp::check_durable(self, at.server, &id)
                }
                _ => Ok(()),
            },
            Caller::Hurry => Ok(()),
            Caller::Bundle => {
                bundle::heard_of(self, &reply);
                Ok(())
            }
            Caller::Carried { object } => bundle::carried(self, at.server, &object, &reply),
            Caller::CarriedClaims { claims, receipts } => bundle::claimed(self, at.server, (&claims, receipts), &reply),
            Caller::CarriedReceipts { receipts } => bundle::recorded(self, at.server, &receipts, &reply),
            Caller::Letter { asker: Some(asker), letter } => upload::taken(self, at.server, asker, &letter, reply),
            Caller::Letter { asker: None, letter } => stick::taken(self, at.server, &letter, &reply),
            Caller::Offer { from, job, outcomes, open } => {
                smtp::offer_answered(self, at.server, from, job, outcomes, &open, &reply)
            }
            Caller::Fetch { from, job } => http::located(self, at.server, from, job, reply),
            Caller::Claims { from, job, post } => http::claimed(self, at.server, from, job, &post, reply),
            Caller::Delegation { from, job, hop } => delegation::answered(self, at.server, from, job, &hop, &reply),
            Caller::Thief => http::thief_answered(&reply),
            Caller::Receipts { from, job, post } => http::recorded(self, at.server, from, job, &post, reply),
        }
    }

    /// A reply before its commit is a lie that a crash brings to light.
    fn check_accepted(&self, server: ServerId, case: usize) -> Result<(), Violation> {
        let key = Key::Leg(self.queue_ids[case].clone(), 0);
        match self.servers[server].disk.row(&key) {
            Some(_) => Ok(()),
            None => Err(Violation(format!("m{case} was acknowledged before it was durable"))),
        }
    }

    fn note_recalled(&mut self, case: usize, recalls: bool, reply: &Reply) {
        let Reply::Commanded(commanded) = reply else { return };
        for (_, address, word) in &commanded.recipients {
            self.tell(|| format!("operator on m{case}: {address} {word}"));
            if !recalls {
                continue;
            }
            if word.contains("withdrawn") {
                self.judge.withdrawn(case, address);
                self.summary.withdrawn += 1;
            } else {
                self.summary.withdrawn_late += 1;
            }
        }
    }
}

fn forget_first_sent(answer: &mut LedgerAnswer) {
    let (LedgerAnswer::Rows(rows) | LedgerAnswer::Leased { rows, .. }) = answer else { return };
    for row in rows {
        if let RowBody::Inbound(inbound) = &mut row.body
            && matches!(inbound.phase, Phase::Claiming { .. })
        {
            inbound.phase = Phase::Held;
        }
    }
}

/// A row in one line.
pub(crate) fn brief(row: &Row) -> String {
    let due = row.due.map(|due| due.since(START).as_secs());
    match &row.body {
        RowBody::Leg(leg) => {
            let states: Vec<String> =
                leg.recipients.iter().map(|r| format!("{}={:?}", r.recipient.address, r.state)).collect();
            format!("{} v{} due {due:?} by_value={} {}", row.key, row.version, leg.by_value, states.join(" "))
        }
        RowBody::Inbound(inbound) => {
            let states: Vec<String> =
                inbound.recipients.iter().map(|r| format!("{}={:?}", r.recipient.address, r.state)).collect();
            format!("{} v{} due {due:?} {:?} {}", row.key, row.version, inbound.phase, states.join(" "))
        }
    }
}
