//! From a configuration to its records, and what is made of what others publish.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use net::dns::Exchange;

use super::compare::{Seen, Verdict, judge};
use super::*;

fn d(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

/// A configuration of a.example with a key and a certificate.
fn config(directory: &std::path::Path, repository: &str) -> Config {
    crate::keys::write(&directory.join("k1.pem"), &reference::SigningKey::generate().unwrap()).unwrap();
    let names = vec!["mx.a.example".to_owned(), "tbr.a.example".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(directory.join("c.pem"), certified.cert.pem()).unwrap();
    fs::write(directory.join("c.key"), certified.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(directory.join("c.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "hostname = \"mx.a.example\"\n[[certificate]]\ncert = \"c.pem\"\nkey = \"c.key\"\n\
         [[listener]]\nkind = \"relay\"\naddress = \"9.9.9.9:25\"\n\
         [[listener]]\nkind = \"repository\"\naddress = \"0.0.0.0:443\"\n\
         [[domain]]\nname = \"a.example\"\n[domain.tbr]\nselector = \"k1\"\nkey = \"k1.pem\"\nrepository = \"{repository}\"\n\
         [domain.mta_sts]\nmode = \"testing\"\nmx = [\"mx.a.example\", \"*.backup.example\"]\n"
    );
    Config::parse(&text, &directory.join("restante.toml")).unwrap()
}

fn find<'a>(records: &'a [Record], name: &str, purpose: Purpose) -> &'a Record {
    let found = records.iter().find(|record| record.name == d(name) && record.purpose == purpose);
    found.unwrap_or_else(|| panic!("{name} is not among {records:#?}"))
}

#[test]
fn everything_a_domain_needs_is_a_zone_file() {
    let directory = tempfile::tempdir().unwrap();
    let records = wanted(&config(directory.path(), "tbr.a.example"), None, now()).unwrap();
    let text = zone::text(&records, &[]);
    for line in [
        "mx.a.example. IN A 9.9.9.9",
        "mx.a.example. IN TXT \"v=spf1 a -all\"",
        "_25._tcp.mx.a.example. IN TLSA 3 1 1 ",
        "a.example. IN MX 10 mx.a.example.",
        "a.example. IN TXT \"v=spf1 mx -all\"",
        "_dmarc.a.example. IN TXT \"v=DMARC1; p=none; rua=mailto:postmaster@a.example\"",
        "_tbr.a.example. IN TXT \"v=TBR1; repo=tbr.a.example\"",
        "k1._tbr.a.example. IN TXT \"v=TBR1; a=ed25519; p=",
        "mta-sts.a.example. IN CNAME mx.a.example.",
        "_mta-sts.a.example. IN TXT \"v=STSv1; id=",
        "_443._tcp.tbr.a.example. IN TLSA 3 1 1 ",
        "tbr.a.example. IN CNAME mx.a.example.",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} is missing in\n{text}");
    }
    // Our own resolver reads it back.
    let file = directory.path().join("zone");
    fs::write(&file, &text).unwrap();
    net::dns::zone::Zone::load(&file).unwrap();
}

#[test]
fn a_host_outside_the_domain_consents_and_has_no_certificate_of_ours() {
    let directory = tempfile::tempdir().unwrap();
    let records = wanted(&config(directory.path(), "objects.b.example"), None, now()).unwrap();
    find(&records, "a.example._tbr-host.objects.b.example", Purpose::Tbr);
    let certified: Vec<_> = records.iter().filter(|r| matches!(r.data, Data::Tlsa { .. })).map(|r| &r.name).collect();
    assert_eq!(certified, [&d("_25._tcp.mx.a.example"), &d("_443._tcp.tbr.a.example")]);
}

#[test]
fn what_serves_is_good_and_what_does_not_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let records = wanted(&config(directory.path(), "tbr.a.example"), None, now()).unwrap();
    let verdict = |name: &str, purpose, texts: &[&str]| {
        let seen = Seen::Texts(texts.iter().map(ToString::to_string).collect());
        let finding = judge(find(&records, name, purpose), seen, now());
        assert_eq!(finding.verdict == Verdict::Change, finding.advice.is_some() && finding.verdict != Verdict::Good);
        (finding.verdict, finding.advice.unwrap_or_default())
    };
    let good =
        |name: &str, purpose, texts: &[&str]| assert_eq!(verdict(name, purpose, texts).0, Verdict::Good, "{name}");
    let bad = |name: &str, purpose, texts: &[&str], words: &str| {
        let (verdict, advice) = verdict(name, purpose, texts);
        assert!(verdict == Verdict::Change && advice.contains(words), "{name} {texts:?}: {verdict:?} {advice}");
    };
    good("a.example", Purpose::Spf, &["v=spf1 mx -all", "google-site-verification=x"]);
    good("a.example", Purpose::Spf, &["v=spf1 include:x.example -all"]);
    bad("a.example", Purpose::Spf, &["v=spf1 +all"], "everybody");
    bad("a.example", Purpose::Spf, &["v=spf1 mx", "v=spf1 a"], "several");
    bad("a.example", Purpose::Spf, &["v=spf10 mx"], "there is no v=spf1 record");
    good("_dmarc.a.example", Purpose::Dmarc, &["v=DMARC1; p=reject"]);
    bad("_dmarc.a.example", Purpose::Dmarc, &[], "there is no");
    good("_tbr.a.example", Purpose::Tbr, &["v=TBR1; repo=x.example,tbr.a.example; sub=y"]);
    bad("_tbr.a.example", Purpose::Tbr, &["v=TBR1; repo=x.example"], "does not name tbr.a.example");
    let Data::Txt { text: sts } = &find(&records, "_mta-sts.a.example", Purpose::MtaSts).data else { panic!() };
    good("_mta-sts.a.example", Purpose::MtaSts, &[sts, "x"]);
    bad("_mta-sts.a.example", Purpose::MtaSts, &["v=STSv1; id=0"], "another policy");
    bad("_mta-sts.a.example", Purpose::MtaSts, &[sts, sts], "no policy");
    good("mx.a.example", Purpose::Host, &["9.9.9.9", "2620:fe::9"]);
    bad("mx.a.example", Purpose::Host, &[], "no address");
    bad("tbr.a.example", Purpose::Tbr, &[], "CNAME mx.a.example.");
    let Data::Txt { text: key } = &find(&records, "k1._tbr.a.example", Purpose::Tbr).data else { panic!() };
    good("k1._tbr.a.example", Purpose::Tbr, &[key]);
    bad("k1._tbr.a.example", Purpose::Tbr, &["v=TBR1; revoked"], "revoked");
    let other = key.split_once("na=").unwrap().0;
    bad("k1._tbr.a.example", Purpose::Tbr, &[&format!("{other}na=1800000100")], "within 30 days");
    bad("k1._tbr.a.example", Purpose::Tbr, &[&format!("{other}na=1799999999")], "may not sign now");
    let strange = reference::SigningKey::generate().unwrap().verifying_key();
    let strange = KeyRecord::active("k1".parse().unwrap(), strange, now(), now()).to_txt();
    bad("k1._tbr.a.example", Purpose::Tbr, &[&strange], "another key");
}

