//! Evidence over a zone file: DKIM signed here and broken in every way, ARC sealed by the library, DMARC by the examples of
//! RFC 7489 appendix B, reverse DNS and lists.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::{Canonicalization, DkimSigner};
use policy::evidence::{DmarcPolicy, ListKind, NoAuthor, SpfVerdict};
use rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::dns::{Dnssec, Source};

struct World {
    _folder: tempfile::TempDir,
    authenticator: Authenticator,
}

impl World {
    fn new(zone: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zone");
        std::fs::write(&path, zone).unwrap();
        let settings = Settings {
            hostname: domain("mx.b.example"),
            block_lists: vec![domain("bl.example")],
            allow_lists: vec![domain("wl.example")],
            header_octets: 1 << 20,
            patience: Duration::from_secs(5),
        };
        let resolver = Resolver::new(&Source::ZoneFile(path), &Dnssec::Off).unwrap();
        Self { _folder: folder, authenticator: Authenticator::new(settings, resolver).unwrap() }
    }

    async fn judge(&self, message: &str, spf: Option<&Spf>) -> ContentEvidence {
        let mut reader = self.authenticator.content();
        message.as_bytes().chunks(11).for_each(|chunk| reader.push(chunk));
        self.authenticator.judge(&reader.finish().unwrap(), spf).await
    }
}

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

/// A TXT record, in strings of at most 200 octets.
fn txt(name: &str, text: &str) -> String {
    let strings: Vec<String> =
        text.as_bytes().chunks(200).map(|part| format!("{:?}", String::from_utf8_lossy(part))).collect();
    format!("{name}. TXT {}\n", strings.join(" "))
}

const MESSAGE: &str =
    "From: Alice <alice@a.example>\r\nTo: bob@b.example\r\nSubject: a  test\r\n\r\nHello,\r\n\r\nworld \r\n\r\n";

fn signed<K: SigningKey>(key: K, selector: &str, form: Canonicalization) -> String {
    let signer = DkimSigner::from_key(key).domain("a.example").selector(selector).headers(["From", "To", "Subject"]);
    let signer = signer.header_canonicalization(form).body_canonicalization(form);
    let signature = signer.sign(MESSAGE.as_bytes()).unwrap();
    format!("{}{MESSAGE}", signature.to_header())
}

struct Keys {
    rsa: Vec<u8>,
    ed25519: Vec<u8>,
    zone: String,
}

fn keys() -> Keys {
    let pair = RsaPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let ed25519 = Ed25519Key::generate_pkcs8().unwrap();
    let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(&ed25519).unwrap();
    let zone = txt("r._domainkey.a.example", &format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public.as_ref())))
        + &txt("e._domainkey.a.example", &format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(key.public_key())))
        + &txt("gone._domainkey.a.example", "v=DKIM1; p=");
    Keys { rsa: private.as_ref().to_vec(), ed25519, zone }
}

#[tokio::test]
async fn signatures_hold_until_something_is_changed() {
    let keys = keys();
    let world = World::new(&keys.zone);
    let rsa = || RsaKey::<Sha256>::from_key_der(PrivateKeyDer::Pkcs8(keys.rsa.clone().into())).unwrap();
    let ed25519 = || Ed25519Key::from_pkcs8_maybe_unchecked_der(&keys.ed25519).unwrap();
    for form in [Canonicalization::Simple, Canonicalization::Relaxed] {
        for message in [signed(rsa(), "r", form), signed(ed25519(), "e", form)] {
            let verdict = async |message: &str| world.judge(message, None).await.dkim[0].verdict;
            assert_eq!(verdict(&message).await, Verdict::Pass, "{message}");
            assert_eq!(verdict(&message.replace("world", "World")).await, Verdict::Fail);
            assert_eq!(verdict(&message.replace("a  test", "b  test")).await, Verdict::Fail);
            // White space in the header is what the two forms differ in.
            let folded = verdict(&message.replace("a  test", "a test")).await;
            assert_eq!(folded == Verdict::Pass, form == Canonicalization::Relaxed);
            // Lines that are added at the end of the body are none of either.
            assert_eq!(verdict(&format!("{message}\r\n\r\n")).await, Verdict::Pass);
        }
    }
    let unknown = world.judge(&signed(rsa(), "none", Canonicalization::Relaxed), None).await;
    assert_eq!(unknown.dkim[0].verdict, Verdict::PermError);
    let revoked = world.judge(&signed(rsa(), "gone", Canonicalization::Relaxed), None).await;
    assert!(!matches!(revoked.dkim[0].verdict, Verdict::Pass));
    assert_eq!((revoked.dkim[0].domain.as_str(), revoked.dkim[0].selector.as_str()), ("a.example", "gone"));
    assert!(world.judge(MESSAGE, None).await.dkim.is_empty());
}

