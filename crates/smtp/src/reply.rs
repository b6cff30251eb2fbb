//! Replies: a code, an enhanced status, and text that cannot break out of its line (RFC 5321 §4.2,
//! RFC 2034). [`catalogue`] holds the sentences that this server says, [`reader`] collects what a peer
//! says.

pub mod catalogue;
pub mod reader;

use std::borrow::Cow;
use std::fmt;

use mail::EnhancedStatus;
use mail::StatusClass;

/// Longest text of one reply line in octets, so that code, status and CR LF stay within the 512 of
/// RFC 5321 §4.5.3.1.5. Longer text is cut.
pub const MAX_TEXT: usize = 480;

/// Most lines of one reply; further ones are dropped.
pub const MAX_LINES: usize = 100;

/// A reply of one or more lines.
///
/// However it was made: its code is 200 to 599, the class of its status agrees with the code, no line
/// holds a control character or is longer than [`MAX_TEXT`], and there are 1 to [`MAX_LINES`] lines.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<EnhancedStatus>,
    /// The lines, separated by LF.
    text: Cow<'static, str>,
}

/// What the first digit of a code says (RFC 5321 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// 2yz: done.
    Success,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Temporary,
    /// 5yz: no.
    Permanent,
}

impl Reply {
    /// A reply of one line. Control characters in `text`, line ends included, become spaces; a status
    /// of another class than the code is dropped; a code outside 200..=599 becomes 451.
    pub fn new(code: u16, status: impl Into<Option<EnhancedStatus>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self::build(code, status.into(), clean_line(text.into()))
    }

    /// A reply of several lines, each cleaned like the text of [`Reply::new`].
    pub fn multiline<'a>(code: u16, status: Option<EnhancedStatus>, lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        for (index, line) in lines.into_iter().take(MAX_LINES).enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.push_str(&clean_line(Cow::Owned(line.to_owned())));
        }
        Self::build(code, status, Cow::Owned(text))
    }

    fn build(code: u16, status: Option<EnhancedStatus>, text: Cow<'static, str>) -> Self {
        let code = if (200..600).contains(&code) { code } else { 451 };
        let mut reply = Self { code, status: None, text };
        reply.status = status.filter(|s| reply.agrees_with(*s));
        reply
    }

    fn agrees_with(&self, status: EnhancedStatus) -> bool {
        matches!(
            (self.severity(), status.class()),
            (Severity::Success, StatusClass::Success)
                | (Severity::Temporary, StatusClass::Temporary)
                | (Severity::Permanent, StatusClass::Permanent)
        )
    }

    /// The three digits, 200 to 599.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status, where there is one.
    pub fn status(&self) -> Option<EnhancedStatus> {
        self.status
    }

    /// The enhanced status, or `x.0.0` of the code's class where there is none (RFC 3463 §3.1).
    pub fn status_or_general(&self) -> EnhancedStatus {
        self.status.unwrap_or(match self.severity() {
            Severity::Success | Severity::Intermediate => EnhancedStatus::success(0, 0),
            Severity::Temporary => EnhancedStatus::temporary(0, 0),
            Severity::Permanent => EnhancedStatus::permanent(0, 0),
        })
    }

    /// What the first digit says.
    pub fn severity(&self) -> Severity {
        match self.code / 100 {
            2 => Severity::Success,
            3 => Severity::Intermediate,
            4 => Severity::Temporary,
            _ => Severity::Permanent,
        }
    }

    /// Is it 2yz?
    pub fn is_success(&self) -> bool {
        self.severity() == Severity::Success
    }

    /// The text of each line, without code and status.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// Appends the reply as it goes on the wire. Characters outside ASCII become `?`: a peer that did
    /// not ask for SMTPUTF8 must not get them (RFC 6531 §3.7.4).
    pub fn write_to(&self, out: &mut impl Extend<u8>) {
        let mut lines = self.lines().peekable();
        while let Some(line) = lines.next() {
            out.extend(self.code.to_string().into_bytes());
            out.extend([if lines.peek().is_some() { b'-' } else { b' ' }]);
            if let Some(status) = self.status {
                out.extend(status.to_string().into_bytes());
                out.extend([b' ']);
            }
            out.extend(line.chars().map(|c| u8::try_from(c).ok().filter(u8::is_ascii).unwrap_or(b'?')));
            out.extend(*b"\r\n");
        }
    }
}

/// One line for logs and reports: `550 5.1.1 no such user`, lines joined by ` / `.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        for (index, line) in self.lines().enumerate() {
            write!(f, "{}{line}", if index == 0 { " " } else { " / " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text as it may stand in one line. Clean text is returned as it is.
fn clean_line(text: Cow<'static, str>) -> Cow<'static, str> {
    if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        if line.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_cannot_leave_its_line() {
        let reply = Reply::new(550, EnhancedStatus::permanent(1, 1), "no\r\n250 2.0.0 yes\0\u{85}");
        assert_eq!(wire(&reply), "550 5.1.1 no  250 2.0.0 yes  \r\n");
        let long = Reply::new(250, None, "é".repeat(1000));
        assert!(wire(&long).len() <= 512);
    }

    #[test]
    fn code_and_status_agree() {
        assert_eq!(wire(&Reply::new(550, EnhancedStatus::temporary(1, 1), "x")), "550 x\r\n");
        assert_eq!(wire(&Reply::new(354, EnhancedStatus::success(0, 0), "go")), "354 go\r\n");
        assert_eq!(Reply::new(42, None, "x").code(), 451);
    }

    #[test]
    fn several_lines() {
        let reply = Reply::multiline(250, Some(EnhancedStatus::success(0, 0)), ["a", "b\nc"]);
        assert_eq!(wire(&reply), "250-2.0.0 a\r\n250 2.0.0 b c\r\n");
        assert_eq!(reply.to_string(), "250 2.0.0 a / b c");
    }
}
