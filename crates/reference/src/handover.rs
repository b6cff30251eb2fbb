//! A site hands a message over to its custodian by upload (TBR §7.4): what it does next, after each answer and each break.
//!
//! The list, the octets that the custodian has not got, the list once more. Decides only: requests, their limits in time, and octets are
//! the edge's. Custody ends with the word `taken` in the answer to a list, and with nothing else.

use std::time::Duration;

use crate::bundle::NotTaken;
use crate::upload::MailAnswer;

/// Breaks after which this much had come are no failures: long objects go over short-lived links. It is what the custodian says that
/// it has: what was written may still lie in the kernel.
const WORTHWHILE: u64 = 64 * 1024;

/// How often it is tried again before it is left to the queue.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Breaks in a row that bring next to nothing.
    pub breaks: u32,
    /// Pause after the first of them; doubled for each further one.
    pub pause: Duration,
}

/// A message on its way to a custodian.
#[derive(Debug)]
pub struct Handover {
    /// Octets of its object.
    size: u64,
    patience: Patience,
    /// Where the last part began.
    began: Option<u64>,
    /// The custodian has said that all octets are there.
    has_all: bool,
    /// Octets that the custodian has got by the parts before it.
    brought: u64,
    /// The octets were found to be wrong once.
    is_second: bool,
    breaks: u32,
    pause: Duration,
    /// What had been brought when breaks were last counted from zero.
    mark: u64,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Post the list.
    List,
    /// Post the list after a pause.
    ListAfter(Duration),
    /// Send all octets from this one on.
    Part(u64),
    /// It is over: the custodian has the message, but for these.
    Taken(Vec<NotTaken>),
    /// It is over for now: going on makes no sense.
    Stop,
}

impl Handover {
    /// Of an object of so many octets. It begins with the list.
    pub fn new(size: u64, patience: Patience) -> Self {
        let pause = patience.pause;
        Self { size, patience, began: None, has_all: false, brought: 0, is_second: false, breaks: 0, pause, mark: 0 }
    }

    /// Octets that this has brought to the custodian, as that says.
    pub fn brought(&self) -> u64 {
        self.brought
    }

    /// The answer to the list, in which nothing stands that was not asked ([`MailAnswer::answers`]).
    pub fn listed(&mut self, answer: MailAnswer) -> Next {
        if let Some(taken) = answer.taken.into_iter().next() {
            self.has(self.size);
            return Next::Taken(taken.failed);
        }
        let Some(wanted) = answer.wanted.first() else { return Next::Stop };
        self.has(wanted.at);
        if std::mem::take(&mut self.has_all) {
            // It wants again what it had: whatever it lacks, sending at once and for ever does not mend it.
            return self.broke();
        }
        self.began = Some(wanted.at);
        Next::Part(wanted.at)
    }

    /// The status of the answer to a part.
    pub fn sent(&mut self, status: u16) -> Next {
        match status {
            // That is not yet the word.
            204 => {
                self.has_all = true;
                Next::List
            }
            // Another connection has got further, or the custodian has forgotten the list: both come out at the next one.
            404 | 409 => self.broke(),
            422 if !std::mem::replace(&mut self.is_second, true) => self.broke(),
            _ => Next::Stop,
        }
    }

    /// No answer: the connection broke, or there was none.
    pub fn broke(&mut self) -> Next {
        if self.brought < self.mark + WORTHWHILE {
            self.breaks += 1;
        } else {
            (self.breaks, self.pause, self.mark) = (0, self.patience.pause, self.brought);
        }
        if self.breaks > self.patience.breaks {
            return Next::Stop;
        }
        let pause = self.pause;
        self.pause *= 2;
        Next::ListAfter(pause)
    }

    /// The custodian says that it has so much.
    fn has(&mut self, at: u64) {
        self.brought += self.began.take().map_or(0, |began| at.saturating_sub(began));
    }
}

#[cfg(test)]
mod tests {
    use mail::Xuid;

    use super::*;
    use crate::body::Revision1;
    use crate::bundle::TakenEntry;
    use crate::upload::WantedObject;

    const SIZE: u64 = 300_000;
    const PAUSE: Duration = Duration::from_millis(250);

    fn handover() -> Handover {
        Handover::new(SIZE, Patience { breaks: 2, pause: PAUSE })
    }

    fn wanted(at: u64) -> MailAnswer {
        MailAnswer { v: Revision1, taken: Vec::new(), wanted: vec![WantedObject { o: Xuid::of(b"x"), at }] }
    }

    fn taken() -> MailAnswer {
        let entry = TakenEntry { id: "leg/abc/0".parse().unwrap(), failed: Vec::new() };
        MailAnswer { v: Revision1, taken: vec![entry], wanted: Vec::new() }
    }

    #[test]
    fn it_is_over_when_the_custodian_says_taken_and_not_when_it_has_all_octets() {
        let mut handover = handover();
        assert_eq!(handover.listed(wanted(0)), Next::Part(0));
        assert_eq!(handover.sent(204), Next::List);
        assert_eq!(handover.listed(taken()), Next::Taken(Vec::new()));
        assert_eq!(handover.brought(), SIZE);
    }

    #[test]
    fn after_a_break_the_next_part_begins_where_the_custodian_says() {
        let mut handover = handover();
        assert_eq!(handover.listed(wanted(0)), Next::Part(0));
        assert_eq!(handover.broke(), Next::ListAfter(PAUSE));
        assert_eq!(handover.listed(wanted(100_000)), Next::Part(100_000));
        assert_eq!(handover.brought(), 100_000);
        // What brings something is no failure; what brings nothing is one, and the pauses grow.
        let pauses: Vec<Next> = (0..4).map(|_| handover.broke()).collect();
        assert_eq!(
            pauses,
            [PAUSE, PAUSE * 2, PAUSE * 4].map(Next::ListAfter).into_iter().chain([Next::Stop]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_forgotten_or_wrong_is_listed_again_and_what_is_refused_is_not() {
        let mut ours = handover();
        assert_eq!(ours.sent(404), Next::ListAfter(PAUSE));
        assert_eq!(ours.sent(422), Next::ListAfter(PAUSE * 2));
        assert_eq!(ours.sent(422), Next::Stop, "wrong twice");
        for status in [400, 413, 429, 503, 507] {
            assert_eq!(handover().sent(status), Next::Stop, "{status}");
        }
        assert_eq!(ours.listed(MailAnswer::default()), Next::Stop, "neither taken nor wanted");
    }

    #[test]
    fn a_custodian_that_wants_all_octets_again_and_again_does_not_get_them_for_ever() {
        let mut handover = handover();
        for pause in [PAUSE, PAUSE * 2] {
            assert_eq!(handover.listed(wanted(0)), Next::Part(0));
            assert_eq!(handover.sent(204), Next::List);
            assert_eq!(handover.listed(wanted(0)), Next::ListAfter(pause));
        }
        assert_eq!(handover.listed(wanted(0)), Next::Part(0));
        assert_eq!(handover.sent(204), Next::List);
        assert_eq!(handover.listed(wanted(0)), Next::Stop);
    }
}
