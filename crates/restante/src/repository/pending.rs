//! What waits for a site, page by page, in the words of SMTP (TBR §7.4); for bundles too (§7.5).
//!
//! Read from what is committed. Whether the site itself asks was verified before; the site judges every offer anew.

use mail::ledger::{Leg, by_pending};
use mail::{Holder, Timestamp};
use queue::pending::{Place, Taken, Waiting, waiting};
use reference::pending::{Cursor, MAX_TRACE, PAGE_OF_A_LINK, Page, PendingList, PendingOffer};
use smtp::command::{Command, Mail, Rcpt};
use store::{Store, StoreError};

/// Rows read at a time.
const ROWS: usize = 256;

/// The page that begins there: first all that is small or urgent, then the rest.
pub(super) async fn page(
    store: &Store,
    site: &Holder,
    after: Option<Cursor>,
    now: Timestamp,
) -> Result<PendingList, StoreError> {
    let mut place = after.as_ref().map_or_else(|| Place::start(now), |after| Place::parse(after.as_str(), now));
    let mut page = Page::up_to(PAGE_OF_A_LINK);
    loop {
        let rows = store.find_after(&by_pending(site), place.after(), ROWS).await?;
        match place.take(&rows, rows.len() < ROWS, |leg| page.add(offers(leg, now))) {
            Taken::Full => return Ok(page.finish(Cursor::try_from(place.cursor()).ok())),
            Taken::More => {}
            Taken::All => return Ok(page.finish(None)),
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
