//! Times, numbers and sizes: each within the bounds in which the protocol and the server work.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::read::{Cursor, Size};
use crate::config::values::{format_duration, format_size};
use crate::config::{Limits, Queue, Store, StoreKind, Transfer, TransferPolicy};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const POLICIES: [(&str, TransferPolicy); 3] =
    [("prefer", TransferPolicy::Prefer), ("require", TransferPolicy::Require), ("never", TransferPolicy::Never)];

/// A number that is not too small.
pub(super) fn at_least(table: &Cursor<'_>, name: &'static str, least: usize) -> Option<usize> {
    let number = table.get(name)?;
    if number < least {
        table.mistake(name, format!("`{number}` is too small"), &format!("at least {least}"));
    }
    Some(number)
}

fn number(table: &Cursor<'_>, name: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
    let number = table.get(name)?;
    if !range.contains(&number) {
        let help = format!("from {} to {}", range.start(), range.end());
        table.mistake(name, format!("`{number}` is out of range"), &help);
    }
    Some(number)
}

fn share(table: &Cursor<'_>, name: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
    let number = table.get(name)?;
    if !range.contains(&number) {
        let help = format!("from {} to {}", range.start(), range.end());
        table.mistake(name, format!("`{number}` is out of range"), &help);
    }
    Some(number)
}

fn time(table: &Cursor<'_>, name: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
    let duration = table.get(name)?;
    if !range.contains(&duration) {
        let help = format!("from {} to {}", format_duration(*range.start()), format_duration(*range.end()));
        table.mistake(name, format!("`{}` is out of range", format_duration(duration)), &help);
    }
    Some(duration)
}

/// `[transfer]`
pub(super) fn transfer(table: Cursor<'_>) -> Option<Transfer> {
    let policy = table.choice("policy", &POLICIES);
    let by_value_below: Option<Size> = table.get("by_value_below");
    let lifetime = time(&table, "lifetime", MINUTE..=30 * DAY);
    let claim_patience = time(&table, "claim_patience", SECOND..=DAY);
    let receipt_patience = time(&table, "receipt_patience", SECOND..=7 * DAY);
    let expiry_grace = time(&table, "expiry_grace", Duration::ZERO..=DAY);
    let fall_back_after_refusals = time(&table, "fall_back_after_refusals", Duration::ZERO..=5 * DAY);
    let fall_back_without_claim = time(&table, "fall_back_without_claim", SECOND..=5 * DAY);
    let verification_budget = time(&table, "verification_budget", SECOND..=MINUTE);
    let max_retrievals = at_least(&table, "max_retrievals", 1);
    let max_retrievals_per_domain = at_least(&table, "max_retrievals_per_domain", 1);
    let pause_retrieval = table.get("pause_retrieval");
    let mut peers = std::collections::BTreeMap::new();
    for peer in table.children("peer") {
        let (domain, policy) = (peer.get::<mail::Domain>("domain"), peer.choice("policy", &POLICIES));
        if let (Some(domain), Some(policy)) = (domain, policy)
            && peers.insert(domain.clone(), policy).is_some()
        {
            peer.mistake("domain", format!("`{domain}` has two policies"), "leave one of them out");
        }
        peer.finish();
    }
    table.finish();
    Some(Transfer {
        policy: policy?,
        peers,
        by_value_below: by_value_below?.0,
        lifetime: lifetime?,
        claim_patience: claim_patience?,
        receipt_patience: receipt_patience?,
        expiry_grace: expiry_grace?,
        fall_back_after_refusals: fall_back_after_refusals?,
        fall_back_without_claim: fall_back_without_claim?,
        verification_budget: verification_budget?,
        max_retrievals: max_retrievals?,
        max_retrievals_per_domain: max_retrievals_per_domain?,
        pause_retrieval: pause_retrieval?,
    })
}

/// `[queue]`
pub(super) fn queue(table: Cursor<'_>) -> Option<Queue> {
    let retry_first = time(&table, "retry_first", SECOND..=DAY);
    let retry_longest = time(&table, "retry_longest", SECOND..=DAY);
    let retry_jitter = share(&table, "retry_jitter", 0.0..=0.9);
    let expire_after = time(&table, "expire_after", SECOND..=30 * DAY);
    let report_delay_after = time(&table, "report_delay_after", Duration::ZERO..=30 * DAY);
    let max_per_destination = at_least(&table, "max_per_destination", 1);
    let keep_finished = time(&table, "keep_finished", Duration::ZERO..=365 * DAY);
    if let (Some(first), Some(longest)) = (retry_first, retry_longest)
        && first > longest
    {
        table.mistake("retry_first", "the first wait is longer than the longest", "make it at most `retry_longest`");
    }
    table.finish();
    Some(Queue {
        retry_first: retry_first?,
        retry_longest: retry_longest?,
        retry_jitter: retry_jitter?,
        expire_after: expire_after?,
        report_delay_after: report_delay_after.map(|after| (!after.is_zero()).then_some(after))?,
        max_per_destination: max_per_destination?,
        keep_finished: keep_finished?,
    })
}

/// `[limits]`
pub(super) fn limits(table: Cursor<'_>) -> Option<Limits> {
    const SMALLEST: u64 = 64 * 1024;
    let message_size: Option<Size> = table.get("message_size");
    if let Some(Size(size)) = message_size
        && size < SMALLEST
    {
        let message = format!("{} is less than every server must take", format_size(size));
        table.mistake("message_size", message, "at least \"64 KiB\" (RFC 5321 §4.5.3.1.7)");
    }
    // RFC 5321 §4.5.3.1.8 guarantees 100 recipients; an index of TBR has 16 bits.
    let recipients = number(&table, "recipients", 100..=10_000);
    let commands = at_least(&table, "commands", 100);
    let errors = at_least(&table, "errors", 1);
    let auth_failures = at_least(&table, "auth_failures", 1);
    let session_time = time(&table, "session_time", MINUTE..=DAY);
    let command_timeout = time(&table, "command_timeout", SECOND..=HOUR);
    let hops = number(&table, "hops", 10..=1000);
    table.finish();
    Some(Limits {
        message_size: message_size?.0,
        recipients: recipients?,
        commands: commands?,
        errors: errors?,
        auth_failures: auth_failures?,
        session_time: session_time?,
        command_timeout: command_timeout?,
        hops: hops?,
    })
}

/// `[store]`
pub(super) fn store(table: Cursor<'_>) -> Option<Store> {
    const LARGEST_INLINE: u64 = 1024 * 1024;
    let kind = table.choice("kind", &[("embedded", StoreKind::Embedded), ("memory", StoreKind::Memory)]);
    let inline_limit: Option<Size> = table.get("inline_limit");
    if inline_limit.is_some_and(|Size(size)| size > LARGEST_INLINE) {
        table.mistake("inline_limit", "the ledger is not made for large messages", "at most \"1 MiB\"");
    }
    table.finish();
    Some(Store { kind: kind?, inline_limit: inline_limit?.0 })
}