#[test]
fn mail_must_come_here() {
    let directory = tempfile::tempdir().unwrap();
    let records = wanted(&config(directory.path(), "tbr.a.example"), None, now()).unwrap();
    let mx = find(&records, "a.example", Purpose::Mail);
    let hosts = |names: &[&str]| {
        let hosts = names.iter().map(|name| Exchange { preference: 5, host: d(name) }).collect();
        judge(mx, Seen::Exchanges(net::dns::Exchanges::Hosts(hosts)), now())
    };
    assert_eq!(hosts(&["mx2.b.example", "mx.a.example"]).verdict, Verdict::Good);
    assert_eq!(hosts(&["mx2.b.example"]).verdict, Verdict::Change);
    assert_eq!(judge(mx, Seen::Exchanges(net::dns::Exchanges::Null), now()).verdict, Verdict::Change);
    let failed = judge(mx, Seen::Failed("SERVFAIL".into()), now());
    assert_eq!((failed.verdict, failed.advice.as_deref()), (Verdict::Unknown, Some("SERVFAIL")));
}

#[test]
fn long_texts_are_split_and_escaped() {
    let text = format!("v=X; {}\"\\", "a".repeat(300));
    let record = Record { name: d("x.example"), data: Data::Txt { text: text.clone() }, purpose: Purpose::Dmarc };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("zone");
    fs::write(&file, zone::text(&[record], &[])).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = runtime.block_on(async {
        let resolver = net::dns::Resolver::new(&net::dns::Source::ZoneFile(file), &net::dns::Dnssec::Off).unwrap();
        resolver.txt(&d("x.example")).await.unwrap().value
    });
    assert_eq!(seen, [text]);
}

#[test]
fn dkim_keys_are_printed_and_compared_by_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), "tbr.a.example");
    let key = directory.path().join("s1.pem");
    crate::keys::write_pkcs8(&key, &net::authentication::signer::generate_ed25519().unwrap()).unwrap();
    let domain = config.domains.get_mut(&d("a.example")).unwrap();
    domain.dkim = Some(crate::config::DomainDkim { keys: [("s1".parse().unwrap(), key)].into() });
    let records = wanted(&config, None, now()).unwrap();
    let record = find(&records, "s1._domainkey.a.example", Purpose::Dkim);
    let Data::Txt { text } = &record.data else { panic!("{record:?}") };
    assert!(zone::text(&records, &[]).contains(&format!("s1._domainkey.a.example. IN TXT \"{text}\"")));
    let verdict = |found: &str| judge(record, Seen::Texts(vec![found.to_owned()]), now()).verdict;
    assert_eq!(verdict(text), Verdict::Good);
    assert_eq!(verdict(&text.replace("; p=", "; t=s; n=ours; p= ")), Verdict::Good);
    assert_eq!(verdict(&text.replace("p=", "p=A")), Verdict::Change);
}

