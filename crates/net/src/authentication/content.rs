//! Content as it streams past: its header is kept, its body only hashed, in each form that a signature asks for, and as an
//! object where it stands under a TBR-Reference.
//!
//! What the hashes are compared with is `signatures`'s, what a reference means `policy::tbr`'s.

use std::sync::Arc;

use aws_lc_rs::digest::{self, Context};
use mail::Xuid;
use mail::id::XuidHasher;
use mail_auth::AuthenticatedMessage;
use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::dkim::Canonicalization;
use mail_auth::dkim::canonicalize::BodyHasher;
use reference::stored::StoredError;
use reference::{Chain, split_stored};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::line_ends::LineEnds;

/// Longest header, in octets.
pub const MAX_HEADER: usize = 256 * 1024;
/// The budget is drawn in such steps, in octets.
const STEP: usize = 4 * 1024;
/// Most forms of one body that are hashed: there are two canonicalisations and two algorithms.
const MAX_FORMS: usize = 4;

/// Why content cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// Its header is over [`MAX_HEADER`].
    #[error("the header of the message is longer than 256 KiB")]
    LongHeader,
    /// All headers in memory together have reached their limit.
    #[error("too many messages are being read now")]
    Busy,
}

/// Reads content in chunks of any size.
#[derive(Debug)]
pub struct ContentReader {
    head: Vec<u8>,
    budget: Arc<Semaphore>,
    drawn: Option<OwnedSemaphorePermit>,
    forms: Option<Vec<Form>>,
    /// Before the relaxed forms.
    line_ends: LineEnds,
    /// The body is hashed in the form of seals of ours, too.
    to_be_sealed: bool,
    under: Option<Result<Under, StoredError>>,
    fault: Option<ContentFault>,
}

/// A body in one form, hashed so far.
struct Form {
    canonicalization: Canonicalization,
    algorithm: HashAlgorithm,
    hasher: BodyHasher<Context>,
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Form").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What stands under a reference, hashed so far.
#[derive(Debug)]
struct Under {
    chain: Chain,
    hasher: XuidHasher,
    size: u64,
}

impl Under {
    fn update(&mut self, octets: &[u8]) {
        self.hasher.update(octets);
        self.size += octets.len() as u64;
    }
}

/// A reference on top of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnTop {
    /// The fields, newest first.
    pub chain: Chain,
    /// Is what stands below what the origin named?
    pub object_intact: bool,
}

/// Content that has been read: its header, and its body's hashes.
#[derive(Debug)]
pub struct Content {
    pub(super) head: Vec<u8>,
    pub(super) hashes: Vec<(Canonicalization, HashAlgorithm, Vec<u8>)>,
    /// The reference on top of it, if there is one; the error: there is one that cannot be read.
    pub on_top: Option<Result<OnTop, StoredError>>,
    /// Given back when the header is dropped.
    _drawn: Option<OwnedSemaphorePermit>,
}

impl ContentReader {
    pub(super) fn new(budget: Arc<Semaphore>) -> Self {
        let line_ends = LineEnds::default();
        Self {
            head: Vec::new(),
            budget,
            drawn: None,
            forms: None,
            line_ends,
            to_be_sealed: false,
            under: None,
            fault: None,
        }
    }

    /// The content may be sealed (`Signer::seal`). To be said before its first octet.
    #[must_use]
    pub fn to_be_sealed(self) -> Self {
        Self { to_be_sealed: true, ..self }
    }

