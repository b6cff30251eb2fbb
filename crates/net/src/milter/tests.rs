//! The packets, octet for octet; whole conversations with a milter played by the test, and with milters that do not play by the
//! rules.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::content::{Part, Splitter};
use super::packet::{Command, Decoder, MAX_CHUNK, Options, PacketError, Reply, VERSION, steps};
use super::{Client, Failure, Field, Refusal, Session, Tls, Verdict};

const PATIENCE: Duration = Duration::from_secs(30);

/// For milters that never answer.
const SHORT: Duration = Duration::from_millis(50);

fn packet(name: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap().to_be_bytes();
    [&length[..], &[name], data].concat()
}

fn encoded(command: &Command<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    command.encode(&mut octets);
    octets
}

fn decoded(octets: &[u8]) -> Result<Option<Reply>, PacketError> {
    let mut decoder = Decoder::default();
    decoder.push(octets);
    decoder.reply()
}

#[test]
fn commands_to_the_octet() {
    let options = Options { version: 6, actions: 0x11, steps: 0x1df7ff };
    let table: [(Command<'_>, u8, &[u8]); 12] = [
        (Command::Negotiate(options), b'O', b"\0\0\0\x06\0\0\0\x11\0\x1d\xf7\xff"),
        (Command::Macros(b'C', &[("j", "mx"), ("i", "q1")]), b'D', b"Cj\0mx\0i\0q1\0"),
        (
            Command::Connect("[192.0.2.1]", Some("192.0.2.1:25".parse().unwrap())),
            b'C',
            b"[192.0.2.1]\x004\0\x19192.0.2.1\0",
        ),
        (Command::Connect("x", Some("[2001:db8::1]:258".parse().unwrap())), b'C', b"x\x006\x01\x02IPv6:2001:db8::1\0"),
        (Command::Connect("unknown", None), b'C', b"unknown\0U"),
        (Command::Helo("a.example"), b'H', b"a.example\0"),
        (Command::Mail("<a@b>"), b'M', b"<a@b>\0"),
        (Command::Rcpt("<c@d>"), b'R', b"<c@d>\0"),
        (Command::Header(b"Subject", b"a\n b\0c"), b'L', b"Subject\0a\n bc\0"),
        (Command::EndOfHeader, b'N', b""),
        (Command::Body(b"x\0y\r\n"), b'B', b"x\0y\r\n"),
        (Command::EndOfBody, b'E', b""),
    ];
    for (command, name, data) in table {
        assert_eq!(encoded(&command), packet(name, data), "{command:?}");
    }
}

#[test]
fn replies_from_octets() {
    let field = |text: &str| Reply::Field(Field::new(b"X-Spam", text.as_bytes()).unwrap());
    let options = Options { version: 6, actions: 1, steps: 2 };
    let table: [(u8, &[u8], Reply); 12] = [
        (b'c', b"", Reply::Continue),
        (b'a', b"", Reply::Accept),
        (b'd', b"", Reply::Discard),
        (b's', b"", Reply::Skip),
        (b'p', b"", Reply::Progress),
        (b'r', b"", Reply::Refuse(Refusal::permanent())),
        (b't', b"", Reply::Refuse(Refusal::temporary())),
        (b'O', b"\0\0\0\x06\0\0\0\x01\0\0\0\x02macros follow", Reply::Negotiated(options)),
        (b'h', b"X-Spam\0yes\0", field("yes")),
        (b'i', b"\0\0\0\x01X-Spam\0 yes\n\tindeed\0", field("yes\n\tindeed")),
        (b'm', b"\0\0\0\x01X-Spam\0yes\0", field("yes")),
        (b'm', b"\0\0\0\x01X-Spam\0\0", Reply::Removal),
    ];
    for (name, data, reply) in table {
        assert_eq!(decoded(&packet(name, data)), Ok(Some(reply)));
    }
    let wrong: [(u8, &[u8]); 9] = [
        (b'O', b"\0\0\0\x06\0\0\0\x01"),
        (b'h', b"X-Spam\0yes"),
        (b'h', b"X-Spam\0"),
        (b'h', b"X-Spam\0yes\0no\0"),
        (b'i', b"\0\0\0"),
        (b'y', b"550 no"),
        (b'y', b"250 fine\0"),
        (b'y', b"5x0 odd\0"),
        (b'y', b"\0"),
    ];
    for (name, data) in wrong {
        assert_eq!(decoded(&packet(name, data)), Err(PacketError::Data(name)), "{}", String::from_utf8_lossy(data));
    }
    for name in [b'b', b'+', b'-', b'e', b'q', b'f', b'4', 0] {
        assert_eq!(decoded(&packet(name, b"x\0")), Err(PacketError::Unknown(name)));
    }
    assert_eq!(decoded(&[0, 0, 0, 0]), Err(PacketError::Length(0)));
    assert_eq!(decoded(&[0, 1, 0, 1]), Err(PacketError::Length(65_537)));
    assert_eq!(decoded(&[0, 1, 0, 0, b'c']), Ok(None));
}

#[test]
fn refusals_in_the_words_of_the_milter() {
    let table: [(&[u8], u16, &str, &str); 7] = [
        (b"550 5.7.9 go away\0", 550, "5.7.9", "go away"),
        (b"451 later\0", 451, "4.7.1", "later"),
        (b"554\0", 554, "5.7.1", "refused by a filter"),
        (b"550 5.7.9\0", 550, "5.7.9", "refused by a filter"),
        (b"450 5.7.9 unlike\0", 450, "4.7.1", "5.7.9 unlike"),
        (b"550-5.1.1 one\r\n550 5.1.1 two\0", 550, "5.1.1", "one two"),
        (b"550 a\x07b \xc3\xa4\0", 550, "5.7.1", "a b"),
    ];
    for (data, code, status, text) in table {
        let refusal = Refusal { code, status: status.parse().unwrap(), text: text.to_owned() };
        assert_eq!(decoded(&packet(b'y', data)), Ok(Some(Reply::Refuse(refusal))));
    }
    let Ok(Some(Reply::Refuse(long))) = decoded(&packet(b'y', &[b"550 ", &[b'x'; 9_000][..], b"\0"].concat())) else {
        panic!("refused");
    };
    assert_eq!(long.text.len(), super::packet::MAX_TEXT);
}

#[test]
fn a_field_cannot_be_taken_for_anything_else() {
    assert_eq!(Field::new(b"X-A", b"one\r\n two\n\tthree").unwrap().as_str(), "X-A: one\r\n two\r\n\tthree\r\n");
    assert_eq!(Field::new(b"X-A", b"").unwrap().as_str(), "X-A: \r\n");
    let long = [b'x'; 901];
    let wrong: [(&[u8], &[u8]); 13] = [
        (b"", b"x"),
        (b"X A", b"x"),
        (b"X:A", b"x"),
        (b"X\r\nA", b"x"),
        (b"X-\xc3\xa4", b"x"),
        (b"X-A", b"x\r\nBcc: y"),
        (b"X-A", b"x\r\n\r\nbody"),
        (b"X-A", b"x\n \n"),
        (b"X-A", b"x\ry"),
        (b"X-A", b"x\x07"),
        (b"X-A", &long),
        (b"TBR-Reference", b"v=1"),
        (b"tbr-hop", b"v=1"),
    ];
    for (name, value) in wrong {
        assert_eq!(Field::new(name, value), None, "{:?}", (name, value));
    }
}

fn split(content: &[u8], cut: usize) -> Vec<Part> {
    let mut splitter = Splitter::default();
    let (one, two) = content.split_at(cut);
    let mut parts = [splitter.push(one), splitter.push(two)].concat();
    parts.extend(splitter.finish());
    parts
}

#[test]
fn content_in_parts_however_it_is_cut() {
    let field = |name: &str, value: &str| Part::Field(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let body = |text: &str| Part::Body(text.as_bytes().to_vec());
    let table = [
        (
            "A: 1\r\nB:\r\n 2\r\n\t3\r\n\r\nbody\r\n.\r\n",
            vec![field("A", " 1"), field("B", "\n 2\n\t3"), Part::EndOfHeader, body("body\r\n.\r\n")],
        ),
        ("A: 1\r\n", vec![field("A", " 1"), Part::EndOfHeader]),
        ("A: 1\r\nno field\r\nB: 2\r\n", vec![field("A", " 1"), Part::EndOfHeader, body("no field\r\nB: 2\r\n")]),
        ("\r\nbody", vec![Part::EndOfHeader, body("body")]),
        (" folded\r\nA : x\n\nb", vec![field("A", " x"), Part::EndOfHeader, body("b")]),
        ("A: 1", vec![field("A", " 1"), Part::EndOfHeader]),
        ("", vec![Part::EndOfHeader]),
    ];
    for (content, parts) in table {
        for cut in 0..=content.len() {
            assert_eq!(split(content.as_bytes(), cut), parts, "{content:?} cut at {cut}");
        }
    }
    let large = [b"\r\n", &[b'x'; 2 * MAX_CHUNK + 1][..]].concat();
    let sizes: Vec<usize> =
        split(&large, 5).iter().filter_map(|p| if let Part::Body(b) = p { Some(b.len()) } else { None }).collect();
    assert_eq!(sizes, [MAX_CHUNK, MAX_CHUNK, 1]);
    let endless = [b"A: ", &[b'x'; 300_000][..], b"\r\n ", &[b'y'; 300_000], b"\r\nB: 1\r\n"].concat();
    let Part::Field(_, value) = &split(&endless, 9)[0] else { panic!("a field") };
    assert!(value.len() <= 60_000, "{} octets kept", value.len());
}

/// A milter played by a test: gives its answers, one for each packet that wants one, and tells what it heard.
struct Played {
    answers: Vec<Vec<u8>>,
    stream: DuplexStream,
}

impl Played {
    /// Agrees to these steps, then answers in turn; an answer may be several packets, or none.
    fn new(stream: DuplexStream, steps: u32, answers: &[&[u8]]) -> Self {
        let numbers = [VERSION, 0x1f, steps].map(u32::to_be_bytes).concat();
        let agreed = packet(b'O', &numbers);
        let answers = std::iter::once(agreed).chain(answers.iter().map(|answer| answer.to_vec())).rev().collect();
        Self { answers, stream }
    }

    async fn play(mut self) -> String {
        let mut heard = String::new();
        while let Ok(length) = self.stream.read_u32().await {
            let mut data = vec![0; length as usize];
            self.stream.read_exact(&mut data).await.unwrap();
            heard.push(char::from(data[0]));
            if data[0] == b'D' {
                continue;
            }
            let Some(answer) = self.answers.pop() else { continue };
            if self.stream.write_all(&answer).await.is_err() {
                break;
            }
        }
        heard
    }
}

const CLIENT: Client<'_> = Client { server: "mx", address: None, name: None, helo: "client", tls: None };

/// The verdicts at the recipient and at the end, and what the milter heard.
async fn converse(steps: u32, answers: &[&[u8]]) -> (Result<(Verdict, Vec<Field>), Failure>, String) {
    converse_within(PATIENCE, steps, answers).await
}

async fn converse_within(
    patience: Duration,
    steps: u32,
    answers: &[&[u8]],
) -> (Result<(Verdict, Vec<Field>), Failure>, String) {
    let (ours, theirs) = duplex(1024);
    let milter = tokio::spawn(Played::new(theirs, steps, answers).play());
    let end = async {
        let mut session = Session::open(ours, patience).await?;
        let mut verdict = session.greet(CLIENT).await?;
        if verdict == Verdict::Continue {
            verdict = session.mail("a@b").await?;
        }
        if verdict == Verdict::Continue {
            verdict = session.rcpt("c@d").await?;
        }
        session.is_named("q1");
        if verdict == Verdict::Continue {
            verdict = session.content(b"A: 1\r\nB: 2\r\n\r\nbody\r\n").await?;
        }
        if verdict == Verdict::Continue { session.end().await } else { Ok((verdict, Vec::new())) }
    };
    let end = end.await;
    (end, milter.await.unwrap())
}

fn go() -> Vec<u8> {
    packet(b'c', b"")
}

#[tokio::test]
async fn a_whole_conversation() {
    let go = go();
    let last =
        [packet(b'p', b""), packet(b'h', b"X-Spam\0no\0"), packet(b'i', b"\0\0\0\0X-Two\0two\0"), go.clone()].concat();
    let (end, heard) = converse(0, &[&go, &go, &go, &go, &go, &go, &go, &go, &go, &last]).await;
    let fields = ["X-Spam\0no", "X-Two\0two"].map(|text| {
        let (name, value) = text.split_once('\0').unwrap();
        Field::new(name.as_bytes(), value.as_bytes()).unwrap()
    });
    assert_eq!(end.unwrap(), (Verdict::Continue, fields.to_vec()));
    assert_eq!(heard, "ODCHDMDRDTLLDNBDEQ");
}

/// The macros of each command that has some, as `C j=mx …`.
fn macros_in(mut octets: &[u8]) -> Vec<String> {
    let mut heard = Vec::new();
    while let Some((length, rest)) = octets.split_first_chunk::<4>() {
        let (packet, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        if let [b'D', of, values @ ..] = packet {
            let texts: Vec<_> = values.split(|octet| *octet == 0).map(String::from_utf8_lossy).collect();
            let values = texts.chunks_exact(2).map(|pair| format!(" {}={}", pair[0], pair[1]));
            heard.push(format!("{}{}", char::from(*of), values.collect::<String>()));
        }
        octets = rest;
    }
    heard
}

#[tokio::test]
async fn macros_where_other_servers_have_them() {
    let (ours, mut theirs) = duplex(64 * 1024);
    // Answers that nobody waits for: the milter agrees, and says nothing against anything.
    let agreed = packet(b'O', &[VERSION, 0x1f, 0].map(u32::to_be_bytes).concat());
    theirs.write_all(&[agreed, go().repeat(8)].concat()).await.unwrap();
    let mut session = Session::open(ours, PATIENCE).await.unwrap();
    let client = Client {
        address: Some("192.0.2.1:2525".parse().unwrap()),
        name: Some("mx.a.example"),
        tls: Some(Tls { version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256" }),
        ..CLIENT
    };
    assert_eq!(session.greet(client).await.unwrap(), Verdict::Continue);
    assert_eq!(session.mail("a@b").await.unwrap(), Verdict::Continue);
    session.is_named("q1");
    assert_eq!(session.rcpt("c@d").await.unwrap(), Verdict::Continue);
    assert_eq!(session.content(b"\r\nbody\r\n").await.unwrap(), Verdict::Continue);
    assert_eq!(session.end().await.unwrap().0, Verdict::Continue);
    let mut octets = Vec::new();
    theirs.read_to_end(&mut octets).await.unwrap();
    let software = env!("CARGO_PKG_VERSION");
    let expected = [
        &format!(
            "C j=mx _=mx.a.example [192.0.2.1] v=Restante {software} {{daemon_name}}=mx {{client_addr}}=192.0.2.1 \
             {{client_port}}=2525 {{client_name}}=mx.a.example {{client_ptr}}=mx.a.example"
        ),
        "H {tls_version}=TLSv1.3 {cipher}=TLS_AES_128_GCM_SHA256 {cipher_bits}=128",
        "M {mail_addr}=a@b",
        "R i=q1 {rcpt_addr}=c@d",
        "T i=q1",
        "N i=q1",
        "E i=q1",
    ];
    assert_eq!(macros_in(&octets), expected);
}

#[tokio::test]
async fn nothing_is_said_that_it_does_not_want_to_hear() {
    let wanted =
        steps::NO_CONNECT | steps::NO_HELO | steps::NO_DATA | steps::NO_HEADERS | steps::MUTE_MAIL | steps::MUTE_BODY;
    // The answers to RCPT, to the header's end, and the last; none to MAIL and the body.
    let go = go();
    let (end, heard) = converse(wanted, &[b"", &go, &go, b"", &packet(b'r', b"")]).await;
    assert_eq!(end.unwrap().0, Verdict::Refuse(Refusal::permanent()));
    assert_eq!(heard, "ODMDRDNBDEQ");
}

#[tokio::test]
async fn verdicts_on_the_way() {
    let go = go();
    let refused = packet(b'y', b"550 5.7.9 no\0");
    let words = Refusal { code: 550, status: "5.7.9".parse().unwrap(), text: "no".to_owned() };
    let (end, heard) = converse(0, &[&go, &go, &go, &refused]).await;
    assert_eq!((end.unwrap().0, heard.as_str()), (Verdict::Refuse(words), "ODCHDMDR"));
    let (end, heard) = converse(0, &[&go, &go, &packet(b'a', b"")]).await;
    assert_eq!((end.unwrap().0, heard.as_str()), (Verdict::Continue, "ODCHDM"));
    let (end, heard) = converse(0, &[&go, &go, &go, &go, &go, &packet(b'd', b"")]).await;
    assert_eq!((end.unwrap().0, heard.as_str()), (Verdict::Discard, "ODCHDMDRDTL"));
}

#[tokio::test]
async fn no_more_of_the_body_than_it_needs() {
    let (ours, theirs) = duplex(1024);
    let (go, skip) = (go(), packet(b's', b""));
    let wanted = steps::SKIP | steps::NO_DATA | steps::NO_HEADERS | steps::NO_END_OF_HEADER;
    let milter = tokio::spawn(Played::new(theirs, wanted, &[&skip, &go]).play());
    let mut session = Session::open(ours, PATIENCE).await.unwrap();
    for _ in 0..3 {
        let chunk = [b"\r\n", &[b'x'; MAX_CHUNK][..]].concat();
        assert_eq!(session.content(&chunk).await.unwrap(), Verdict::Continue);
    }
    assert_eq!(session.end().await.unwrap().0, Verdict::Continue);
    assert_eq!(milter.await.unwrap(), "OBEQ");
}

#[tokio::test]
async fn hostile_milters_end_in_a_failure() {
    let go = go();
    let field = packet(b'h', b"X-A\0x\0");
    let endless = field.repeat(1_000);
    let large = packet(b'h', &[b"X-A\0", &b"x\n ".repeat(20_000)[..], b"x\0"].concat());
    let late = packet(b'p', b"").repeat(1_000);
    type Check = fn(&Failure) -> bool;
    let table: [(&str, Duration, &[u8], Check); 8] = [
        ("fields without end", PATIENCE, &endless, |f| matches!(f, Failure::TooMuch)),
        ("large fields", PATIENCE, &large.repeat(3), |f| matches!(f, Failure::TooMuch | Failure::Protocol(_))),
        ("still at it, for ever", SHORT, &late, |f| matches!(f, Failure::Silence)),
        ("says nothing", SHORT, b"", |f| matches!(f, Failure::Silence)),
        ("another body", PATIENCE, &packet(b'b', b"x"), |f| matches!(f, Failure::Protocol(PacketError::Unknown(b'b')))),
        ("another recipient", PATIENCE, &packet(b'+', b"<x@y>\0"), |f| matches!(f, Failure::Protocol(_))),
        ("a packet of 4 GiB", PATIENCE, b"\xff\xff\xff\xffc", |f| {
            matches!(f, Failure::Protocol(PacketError::Length(_)))
        }),
        ("a second handshake", PATIENCE, &packet(b'O', &[0; 12]), |f| matches!(f, Failure::OutOfPlace)),
    ];
    for (what, patience, last, is_expected) in table {
        let (end, _) = converse_within(patience, 0, &[&go, &go, &go, &go, &go, &go, &go, &go, &go, last]).await;
        let failure = end.unwrap_err();
        assert!(is_expected(&failure), "{what}: {failure}");
    }
    let (end, _) = converse(0, &[&packet(b's', b"")]).await;
    assert!(matches!(end, Err(Failure::OutOfPlace)), "skips the connection");
}

#[tokio::test]
async fn a_milter_that_does_not_listen_or_goes_away() {
    let (ours, _theirs) = duplex(4);
    assert!(matches!(Session::open(ours, SHORT).await, Err(Failure::Silence)));
    let (ours, theirs) = duplex(1024);
    drop(theirs);
    assert!(matches!(Session::open(ours, PATIENCE).await, Err(Failure::Connection(_))));
    let (ours, mut theirs) = duplex(1024);
    theirs.write_all(&packet(b'O', b"\0\0\0\x01\0\0\0\0\0\0\0\0")).await.unwrap();
    assert!(matches!(Session::open(ours, PATIENCE).await, Err(Failure::Version(1))));
}
