//! Trace fields (RFC 5321 §4.4): what this server writes above a message, never into it.

use std::net::IpAddr;

use crate::address::Address;
use crate::id::QueueId;
use crate::time::Timestamp;

/// Facts of one reception, for the Received field.
#[derive(Debug, Clone)]
pub struct Reception<'a> {
    /// The name the client gave in HELO or EHLO; sanitised here.
    pub helo: &'a str,
    /// The client's address; absent for a local submission, and hidden for authenticated clients by policy.
    pub client: Option<IpAddr>,
    /// This server's name.
    pub by: &'a str,
    /// The protocol keyword (RFC 3848): `ESMTPS`, `ESMTPSA`, …; `ESMTPS` for an offer too, the reference says the rest.
    pub with: &'a str,
    /// The queue id.
    pub id: &'a QueueId,
    /// The recipient, where there is only one: more would disclose blind copies.
    pub only_recipient: Option<&'a Address>,
    /// When.
    pub at: Timestamp,
}

impl Reception<'_> {
    /// The Received field, folded, with its CRLF.
    pub fn field(&self) -> String {
        let from = match (sanitise(self.helo), self.client) {
            (helo, Some(IpAddr::V6(ip))) => format!("from {helo} ([IPv6:{ip}])\r\n\t"),
            (helo, Some(IpAddr::V4(ip))) => format!("from {helo} ([{ip}])\r\n\t"),
            (helo, None) if helo.is_empty() => String::new(),
            (helo, None) => format!("from {helo}\r\n\t"),
        };
        let for_ = match self.only_recipient {
            Some(address) if address.as_str().is_ascii() => format!("\r\n\tfor <{address}>"),
            _ => String::new(),
        };
        let (by, with, id, at) = (self.by, self.with, self.id, self.at.to_rfc5322());
        format!("Received: {from}by {by} with {with} id {id}{for_};\r\n\t{at}\r\n")
    }
}

/// The Return-Path field, added once, at final delivery (RFC 5321 §4.4).
pub fn return_path(mail_from: Option<&Address>) -> String {
    format!("Return-Path: <{}>\r\n", mail_from.map_or("", Address::as_str))
}

/// Reduces a peer's word to what may stand in a trace field: printable ASCII without the characters that
/// delimit comments, at most 255 octets.
fn sanitise(word: &str) -> String {
    word.chars().filter(|c| matches!(c, '!'..='~') && !matches!(c, '(' | ')' | ';' | '\\')).take(255).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reception<'a>(helo: &'a str, id: &'a QueueId, to: Option<&'a Address>) -> Reception<'a> {
        let client = Some("192.0.2.1".parse().unwrap());
        Reception {
            helo,
            client,
            by: "mx.b.example",
            with: "ESMTPS",
            id,
            only_recipient: to,
            at: Timestamp::from_secs(0),
        }
    }

    #[test]
    fn the_field_is_folded_and_complete() {
        let (id, to) = ("abc".parse().unwrap(), Address::parse("bob@b.example").unwrap());
        assert_eq!(
            reception("mx.a.example", &id, Some(&to)).field(),
            "Received: from mx.a.example ([192.0.2.1])\r\n\tby mx.b.example with ESMTPS id abc\r\n\tfor <bob@b.example>;\r\n\t\
             Thu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn a_helo_cannot_inject_fields() {
        let id = "abc".parse().unwrap();
        let field = reception("x\r\nBcc: (evil);", &id, None).field();
        assert!(field.starts_with("Received: from xBcc:evil ([192.0.2.1])\r\n"));
        assert_eq!(return_path(None), "Return-Path: <>\r\n");
    }

    #[test]
    fn a_helo_cannot_make_a_long_line() {
        let id = "abc".parse().unwrap();
        let field = reception(&"x".repeat(2000), &id, None).field();
        assert!(field.lines().all(|line| line.len() < 300));
    }
}
