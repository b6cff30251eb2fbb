//! Evidence: what was found out about a client, its session and its content.
//!
//! Plain data, as it is kept with a reference between the offer and the judgement of its content. Whether it is enough is
//! left to `decide`.

use std::fmt;
use std::net::IpAddr;

use mail::Domain;
use serde::{Deserialize, Serialize};

use crate::tbr::TbrResult;

/// Everything that is known of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Of the client and its session; known from RCPT on.
    pub session: SessionEvidence,
    /// Of the content; nothing before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentEvidence>,
    /// By reference or under one, newest field first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tbr: Vec<TbrResult>,
}

/// What is known before any content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEvidence {
    /// The client's address.
    pub client: IpAddr,
    /// Its name, if it has one that leads back to it.
    pub reverse: Reverse,
    /// The lists that it stands on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listings: Vec<Listing>,
    /// SPF, where there was a name to check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spf: Option<Spf>,
    /// How mail of this sender fared here before: higher is better, 0 is a stranger. Nothing where nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reputation: Option<i32>,
}

/// What is known of content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentEvidence {
    /// The domain of From, where there is exactly one.
    pub from: Option<Domain>,
    /// Why nobody can say who wrote it; none: somebody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_author: Option<NoAuthor>,
    /// One for each DKIM signature that was looked at, in the order of the header.
    pub dkim: Vec<Dkim>,
    /// The chain of ARC sets.
    pub arc: Arc,
    /// DMARC for the domain of From.
    pub dmarc: Dmarc,
}

/// Why a message has no author whose domain could be asked (RFC 5322 §3.6 demands one From).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoAuthor {
    /// There is no From.
    Missing,
    /// There are several: readers show one, and not all the same.
    Doubled,
    /// From has no address, or one whose domain cannot be read.
    Unreadable,
}

impl fmt::Display for NoAuthor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "it has no From",
            Self::Doubled => "it has more than one From",
            Self::Unreadable => "From names no domain that can be read",
        })
    }
}

/// The results of RFC 8601 §2.7 that most methods share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to judge.
    #[default]
    None,
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It cannot be used, whose fault ever that is.
    Neutral,
    /// It holds, but not well enough for us.
    Policy,
    /// Not known now.
    TempError,
    /// Never to be known.
    PermError,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::Policy => "policy",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        })
    }
}

/// The results of RFC 7208 §2.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpfVerdict {
    /// The domain says nothing.
    None,
    /// It says that it says nothing.
    Neutral,
    /// The client may use the name.
    Pass,
    /// It may not.
    Fail,
    /// Probably not.
    SoftFail,
    /// DNS could not be asked.
    TempError,
    /// The record is broken.
    PermError,
}

impl fmt::Display for SpfVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        })
    }
}

/// SPF of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spf {
    /// The result.
    pub verdict: SpfVerdict,
    /// Which name was checked.
    pub identity: Identity,
    /// Its domain.
    pub domain: String,
}

/// The names that SPF can check (RFC 7208 §2.3, §2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// The reverse-path.
    MailFrom,
    /// The name in HELO, where the reverse-path is null.
    Helo,
}

/// Reverse DNS: `iprev` of RFC 8601 §2.7.3.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverse {
    /// `pass`: a name leads back to the address. `fail`: names do not. `permerror`: there is none.
    pub verdict: Verdict,
    /// The name that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Domain>,
}

/// A DNS list that has the client's address (RFC 5782).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The list.
    pub zone: Domain,
    /// What kind of list it is.
    pub kind: ListKind,
    /// The first address that it answered with, which says why.
    pub code: IpAddr,
}

/// What being on a list means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListKind {
    /// Refused.
    Block,
    /// Spared what only lists, reverse DNS and reputation say against it.
    Allow,
}

/// One DKIM signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dkim {
    /// The result.
    pub verdict: Verdict,
    /// Tag `d`; empty where the field could not be read.
    pub domain: String,
    /// Tag `s`.
    pub selector: String,
    /// Why it is no `pass`, in a few words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The chain of ARC sets as a whole (RFC 8617).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arc {
    /// The result.
    pub verdict: Verdict,
    /// Who sealed last: the domain that vouches for what it says of its predecessors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealer: Option<Domain>,
    /// It says that DMARC passed when the message came to it.
    #[serde(default)]
    pub dmarc_passed: bool,
}

/// DMARC of the domain of From.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dmarc {
    /// `none`: the domain publishes nothing.
    pub verdict: Verdict,
    /// What its owner asks for where it fails.
    pub policy: DmarcPolicy,
    /// The domain of From.
    pub domain: String,
    /// A DKIM signature of an aligned domain holds.
    #[serde(default)]
    pub dkim_aligned: bool,
    /// SPF passes for an aligned domain.
    #[serde(default)]
    pub spf_aligned: bool,
    /// The record that was judged by, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// What a DMARC record says (RFC 7489 §6.3, RFC 9989 §4.7), as far as reports repeat it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Whose record it is: the domain of From, or one above it.
    pub domain: Domain,
    /// `adkim=s`
    #[serde(default)]
    pub strict_dkim: bool,
    /// `aspf=s`
    #[serde(default)]
    pub strict_spf: bool,
    /// `p`
    pub policy: DmarcPolicy,
    /// `sp`
    pub subdomains: DmarcPolicy,
    /// `np`
    pub missing: DmarcPolicy,
    /// `t=y`
    #[serde(default)]
    pub testing: bool,
    /// `rua` names somebody.
    #[serde(default)]
    pub wants_reports: bool,
}

/// What a domain's owner asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DmarcPolicy {
    /// Nothing.
    #[default]
    None,
    /// To be treated as suspicious.
    Quarantine,
    /// To be refused.
    Reject,
}

impl fmt::Display for DmarcPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        })
    }
}

/// Do both belong to one owner (relaxed alignment, RFC 7489 §3.1)?
pub fn are_aligned(one: &Domain, other: &Domain) -> bool {
    one.registrable() == other.registrable()
}
