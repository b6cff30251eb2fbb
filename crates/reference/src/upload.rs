//! Mail of a site on its way to its custodian over HTTPS (TBR §7.4): what is answered to its list, and the parts of objects that
//! follow, a resumable upload in the manner of draft-ietf-httpbis-resumable-upload.
//!
//! The list itself is the one that bundles have: [`crate::bundle::MailList`]. Who may post it, and where octets go, is said
//! elsewhere.

use mail::Xuid;
use serde::{Deserialize, Serialize};

use crate::body::{BodyError, JsonBody, Revision1, check_count};
use crate::bundle::{MailList, TakenEntry, check_taken};

/// Path of the resource that takes lists.
pub const MAIL_PATH: &str = "/.well-known/tbr/mail";
/// What stands before the XUID in the path of the resource that takes an object.
pub const UPLOAD_PATH: &str = "/.well-known/tbr/upload/";
/// Field that says how many octets are there, lower case.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// Media type of a part.
pub const PART_MEDIA: &str = "application/partial-upload";
/// Most digits of an offset: what a structured field can hold (RFC 9651 §3.3.1).
const MAX_DIGITS: usize = 15;

/// Path of an object that is uploaded.
pub fn upload_path(xuid: &Xuid) -> String {
    format!("{UPLOAD_PATH}{xuid}")
}

/// The object that a path is of; `None` for every other path.
pub fn parse_path(path: &str) -> Option<Xuid> {
    path.strip_prefix(UPLOAD_PATH)?.parse().ok()
}

/// The value of [`UPLOAD_OFFSET`]: digits, without leading zeros; `None` for everything else.
pub fn parse_offset(text: &str) -> Option<u64> {
    let is_plain = text.len() <= MAX_DIGITS && text.bytes().all(|octet| octet.is_ascii_digit());
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    if is_plain && !has_leading_zero { text.parse().ok() } else { None }
}

/// What a custodian answers to a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailAnswer {
    /// Revision.
    pub v: Revision1,
    /// Messages of the list that are taken: durable, and the custodian's from then on.
    pub taken: Vec<TakenEntry>,
    /// Objects of the others, as far as they are here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<WantedObject>,
}

/// An object that is not here, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedObject {
    /// Which.
    pub o: Xuid,
    /// Octets of it that are here: the next one is wanted from there on.
    pub at: u64,
}

impl JsonBody for MailAnswer {
    fn check(&self) -> Result<(), BodyError> {
        check_count(self.wanted.len())?;
        check_taken(&self.taken)
    }
}

impl MailAnswer {
    /// Is it one to this list: nothing in it that was not asked, nothing twice?
    pub fn answers(&self, list: &MailList) -> bool {
        let is_once = |count: usize| count == 1;
        let listed = |entry: &TakenEntry| {
            let taken = self.taken.iter().filter(|other| other.id == entry.id).count();
            is_once(taken) && list.mail.iter().any(|mail| mail.id == entry.id)
        };
        let open = |wanted: &WantedObject| {
            let named = self.wanted.iter().filter(|other| other.o == wanted.o).count();
            is_once(named) && list.mail.iter().any(|mail| mail.o == wanted.o && wanted.at < mail.l)
        };
        self.taken.iter().all(listed) && self.wanted.iter().all(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::MailEntry;

    fn entry(number: u32, object: &[u8]) -> MailEntry {
        MailEntry {
            id: format!("leg/abc/{number}").parse().unwrap(),
            at: 1,
            mail: "FROM:<bob@site.example>".to_owned(),
            rcpt: vec!["TO:<alice@a.example>".to_owned()],
            o: Xuid::of(object),
            l: object.len() as u64,
            trace: String::new(),
        }
    }

    fn taken(number: u32) -> TakenEntry {
        TakenEntry { id: format!("leg/abc/{number}").parse().unwrap(), failed: Vec::new() }
    }

    #[test]
    fn paths_and_offsets_have_one_form() {
        let xuid = Xuid::of(b"x");
        assert_eq!(parse_path(&upload_path(&xuid)), Some(xuid));
        for bad in ["", UPLOAD_PATH, MAIL_PATH, &format!("{}/", upload_path(&xuid)), &format!("{UPLOAD_PATH}x")] {
            assert_eq!(parse_path(bad), None, "{bad}");
        }
        assert_eq!((parse_offset("0"), parse_offset("262144")), (Some(0), Some(262_144)));
        assert_eq!(parse_offset("999999999999999"), Some(999_999_999_999_999));
        for bad in ["", "-1", "+1", "01", "00", "1.0", " 1", "1 ", "0x1", "1;a", "1000000000000000", "१"] {
            assert_eq!(parse_offset(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_says_only_what_was_asked_and_that_once() {
        let list = MailList { v: Revision1, mail: vec![entry(0, b"first"), entry(1, b"second")] };
        let answer = |taken: &[u32], wanted: &[(&[u8], u64)]| MailAnswer {
            v: Revision1,
            taken: taken.iter().map(|number| super::tests::taken(*number)).collect(),
            wanted: wanted.iter().map(|(object, at)| WantedObject { o: Xuid::of(object), at: *at }).collect(),
        };
        let good = answer(&[0], &[(b"second", 3)]);
        assert!(good.answers(&list) && answer(&[], &[]).answers(&list));
        assert_eq!(MailAnswer::parse(&good.encode().unwrap()), Ok(good));
        assert!(!answer(&[2], &[]).answers(&list), "another message");
        assert!(!answer(&[0, 0], &[]).answers(&list), "one message twice");
        assert!(!answer(&[], &[(b"third", 0)]).answers(&list), "another object");
        assert!(!answer(&[], &[(b"second", 0), (b"second", 1)]).answers(&list), "one object twice");
        assert!(!answer(&[], &[(b"second", 6)]).answers(&list), "all of it is there, and it is not taken");
    }
}
