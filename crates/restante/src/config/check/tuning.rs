//! Times, numbers and sizes: each within the bounds in which the protocol and the server work.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use mail::{Address, Domain};
use policy::allowance::Allowance;
use policy::budget::{Budget, Budgets};
use policy::{Response, Rules};

use crate::config::read::{Cursor, Size};
use crate::config::values::{format_duration, format_size};
use crate::config::{
    Delegation, Limits, Policy, Queue, Reports, Store, StoreKind, Transfer, TransferPeer, TransferPolicy,
};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const POLICIES: [(&str, TransferPolicy); 3] =
    [("prefer", TransferPolicy::Prefer), ("require", TransferPolicy::Require), ("never", TransferPolicy::Never)];

const DELEGATION: [(&str, Delegation); 4] =
    [("off", Delegation::Off), ("accept", Delegation::Accept), ("use", Delegation::Use), ("both", Delegation::Both)];

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

/// Octets a second.
fn rate(table: &Cursor<'_>, name: &'static str) -> Option<u64> {
    let Size(rate) = table.get(name)?;
    if !(1..=1024 * 1024).contains(&rate) {
        table.mistake(name, "that is out of range", "from \"1 B\" to \"1 MiB\" a second");
    }
    Some(rate)
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
    let bogus_patience = time(&table, "bogus_patience", MINUTE..=7 * DAY);
    let max_retrievals = at_least(&table, "max_retrievals", 1);
    let max_retrievals_per_domain = at_least(&table, "max_retrievals_per_domain", 1);
    let max_retrievals_per_network = at_least(&table, "max_retrievals_per_network", 1);
    let minimum_rate = rate(&table, "minimum_rate");
    let pause_retrieval = table.get("pause_retrieval");
    let delegation = table.choice("delegation", &DELEGATION);
    let convert_8bit = table.get("convert_8bit");
    let peers = transfer_peers(&table);
    table.finish();
    Some(Transfer {
        policy: policy?,
        delegation: delegation?,
        convert_8bit: convert_8bit?,
        peers,
        by_value_below: by_value_below?.0,
        lifetime: lifetime?,
        claim_patience: claim_patience?,
        receipt_patience: receipt_patience?,
        expiry_grace: expiry_grace?,
        fall_back_after_refusals: fall_back_after_refusals?,
        fall_back_without_claim: fall_back_without_claim?,
        verification_budget: verification_budget?,
        bogus_patience: bogus_patience?,
        max_retrievals: max_retrievals?,
        max_retrievals_per_domain: max_retrievals_per_domain?,
        max_retrievals_per_network: max_retrievals_per_network?,
        minimum_rate: minimum_rate?,
        pause_retrieval: pause_retrieval?,
    })
}

/// `[[transfer.peer]]`
fn transfer_peers(table: &Cursor<'_>) -> BTreeMap<mail::Domain, TransferPeer> {
    let mut peers = BTreeMap::new();
    for peer in table.children("peer") {
        let domain = peer.get::<mail::Domain>("domain");
        let (policy, delegation) = (peer.choice("policy", &POLICIES), peer.choice("delegation", &DELEGATION));
        if let Some(domain) = domain
            && peers.insert(domain.clone(), TransferPeer { policy, delegation }).is_some()
        {
            peer.mistake("domain", format!("`{domain}` has two policies"), "leave one of them out");
        }
        peer.finish();
    }
    peers
}

