//! Chains against records, case by case as RFC 7671 and RFC 7672 tell them.

use std::time::Duration;

use mail::tlsa::Tlsa;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use super::*;

const HOST: &str = "mx.b.example";

/// A chain of three: the root is not sent.
struct Chain {
    root: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    leaf: CertificateDer<'static>,
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn chain_with(leaf: CertificateParams) -> Chain {
    let key = || KeyPair::generate().unwrap();
    let named = |name: &str| {
        let mut params = authority();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let root = CertifiedIssuer::self_signed(named("root"), key()).unwrap();
    let middle = CertifiedIssuer::signed_by(named("middle"), key(), &root).unwrap();
    let leaf = leaf.signed_by(&key(), &middle).unwrap();
    Chain { root: root.der().clone(), intermediates: vec![middle.der().clone()], leaf: leaf.der().clone() }
}

fn chain(name: &str) -> Chain {
    chain_with(CertificateParams::new(vec![name.to_owned()]).unwrap())
}

fn expired(name: &str) -> Chain {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    chain_with(params)
}

/// A record of this certificate.
fn tlsa(usage: u8, selector: u8, matching: u8, der: &CertificateDer<'_>) -> Tlsa {
    let part = match selector {
        0 => der.to_vec(),
        _ => ParsedCertificate::try_from(der).unwrap().subject_public_key_info().to_vec(),
    };
    let data = match matching {
        0 => part,
        1 => digest(&SHA256, &part).as_ref().to_vec(),
        _ => digest(&SHA512, &part).as_ref().to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

fn dane(records: Vec<Tlsa>) -> Option<Dane> {
    let set = TlsaSet { base: HOST.parse().unwrap(), records };
    Dane::new(&set, Service::Smtp, ["b.example".parse().unwrap()])
}

/// Seconds of the year 2020.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_600_000_000))
}

fn verify(record: Tlsa, chain: &Chain) -> Result<(), Mismatch> {
    dane(vec![record]).unwrap().verify(&chain.leaf, &chain.intermediates, now())
}

fn no_record() -> Result<(), Mismatch> {
    Err(Mismatch::NoRecord(HOST.parse().unwrap()))
}

/// RFC 7671 §5.1, RFC 7672 §3.1.1: neither names nor dates nor issuers matter.
#[test]
fn dane_ee_is_the_certificate_and_nothing_else() {
    let (other, stale) = (chain("another.example"), expired(HOST));
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            assert_eq!(verify(tlsa(3, selector, matching, &other.leaf), &other), Ok(()), "3 {selector} {matching}");
            assert_eq!(verify(tlsa(3, selector, matching, &stale.leaf), &stale), Ok(()));
            assert_eq!(verify(tlsa(3, selector, matching, &stale.leaf), &other), no_record());
        }
    }
    // The certificate's, not an issuer's.
    assert_eq!(verify(tlsa(3, 1, 1, &other.intermediates[0]), &other), no_record());
}

/// RFC 7672 §3.1.2: the anchor is in the chain, or whole in the record.
#[test]
fn dane_ta_is_an_issuer_in_the_chain() {
    let good = chain(HOST);
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            assert_eq!(verify(tlsa(2, selector, matching, &good.intermediates[0]), &good), Ok(()));
        }
    }
    // The root was not sent: only a record that holds all of it will do.
    assert_eq!(verify(tlsa(2, 0, 0, &good.root), &good), Ok(()));
    assert_eq!(verify(tlsa(2, 0, 1, &good.root), &good), no_record());
    assert_eq!(verify(tlsa(2, 1, 1, &good.leaf), &good), no_record());
}

/// Whoever adds the named issuer's certificate to a chain of his own has not been certified by it.
#[test]
fn an_issuer_that_only_stands_in_the_chain_has_vouched_for_nobody() {
    let (good, mut forged) = (chain(HOST), chain(HOST));
    forged.intermediates.push(good.intermediates[0].clone());
    let verdict = verify(tlsa(2, 1, 1, &good.intermediates[0]), &forged);
    assert!(matches!(verdict, Err(Mismatch::Chain(..))), "{verdict:?}");
    let verdict = verify(tlsa(2, 0, 0, &good.root), &forged);
    assert!(matches!(verdict, Err(Mismatch::Chain(..))), "{verdict:?}");
}

#[test]
fn dane_ta_asks_for_dates() {
    let stale = expired(HOST);
    let verdict = verify(tlsa(2, 1, 1, &stale.intermediates[0]), &stale);
    assert!(matches!(verdict, Err(Mismatch::Chain(_, webpki::Error::CertExpired { .. }))), "{verdict:?}");
}

