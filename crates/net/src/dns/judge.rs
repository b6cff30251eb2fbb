//! The last word on one name and type: from what the validator says of every record to secure, insecure or bogus. Pure.
//!
//! Three things are checked here again, because an answer is a stranger's: that an *insecure* denial is about a zone
//! above the name, that a secure wildcard comes with the proof that nothing closer exists (RFC 4035 §5.3.4), and that a
//! denial by opt-out (RFC 5155 §9.2) is no secure one.

use std::time::Duration;

use hickory_resolver::net::{DnsError as Semantic, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC, NSEC3, SigInput};
use hickory_resolver::proto::op::{DnsResponse, Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, RecordTypeSet};

use super::NO_RECORDS_TTL;
use super::servers::{absence, of};
use super::validate::NSEC3_ITERATIONS;

/// Most denials of one answer that are looked at here.
const MOST_DENIALS: usize = 8;

/// What is known of a name and a type.
pub enum Verdict {
    /// This is so.
    Proven(Proven),
    /// It looks forged.
    Bogus,
    /// Nobody could say.
    Unknown(String),
}

/// Records or their absence, in a signed zone or in an unsigned one.
pub struct Proven {
    /// Of this name and type; none: their absence.
    pub records: Vec<Record>,
    /// Does the name exist?
    pub exists: bool,
    /// A chain of signatures leads here from a trust anchor.
    pub secure: bool,
    /// How long it counts.
    pub ttl: Duration,
}

/// Judges what the validator gives back for a question for this name and type.
pub(super) fn judge(name: &Name, kind: RecordType, answer: Result<DnsResponse, NetError>) -> Verdict {
    match answer {
        Ok(response) => of_validated(name, kind, &response, None),
        Err(NetError::Dns(Semantic::Nsec { response, proof, .. })) => of_validated(name, kind, &response, Some(proof)),
        Err(NetError::Dns(Semantic::DnssecBogus)) => Verdict::Bogus,
        Err(error) => Verdict::Unknown(error.to_string()),
    }
}

/// Judges an answer each of whose records the validator has looked at. `denial`: what it says of the denial in it, where that is not
/// simply secure.
pub fn of_validated(name: &Name, kind: RecordType, message: &Message, denial: Option<Proof>) -> Verdict {
    match denial {
        None => of_answer(name, kind, message, true),
        Some(Proof::Insecure) if denied_from_above(name, message) => of_answer(name, kind, message, false),
        // The validator knows no wildcard right below a name that exists.
        Some(Proof::Bogus) if is_proven_wildcard(name, kind, message) => of_answer(name, kind, message, true),
        Some(Proof::Bogus) if is_denied_beside_dname(name, kind, message) => of_answer(name, kind, message, true),
        // Nor that opt-out needs no word on wildcards.
        Some(Proof::Bogus) if kind == RecordType::DS && is_passed_over(name, message) => {
            of_answer(name, kind, message, false)
        }
        Some(_) => Verdict::Bogus,
    }
}

fn of_answer(name: &Name, kind: RecordType, message: &Message, may_be_secure: bool) -> Verdict {
    let records: Vec<Record> = of(&message.answers, name, kind).cloned().collect();
    if records.is_empty() {
        let alias = of(&message.answers, name, RecordType::CNAME).next();
        // Whoever asks for this type here was told before that there is none: it proves nothing about the type.
        return match alias {
            Some(_) => Verdict::Unknown(format!("the CNAME at {name} comes and goes")),
            None => of_denial(name, message, may_be_secure),
        };
    }
    let all = |proof| records.iter().all(|record| record.proof == proof);
    let secure = match () {
        () if all(Proof::Secure) => may_be_secure,
        () if all(Proof::Insecure) => false,
        () => return Verdict::Bogus,
    };
    let wild = secure && is_from_wildcard(name, kind, message);
    if wild && !has_proven_denial(message) {
        return Verdict::Bogus;
    }
    let ttl = Duration::from_secs(records.iter().map(|record| record.ttl).min().unwrap_or(0).into());
    Verdict::Proven(Proven { records, exists: true, secure: secure && !(wild && opts_out(name, message)), ttl })
}

