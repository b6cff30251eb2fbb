//! The log's lines about what became of messages: one for each group of recipients with one fate, final or for now.
//!
//! Domains stand in them, local parts and grants do not (TBR §9.2): `restante trace` has the addresses. What peers say is
//! made printable and short.

use mail::Address;
use mail::ledger::{Key, Route};
use queue::told::Told;
use tracing::info;

/// Most characters of a peer's words.
const MAX_TEXT: usize = 300;

/// Writes the line.
pub(crate) fn write(told: &Told) {
    let (relay, delay) = (relay(told), format!("{:.1}", told.delay.as_secs_f64()));
    let by = if told.by_reference { "reference" } else { "value" };
    info!(
        id = %id(&told.key),
        from = sender(told.mail_from.as_ref()),
        to = told.first.host(),
        recipients = told.recipients,
        relay,
        by,
        status = told.fate,
        code = told.status.map(tracing::field::display),
        delay,
        text = plain(&told.text),
        "outcome"
    );
}

/// A reverse-path as the log has it: its domain.
pub(crate) fn sender(mail_from: Option<&Address>) -> &str {
    mail_from.map_or("<>", Address::host)
}

/// As `restante queue list` prints it.
fn id(key: &Key) -> String {
    match key {
        Key::Leg(id, number) => format!("{id}/{number}"),
        Key::Inbound(id, _) => id.to_string(),
    }
}

/// Who was to take it: the peer's own name, where it is known.
fn relay(told: &Told) -> String {
    match (&told.route, &told.peer) {
        // A path to a mailbox has its owner's name in it.
        (Route::Maildir(_), _) => "maildir".to_owned(),
        (Route::Mx(_) | Route::Relay(_) | Route::Site(_) | Route::OnDemand(_), Some(peer)) => plain(peer),
        (route, _) => route.to_string(),
    }
}

/// One line of a peer's words, without local parts of addresses and without anything that moves a terminal's cursor.
fn plain(text: &str) -> String {
    let text = reference::body::Text::new(text);
    let text: String = text.as_str().chars().take(MAX_TEXT).collect();
    let Some((before, last)) = text.rsplit_once('@') else { return text };
    let hidden: String = before.split('@').map(|part| without_local_part(part) + "@").collect();
    hidden + last
}

/// What stands before an @, without the word that ends there.
fn without_local_part(before: &str) -> String {
    // A quoted one may hold anything but its quotes, more or less (RFC 5321 §4.1.2).
    if let Some(open) = before.strip_suffix('"').and_then(|quoted| quoted.rfind('"')) {
        return format!("{}…", &before[..open]);
    }
    let is_border = |c: char| c.is_whitespace() || "<>()[]{}\"':;,".contains(c);
    let kept = before.rfind(is_border).map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    format!("{}…", &before[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_peers_are_printable_short_and_name_nobody() {
        assert_eq!(plain("550 5.1.1 <bob@b.example>: User unknown"), "550 5.1.1 <…@b.example>: User unknown");
        assert_eq!(plain("bob@b.example, x\u{f6}y@c.example"), "…@b.example, …@c.example");
        assert_eq!(plain("\"a b\"@c.example a@b@c"), "…@c.example …@…@c");
        assert_eq!(plain("one\r\ntwo\u{1b}[2J\u{202e}three"), "one  two [2J three");
        assert_eq!(plain(&"x".repeat(1000)).len(), MAX_TEXT);
        assert_eq!((plain(""), plain("250 ok")), (String::new(), "250 ok".to_owned()));
    }
}
