//! Values in the form in which people write them: durations, sizes, networks, hosts, patterns of paths.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use mail::{Domain, Timestamp};

const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const DAY: u64 = 86_400;
const SIZE_UNITS: [(&str, u64); 7] =
    [("", 1), ("B", 1), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("KiB", 1 << 10), ("MiB", 1 << 20)];

/// Reads `2027-01-15 08:00`, in UTC; seconds may follow.
pub(super) fn parse_moment(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(' ')?;
    let numbers = |text: &str, by| text.split(by).map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>();
    let [year, month, day]: [u64; 3] = numbers(date, '-')?.try_into().ok()?;
    let (hour, minute, second) = match numbers(time, ':')?.as_slice() {
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    let valid = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970-01-01, in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        (year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1).checked_sub(719_468)?;
    let at = Timestamp::from_secs(days * DAY + hour * 3_600 + minute * 60 + second);
    // The 31st of a month that has none comes out as another day.
    (at.to_rfc3339().split('T').next() == Some(date)).then_some(at)
}

/// Reads `1h`, `90s`, `1h 30m`, `500ms`, `5d`: whole numbers with units, added up.
///
/// # Errors
/// What would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write it like \"30s\", \"5m\", \"1h 30m\" or \"5d\"");
    let mut millis: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, tail) = take_number(rest).ok_or_else(wrong)?;
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, factor) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        millis = number.checked_mul(factor).and_then(|m| millis.checked_add(m)).ok_or_else(wrong)?;
        rest = tail.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

