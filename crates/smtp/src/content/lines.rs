//! The rules of lines within a message: CR LF and nothing less ends them, and they are not too long
//! (RFC 5321 §2.3.8, §4.5.3.1.6).

use memchr::memchr_iter;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// A CR without LF, or an LF without CR.
    #[error("bare CR or LF")]
    BareLineEnd,
    /// A line over the limit.
    #[error("overlong line")]
    TooLong,
}

/// Watches a message pass by in chunks, wherever they are cut.
#[derive(Debug, Clone)]
pub struct LineRules {
    /// Most octets of a line, CR LF included.
    longest: usize,
    /// Octets of the current line that earlier chunks held.
    begun: usize,
    /// Did the last chunk end with CR?
    after_cr: bool,
}

impl LineRules {
    /// Lines may have `longest` octets, CR LF included.
    pub fn new(longest: usize) -> Self {
        Self { longest, begun: 0, after_cr: false }
    }

    /// Looks at the next chunk.
    ///
    /// # Errors
    /// [`LineFault`]: that of the first octet that breaks a rule, wherever chunks are cut; the rules are of no use afterwards.
    pub fn watch(&mut self, chunk: &[u8]) -> Result<(), LineFault> {
        let before = self.clone();
        self.pass(chunk).map_err(|fault| before.first_fault(chunk).unwrap_or(fault))
    }

    /// Looks for any fault, in few steps.
    fn pass(&mut self, chunk: &[u8]) -> Result<(), LineFault> {
        let Some(last) = chunk.last() else {
            return Ok(());
        };
        if self.after_cr && chunk[0] != b'\n' {
            return Err(LineFault::BareLineEnd);
        }
        let (mut start, mut pairs) = (0, 0);
        for at in memchr_iter(b'\n', chunk) {
            let cr_before = if at == 0 { self.after_cr } else { chunk[at - 1] == b'\r' };
            if !cr_before {
                return Err(LineFault::BareLineEnd);
            }
            if self.begun + (at + 1 - start) > self.longest {
                return Err(LineFault::TooLong);
            }
            pairs += usize::from(at > 0);
            (start, self.begun) = (at + 1, 0);
        }
        self.begun += chunk.len() - start;
        self.after_cr = *last == b'\r';
        // Every CR of this chunk belongs to a pair, but for one at its end, which the next chunk decides.
        if memchr_iter(b'\r', chunk).count() != pairs + usize::from(self.after_cr) {
            return Err(LineFault::BareLineEnd);
        }
        if self.begun > self.longest { Err(LineFault::TooLong) } else { Ok(()) }
    }

    /// Looks for the first fault, octet by octet.
    fn first_fault(mut self, chunk: &[u8]) -> Option<LineFault> {
        chunk.iter().find_map(|octet| {
            self.begun += 1;
            let is_pair = (*octet == b'\n') == self.after_cr;
            self.after_cr = *octet == b'\r';
            let fault = match () {
                () if !is_pair => Some(LineFault::BareLineEnd),
                () if self.begun > self.longest => Some(LineFault::TooLong),
                () => None,
            };
            if *octet == b'\n' {
                self.begun = 0;
            }
            fault
        })
    }

    /// The message is over.
    ///
    /// # Errors
    /// [`LineFault::BareLineEnd`] where it ends with a CR.
    pub fn finish(&self) -> Result<(), LineFault> {
        if self.after_cr { Err(LineFault::BareLineEnd) } else { Ok(()) }
    }
}
