//! What a receiver believes of a message, and what it does about it: evidence in, verdict and named reason out.
//!
//! Pure. Nothing is looked up here: `net` gathers the evidence, `restante` carries the verdict out. Four parts: the
//! evidence as data ([`evidence`]), the one decision ([`decide`]), what is written into the message
//! ([`results`], RFC 8601 and TBR §9), and two judgements whose rules are ours to keep: SPF ([`spf`], RFC 7208) and the
//! method `tbr` ([`tbr`]). Beside it stands what is decided by counting ([`rate`]): what an account may send ([`allowance`]), what
//! senders of references may take of this server ([`budget`]), how welcome their mail has been ([`reputation`]), and
//! who is asked to send by reference ([`hint`]).

pub mod allowance;
pub mod budget;
pub mod decide;
pub mod evidence;
pub mod hint;
pub mod rate;
pub mod reputation;
pub mod results;
pub mod scrub;
pub mod sealed;
pub mod spf;
pub mod tbr;

pub use decide::{Decision, Disposition, Reason, Response, Rules, decide};
pub use evidence::{ContentEvidence, Evidence, SessionEvidence};
