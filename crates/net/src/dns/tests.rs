//! Zone-file answers, and what they mean to mail. Name servers are covered with the real ones elsewhere.

use std::path::PathBuf;

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::rdata::TXT;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;

const ZONE: &str = "
; a world of its own
$ORIGIN b.example.
@            IN MX 20 mx2
             IN MX 10 mx1
             IN MX 10 mx3.b.example.
mx1          A    192.0.2.1
             A    192.0.2.2
             AAAA 2001:db8::1
mx2   60 IN  AAAA 2001:db8::2
_tbr         TXT  \"v=TBR1; \" \"repo=tbr.b.example\"
_tbr         TXT  other
alias        CNAME mx1
loop1        CNAME loop2
loop2        CNAME loop1
_25._tcp.mx1 TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
*.wild       A    192.0.2.9
$ORIGIN .
nomail.example MX 0 .
plain.example  A  192.0.2.3
odd.example    MX 10 bad\\.host.example
1.2.0.192.in-addr.arpa PTR mx1.b.example
";

struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("zone")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn resolver(&self) -> Result<Resolver, SourceError> {
        Resolver::new(&Source::ZoneFile(self.path()), &Dnssec::Off)
    }
}

fn d(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

async fn mx(resolver: &Resolver, name: &str) -> Result<Exchanges, DnsError> {
    resolver.mx(&d(name)).await.map(|answer| answer.value)
}

#[tokio::test]
async fn mx_in_order_of_preference_and_shuffled_among_equals() {
    let file = File::new(ZONE);
    let resolver = file.resolver().unwrap();
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let Exchanges::Hosts(hosts) = mx(&resolver, "b.example").await.unwrap() else { panic!("null") };
        assert_eq!((hosts.len(), &hosts[2].host), (3, &d("mx2.b.example")));
        firsts.insert(hosts[0].host.clone());
    }
    assert_eq!(firsts.len(), 2);
}

#[tokio::test]
async fn null_implicit_and_missing() {
    let file = File::new(ZONE);
    let resolver = file.resolver().unwrap();
    assert_eq!(mx(&resolver, "nomail.example").await, Ok(Exchanges::Null));
    assert_eq!(
        mx(&resolver, "plain.example").await,
        Ok(Exchanges::Hosts(vec![Exchange { preference: 0, host: d("plain.example") }]))
    );
    assert_eq!(mx(&resolver, "no.example").await, Err(DnsError::NoSuchDomain));
    assert!(matches!(mx(&resolver, "odd.example").await, Err(DnsError::Temporary(_))));
    // A name that only has names below it exists (RFC 8020).
    assert_eq!(resolver.txt(&d("_tcp.mx1.b.example")).await, Err(DnsError::NoRecords));
}

