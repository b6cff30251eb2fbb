//! One transaction: which commands are still to be sent, which replies are due, and what each recipient
//! has heard so far. Knows nothing of buffers; `transaction` carries out what is decided here.

use std::collections::VecDeque;

use bytes::Bytes;
use mail::Envelope;

use super::outcome::{End, Fate, Lost, Outcome, Refusal, Stage};
use crate::command::Tbr;
use crate::reply::{Reply, Severity};

/// A command of a transaction, or what a reply belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reset,
    Mail,
    /// By index.
    Rcpt(usize),
    Data,
    Offer,
    /// BDAT with the whole content behind it (RFC 3030 §2). No reply is due before the content's end.
    Chunk,
    /// The content's end, for everybody.
    End,
    /// The content's end, for this recipient (LMTP).
    EndFor(usize),
}

/// How a transaction ends: what it hands over.
#[derive(Debug)]
pub(super) enum Handover {
    /// The content behind DATA.
    Lines,
    /// The content behind BDAT: so many octets.
    Chunk(u64),
    /// A reference (TBR §3).
    Offer(OfferText),
    /// Nothing: RSET follows on the last RCPT.
    Nothing,
}

/// What an offer hands over.
#[derive(Debug)]
pub(super) struct OfferText {
    pub(super) line: Tbr,
    pub(super) block: Bytes,
}

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) envelope: Envelope,
    pub(super) handover: Handover,
    to_send: VecDeque<Step>,
    due: VecDeque<Step>,
    mail_refused: Option<Reply>,
    heard: Vec<Heard>,
    /// Has the last octet been sent?
    complete: bool,
}

/// What a recipient has heard.
#[derive(Debug, Clone)]
enum Heard {
    Nothing,
    /// RCPT was accepted.
    Recipient,
    Fate(Fate),
}

/// What follows from a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// More is to be sent or to be heard.
    Go,
    /// 354: the content, for somebody or, where nobody was accepted, an empty one.
    Content,
    /// The reply makes no sense.
    OutOfTurn,
}

impl Exchange {
    pub(super) fn new(envelope: Envelope, handover: Handover, reset_first: bool) -> Self {
        let count = envelope.recipients.len();
        let last = match handover {
            Handover::Lines => Step::Data,
            Handover::Chunk(_) => Step::Chunk,
            Handover::Offer(_) => Step::Offer,
            Handover::Nothing => Step::Reset,
        };
        let reset = reset_first.then_some(Step::Reset);
        let to_send = reset.into_iter().chain([Step::Mail]).chain((0..count).map(Step::Rcpt)).chain([last]).collect();
        Self {
            envelope,
            handover,
            to_send,
            due: VecDeque::new(),
            mail_refused: None,
            heard: vec![Heard::Nothing; count],
            complete: false,
        }
    }

    /// The next command to be sent, with at most `window` replies due; it counts as sent. Commands that
    /// have become pointless are passed over.
    pub(super) fn next_to_send(&mut self, window: usize) -> Option<Step> {
        while self.due.len() < window {
            let step = self.to_send.pop_front()?;
            if step == Step::Chunk && !self.due.is_empty() {
                // Where nobody is accepted, no content has to be sent.
                self.to_send.push_front(step);
                return None;
            }
            if self.is_pointless(step) {
                continue;
            }
            self.complete |= step == Step::Offer;
            if step != Step::Chunk {
                self.due.push_back(step);
            }
            return Some(step);
        }
        None
    }

    fn is_pointless(&self, step: Step) -> bool {
        match step {
            Step::Rcpt(_) => self.mail_refused.is_some(),
            // While a RCPT is unanswered there is hope.
            Step::Data | Step::Chunk | Step::Offer => {
                self.mail_refused.is_some() || (self.due.is_empty() && !self.anybody_accepted())
            }
            _ => false,
        }
    }

    pub(super) fn anybody_accepted(&self) -> bool {
        self.heard.iter().any(|heard| matches!(heard, Heard::Recipient))
    }

    /// From here on the peer may have the whole content.
    pub(super) fn last_octet_sent(&mut self) {
        self.complete = true;
    }

    /// The content's end goes out: one reply is due, or in LMTP one for each accepted recipient.
    pub(super) fn content_sent(&mut self, lmtp: bool) {
        self.complete = true;
        if !lmtp || !self.anybody_accepted() {
            return self.due.push_back(Step::End);
        }
        let accepted = (0..self.heard.len()).filter(|i| matches!(self.heard[*i], Heard::Recipient));
        self.due.extend(accepted.map(Step::EndFor));
    }

    /// The step whose reply is due next.
    pub(super) fn due(&self) -> Option<Step> {
        self.due.front().copied()
    }

    pub(super) fn is_over(&self) -> bool {
        self.to_send.is_empty() && self.due.is_empty()
    }

