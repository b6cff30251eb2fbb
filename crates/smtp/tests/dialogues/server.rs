//! Plays a dialogue against a server session. The driver here has a small policy of its own, so that
//! dialogues can show every refusal; see `tests/dialogues/README.md`.

use std::sync::Arc;
use std::time::Duration;

use mail::{Domain, QueueId, Timestamp};
use smtp::Command;
use smtp::command::Rcpt;
use smtp::reply::{Reply, catalogue};
use smtp::secret::Secret;
use smtp::server::{Action, AuthStep, Config, Decision, Event, OfferTbr, Server};

use super::script::{Script, compare, escape};

struct Player<'a> {
    script: &'a Script,
    session: Server,
    now: Timestamp,
    written: Vec<u8>,
    events: Vec<String>,
    content: Vec<u8>,
    queued: usize,
    /// `idle`, `tls`, `turned` or `closed`.
    rest: &'static str,
}

pub(crate) fn play(script: &Script, step: usize) -> Result<(), String> {
    let now = Timestamp::from_secs(1_000_000);
    let session = Server::new(Arc::new(config(script)), script.is_on("tls"), now);
    let mut player = Player {
        script,
        session,
        now,
        written: Vec::new(),
        events: Vec::new(),
        content: Vec::new(),
        queued: 0,
        rest: "",
    };
    player.run();
    let mut steps = script.steps.iter().peekable();
    while let Some(first) = steps.peek() {
        let line = first.line;
        while let Some(step) = steps.next_if(|s| s.kind == '@') {
            player.prepare(&step.text);
        }
        let (mut sent, mut replies, mut events) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(step) = steps.next_if(|s| s.kind == 'C') {
            sent.extend_from_slice(&step.octets);
        }
        for piece in sent.chunks(step) {
            player.feed(piece);
        }
        while let Some(step) = steps.next_if(|s| matches!(s.kind, 'T' | '!')) {
            player.act(&step.text);
        }
        while let Some(step) = steps.next_if(|s| matches!(s.kind, 'S' | 'E')) {
            if step.kind == 'S' { replies.extend_from_slice(&step.octets) } else { events.push(step.text.clone()) }
        }
        compare(line, "replies", &lines(&player.written), &lines(&replies))?;
        if script.with_events {
            compare(line, "events", &player.take_events(), &events.join("\n"))?;
        }
        player.written.clear();
        while let Some(step) = steps.next_if(|s| s.kind == '=') {
            compare(step.line, "state", player.rest, &step.text)?;
        }
    }
    Ok(())
}

/// One reply line a line.
fn lines(wire: &[u8]) -> String {
    escape(wire).replace("\\r\\n", "\n")
}

fn config(script: &Script) -> Config {
    let host = Domain::parse("mx.example").unwrap();
    let mut config = match script.setting("role") {
        Some("submission") => Config::submission(host, ["PLAIN", "LOGIN"]),
        Some("on-demand") => Config::on_demand(host, ["PLAIN", "LOGIN"]),
        _ => Config::relay(host),
    };
    config.tbr = match script.setting("tbr") {
        Some("never") => OfferTbr::Never,
        Some("always") => OfferTbr::Always,
        _ => OfferTbr::InsideTls,
    };
    config.starttls = script.setting("starttls") != Some("no");
    config.chunking = script.setting("chunking") != Some("no");
    config.etrn = script.is_on("etrn");
    config.smtputf8 = script.is_on("smtputf8");
    config.requiretls = script.is_on("requiretls");
    config.auth_in_clear = script.is_on("auth-in-clear");
    if let Some(mechanisms) = script.setting("auth") {
        config.mechanisms = mechanisms.split(' ').map(str::to_owned).collect();
    }
    let limits = &mut config.limits;
    limits.message = 10_000;
    let set = |place: &mut usize, key| *place = script.number(key).unwrap_or(*place);
    set(&mut limits.recipients, "max-recipients");
    set(&mut limits.block, "max-block");
    limits.transactions = script.number("max-transactions").map(|most| u32::try_from(most).unwrap());
    if let Some(errors) = script.number("max-errors") {
        limits.errors = u32::try_from(errors).unwrap();
    }
    if let Some(commands) = script.number("max-commands") {
        limits.commands = u32::try_from(commands).unwrap();
    }
    if let Some(overrun) = script.number("overrun") {
        limits.overrun = overrun as u64;
    }
    config
}

