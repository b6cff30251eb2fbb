//! DATA, BDAT and TBR: octets that are not commands, and how they end.

use bytes::Bytes;

use super::event::{Dropped, Event, Offer};
use super::transaction::{Fault, Progress};
use super::{Question, Server, State};
use crate::command::{Bdat, SyntaxError, Tbr};
use crate::content::Unstuffed;
use crate::content::block::{BlockReader, BlockStep};
use crate::reply::{Reply, catalogue};

impl Server {
    pub(super) fn data(&mut self) {
        let refusal = match &self.transaction {
            None => Some(catalogue::mail_first()),
            Some(transaction) if transaction.content.is_some() => Some(catalogue::amid_chunks()),
            Some(transaction) if transaction.accepted == 0 => Some(catalogue::no_recipient()),
            Some(_) => None,
        };
        match refusal {
            Some(reply) => self.answer(reply),
            None => self.ask(Question::Data, Event::ContentStart),
        }
    }

    /// A refused chunk ends its transaction: were a later one of the same pipelined group taken for the
    /// first, half a message would be accepted (RFC 3030 §2).
    pub(super) fn bdat(&mut self, bdat: Bdat) {
        match &self.transaction {
            None => self.discard_chunk(bdat, catalogue::mail_first()),
            Some(transaction) if transaction.accepted == 0 => {
                self.reset();
                self.discard_chunk(bdat, catalogue::chunk_without_recipient());
            }
            Some(transaction) if transaction.content.is_none() => {
                self.ask(Question::FirstChunk(bdat), Event::ContentStart);
            }
            Some(_) => self.begin_chunk(bdat),
        }
    }

    /// The octets of this chunk are content.
    pub(super) fn begin_chunk(&mut self, bdat: Bdat) {
        let limits = &self.config.limits;
        let Some(content) = self.transaction.as_mut().and_then(|t| t.content.as_mut()) else {
            return self.discard_chunk(bdat, catalogue::mail_first());
        };
        let total = content.octets.saturating_add(bdat.size);
        if total > limits.message.saturating_add(limits.overrun) {
            return self.answer(catalogue::endless_content());
        }
        if total > limits.message && content.fault.is_none() {
            content.fault = Some(Fault::Session(Dropped::TooBig));
            self.events.push_back(Event::ContentDropped(Dropped::TooBig));
        }
        self.wait_for_chunk(bdat, None);
    }

    /// The octets of this chunk are nobody's; the answer follows them.
    pub(super) fn discard_chunk(&mut self, bdat: Bdat, answer: Reply) {
        let limits = &self.config.limits;
        if bdat.size > limits.message.saturating_add(limits.overrun) {
            return self.answer(catalogue::endless_content());
        }
        self.progress = Progress::start(self.now);
        self.wait_for_chunk(bdat, Some(answer));
    }

    fn wait_for_chunk(&mut self, bdat: Bdat, answer: Option<Reply>) {
        self.deadline = self.progress.deadline(&self.config.limits, self.now);
        self.state = State::Chunk { remaining: bdat.size, last: bdat.last, answer };
    }

    pub(super) fn step_data(&mut self) -> bool {
        let State::Data(unstuffer) = &mut self.state else {
            return false;
        };
        match unstuffer.take(&mut self.input) {
            Unstuffed::Chunk(chunk) => self.content_chunk(chunk),
            Unstuffed::End => self.content_end(),
            Unstuffed::More => return false,
        }
        true
    }

    pub(super) fn step_chunk(&mut self) -> bool {
        let State::Chunk { remaining, answer, .. } = &mut self.state else {
            return false;
        };
        if *remaining == 0 {
            self.chunk_end();
            return true;
        }
        let take = usize::try_from(*remaining).unwrap_or(usize::MAX).min(self.input.len());
        if take == 0 {
            return false;
        }
        *remaining -= take as u64;
        let chunk = self.input.split_to(take).freeze();
        if answer.is_none() {
            self.content_chunk(chunk);
        }
        true
    }

