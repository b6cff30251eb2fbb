//! The bodies of all fuzz targets: hand a parser or a session anything, and check what must hold of its answer.
//!
//! `cargo fuzz run --features libfuzzer TARGET` looks for new inputs; `cargo test -p restante-fuzz` replays `corpus/` and
//! a few thousand mutations of it. A target panics when a promise is broken, and for no other reason.

mod client;
mod coding;
mod content;
mod denial;
mod http;
mod local;
mod milter;
mod names;
mod oracle;
mod renewal;
mod sasl;
mod session;
mod submission;

use bytes::BytesMut;
use mail::object::Checker;
use mail::seven_bit::SevenBit;
use mail::{Address, Domain};
use policy::scrub::Scrubber;
use policy::scrub::trace_above;
use policy::spf::{self, Answer, Answers, Query, Question, Step};
use reference::body::{JsonBody, Revision1};
use reference::bundle::{Heard, Kind, MailList, Manifest, TakenList};
use reference::claims::{ClaimsAnswer, ClaimsRequest, ReceiptsAnswer, ReceiptsRequest};
use reference::delegate::{DelegateAnswer, DelegateRequest};
use reference::message_signature::parse as parse_signatures;
use reference::pending::PendingList;
use reference::upload::{MailAnswer, parse_offset, parse_path, upload_path};
use reference::{Block, DomainFacts, DomainRecord, Hop, KeyRecord, OfferLine, Reference, Uri};
use restante::bundle::archive::{Fault, Found, Name, Reader};
use smtp::Command;
use smtp::reply::reader::ReplyReader;

pub use client::{lmtp_client, smtp_client, smtp_client_customer, smtp_client_offer};
pub use coding::coding;
pub use content::content;
pub use denial::denial;
pub use http::{http_answer, http_repository};
pub use local::{accounts, config, key_file, routes, zone};
pub use milter::{milter_content, milter_reply};
pub use names::tlsa;
pub use oracle::smtp_oracle;
pub use renewal::renewal;
pub use sasl::sasl;
pub use session::{smtp_offers, smtp_on_demand, smtp_server, smtp_submission};
pub use submission::{compose, submission, verify};

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("address", address),
    ("object", object),
    ("seven_bit", seven_bit),
    ("uri", uri),
    ("offer", offer),
    ("block", block),
    ("hop", hop),
    ("stored", stored),
    ("verify", verify),
    ("compose", compose),
    ("submission", submission),
    ("config", config),
    ("accounts", accounts),
    ("routes", routes),
    ("zone", zone),
    ("key_file", key_file),
    ("records", records),
    ("document", document),
    ("claims", claims),
    ("pending", pending),
    ("receipts", receipts),
    ("bundle", bundle),
    ("upload", upload),
    ("delegations", delegations),
    ("spf", spf),
    ("scrub", scrub),
    ("sealed", sealed),
    ("content", content),
    ("coding", coding),
    ("message_signature", message_signature),
    ("smtp_command", smtp_command),
    ("smtp_oracle", smtp_oracle),
    ("smtp_reply", smtp_reply),
    ("smtp_server", smtp_server),
    ("smtp_offers", smtp_offers),
    ("smtp_submission", smtp_submission),
    ("smtp_on_demand", smtp_on_demand),
    ("smtp_client", smtp_client),
    ("smtp_client_offer", smtp_client_offer),
    ("smtp_client_customer", smtp_client_customer),
    ("lmtp_client", lmtp_client),
    ("http_answer", http_answer),
    ("http_repository", http_repository),
    ("mta_sts", mta_sts),
    ("report", report),
    ("report_places", report_places),
    ("milter_reply", milter_reply),
    ("milter_content", milter_content),
    ("tlsa", tlsa),
    ("denial", denial),
    ("renewal", renewal),
    ("sasl", sasl),
];

/// What parses as an address or a domain is written back to itself, and cannot break a line.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse(address.as_str()).as_ref(), Ok(&address));
        assert!(!address.as_str().contains(['\r', '\n', '\0']));
    }
    if let Ok(domain) = Domain::parse(text) {
        assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(&domain));
    }
}

