//! From octets to lines: command lines, the lines of a SASL exchange, and lines without end.

use super::{Event, Server, State};
use crate::command::{Command, SyntaxError, Verb, is_http_request};
use crate::line::find_crlf;
use crate::reply::catalogue;

/// Longest line whose end is waited for.
const MAX_SKIPPED: usize = 64 << 10;

impl Server {
    pub(super) fn step_line(&mut self) -> bool {
        let Some(end) = find_crlf(&self.input, &mut self.scanned) else {
            return self.step_partial_line();
        };
        let line = self.input.split_to(end + 2);
        let verb = Verb::of(&line[..end]);
        if line.len() > self.line_limit(verb) {
            let within_sasl = matches!(self.state, State::Sasl);
            self.overlong(verb, within_sasl, line.len());
        } else if matches!(self.state, State::Sasl) {
            self.sasl_response(verb, &line[..end]);
        } else {
            self.command(verb, &line[..end]);
        }
        true
    }

    /// A line without its end so far: it may be too long already.
    fn step_partial_line(&mut self) -> bool {
        // The verb is only looked for in lines that are longer than any verb.
        let shortest = self.config.limits.command_line.min(self.config.limits.auth_line);
        if self.input.len() < shortest {
            return false;
        }
        let verb = Verb::of(&self.input);
        if self.input.len() < self.line_limit(verb) {
            return false;
        }
        let within_sasl = matches!(self.state, State::Sasl);
        self.state = State::Skipping { verb, within_sasl, octets: 0 };
        true
    }

    pub(super) fn step_skipping(&mut self) -> bool {
        let State::Skipping { verb, within_sasl, octets } = &mut self.state else {
            return false;
        };
        let (verb, within_sasl) = (*verb, *within_sasl);
        if let Some(end) = find_crlf(&self.input, &mut self.scanned) {
            let length = *octets + end + 2;
            let _line = self.input.split_to(end + 2);
            self.overlong(verb, within_sasl, length);
            return true;
        }
        // A CR at the end may belong to the CR LF that is waited for.
        let keep = usize::from(self.input.last() == Some(&b'\r'));
        *octets += self.input.len() - keep;
        let endless = *octets > MAX_SKIPPED;
        let _skipped = self.input.split_to(self.input.len() - keep);
        self.scanned = 0;
        if endless {
            self.answer(catalogue::endless_line());
        }
        false
    }

    /// An overlong line has come to its end.
    fn overlong(&mut self, verb: Option<Verb>, within_sasl: bool, length: usize) {
        self.state = State::Command;
        if length > MAX_SKIPPED {
            return self.answer(catalogue::endless_line());
        }
        match verb {
            Some(Verb::Tbr) if self.connection.tbr => {
                self.cancel_sasl(within_sasl);
                self.begin_block(Err(SyntaxError::TooLong));
            }
            _ if within_sasl => {
                self.cancel_sasl(true);
                self.answer(catalogue::auth_line_too_long());
            }
            Some(Verb::Auth) if self.offers(Verb::Auth) => self.answer(catalogue::auth_line_too_long()),
            verb => self.malformed(verb, SyntaxError::TooLong),
        }
    }

    fn line_limit(&self, verb: Option<Verb>) -> usize {
        let limits = &self.config.limits;
        if matches!(self.state, State::Sasl) {
            return limits.auth_line;
        }
        match verb {
            Some(Verb::Mail | Verb::Rcpt | Verb::Tbr) => limits.parameter_line,
            Some(Verb::Auth) => limits.auth_line,
            _ => limits.command_line,
        }
    }

    /// A command line of permitted length.
    fn command(&mut self, verb: Option<Verb>, line: &[u8]) {
        if verb == Some(Verb::Tbr) && self.connection.tbr {
            return self.begin_block(Command::parse(line).and_then(|command| match command {
                Command::Tbr(tbr) => Ok(tbr),
                _ => Err(SyntaxError::Unrecognised),
            }));
        }
        if verb.is_none() && is_http_request(line) {
            return self.answer(catalogue::not_http());
        }
        self.tally.commands = self.tally.commands.saturating_add(1);
        if self.tally.commands > self.config.limits.commands {
            return self.answer(catalogue::too_many_commands());
        }
        if verb.is_some_and(|verb| !self.offers(verb)) {
            return self.answer(catalogue::not_implemented());
        }
        match Command::parse(line) {
            Ok(command) => self.dispatch(command),
            Err(error) => self.malformed(verb, error),
        }
    }

    /// A line that is no command.
    fn malformed(&mut self, verb: Option<Verb>, error: SyntaxError) {
        if verb == Some(Verb::Bdat) && self.offers(Verb::Bdat) {
            // How much content follows is unknown, and content must never be taken for commands.
            return self.answer(catalogue::unknown_chunk());
        }
        if let (Some(Verb::Rcpt), Some(transaction)) = (verb, &mut self.transaction) {
            transaction.void = true;
        }
        self.answer(error.reply());
    }

    fn cancel_sasl(&mut self, within_sasl: bool) {
        if within_sasl {
            self.events.push_back(Event::AuthCancelled);
        }
    }

    /// The client's answer to a challenge. A TBR line is one even here, for its block must not be taken
    /// for commands; it can't be base64.
    fn sasl_response(&mut self, verb: Option<Verb>, line: &[u8]) {
        self.state = State::Command;
        if verb == Some(Verb::Tbr) && self.connection.tbr {
            self.cancel_sasl(true);
            self.command(verb, line);
        } else if line == b"*" {
            self.cancel_sasl(true);
            self.answer(catalogue::auth_cancelled());
        } else {
            self.take_response(line);
        }
    }
}
