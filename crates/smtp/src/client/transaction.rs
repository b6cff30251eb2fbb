//! Carrying a transaction out: orders of the driver, commands into the buffer, replies to the exchange.

use std::time::Duration;

use ::mail::{Address, Body, Envelope, MailParams, Timestamp};
use bytes::Bytes;

use super::exchange::{Exchange, Handover, OfferText, Step, Then};
use super::framing::Framing;
use super::outcome::{CannotSend, End, Event, Lost, Transfer};
use super::{Client, FLUSH, Protocol, State};
use crate::command::{Bdat, Command, mail, rcpt};
use crate::content::block::{BlockReader, BlockStep};
use crate::reply::Reply;

/// Most replies that may be due at a time. So many short lines fit the buffers of any TCP, so that
/// neither side waits for the other to read (RFC 2920 §3.1).
const WINDOW: usize = 500;

/// Most octets of a block (TBR §3).
const MAX_BLOCK: usize = 64 << 10;

impl Client {
    /// Begins a transaction. Parameters for which the peer lacks the extension, but which do not change
    /// what is delivered (SIZE, DSN), are left out; so is REQUIRETLS where that loses no protection that was asked for:
    /// with reports, which should rather arrive (RFC 8689 §5), and in LMTP, which ends at a mailbox of ours.
    ///
    /// # Errors
    /// [`CannotSend`]; nothing was sent.
    pub fn begin(&mut self, now: Timestamp, envelope: &Envelope, transfer: Transfer) -> Result<(), CannotSend> {
        self.check_ready()?;
        let params = self.fitting_params(envelope, &transfer)?;
        let handover = match transfer {
            Transfer::Offer { line, block } => Handover::Offer(OfferText { line, block }),
            Transfer::Probe => Handover::Nothing,
            Transfer::Value { octets } if self.speaks_bdat() => Handover::Chunk(octets),
            Transfer::Value { .. } => Handover::Lines,
        };
        self.now = now;
        let envelope = Envelope { params, ..envelope.clone() };
        let exchange = Exchange::new(envelope, handover, std::mem::take(&mut self.dirty));
        self.go_on(exchange);
        Ok(())
    }

    /// In LMTP each recipient answers after the last chunk, which RFC 3030 says nothing of: DATA serves there.
    fn speaks_bdat(&self) -> bool {
        self.capabilities.chunking && self.config.protocol == Protocol::Smtp
    }

    /// Hands in the next octets of the content, after [`Action::Content`](super::Action::Content). They go out
    /// as they are, but for the dots that DATA needs; they should be an object: lines with CR LF. More octets than
    /// were announced lose the session.
    pub fn content(&mut self, chunk: Bytes) {
        let State::Content(exchange, framing) = &mut self.state else {
            return;
        };
        let Some(chunk) = framing.frame(chunk) else {
            return self.end(End::Lost(Lost::Closed));
        };
        if framing.is_whole() {
            exchange.last_octet_sent();
        }
        if self.gathered.len() + chunk.len() <= FLUSH {
            self.gathered.extend_from_slice(&chunk);
            return;
        }
        if !self.gathered.is_empty() {
            self.writes.push_back(Bytes::from(std::mem::take(&mut self.gathered)));
        }
        self.writes.push_back(chunk);
    }