/// RFC 5322 §4.5.8: blanks before the colon are obsolete, and still mean the field.
#[tokio::test]
async fn a_field_that_was_added_with_blanks_before_its_colon_breaks_the_signature() {
    let keys = keys();
    let world = World::new(&keys.zone);
    let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(&keys.ed25519).unwrap();
    let signer = DkimSigner::from_key(key).domain("a.example").selector("e");
    let signature = signer.headers(["From", "From", "Subject", "Subject"]).sign(MESSAGE.as_bytes()).unwrap();
    let signed = format!("{}{MESSAGE}", signature.to_header());
    let verdict = async |message: String| world.judge(&message, None).await.dkim[0].verdict;
    assert_eq!(verdict(signed.clone()).await, Verdict::Pass);
    for added in ["Subject : other", "subject\t:other", "From : ceo@b.example", "From: ceo@b.example"] {
        assert_eq!(verdict(format!("{added}\r\n{signed}")).await, Verdict::Fail, "{added}");
    }
    // What was signed so is covered as well.
    let obsolete = signed.replace("Subject: a", "Subject : a");
    assert_eq!(verdict(obsolete).await, Verdict::Pass, "the relaxed form drops them (RFC 6376 3.4.2)");
}

#[tokio::test]
async fn so_many_signatures_are_looked_at_and_no_more() {
    let world = World::new("a.example. A 192.0.2.1\n");
    let field = "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=AAAA; b=AAAA\r\n";
    let found = world.judge(&format!("{}{MESSAGE}", field.repeat(500)), None).await;
    assert_eq!(found.dkim.len(), 10);
}

fn spf(verdict: SpfVerdict, domain: &str) -> Spf {
    Spf { verdict, identity: Identity::MailFrom, domain: domain.to_owned() }
}

/// RFC 7489 appendix B.1: identifiers that are aligned, and that are not.
#[tokio::test]
async fn dmarc_follows_its_published_examples() {
    let relaxed = txt("_dmarc.example.com", "v=DMARC1; p=reject; rua=mailto:dmarc-feedback@example.com");
    let strict = relaxed.replace("p=reject;", "p=reject; aspf=s; adkim=s;");
    let (relaxed, strict) = (World::new(&relaxed), World::new(&strict));
    let judge = async |world: &World, sender: &str, from: &str| {
        let message = format!("From: {from}\r\nSubject: here's a sample\r\n\r\nx\r\n");
        world.judge(&message, Some(&spf(SpfVerdict::Pass, sender))).await.dmarc.verdict
    };
    // B.1.1: 1 aligned, 2 aligned in the relaxed mode only, 3 not aligned.
    for (sender, from, in_relaxed, in_strict) in [
        ("example.com", "sender@example.com", Verdict::Pass, Verdict::Pass),
        ("child.example.com", "sender@example.com", Verdict::Pass, Verdict::Fail),
        ("example.net", "sender@child.example.com", Verdict::Fail, Verdict::Fail),
    ] {
        assert_eq!(judge(&relaxed, sender, from).await, in_relaxed, "{sender} {from}");
        assert_eq!(judge(&strict, sender, from).await, in_strict, "{sender} {from}");
    }
    // Without SPF and DKIM, and where SPF does not pass.
    let message = "From: sender@example.com\r\n\r\nx\r\n";
    for sent in [None, Some(spf(SpfVerdict::Neutral, "example.com")), Some(spf(SpfVerdict::Fail, "example.com"))] {
        let found = relaxed.judge(message, sent.as_ref()).await.dmarc;
        assert_eq!((found.verdict, found.policy), (Verdict::Fail, DmarcPolicy::Reject));
    }
    let none = relaxed.judge("From: x@other.example\r\n\r\nx\r\n", None).await.dmarc;
    assert_eq!(none.verdict, Verdict::None);
}