impl Player<'_> {
    fn feed(&mut self, octets: &[u8]) {
        self.session.feed(self.now, octets);
        self.run();
    }

    /// The beginning that many dialogues share; what is said and what happens meanwhile is forgotten.
    fn prepare(&mut self, beginning: &str) {
        self.feed(b"EHLO a.example\r\n");
        match beginning {
            "ehlo" => {}
            "login" => self.feed(b"AUTH PLAIN AHVzZXIAcGFzcw==\r\n"),
            "mail" => self.feed(b"MAIL FROM:<a@a.example>\r\n"),
            "rcpt" => self.feed(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@mx.example>\r\n"),
            other => panic!("unknown beginning {other}"),
        }
        self.written.clear();
        self.events.clear();
    }

    fn act(&mut self, order: &str) {
        match order {
            "tls" => self.session.tls_established(self.now).unwrap(),
            "eof" => self.session.end_of_input(),
            "shutdown" => self.session.shut_down(),
            seconds => self.now = self.now.after(Duration::from_secs(seconds.parse().expect("seconds"))),
        }
        self.run();
    }

    fn run(&mut self) {
        loop {
            match self.session.next_action(self.now) {
                Action::Write(octets) => self.written.extend_from_slice(&octets),
                Action::Event(event) => self.event(event),
                Action::Decide => panic!("a decision is outstanding"),
                Action::StartTls => return self.rest = "tls",
                Action::Idle { .. } => return self.rest = "idle",
                Action::Turn => return self.rest = "turned",
                Action::Close => return self.rest = "closed",
            }
        }
    }

    fn event(&mut self, event: Event) {
        if let Event::Content(chunk) = &event {
            self.content.extend_from_slice(chunk);
            if let Some(reply) = self.scripted("refuse-content") {
                self.session.refuse_content(reply).unwrap();
            }
            return;
        }
        if !self.content.is_empty() {
            let content = std::mem::take(&mut self.content);
            // What came before a content was dropped depends on how the input was cut.
            if !matches!(event, Event::ContentDropped(_)) && self.script.setting("refuse-content").is_none() {
                self.events.push(format!("content {}", escape(&content)));
            }
        }
        self.events.push(describe(&event));
        if event.wants_decision() {
            let decision = self.decision(event);
            self.session.decide(self.now, decision).unwrap();
        }
    }

    fn take_events(&mut self) -> String {
        std::mem::take(&mut self.events).join("\n")
    }

    /// A reply that the dialogue sets: `451 4.3.1 text`.
    fn scripted(&self, key: &str) -> Option<Reply> {
        let (code, rest) = self.script.setting(key)?.split_once(' ').unwrap();
        let (status, text) = rest.split_once(' ').unwrap();
        Some(Reply::new(code.parse().unwrap(), status.parse::<mail::EnhancedStatus>().ok(), text.to_owned()))
    }

    fn decision(&mut self, event: Event) -> Decision {
        let scripted = match &event {
            Event::Connect => self.scripted("connect"),
            Event::ContentStart => self.scripted("content-start"),
            Event::ContentEnd { .. } => self.scripted("content"),
            Event::Offer(_) => self.scripted("offer"),
            Event::Etrn(etrn) => return etrn_decision(&etrn.node()),
            Event::Atrn(domains) => return atrn_decision(domains),
            _ => None,
        };
        if let Some(reply) = scripted {
            return Decision::Reply(reply);
        }
        match event {
            Event::Hello { name, .. } if name.as_str().starts_with("bad") => {
                Decision::Reply(Reply::new(550, mail::EnhancedStatus::permanent(7, 1), "no"))
            }
            Event::Auth(step) => auth_decision(&step),
            Event::Mail(mail) => mailbox_decision(mail.from.as_ref().map_or("", |a| a.local())),
            Event::Rcpt(recipient) => mailbox_decision(recipient.address.local()),
            Event::ContentEnd { .. } | Event::Offer(_) => {
                self.queued += 1;
                Decision::Queued(format!("q{}", self.queued).parse::<QueueId>().unwrap())
            }
            _ => Decision::Accept,
        }
    }
}

