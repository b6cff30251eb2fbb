//! What the driver decided.

use mail::Timestamp;

use super::event::{Decision, Misuse};
use super::transaction::{Content, Fault, Transaction};
use super::{Question, Server, State, Tally};
use crate::command::auth;
use crate::reply::{Reply, Severity, catalogue};

impl Server {
    /// Answers the question that is outstanding.
    ///
    /// # Errors
    /// [`Misuse`]: there is none, or this can't be its answer; nothing has changed.
    pub fn decide(&mut self, now: Timestamp, decision: Decision) -> Result<(), Misuse> {
        let State::Deciding(question) = self.state else {
            return Err(Misuse::NotAsked);
        };
        // The question must have been asked: its event stands last in the queue.
        if !self.events.is_empty() {
            return Err(Misuse::NotAsked);
        }
        let answer = Answer::of(question, decision, &self.config.host)?;
        self.now = now;
        self.state = State::Command;
        match answer {
            Answer::Challenge(line) => {
                self.output.extend_from_slice(&line);
                self.restart_timer();
                self.state = State::Sasl;
            }
            Answer::Reply(reply) if reply.is_success() => self.accepted(question, reply),
            Answer::Reply(reply) => self.refused(question, reply),
        }
        Ok(())
    }

    /// Refuses the content that is on its way: the rest is read and thrown away, the client gets `reply`
    /// at its end, and the transaction is over. For a disk that is full and the like.
    ///
    /// # Errors
    /// [`Misuse::NoContent`]; at [`Event::ContentEnd`](super::Event::ContentEnd) decide instead.
    pub fn refuse_content(&mut self, reply: Reply) -> Result<(), Misuse> {
        let content = self.transaction.as_mut().and_then(|t| t.content.as_mut()).ok_or(Misuse::NoContent)?;
        if content.fault.is_none() {
            let reply = if reply.code() >= 400 { reply } else { catalogue::local_error() };
            content.fault = Some(Fault::Driver(reply));
        }
        Ok(())
    }

    fn accepted(&mut self, question: Question, reply: Reply) {
        match question {
            Question::Hello { extended } => return self.greet(extended, &reply),
            Question::Auth => self.connection.authenticated = true,
            Question::Mail { smtputf8 } => self.transaction = Some(Transaction::new(smtputf8)),
            Question::Rcpt => self.recipient_accepted(),
            Question::Data => {
                self.begin_content();
                self.say(&catalogue::send_content());
                self.state = State::Data(Box::default());
                return;
            }
            Question::FirstChunk(bdat) => {
                self.begin_content();
                return self.begin_chunk(bdat);
            }
            Question::ContentEnd | Question::Offer => self.tally = Tally::default(),
            Question::Atrn => {
                self.say(&reply);
                // What the client sent behind ATRN is no answer to what a client asks.
                self.drop_input();
                self.state = State::Turned;
                return;
            }
            Question::Connect | Question::Etrn => {}
        }
        self.say(&reply);
    }

    fn refused(&mut self, question: Question, reply: Reply) {
        match question {
            Question::Connect => {
                self.say(&reply);
                self.close();
            }
            Question::FirstChunk(bdat) => {
                self.reset();
                self.discard_chunk(bdat, reply);
            }
            // A refused message is no misbehaviour of the client.
            Question::ContentEnd | Question::Offer => self.say(&reply),
            _ => self.answer(reply),
        }
    }

    fn greet(&mut self, extended: bool, reply: &Reply) {
        self.connection.greeted = true;
        if extended {
            let capabilities = self.capabilities();
            self.connection.tbr = capabilities.tbr;
            let reply = capabilities.to_reply(&self.config.host);
            self.say(&reply);
        } else {
            self.connection.tbr = false;
            self.say(reply);
        }
    }

    fn recipient_accepted(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.accepted += 1;
            if let Some(tried) = transaction.tried.last_mut() {
                tried.accepted = true;
            }
        }
    }

    fn begin_content(&mut self) {
        self.progress = super::Progress::start(self.now);
        if let Some(transaction) = &mut self.transaction {
            transaction.content = Some(Content::new(&self.config.limits));
        }
    }
}

/// A decision that fits its question.
enum Answer {
    Reply(Reply),
    /// The line of a challenge, CR LF included.
    Challenge(Vec<u8>),
}

impl Answer {
    fn of(question: Question, decision: Decision, host: &mail::Domain) -> Result<Self, Misuse> {
        let reply = match (question, decision) {
            (Question::Auth, Decision::Challenge(challenge)) => {
                return Ok(Self::Challenge(format!("334 {}\r\n", auth::encode(challenge.reveal())).into_bytes()));
            }
            (Question::ContentEnd, Decision::Queued(id)) => catalogue::queued(&id),
            (Question::Offer, Decision::Queued(id)) => catalogue::reference_accepted(&id),
            (question, Decision::Accept) => standard(question, host).ok_or(Misuse::OtherQuestion)?,
            (question, Decision::Reply(reply)) if may_say(question, &reply) => reply,
            (_, Decision::Queued(_) | Decision::Reply(_) | Decision::Challenge(_)) => {
                return Err(Misuse::OtherQuestion);
            }
        };
        Ok(Self::Reply(reply))
    }
}

/// The usual words; none where a queue id belongs into them.
fn standard(question: Question, host: &mail::Domain) -> Option<Reply> {
    match question {
        Question::Connect => Some(catalogue::greeting(host.as_str())),
        Question::Hello { .. } => Some(catalogue::hello(host.as_str())),
        Question::Auth => Some(catalogue::authenticated()),
        Question::Mail { .. } => Some(catalogue::sender_ok()),
        Question::Rcpt => Some(catalogue::recipient_ok()),
        Question::Data | Question::FirstChunk(_) => Some(catalogue::done()),
        Question::Etrn => Some(catalogue::queue_started()),
        Question::Atrn => Some(catalogue::turning()),
        Question::ContentEnd | Question::Offer => None,
    }
}

/// May the driver choose these words?
fn may_say(question: Question, reply: &Reply) -> bool {
    match reply.severity() {
        Severity::Intermediate => false,
        Severity::Temporary | Severity::Permanent => true,
        Severity::Success => matches!(
            question,
            Question::Connect
                | Question::Auth
                | Question::Mail { .. }
                | Question::Rcpt
                | Question::Offer
                | Question::Etrn
        ),
    }
}