/// The examples of authheaders' own tests: subdomains, names that do not exist, a public suffix with a record of its own. Nothing is
/// aligned in any of them.
#[tokio::test]
async fn dmarc_verdicts_are_those_of_authheaders() {
    let zone = [
        txt("_dmarc.example.com", "v=DMARC1; p=reject; rua=mailto:reports@example.org,mailto:agg@example.net"),
        txt("_dmarc.example.net", "v=DMARC1; p=none; sp=reject"),
        txt("_dmarc.example.biz", "v=DMARC1; p=none; sp=quarantine; np=reject"),
        txt("_dmarc.gov", "v=DMARC1; p=reject; sp=none; np=reject; rua=mailto:reports@example.org; psd=y"),
        "sub.example.net. A 192.0.2.1\nsub2.example.biz. A 192.0.2.1\nexample.gov. A 192.0.2.1\n".to_owned(),
    ];
    let world = World::new(&zone.concat());
    for (from, verdict, policy) in [
        ("example.com", Verdict::Fail, DmarcPolicy::Reject),
        ("sub.example.net", Verdict::Fail, DmarcPolicy::Reject),
        // Does not exist; does.
        ("sub.example.biz", Verdict::Fail, DmarcPolicy::Reject),
        ("sub2.example.biz", Verdict::Fail, DmarcPolicy::Quarantine),
        ("example.org", Verdict::None, DmarcPolicy::None),
    ] {
        let found = world.judge(&format!("From: Test <test@{from}>\r\n\r\nx\r\n"), None).await.dmarc;
        assert_eq!((found.verdict, found.policy), (verdict, policy), "{from}");
    }
    // Below a public suffix that has a record of its own, the record is a parent's: `sp` holds (RFC 9989 §4.7).
    let found = world.judge("From: x@example.gov\r\n\r\nx\r\n", None).await.dmarc;
    assert_eq!((found.verdict, found.policy), (Verdict::Fail, DmarcPolicy::None));
    // An author with a comma in its name is one author.
    let found = world.judge("From: \"Test, User\" <test@example.com>\r\n\r\nx\r\n", None).await;
    assert_eq!((found.from, found.dmarc.verdict), (Some(domain("example.com")), Verdict::Fail));
    // No author: nobody's policy.
    let found = world.judge("From: Test User\r\n\r\nx\r\n", None).await.dmarc;
    assert!(!matches!(found.verdict, Verdict::Pass | Verdict::Fail), "{found:?}");
}

/// RFC 7489 appendix B.1.2, with signatures that verify: `d=a.example` under From in its domain, below it, elsewhere.
#[tokio::test]
async fn dmarc_counts_signatures_that_are_aligned_and_hold() {
    let keys = keys();
    let records = txt("_dmarc.a.example", "v=DMARC1; p=quarantine; sp=reject");
    let world = World::new(&format!("{}{records}sub.a.example. A 192.0.2.1\n", keys.zone));
    let key = || Ed25519Key::from_pkcs8_maybe_unchecked_der(&keys.ed25519).unwrap();
    let message = signed(key(), "e", Canonicalization::Relaxed);
    assert_eq!(world.judge(&message, None).await.dmarc.verdict, Verdict::Pass);
    let broken = world.judge(&message.replace("world", "World"), None).await;
    assert_eq!((broken.dmarc.verdict, broken.dmarc.policy), (Verdict::Fail, DmarcPolicy::Quarantine));
    let below = world.judge("From: x@sub.a.example\r\n\r\nx\r\n", None).await;
    assert_eq!((below.dmarc.verdict, below.dmarc.policy), (Verdict::Fail, DmarcPolicy::Reject));
    assert_eq!(below.from, Some(domain("sub.a.example")));
}

#[tokio::test]
async fn a_from_with_several_domains_is_judged_by_the_strictest() {
    let world = World::new(&txt("_dmarc.bank.example", "v=DMARC1; p=reject"));
    for from in [
        "From: x@own.example, y@bank.example\r\n",
        "From: y@bank.example, x@own.example\r\n",
        "From: x@own.example\r\nFrom: y@bank.example\r\n",
    ] {
        let found = world.judge(&format!("{from}\r\nx\r\n"), Some(&spf(SpfVerdict::Pass, "own.example"))).await;
        assert_eq!((found.dmarc.verdict, found.dmarc.policy), (Verdict::Fail, DmarcPolicy::Reject), "{from}");
        assert_eq!(found.from, None);
    }
    let many: Vec<String> = (0..9).map(|n| format!("x@d{n}.example")).collect();
    let found = world.judge(&format!("From: {}\r\n\r\nx\r\n", many.join(", ")), None).await;
    assert_eq!(found.dmarc.verdict, Verdict::Fail);
}