    /// Takes the reply that is due.
    pub(super) fn take(&mut self, reply: Reply) -> Then {
        use Severity::{Intermediate, Success};
        let Some(step) = self.due.pop_front() else {
            return Then::OutOfTurn;
        };
        match (step, reply.severity()) {
            (Step::Data, Intermediate) if reply.code() == 354 => return Then::Content,
            (_, Intermediate) | (Step::Data, Success) | (Step::Chunk, _) => return Then::OutOfTurn,
            (Step::Reset | Step::Mail, Success) => {}
            (Step::Reset, _) => return Then::OutOfTurn,
            (Step::Mail, _) => self.mail_refused = Some(reply),
            (Step::Rcpt(index), Success) if self.mail_refused.is_none() => self.heard[index] = self.known(reply),
            (Step::Rcpt(index), _) => self.refuse_recipient(index, reply),
            (Step::Data, _) => self.settle(|| Fate::refused(Stage::Data, reply.clone())),
            (Step::Offer | Step::End, Success) => self.settle(|| Fate::Accepted(reply.clone())),
            (Step::Offer | Step::End, _) => self.settle(|| Fate::refused(step.stage(), reply.clone())),
            (Step::EndFor(index), Success) => self.heard[index] = Heard::Fate(Fate::Accepted(reply)),
            (Step::EndFor(index), _) => self.heard[index] = Heard::Fate(Fate::refused(Stage::Content, reply)),
        }
        Then::Go
    }

    /// What an accepted recipient has heard: in a probe that was all.
    fn known(&self, reply: Reply) -> Heard {
        match self.handover {
            Handover::Nothing => Heard::Fate(Fate::Accepted(reply)),
            Handover::Lines | Handover::Chunk(_) | Handover::Offer(_) => Heard::Recipient,
        }
    }

    /// Where MAIL was refused, a refused RCPT says nothing of the recipient.
    fn refuse_recipient(&mut self, index: usize, reply: Reply) {
        let fate = match &self.mail_refused {
            Some(refusal) => Fate::refused(Stage::Mail, refusal.clone()),
            None => Fate::refused(Stage::Rcpt, reply),
        };
        self.heard[index] = Heard::Fate(fate);
    }

    /// Gives every recipient that was accepted so far its fate.
    fn settle(&mut self, fate: impl Fn() -> Fate) {
        for heard in self.heard.iter_mut().filter(|heard| matches!(heard, Heard::Recipient)) {
            *heard = Heard::Fate(fate());
        }
    }

    /// The peer refused the content while it was on its way.
    pub(super) fn content_refused(mut self, reply: Reply) -> Outcome {
        self.settle(|| Fate::refused(Stage::Content, reply.clone()));
        self.outcome()
    }

    /// Is a transaction open at the peer that RSET has to close? After a refused offer it should not be,
    /// but RSET costs nothing.
    pub(super) fn leaves_open(&self) -> bool {
        let finished = |heard: &Heard| match heard {
            Heard::Fate(Fate::Accepted(_)) => true,
            Heard::Fate(Fate::Temporary(refusal) | Fate::Permanent(refusal)) => refusal.stage == Stage::Content,
            _ => false,
        };
        let is_reset = matches!(self.handover, Handover::Nothing);
        !is_reset && self.mail_refused.is_none() && !self.heard.iter().any(finished)
    }

    /// The transaction is over.
    pub(super) fn outcome(self) -> Outcome {
        self.outcome_else(&Fate::NotSent(Lost::Closed))
    }

    /// The session ended amid the transaction.
    pub(super) fn broken_off(self, end: &End) -> Outcome {
        let stage = self.due().map_or(Stage::Content, Step::stage);
        let fate = match end {
            End::Closing(reply) | End::Refused(reply) => Fate::Temporary(Refusal { stage, reply: reply.clone() }),
            End::Lost(lost) if self.complete => Fate::Unknown(lost.clone()),
            End::Lost(lost) => Fate::NotSent(lost.clone()),
            End::Quit => Fate::NotSent(Lost::Closed),
        };
        self.outcome_else(&fate)
    }

    /// Everybody's fate; `otherwise` for those who have none yet.
    fn outcome_else(self, otherwise: &Fate) -> Outcome {
        let mail_refused = self.mail_refused;
        let fate = |heard| match (heard, &mail_refused) {
            (Heard::Fate(fate), _) => fate,
            (Heard::Nothing | Heard::Recipient, Some(reply)) => Fate::refused(Stage::Mail, reply.clone()),
            (Heard::Nothing | Heard::Recipient, None) => otherwise.clone(),
        };
        Outcome { fates: self.heard.into_iter().map(fate).collect() }
    }
}

impl Step {
    fn stage(self) -> Stage {
        match self {
            Self::Reset | Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Offer => Stage::Offer,
            Self::Chunk | Self::End | Self::EndFor(_) => Stage::Content,
        }
    }
}
