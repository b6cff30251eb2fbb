//! `restante trace`: a message's whole life as a line of events, with times and octets.

use hyper::Method;
use mail::Timestamp;

use super::args::{Global, TraceArgs, split_number};
use super::client::Client;
use super::humane::{self, date, passed};
use super::output::{Exit, Failure, Outcome, Output};
use super::queue;
use crate::admin::api::{self, Entry, EntryKind, Message};
use crate::config::format_size;

/// Asks and prints.
pub(super) fn run(args: &TraceArgs, global: &Global, output: Output) -> Outcome {
    let (id, _) = split_number(&args.id);
    let fine = !id.is_empty() && id.bytes().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_'));
    if !fine {
        return Err(Failure::usage(format!("`{}` is neither a queue id nor a reference id", args.id)));
    }
    let message: Message = Client::new(global)?.ask(Method::GET, &format!("{}/{}", api::TRACE, id))?;
    output.print(&message, || text(&message, humane::now()));
    Ok(Exit::Done)
}

/// The timeline, and below it where everything stands.
fn text(message: &Message, now: Timestamp) -> String {
    let timeline = message.timeline();
    let Some(begin) = timeline.first().map(|(_, step)| step.at) else {
        return entries(message, now);
    };
    let several = message.entries.len() > 1;
    let mut table = humane::table(&["", "", "", "", ""], &[1, 4]);
    let mut lines = vec![format!("{}, times in UTC", heading(message))];
    let mut day = String::new();
    for (number, step) in &timeline {
        let at = date(step.at);
        let (date, clock) = at.split_at(10);
        let shown = if date == day { String::new() } else { date.to_owned() };
        day = date.to_owned();
        let clock = format!("{shown} {}.{:03}", clock.trim(), step.at.as_millis() % 1000);
        let place = if several { message.entries.get(*number).map(place).unwrap_or_default() } else { String::new() };
        let octets = step.octets.map(format_size).unwrap_or_default();
        let what = format!("● {}", step.what);
        let detail = [place, step.detail.clone()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        table.add_row([clock, passed(step.at.since(begin)), what, detail.join(": "), octets]);
    }
    // The first line is the empty header.
    lines.extend(humane::print(&table).lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
    lines.push(String::new());
    lines.push(entries(message, now));
    lines.join("\n")
}

fn heading(message: &Message) -> String {
    let Some(first) = message.entries.first() else { return "Nothing is known".to_owned() };
    let size = message.entries.iter().find_map(|entry| entry.size).map(format_size);
    let size = size.map(|size| format!(", {size}")).unwrap_or_default();
    let id = first.id.as_ref().map(mail::QueueId::to_string).unwrap_or_default();
    format!("Message {id} of {}{size}", queue::sender(first.sender.as_ref()))
}

/// Which of several entries a step belongs to.
fn place(entry: &Entry) -> String {
    match entry.kind {
        EntryKind::Leg => format!("→ {}", entry.route),
        EntryKind::Reference => format!("← {}", entry.route),
    }
}

fn entries(message: &Message, now: Timestamp) -> String {
    message.entries.iter().map(|entry| queue::entry_text(entry, now)).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use mail::ledger::Step;

    use super::*;

    #[test]
    fn the_timeline_is_in_order_with_times_and_octets() {
        let mut leg = queue::tests::entry();
        let at = leg.accepted;
        let step = |millis: u64, what: &str, octets| Step {
            at: at.after(std::time::Duration::from_millis(millis)),
            what: what.into(),
            detail: format!("detail of {what}"),
            octets,
        };
        leg.steps =
            vec![step(0, "accepted", Some(4_200)), step(40, "offered", Some(780)), step(2_000, "receipt", None)];
        let mut other = queue::tests::entry();
        other.kind = EntryKind::Reference;
        other.steps = vec![step(60, "retrieved", Some(4_200))];
        let text = text(&Message { entries: vec![leg, other] }, at);
        let order: Vec<_> = ["accepted", "offered", "retrieved", "receipt"]
            .map(|word| text.find(&format!("● {word}")).unwrap_or_else(|| panic!("{word}:\n{text}")))
            .into();
        assert!(order.is_sorted(), "{text}");
        for word in ["+40 ms", "+2.0 s", "780 B", "2027-01-15 08:00:00.000", "← b.example: detail of retrieved"] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
        assert!(text.starts_with("Message 1kx2p7q0 of alice@a.example, 4.2 kB"), "{text}");
    }
}