/// RFC 7489 §6.6.1: whoever writes his domain so that nobody reads it does not escape its policy.
#[tokio::test]
async fn an_author_who_cannot_be_read_is_noticed() {
    let world = World::new(&txt("_dmarc.bank.example", "v=DMARC1; p=reject"));
    let judge = async |head: &str| world.judge(&format!("{head}Subject: x\r\n\r\nx\r\n"), None).await;
    // One final dot is one too many for mail, and still the name.
    for from in ["<ceo@bank.example.>", "CEO <ceo@BANK.example.>", "ceo@bank.example"] {
        let found = judge(&format!("From: {from}\r\n")).await;
        assert_eq!((found.dmarc.verdict, found.dmarc.policy), (Verdict::Fail, DmarcPolicy::Reject), "{from}");
        assert_eq!((found.no_author, found.from), (None, Some(domain("bank.example"))), "{from}");
    }
    // Obsolete, and the field that readers see (RFC 5322 §4.5.8).
    for name in ["From ", "from\t"] {
        let found = judge(&format!("{name}: <ceo@bank.example>\r\n")).await;
        assert_eq!((found.no_author, found.dmarc.verdict), (None, Verdict::Fail), "{name:?}");
    }
    for (head, why) in [
        ("From: <ceo@bank.example..>\r\n", NoAuthor::Unreadable),
        ("From: <ceo@bank..example>\r\n", NoAuthor::Unreadable),
        ("From: <ceo@[192.0.2.1]>\r\n", NoAuthor::Unreadable),
        ("From: x@own.example, <ceo@bank..example>\r\n", NoAuthor::Unreadable),
        ("From: \"ceo@bank.example\"\r\n", NoAuthor::Unreadable),
        ("From: Test User\r\n", NoAuthor::Unreadable),
        ("From:\r\n", NoAuthor::Unreadable),
        ("From: Group: ;\r\n", NoAuthor::Unreadable),
        ("", NoAuthor::Missing),
        ("X-From: x@own.example\r\n", NoAuthor::Missing),
        ("From: x@own.example\r\nFrom : x@own.example\r\n", NoAuthor::Doubled),
    ] {
        assert_eq!(judge(head).await.no_author, Some(why), "{head}");
    }
    for from in ["x@own.example, y@other.example", "Test, User <x@own.example>", "x@b\u{fc}cher.example"] {
        assert_eq!(judge(&format!("From: {from}\r\n")).await.no_author, None, "{from}");
    }
    assert_eq!(world.judge("\r\nx\r\n", None).await.no_author, Some(NoAuthor::Missing), "no header at all");
}

/// RFC 6376 §8.15: a signature of ours covers that there is no other field of the names that readers see.
#[tokio::test]
async fn what_is_signed_here_takes_no_second_field() {
    let keys = keys();
    let world = World::new(&keys.zone);
    let signer = signer::Signer::new(&domain("a.example"), &[("e".parse().unwrap(), keys.ed25519.clone())]).unwrap();
    let mut signing = signer.begin();
    signing.push(MESSAGE.as_bytes());
    let signed = format!("{}{MESSAGE}", signing.finish().unwrap());
    let verdict = async |message: String| world.judge(&message, None).await.dkim[0].verdict;
    assert_eq!(verdict(signed.clone()).await, Verdict::Pass);
    for field in [
        "From",
        "To",
        "Cc",
        "Subject",
        "Date",
        "Message-ID",
        "In-Reply-To",
        "References",
        "Reply-To",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    ] {
        let added = format!("{field}: x@attacker.example\r\n{signed}");
        assert_eq!(verdict(added).await, Verdict::Fail, "{field}");
    }
    assert_eq!(verdict(format!("Received: x\r\n{signed}")).await, Verdict::Pass);
}

