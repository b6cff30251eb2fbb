//! The session as its client sees it: which octets were a command, a content, a chunk or a block, by the replies alone. One that
//! takes anything else for a command can be made to send another's mail.

use smtp::Reply;
use smtp::command::{Bdat, Command, Verb};

use super::Input;

/// How far a client has come.
struct Client<'a> {
    sent: &'a [u8],
    at: usize,
    replies: std::slice::Iter<'a, Reply>,
    /// Was TBR offered in the last answer to EHLO?
    tbr: bool,
    /// Is the next line an answer to a challenge?
    within_sasl: bool,
}

/// Every command has one reply, and every reply a command; nothing is said behind the end.
pub(super) fn check(input: &Input<'_>, replies: &[Reply], closed: bool) {
    let sent = [input.clear, input.inside].concat();
    let mut client = Client { sent: &sent, at: 0, replies: replies.iter(), tbr: false, within_sasl: false };
    client.replies.next().expect("a greeting");
    let mut is_over = false;
    while let (false, Some(line)) = (is_over, client.line()) {
        let Some(reply) = client.reply(line) else { break };
        client.within_sasl = reply.code() == 334;
        match (Verb::of(line), reply.code()) {
            (_, 421) | (Some(Verb::Quit), 221) | (Some(Verb::Atrn), 250) => is_over = true,
            (Some(Verb::Ehlo), 250) => client.tbr = reply.lines().any(|line| line == "TBR 1"),
            (Some(Verb::Helo), 250) => client.tbr = false,
            (Some(Verb::StartTls), 220) => {
                let clear = input.clear.len();
                client.at = if client.at <= clear { clear } else { sent.len() };
                client.tbr = false;
            }
            _ => {}
        }
    }
    match client.replies.as_slice() {
        [] => assert_eq!(closed, is_over),
        // A line, a chunk or a block without end is not waited for.
        [last] => assert!(closed && !is_over && last.code() == 421, "{last:?} answers nothing"),
        more => panic!("{more:?} answer nothing"),
    }
}

impl<'a> Client<'a> {
    /// The next line, without its end.
    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.sent[self.at..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.at += end + 2;
        Some(&rest[..end])
    }

    /// The reply that ends what begins with this line; `None` where the client has not sent all of it.
    fn reply(&mut self, line: &[u8]) -> Option<&'a Reply> {
        let next = self.replies.clone().next();
        let goes_on = next.is_none_or(|reply| !matches!(reply.code(), 421 | 502));
        match (Verb::of(line), Command::parse(line)) {
            (Some(Verb::Tbr), _) if self.tbr => self.lone_dot()?,
            (_, Ok(Command::Bdat(Bdat { size, .. }))) if goes_on && !self.within_sasl => {
                self.at += usize::try_from(size).ok().filter(|size| *size <= self.sent.len() - self.at)?;
            }
            _ => {}
        }
        let reply = self.next();
        if Verb::of(line) != Some(Verb::Data) || reply.code() != 354 {
            return Some(reply);
        }
        self.lone_dot()?;
        Some(self.next())
    }

    fn lone_dot(&mut self) -> Option<()> {
        while self.line()? != b"." {}
        Some(())
    }

    fn next(&mut self) -> &'a Reply {
        self.replies.next().expect("what is complete is answered")
    }
}
