//! The header of a submitted message (RFC 6409 §6.1, §8): gathered until its end, its authors checked against the account,
//! what is missing added. Then the message is an object and nobody changes it any more.
//!
//! Which addresses are the account's is the router's to say; the rest of the content streams past.

use bytes::Bytes;
use mail::Address;

use crate::compose::{self, Additions};

/// Longest header of a submission, in octets.
const MAX_HEADER: usize = 256 * 1024;

/// How much is gathered before the end of the header is looked for the first time; then twice as much, and so on.
const FIRST_LOOK: usize = 8 * 1024;

/// Gathers the beginning of a content.
#[derive(Debug, Default)]
pub struct Head {
    gathered: Vec<u8>,
    is_over: bool,
}

/// What to do with a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more of it.
    Gather,
    /// The header is complete; these are the octets so far, perhaps with some of the body.
    Header(Vec<u8>),
    /// It is of the body.
    Body(Bytes),
}

/// Why a submission is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than [`MAX_HEADER`].
    #[error("the header of the message is too long")]
    TooLong,
    /// From cannot be read in one way only.
    #[error("{0}")]
    Malformed(&'static str),
    /// No From, and no reverse-path to make one of.
    #[error("the message does not say whom it is from")]
    Anonymous,
    /// An author that is not an address of the account.
    #[error("this account may not send as {0}")]
    Foreign(Address),
}

impl Head {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`Refused::TooLong`].
    pub fn take(&mut self, chunk: Bytes) -> Result<Step, Refused> {
        if self.is_over {
            return Ok(Step::Body(chunk));
        }
        let before = self.gathered.len();
        self.gathered.extend_from_slice(&chunk);
        let looks = before / FIRST_LOOK < self.gathered.len() / FIRST_LOOK;
        if looks && (self.gathered.len() / FIRST_LOOK).is_power_of_two() && compose::is_complete(&self.gathered) {
            self.is_over = true;
            return Ok(Step::Header(std::mem::take(&mut self.gathered)));
        }
        if self.gathered.len() > MAX_HEADER { Err(Refused::TooLong) } else { Ok(Step::Gather) }
    }

    /// The content has come to its end: the octets that have not been given out.
    pub fn end(&mut self) -> Option<Vec<u8>> {
        (!std::mem::replace(&mut self.is_over, true)).then(|| std::mem::take(&mut self.gathered))
    }
}

/// Checks the authors and completes the header; what follows it in `head` follows on. The null sender of a receipt for a
/// person (RFC 8098 §3) is as good as any, if From is the account's.
///
/// # Errors
/// [`Refused`].
pub fn complete(
    head: &[u8],
    mail_from: Option<&Address>,
    may_send_as: &dyn Fn(&Address) -> bool,
    additions: &Additions,
) -> Result<Vec<u8>, Refused> {
    match compose::authors(head).map_err(Refused::Malformed)? {
        None if mail_from.is_none() => return Err(Refused::Anonymous),
        None => {}
        Some(authors) => {
            if let Some(foreign) = authors.into_iter().find(|author| !may_send_as(author)) {
                return Err(Refused::Foreign(foreign));
            }
        }
    }
    Ok(compose::compose(head, false, additions).assemble(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(head: &str, mail_from: &str) -> Result<String, Refused> {
        let additions = Additions { date: "D".into(), message_id: "<m>".into(), from: mail_from.to_owned() };
        let mail_from = (!mail_from.is_empty()).then(|| mail_from.parse().unwrap());
        let own = |address: &Address| address.host() == "a.example";
        let whole = complete(head.as_bytes(), mail_from.as_ref(), &own, &additions);
        whole.map(|octets| String::from_utf8(octets).unwrap())
    }

    #[test]
    fn nobody_sends_as_somebody_else() {
        let foreign = Refused::Foreign("ceo@b.example".parse().unwrap());
        for from in ["ceo@b.example", "Me <me@a.example>, ceo@b.example", "\"me@a.example\" <ceo@b.example>"] {
            let head = format!("From: {from}\r\n\r\nhi\r\n");
            assert_eq!(completed(&head, "me@a.example"), Err(foreign.clone()), "{from}");
            assert_eq!(completed(&head, ""), Err(foreign.clone()), "{from}");
        }
        let twice = "From: me@a.example\r\nFrom: ceo@b.example\r\n\r\n";
        assert!(matches!(completed(twice, "me@a.example"), Err(Refused::Malformed(_))));
        assert_eq!(completed("Subject: x\r\n\r\n", ""), Err(Refused::Anonymous));
    }

    #[test]
    fn what_is_missing_is_added_and_the_rest_stays() {
        let whole = "From: me@a.example\r\nDate: x\r\nMessage-ID: <y>\r\n\r\nbody\r\n";
        assert_eq!(completed(whole, "").unwrap(), whole);
        let short = "Subject: x\r\n\r\nbody\r\n";
        let added = "From: me@a.example\r\nDate: D\r\nMessage-ID: <m>\r\n";
        assert_eq!(completed(short, "me@a.example").unwrap(), format!("{added}{short}"));
        assert_eq!(completed("body\r\n", "me@a.example").unwrap(), format!("{added}\r\nbody\r\n"));
    }

    /// What comes out when a content comes in pieces of this size.
    fn passed(whole: &str, size: usize) -> Vec<u8> {
        let (mut head, mut out) = (Head::default(), Vec::new());
        for chunk in whole.as_bytes().chunks(size) {
            match head.take(Bytes::copy_from_slice(chunk)).unwrap() {
                Step::Gather => {}
                Step::Header(octets) => out.extend(octets),
                Step::Body(octets) => out.extend_from_slice(&octets),
            }
        }
        out.extend(head.end().unwrap_or_default());
        out
    }

    #[test]
    fn however_it_is_cut_the_same_comes_out() {
        let body = "line\r\n".repeat(10_000);
        for header in ["From: me@a.example\r\n".to_owned(), format!("From: x\r\n{}", "A: b\r\n".repeat(4_000))] {
            let whole = format!("{header}\r\n{body}");
            assert!([1, 7, 4096, 65_536].into_iter().all(|size| passed(&whole, size) == whole.as_bytes()));
        }
    }

    #[test]
    fn a_header_without_end_is_not_gathered_without_end() {
        let mut head = Head::default();
        let refused = (0..).map(|_| head.take(Bytes::from_static(&[b'x'; 1000]))).find_map(Result::err);
        assert_eq!(refused, Some(Refused::TooLong));
        assert!(head.gathered.len() <= MAX_HEADER + 1000);
    }
}