/// What a sealer says does not change with a comment in front of it; only one who writes the words can have said them.
pub fn sealed(data: &[u8]) {
    use policy::sealed::says_dmarc_passed;
    let passed = says_dmarc_passed(data);
    assert_eq!(says_dmarc_passed(&[b"(; dmarc=pass;) ", data].concat()), passed);
    let word = |word: &[u8]| data.to_ascii_lowercase().windows(word.len()).any(|found| found == word);
    assert!(!passed || word(b"dmarc") && word(b"pass"));
}

/// A policy that is read is written back to itself, and one that demands anything names a host. An id is a word.
pub fn mta_sts(data: &[u8]) {
    use mail::mta_sts::{MAX_AGE, Mode, Policy, policy_id};
    if let Ok(policy) = Policy::parse(data) {
        assert_eq!(Policy::parse(policy.to_string().as_bytes()).as_ref(), Ok(&policy));
        assert!(policy.mode == Mode::None || !policy.mx.is_empty());
        assert!(policy.max_age() <= MAX_AGE);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(id) = policy_id([text]) {
        assert!(id.bytes().all(|octet| octet.is_ascii_alphanumeric()));
    }
}

/// The verdict on content does not depend on how it is cut. The first octet says where.
pub fn object(data: &[u8]) {
    let Some((cut, content)) = data.split_first() else { return };
    let cut = usize::from(*cut).min(content.len());
    let (mut whole, mut parts) = (Checker::default(), Checker::default());
    whole.update(content);
    parts.update(&content[..cut]);
    content[cut..].chunks(3).for_each(|chunk| parts.update(chunk));
    assert_eq!(whole.finish(), parts.finish());
}

/// What is converted is 7-bit, in lines that every server takes, however the content is cut. The first octet says where.
pub fn seven_bit(data: &[u8]) {
    let Some((cut, content)) = data.split_first() else { return };
    let mut checker = Checker::default();
    checker.update(content);
    let is_object = checker.finish().verdict.is_ok();
    let convert = |parts: &[&[u8]]| {
        let (mut converter, mut out) = (SevenBit::default(), Vec::new());
        parts.iter().try_for_each(|part| converter.update(part, &mut out))?;
        converter.finish(&mut out).map(|()| out)
    };
    let (head, tail) = content.split_at(usize::from(*cut).min(content.len()));
    let whole = convert(&[content]);
    assert_eq!(convert(&[head, tail]), whole);
    if let (Ok(converted), true) = (&whole, is_object) {
        assert!(converted.is_ascii());
        let mut again = Checker::default();
        again.update(converted);
        assert!(again.finish().verdict.is_ok(), "an object no more");
    }
}

/// A URI has one form.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(uri) = Uri::parse(text) {
        assert_eq!(uri.reveal(), text);
    }
}

/// The arguments of a TBR line have one form.
pub fn offer(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(line) = OfferLine::parse(text) {
        assert_eq!(line.encode(), format!("TBR {text}\r\n"));
    }
}

/// What a block says survives being written anew.
pub fn block(data: &[u8]) {
    if let Ok(block) = Block::parse(data) {
        assert_eq!(block.as_str().as_bytes(), data);
        let again = Block::of(block.chain().clone());
        let parsed = Block::parse(again.as_str().as_bytes()).expect("what we write, we read");
        assert_eq!(parsed.chain(), block.chain());
    }
}

/// What a reference or a hop says survives being written anew.
pub fn hop(data: &[u8]) {
    if let Ok(reference) = Reference::parse(data) {
        let field = reference.encode();
        let value = field.strip_prefix("TBR-Reference:").and_then(|f| f.strip_suffix("\r\n")).expect("a field");
        assert_eq!(Reference::parse(value.as_bytes()).as_ref(), Ok(&reference));
    }
    if let Ok(hop) = Hop::parse(data) {
        let field = hop.encode();
        let value = field.strip_prefix("TBR-Hop:").and_then(|f| f.strip_suffix("\r\n")).expect("a field");
        assert_eq!(Hop::parse(value.as_bytes()).as_ref(), Ok(&hop));
    }
}