fn of_denial(name: &Name, message: &Message, may_be_secure: bool) -> Verdict {
    let exists = match message.metadata.response_code {
        ResponseCode::NoError => true,
        ResponseCode::NXDomain => false,
        code => return Verdict::Unknown(format!("the name server says {code}")),
    };
    let proven = has_proven_denial(message);
    if !proven && !is_insecure_above(name, message) {
        return Verdict::Bogus;
    }
    let secure = proven && may_be_secure && !opts_out(name, message);
    let ttl = absence(&message.authorities).min(NO_RECORDS_TTL);
    Verdict::Proven(Proven { records: Vec::new(), exists, secure, ttl })
}

/// Was the signature made for a wildcard?
fn is_from_wildcard(name: &Name, kind: RecordType, message: &Message) -> bool {
    signatures(&message.answers, name, kind).any(|signature| signature.num_labels < name.num_labels())
}

fn signatures<'a>(records: &'a [Record], name: &'a Name, kind: RecordType) -> impl Iterator<Item = &'a SigInput> {
    records.iter().filter_map(move |record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) if record.name == *name => {
            Some(signature.input()).filter(|input| input.type_covered == kind)
        }
        _ => None,
    })
}

/// Does an NSEC record of the same zone say that there is nothing between the wildcard and the name (RFC 4035 §5.3.4)?
fn is_proven_wildcard(name: &Name, kind: RecordType, message: &Message) -> bool {
    let wild = |signature: &&SigInput| signature.num_labels < name.num_labels();
    let mut signatures = signatures(&message.answers, name, kind).filter(wild).peekable();
    let is_covered = |signature: &SigInput| {
        let next_closer = name.trim_to(usize::from(signature.num_labels) + 1);
        proven_nsec(message, &signature.signer_name).any(|(owner, nsec)| covers(owner, nsec, &next_closer))
    };
    signatures.peek().is_some() && signatures.all(is_covered)
}

/// Is a type denied at a name by its own record, which says that there is a DNAME too? That keeps it from denying what is below
/// (RFC 6840 §4.1); the validator takes it for a delegation's, which denies nothing but DS.
fn is_denied_beside_dname(name: &Name, kind: RecordType, message: &Message) -> bool {
    let denies = |types: &RecordTypeSet| {
        let has = |kind| types.contains(kind);
        has(RecordType::DNAME)
            && !has(kind)
            && !has(RecordType::CNAME)
            && (has(RecordType::SOA) || !has(RecordType::NS))
    };
    let by_name = |record: &Record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => record.name == *name && denies(nsec.type_set()),
        _ => false,
    };
    let by_hash = |(owner, nsec3): (&Name, &NSEC3)| {
        owner.base_name().zone_of(name) && is_hash_of(owner, nsec3, name) && denies(nsec3.type_set())
    };
    let is_proven = |record: &&Record| record.proof == Proof::Secure;
    message.metadata.response_code == ResponseCode::NoError
        && message.answers.iter().all(|record| record.name != *name)
        && (message.authorities.iter().filter(is_proven).any(by_name) || proven_nsec3(message).any(by_hash))
}

/// Does the zone say by opt-out that nobody signs below this name, so that it has no DS (RFC 5155 §8.6)? For that the nearest name that
/// exists must be proven, and what is next to it covered by a record that passes unsigned delegations over.
fn is_passed_over(name: &Name, message: &Message) -> bool {
    if message.metadata.response_code != ResponseCode::NoError || !message.answers.is_empty() {
        return false;
    }
    let usable = |(_, nsec3): &(&Name, &NSEC3)| nsec3.iterations() <= NSEC3_ITERATIONS;
    let proven: Vec<(&Name, &NSEC3)> = proven_nsec3(message).filter(usable).take(MOST_DENIALS).collect();
    let enclosers = (1..name.iter().count()).rev().map(|labels| (labels, name.trim_to(labels)));
    let found = enclosers.filter_map(|(labels, above)| {
        let here =
            |(owner, nsec3): &&(&Name, &NSEC3)| owner.base_name().zone_of(&above) && is_hash_of(owner, nsec3, &above);
        proven.iter().find(here).map(|(owner, nsec3)| (labels, owner.base_name(), nsec3.type_set()))
    });
    // The nearest one. A record from above another zone, or beside a DNAME, says nothing of what is below (RFC 5155 §8.3).
    let Some((encloser, zone, types)) = found.into_iter().next() else { return false };
    let is_cut = types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
    if is_cut || types.contains(RecordType::DNAME) {
        return false;
    }
    let next_closer = name.trim_to(encloser + 1);
    let covered = |(owner, nsec3): &(&Name, &NSEC3)| {
        nsec3.opt_out() && owner.base_name() == zone && covers_hash(owner, nsec3, &next_closer)
    };
    !proven.iter().any(|(owner, nsec3)| is_hash_of(owner, nsec3, name)) && proven.iter().any(covered)
}

