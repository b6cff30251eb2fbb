//! MTA-STS (RFC 8461): the policy by which a domain demands TLS of those who send it mail, and the record that announces it.
//!
//! Text in, text out. Fetching a policy, keeping it and living up to it are others'.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::Domain;

/// Where a policy is: below `https://mta-sts.<domain>` (RFC 8461 §3.3).
pub const PATH: &str = "/.well-known/mta-sts.txt";
/// The label of the host that serves it (RFC 8461 §3.3).
pub const HOST_LABEL: &str = "mta-sts";
/// The label of the record that announces it (RFC 8461 §3.1).
pub const RECORD_LABEL: &str = "_mta-sts";
/// Largest policy that is read, in octets (RFC 8461 §3.3 suggests 64 KiB).
pub const MAX_POLICY: usize = 64 * 1024;
/// Most patterns of one policy.
pub const MAX_PATTERNS: usize = 64;
/// Longest time for which a policy may ask to be kept (RFC 8461 §3.2).
pub const MAX_AGE: Duration = Duration::from_secs(31_557_600);

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What to do where TLS or the host is not as it should be.
    pub mode: Mode,
    /// The hosts that may take the domain's mail.
    pub mx: Vec<Pattern>,
    /// How long the policy counts after it was fetched, in seconds.
    max_age: u64,
}

/// What to do where TLS or the host is not as the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Hand no mail in.
    Enforce,
    /// Hand it in, and report.
    Testing,
    /// As if there were no policy: how a domain takes one back.
    None,
}

/// A host name, or `*.` and a domain, which stands for names with one label more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    wildcard: bool,
    domain: Domain,
}

/// Why a text is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Over [`MAX_POLICY`].
    #[error("the policy is too long")]
    TooLong,
    /// Not UTF-8, or a line that is no `name: value`.
    #[error("the policy is not made of lines `name: value`")]
    Syntax,
    /// `version` is missing, not first or not `STSv1`.
    #[error("the policy does not begin with `version: STSv1`")]
    Version,
    /// A field that must be there once is not.
    #[error("the policy lacks `{0}`")]
    Missing(&'static str),
    /// A value is not valid.
    #[error("the policy's value of `{0}` is not valid")]
    Value(&'static str),
    /// Over [`MAX_PATTERNS`].
    #[error("the policy names too many hosts")]
    TooMany,
}

impl Policy {
    /// A policy of our own. An age over [`MAX_AGE`] is cut to it.
    pub fn new(mode: Mode, mx: Vec<Pattern>, max_age: Duration) -> Self {
        Self { mode, mx, max_age: max_age.min(MAX_AGE).as_secs() }
    }

    /// How long it counts after it was fetched.
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age)
    }

    /// Reads the body of a policy (RFC 8461 §3.2). Unknown fields are passed over; of a field that may be there once the
    /// first counts.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(body: &[u8]) -> Result<Self, PolicyError> {
        if body.len() > MAX_POLICY {
            return Err(PolicyError::TooLong);
        }
        let text = std::str::from_utf8(body).map_err(|_| PolicyError::Syntax)?;
        let mut fields = text.lines().filter(|line| !line.trim().is_empty()).map(field);
        if fields.next().ok_or(PolicyError::Version)?? != ("version", "STSv1") {
            return Err(PolicyError::Version);
        }
        let (mut mode, mut max_age, mut mx) = (None, None, Vec::new());
        for field in fields {
            match field? {
                ("mode", value) if mode.is_none() => mode = Some(Mode::parse(value)?),
                ("max_age", value) if max_age.is_none() => max_age = Some(age(value)?),
                ("mx", _) if mx.len() == MAX_PATTERNS => return Err(PolicyError::TooMany),
                ("mx", value) => mx.push(value.parse()?),
                _ => {}
            }
        }
        let mode = mode.ok_or(PolicyError::Missing("mode"))?;
        let max_age = max_age.ok_or(PolicyError::Missing("max_age"))?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::Missing("mx"));
        }
        Ok(Self { mode, mx, max_age })
    }

    /// May this host take the domain's mail (RFC 8461 §4.1)?
    pub fn names(&self, host: &Domain) -> bool {
        self.mx.iter().any(|pattern| pattern.fits(host))
    }

    /// Its lines, each without its end.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let mx = self.mx.iter().map(|pattern| format!("mx: {pattern}"));
        let head = ["version: STSv1".to_owned(), format!("mode: {}", self.mode)];
        head.into_iter().chain(mx).chain([format!("max_age: {}", self.max_age)])
    }
}

impl fmt::Display for Policy {
    /// The body as it is served, with CR LF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| write!(f, "{line}\r\n"))
    }
}

fn field(line: &str) -> Result<(&str, &str), PolicyError> {
    let (name, value) = line.split_once(':').ok_or(PolicyError::Syntax)?;
    Ok((name.trim(), value.trim()))
}

/// At most ten digits; more than a year counts as one (RFC 8461 §3.2).
fn age(value: &str) -> Result<u64, PolicyError> {
    let digits = (1..=10).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit());
    let seconds: u64 = value.parse().ok().filter(|_| digits).ok_or(PolicyError::Value("max_age"))?;
    Ok(seconds.min(MAX_AGE.as_secs()))
}