/// The object of a stored message lies within it.
pub fn stored(data: &[u8]) {
    for stored in [reference::split_stored(data), reference::split_stored_lf(data)].into_iter().flatten() {
        assert!(stored.object_at <= data.len());
    }
}

/// Records survive being written anew.
pub fn records(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (Ok(domain), Ok(selector)) = (Domain::parse("a.example"), "k1".parse()) else { return };
    if let Ok(Some(record)) = DomainRecord::from_txt(&domain, [text]) {
        let again = record.to_txt();
        assert_eq!(DomainRecord::from_txt(&domain, [again.as_str()]), Ok(Some(record)));
    }
    if let Ok(Some(record)) = KeyRecord::from_txt(&selector, [text]) {
        let again = record.to_txt();
        assert_eq!(KeyRecord::from_txt(&selector, [again.as_str()]), Ok(Some(record)));
    }
}

/// A document survives being written anew.
pub fn document(data: &[u8]) {
    let Ok(domain) = Domain::parse("a.example") else { return };
    if let Ok(facts) = DomainFacts::from_document(&domain, data) {
        let again = facts.to_document().expect("what we read, we write");
        assert_eq!(DomainFacts::from_document(&domain, &again), Ok(facts));
    }
}

/// A page of what is pending: what is read is written the same, and its trace can end no header.
pub fn pending(data: &[u8]) {
    let Ok(list) = PendingList::parse(data) else { return };
    let again = list.encode().expect("what we read, we write");
    assert_eq!(PendingList::parse(&again).as_ref(), Ok(&list));
    let ours = "mx.b.example".parse().expect("a name");
    for trace in list.pending.iter().filter_map(|offer| trace_above(&offer.trace, &ours)) {
        assert!(trace.is_empty() || trace.ends_with("\r\n"));
        assert!(!trace.starts_with("\r\n") && !trace.contains("\r\n\r\n"));
    }
}

/// Claims and their answers survive being written anew.
pub fn claims(data: &[u8]) {
    if let Ok(request) = ClaimsRequest::parse(data) {
        let again = request.encode().expect("what we read, we write");
        assert_eq!(ClaimsRequest::parse(&again), Ok(request));
    }
    let _ = ClaimsAnswer::parse(data);
}

/// Receipts and their answers survive being written anew.
pub fn receipts(data: &[u8]) {
    if let Ok(request) = ReceiptsRequest::parse(data) {
        let again = request.encode().expect("what we read, we write");
        assert_eq!(ReceiptsRequest::parse(&again), Ok(request));
    }
    let _ = ReceiptsAnswer::parse(data);
}