#[test]
fn a_site_prints_all_of_its_keys_and_leaves_the_rest_to_its_custodian() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["home.pem", "next.pem"] {
        crate::keys::write(&directory.path().join(name), &reference::SigningKey::generate().unwrap()).unwrap();
    }
    let dkim = net::authentication::signer::generate_ed25519().unwrap();
    crate::keys::write_pkcs8(&directory.path().join("s1.pem"), &dkim).unwrap();
    let text = "hostname = \"mx.site.example\"\n[[domain]]\nname = \"site.example\"\n\
         [domain.tbr]\nselector = \"home\"\nkey = \"home.pem\"\noffers = false\nrepository = \"tbr.custodian.example\"\n\
         next_selector = \"next\"\nnext_key = \"next.pem\"\nnext_from = \"2027-01-20 00:00\"\n\
         revoked = [\"stolen\"]\n[domain.dkim]\nkeys = { s1 = \"s1.pem\" }\n";
    let config = Config::parse(text, &directory.path().join("restante.toml")).unwrap();
    let records = wanted(&config, Some(&d("site.example")), now()).unwrap();
    let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).skip(2).collect();
    let keys = ["home", "next", "stolen"].map(|selector| format!("{selector}._tbr.site.example"));
    assert_eq!(names, ["s1._domainkey.site.example", &keys[0], &keys[1], &keys[2]], "{records:#?}");
    let theft = find(&records, &keys[2], Purpose::Tbr);
    let still_good = find(&records, &keys[0], Purpose::Tbr).data.clone();
    let Data::Txt { text } = still_good else { panic!("{records:#?}") };
    assert_eq!(judge(theft, Seen::Texts(vec![text.clone()]), now()).verdict, Verdict::Change);
    // The window of the key before ends with the change to the next one.
    let end = text.split_once("na=").unwrap().1;
    assert!(end.parse::<u64>().unwrap() < now().after(KEY_WINDOW).as_secs(), "{text}");
}

#[test]
fn a_user_s_key_is_published_by_nobody() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["k1.pem", "laptop.pem"] {
        crate::keys::write(&directory.path().join(name), &reference::SigningKey::generate().unwrap()).unwrap();
    }
    let laptop = crate::keys::read(&directory.path().join("laptop.pem")).unwrap().verifying_key().to_string();
    let parse = |text: &str| Config::parse(text, &directory.path().join("restante.toml")).unwrap();
    let custodian = parse(&format!(
        "hostname = \"mx.b.example\"\n[[listener]]\nkind = \"repository\"\naddress = \"127.0.0.1:0\"\n\
         [[certificate]]\ncert = \"c\"\nkey = \"k\"\n[[domain]]\nname = \"b.example\"\n\
         [domain.tbr]\nselector = \"k1\"\nkey = \"k1.pem\"\n[[domain.user]]\nname = \"alice\"\nkeys = {{ laptop = \"{laptop}\" }}\n"
    ));
    // Nor has the document of the domain.
    let facts = crate::settings::facts(&custodian, now()).unwrap();
    let names: Vec<_> = facts[&d("b.example")].keys.iter().map(|key| key.selector.as_str()).collect();
    assert_eq!(names, ["k1"]);
    let of_key = parse(
        "hostname = \"laptop\"\nsmart_host = \"custodian\"\n[[domain]]\nname = \"b.example\"\nrecipients = { list = [\"alice\"] }\n\
         others = \"relay:custodian\"\n[domain.tbr]\nselector = \"laptop\"\nkey = \"laptop.pem\"\noffers = false\n\
         [[custodian]]\nhost = \"tbr.b.example\"\n[[relay]]\nname = \"custodian\"\ncustodian = \"tbr.b.example\"\n",
    );
    assert!(crate::settings::facts(&of_key, now()).unwrap().is_empty());
    let records = wanted(&of_key, Some(&d("b.example")), now()).unwrap();
    assert!(records.iter().all(|record| !record.name.is_within(&d("b.example"))), "{records:#?}");
}

#[test]
fn certificates_by_acme_have_tlsa_records_from_their_first_key_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), "tbr.a.example");
    let text = fs::read_to_string(directory.path().join("c.key")).unwrap()
        + &fs::read_to_string(directory.path().join("c.pem")).unwrap();
    let printed = wanted(&config, None, now()).unwrap();
    let by_hand = find(&printed, "_25._tcp.mx.a.example", Purpose::Dane).data.clone();

    config.tls.certificates.clear();
    config.data_dir = directory.path().to_owned();
    config.acme = Some(crate::config::Acme {
        directory: "https://acme.example/directory".into(),
        contact: None,
        names: Vec::new(),
        ca_file: None,
    });
    let tlsa = |records: &[Record]| records.iter().filter(|record| record.purpose == Purpose::Dane).count();
    assert_eq!(tlsa(&wanted(&config, None, now()).unwrap()), 0, "there is no key yet");
    fs::create_dir_all(config.acme_dir()).unwrap();
    fs::write(config.acme_dir().join("mx.a.example.pem"), text).unwrap();
    let records = wanted(&config, None, now()).unwrap();
    assert_eq!(find(&records, "_25._tcp.mx.a.example", Purpose::Dane).data, by_hand);
    assert_eq!(tlsa(&records), 1, "the hosts of the domain have a certificate of their own");
}