#[tokio::test]
async fn addresses_of_both_families_take_turns() {
    let file = File::new(ZONE);
    let resolver = file.resolver().unwrap();
    let of = async |name| {
        resolver.addresses(&d(name)).await.map(|a| a.value.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(of("mx1.b.example").await.unwrap(), ["2001:db8::1", "192.0.2.1", "192.0.2.2"]);
    assert_eq!(of("alias.b.example").await.unwrap(), of("mx1.b.example").await.unwrap());
    assert_eq!(of("mx2.b.example").await.unwrap(), ["2001:db8::2"]);
    assert_eq!(of("x.wild.b.example").await.unwrap(), ["192.0.2.9"]);
    assert_eq!(of("wild.b.example").await, Err(DnsError::NoRecords));
    assert_eq!(of("mx3.b.example").await, Err(DnsError::NoSuchDomain));
    assert!(matches!(of("loop1.b.example").await, Err(DnsError::Temporary(_))));
}

#[tokio::test]
async fn texts_are_joined() {
    let file = File::new(ZONE);
    let texts = file.resolver().unwrap().txt(&d("_tbr.b.example")).await.unwrap();
    assert_eq!(texts.value, ["v=TBR1; repo=tbr.b.example", "other"]);
    assert!(!texts.secure);
}

#[tokio::test]
async fn a_reload_takes_effect_or_leaves_all_as_it_was() {
    let file = File::new("a.example A 192.0.2.1\n");
    let resolver = file.resolver().unwrap();
    let clone = resolver.clone();
    file.write("a.example A 192.0.2.2\n");
    resolver.reload().unwrap();
    file.write("a.example A 192.0.2.256\n");
    assert!(resolver.reload().is_err());
    let found = clone.addresses(&d("a.example")).await.unwrap().value;
    assert_eq!(found, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
}

#[tokio::test]
async fn mistakes_are_named_with_their_line() {
    for (text, line) in [
        ("a.example A 192.0.2.1\nb.example A 300.1.1.1\n", 2),
        ("a.example WHAT 1\n", 1),
        ("a.example TXT (\n  a\n  b )\n\nb.example MX ten mx\nc.example A 192.0.2.1", 5),
    ] {
        let error = File::new(text).resolver().unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}:")), "{error}");
    }
    let missing = Resolver::new(&Source::ZoneFile("/nowhere/zone".into()), &Dnssec::Off).unwrap_err().to_string();
    assert!(missing.contains("/nowhere/zone"), "{missing}");
}

const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Names under `signed.example` and, not signed, `open.example`.
fn table() -> super::table::Table {
    let zone = format!(
        "$ORIGIN signed.example.
mx A 192.0.2.1
_25._tcp.mx TLSA 3 1 1 {HASH}
bare A 192.0.2.2
alias CNAME mx
target CNAME bare
_25._tcp.target TLSA 2 1 1 {HASH}
both CNAME mx
_25._tcp.both TLSA 2 0 1 {HASH}
away CNAME host.open.example.
_25._tcp.away TLSA 3 0 1 {HASH}
record A 192.0.2.3
_25._tcp.record CNAME _dane.mx
_dane.mx TLSA 3 1 1 {HASH}
lead A 192.0.2.3
_25._tcp.lead CNAME _25._tcp.host.open.example.
round CNAME round2
round2 CNAME round
$ORIGIN open.example.
host A 192.0.2.4
_25._tcp.host TLSA 3 1 1 {HASH}
back CNAME mx.signed.example.
"
    );
    super::table::Table::signed(&zone).unsigned("open.example")
}

/// RFC 7672 §2.2.2 and §2.2.3, RFC 7671 §7.
#[tokio::test]
async fn tlsa_records_count_where_dnssec_vouches_for_the_way() {
    let resolver = table().resolver();
    let found = async |host: &str| {
        let set = resolver.tlsa(&d(host), 25).await.unwrap()?;
        Some((set.base.to_string(), set.records[0].to_string().replace(HASH, "…")))
    };
    let set = |base: &str, record: &str| Some((base.to_owned(), record.to_owned()));
    assert_eq!(found("mx.signed.example").await, set("mx.signed.example", "3 1 1 …"));
    assert_eq!(found("bare.signed.example").await, None);
    assert_eq!(found("gone.signed.example").await, None);
    assert_eq!(found("host.open.example").await, None, "nobody vouches for it");
    // An alias: its target first, then the alias itself.
    assert_eq!(found("alias.signed.example").await, set("mx.signed.example", "3 1 1 …"));
    assert_eq!(found("target.signed.example").await, set("target.signed.example", "2 1 1 …"));
    assert_eq!(found("both.signed.example").await, set("mx.signed.example", "3 1 1 …"));
    // Only the alias stands in a signed zone; or only its target.
    assert_eq!(found("away.signed.example").await, set("away.signed.example", "3 0 1 …"));
    assert_eq!(found("back.open.example").await, None);
    // The records themselves may be an alias too.
    assert_eq!(found("record.signed.example").await, set("record.signed.example", "3 1 1 …"));
    assert_eq!(found("lead.signed.example").await, None);
}

/// RFC 7672 §2.1.2: what cannot be looked up is not absent.
#[tokio::test]
async fn a_failing_look_up_is_no_absence() {
    let fail = |name: &str| table().failing(name, DnsError::Temporary("SERVFAIL".into())).resolver();
    for (host, failing) in [
        ("mx.signed.example", "_25._tcp.mx.signed.example"),
        ("mx.signed.example", "mx.signed.example"),
        ("alias.signed.example", "_25._tcp.mx.signed.example"),
        ("target.signed.example", "_25._tcp.bare.signed.example"),
        ("away.signed.example", "_25._tcp.away.signed.example"),
    ] {
        assert!(fail(failing).tlsa(&d(host), 25).await.is_err(), "{host} without {failing}");
    }
    assert!(table().resolver().tlsa(&d("round.signed.example"), 25).await.is_err());
}

/// A name server at a port of this machine that answers about names that begin with `quick`, and about no others.
async fn silent_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut octets = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut octets).await {
            let mut message = Message::from_vec(&octets[..length]).unwrap();
            let name = message.queries[0].name().clone();
            if name.to_ascii().starts_with("quick") {
                message.metadata.message_type = MessageType::Response;
                message.answers.push(Record::from_rdata(name, 60, RData::TXT(TXT::new(vec!["here".to_owned()]))));
                socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn questions_of_strangers_that_nobody_answers_keep_none_of_ours_waiting() {
    let resolver = Resolver::new(&Source::NameServers(vec![silent_server().await]), &Dnssec::Off).unwrap();
    let mut flood = JoinSet::new();
    for name in (0..400).map(|number| format!("slow{number}.example")).chain(["quick1.example".to_owned()]) {
        let strangers = resolver.for_strangers();
        flood.spawn(async move { strangers.txt(&d(&name)).await.map(|answer| answer.value) });
    }
    sleep(Duration::from_millis(300)).await;
    for name in ["quick1.example", "quick2.example"] {
        let ours = timeout(Duration::from_secs(1), resolver.txt(&d(name))).await.expect("it waits for strangers");
        assert_eq!(ours.unwrap().value, ["here"]);
        let known = timeout(Duration::from_secs(1), resolver.for_strangers().txt(&d(name))).await;
        assert!(known.expect("it is known").is_ok());
    }
    assert!(timeout(Duration::from_millis(500), resolver.for_strangers().txt(&d("quick3.example"))).await.is_err());
}