/// What a site's list is answered survives being written anew; it answers a list of its own at most. A path and an offset have one
/// form.
pub fn upload(data: &[u8]) {
    if let Ok(answer) = MailAnswer::parse(data) {
        let again = answer.encode().expect("what we read, we write");
        assert_eq!(MailAnswer::parse(&again), Ok(answer.clone()));
        let nothing = MailList { v: Revision1, mail: Vec::new() };
        assert_eq!(answer.answers(&nothing), answer.taken.is_empty() && answer.wanted.is_empty());
    }
    if let Ok(list) = MailList::parse(data) {
        let again = list.encode().expect("what we read, we write");
        assert_eq!(MailList::parse(&again), Ok(list));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(xuid) = parse_path(text) {
        assert_eq!(upload_path(&xuid), text);
    }
    if let Some(offset) = parse_offset(text) {
        assert_eq!(offset.to_string(), text);
    }
}

/// An archive is read alike however it is cut; its files are as long as they say, and have one name. The first octet says how.
/// What is read of its manifest, and of what was heard, survives being written anew.
pub fn bundle(data: &[u8]) {
    let Some((cut, archive)) = data.split_first() else { return };
    let whole = files_of_bundle(archive, archive.len().max(1));
    assert_eq!(whole, files_of_bundle(archive, usize::from(*cut) + 1));
    for (name, size, body, is_whole) in &whole.0 {
        assert!(!is_whole || *size == body.len() as u64);
        if *name == Name::Manifest
            && let Ok(manifest) = Manifest::parse(body)
        {
            let again = manifest.encode().expect("what we read, we write");
            assert_eq!(Manifest::parse(&again), Ok(manifest));
        }
        if let (Name::Part(_, Kind::Mail), Ok(list)) = (name, MailList::parse(body)) {
            let again = list.encode().expect("what we read, we write");
            assert_eq!(MailList::parse(&again), Ok(list));
        }
        if let (Name::Part(_, Kind::Taken), Ok(list)) = (name, TakenList::parse(body)) {
            let again = list.encode().expect("what we read, we write");
            assert_eq!(TakenList::parse(&again), Ok(list));
        }
        if let (Name::Part(_, Kind::Heard), Ok(heard)) = (name, Heard::parse(body)) {
            let again = heard.encode().expect("what we read, we write");
            assert_eq!(Heard::parse(&again), Ok(heard));
        }
    }
}

/// Name, size, octets, and whether all of them came.
type FileOfBundle = (Name, u64, Vec<u8>, bool);

fn files_of_bundle(archive: &[u8], cut: usize) -> (Vec<FileOfBundle>, Option<Fault>, bool) {
    let (mut reader, mut files) = (Reader::default(), Vec::<FileOfBundle>::new());
    for chunk in archive.chunks(cut) {
        let mut input = bytes::Bytes::copy_from_slice(chunk);
        loop {
            match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Found::Begin(name, size))) => files.push((name, size, Vec::new(), false)),
                Ok(Some(Found::Octets(octets))) => files.last_mut().expect("a file").2.extend_from_slice(&octets),
                Ok(Some(Found::Complete)) => files.last_mut().expect("a file").3 = true,
                Ok(Some(Found::End)) => return (files, None, true),
                Err(fault) => return (files, Some(fault), false),
            }
        }
    }
    (files, None, false)
}

/// Delegations and their answers survive being written anew, and hold a hop by reference.
pub fn delegations(data: &[u8]) {
    if let Ok(request) = DelegateRequest::parse(data) {
        assert_eq!(request.hop.hop().statement().mode, reference::HopMode::Reference);
        let again = request.encode().expect("what we read, we write");
        assert_eq!(DelegateRequest::parse(&again), Ok(request));
    }
    if let Ok(answer) = DelegateAnswer::parse(data) {
        assert_eq!(answer.encode().and_then(|again| DelegateAnswer::parse(&again)), Ok(answer));
    }
}

/// Any record, met at every name, comes to a verdict after few questions, and its explanation breaks no line.
pub fn spf(data: &[u8]) {
    let client = std::net::IpAddr::from([192, 0, 2, 1]);
    let now = mail::Timestamp::from_secs(1_800_000_000);
    let query = Query { client, helo: "mx.a.example", mail_from: "a+b@a.example", receiver: "mx.b.example", now };
    let mut answers = Answers::new();
    let outcome = loop {
        match spf::check(&query, &answers) {
            Step::Done(outcome) => break outcome,
            Step::Ask(question) => {
                let answer = match &question {
                    Question::Txt(_) => Answer::Texts(vec![data.to_vec()]),
                    Question::Addresses(name, _) if name.len() % 2 == 0 => Answer::Nothing,
                    Question::Addresses(..) => Answer::Addresses(vec![[192, 0, 2, 9].into()]),
                    Question::Exchanges(name) => Answer::Names(vec![name.clone(), "mx.a.example".to_owned()]),
                    Question::Names(_) => Answer::Names(vec!["h.a.example".to_owned(); 3]),
                };
                assert!(answers.insert(question, answer).is_none(), "asked twice");
                assert!(answers.len() < 200, "asked too often");
            }
        }
    };
    assert!(outcome.explanation.is_none_or(|text| text.len() <= 512 && text.chars().all(|c| matches!(c, ' '..='~'))));
}