/// RFC 6376 §8.15: whoever adds a From above the one that is signed is not signed by that.
#[tokio::test]
async fn a_signature_covers_every_author_or_nobody() {
    let keys = keys();
    let world = World::new(&keys.zone);
    let key = || Ed25519Key::from_pkcs8_maybe_unchecked_der(&keys.ed25519).unwrap();
    let message = signed(key(), "e", Canonicalization::Relaxed);
    let two = world.judge(&format!("From: x@other.example\r\n{message}"), None).await;
    assert_eq!(two.dkim[0].verdict, Verdict::Policy);
    assert_eq!(world.judge(&message, None).await.dkim[0].verdict, Verdict::Pass);
}

/// A field that signs what stands before it in relaxed form, with these tags and one for the signature.
fn by_hand(key: &Ed25519Key, signed: &str, name: &str, tags: &str) -> String {
    let text = format!("{signed}{}:{tags}; b=", name.to_lowercase());
    format!("{name}: {tags}; b={}\r\n", STANDARD.encode(key.sign(text.as_bytes()).unwrap()))
}

const AUTHOR: &str = "from:Alice <alice@a.example>\r\n";

fn body_hash(key: &Ed25519Key) -> String {
    STANDARD.encode(key.hash(b"Hello,\r\n\r\nworld\r\n".as_slice()).as_ref())
}

#[tokio::test]
async fn a_signature_that_is_not_written_as_it_has_to_be_is_none() {
    let keys = keys();
    let world = World::new(&keys.zone);
    let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(&keys.ed25519).unwrap();
    let tags = format!("v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.example; s=e; h=from; bh={}", body_hash(&key));
    let judged = async |tags: &str| {
        let signature = by_hand(&key, AUTHOR, "DKIM-Signature", tags);
        world.judge(&format!("{signature}{MESSAGE}"), None).await.dkim
    };
    assert_eq!(judged(&tags).await[0].verdict, Verdict::Pass);
    for (tag, instead) in [("v=1; ", ""), ("s=e", "s=e; s=e"), ("s=e", "s=e;"), ("s=e", "s=e; _=x")] {
        assert_eq!(judged(&tags.replacen(tag, instead, 1)).await, [], "{instead}");
    }
}

#[tokio::test]
async fn a_chain_whose_fields_are_not_written_as_they_have_to_be_fails() {
    let keys = keys();
    let world = World::new(&keys.zone);
    let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(&keys.ed25519).unwrap();
    let signature =
        format!("i=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.example; s=e; h=from; bh={}", body_hash(&key));
    let seal = "i=1; a=ed25519-sha256; cv=none; d=a.example; s=e";
    let judged = async |signature: &str, seal: &str| {
        let results = "i=1; mx.a.example; dmarc=pass";
        let signed = by_hand(&key, AUTHOR, "ARC-Message-Signature", signature);
        let canonical = signed.replace("ARC-Message-Signature: ", "arc-message-signature:");
        let sealed = format!("arc-authentication-results:{results}\r\n{canonical}");
        let seal = by_hand(&key, &sealed, "ARC-Seal", seal);
        let message = format!("{seal}{signed}ARC-Authentication-Results: {results}\r\n{MESSAGE}");
        world.judge(&message, None).await.arc.verdict
    };
    assert_eq!(judged(&signature, seal).await, Verdict::Pass);
    for (tag, instead) in [("s=e", "s=e; s=e"), ("s=e", "s=e;"), ("s=e", "s=e; _=x"), ("h=from", "h=from:arc-seal")] {
        assert_eq!(judged(&signature.replacen(tag, instead, 1), seal).await, Verdict::Fail, "{instead}");
    }
    for instead in ["s=e; s=e", "s=e;", "s=e; _=x"] {
        assert_eq!(judged(&signature, &seal.replacen("s=e", instead, 1)).await, Verdict::Fail, "{instead}");
    }
}

