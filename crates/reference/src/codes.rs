//! The one table of SMTP reply codes and enhanced status codes that TBR uses (TBR §12).
//!
//! Each enhanced code was compared with the IANA registry "SMTP Enhanced Status Codes" as of 2024-12-06: a registered
//! code is used in its registered meaning only; a condition that TBR alone knows has a detail from 70 to 89, none of
//! which is assigned in any subject (the highest assigned are X.1.10, X.2.4, X.3.6, X.4.7, X.5.6, X.6.10, X.7.30).

use mail::EnhancedStatus;

use EnhancedStatus as E;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The SMTP reply code (RFC 5321 §4.2); 0 for codes that stand in receipts and reports only.
    pub reply: u16,
    /// The enhanced status code.
    pub status: EnhancedStatus,
    /// What it means, in one plain phrase; replies begin with it.
    pub text: &'static str,
    /// Where the enhanced code comes from: an RFC, or [`TBR`].
    pub source: &'static str,
}

/// [`Code::source`] of codes that TBR asks to be registered.
pub const TBR: &str = "TBR";

const fn code(reply: u16, status: EnhancedStatus, text: &'static str, source: &'static str) -> Code {
    Code { reply, status, text, source }
}

// Success.

/// The reference is verified and on disk here; custody stays with the origin.
pub const ACCEPTED: Code = code(250, E::success(5, 0), "reference accepted, retrieval pending", "RFC 3463");
/// Re-offer: custody of every accepted recipient is here.
pub const RETRIEVED: Code = code(250, E::success(5, 70), "already retrieved and claimed", TBR);
/// Re-offer: every recipient has its outcome.
pub const DONE: Code = code(250, E::success(5, 71), "already done, receipts sent", TBR);

// Temporary.

/// The block is over its limit; the connection is closed.
pub const BLOCK_TOO_LONG: Code = code(421, E::temporary(5, 4), "the block is too long, closing", "RFC 3463");
/// Look-ups for the reference take longer than the session may.
pub const VERIFYING: Code = code(451, E::temporary(7, 70), "the reference is still being verified", TBR);
/// A name could not be looked up for now.
pub const LOOKUP_FAILED: Code = code(451, E::temporary(4, 3), "a name could not be looked up", "RFC 3463");
/// `t` lies in the future.
pub const NOT_YET_VALID: Code = code(451, E::temporary(7, 71), "the reference is not valid yet", TBR);
/// The selector names no key that is known.
pub const UNKNOWN_KEY: Code = code(451, E::temporary(7, 72), "the signing key is not known", TBR);
/// By value from here is delayed; by reference would be taken at once.
pub const SEND_REFERENCE: Code =
    code(451, E::temporary(7, 73), "delayed; a reference (TBR) would be accepted without delay", TBR);
/// Budgets of the signing domain are used up.
pub const TOO_MANY_PENDING: Code =
    code(451, E::temporary(7, 74), "too many references of this domain are pending", TBR);
/// What the domain publishes is contradictory for now (bogus DNSSEC).
pub const NO_ASSURANCE_NOW: Code =
    code(451, E::temporary(7, 80), "the signing domain's keys could not be authenticated", TBR);
/// No room for more.
pub const FULL: Code = code(452, E::temporary(3, 1), "no room for more references", "RFC 3463");

// Permanent: the offer itself.

/// The arguments of the TBR line are wrong.
pub const BAD_LINE: Code = code(501, E::permanent(5, 4), "the TBR line is not valid", "RFC 3463");
/// The block is wrong.
pub const BAD_BLOCK: Code = code(501, E::permanent(5, 2), "the reference is not well-formed", "RFC 3463");
/// A RCPT could not be parsed: the indexes would not agree.
pub const BAD_RECIPIENT: Code = code(501, E::permanent(1, 3), "a recipient address was not valid", "RFC 3463");
/// TBR without MAIL.
pub const NO_TRANSACTION: Code = code(503, E::permanent(5, 1), "send MAIL first", "RFC 3463");
/// No RCPT was accepted.
pub const NO_RECIPIENTS: Code = code(554, E::permanent(5, 1), "no valid recipients", "RFC 3463");
/// This server cannot retrieve now or ever: send by value.
pub const BY_VALUE_PLEASE: Code =
    code(504, E::permanent(3, 3), "references cannot be retrieved here, send by value", "RFC 3463");