impl Mode {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "testing" => Ok(Self::Testing),
            "none" => Ok(Self::None),
            _ => Err(PolicyError::Value("mode")),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        })
    }
}

impl Pattern {
    /// This host alone.
    pub fn host(domain: Domain) -> Self {
        Self { wildcard: false, domain }
    }

    fn fits(&self, host: &Domain) -> bool {
        match self.wildcard {
            true => host.parent().is_some_and(|parent| parent == self.domain),
            false => *host == self.domain,
        }
    }
}

impl FromStr for Pattern {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (wildcard, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let domain = Domain::parse(name).map_err(|_| PolicyError::Value("mx"))?;
        Ok(Self { wildcard, domain })
    }
}

impl TryFrom<String> for Pattern {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wildcard { "*." } else { "" }, self.domain)
    }
}

/// The `id` of the record that announces a policy, `v=STSv1; id=…` (RFC 8461 §3.1): another one says that the policy has
/// changed. `None`: there is no such record, or it is malformed, or there are several, which is the same.
pub fn policy_id<'a>(records: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut of_kind = records.into_iter().filter_map(|text| {
        let rest = text.trim_start().strip_prefix("v=STSv1")?.trim_start();
        rest.strip_prefix(';')
    });
    let tags = of_kind.next()?;
    if of_kind.next().is_some() {
        return None;
    }
    let mut ids = tags.split(';').filter_map(|tag| tag.trim().strip_prefix("id=").map(str::trim));
    let id = ids.next()?;
    let fits = (1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric());
    if fits && ids.next().is_none() { Some(id) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    /// The example of RFC 8461 §3.2, with either kind of line ends.
    #[test]
    fn the_example_of_the_standard() {
        let text = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n";
        for text in [text.to_owned(), text.replace('\n', "\r\n"), format!("{text}x-new: thing\n\n")] {
            let policy = Policy::parse(text.as_bytes()).unwrap();
            assert_eq!((policy.mode, policy.max_age().as_secs(), policy.mx.len()), (Mode::Enforce, 604_800, 3));
            assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let policy =
            Policy::parse(b"version: STSv1\nmode: testing\nmx: *.b.example\nmx: MX.c.example\nmax_age: 1").unwrap();
        let named = ["mx.b.example", "mx.c.example"].map(|host| policy.names(&d(host)));
        assert_eq!(named, [true, true]);
        for host in ["b.example", "a.mx.b.example", "xb.example", "mx.b.example.c.example", "x.mx.c.example"] {
            assert!(!policy.names(&d(host)), "{host}");
        }
    }

    #[test]
    fn what_is_no_policy() {
        for (text, error) in [
            ("", PolicyError::Version),
            ("mode: none\nversion: STSv1", PolicyError::Version),
            ("version: STSv2", PolicyError::Version),
            ("version: STSv1\nmode: enforce\nmax_age: 1", PolicyError::Missing("mx")),
            ("version: STSv1\nmode: none", PolicyError::Missing("max_age")),
            ("version: STSv1\nmx: a.example\nmax_age: 1", PolicyError::Missing("mode")),
            ("version: STSv1\nmode: maybe", PolicyError::Value("mode")),
            ("version: STSv1\nmode: none\nmax_age: -1", PolicyError::Value("max_age")),
            ("version: STSv1\nmode: none\nmax_age: 99999999999", PolicyError::Value("max_age")),
            ("version: STSv1\nmode: enforce\nmx: *.*.example\nmax_age: 1", PolicyError::Value("mx")),
            ("version: STSv1\n<html>", PolicyError::Syntax),
        ] {
            assert_eq!(Policy::parse(text.as_bytes()), Err(error), "{text}");
        }
        let many = format!("version: STSv1\n{}", "mx: a.example\n".repeat(MAX_PATTERNS + 1));
        assert_eq!(Policy::parse(many.as_bytes()), Err(PolicyError::TooMany));
        assert_eq!(Policy::parse(&[b' '; MAX_POLICY + 1]), Err(PolicyError::TooLong));
    }

    #[test]
    fn a_policy_may_not_be_kept_for_more_than_a_year() {
        let policy = Policy::parse(b"version: STSv1\nmode: none\nmax_age: 9999999999").unwrap();
        assert_eq!(policy.max_age(), MAX_AGE);
        assert_eq!(Policy::new(Mode::None, vec![], Duration::MAX).max_age(), MAX_AGE);
    }

    #[test]
    fn ids_of_records() {
        assert_eq!(policy_id(["x", "v=STSv1; id=20160831085700Z;"]), Some("20160831085700Z"));
        for records in [
            &["v=STSv1; id=a", "v=STSv1; id=b"][..],
            &["v=STSv1"],
            &["v=STSv1; id="],
            &["v=STSv1; id=a-b"],
            &["v=STSv10; id=a"],
            &["v=STSv1; id=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
            &["id=a; v=STSv1"],
            &[],
        ] {
            assert_eq!(policy_id(records.iter().copied()), None, "{records:?}");
        }
    }
}