    /// The content is complete. Where it can't be completed, drop the connection instead: the peer then
    /// has nothing. Fewer octets than were announced lose the session for the same reason.
    pub fn content_end(&mut self, now: Timestamp) {
        self.now = now;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Content(exchange, framing) => self.end_content(exchange, framing),
            state => self.state = state,
        }
    }

    fn end_content(&mut self, mut exchange: Exchange, framing: Framing) {
        let Some(end) = framing.end() else {
            self.state = State::Exchange(exchange);
            return self.end(End::Lost(Lost::Closed));
        };
        self.gathered.extend_from_slice(&end);
        exchange.content_sent(self.config.protocol == Protocol::Lmtp);
        self.go_on(exchange);
    }

    /// What MAIL will say, if the peer can take the message at all.
    fn fitting_params(&self, envelope: &Envelope, transfer: &Transfer) -> Result<MailParams, CannotSend> {
        let (peer, mut params) = (&self.capabilities, envelope.params.clone());
        let addresses = || envelope.mail_from.iter().chain(envelope.recipients.iter().map(|r| &r.address));
        params.smtputf8 |= addresses().any(Address::needs_smtputf8);
        if envelope.recipients.is_empty() {
            return Err(CannotSend::NoRecipient);
        }
        if params.body == Body::EightBit && !peer.eight_bit_mime {
            return Err(CannotSend::EightBit);
        }
        if params.smtputf8 && !peer.smtputf8 {
            return Err(CannotSend::SmtpUtf8);
        }
        if params.requiretls && !(peer.requiretls && self.tls) {
            if envelope.mail_from.is_some() && self.config.protocol == Protocol::Smtp {
                return Err(CannotSend::RequireTls);
            }
            params.requiretls = false;
        }
        params.size = match (transfer, peer.size) {
            (Transfer::Value { octets }, Some(limit)) if limit > 0 && *octets > limit => {
                return Err(CannotSend::TooBig(limit));
            }
            (Transfer::Value { octets }, Some(_)) => Some(*octets),
            _ => None,
        };
        if let Transfer::Offer { block, .. } = transfer {
            self.check_offer(block)?;
        }
        if !peer.dsn {
            (params.ret, params.envid) = (None, None);
        }
        Ok(params)
    }

    fn check_offer(&self, block: &[u8]) -> Result<(), CannotSend> {
        if !self.capabilities.tbr {
            return Err(CannotSend::NoTbr);
        }
        // What a strict server would read is what was meant, to the last octet.
        let mut wire = bytes::BytesMut::from(block);
        wire.extend_from_slice(b".\r\n");
        match BlockReader::new(MAX_BLOCK, true).read(&mut wire) {
            BlockStep::End(Some(read)) if read == block => Ok(()),
            _ => Err(CannotSend::Block),
        }
    }

    pub(super) fn exchange_reply(&mut self, mut exchange: Exchange, reply: Reply) {
        if reply.code() == 421 {
            self.state = State::Exchange(exchange);
            return self.end(End::Closing(reply));
        }
        match exchange.take(reply.clone()) {
            Then::Go => self.go_on(exchange),
            Then::Content if exchange.anybody_accepted() => {
                self.state = State::Content(exchange, Framing::dots());
            }
            // The peer wants a content for nobody: an empty one ends it (RFC 2920 §3.1).
            Then::Content => self.end_content(exchange, Framing::dots()),
            Then::OutOfTurn => {
                self.state = State::Exchange(exchange);
                self.end(End::Lost(Lost::OutOfTurn(reply)));
            }
        }
    }

    /// The peer refused the content before its end, and closed.
    pub(super) fn content_refused(&mut self, exchange: Exchange, reply: Reply) {
        self.events.push_back(Event::Done(exchange.content_refused(reply)));
        self.end(End::Lost(Lost::Closed));
    }

    /// Sends what may be sent now, and waits for the next reply; or is done.
    fn go_on(&mut self, mut exchange: Exchange) {
        let window = if self.capabilities.pipelining { WINDOW } else { 1 };
        while let Some(step) = exchange.next_to_send(window) {
            self.send_step(&exchange, step);
            if let (Step::Chunk, &Handover::Chunk(octets)) = (step, &exchange.handover) {
                self.state = State::Content(exchange, Framing::Counted { left: octets });
                return;
            }
        }
        if exchange.is_over() {
            self.dirty = exchange.leaves_open();
            self.state = State::Ready;
            return self.events.push_back(Event::Done(exchange.outcome()));
        }
        let timeout = self.timeout(exchange.due());
        self.wait(State::Exchange(exchange), timeout);
    }

    fn send_step(&mut self, exchange: &Exchange, step: Step) {
        let envelope = &exchange.envelope;
        match step {
            Step::Reset => return self.send(&Command::Rset),
            Step::Data => return self.send(&Command::Data),
            Step::Mail => mail::write(envelope.mail_from.as_ref(), &envelope.params, &mut self.gathered),
            Step::Rcpt(index) => rcpt::write(&envelope.recipients[index], self.capabilities.dsn, &mut self.gathered),
            Step::Offer => {
                if let Handover::Offer(offer) = &exchange.handover {
                    self.send(&Command::Tbr(offer.line.clone()));
                    self.gathered.extend_from_slice(&offer.block);
                    self.gathered.push(b'.');
                }
            }
            Step::Chunk => {
                if let &Handover::Chunk(size) = &exchange.handover {
                    self.send(&Command::Bdat(Bdat { size, last: true }));
                }
                return;
            }
            // Sent with the content.
            Step::End | Step::EndFor(_) => return,
        }
        self.gathered.extend_from_slice(b"\r\n");
    }

    fn timeout(&self, due: Option<Step>) -> Duration {
        let timeouts = &self.config.timeouts;
        match due {
            None | Some(Step::Reset) => timeouts.hello,
            Some(Step::Mail) => timeouts.mail,
            Some(Step::Rcpt(_)) => timeouts.rcpt,
            Some(Step::Data) => timeouts.data_start,
            Some(Step::Offer) => timeouts.offer,
            Some(Step::Chunk | Step::End | Step::EndFor(_)) => timeouts.data_end,
        }
    }
}
