//! What waits for a site, as it travels: the JSON answer of `GET /.well-known/tbr/pending` (TBR §7.4).
//!
//! Each entry is an offer in the words of SMTP: arguments of MAIL, RCPT and TBR, and the block. Reading those words is
//! the `smtp` crate's, judging them [`crate::verify`]'s, who may ask the repository's.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::body::{BodyError, JsonBody, MAX_BODY, MAX_ENTRIES, MAX_RECIPIENTS, Revision1, check_count};

/// Path of the resource.
pub const PENDING_PATH: &str = "/.well-known/tbr/pending";
/// Longest block in octets, as in SMTP (TBR §3.4).
pub const MAX_BLOCK: usize = 64 * 1024;
/// Longest line in octets: a command's arguments (RFC 5321 §4.5.3.1.4, and what extensions add to it).
pub const MAX_LINE: usize = 2048;
/// Longest trace in octets.
pub const MAX_TRACE: usize = 16 * 1024;
/// Longest cursor in characters.
pub const MAX_CURSOR: usize = 100;
/// Octets up to which a page is filled, from [`MAX_BODY`] down by the room for what stands around entries.
pub const PAGE: usize = MAX_BODY - 1024;
/// The same for pages that cross a link each by itself: a page that a break cuts off comes again, and over 64 kbit/s this one takes
/// four seconds.
pub const PAGE_OF_A_LINK: usize = 32 * 1024;

/// One page of what waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingList {
    /// Revision.
    pub v: Revision1,
    /// Offers.
    pub pending: Vec<PendingOffer>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// An offer. It holds a grant: `Debug` shows no more than the sender's line.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingOffer {
    /// Arguments of MAIL: `FROM:<alice@a.example> BODY=8BITMIME`.
    pub mail: String,
    /// Arguments of each RCPT in order: `TO:<bob@b.example>`.
    pub rcpt: Vec<String>,
    /// Arguments of TBR: hops and URI.
    pub tbr: String,
    /// The block, lines ended by CRLF.
    pub block: String,
    /// What the custodian found and received: header fields, to stand above the block. Only from a custodian that the site
    /// trusts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
}

impl fmt::Debug for PendingOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingOffer").field("mail", &self.mail).finish_non_exhaustive()
    }
}

/// Where to go on: a word of the custodian's choice, letters, digits, `-`, `_`, `.` and `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(String);

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor has 1 to {MAX_CURSOR} letters, digits, hyphens, underscores, dots and slashes")]
pub struct NotCursor;

impl Cursor {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Cursor {
    type Error = NotCursor;
    fn try_from(text: String) -> Result<Self, NotCursor> {
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_./".contains(&octet);
        let fits = (1..=MAX_CURSOR).contains(&text.len());
        if fits && text.bytes().all(is_plain) { Ok(Self(text)) } else { Err(NotCursor) }
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.0
    }
}

/// Path and query of a request for the page that begins there.
pub fn request_path(after: Option<&Cursor>) -> String {
    after.map_or_else(|| PENDING_PATH.to_owned(), |cursor| format!("{PENDING_PATH}?after={}", cursor.as_str()))
}

/// The cursor in a request's query; none in one without query.
///
/// # Errors
/// [`NotCursor`]: no such page.
pub fn parse_query(query: Option<&str>) -> Result<Option<Cursor>, NotCursor> {
    let Some(query) = query else { return Ok(None) };
    let text = query.strip_prefix("after=").ok_or(NotCursor)?;
    Cursor::try_from(text.to_owned()).map(Some)
}

impl JsonBody for PendingList {
    fn check(&self) -> Result<(), BodyError> {
        check_count(self.pending.len())?;
        self.pending.iter().try_for_each(PendingOffer::check)
    }
}

impl PendingOffer {
    /// # Errors
    /// [`BodyError`]: [`BodyError::Indexes`] for the number of recipients, [`BodyError::TooLong`] for everything else.
    pub fn check(&self) -> Result<(), BodyError> {
        if self.rcpt.is_empty() || self.rcpt.len() > usize::from(MAX_RECIPIENTS) {
            return Err(BodyError::Indexes);
        }
        let lines = [&self.mail, &self.tbr].into_iter().chain(&self.rcpt);
        let long = lines.into_iter().any(|line| line.len() > MAX_LINE);
        let long = long || self.block.len() > MAX_BLOCK || self.trace.len() > MAX_TRACE;
        if long { Err(BodyError::TooLong) } else { Ok(()) }
    }

    /// Octets of it on a page.
    pub fn encoded_len(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |octets| octets.len() + 1)
    }
}

/// A page on its way: takes what fits.
#[derive(Debug)]
pub struct Page {
    offers: Vec<PendingOffer>,
    octets: usize,
    most: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self::up_to(PAGE)
    }
}