    /// Takes the next octets. After a fault they are passed over; [`ContentReader::finish`] tells it.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        match &mut self.forms {
            Some(forms) => {
                hash(forms, &mut self.line_ends, chunk);
                if let Some(Ok(under)) = &mut self.under {
                    under.update(chunk);
                }
            }
            None => {
                if let Err(fault) = self.read_head(chunk) {
                    self.fault = Some(fault);
                    self.head = Vec::new();
                    self.drawn = None;
                }
            }
        }
    }

    /// The content has ended.
    ///
    /// # Errors
    /// [`ContentFault`], the first one.
    pub fn finish(mut self) -> Result<Content, ContentFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.forms.is_none() {
            self.begin_body(self.head.len());
        }
        let hash =
            |form: Form| (form.canonicalization, form.algorithm, form.hasher.finish().0.finish().as_ref().to_vec());
        let hashes = self.forms.take().unwrap_or_default().into_iter().map(hash).collect();
        let on_top = self.under.map(|under| under.map(judge));
        Ok(Content { head: self.head, hashes, on_top, _drawn: self.drawn })
    }

    fn read_head(&mut self, chunk: &[u8]) -> Result<(), ContentFault> {
        let searched = self.head.len().saturating_sub(3);
        // Never more than a header may have: the rest of a chunk may be body.
        let (kept, rest) = chunk.split_at(chunk.len().min(MAX_HEADER + 1 - self.head.len()));
        self.draw(self.head.len() + kept.len())?;
        self.head.extend_from_slice(kept);
        match end_of_header(&self.head, searched) {
            Some(end) => {
                let body = self.head.split_off(end);
                self.begin_body(end);
                self.push(&body);
                self.push(rest);
                Ok(())
            }
            None if self.head.len() > MAX_HEADER => Err(ContentFault::LongHeader),
            None => Ok(()),
        }
    }

    fn draw(&mut self, octets: usize) -> Result<(), ContentFault> {
        let has = self.drawn.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if octets <= has {
            return Ok(());
        }
        let more = draw(&self.budget, octets - has)?;
        match &mut self.drawn {
            Some(drawn) => drawn.merge(more),
            None => self.drawn = Some(more),
        }
        Ok(())
    }

    /// The header is complete: which forms of the body do its signatures ask for?
    fn begin_body(&mut self, end: usize) {
        let message = AuthenticatedMessage::parse(&self.head);
        let wanted = message.as_ref().map(|message| message.body_hashes.iter()).into_iter().flatten();
        let wanted = wanted.filter(|(_, _, limit, _)| *limit == 0).map(|(form, algorithm, ..)| (*form, *algorithm));
        let seals = self.to_be_sealed.then_some((Canonicalization::Relaxed, HashAlgorithm::Sha256));
        let mut forms: Vec<Form> = Vec::new();
        for (canonicalization, algorithm) in seals.into_iter().chain(wanted).take(MAX_FORMS + 1) {
            if !forms.iter().any(|form| (form.canonicalization, form.algorithm) == (canonicalization, algorithm)) {
                let hasher = BodyHasher::new(Context::new(function(algorithm)), canonicalization, 0);
                forms.push(Form { canonicalization, algorithm, hasher });
            }
        }
        // A line that cannot stand in a header ends it for the library: what follows is body.
        let early = message.map_or(end, |message| message.body_offset()).min(end);
        hash(&mut forms, &mut self.line_ends, &self.head[early..end]);
        self.forms = Some(forms);
        self.under = under(&self.head);
    }
}

/// Some of a body, into each of its forms.
fn hash(forms: &mut [Form], line_ends: &mut LineEnds, chunk: &[u8]) {
    let is_relaxed = |form: &Form| form.canonicalization == Canonicalization::Relaxed;
    forms.iter_mut().filter(|form| !is_relaxed(form)).for_each(|form| form.hasher.write(chunk));
    if forms.iter().any(is_relaxed) {
        line_ends.push(chunk, |part| {
            forms.iter_mut().filter(|form| is_relaxed(form)).for_each(|form| form.hasher.write(part));
        });
    }
}

/// Draws memory for a header, until it is dropped.
pub(super) fn draw(budget: &Arc<Semaphore>, octets: usize) -> Result<OwnedSemaphorePermit, ContentFault> {
    let wanted = u32::try_from(octets.div_ceil(STEP) * STEP).map_err(|_| ContentFault::Busy)?;
    Arc::clone(budget).try_acquire_many_owned(wanted).map_err(|_| ContentFault::Busy)
}

/// Begins to hash what stands under a reference, where there is one.
fn under(head: &[u8]) -> Option<Result<Under, StoredError>> {
    match split_stored(head) {
        // No field of that name, or lines that no relay of ours writes above one.
        Err(StoredError::NoReference | StoredError::Incomplete | StoredError::Header(_)) => None,
        Err(error) => Some(Err(error)),
        Ok(stored) => {
            let mut under = Under { chain: stored.chain, hasher: XuidHasher::default(), size: 0 };
            under.update(&head[stored.object_at..]);
            Some(Ok(under))
        }
    }
}

