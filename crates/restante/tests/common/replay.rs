//! Who says again what he has heard.

use testbed::Host;
use testbed::peers::Restante;

use super::talk::say;

/// Says the captured lines again, to this recipient; the last reply.
pub(crate) fn replay(host: &Host, server: &Restante, captured: &str, recipient: &str) -> String {
    let from = captured.find("MAIL FROM").unwrap();
    let (mail, rest) = captured[from..].split_once("\r\n").unwrap();
    let (_, block) = rest.split_once("\r\n").unwrap();
    let block = &block[..block.find("\r\n.\r\n").unwrap() + 5];
    let (mail, rcpt) = (format!("{mail}\r\n"), format!("RCPT TO:<{recipient}>\r\n"));
    say(host, server, &["EHLO mx.x.example\r\n", &mail, &rcpt, block])
}