/// Does the hash of this name lie between this record's and the next one's (RFC 5155 §8.3)?
fn covers_hash(owner: &Name, nsec3: &NSEC3, name: &Name) -> bool {
    let hash = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations());
    let (Ok(hash), Some(first)) = (hash, owner.iter().next().map(<[u8]>::to_ascii_lowercase)) else { return false };
    // Digits of base32 with extended hex are in the order of what they stand for.
    let (hash, next) = (base32_hex(hash.as_ref()), base32_hex(nsec3.next_hashed_owner_name()));
    if first < next { first < hash && hash < next } else { hash > first || hash < next }
}

/// NSEC records that this zone signed.
fn proven_nsec<'a>(message: &'a Message, zone: &'a Name) -> impl Iterator<Item = (&'a Name, &'a NSEC)> {
    message.authorities.iter().filter_map(move |record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) if record.proof == Proof::Secure => {
            let mut signers = signatures(&message.authorities, &record.name, RecordType::NSEC);
            signers.any(|signature| signature.signer_name == *zone).then_some((&record.name, nsec))
        }
        _ => None,
    })
}

/// RFC 4034 §4.1.1, RFC 6840 §4.1. The last record of a zone leads to its apex. A name that others are below exists.
fn covers(owner: &Name, nsec: &NSEC, name: &Name) -> bool {
    let next = nsec.next_domain_name();
    let is_last = next <= owner && next.zone_of(name);
    let is_cut = nsec.is_ancestor_delegation() && owner.zone_of(name);
    owner < name && (name < next || is_last) && !is_cut && (is_last || !name.zone_of(next))
}

fn has_proven_denial(message: &Message) -> bool {
    let denies = |record: &Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
    message.authorities.iter().any(|record| record.proof == Proof::Secure && denies(record))
}

/// The validator takes any insecure record in an answer for a reason to believe its absences. Only one of a zone that the
/// name is in can be. An answer with nothing in it was asked about by its name.
fn is_insecure_above(name: &Name, message: &Message) -> bool {
    let mut insecure = message.authorities.iter().filter(|record| record.proof == Proof::Insecure).peekable();
    insecure.peek().is_none() || insecure.any(|record| record.name.zone_of(name))
}

fn proven_nsec3(message: &Message) -> impl Iterator<Item = (&Name, &NSEC3)> {
    message.authorities.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) if record.proof == Proof::Secure => Some((&record.name, nsec3)),
        _ => None,
    })
}

fn denied_from_above(name: &Name, message: &Message) -> bool {
    proven_nsec3(message).all(|(owner, _)| owner.base_name().zone_of(name))
}

/// Is the absence only one of signed names? Not if the name itself is there, without the type.
fn opts_out(name: &Name, message: &Message) -> bool {
    proven_nsec3(message).any(|(_, nsec3)| nsec3.opt_out())
        && !proven_nsec3(message).any(|(owner, nsec3)| is_hash_of(owner, nsec3, name))
}

/// Whoever signs a zone says how often a name is hashed, up to 65,535 times, and an answer has room for hundreds of such records.
fn is_hash_of(owner: &Name, nsec3: &NSEC3, name: &Name) -> bool {
    if nsec3.iterations() > NSEC3_ITERATIONS {
        return false;
    }
    let hash = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations());
    let label = hash.map(|hash| base32_hex(hash.as_ref()));
    let first = owner.iter().next().map(<[u8]>::to_ascii_lowercase);
    label.ok() == first
}