/// Nothing is lost or added but the names of renamed fields, however the content is cut. The first octet says how.
pub fn scrub(data: &[u8]) {
    let Some((cut, content)) = data.split_first() else { return };
    let Ok(authserv) = Domain::parse("mx.b.example") else { return };
    let run = |length: usize| {
        let (mut scrubber, mut out) = (Scrubber::new(&authserv), Vec::new());
        content.chunks(length).for_each(|chunk| scrubber.push(chunk, &mut out));
        scrubber.finish(&mut out);
        (out, scrubber.renamed() as usize)
    };
    let (out, renamed) = run(usize::from(*cut) + 1);
    assert_eq!((&out, renamed), (&run(content.len().max(1)).0, run(1).1));
    assert_eq!(out.len(), content.len() + renamed * "X-Untrusted-".len());
}

/// `Signature-Input` and, behind a line feed, `Signature`: what is read of a request stands in it, in one form.
pub fn message_signature(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (input, signature) = text.split_once('\n').unwrap_or((text, ""));
    for presented in parse_signatures(input, signature).unwrap_or_default() {
        assert!(input.contains(presented.parameters()));
        assert_eq!(presented.id.to_string().parse().as_ref(), Ok(&presented.id));
        assert!(presented.parameters().contains(&format!("keyid=\"{}\"", presented.id)));
    }
}

/// What parses as a command survives being written anew.
pub fn smtp_command(data: &[u8]) {
    if let Ok(command) = Command::parse(data) {
        let mut written = Vec::new();
        command.write_to(&mut written);
        let line = written.strip_suffix(b"\r\n").expect("a line");
        assert_eq!(Command::parse(line).as_ref(), Ok(&command));
    }
}

/// Replies are read alike however they are cut.
pub fn smtp_reply(data: &[u8]) {
    let read = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut input, mut replies) = (ReplyReader::default(), BytesMut::new(), Vec::new());
        for chunk in chunks {
            input.extend_from_slice(chunk);
            loop {
                match reader.read(&mut input) {
                    Ok(Some(reply)) => replies.push(format!("{reply:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        replies.push(format!("{error:?}"));
                        return replies;
                    }
                }
            }
        }
        replies
    };
    assert_eq!(read(&mut std::iter::once(data)), read(&mut data.chunks(1)));
}

/// A message with a report in it is read within limits, and what is kept of it holds no control characters.
pub fn report(data: &[u8]) {
    if let Some(Ok((_, report))) = restante::reports::inbox::find(data) {
        assert!(no_controls(&report), "{report}");
    }
    let media_type = "application/tlsrpt+json".to_owned();
    let part = restante::reports::inbox::Part { media_type, file_name: String::new(), octets: data.to_vec() };
    if let Some(Ok(report)) = restante::reports::tls::read_part(&part) {
        assert!(no_controls(&report), "{report}");
    }
    for media_type in ["text/xml", "application/gzip", "application/zip"] {
        let part = restante::reports::inbox::Part { media_type: media_type.to_owned(), ..part.clone() };
        if let Some(Ok(report)) = restante::reports::dmarc::read_part(&part) {
            assert!(no_controls(&report), "{report}");
        }
    }
}

fn no_controls(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => !text.chars().any(char::is_control),
        serde_json::Value::Array(values) => values.iter().all(no_controls),
        serde_json::Value::Object(fields) => fields.values().all(no_controls),
        _ => true,
    }
}

/// Places for reports are few, and are written back to themselves.
pub fn report_places(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let places = mail::tls_rpt::places(text.lines());
    assert!(places.len() <= mail::tls_rpt::MAX_PLACES);
    for place in places {
        let written = place.to_string();
        assert!(!written.contains(|c: char| c.is_whitespace() || c.is_control()), "{written}");
        assert_eq!(written.parse(), Ok(place));
    }
}
