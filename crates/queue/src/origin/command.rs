//! Operators' commands. They contend for the same record as claims, and say honestly what they came too late for.

use mail::ledger::{Action, Key, Leg, LegRecipient, Outcome, RecipientState, Row, RowBody, note};
use mail::{Address, EnhancedStatus, QueueId, Timestamp};

use crate::custody::{self, turn};
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Sheet, Wants};
use crate::origin::end::conclude;
use crate::origin::leg;
use crate::origin::news::{self, Kind, News};
use crate::port::{CallId, Command, Commanded, LEGS_AT_ONCE, Reply, Selection};
use crate::receiver::inbound;

const WITHDRAWN: &str = "withdrawn before it was delivered";
const GIVEN_UP: &str = "given up by the operator";
const NOT_CARRIED: &str = "is held, offered or being delivered: it cannot leave in a bundle now";
const IN_FLIGHT: &str = "is being delivered right now: too late, or try again in a moment";
const IN_DOUBT: &str =
    "was perhaps delivered just before the server's last start, which is being looked for: try again in a moment";

/// A command.
pub(crate) struct Order {
    pub(crate) call: CallId,
    pub(crate) command: Command,
}

impl Change for Order {
    fn wants(&self) -> Wants {
        let (id, numbers) = match selection(&self.command) {
            Selection::Leg(id, number) => (id, *number..number.saturating_add(1)),
            Selection::Message(id) => (id, 0..LEGS_AT_ONCE),
            Selection::From(id, number) => (id, *number..number.saturating_add(LEGS_AT_ONCE)),
            Selection::Reference(id) => (id, 0..0),
        };
        let keys = numbers.map(|number| Key::Leg(id.clone(), number)).collect();
        Wants { keys, alternates: vec![by_queue_id(id)] }
    }