fn judge(under: Under) -> OnTop {
    let stated = under.chain.reference().statement();
    let found: Xuid = under.hasher.finish();
    let object_intact = found == stated.xuid && under.size == stated.size;
    OnTop { chain: under.chain, object_intact }
}

fn function(algorithm: HashAlgorithm) -> &'static digest::Algorithm {
    match algorithm {
        HashAlgorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        HashAlgorithm::Sha256 => &digest::SHA256,
    }
}

/// Behind the empty line that ends a header, in these first octets of a message. It is looked for from `from` on.
#[must_use]
pub fn end_of_header(head: &[u8], from: usize) -> Option<usize> {
    if head.starts_with(b"\r\n") {
        return Some(2);
    }
    head[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(budget: usize) -> ContentReader {
        ContentReader::new(Arc::new(Semaphore::new(budget)))
    }

    const SIGNED: &str = "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=a.example; s=s1; h=from; \
                          bh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=; b=AAAA\r\n\
                          DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=a.example; s=s1; h=from; \
                          bh=frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=; b=AAAA\r\nFrom: a@a.example\r\n";

    fn hashes(content: &str, chunk: usize) -> Vec<Vec<u8>> {
        let mut reader = reader(1 << 20);
        content.as_bytes().chunks(chunk).for_each(|part| reader.push(part));
        reader.finish().unwrap().hashes.into_iter().map(|(_, _, hash)| hash).collect()
    }

    #[test]
    fn a_body_is_hashed_in_the_forms_that_are_asked_for_however_it_is_cut() {
        let content = format!("{SIGNED}\r\nbody  text \r\n\r\n\r\n");
        let sha256 = |text: &str| digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec();
        let expected = vec![sha256("body  text \r\n"), sha256("body text\r\n")];
        for chunk in [1, 3, 1000] {
            assert_eq!(hashes(&content, chunk), expected);
        }
        // Lines of white space are empty in the relaxed form, and at the end none at all.
        let content = format!("{SIGNED}\r\na \t b \r\n \r\nc\r\n \r\n\t\t\r\n");
        let expected = vec![sha256(&content[SIGNED.len() + 2..]), sha256("a b\r\n\r\nc\r\n")];
        for chunk in 1..content.len() {
            assert_eq!(hashes(&content, chunk), expected, "in parts of {chunk}");
        }
        assert_eq!(hashes(&format!("{SIGNED}\r\n \r\n"), 7), [sha256(" \r\n"), sha256("")]);
        // RFC 6376 §3.4.3, §3.4.4: an empty body is CRLF in the simple form, nothing in the relaxed one.
        assert_eq!(hashes(&format!("{SIGNED}\r\n"), 7), [sha256("\r\n"), sha256("")]);
        assert_eq!(hashes(SIGNED, 7), [sha256("\r\n"), sha256("")]);
        assert!(hashes("From: a@a.example\r\n\r\nx\r\n", 5).is_empty(), "nobody asks");
    }

    #[test]
    fn headers_have_a_limit_each_and_all_together() {
        let mut long = reader(1 << 30);
        (0..300).for_each(|_| long.push(&[b'x'; 1024]));
        assert_eq!(long.finish().unwrap_err(), ContentFault::LongHeader);
        let budget = Arc::new(Semaphore::new(8192));
        let mut first = ContentReader::new(Arc::clone(&budget));
        first.push(b"A: b\r\n\r\nbody");
        let mut second = ContentReader::new(Arc::clone(&budget));
        second.push(&[b'y'; 5000]);
        assert_eq!(second.finish().unwrap_err(), ContentFault::Busy);
        let content = first.finish().unwrap();
        assert_eq!(budget.available_permits(), 4096);
        drop(content);
        assert_eq!(budget.available_permits(), 8192);
        // A body costs nothing, however long it is.
        let mut body = ContentReader::new(Arc::clone(&budget));
        body.push(b"A: b\r\n\r\n");
        (0..100).for_each(|_| body.push(&[b'z'; 65536]));
        assert!(body.finish().is_ok());
    }
}