/// Another revision.
pub const REVISION: Code = code(504, E::permanent(5, 5), "this revision of TBR is not supported", "RFC 3463");
/// Another algorithm.
pub const ALGORITHM: Code = code(504, E::permanent(7, 6), "the signature algorithm is not supported", "RFC 3463");
/// The grant is bound to a key that this server does not hold.
pub const KEY_NOT_HERE: Code =
    code(504, E::permanent(7, 4), "this server lacks its domain's key, send by value", "RFC 3463");
/// Over 100 hops.
pub const LOOP: Code = code(554, E::permanent(4, 6), "the message has passed too many relays", "RFC 3463");

// Permanent: what the reference says.

/// `e` has passed, or the lifetime is over 30 days.
pub const NOT_VALID_NOW: Code = code(550, E::permanent(7, 71), "the reference has expired or lives too long", TBR);
/// The key is revoked, or could not sign at that time.
pub const BAD_KEY: Code = code(550, E::permanent(7, 72), "the signing key is revoked or outside its window", TBR);
/// The signature does not verify.
pub const BAD_SIGNATURE: Code = code(550, E::permanent(7, 75), "the signature does not verify", TBR);
/// `d` may not sign for this MAIL FROM.
pub const BAD_SIGNER: Code = code(550, E::permanent(7, 76), "the signing domain does not answer for the sender", TBR);
/// `f`, `to` or `rh` is not of this transaction.
pub const OTHER_TRANSACTION: Code =
    code(550, E::permanent(7, 77), "the reference was made for another transaction", TBR);
/// The host is not the domain's, or has not consented.
pub const BAD_HOST: Code = code(550, E::permanent(7, 78), "the repository host is not authorised", TBR);
/// The same `d` and `i` came before with other content.
pub const ID_REUSED: Code = code(550, E::permanent(7, 79), "the reference id was used for another reference", TBR);
/// The domain publishes nothing that could be believed.
pub const NO_ASSURANCE: Code = code(550, E::permanent(7, 80), "the signing domain's keys cannot be authenticated", TBR);
/// The hops form no chain that can be believed.
pub const BAD_CHAIN: Code = code(550, E::permanent(7, 81), "the chain of relays does not verify", TBR);
/// `l` is over the limit.
pub const TOO_LARGE: Code = code(552, E::permanent(3, 4), "the message is too large", "RFC 3463");
/// Local policy says no; by value would be refused as well.
pub const REFUSED: Code = code(550, E::permanent(7, 1), "refused by local policy", "RFC 3463");

// In receipts and reports.

/// The octets that came are not those that were signed.
pub const OTHER_OBJECT: Code = code(0, E::permanent(7, 7), "the message is not the one that was signed", "RFC 3463");
/// The object could not be fetched.
pub const NOT_RETRIEVED: Code = code(0, E::permanent(6, 6), "the message could not be retrieved", "RFC 4468");
/// `e` came before a claim.
pub const EXPIRED: Code = code(0, E::permanent(4, 7), "the reference expired before it was claimed", "RFC 3463");
/// Delivery is taking its time.
pub const STILL_TRYING: Code = code(0, E::temporary(4, 7), "delivery is delayed", "RFC 3463");
/// In the mailbox, or handed on.
pub const DELIVERED: Code = code(0, E::success(0, 0), "delivered", "RFC 3463");

/// The whole table.
pub const ALL: &[Code] = &[
    ACCEPTED,
    RETRIEVED,
    DONE,
    BLOCK_TOO_LONG,
    VERIFYING,
    LOOKUP_FAILED,
    NOT_YET_VALID,
    UNKNOWN_KEY,
    SEND_REFERENCE,
    TOO_MANY_PENDING,
    NO_ASSURANCE_NOW,
    FULL,
    BAD_LINE,
    BAD_BLOCK,
    BAD_RECIPIENT,
    NO_TRANSACTION,
    NO_RECIPIENTS,
    BY_VALUE_PLEASE,
    REVISION,
    ALGORITHM,
    KEY_NOT_HERE,
    LOOP,
    NOT_VALID_NOW,
    BAD_KEY,
    BAD_SIGNATURE,
    BAD_SIGNER,
    OTHER_TRANSACTION,
    BAD_HOST,
    ID_REUSED,
    NO_ASSURANCE,
    BAD_CHAIN,
    TOO_LARGE,
    REFUSED,
    OTHER_OBJECT,
    NOT_RETRIEVED,
    EXPIRED,
    STILL_TRYING,
    DELIVERED,
];

