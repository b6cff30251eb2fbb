//! `/accounts`: what accounts have sent lately, and the recall of what a stolen one has.
//!
//! A recall goes through the queue page by page, so that neither side holds more than one page of a million messages; each
//! row is withdrawn by the queue's own command, which contends with claims for it.

use std::num::NonZeroU32;

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use mail::ledger::{Action, Key, Leg, LegRecipient, RecipientState, Row, RowBody, Source};
use policy::allowance::{Allowance, Figures};
use queue::port::{Command, Request, Selection};

use super::api::{self, AccountUse, EntryRecipient, Holds, RecallRequest, Recalled, RecalledFrom};
use super::server::{Office, PAGE, Refused};

/// Withdrawals under way at a time.
const AT_ONCE: usize = 32;

/// All accounts, in the order of their file.
pub(super) async fn list(State(office): State<Office>) -> Json<Vec<AccountUse>> {
    let (router, config, sent) = (office.router.get(), office.config.get(), office.sending.figures());
    let of_account = |account: &crate::accounts::Account| AccountUse {
        name: account.name().to_owned(),
        sent: sent.get(account.name()).copied().unwrap_or_default(),
        limits: limits(&account.limits().allowance(&config.submission)),
    };
    Json(router.accounts().iter().map(of_account).collect())
}

fn limits(allowance: &Allowance) -> Figures {
    let number = |limit: Option<NonZeroU32>| limit.map_or(0, |limit| u64::from(limit.get()));
    Figures {
        messages_hour: number(allowance.messages_per_hour),
        messages_day: number(allowance.messages_per_day),
        recipients_hour: number(allowance.recipients_per_hour),
        recipients_day: number(allowance.recipients_per_day),
    }
}

/// Withdraws what can be withdrawn on one page of the queue.
pub(super) async fn recall(
    State(office): State<Office>,
    Json(request): Json<RecallRequest>,
) -> Result<Json<Recalled>, Refused> {
    let page = office.store.list("leg/", request.after.as_ref(), PAGE).await;
    let page = page.map_err(|error| Refused::failed(&error))?;
    let next = page.last().map(|row| row.key.clone());
    let before: Vec<Row> = page.into_iter().filter(|row| is_meant(row, &request)).collect();
    let open = before.iter().filter(|row| legs(row).is_some_and(|leg| leg.recipients.iter().any(is_here)));
    let commands: Vec<Command> = open.filter_map(|row| withdrawal(&row.key)).collect();
    // What the queue could not do now shows in the rows below.
    let withdrawing = stream::iter(commands).map(|command| office.custody.ask(Request::Command(command)));
    withdrawing.buffer_unordered(AT_ONCE).for_each(|_| std::future::ready(())).await;
    let keys = before.iter().map(|row| row.key.clone()).collect();
    let after = office.store.load(keys).await.map_err(|error| Refused::failed(&error))?;
    let mut recalled = Recalled { next, ..Recalled::default() };
    for row in &before {
        let now = after.iter().find(|now| now.key == row.key);
        tell(row, now.unwrap_or(row), &mut recalled);
    }
    Ok(Json(recalled))
}

/// Of this account, and accepted since then?
fn is_meant(row: &Row, request: &RecallRequest) -> bool {
    let Some(leg) = legs(row) else { return false };
    // The account as its client spelled it.
    let is_of =
        matches!(&leg.source, Source::Submission(name) if name.to_lowercase() == request.account.to_lowercase());
    is_of && leg.accepted >= request.since.unwrap_or_default()
}

fn legs(row: &Row) -> Option<&Leg> {
    match &row.body {
        RowBody::Leg(leg) => Some(leg),
        RowBody::Inbound(_) => None,
    }
}

fn is_here(recipient: &LegRecipient) -> bool {
    matches!(recipient.state, RecipientState::Queued | RecipientState::Offered(_))
}

fn withdrawal(key: &Key) -> Option<Command> {
    match key {
        Key::Leg(id, number) => Some(Command::Withdraw(Selection::Leg(id.clone(), *number))),
        Key::Inbound(..) => None,
    }
}

fn tell(before: &Row, now: &Row, recalled: &mut Recalled) {
    let (Some(was), Some(is)) = (legs(before), legs(now)) else { return };
    for (was, is) in was.recipients.iter().zip(&is.recipients) {
        let Some(holds) = holds(was, is) else {
            recalled.settled += 1;
            continue;
        };
        let EntryRecipient { address, state, detail, .. } = EntryRecipient::of_leg(is);
        let text = match holds {
            Holds::Withdrawn => "withdrawn".to_owned(),
            Holds::UnderWay => "is being delivered right now".to_owned(),
            Holds::TooLate => format!("too late: {state} {detail}"),
        };
        recalled.recipients.push(RecalledFrom { key: now.key.clone(), id: api::name(&now.key), address, holds, text });
    }
}

/// Nothing: the outcome was known before.
fn holds(was: &LegRecipient, is: &LegRecipient) -> Option<Holds> {
    match (&was.state, &is.state) {
        (RecipientState::Done { .. }, _) => None,
        (_, RecipientState::Done { outcome, .. }) if is_here(was) && outcome.action == Action::Failed => {
            Some(Holds::Withdrawn)
        }
        (_, RecipientState::Queued | RecipientState::Offered(_)) => Some(Holds::UnderWay),
        (_, RecipientState::Claimed(_) | RecipientState::Done { .. }) => Some(Holds::TooLate),
    }
}