/// The shortest form that [`parse_duration`] reads back as the same: `1h 30m`.
pub fn format_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, factor) in DURATION_UNITS {
        if millis >= factor {
            parts.push(format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

/// Reads a number of octets: `65536`, `64 KiB`, `50 MB`, `1 GB`.
///
/// # Errors
/// What would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write it like \"64 KiB\", \"50 MB\" or \"1 GB\"");
    let (number, unit) = take_number(text.trim()).ok_or_else(wrong)?;
    let unit = unit.trim_start();
    let known = SIZE_UNITS.into_iter().chain([("GiB", 1 << 30)]);
    let (_, factor) = known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// For people: `4.2 kB`, three digits at most.
#[allow(clippy::cast_precision_loss)]
pub fn format_size(octets: u64) -> String {
    let mut value = octets as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 || unit == "GB" {
            let digits = usize::from(unit != "B" && value < 99.95);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{octets} B")
}

fn take_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// An IPv4 or IPv6 network: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Is the address in it? IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => same_prefix(&net.octets(), &ip.octets(), self.prefix),
            (IpAddr::V6(net), IpAddr::V6(ip)) => same_prefix(&net.octets(), &ip.octets(), self.prefix),
            _ => false,
        }
    }

    /// Length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Is it so wide that a server relaying for it would be an open relay? IPv4 wider than /8, IPv6 than /16.
    pub fn is_too_wide_to_trust(&self) -> bool {
        self.prefix < if self.address.is_ipv4() { 8 } else { 16 }
    }
}

fn same_prefix(a: &[u8], b: &[u8], bits: u8) -> bool {
    let (whole, rest) = (usize::from(bits / 8), bits % 8);
    let mask = u8::MAX.checked_shl(u32::from(8 - rest)).unwrap_or(0);
    let last = |octets: &[u8]| octets.get(whole).map_or(0, |octet| octet & mask);
    a[..whole] == b[..whole] && last(a) == last(b)
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a network; write it like \"192.0.2.0/24\" or \"2001:db8::/32\"");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(widest), |p| p.parse().map_err(|_| wrong()))?;
        if prefix > widest {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A host as a name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostName {
    /// To be looked up.
    Name(Domain),
    /// As it is.
    Address(IpAddr),
}

impl FromStr for HostName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(v6) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let address: Ipv6Addr = v6.parse().map_err(|_| format!("`{text}` is not an IPv6 address"))?;
            return Ok(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        text.parse().map(Self::Name).map_err(|error| format!("`{text}` is neither a host name nor an address: {error}"))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Where Maildirs are: a path with `{domain}` and `{user}` in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MaildirPattern(String);

impl MaildirPattern {
    /// Reads a pattern, a relative one below `base`.
    ///
    /// # Errors
    /// What would be right: there must be a `{user}`, and no other name in braces but `{domain}`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let rest = text.replace("{user}", "").replace("{domain}", "");
        if !text.contains("{user}") || rest.contains(['{', '}']) || text.contains('\0') {
            return Err(format!(
                "`{text}` is not a pattern of Maildirs; write it like \"/var/mail/{{domain}}/{{user}}\""
            ));
        }
        let joined = base.join(text);
        let joined = joined.to_str().ok_or("the directory of this file has a name that is not UTF-8")?;
        Ok(Self(joined.to_owned()))
    }

    /// The Maildir of one mailbox. Names are escaped so that none leads out of its place: whatever is not a letter,
    /// digit or one of `-_+=@.` becomes `%XX`, and so does a first dot.
    pub fn path(&self, domain: &Domain, user: &str) -> PathBuf {
        // One pass, so that a user called "{domain}" stays one.
        let mut path = String::with_capacity(self.0.len() + 64);
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('{') {
            path.push_str(&rest[..at]);
            let tail = &rest[at..];
            let (value, name) = match tail.strip_prefix("{user}") {
                Some(_) => (escape(user), "{user}"),
                None => (escape(domain.as_str()), "{domain}"),
            };
            path.push_str(&value);
            rest = tail.get(name.len()..).unwrap_or_default();
        }
        path.push_str(rest);
        PathBuf::from(path)
    }

    /// As configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (position, octet) in name.bytes().enumerate() {
        let plain = octet.is_ascii_alphanumeric() || b"-_+=@".contains(&octet) || (octet == b'.' && position > 0);
        if plain {
            escaped.push(char::from(octet));
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, secs) in [("30s", 30), ("5m", 300), ("1h30m", 5400), ("1h 30m", 5400), ("5d", 432_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(secs)), "{text}");
            let written = format_duration(Duration::from_secs(secs));
            assert_eq!(parse_duration(&written), Ok(Duration::from_secs(secs)));
        }
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h 30m");
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "5", "h", "5 h", "5y", "1.5h", "-1s", "99999999999999999999d", "9999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, octets) in [("0", 0), ("64 KiB", 65_536), ("50MB", 50_000_000), ("1 GB", 1_000_000_000), ("7 b", 7)]
        {
            assert_eq!(parse_size(text), Ok(octets), "{text}");
        }
        for bad in ["", "MB", "1.5 MB", "1 TB", "-1"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        for (octets, text) in
            [(0, "0 B"), (999, "999 B"), (4_200, "4.2 kB"), (99_999_000, "100 MB"), (5 << 40, "5498 GB")]
        {
            assert_eq!(format_size(octets), text);
        }
    }

    #[test]
    fn networks_contain_what_shares_their_prefix() {
        let net = |t: &str| t.parse::<Network>().unwrap();
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        assert!(net("127.0.0.0/8").contains(ip("127.9.9.9")));
        assert!(net("127.0.0.0/8").contains(ip("::ffff:127.0.0.1")));
        assert!(!net("127.0.0.0/8").contains(ip("128.0.0.1")));
        assert!(net("10.0.0.128/25").contains(ip("10.0.0.200")) && !net("10.0.0.128/25").contains(ip("10.0.0.127")));
        assert!(
            net("2001:db8::/32").contains(ip("2001:db8:1::1")) && !net("2001:db8::/32").contains(ip("2001:db9::1"))
        );
        assert!(net("192.0.2.1").contains(ip("192.0.2.1")) && !net("192.0.2.1").contains(ip("192.0.2.2")));
        assert!(net("0.0.0.0/0").is_too_wide_to_trust() && net("::/0").is_too_wide_to_trust());
        assert!(!net("10.0.0.0/8").is_too_wide_to_trust());
        for bad in ["", "x", "1.2.3.4/33", "::/129", "1.2.3.4/-1", "1.2.3/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_mailbox_leads_out_of_its_place() {
        let pattern = MaildirPattern::parse("mail/{domain}/{user}", Path::new("/var")).unwrap();
        let path = |user: &str| pattern.path(&Domain::parse("a.example").unwrap(), user);
        assert_eq!(path("bob"), Path::new("/var/mail/a.example/bob"));
        assert_eq!(path("../../etc"), Path::new("/var/mail/a.example/%2E.%2F..%2Fetc"));
        assert_eq!(path(".."), Path::new("/var/mail/a.example/%2E."));
        assert_eq!(path("{domain}\0"), Path::new("/var/mail/a.example/%7Bdomain%7D%00"));
        assert_eq!(path("jürgen"), Path::new("/var/mail/a.example/j%C3%BCrgen"));
        for bad in ["mail", "mail/{domain}", "mail/{user}/{x}", "{user}}"] {
            assert!(MaildirPattern::parse(bad, Path::new("/")).is_err(), "{bad}");
        }
    }
}
