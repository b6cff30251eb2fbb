//! `restante queue`: what is on its way, and what operators can do about it.

use hyper::Method;
use mail::{Address, Timestamp};

use super::args::{Global, QueueCommand};
use super::client::Client;
use super::humane::{self, date, when};
use super::output::{Exit, Outcome, Output};
use crate::admin::api::{self, Done, Entry, EntryKind, Message, QueueList};
use crate::config::format_size;

/// Carries a command out.
pub(super) fn run(command: &QueueCommand, global: &Global, output: Output) -> Outcome {
    let client = Client::new(global)?;
    if let Some((verb, selection)) = command.verb() {
        let leg = selection.leg.or(selection.name.leg).map(|number| format!("?leg={number}")).unwrap_or_default();
        let path = format!("{}/{}/{}{leg}", api::QUEUE, selection.name.id, verb.as_str());
        let done: Done = client.ask(Method::POST, &path)?;
        output.print(&done, || done_text(&done));
        return Ok(Exit::Done);
    }
    match command {
        QueueCommand::List { finished, limit } => {
            let path = format!("{}?finished={finished}&limit={limit}", api::QUEUE);
            let list: QueueList = client.ask(Method::GET, &path)?;
            output.print(&list, || list_text(&list, humane::now()));
        }
        QueueCommand::Show(message) => {
            let message: Message = client.ask(Method::GET, &format!("{}/{}", api::QUEUE, message.name.id))?;
            output.print(&message, || message_text(&message, humane::now()));
        }
        _ => {}
    }
    Ok(Exit::Done)
}

/// `<>` for the null sender.
pub(super) fn sender(sender: Option<&Address>) -> String {
    sender.map_or_else(|| "<>".to_owned(), Address::to_string)
}

/// `<queue id>/<number>`, as commands take it; a reference that came in has no number.
fn name(entry: &Entry) -> String {
    let id = entry.id.as_ref().map(mail::QueueId::to_string).unwrap_or_default();
    match &entry.key {
        mail::ledger::Key::Leg(_, number) => format!("{id}/{number}"),
        mail::ledger::Key::Inbound(..) => id,
    }
}

/// What the recipients are at, counted: `2 queued, 1 claimed`.
fn states(entry: &Entry) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for recipient in &entry.recipients {
        match counted.iter_mut().find(|(state, _)| *state == recipient.state) {
            Some((_, count)) => *count += 1,
            None => counted.push((&recipient.state, 1)),
        }
    }
    let held = if entry.held { "held: " } else { "" };
    match counted.as_slice() {
        [(state, 1)] => format!("{held}{state}"),
        counted => held.to_owned() + &counted.iter().map(|(s, n)| format!("{n} {s}")).collect::<Vec<_>>().join(", "),
    }
}

fn list_text(list: &QueueList, now: Timestamp) -> String {
    if list.entries.is_empty() {
        return "The queue is empty.".to_owned();
    }
    let mut table = humane::table(&["ID", "AGE", "SIZE", "FROM", "TO", "STATE", "NEXT", "LAST"], &[1, 2]);
    for entry in &list.entries {
        let last = entry.steps.last().map(|step| format!("{} {}", step.what, step.detail)).unwrap_or_default();
        let to = match entry.recipients.as_slice() {
            [only] => only.address.to_string(),
            several => format!("{} in {}", several.len(), entry.route),
        };
        table.add_row([
            name(entry),
            humane::span(now.since(entry.accepted)),
            entry.size.map(format_size).unwrap_or_default(),
            sender(entry.sender.as_ref()),
            to,
            states(entry),
            entry.due.filter(|_| !entry.finished && !entry.held).map(|due| when(due, now)).unwrap_or_default(),
            last.trim().chars().take(60).collect(),
        ]);
    }
    let more = if list.more { "\n(there are more: --limit)" } else { "" };
    let octets = list.entries.iter().filter_map(|entry| entry.size).sum();
    let count = list.entries.len();
    let entries = if count == 1 { "entry" } else { "entries" };
    format!("{}\n\n{count} {entries}, {}{more}", humane::print(&table), format_size(octets))
}

/// A message's entries, each with its recipients.
fn message_text(message: &Message, now: Timestamp) -> String {
    let parts: Vec<_> = message.entries.iter().map(|entry| entry_text(entry, now)).collect();
    parts.join("\n\n")
}