/// What a client learns from the reply to its offer (TBR §3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferReply {
    /// 250: on disk there, custody here.
    Pending,
    /// 250 with 2.5.70 or 2.5.71: a claim was made; counts as one where its answer got lost.
    Claimed,
    /// 4yz: offer again later, exactly the same.
    TryLater,
    /// 5yz for a reason that by value does not have: send by value.
    ByValue,
    /// 5yz that concerns the message or its recipients: by value would fare no better.
    Refused,
}

/// Sorts a reply to `TBR`, whoever sent it: the enhanced code may be missing.
pub fn classify(reply: u16, status: Option<EnhancedStatus>) -> OfferReply {
    let is = |code: &Code| status == Some(code.status);
    match reply {
        200..=299 if is(&RETRIEVED) || is(&DONE) => OfferReply::Claimed,
        200..=299 => OfferReply::Pending,
        400..=499 => OfferReply::TryLater,
        500..=504 => OfferReply::ByValue,
        _ if status.is_some_and(is_tbr_specific) => OfferReply::ByValue,
        _ => OfferReply::Refused,
    }
}

/// Is the detail of this code one of TBR's own?
pub fn is_tbr_specific(status: EnhancedStatus) -> bool {
    let text = status.to_string();
    let detail = text.rsplit('.').next().and_then(|d| d.parse::<u16>().ok());
    detail.is_some_and(|d| (70..=89).contains(&d))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Highest assigned detail of each subject in the registry of 2024-12-06.
    const REGISTERED: [u16; 8] = [0, 10, 4, 6, 7, 6, 10, 30];

    fn parts(status: EnhancedStatus) -> (u16, u16, u16) {
        let parts: Vec<u16> = status.to_string().split('.').map(|p| p.parse().unwrap()).collect();
        (parts[0], parts[1], parts[2])
    }

    #[test]
    fn registered_codes_are_registered_and_ours_are_not() {
        for code in ALL {
            let (_, subject, detail) = parts(code.status);
            let registered = detail <= REGISTERED[usize::from(subject)];
            assert_eq!(registered, code.source != TBR, "{code:?}");
            assert_eq!(is_tbr_specific(code.status), code.source == TBR, "{code:?}");
        }
    }

    #[test]
    fn classes_agree_with_replies_and_no_row_repeats() {
        for (place, code) in ALL.iter().enumerate() {
            let (class, ..) = parts(code.status);
            assert!(code.reply == 0 || code.reply / 100 == class, "{code:?}");
            assert!(!ALL[..place].iter().any(|c| c.reply == code.reply && c.status == code.status), "{code:?}");
            assert!(code.text.is_ascii() && code.text.len() < 80);
        }
    }

    #[test]
    fn a_client_sorts_every_reply_of_the_table() {
        for (code, sorted) in [
            (ACCEPTED, OfferReply::Pending),
            (RETRIEVED, OfferReply::Claimed),
            (DONE, OfferReply::Claimed),
            (VERIFYING, OfferReply::TryLater),
            (BY_VALUE_PLEASE, OfferReply::ByValue),
            (BAD_SIGNATURE, OfferReply::ByValue),
            (BAD_BLOCK, OfferReply::ByValue),
            (REFUSED, OfferReply::Refused),
            (TOO_LARGE, OfferReply::Refused),
            (NO_RECIPIENTS, OfferReply::Refused),
            (LOOP, OfferReply::Refused),
        ] {
            assert_eq!(classify(code.reply, Some(code.status)), sorted, "{code:?}");
        }
        assert_eq!(classify(550, None), OfferReply::Refused);
        assert_eq!(classify(502, None), OfferReply::ByValue);
        assert_eq!(classify(250, None), OfferReply::Pending);
    }
}