/// `[queue]`
pub(super) fn queue(table: Cursor<'_>) -> Option<Queue> {
    let retry_first = time(&table, "retry_first", SECOND..=DAY);
    let retry_longest = time(&table, "retry_longest", SECOND..=DAY);
    let retry_jitter = share(&table, "retry_jitter", 0.0..=0.9);
    let expire_after = time(&table, "expire_after", SECOND..=30 * DAY);
    let expire_for_sites_after = time(&table, "expire_for_sites_after", SECOND..=30 * DAY);
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
        expire_for_sites_after: expire_for_sites_after?,
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
    let transactions: Option<u32> = table.get("transactions");
    if let Some(most) = transactions.filter(|most| !(1..=smtp::capability::MAX_LIMIT).contains(most)) {
        table.mistake("transactions", format!("`{most}` cannot be announced"), "from 1 to 999999");
    }
    let commands = at_least(&table, "commands", 100);
    let errors = at_least(&table, "errors", 1);
    let auth_failures = at_least(&table, "auth_failures", 1);
    let auth_failures_per_hour = at_least(&table, "auth_failures_per_hour", 0);
    let session_time = time(&table, "session_time", MINUTE..=DAY);
    let command_timeout = time(&table, "command_timeout", SECOND..=HOUR);
    let hops = number(&table, "hops", 10..=1000);
    let etrn_pause = time(&table, "etrn_pause", Duration::ZERO..=HOUR);
    let repository_reads = at_least(&table, "repository_reads", 1);
    let repository_rate = rate(&table, "repository_rate");
    table.finish();
    Some(Limits {
        message_size: message_size?.0,
        recipients: recipients?,
        transactions,
        commands: commands?,
        errors: errors?,
        auth_failures: auth_failures?,
        auth_failures_per_hour: auth_failures_per_hour?,
        session_time: session_time?,
        command_timeout: command_timeout?,
        hops: hops?,
        etrn_pause: etrn_pause?,
        repository_reads: repository_reads?,
        repository_rate: repository_rate?,
    })
}

/// `[submission]`
pub(super) fn submission(table: Cursor<'_>) -> Option<Allowance> {
    let messages_per_hour: Option<u32> = table.get("messages_per_hour");
    let messages_per_day: Option<u32> = table.get("messages_per_day");
    let recipients_per_hour: Option<u32> = table.get("recipients_per_hour");
    let recipients_per_day: Option<u32> = table.get("recipients_per_day");
    table.finish();
    Some(Allowance {
        messages_per_hour: NonZeroU32::new(messages_per_hour?),
        messages_per_day: NonZeroU32::new(messages_per_day?),
        recipients_per_hour: NonZeroU32::new(recipients_per_hour?),
        recipients_per_day: NonZeroU32::new(recipients_per_day?),
    })
}

/// `[budgets]`; the inner nothing: there are none.
pub(super) fn budgets(table: Cursor<'_>) -> Option<Option<Budgets>> {
    let enabled: Option<bool> = table.get("enabled");
    let outstanding = at_least(&table, "outstanding", 1);
    let domain = budget(table.child("domain"));
    let registrable = budget(table.child("registrable"));
    let network = budget(table.child("network"));
    table.finish();
    let budgets =
        Budgets { domain: domain?, registrable: registrable?, network: network?, outstanding: outstanding? as u64 };
    Some(enabled?.then_some(budgets))
}

fn budget(table: Cursor<'_>) -> Option<Budget> {
    let offers_per_minute = at_least(&table, "offers_per_minute", 1);
    let outstanding = at_least(&table, "outstanding", 1);
    let octets: Option<Size> = table.get("octets");
    let failures_per_hour = at_least(&table, "failures_per_hour", 1);
    table.finish();
    Some(Budget {
        offers_per_minute: offers_per_minute? as u64,
        outstanding: outstanding? as u64,
        octets: octets?.0,
        failures_per_hour: failures_per_hour? as u64,
    })
}

/// `[policy]`
pub(super) fn policy(table: Cursor<'_>) -> Option<Policy> {
    const RESPONSES: [(&str, Response); 2] = [("mark", Response::Mark), ("refuse", Response::Refuse)];
    const SMALLEST: u64 = 1024 * 1024;
    let enabled = table.get("enabled");
    let no_author = table.choice("no_author", &RESPONSES);
    let dmarc_reject = table.choice("dmarc_reject", &RESPONSES);
    let dmarc_quarantine = table.choice("dmarc_quarantine", &RESPONSES);
    let spf_fail = table.choice("spf_fail", &RESPONSES);
    let no_reverse_name = table.choice("no_reverse_name", &RESPONSES);
    let trusted_sealers = table.get("trusted_sealers");
    let least_reputation: Option<f64> = table.get("least_reputation");
    let kept_after = time(&table, "kept_after", SECOND..=30 * DAY);
    let stranger_delay = time(&table, "stranger_delay", Duration::ZERO..=HOUR);
    let hint = table.get("hint");
    let (block_lists, allow_lists) = (table.get("block_lists"), table.get("allow_lists"));
    let patience = time(&table, "patience", SECOND..=MINUTE);
    let header_memory: Option<Size> = table.get("header_memory");
    if header_memory.is_some_and(|Size(size)| size < SMALLEST) {
        table.mistake("header_memory", "that is too little for a few messages at once", "at least \"1 MiB\"");
    }
    table.finish();
    let rules = Rules {
        spf_fail: spf_fail?,
        no_reverse_name: no_reverse_name?,
        no_author: no_author?,
        dmarc_reject: dmarc_reject?,
        dmarc_quarantine: dmarc_quarantine?,
        trusted_sealers: trusted_sealers?,
        // A score has six digits at most.
        least_reputation: least_reputation.map(|least| least.clamp(-1e9, 1e9) as i32),
    };
    Some(Policy {
        enabled: enabled?,
        kept_after: kept_after?,
        stranger_delay: stranger_delay?,
        hint: hint?,
        rules,
        block_lists: block_lists?,
        allow_lists: allow_lists?,
        patience: patience?,
        header_memory: header_memory?.0,
    })
}

