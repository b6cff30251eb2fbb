//! RCPT (RFC 5321 §4.1.1.3) with NOTIFY and ORCPT (RFC 3461 §4.1, §4.2).

use ::mail::{Address, Notify, Recipient};

use super::xtext::is_xtext;
use super::{SyntaxError, parameters, path};

/// `RCPT TO:<forward-path> [parameters]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt(
    /// The recipient with its parameters.
    pub Recipient,
);

impl Rcpt {
    pub(super) fn parse(arguments: &str) -> Result<Self, SyntaxError> {
        let (path, rest) =
            path::split(arguments, "TO:").ok_or(SyntaxError::Arguments("RCPT TO:<address> [parameters]"))?;
        let (mut notify_found, mut orcpt_found) = (None, None);
        for (keyword, value) in parameters::iterate(rest) {
            match keyword.to_ascii_uppercase().as_str() {
                "NOTIFY" => parameters::set_once(&mut notify_found, value.and_then(notify), "NOTIFY")?,
                "ORCPT" => {
                    let orcpt = value.filter(|v| is_orcpt(v)).map(str::to_owned);
                    parameters::set_once(&mut orcpt_found, orcpt, "ORCPT")?;
                }
                _ => return Err(SyntaxError::UnknownParameter),
            }
        }
        let address = Address::parse(path).map_err(SyntaxError::Recipient)?;
        Ok(Self(Recipient { address, notify: notify_found.unwrap_or_default(), orcpt: orcpt_found }))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write(&self.0, true, out);
    }
}

/// The line without CR LF, its parameters only where the peer knows DSN; an ORCPT that is none is left
/// out.
pub(crate) fn write(recipient: &Recipient, dsn: bool, out: &mut Vec<u8>) {
    let mut line = format!("RCPT TO:<{}>", recipient.address);
    if let Some(words) = notify_words(recipient.notify).filter(|_| dsn) {
        line.push_str(" NOTIFY=");
        line.push_str(&words);
    }
    if let Some(orcpt) = recipient.orcpt.as_deref().filter(|o| dsn && is_orcpt(o)) {
        line.push_str(" ORCPT=");
        line.push_str(orcpt);
    }
    out.extend_from_slice(line.as_bytes());
}

/// NEVER alone, or a list of the other words, each at most once.
fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(',') {
        let flag = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut success,
            "FAILURE" => &mut failure,
            "DELAY" => &mut delay,
            _ => return None,
        };
        if std::mem::replace(flag, true) {
            return None;
        }
    }
    Some(Notify::On { success, failure, delay })
}

fn notify_words(notify: Notify) -> Option<String> {
    match notify {
        Notify::Unspecified => None,
        Notify::Never | Notify::On { success: false, failure: false, delay: false } => Some("NEVER".to_owned()),
        Notify::On { success, failure, delay } => {
            let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
            Some(words.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect::<Vec<_>>().join(","))
        }
    }
}

/// `addr-type;xtext`, at most 500 characters.
fn is_orcpt(value: &str) -> bool {
    let Some((kind, address)) = value.split_once(';') else {
        return false;
    };
    let atom = |o: u8| o.is_ascii_alphanumeric() || o == b'-';
    value.len() <= 500 && !kind.is_empty() && kind.bytes().all(atom) && is_xtext(address, 500)
}