/// Mailboxes whose names say what becomes of them.
fn mailbox_decision(local: &str) -> Decision {
    match local {
        "nobody" => Decision::Reply(catalogue::no_such_mailbox()),
        "elsewhere" => Decision::Reply(catalogue::relaying_denied()),
        "later" => Decision::Reply(catalogue::local_error()),
        "goodbye" => Decision::Reply(catalogue::shutting_down()),
        _ => Decision::Accept,
    }
}

/// Domains whose names say what becomes of them.
fn etrn_decision(node: &str) -> Decision {
    match node {
        "foreign.example" => Decision::Reply(catalogue::node_not_allowed(node, "it is not relayed here")),
        "later.example" => Decision::Reply(catalogue::cannot_queue(node, "it was asked for a moment ago")),
        "empty.example" => Decision::Reply(catalogue::nothing_waits(node)),
        "many.example" => Decision::Reply(catalogue::messages_tried(node, 7)),
        _ => Decision::Accept,
    }
}

/// Likewise.
fn atrn_decision(domains: &[Domain]) -> Decision {
    match domains.first().map(Domain::as_str) {
        Some("foreign.example") => Decision::Reply(catalogue::atrn_refused("not for this account")),
        Some("later.example") => Decision::Reply(catalogue::atrn_impossible()),
        Some("empty.example") => Decision::Reply(catalogue::no_mail()),
        _ => Decision::Accept,
    }
}

/// PLAIN for `user` and `pass`; LOGIN asks two questions of which only the second counts.
fn auth_decision(step: &AuthStep) -> Decision {
    let challenge = |text: &str| Decision::Challenge(Secret::new(text.as_bytes()));
    match step {
        AuthStep::Start { mechanism, initial: None } if mechanism == "LOGIN" => challenge("Username:"),
        AuthStep::Start { initial: None, .. } => challenge(""),
        AuthStep::Start { initial: Some(response), .. } | AuthStep::Response(response) => match response.reveal() {
            b"\0user\0pass" | b"pass" => Decision::Accept,
            b"user" => challenge("Password:"),
            _ => Decision::Reply(catalogue::auth_failed()),
        },
    }
}

fn describe(event: &Event) -> String {
    let command = |command: Command| {
        let mut line = Vec::new();
        command.write_to(&mut line);
        String::from_utf8(line).unwrap().trim_end().to_owned()
    };
    match event {
        Event::Connect => "connect".to_owned(),
        Event::Hello { name, extended } => format!("{} {name}", if *extended { "ehlo" } else { "helo" }),
        Event::Auth(AuthStep::Start { mechanism, initial }) => {
            let initial = initial.as_ref().map_or("nothing".to_owned(), |i| escape(i.reveal()));
            format!("auth {mechanism} with {initial}")
        }
        Event::Auth(AuthStep::Response(response)) => format!("auth response {}", escape(response.reveal())),
        Event::AuthCancelled => "auth cancelled".to_owned(),
        Event::Mail(mail) => command(Command::Mail(mail.clone())),
        Event::Rcpt(recipient) => command(Command::Rcpt(Rcpt(recipient.clone()))),
        Event::ContentStart => "content start".to_owned(),
        Event::Content(_) => String::new(),
        Event::ContentDropped(why) => format!("content dropped {why:?}"),
        Event::ContentEnd { octets } => format!("content end {octets}"),
        Event::Offer(offer) => {
            let sign = |accepted| if accepted { '+' } else { '-' };
            let recipients = offer.recipients.iter().map(|r| format!(" {}{}", sign(r.accepted), r.address));
            let (line, block) = (offer.line.reveal(), escape(&offer.block));
            format!("offer {line} to{} block {block}", recipients.collect::<String>())
        }
        Event::Etrn(etrn) => command(Command::Etrn(etrn.clone())),
        Event::Atrn(domains) => command(Command::Atrn(domains.clone())),
        Event::Reset => "reset".to_owned(),
        Event::Quit => "quit".to_owned(),
    }
}
