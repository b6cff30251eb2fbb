//! What waits for a site, page by page, in the words of SMTP (TBR §7.4); for bundles too (§7.5).
//!
//! Read from what is committed. Whether the site itself asks was verified before; the site judges every offer anew.

use mail::ledger::{Leg, RowBody, by_pending};
use mail::{Domain, Timestamp};
use queue::pending::{Waiting, waiting};
use reference::pending::{Cursor, MAX_TRACE, Page, PendingList, PendingOffer};
use smtp::command::{Command, Mail, Rcpt};
use store::{Store, StoreError};

/// Rows read at a time.
const ROWS: usize = 256;

/// The page that begins there.
pub(super) async fn page(
    store: &Store,
    site: &Domain,
    after: Option<Cursor>,
    now: Timestamp,
) -> Result<PendingList, StoreError> {
    let key = by_pending(site);
    let mut after = after.map(String::from).unwrap_or_default();
    let mut page = Page::default();
    loop {
        let rows = store.find_after(&key, &after, ROWS).await?;
        let is_last = rows.len() < ROWS;
        for row in rows {
            if let RowBody::Leg(leg) = &row.body
                && !page.add(offers(leg, now))
            {
                return Ok(page.finish(Cursor::try_from(after).ok()));
            }
            after = row.key.to_string();
        }
        if is_last {
            return Ok(page.finish(None));
        }
    }
}

fn offers(leg: &Leg, now: Timestamp) -> Vec<PendingOffer> {
    // What came by reference says all that it has to say in its block.
    let trace = if leg.inbound.is_none() { leg.prefix.as_str() } else { "" };
    waiting(leg, now).into_iter().map(|waiting| offer(leg, &waiting, trace)).collect()
}

/// The same for a bundle: whoever reads it may not be able to look anything up, so what was found here is said in any case.
pub(crate) fn carried_offers(leg: &Leg, now: Timestamp) -> Vec<PendingOffer> {
    waiting(leg, now).into_iter().map(|waiting| offer(leg, &waiting, above_block(&leg.prefix))).collect()
}

/// Trace fields without the block that ends them where the message came by reference.
fn above_block(prefix: &str) -> &str {
    let is_block = |line: &str| line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("tbr-"));
    let lines = prefix.split_inclusive("\r\n").take_while(|line| !is_block(line));
    &prefix[..lines.map(str::len).sum()]
}

fn offer(leg: &Leg, waiting: &Waiting<'_>, trace: &str) -> PendingOffer {
    let mut params = leg.params.clone();
    if leg.facts.eight_bit {
        params.body = mail::Body::EightBit;
    }
    let mail = Command::Mail(Mail { from: leg.mail_from.clone(), params });
    let recipients = waiting.recipients.iter().map(|recipient| Command::Rcpt(Rcpt((*recipient).clone())));
    PendingOffer {
        mail: arguments(&mail),
        rcpt: recipients.map(|rcpt| arguments(&rcpt)).collect(),
        tbr: format!("{} {}", hops(&waiting.issued.block), waiting.issued.uri),
        block: waiting.issued.block.clone(),
        trace: if trace.len() <= MAX_TRACE { trace.to_owned() } else { String::new() },
    }
}

/// A command's arguments as they stand on the wire.
pub(crate) fn arguments(command: &Command) -> String {
    let mut line = Vec::new();
    command.write_to(&mut line);
    let line = String::from_utf8_lossy(&line);
    line.trim_end().split_once(' ').map_or_else(String::new, |(_, arguments)| arguments.to_owned())
}

/// The forwarding count of a block.
fn hops(block: &str) -> usize {
    block.lines().filter(|line| line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case("tbr-hop:"))).count()
}