    fn apply(&mut self, rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let mut said = Commanded::default();
        let is_leg = |row: &Row| matches!(row.body, RowBody::Leg(_));
        let (legs, others): (Vec<Row>, Vec<Row>) = rows.into_all().into_iter().partition(is_leg);
        let mut others = Rows::new(others);
        for row in legs {
            let RowBody::Leg(mut leg) = row.body else { continue };
            let sheet = Sheet { key: row.key, version: row.version, due: row.due };
            let late = self.too_late(&sheet.key, &leg, context);
            let reached = reached(&leg, &late);
            if !reached.is_empty() {
                self.carry_out(&sheet.key, &mut leg, &reached, &mut others, &mut plan, context);
            }
            said.carried_out |= !reached.is_empty();
            said.reached += reached.len() as u64;
            said.recipients.extend(describe_all(&sheet.key, &leg, &late));
            plan.effects.extend((late.why == IN_DOUBT).then(|| Effect::Look(sheet.key.clone())));
            if !reached.is_empty() {
                leg::put(&mut plan, sheet, leg, context.now, context.config);
            }
        }
        if matches!(self.command, Command::Retry(_)) {
            said.carried_out |= retry_inbound(others, &mut plan, context);
        }
        plan.effects.push(Effect::Reply(self.call, Reply::Commanded(said)));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

impl Order {
    /// Recipients for whom the command comes too late, perhaps, because it would end custody: a delivery is on the wire this
    /// very moment, or was when power failed.
    fn too_late(&self, key: &Key, leg: &Leg, context: &Context<'_>) -> Late {
        let in_flight = context.desk.in_flight(key);
        let here = || leg::positions(leg, |recipient| leg::is_here(&recipient.state));
        let is_elsewhere = leg.held || !leg.issued.is_empty() || !in_flight.is_empty();
        match () {
            () if matches!(self.command, Command::Carry(_)) && is_elsewhere => {
                Late { positions: here(), why: NOT_CARRIED }
            }
            () if !self.ends() => Late { positions: Vec::new(), why: IN_FLIGHT },
            () if in_flight.is_empty() && leg::is_in_doubt(leg, context.started) => {
                Late { positions: here(), why: IN_DOUBT }
            }
            () => Late { positions: in_flight.to_vec(), why: IN_FLIGHT },
        }
    }

    fn ends(&self) -> bool {
        matches!(self.command, Command::Fail(_) | Command::Withdraw(_))
    }

    fn carry_out(
        &self,
        key: &Key,
        leg: &mut Leg,
        reached: &[u16],
        others: &mut Rows,
        plan: &mut Plan,
        context: &mut Context<'_>,
    ) {
        let now = context.now;
        let news = match &self.command {
            Command::Hold(_) => {
                leg.held = true;
                Vec::new()
            }
            Command::Release(_) => {
                release(leg, now, context);
                Vec::new()
            }
            Command::AskedFor(_) => {
                retry(leg, reached, now);
                Vec::new()
            }
            Command::Retry(_) => {
                // Whoever says so does not wait for a bundle any more.
                leg.carried = None;
                retry(leg, reached, now);
                Vec::new()
            }
            Command::Carry(_) => {
                leg.carried = Some(now);
                leg.expires = leg.expires.max(leg.accepted.after(context.config.timers.site_lifetime));
                Vec::new()
            }
            Command::Fail(_) => give_up(leg, reached, Kind::Final, GIVEN_UP, now),
            Command::Withdraw(_) => give_up(leg, reached, Kind::Withdrawn, WITHDRAWN, now),
        };
        note(&mut leg.steps, now, word(&self.command), by_whom(&self.command), None);
        news::tell(plan, key, leg, &news, others, context);
    }
}

/// For whom a command comes too late, and why.
struct Late {
    positions: Vec<u16>,
    why: &'static str,
}

/// Recipients that a command does something for: custody is here, and it is not too late.
fn reached(leg: &Leg, late: &Late) -> Vec<u16> {
    let here = leg::positions(leg, |recipient| leg::is_here(&recipient.state));
    here.into_iter().filter(|position| !late.positions.contains(position)).collect()
}

/// What each recipient is now.
fn describe_all(key: &Key, leg: &Leg, late: &Late) -> Vec<(Key, Address, String)> {
    let describe_one = |(recipient, position): (&LegRecipient, u16)| {
        let is_late = leg::is_here(&recipient.state) && late.positions.contains(&position);
        let word = if is_late { late.why.to_owned() } else { describe(leg, &recipient.state) };
        (key.clone(), recipient.recipient.address.clone(), word)
    };
    leg.recipients.iter().zip(0u16..).map(describe_one).collect()
}

/// Ends custody of these, which is here.
fn give_up(leg: &mut Leg, reached: &[u16], kind: Kind, why: &str, now: Timestamp) -> Vec<News> {
    let outcome = leg::outcome(Action::Failed, EnhancedStatus::permanent(0, 0), why, now);
    let outcome = Outcome { withdrawn: kind == Kind::Withdrawn, ..outcome };
    let news = reached.iter().filter_map(|position| conclude(leg, *position, outcome.clone()));
    news.map(|news| News { kind, ..news }).collect()
}

/// An attempt now; what was offered and is not claimed yet is offered again. What has been due stays due since then.
fn retry(leg: &mut Leg, reached: &[u16], now: Timestamp) {
    leg.next_attempt = leg.next_attempt.min(now);
    for position in reached {
        if let Some(recipient) = leg.recipients.get_mut(usize::from(*position)) {
            turn(&mut recipient.state, custody::ask_again);
        }
    }
}

/// Lets a held leg go. The time it was held does not count against it.
fn release(leg: &mut Leg, now: Timestamp, context: &Context<'_>) {
    if std::mem::replace(&mut leg.held, false) {
        leg.next_attempt = leg.next_attempt.min(now);
        let lifetime = leg::lifetime(&leg.route, &context.config.timers);
        leg.expires = leg.expires.max(now.after(lifetime / 2));
    }
}

/// Says whether anything was left to do.
fn retry_inbound(others: Rows, plan: &mut Plan, context: &Context<'_>) -> bool {
    let mut any = false;
    for row in others.into_all() {
        let RowBody::Inbound(mut body) = row.body else { continue };
        if inbound::task(&body).is_none() {
            continue;
        }
        any = true;
        body.next_attempt = context.now;
        let sheet = Sheet { key: row.key, version: row.version, due: row.due };
        inbound::put(plan, sheet, body, context.now, context.config);
    }
    any
}

fn selection(command: &Command) -> &Selection {
    match command {
        Command::Hold(selection)
        | Command::Release(selection)
        | Command::Retry(selection)
        | Command::Carry(selection)
        | Command::AskedFor(selection)
        | Command::Fail(selection)
        | Command::Withdraw(selection) => selection,
    }
}

fn word(command: &Command) -> &'static str {
    match command {
        Command::Hold(_) => "held",
        Command::Release(_) => "released",
        Command::Retry(_) | Command::AskedFor(_) => "retried",
        Command::Carry(_) => "carried",
        Command::Fail(_) => "given-up",
        Command::Withdraw(_) => "withdrawn",
    }
}

fn by_whom(command: &Command) -> &'static str {
    match command {
        Command::AskedFor(_) => "its next server has asked for it",
        Command::Carry(_) => "in a bundle",
        _ => "by the operator",
    }
}

fn describe(leg: &Leg, state: &RecipientState) -> String {
    match state {
        RecipientState::Queued | RecipientState::Offered(_) if leg.held => "held".to_owned(),
        RecipientState::Queued if leg.carried.is_some() => "in a bundle, not answered yet".to_owned(),
        RecipientState::Queued => "waits for delivery".to_owned(),
        RecipientState::Offered(_) => "offered by reference, not claimed".to_owned(),
        RecipientState::Claimed(claim) => format!("claimed by the receiver at {}", claim.at),
        RecipientState::Done { outcome, .. } if outcome.withdrawn => outcome.text.clone(),
        RecipientState::Done { outcome, .. } => format!("{}: {} {}", outcome.action, outcome.status, outcome.text),
    }
}

/// Secondary key of an inbound row, as [`Row::alternates`] has it.
fn by_queue_id(id: &QueueId) -> String {
    format!("id/{id}")
}