    fn chunk_end(&mut self) {
        let State::Chunk { last, answer, .. } = std::mem::replace(&mut self.state, State::Command) else {
            return;
        };
        let content = self.transaction.as_mut().and_then(|t| t.content.as_mut());
        match (answer, content) {
            (Some(reply), _) => self.answer(reply),
            (None, Some(content)) if !last && content.fault.is_none() => {
                let octets = content.octets;
                self.answer(catalogue::chunk_ok(octets));
            }
            (None, _) => self.content_end(),
        }
    }

    /// Passes octets of the content on, unless it is refused already or now.
    fn content_chunk(&mut self, chunk: Bytes) {
        let limits = &self.config.limits;
        let Some(content) = self.transaction.as_mut().and_then(|t| t.content.as_mut()) else {
            return;
        };
        if content.fault.is_some() {
            content.octets = content.octets.saturating_add(chunk.len() as u64);
        } else if let Some(dropped) = content.watch(&chunk, limits) {
            content.fault = Some(Fault::Session(dropped));
            self.events.push_back(Event::ContentDropped(dropped));
        } else {
            self.events.push_back(Event::Content(chunk));
        }
        if content.octets > limits.message.saturating_add(limits.overrun) {
            self.answer(catalogue::endless_content());
        }
    }

    /// The content is complete, and the transaction over.
    fn content_end(&mut self) {
        self.state = State::Command;
        let Some(mut content) = self.transaction.take().and_then(|t| t.content) else {
            return;
        };
        if content.fault.is_none()
            && let Some(dropped) = content.finish()
        {
            content.fault = Some(Fault::Session(dropped));
            self.events.push_back(Event::ContentDropped(dropped));
        }
        match content.fault {
            Some(Fault::Driver(reply)) => self.say(&reply),
            Some(fault) => self.answer(fault.into_reply(&self.config.limits)),
            None => self.ask(Question::ContentEnd, Event::ContentEnd { octets: content.octets }),
        }
    }

    /// A TBR line, well-formed or not: its block follows in any case.
    pub(super) fn begin_block(&mut self, parsed: Result<Tbr, SyntaxError>) {
        let verdict = self.offer_verdict(parsed);
        let reader = BlockReader::new(self.config.limits.block, verdict.is_ok());
        self.restart_timer();
        self.state = State::Block { reader, verdict };
    }

    fn offer_verdict(&self, parsed: Result<Tbr, SyntaxError>) -> Result<Tbr, Reply> {
        let transaction = self.transaction.as_ref().ok_or_else(catalogue::mail_first)?;
        if transaction.content.is_some() {
            return Err(catalogue::amid_chunks());
        }
        let line = parsed.map_err(SyntaxError::reply)?;
        if transaction.void {
            Err(catalogue::void_recipients())
        } else if transaction.accepted == 0 {
            Err(catalogue::no_recipient())
        } else {
            Ok(line)
        }
    }

    pub(super) fn step_block(&mut self) -> bool {
        let State::Block { reader, .. } = &mut self.state else {
            return false;
        };
        match reader.read(&mut self.input) {
            BlockStep::More => return false,
            BlockStep::TooBig => self.answer(catalogue::block_too_big()),
            BlockStep::End(block) => self.block_end(block),
        }
        true
    }

    /// The one answer to a TBR line, after its block. Whatever it is, the transaction is over.
    fn block_end(&mut self, block: Option<Bytes>) {
        let State::Block { verdict, .. } = std::mem::replace(&mut self.state, State::Command) else {
            return;
        };
        match (verdict, block) {
            (Ok(line), Some(block)) => {
                let recipients = self.transaction.take().map(|t| t.tried).unwrap_or_default();
                self.ask(Question::Offer, Event::Offer(Offer { line, block, recipients }));
            }
            (Ok(_), None) => {
                self.reset();
                self.answer(catalogue::malformed_block());
            }
            (Err(reply), _) => {
                self.reset();
                self.answer(reply);
            }
        }
    }
}