/// `[reports]`
pub(super) fn reports(table: Cursor<'_>) -> Option<Reports> {
    let (tls, dmarc, from) = (table.get("tls"), table.get("dmarc"), table.get::<Address>("from"));
    let organization: Option<String> = table.get("organization");
    if from.as_ref().is_some_and(|from| from.domain().is_none()) {
        table.mistake("from", "reports come from an address in a domain", "write it like \"postmaster@a.example\"");
    }
    if organization.as_ref().is_some_and(|text| text.chars().any(char::is_control) || text.len() > 200) {
        table.mistake("organization", "that is no name", "one line of at most 200 octets");
    }
    table.finish();
    Some(Reports { tls: tls?, dmarc: dmarc?, from, organization })
}

/// `[store]`
pub(super) fn store(table: Cursor<'_>) -> Option<Store> {
    const LARGEST_INLINE: u64 = 1024 * 1024;
    let kind = table.choice("kind", &[("embedded", StoreKind::Embedded), ("memory", StoreKind::Memory)]);
    let inline_limit: Option<Size> = table.get("inline_limit");
    if inline_limit.is_some_and(|Size(size)| size > LARGEST_INLINE) {
        table.mistake("inline_limit", "the ledger is not made for large messages", "at most \"1 MiB\"");
    }
    let compression = table.choice("compression", &[("zstd", true), ("off", false)]);
    let size = |name| table.get::<Size>(name).map(|Size(octets)| octets);
    let (quota, reserve, quota_per_account) = (size("quota"), size("reserve"), size("quota_per_account"));
    if reserve.zip(quota).is_some_and(|(reserve, quota)| reserve >= quota) {
        table.mistake("reserve", "nothing is left for new mail", "less than `quota`");
    }
    let grace = time(&table, "grace", Duration::ZERO..=30 * DAY);
    let (held_accounts, held_domains) = holds(&table);
    table.finish();
    Some(Store {
        kind: kind?,
        inline_limit: inline_limit?.0,
        compression: compression?,
        quota,
        reserve: reserve.unwrap_or(quota.unwrap_or(0) / 10),
        quota_per_account,
        grace: grace?,
        held_accounts,
        held_domains,
    })
}

/// `[[store.hold]]`
fn holds(table: &Cursor<'_>) -> (BTreeMap<String, Duration>, BTreeMap<Domain, Duration>) {
    let (mut accounts, mut domains) = (BTreeMap::new(), BTreeMap::new());
    for hold in table.children("hold") {
        let (account, domain) = (hold.get::<String>("account"), hold.get::<Domain>("domain"));
        let period = time(&hold, "period", DAY..=100 * 365 * DAY);
        match (account, domain, period) {
            (Some(_), Some(_), _) => {
                hold.mistake("domain", "a rule is for an account or for a domain", "make two rules of it")
            }
            (None, None, _) => hold.mistake("account", "the rule is for nobody", "name an account or a domain"),
            (Some(account), None, Some(period)) => drop(accounts.insert(account, period)),
            (None, Some(domain), Some(period)) => drop(domains.insert(domain, period)),
            (_, _, None) => {}
        }
        hold.finish();
    }
    (accounts, domains)
}