impl Page {
    /// One that is full with so many octets, [`PAGE`] at most. A longer offer has a page of its own.
    pub fn up_to(most: usize) -> Self {
        Self { offers: Vec::new(), octets: 0, most: most.min(PAGE) }
    }

    /// Adds offers that belong together, or none of them where there is no room: then the page is full. One that could stand
    /// on no page is passed over.
    pub fn add(&mut self, offers: Vec<PendingOffer>) -> bool {
        let fits = |offer: &PendingOffer| offer.check().is_ok() && offer.encoded_len() <= PAGE;
        let offers: Vec<PendingOffer> = offers.into_iter().filter(fits).collect();
        let octets = self.octets + offers.iter().map(PendingOffer::encoded_len).sum::<usize>();
        if !self.offers.is_empty() && (octets > self.most || self.offers.len() + offers.len() > MAX_ENTRIES) {
            return false;
        }
        self.octets = octets;
        self.offers.extend(offers);
        true
    }

    /// The page, and where the next one begins.
    pub fn finish(self, next: Option<Cursor>) -> PendingList {
        PendingList { v: Revision1, pending: self.offers, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(block: usize) -> PendingOffer {
        PendingOffer {
            mail: "FROM:<alice@a.example>".to_owned(),
            rcpt: vec!["TO:<bob@b.example>".to_owned()],
            tbr: "0 https://tbr.a.example/x".to_owned(),
            block: "x".repeat(block),
            trace: String::new(),
        }
    }

    fn list(pending: Vec<PendingOffer>) -> PendingList {
        PendingList { v: Revision1, pending, next: None }
    }

    #[test]
    fn a_page_survives_and_hides_its_grants() {
        let mut page = list(vec![offer(10), offer(20)]);
        page.next = Some(Cursor::try_from("leg/abc/0".to_owned()).unwrap());
        assert_eq!(PendingList::parse(&page.encode().unwrap()), Ok(page.clone()));
        assert!(!format!("{page:?}").contains("https"));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let no_recipient = PendingOffer { rcpt: Vec::new(), ..offer(1) };
        assert_eq!(list(vec![no_recipient]).encode(), Err(BodyError::Indexes));
        assert_eq!(list(vec![offer(MAX_BLOCK + 1)]).encode(), Err(BodyError::TooLong));
        let long_line = PendingOffer { mail: "x".repeat(MAX_LINE + 1), ..offer(1) };
        assert_eq!(list(vec![long_line]).encode(), Err(BodyError::TooLong));
        assert_eq!(list(vec![offer(1); MAX_ENTRIES + 1]).encode(), Err(BodyError::TooMany));
        assert!(PendingList::parse(br#"{"v":2,"pending":[]}"#).is_err());
    }

    #[test]
    fn a_page_takes_what_fits_and_passes_over_what_never_will() {
        let mut page = Page::default();
        assert!(page.add(vec![offer(MAX_BLOCK), offer(MAX_BLOCK + 1)]));
        assert!(page.add(vec![offer(MAX_BLOCK)]) && page.add(vec![offer(MAX_BLOCK)]));
        assert!(!page.add(vec![offer(MAX_BLOCK)]), "a page that is full took more");
        assert!(page.add(vec![offer(1)]), "something small still fits");
        let list = page.finish(None);
        assert_eq!(list.pending.len(), 4);
        assert!(list.encode().is_ok());
    }

    #[test]
    fn a_page_of_a_link_is_small_and_takes_what_is_larger_alone() {
        let mut page = Page::up_to(PAGE_OF_A_LINK);
        let count = (0..).take_while(|_| page.add(vec![offer(800)])).count();
        assert!((30..40).contains(&count), "{count}");
        let mut page = Page::up_to(PAGE_OF_A_LINK);
        assert!(page.add(vec![offer(MAX_BLOCK)]) && !page.add(vec![offer(1)]));
    }

    #[test]
    fn cursors_are_plain_words() {
        let page = |text: &str| parse_query(Some(text)).map(|cursor| cursor.map(|c| c.as_str().to_owned()));
        assert_eq!(page("after=leg/a.b-c_9/0"), Ok(Some("leg/a.b-c_9/0".to_owned())));
        assert_eq!(parse_query(None), Ok(None));
        for bad in ["", "after=", "before=x", "after=a b", "after=x&after=y", &format!("after={}", "x".repeat(101))] {
            assert_eq!(page(bad), Err(NotCursor), "{bad}");
        }
        let cursor = Cursor::try_from("leg/a/0".to_owned()).unwrap();
        assert_eq!(parse_query(request_path(Some(&cursor)).split_once('?').map(|(_, query)| query)), Ok(Some(cursor)));
        assert_eq!(request_path(None), PENDING_PATH);
    }
}
