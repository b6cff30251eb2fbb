//! What dialogues can't show: late decisions, wrong decisions, and sessions cut at random.

use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_secs(1_000_000)
}

fn session() -> Server {
    let mut config = Config::relay(mail::Domain::parse("mx.example").unwrap());
    config.limits.input = 1000;
    Server::new(Arc::new(config), true, now())
}

/// Runs until something else than a decision is asked for; accepts everything but `nobody`.
fn run(session: &mut Server, log: &mut Log) {
    loop {
        match session.next_action(now()) {
            Action::Write(octets) => log.written.extend_from_slice(&octets),
            Action::Event(Event::Content(chunk)) => log.content.extend_from_slice(&chunk),
            Action::Event(event) => {
                let decision = match &event {
                    Event::ContentEnd { .. } | Event::Offer(_) => Decision::Queued("q".parse().unwrap()),
                    Event::Rcpt(recipient) if recipient.address.local() == "nobody" => {
                        Decision::Reply(catalogue::no_such_mailbox())
                    }
                    _ => Decision::Accept,
                };
                if event.wants_decision() {
                    session.decide(now(), decision).unwrap();
                }
                // What came of a content before it was dropped depends on how the input was cut.
                if matches!(event, Event::ContentDropped(_)) {
                    log.content.clear();
                }
                log.events.push((event, std::mem::take(&mut log.content)));
            }
            Action::StartTls => session.tls_established(now()).unwrap(),
            Action::Decide => panic!("a decision is outstanding"),
            Action::Idle { .. } => return,
            Action::Turn | Action::Close => return log.closed = true,
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Log {
    written: Vec<u8>,
    content: Vec<u8>,
    events: Vec<(Event, Vec<u8>)>,
    closed: bool,
}

fn play(wire: &[u8], cuts: &[usize]) -> Log {
    let (mut session, mut log, mut rest) = (session(), Log::default(), wire);
    run(&mut session, &mut log);
    for cut in cuts.iter().cycle().copied() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(cut.clamp(1, rest.len()));
        session.feed(now(), piece);
        run(&mut session, &mut log);
        rest = after;
    }
    log
}

#[test]
fn input_waits_behind_a_decision() {
    let mut session = session();
    assert_eq!(session.next_action(now()), Action::Event(Event::Connect));
    assert_eq!(session.next_action(now()), Action::Decide);
    session.feed(now(), b"NOOP\r\n");
    assert!(session.wants_input());
    session.feed(now(), &b"NOOP\r\n".repeat(200));
    assert!(!session.wants_input());
    assert_eq!(session.next_action(now()), Action::Decide);
    session.decide(now(), Decision::Accept).unwrap();
    let mut log = Log::default();
    run(&mut session, &mut log);
    assert_eq!(log.written.split(|o| *o == b'\n').count(), 203);
    assert!(session.wants_input());
}

#[test]
fn a_decision_must_fit_its_question() {
    let mut session = session();
    let queued = || Decision::Queued("q".parse().unwrap());
    // The event has not been taken yet.
    assert_eq!(session.decide(now(), Decision::Accept), Err(Misuse::NotAsked));
    session.next_action(now());
    for wrong in [queued(), Decision::Challenge(crate::Secret::default()), Decision::Reply(Reply::new(354, None, "x"))]
    {
        assert_eq!(session.decide(now(), wrong), Err(Misuse::OtherQuestion));
    }
    assert_eq!(session.decide(now(), Decision::Accept), Ok(()));
    assert_eq!(session.decide(now(), Decision::Accept), Err(Misuse::NotAsked));
    assert_eq!(session.tls_established(now()), Err(Misuse::NoTls));
    assert_eq!(session.refuse_content(catalogue::local_error()), Err(Misuse::NoContent));

    run(&mut session, &mut Log::default());
    session.feed(now(), b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@mx.example>\r\nBDAT 0 LAST\r\n");
    loop {
        match session.next_action(now()) {
            Action::Event(Event::ContentEnd { .. }) => break,
            Action::Event(_) => session.decide(now(), Decision::Accept).unwrap(),
            _ => {}
        }
    }
    // A 250 to a content bears a queue id.
    assert_eq!(session.decide(now(), Decision::Accept), Err(Misuse::OtherQuestion));
    assert_eq!(session.decide(now(), Decision::Reply(catalogue::done())), Err(Misuse::OtherQuestion));
    assert_eq!(session.decide(now(), queued()), Ok(()));
}

#[test]
fn of_two_faults_the_first_counts_however_content_is_cut() {
    for (content, status) in [
        ("a\nb".to_owned() + &"x".repeat(100), "554 5.6.0 bare"),
        ("x".repeat(100) + "\n", "552 5.3.4"),
        ("line\r\n".repeat(10) + "\n", "552 5.3.4"),
        ("x".repeat(41) + "\n", "554 5.6.0 a line"),
    ] {
        for step in [1, 7, 1000] {
            let mut config = Config::relay(mail::Domain::parse("mx.example").unwrap());
            (config.limits.message, config.limits.text_line) = (50, 40);
            if status.starts_with("552") {
                config.limits.text_line = 1000;
            }
            let (mut session, mut log) = (Server::new(Arc::new(config), true, now()), Log::default());
            run(&mut session, &mut log);
            let wire = format!("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@mx.example>\r\nDATA\r\n{content}\r\n.\r\n");
            for piece in wire.as_bytes().chunks(step) {
                session.feed(now(), piece);
                run(&mut session, &mut log);
            }
            let written = String::from_utf8(log.written).unwrap();
            let last = written.lines().last().unwrap();
            assert!(last.starts_with(status), "{step}: {last}");
        }
    }
}

#[test]
fn replies_of_a_group_come_together() {
    let mut session = session();
    run(&mut session, &mut Log::default());
    session.feed(now(), b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@mx.example>\r\nRCPT TO:<c@mx.example>\r\nDATA\r\n");
    let mut writes = 0;
    loop {
        match session.next_action(now()) {
            Action::Write(_) => writes += 1,
            Action::Event(_) => session.decide(now(), Decision::Accept).unwrap(),
            _ => break,
        }
    }
    assert_eq!(writes, 1);
}

#[test]
fn a_stop_does_not_wait_for_idle_clients() {
    let mut session = session();
    run(&mut session, &mut Log::default());
    session.shut_down();
    let mut log = Log::default();
    run(&mut session, &mut log);
    assert!(log.written.starts_with(b"421 4.3.2") && log.closed);
}

/// Lines among which everything interesting happens.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => prop_oneof![Just("EHLO a\r\n"), Just("HELO a\r\n"), Just("RSET\r\n"), Just("NOOP\r\n"), Just("STARTTLS\r\n")],
        6 => Just("MAIL FROM:<a@a.example>\r\n"),
        6 => prop_oneof![Just("RCPT TO:<b@mx.example>\r\n"), Just("RCPT TO:<nobody@mx.example>\r\n"), Just("RCPT TO:<b\r\n")],
        6 => prop_oneof![Just("DATA\r\n"), Just("BDAT 3\r\na\r\n"), Just("BDAT 5 LAST\r\n..\r\n."), Just("BDAT 0 LAST\r\n")],
        6 => prop_oneof![Just("TBR 0 https://x\r\n"), Just("TBR\r\n"), Just("A: b\r\n"), Just(".\r\n"), Just("..\r\n")],
        2 => prop_oneof![Just("\n"), Just("\r"), Just("."), Just("\r\n"), Just("x\n.\r\n"), Just("\r\n.\r"), Just("é\0")],
        1 => prop_oneof![Just("QUIT\r\n"), Just("BDAT\r\n"), Just("AUTH PLAIN\r\n"), Just("XYZ\r\n")],
    ];
    proptest::collection::vec(line, 0..40).prop_map(|lines| [b"EHLO a\r\n", lines.concat().as_bytes()].concat())
}

proptest! {
    #[test]
    fn cutting_changes_nothing(wire in wire(), cuts in proptest::collection::vec(1usize..30, 1..8)) {
        let whole = play(&wire, &[usize::MAX]);
        // STARTTLS drops what came with it, so there the cut matters by design.
        if !whole.written.windows(9).any(|w| w == b"220 2.0.0") {
            prop_assert_eq!(whole, play(&wire, &cuts));
        }
    }

    /// Of each content that is accepted every octet stands, unstuffed, in what was sent; no line of
    /// output is anything but a reply.
    #[test]
    fn output_is_replies(wire in wire()) {
        let log = play(&wire, &[usize::MAX]);
        for line in String::from_utf8(log.written).unwrap().split_terminator("\r\n") {
            prop_assert!(line.as_bytes()[..3].iter().all(u8::is_ascii_digit), "{}", line);
            prop_assert!(!line.contains(['\r', '\n']));
        }
    }
}