/// RFC 7672 §3.2.2: the base domain or the next-hop domain; wildcards as RFC 9525 has them (§3.2.3).
#[test]
fn dane_ta_asks_for_names() {
    for (name, good) in [
        (HOST, true),
        ("b.example", true),
        ("*.b.example", true),
        ("mx.c.example", false),
        ("a.mx.b.example", false),
        ("*.mx.b.example", false),
    ] {
        let chain = chain(name);
        let verdict = verify(tlsa(2, 1, 1, &chain.intermediates[0]), &chain);
        let wrong = Err(Mismatch::Name(HOST.parse().unwrap()));
        assert_eq!(verdict, if good { Ok(()) } else { wrong }, "{name}");
    }
}

/// RFC 7671 §8.1: both the key in use and the next one are published while keys change.
#[test]
fn one_of_several_records_is_enough() {
    let (old, new, other) = (chain(HOST), chain(HOST), chain(HOST));
    let dane = dane(vec![tlsa(3, 1, 1, &old.leaf), tlsa(3, 1, 1, &new.leaf), tlsa(2, 1, 1, &other.root)]).unwrap();
    for chain in [&old, &new] {
        assert_eq!(dane.verify(&chain.leaf, &chain.intermediates, now()), Ok(()));
    }
    assert_eq!(dane.verify(&other.leaf, &other.intermediates, now()), no_record());
}

/// What RFC 7671 §8 publishes step by step while keys change (§8.1), while an issuer is named instead of a key (§8.2) and while another
/// digest comes into use (§8.3): who serves what is believed at each step, and who is not.
#[test]
fn changing_records_as_the_standard_does_it_locks_nobody_out() {
    let (old, new) = (chain(HOST), chain(HOST));
    let (old_key, new_key) = (tlsa(3, 1, 1, &old.leaf), tlsa(3, 1, 1, &new.leaf));
    let issuer = tlsa(2, 0, 1, &new.intermediates[0]);
    let longer = |chain: &Chain| tlsa(3, 1, 2, &chain.leaf);
    let steps = [
        ("8.1 before", vec![old_key.clone()], [true, false]),
        ("8.1 both", vec![old_key.clone(), new_key.clone()], [true, true]),
        ("8.1 after", vec![new_key.clone()], [false, true]),
        ("8.2 both keys", vec![old_key.clone(), new_key.clone()], [true, true]),
        ("8.2 the issuer", vec![issuer], [false, true]),
        ("8.3 both digests", vec![old_key.clone(), longer(&old)], [true, false]),
        ("8.3 and both keys", vec![old_key, longer(&old), new_key, longer(&new)], [true, true]),
        ("8.3 after", vec![longer(&new)], [false, true]),
        // Who publishes the new digest for one key only has taken the other's record out of force (§9).
        ("8.3 done wrong", vec![tlsa(3, 1, 1, &old.leaf), longer(&new)], [false, true]),
    ];
    for (step, records, believed) in steps {
        let dane = dane(records).unwrap();
        let verdicts = [&old, &new].map(|chain| dane.verify(&chain.leaf, &chain.intermediates, now()).is_ok());
        assert_eq!(verdicts, believed, "{step}");
    }
}

#[test]
fn what_is_no_certificate_matches_nothing() {
    let good = chain(HOST);
    let garbage = CertificateDer::from(b"garbage".as_slice());
    let dane = dane(vec![tlsa(3, 1, 1, &good.leaf), tlsa(2, 1, 1, &good.root)]).unwrap();
    assert_eq!(dane.verify(&garbage, std::slice::from_ref(&garbage), now()), no_record());
    // An anchor that cannot be read is none.
    let record = Tlsa { usage: 2, selector: 0, matching: 0, data: b"garbage".to_vec() };
    assert_eq!(verify(record, &good), no_record());
}

/// RFC 7672 §3.1.3, §2.2.
#[test]
fn records_of_public_cas_make_no_demand_on_smtp() {
    let good = chain(HOST);
    assert_eq!(dane(vec![tlsa(0, 1, 1, &good.root), tlsa(1, 1, 1, &good.leaf)]), None);
    assert_eq!(dane(vec![]), None);
}

#[test]
fn repositories_may_leave_the_chain_to_web_pki() {
    let (good, other) = (chain(HOST), chain(HOST));
    let of = |records: Vec<Tlsa>| {
        let set = TlsaSet { base: HOST.parse().unwrap(), records };
        Dane::new(&set, Service::Https, []).unwrap()
    };
    let constrained = of(vec![tlsa(1, 1, 1, &good.leaf)]);
    assert!(constrained.needs_web_pki());
    assert_eq!(constrained.constrain(&good.leaf), Ok(()));
    assert_eq!(constrained.constrain(&other.leaf), no_record());
    assert_eq!(constrained.verify(&good.leaf, &good.intermediates, now()), no_record());
    assert!(!of(vec![tlsa(1, 1, 1, &good.leaf), tlsa(3, 1, 1, &good.leaf)]).needs_web_pki());
}
