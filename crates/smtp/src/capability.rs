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
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// The SASL mechanisms behind AUTH (RFC 4954), in capitals; empty: not offered.
    pub auth: Vec<String>,
    /// `TBR 1` (TBR §3). A bare `TBR` is a draft-00 peer and does not count.
    pub tbr: bool,
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
            "SMTPUTF8" => self.smtputf8 = true,
            "REQUIRETLS" => self.requiretls = true,
            "AUTH" => self.auth = words.map(str::to_ascii_uppercase).collect(),
            "TBR" => self.tbr = words.any(|revision| revision == "1"),
            _ => {}
        }
    }

    /// The reply to EHLO of a server of this name.
    pub fn to_reply(&self, host: &Domain) -> Reply {
        let size = self.size.map(|n| if n == 0 { "SIZE".to_owned() } else { format!("SIZE {n}") });
        let auth = (!self.auth.is_empty()).then(|| format!("AUTH {}", self.auth.join(" ")));
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
            word(self.smtputf8, "SMTPUTF8"),
            word(self.requiretls, "REQUIRETLS"),
            auth.as_deref(),
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
            smtputf8: true,
            requiretls: true,
            auth: vec!["PLAIN".to_owned(), "LOGIN".to_owned()],
            tbr: true,
        };
        let host = Domain::parse("mx.example").unwrap();
        for capabilities in [all, Capabilities::default()] {
            assert_eq!(Capabilities::parse(&capabilities.to_reply(&host)), capabilities);
        }
    }

    #[test]
    fn a_draft_peer_does_not_count() {
        let parse = |line| Capabilities::parse(&Reply::multiline(250, None, ["mx.example", line])).tbr;
        assert!(parse("TBR 1") && parse("tbr 1 2") && parse("TBR 2 1"));
        assert!(!parse("TBR") && !parse("TBR 2") && !parse("TBR1") && !parse("XTBR 1"));
    }
}
