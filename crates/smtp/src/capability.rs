//! What a server offers in its answer to EHLO: written by the server, read by the client.

use mail::Domain;

use crate::reply::Reply;

/// The extensions that are known here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870). `Some(0)`: offered without a limit.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// ETRN (RFC 1985).
    pub etrn: bool,
    /// ATRN (RFC 2645).
    pub atrn: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// The SASL mechanisms behind AUTH (RFC 4954), in capitals; empty: not offered.
    pub auth: Vec<String>,
    /// LIMITS (RFC 9422).
    pub limits: Announced,
    /// `TBR 1` (TBR §3). A bare `TBR` is a draft-00 peer and does not count.
    pub tbr: bool,
}

/// The largest limit that can be announced (RFC 9422 §4: six digits).
pub const MAX_LIMIT: u32 = 999_999;

/// Limits of one session that a server announces (RFC 9422 §4); `None`: not said. At least 1, at most 999,999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Announced {
    /// MAILMAX: transactions of a session.
    pub transactions: Option<u32>,
    /// RCPTMAX: recipients of a transaction.
    pub recipients: Option<u32>,
    /// RCPTDOMAINMAX: domains among the recipients of a transaction.
    pub domains: Option<u32>,
}

impl Announced {
    /// Reads the words behind LIMITS. Unknown and malformed ones are passed over; of two for the same limit the first counts.
    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut limits = Self::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let place = match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => &mut limits.transactions,
                "RCPTMAX" => &mut limits.recipients,
                "RCPTDOMAINMAX" => &mut limits.domains,
                _ => continue,
            };
            *place = place.or_else(|| limit(value));
        }
        limits
    }

    fn line(self) -> Option<String> {
        let named = [("MAILMAX", self.transactions), ("RCPTMAX", self.recipients), ("RCPTDOMAINMAX", self.domains)];
        let words: String = named.iter().filter_map(|(name, value)| Some(format!(" {name}={}", (*value)?))).collect();
        (!words.is_empty()).then(|| format!("LIMITS{words}"))
    }
}

/// One to six digits, the first not 0 (RFC 9422 §4).
fn limit(value: &str) -> Option<u32> {
    let fine = (1..=6).contains(&value.len()) && !value.starts_with('0') && value.bytes().all(|o| o.is_ascii_digit());
    fine.then(|| value.parse().ok()).flatten()
}

impl Capabilities {
    /// Reads the reply to EHLO or LHLO; unknown keywords and the first line are passed over.
    pub fn parse(reply: &Reply) -> Self {
        let mut capabilities = Self::default();
        for line in reply.lines().skip(1) {
            capabilities.take(line);
        }
        capabilities
    }

    fn take(&mut self, line: &str) {
        let mut words = line.split(' ').filter(|w| !w.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => self.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
            "8BITMIME" => self.eight_bit_mime = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "STARTTLS" => self.starttls = true,
            "CHUNKING" => self.chunking = true,
            "DSN" => self.dsn = true,
            "ETRN" => self.etrn = true,
            "ATRN" => self.atrn = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "REQUIRETLS" => self.requiretls = true,
            "AUTH" => self.auth = words.map(str::to_ascii_uppercase).collect(),
            "LIMITS" => self.limits = Announced::parse(words),
            "TBR" => self.tbr = words.any(|revision| revision == "1"),
            _ => {}
        }
    }

    /// The reply to EHLO of a server of this name.
    pub fn to_reply(&self, host: &Domain) -> Reply {
        let size = self.size.map(|n| if n == 0 { "SIZE".to_owned() } else { format!("SIZE {n}") });
        let auth = (!self.auth.is_empty()).then(|| format!("AUTH {}", self.auth.join(" ")));
        let limits = self.limits.line();
        let word = |offered: bool, word| if offered { Some(word) } else { None };
        let lines = [
            Some(host.as_str()),
            word(self.pipelining, "PIPELINING"),
            size.as_deref(),
            word(self.eight_bit_mime, "8BITMIME"),
            word(self.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
            word(self.starttls, "STARTTLS"),
            word(self.chunking, "CHUNKING"),
            word(self.dsn, "DSN"),
            word(self.etrn, "ETRN"),
            word(self.atrn, "ATRN"),
            word(self.smtputf8, "SMTPUTF8"),
            word(self.requiretls, "REQUIRETLS"),
            auth.as_deref(),
            limits.as_deref(),
            word(self.tbr, "TBR 1"),
        ];
        Reply::multiline(250, None, lines.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let all = Capabilities {
            pipelining: true,
            size: Some(1000),
            eight_bit_mime: true,
            enhanced_status_codes: true,
            starttls: true,
            chunking: true,
            dsn: true,
            etrn: true,
            atrn: true,
            smtputf8: true,
            requiretls: true,
            auth: vec!["PLAIN".to_owned(), "LOGIN".to_owned()],
            limits: Announced { transactions: Some(100), recipients: Some(50), domains: Some(1) },
            tbr: true,
        };
        let host = Domain::parse("mx.example").unwrap();
        for capabilities in [all, Capabilities::default()] {
            assert_eq!(Capabilities::parse(&capabilities.to_reply(&host)), capabilities);
        }
    }

    #[test]
    fn limits_are_numbers_that_make_sense() {
        let parse = |line: &str| Capabilities::parse(&Reply::multiline(250, None, ["mx.example", line])).limits;
        let said = |transactions, recipients, domains| Announced { transactions, recipients, domains };
        assert_eq!(parse("LIMITS MAILMAX=5 RCPTMAX=999999 RCPTDOMAINMAX=1"), said(Some(5), Some(999_999), Some(1)));
        assert_eq!(parse("limits rcptmax=20 FUTURE=x BARE mailmax=3"), said(Some(3), Some(20), None));
        assert_eq!(parse("LIMITS RCPTMAX=20 RCPTMAX=2"), said(None, Some(20), None));
        for value in ["", "0", "01", "1000000", "-1", "+1", "1x", "1=2", "\u{661}"] {
            assert_eq!(parse(&format!("LIMITS RCPTMAX={value}")), Announced::default(), "{value:?}");
        }
        assert_eq!(parse("LIMITS"), Announced::default());
    }

    #[test]
    fn a_draft_peer_does_not_count() {
        let parse = |line| Capabilities::parse(&Reply::multiline(250, None, ["mx.example", line])).tbr;
        assert!(parse("TBR 1") && parse("tbr 1 2") && parse("TBR 2 1"));
        assert!(!parse("TBR") && !parse("TBR 2") && !parse("TBR1") && !parse("XTBR 1"));
    }
}