#[tokio::test]
async fn a_seal_of_ours_holds_and_says_what_was_found() {
    let keys = keys();
    let signer = signer::Signer::new(&domain("a.example"), &[("r".parse().unwrap(), keys.rsa.clone())]).unwrap();
    let world = World::new(&keys.zone);
    let mut message = MESSAGE.to_owned();
    for (results, passed) in [("dmarc=pass", true), ("dmarc=fail", false)] {
        let mut reader = world.authenticator.content().to_be_sealed();
        reader.push(message.as_bytes());
        let content = reader.finish().unwrap();
        let chain = world.authenticator.judge(&content, None).await.arc.verdict;
        let results = format!("Authentication-Results: mx.b.example; {results}\r\n");
        let seal = signer.seal(&content, &results, chain, Timestamp::from_secs(1_700_000_000)).unwrap();
        message = format!("{seal}{message}");
        let found = world.judge(&message, None).await.arc;
        assert_eq!(found.verdict, Verdict::Pass, "{message}");
        assert_eq!((found.sealer, found.dmarc_passed), (Some(domain("a.example")), passed));
    }
    // What was changed on the way is sealed as broken, and nobody seals that again.
    let mut changed = message.replace("world", "World");
    for sealed in [true, false] {
        let mut reader = world.authenticator.content().to_be_sealed();
        reader.push(changed.as_bytes());
        let content = reader.finish().unwrap();
        let chain = world.authenticator.judge(&content, None).await.arc.verdict;
        assert_eq!(chain, Verdict::Fail);
        let results = "Authentication-Results: mx.b.example; arc=fail\r\n";
        let seal = signer.seal(&content, results, chain, Timestamp::from_secs(1_700_000_000)).unwrap();
        assert_eq!(seal.contains("cv=fail"), sealed, "{seal}");
        changed = format!("{seal}{changed}");
        assert_eq!(world.judge(&changed, None).await.arc.verdict, Verdict::Fail);
    }
    // Content that was not read to be sealed is not.
    let mut reader = world.authenticator.content();
    reader.push(MESSAGE.as_bytes());
    let none = signer.seal(
        &reader.finish().unwrap(),
        "Authentication-Results: x; none\r\n",
        Verdict::None,
        Timestamp::from_secs(1),
    );
    assert_eq!(none.unwrap(), "");
}

#[tokio::test]
async fn clients_have_names_and_stand_on_lists() {
    let world = World::new(
        "1.2.0.192.in-addr.arpa. PTR mx.a.example.\nmx.a.example. A 192.0.2.1\n\
         2.2.0.192.in-addr.arpa. PTR mx.a.example.\n\
         1.2.0.192.wl.example. A 127.0.5.1\n3.2.0.192.bl.example. A 127.0.0.2\n\
         4.2.0.192.bl.example. A 192.0.2.99\n5.2.0.192.bl.example. A 127.255.255.254\n",
    );
    let client = async |address: [u8; 4]| world.authenticator.client(address.into()).await;
    let good = client([192, 0, 2, 1]).await;
    assert_eq!(good.reverse, Reverse { verdict: Verdict::Pass, name: Some(domain("mx.a.example")) });
    assert_eq!(good.listings.len(), 1);
    assert_eq!((good.listings[0].kind, &good.listings[0].zone), (ListKind::Allow, &domain("wl.example")));
    assert_eq!(client([192, 0, 2, 2]).await.reverse.verdict, Verdict::Fail, "its name is another's");
    let bad = client([192, 0, 2, 3]).await;
    assert_eq!((bad.reverse.verdict, bad.listings[0].kind), (Verdict::PermError, ListKind::Block));
    // A parked domain, and a list that will not answer, list nobody.
    assert!(client([192, 0, 2, 4]).await.listings.is_empty());
    assert!(client([192, 0, 2, 5]).await.listings.is_empty());
}

#[tokio::test]
async fn spf_is_asked_of_the_reverse_path_or_of_helo() {
    let zone = txt("a.example", "v=spf1 ip4:192.0.2.1 -all") + &txt("mx.c.example", "v=spf1 a -all");
    let world = World::new(&format!("{zone}mx.c.example. A 192.0.2.3\n"));
    let now = Timestamp::from_secs(1_800_000_000);
    let alice = Address::parse("alice@a.example").unwrap();
    let check = async |client: [u8; 4], sender: Option<&Address>| {
        let found = world.authenticator.spf(client.into(), "mx.c.example", sender, now).await.unwrap();
        (found.verdict, found.identity)
    };
    assert_eq!(check([192, 0, 2, 1], Some(&alice)).await, (SpfVerdict::Pass, Identity::MailFrom));
    assert_eq!(check([192, 0, 2, 3], Some(&alice)).await, (SpfVerdict::Fail, Identity::MailFrom));
    assert_eq!(check([192, 0, 2, 3], None).await, (SpfVerdict::Pass, Identity::Helo));
    assert!(world.authenticator.spf([192, 0, 2, 3].into(), "[192.0.2.3]", None, now).await.is_none());
}
