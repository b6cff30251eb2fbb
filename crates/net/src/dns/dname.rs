//! DNAME: everything below a name is elsewhere (RFC 6672). Pure.
//!
//! hickory knows the type and not its data: they are read here.

use hickory_resolver::proto::rr::rdata::NULL;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::BinDecodable as _;

/// The name above this one that an answer has a DNAME of.
pub fn above(answers: &[Record], name: &Name) -> Option<Name> {
    let is_above = |record: &&Record| record.name.zone_of(name) && record.name != *name;
    answers
        .iter()
        .filter(is_above)
        .find(|record| record.record_type() == RecordType::DNAME)
        .map(|record| record.name.clone())
}

/// Where the one DNAME at `owner` leads a name below it. `None`: there is none or more than one, it cannot be read, or the new name
/// would be too long (RFC 6672 §2.2).
pub fn leads_to(records: &[Record], owner: &Name, name: &Name) -> Option<Name> {
    let [Record { data: RData::Unknown { rdata, .. }, .. }] = records else { return None };
    let target = Name::from_bytes(&rdata.anything).ok()?;
    let below = name.iter().count().checked_sub(owner.iter().count()).filter(|labels| *labels > 0)?;
    Name::from_labels(name.iter().take(below)).ok()?.append_domain(&target).ok()
}

/// A record as it is signed: the target in lower case (RFC 4034 §6.2). No length of a label is a letter.
pub fn canonical(record: &mut Record) {
    if let RData::Unknown { code: RecordType::DNAME, rdata } = &mut record.data {
        *rdata = NULL::with(rdata.anything.to_ascii_lowercase());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn dname(owner: &str, data: &[u8]) -> Record {
        Record::from_rdata(
            name(owner),
            60,
            RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(data.to_vec()) },
        )
    }

    #[test]
    fn what_is_below_is_led_elsewhere_and_the_name_itself_is_not() {
        let records = [dname("away.a.example.", b"\x01b\x07example\0")];
        let owner = name("away.a.example.");
        let leads = |text: &str| above(&records, &name(text)).map(|owner| leads_to(&records, &owner, &name(text)));
        assert_eq!(leads("k1._tbr.away.a.example."), Some(Some(name("k1._tbr.b.example."))));
        assert_eq!(leads("X.Away.A.example."), Some(Some(name("X.b.example."))));
        for elsewhere in ["away.a.example.", "a.example.", "far.away.b.example.", "faraway.a.example."] {
            assert_eq!(leads(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(leads_to(&records, &owner, &owner), None);
    }

    #[test]
    fn what_is_signed_is_in_lower_case() {
        let (mut record, signed) =
            (dname("a.example.", b"\x01B\x07eXamPle\0"), dname("a.example.", b"\x01b\x07example\0"));
        canonical(&mut record);
        assert_eq!(record, signed);
    }

    #[test]
    fn what_cannot_be_told_leads_nowhere() {
        let (owner, below) = (name("away.a.example."), name("x.away.a.example."));
        let long = [&[63; 64][..], &[63; 64], &[63; 64], &[60; 61], b"\0"].concat();
        for data in [&b""[..], b"\x05ab", b"\xc0\x00", &long] {
            assert_eq!(leads_to(&[dname("away.a.example.", data)], &owner, &below), None, "{data:?}");
        }
        let one = dname("away.a.example.", b"\x01b\0");
        assert_eq!(leads_to(&[one.clone(), one], &owner, &below), None, "two of them");
        assert_eq!(leads_to(&[], &owner, &below), None);
    }
}
