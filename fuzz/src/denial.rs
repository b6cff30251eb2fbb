//! Answers about a name and what a validator has made of them, in any combination: the last word on what is proven.

use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::rdata::SOA;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use net::dns::dname;
use net::dns::judge::{Proven, Verdict, of_validated};

/// An octet for what was said of the whole; one for each record, in order, how it is proven, behind their number; the answer as it came.
struct Input {
    query: Query,
    denial: Option<Proof>,
    message: Message,
}

impl Input {
    fn read(data: &[u8]) -> Option<Self> {
        const PROOFS: [Proof; 4] = [Proof::Secure, Proof::Insecure, Proof::Bogus, Proof::Indeterminate];
        let ([denial, count], rest) = data.split_first_chunk()?;
        let (proofs, wire) = rest.split_at_checked(usize::from(*count))?;
        let mut message = Message::from_vec(wire).ok()?;
        let proof = |octet: &u8| PROOFS[usize::from(octet % 4)];
        let mut proofs = proofs.iter().map(proof);
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            record.proof = proofs.next().unwrap_or(Proof::Indeterminate);
        }
        let usual = || Query::query(name("_tbr.a.example."), RecordType::TXT);
        let query = message.queries.first().cloned().unwrap_or_else(usual);
        Some(Self { query, denial: Some(proof(denial)).filter(|proof| *proof != Proof::Secure), message })
    }

    fn judge(&self, message: &Message) -> Verdict {
        of_validated(&self.query.name, self.query.query_type, message, self.denial)
    }
}

/// What is proven does not depend on the order of records, and nothing of a stranger's makes it more.
pub fn denial(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let (query, message) = (&input.query, &input.message);
    let verdict = input.judge(message);
    check(&input, &verdict);
    if let Some(owner) = dname::above(&message.answers, &query.name) {
        led_elsewhere(&owner, input.message.answers.clone(), &query.name);
    }

    let mut reversed = message.clone();
    reversed.answers.reverse();
    reversed.authorities.reverse();
    assert_eq!(outline(&input.judge(&reversed)), outline(&verdict), "by the order of records");

    // What an unsigned zone says that the name is not in is no reason to believe anything more.
    let mut more = message.clone();
    let (owner, soa) = (name("unsigned.test."), SOA::new(name("ns.test."), name("h.test."), 1, 1, 1, 1, 1));
    if !owner.zone_of(&query.name) {
        let mut stray = Record::from_rdata(owner, 60, RData::SOA(soa));
        stray.proof = Proof::Insecure;
        more.authorities.push(stray);
        let with_more = outline(&input.judge(&more));
        assert!(with_more == outline(&verdict) || with_more == Outline::Bogus, "{with_more:?}");
    }
}

/// Whatever stands in a DNAME, what is below it keeps its own labels, and is a name.
fn led_elsewhere(owner: &Name, mut records: Vec<Record>, asked: &Name) {
    records.retain(|record| record.name == *owner && record.record_type() == RecordType::DNAME);
    let Some(next) = dname::leads_to(&records, owner, asked) else { return };
    let own = asked.iter().count() - owner.iter().count();
    assert!(own > 0 && next.iter().take(own).eq(asked.iter().take(own)), "{asked} is led to {next}");
    let octets: usize = next.iter().map(|label| label.len() + 1).sum();
    assert!(octets < 255 && next.iter().all(|label| (1..=63).contains(&label.len())), "{next}");
    records.iter_mut().for_each(dname::canonical);
    assert_eq!(dname::leads_to(&records, owner, asked), Some(next), "case makes a difference");
}

/// All but the records themselves and their time.
#[derive(Debug, PartialEq)]
enum Outline {
    Proven { records: usize, exists: bool, secure: bool },
    Bogus,
    Unknown,
}

fn outline(verdict: &Verdict) -> Outline {
    match verdict {
        Verdict::Proven(Proven { records, exists, secure, .. }) => {
            Outline::Proven { records: records.len(), exists: *exists, secure: *secure }
        }
        Verdict::Bogus => Outline::Bogus,
        Verdict::Unknown(_) => Outline::Unknown,
    }
}

/// Nothing counts as secure that is not proven, record by record, and no denial without a record that denies.
fn check(Input { query, denial, message }: &Input, verdict: &Verdict) {
    let Verdict::Proven(Proven { records, exists, secure, .. }) = verdict else { return };
    let is_meant = |record: &&Record| record.name == query.name && record.record_type() == query.query_type;
    let meant: Vec<_> = message.answers.iter().filter(is_meant).collect();
    assert!(records.len() == meant.len() && (records.is_empty() || *exists));
    assert!(meant.iter().all(|record| matches!(record.proof, Proof::Secure | Proof::Insecure)));
    if !secure {
        return;
    }
    assert!(matches!(denial, None | Some(Proof::Bogus)));
    assert!(meant.iter().all(|record| record.proof == Proof::Secure));
    let denies = |record: &Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
    let denied = message.authorities.iter().any(|record| record.proof == Proof::Secure && denies(record));
    assert!(!meant.is_empty() || denied, "an absence that nobody has proven");
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever mutates these begins at verdicts of every kind.
    #[test]
    fn the_answers_of_the_corpus_are_what_their_names_say() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/denial");
        let proven = |records, exists, secure| Outline::Proven { records, exists, secure };
        for (name, expected) in [
            ("there", proven(1, true, true)),
            ("half-there", Outline::Bogus),
            ("absent", proven(0, false, true)),
            ("unsigned", proven(0, false, false)),
            ("unsigned-elsewhere", Outline::Bogus),
            ("opt-out", proven(0, false, false)),
            ("opt-out-itself", proven(0, true, true)),
            ("wildcard", proven(1, true, true)),
            ("wildcard-given-up", proven(1, true, true)),
            ("beside-dname", proven(0, true, true)),
            ("beside-dname-hashed", proven(0, true, true)),
            ("alias", Outline::Unknown),
            ("denied-by-child", Outline::Bogus),
            ("refused", Outline::Unknown),
        ] {
            let input = Input::read(&std::fs::read(corpus.join(name)).unwrap()).unwrap();
            assert_eq!(outline(&input.judge(&input.message)), expected, "{name}");
        }
    }
}