/// One entry, all of it.
pub(super) fn entry_text(entry: &Entry, now: Timestamp) -> String {
    let mut lines = vec![match entry.kind {
        EntryKind::Leg => format!("{} to {}", name(entry), entry.route),
        EntryKind::Reference => format!("{} by reference, from {}", name(entry), entry.route),
    }];
    let mut line = |label: &str, value: String| lines.push(format!("  {label:<10} {value}"));
    line("from", sender(entry.sender.as_ref()));
    for recipient in &entry.recipients {
        let via = recipient.original.as_ref().map(|original| format!(" (for {original})")).unwrap_or_default();
        let detail = if recipient.detail.is_empty() { String::new() } else { format!(": {}", recipient.detail) };
        line("to", format!("{}{via}: {}{detail}", recipient.address, recipient.state));
    }
    if let (Some(size), Some(xuid)) = (entry.size, &entry.xuid) {
        line("content", format!("{} ({size} octets), XUID {xuid}", format_size(size)));
    }
    line("accepted", format!("{} UTC, {}", date(entry.accepted), when(entry.accepted, now)));
    line("expires", format!("{} UTC, {}", date(entry.expires), when(entry.expires, now)));
    for reference in &entry.references {
        line("reference", reference.to_string());
    }
    if !entry.finished {
        let attempts = match entry.attempts {
            1 => "1 attempt so far".to_owned(),
            n => format!("{n} attempts so far"),
        };
        let next = match (entry.held, entry.due) {
            (true, _) => "held by an operator".to_owned(),
            (false, Some(due)) => format!("looked at {}", when(due, now)),
            (false, None) => "waits for its peer".to_owned(),
        };
        line("next", format!("{next}; {attempts}"));
    }
    lines.join("\n")
}

fn done_text(done: &Done) -> String {
    if done.recipients.is_empty() {
        // A reference that came in and is not claimed yet.
        return "The reference is tried again now.".to_owned();
    }
    let mut lines: Vec<_> = done.recipients.iter().map(|to| format!("{}: {}", to.address, to.text)).collect();
    let (reached, all) = (done.reached, done.recipients.len());
    if all > 1 {
        lines.push(format!("\n{reached} of {all} recipients."));
    }
    lines.join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use mail::ledger::{Key, Step};

    use super::*;
    use crate::admin::api::EntryRecipient;

    pub(in crate::cli) fn entry() -> Entry {
        let at = Timestamp::from_secs(1_800_000_000);
        let recipient = |address: &str, state: &str| EntryRecipient {
            address: address.parse().unwrap(),
            original: None,
            state: state.into(),
            detail: String::new(),
        };
        Entry {
            key: Key::Leg("1kx2p7q0".parse().unwrap(), 0),
            id: Some("1kx2p7q0".parse().unwrap()),
            kind: EntryKind::Leg,
            sender: Some("alice@a.example".parse().unwrap()),
            route: "b.example".into(),
            recipients: vec![recipient("bob@b.example", "offered")],
            xuid: None,
            size: Some(4_200),
            accepted: at,
            expires: at.after(std::time::Duration::from_secs(432_000)),
            due: Some(at.after(std::time::Duration::from_secs(600))),
            attempts: 1,
            held: false,
            references: Vec::new(),
            came_by: None,
            finished: false,
            steps: vec![Step { at, what: "offered".into(), detail: "to mx.b.example".into(), octets: Some(780) }],
        }
    }

    #[test]
    fn the_list_tells_at_a_glance() {
        let now = Timestamp::from_secs(1_800_000_300);
        let list = QueueList { entries: vec![entry()], more: false };
        let text = list_text(&list, now);
        let mut lines = text.lines();
        assert!(lines.next().unwrap().trim_start().starts_with("ID"), "{text}");
        for word in ["1kx2p7q0/0", "5 min", "4.2 kB", "alice@a.example", "bob@b.example", "offered", "in 5 min"] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
        assert!(text.ends_with("1 entry, 4.2 kB"), "{text}");
        let held = Entry { held: true, ..entry() };
        let text = list_text(&QueueList { entries: vec![held], more: false }, now);
        assert!(text.contains("held: offered") && !text.contains("in 5 min"), "{text}");
        assert_eq!(list_text(&QueueList { entries: Vec::new(), more: false }, now), "The queue is empty.");
    }

    #[test]
    fn states_are_counted() {
        let mut entry = entry();
        let second = entry.recipients[0].clone();
        entry.recipients.push(second);
        assert_eq!(states(&entry), "2 offered");
        entry.recipients[0].state = "claimed".into();
        entry.held = true;
        assert_eq!(states(&entry), "held: 1 claimed, 1 offered");
    }
}