/// RFC 4648 §7, in lower case; the 20 octets of a SHA-1 need no padding.
fn base32_hex(octets: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let groups = octets.chunks(5).flat_map(|group| {
        let bits = group.iter().chain(&[0; 5]).take(5).fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
        (0..8).rev().map(move |digit| DIGITS[(bits >> (5 * digit) & 31) as usize])
    });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::rdata::RRSIG;
    use hickory_resolver::proto::dnssec::{Algorithm, Nsec3HashAlgorithm};
    use hickory_resolver::proto::op::{MessageType, OpCode};
    use hickory_resolver::proto::rr::SerialNumber;
    use hickory_resolver::proto::rr::rdata::{CNAME, SOA, TXT};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = proof;
        record
    }

    fn soa(owner: &str, proof: Proof) -> Record {
        record(owner, RData::SOA(SOA::new(name("ns."), name("h."), 1, 1, 1, 1, 60)), proof)
    }

    fn text(owner: &str, proof: Proof) -> Record {
        record(owner, RData::TXT(TXT::new(vec!["v=TBR1".to_owned()])), proof)
    }

    fn signature(owner: &str, kind: RecordType, labels: u8) -> Record {
        let input = SigInput {
            type_covered: kind,
            algorithm: Algorithm::ECDSAP256SHA256,
            num_labels: labels,
            original_ttl: 60,
            sig_expiration: SerialNumber::new(2),
            sig_inception: SerialNumber::new(1),
            key_tag: 1,
            signer_name: name("a.example."),
        };
        record(owner, RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, Vec::new()))), Proof::Secure)
    }

    fn nsec(owner: &str, next: &str) -> Record {
        let data = NSEC::new(name(next), [RecordType::TXT]);
        record(owner, RData::DNSSEC(DNSSECRData::NSEC(data)), Proof::Secure)
    }

    fn opt_out(owner: &str) -> Record {
        let data = NSEC3::new(Nsec3HashAlgorithm::SHA1, true, 0, Vec::new(), vec![0; 20], [RecordType::NS]);
        record(owner, RData::DNSSEC(DNSSECRData::NSEC3(data)), Proof::Secure)
    }

    fn message(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.insert_answers(answers);
        message.insert_authorities(authorities);
        message
    }

    /// `(exists, secure)`; `None`: bogus.
    fn judged(owner: &str, message: Message) -> Option<(bool, bool)> {
        match judge(&name(owner), RecordType::TXT, Ok(DnsResponse::from_message(message).unwrap())) {
            Verdict::Proven(proven) => Some((proven.exists, proven.secure)),
            Verdict::Bogus => None,
            Verdict::Unknown(why) => panic!("{why}"),
        }
    }

    #[test]
    fn a_zone_that_a_name_is_not_in_says_nothing_about_it() {
        let denied_by = |zone| message(ResponseCode::NXDomain, Vec::new(), vec![soa(zone, Proof::Insecure)]);
        assert_eq!(judged("_tbr.a.example.", denied_by("a.example.")), Some((false, false)));
        assert_eq!(judged("_tbr.a.example.", denied_by("unsigned.example.")), None);
    }

    #[test]
    fn a_wildcard_comes_with_the_proof_that_nothing_is_closer() {
        let owner = "x.wild.a.example.";
        let wild = |authorities| {
            let answers = vec![text(owner, Proof::Secure), signature(owner, RecordType::TXT, 3)];
            message(ResponseCode::NoError, answers, authorities)
        };
        let signed = || signature("*.wild.a.example.", RecordType::NSEC, 3);
        assert_eq!(judged(owner, wild(Vec::new())), None);
        assert_eq!(judged(owner, wild(vec![soa("unsigned.example.", Proof::Insecure)])), None);
        assert_eq!(judged(owner, wild(vec![nsec("*.wild.a.example.", "z.a.example."), signed()])), Some((true, true)));
        // The same where the validator gives up: one of the zone's records must cover the next closer name.
        let proven = |next: &str, more| {
            let message = wild(vec![nsec("*.wild.a.example.", next), more]);
            is_proven_wildcard(&name(owner), RecordType::TXT, &message)
        };
        assert!(proven("z.a.example.", signed()));
        assert!(proven("a.example.", signed()));
        assert!(!proven("b.wild.a.example.", signed()), "it ends before");
        assert!(!proven("b.x.wild.a.example.", signed()), "the name is above another");
        assert!(!proven("z.a.example.", soa("a.example.", Proof::Secure)), "signed by nobody");
    }

    #[test]
    fn who_has_a_dname_can_lack_other_types_and_says_nothing_about_names_below() {
        let denied = |owner: &str, types: &[RecordType], code| {
            let data = NSEC::new(name("z.a.example."), types.iter().copied());
            let by = record(owner, RData::DNSSEC(DNSSECRData::NSEC(data)), Proof::Secure);
            let message = message(code, Vec::new(), vec![by]);
            is_denied_beside_dname(&name("away.a.example."), RecordType::TXT, &message)
        };
        let (here, ok) = ("away.a.example.", ResponseCode::NoError);
        assert!(denied(here, &[RecordType::DNAME, RecordType::A], ok));
        assert!(denied(here, &[RecordType::DNAME, RecordType::NS, RecordType::SOA], ok), "the top of a zone");
        assert!(!denied(here, &[RecordType::DNAME, RecordType::NS], ok), "above another zone");
        assert!(!denied(here, &[RecordType::DNAME, RecordType::TXT], ok), "it is there");
        assert!(!denied(here, &[RecordType::DNAME, RecordType::CNAME], ok), "it is elsewhere");
        assert!(!denied(here, &[RecordType::A], ok), "for the validator to judge");
        assert!(!denied("a.example.", &[RecordType::DNAME], ok), "below");
        assert!(!denied(here, &[RecordType::DNAME], ResponseCode::NXDomain));
    }

    #[test]
    fn a_denial_by_opt_out_is_not_secure() {
        let denied = |by| message(ResponseCode::NXDomain, Vec::new(), vec![soa("example.", Proof::Secure), by]);
        assert_eq!(
            judged("a.example.", denied(opt_out("0123456789abcdefghijklmnopqrstuv.example."))),
            Some((false, false))
        );
        assert_eq!(judged("a.example.", denied(nsec("0.example.", "b.example."))), Some((false, true)));
        // RFC 5155, Appendix A: H(example) without salt and iterations is another; compared with itself it matches.
        let hash = Nsec3HashAlgorithm::SHA1.hash(&[], &name("a.example."), 0).unwrap();
        let label = String::from_utf8(base32_hex(hash.as_ref())).unwrap();
        let itself = message(ResponseCode::NoError, Vec::new(), vec![opt_out(&format!("{label}.example."))]);
        assert_eq!(judged("a.example.", itself), Some((true, true)), "there, without such records");
    }

    #[test]
    fn what_opt_out_passes_over_has_no_ds_whatever_is_said_of_wildcards() {
        let hash = |of: &str| Nsec3HashAlgorithm::SHA1.hash(&[], &name(of), 0).unwrap().as_ref().to_vec();
        let nsec3 = |owner: String, opt_out, next: Vec<u8>, types: &[RecordType], proof| {
            let types = types.iter().copied();
            let data = NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, 0, Vec::new(), next, types);
            record(&owner, RData::DNSSEC(DNSSECRData::NSEC3(data)), proof)
        };
        // The record of a name, which covers nothing but what comes next to its hash.
        let at = |of: &str, types: &[RecordType]| {
            let (first, mut next) = (hash(of), hash(of));
            next[19] = next[19].wrapping_add(1);
            let owner = String::from_utf8(base32_hex(&first)).unwrap() + ".a.example.";
            nsec3(owner, true, next, types, Proof::Secure)
        };
        let apex = |types: &[RecordType]| at("a.example.", types);
        let soa = || apex(&[RecordType::SOA, RecordType::NS]);
        let cover =
            |opt_out, next: u8, proof| nsec3("0".repeat(32) + ".a.example.", opt_out, vec![next; 20], &[], proof);
        let all = || cover(true, 0xff, Proof::Secure);
        let passed_over =
            |of: &str, code, denials: Vec<Record>| is_passed_over(&name(of), &message(code, Vec::new(), denials));
        let (sub, ok) = ("sub.a.example.", ResponseCode::NoError);
        assert!(passed_over(sub, ok, vec![soa(), all()]));
        assert!(passed_over("*.a.example.", ok, vec![soa(), all()]), "a wildcard is a name");
        assert!(!passed_over(sub, ResponseCode::NXDomain, vec![soa(), all()]));
        assert!(!passed_over(sub, ok, vec![soa()]), "nothing covers it");
        assert!(!passed_over(sub, ok, vec![all()]), "no name above it is proven");
        assert!(!passed_over(sub, ok, vec![soa(), cover(false, 0xff, Proof::Secure)]), "no opt-out");
        assert!(!passed_over(sub, ok, vec![soa(), cover(true, 1, Proof::Secure)]), "up to another name");
        assert!(!passed_over(sub, ok, vec![soa(), cover(true, 0xff, Proof::Bogus)]), "signed by nobody");
        assert!(!passed_over(sub, ok, vec![apex(&[RecordType::NS]), all()]), "from above another zone");
        assert!(!passed_over(sub, ok, vec![apex(&[RecordType::SOA, RecordType::DNAME]), all()]), "beside a DNAME");
        let delegation = at(sub, &[RecordType::NS]);
        assert!(!passed_over("x.sub.a.example.", ok, vec![soa(), delegation, all()]), "below a delegation");
        let itself = at(sub, &[RecordType::NS, RecordType::DS]);
        assert!(!passed_over(sub, ok, vec![soa(), all(), itself]), "it is there");
        let foreign = at("example.", &[RecordType::SOA]);
        assert!(!passed_over("b.example.", ok, vec![foreign, all()]), "another zone's word");
    }

    #[test]
    fn a_name_is_hashed_no_more_often_than_validators_do() {
        let away = name("away.a.example.");
        let denied = |iterations: u16| {
            let hash = Nsec3HashAlgorithm::SHA1.hash(&[], &away, iterations).unwrap();
            let label = String::from_utf8(base32_hex(hash.as_ref())).unwrap();
            let types = [RecordType::DNAME, RecordType::A];
            let data = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, iterations, Vec::new(), vec![0; 20], types);
            let by = record(&format!("{label}.a.example."), RData::DNSSEC(DNSSECRData::NSEC3(data)), Proof::Secure);
            is_denied_beside_dname(&away, RecordType::TXT, &message(ResponseCode::NoError, Vec::new(), vec![by]))
        };
        assert!(denied(0) && denied(NSEC3_ITERATIONS));
        assert!(!denied(NSEC3_ITERATIONS + 1));
        assert!(!denied(u16::MAX), "hundreds of these in one answer would take seconds");
    }

    #[test]
    fn one_record_that_is_not_proven_spoils_all() {
        let both = |second| {
            message(
                ResponseCode::NoError,
                vec![text("a.example.", Proof::Secure), text("a.example.", second)],
                Vec::new(),
            )
        };
        assert_eq!(judged("a.example.", both(Proof::Secure)), Some((true, true)));
        for proof in [Proof::Bogus, Proof::Indeterminate, Proof::Insecure] {
            assert_eq!(judged("a.example.", both(proof)), None);
        }
    }

    #[test]
    fn an_alias_that_comes_and_goes_proves_nothing() {
        let alias = record("a.example.", RData::CNAME(CNAME(name("b.example."))), Proof::Secure);
        let message = message(ResponseCode::NoError, vec![alias], Vec::new());
        let verdict = judge(&name("a.example."), RecordType::TXT, Ok(DnsResponse::from_message(message).unwrap()));
        assert!(matches!(verdict, Verdict::Unknown(_)));
    }

    #[test]
    fn base32_is_that_of_nsec3() {
        assert_eq!(base32_hex(b"foobar")[..10], *b"cpnmuoj1e8");
        assert_eq!(base32_hex(&[0xff; 20]), [b'v'; 32]);
    }
}
