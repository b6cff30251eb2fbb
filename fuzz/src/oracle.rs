//! Command lines as another parser sees them: smtp-proto 0.2.5 (Stalwart Labs), which is used for nothing else.
//!
//! Where both parsers accept a line they must read the same in it. Where only one does, the reason must be one of these.
//!
//! It alone accepts (every such line is one that RFC 5321 does not allow, or an extension that is not offered here):
//!
//! * a bare CR or LF, control characters, octets that are not UTF-8: it ends a line at LF, drops every CR, and replaces the rest;
//! * more or fewer spaces than there should be (`MAIL  FROM:`, `FROM :<`, `< a@b>`, `<a@b>SIZE=1`, `SIZE= 1`), and words behind a
//!   command that takes none (`DATA now`, `EHLO a b`, `BDAT 5 LAST x`);
//! * a parameter that is repeated, xtext with broken `+` sequences or small hexadecimal digits, numbers that do not fit, which wrap round;
//! * RCPT with the null path, and `postmaster` without domain as a sender, which it reads as the null sender;
//! * addresses whose local part or domain is none (`a.@b`, `a@-`), AUTH with an initial response that is not base64;
//! * ETRN and ATRN of what is no domain, and in quotes; ATRN of nothing or of a domain twice; BURL, BINARYMIME, BY, HOLDFOR, HOLDUNTIL, SOLICIT, MTRK, CONPERM, TRANSID, MT-PRIORITY, RRVS, CONNEG.
//!
//! We alone accept: TBR; source routes that are not well-formed, since nobody looks at them; address literals; the empty quoted local part; addresses of more than 256 octets; ORCPT of another type than
//! `rfc822`, ORCPT and AUTH= of more than 256 characters; the number 2^64 - 1.
//!
//! It does not keep: the quotes of a local part, the type of an ORCPT, whether SIZE=0 or BODY=7BIT was written or left out.

use std::borrow::Cow;

use mail::{Address, Body, DsnReturn, MailParams, Notify, Recipient};
use smtp::command::{Auth, Bdat, Etrn, HelloName, Mail, Rcpt};
use smtp::{Command, Secret};
use smtp_proto as other;

type Request<'a> = other::Request<Cow<'a, str>>;

/// Longest address that it takes.
const ITS_LONGEST: usize = 256;

/// The two parsers agree on a line, or differ for a reason in the list above.
pub fn smtp_oracle(line: &[u8]) {
    let ours = Command::parse(line);
    let is_text = std::str::from_utf8(line).is_ok_and(|text| !text.chars().any(char::is_control));
    if !is_text {
        assert!(ours.is_err(), "what is no text is no command");
        return;
    }
    let wire = [line, b"\r\n"].concat();
    let theirs = Request::parse(&mut wire.iter());
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let same = says_the_same(&ours, &theirs);
            assert!(same, "{}\n{ours:?}\n{theirs:?}", String::from_utf8_lossy(line));
        }
        (Ok(ours), Err(error)) => {
            assert!(only_ours(&ours, line), "{}\n{ours:?}\n{error:?}", String::from_utf8_lossy(line));
        }
        (Err(error), Ok(theirs)) => {
            let right = in_our_words(&theirs).map(|command| written(&command));
            let is_right = right.is_some_and(|right| is_same_line(&right, line));
            assert!(!is_right, "{}\n{error:?}\n{theirs:?}", String::from_utf8_lossy(line));
        }
        (Err(_), Err(_)) => {}
    }
}

/// The line of a command, without CR LF.
fn written(command: &Command) -> Vec<u8> {
    let mut line = Vec::new();
    command.write_to(&mut line);
    line.truncate(line.len() - 2);
    line
}

/// Is it the same line, whatever the case of its keywords?
fn is_same_line(right: &[u8], line: &[u8]) -> bool {
    let keyword_end = |word: &[u8]| word.iter().position(|octet| *octet == b'=').unwrap_or(word.len());
    let is_same = |(right, word): (&[u8], &[u8])| {
        let ((a, x), (b, y)) = (right.split_at(keyword_end(right)), word.split_at(keyword_end(word)));
        a.eq_ignore_ascii_case(b) && x == y
    };
    let words = |line: &[u8]| line.iter().filter(|octet| **octet == b' ').count();
    let space = |octet: &u8| *octet == b' ';
    words(right) == words(line) && right.split(space).zip(line.split(space)).all(is_same)
}

/// Is it what smtp-proto refuses, or does not know?
fn only_ours(command: &Command, line: &[u8]) -> bool {
    let out_of_its_reach = |address: &Address| {
        address.host().starts_with('[') || address.local() == "\"\"" || address.as_str().len() > ITS_LONGEST
    };
    let source_route = line.windows(2).any(|pair| pair == b"<@");
    let long_word = line.split(|octet| *octet == b' ').any(|word| word.len() > ITS_LONGEST);
    match command {
        Command::Tbr(_) => true,
        Command::Mail(mail) => {
            let address = mail.from.as_ref().is_some_and(out_of_its_reach);
            address || source_route || mail.params.size == Some(u64::MAX) || long_word
        }
        Command::Rcpt(Rcpt(recipient)) => {
            let rfc822 = |orcpt: &String| orcpt.to_ascii_lowercase().starts_with("rfc822;");
            out_of_its_reach(&recipient.address) || source_route || !recipient.orcpt.iter().all(rfc822) || long_word
        }
        Command::Bdat(bdat) => bdat.size == u64::MAX,
        Command::Atrn(domains) => domains.is_empty(),
        Command::Etrn(Etrn::Queue(name)) => long_word || name.contains(['"', '\\']),
        Command::Vrfy(word) | Command::Expn(word) => {
            word.len() > ITS_LONGEST || word.chars().all(|c| " \"".contains(c))
        }
        _ => false,
    }
}

/// Do the two mean the same, but for what smtp-proto does not keep?
fn says_the_same(ours: &Command, theirs: &Request<'_>) -> bool {
    match (ours, theirs) {
        (Command::Helo(name), other::Request::Helo { host })
        | (Command::Ehlo(name), other::Request::Ehlo { host })
        | (Command::Lhlo(name), other::Request::Lhlo { host }) => name.as_str() == host,
        (Command::Mail(mail), other::Request::Mail { from }) => same_mail(mail, from),
        (Command::Rcpt(Rcpt(recipient)), other::Request::Rcpt { to }) => same_rcpt(recipient, to),
        (Command::Bdat(bdat), other::Request::Bdat { chunk_size, is_last }) => {
            (bdat.size, bdat.last) == (*chunk_size as u64, *is_last)
        }
        (Command::Etrn(etrn), other::Request::Etrn { name }) => same_node(etrn, name),
        (Command::Atrn(domains), other::Request::Atrn { domains: theirs }) => {
            let theirs = theirs.iter().map(|name| mail::Domain::parse(name));
            domains.iter().cloned().map(Ok).eq(theirs)
        }
        (Command::Auth(auth), other::Request::Auth { mechanism, initial_response }) => {
            let known = mechanism_name(*mechanism).is_none_or(|name| auth.mechanism == name);
            known && initial(initial_response) == Some(auth.initial.clone())
        }
        (Command::StartTls, other::Request::StartTls)
        | (Command::Data, other::Request::Data)
        | (Command::Rset, other::Request::Rset)
        | (Command::Quit, other::Request::Quit)
        // Nobody looks at the arguments of these.
        | (Command::Noop, other::Request::Noop { .. })
        | (Command::Help, other::Request::Help { .. })
        | (Command::Vrfy(_), other::Request::Vrfy { .. })
        | (Command::Expn(_), other::Request::Expn { .. }) => true,
        _ => false,
    }
}

fn same_mail(ours: &Mail, theirs: &other::MailFrom<Cow<'_, str>>) -> bool {
    let params = &ours.params;
    let eight_bit = theirs.flags & other::MAIL_BODY_8BITMIME != 0;
    same_address(ours.from.as_ref(), &theirs.address)
        && params.size.unwrap_or(0) == theirs.size as u64
        && (params.body == Body::EightBit) == eight_bit
        && params.smtputf8 == (theirs.flags & other::MAIL_SMTPUTF8 != 0)
        && params.requiretls == (theirs.flags & other::MAIL_REQUIRETLS != 0)
        && (params.ret == Some(DsnReturn::Full)) == (theirs.flags & other::MAIL_RET_FULL != 0)
        && (params.ret == Some(DsnReturn::Hdrs)) == (theirs.flags & other::MAIL_RET_HDRS != 0)
        && params.envid.as_deref().map(decoded) == theirs.env_id.as_deref().map(str::to_owned)
}

fn same_rcpt(ours: &Recipient, theirs: &other::RcptTo<Cow<'_, str>>) -> bool {
    let orcpt = ours.orcpt.as_deref().and_then(|orcpt| orcpt.split_once(';'));
    // It reads `postmaster` without a domain as the empty address.
    let postmaster = ours.address.as_str() == "postmaster" && theirs.address.is_empty();
    (postmaster || same_address(Some(&ours.address), &theirs.address))
        && ours.notify == notify(theirs.flags)
        && orcpt.map(|(_, xtext)| decoded(xtext)) == theirs.orcpt.as_deref().map(str::to_owned)
}

/// It keeps the node as it was sent.
fn same_node(ours: &Etrn, theirs: &str) -> bool {
    match (ours, theirs.strip_prefix('@')) {
        (Etrn::Domain(domain), None) => mail::Domain::parse(theirs).as_ref() == Ok(domain),
        (Etrn::Subdomains(domain), Some(theirs)) => mail::Domain::parse(theirs).as_ref() == Ok(domain),
        (Etrn::Queue(name), None) => name.contains(['"', '\\']) || ours.node() == theirs,
        _ => false,
    }
}

/// It takes the quotes off, and leaves the domain as it was sent.
fn same_address(ours: Option<&Address>, theirs: &str) -> bool {
    match (ours, theirs.rsplit_once('@')) {
        (None, None) => theirs.is_empty(),
        (Some(address), Some((local, domain))) => {
            let domain = mail::Domain::parse(domain);
            address.unquoted_local() == local && domain.is_ok_and(|domain| domain.as_str() == address.host())
        }
        _ => false,
    }
}

/// xtext, decoded octet by octet into characters as smtp-proto does.
fn decoded(xtext: &str) -> String {
    let mut parts = xtext.split('+');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        decoded.push(char::from(u8::from_str_radix(hex, 16).expect("our parser has checked it")));
        decoded.push_str(rest);
    }
    decoded
}

fn notify(flags: u64) -> Notify {
    let [success, failure, delay, never] =
        [other::RCPT_NOTIFY_SUCCESS, other::RCPT_NOTIFY_FAILURE, other::RCPT_NOTIFY_DELAY, other::RCPT_NOTIFY_NEVER]
            .map(|flag| flags & flag != 0);
    match (never, success || failure || delay) {
        (true, _) => Notify::Never,
        (false, true) => Notify::On { success, failure, delay },
        (false, false) => Notify::Unspecified,
    }
}

fn mechanism_name(mechanism: u64) -> Option<&'static str> {
    match mechanism {
        other::AUTH_PLAIN => Some("PLAIN"),
        other::AUTH_LOGIN => Some("LOGIN"),
        other::AUTH_SCRAM_SHA_256 => Some("SCRAM-SHA-256"),
        _ => None,
    }
}

/// The initial response: none, an empty one, or octets; `None` where it is not base64.
fn initial(text: &str) -> Option<Option<Secret>> {
    use base64::Engine as _;
    match text {
        "" => Some(None),
        "=" => Some(Some(Secret::default())),
        text => base64::engine::general_purpose::STANDARD.decode(text).ok().map(|octets| Some(Secret::new(octets))),
    }
}

/// Its reading as a command of ours; `None` where we have no such command, parameter, address or name.
fn in_our_words(theirs: &Request<'_>) -> Option<Command> {
    Some(match theirs {
        other::Request::Helo { host } => Command::Helo(HelloName::new(host)?),
        other::Request::Ehlo { host } => Command::Ehlo(HelloName::new(host)?),
        other::Request::Lhlo { host } => Command::Lhlo(HelloName::new(host)?),
        other::Request::Mail { from } => Command::Mail(mail_of(from)?),
        other::Request::Rcpt { to } => Command::Rcpt(rcpt_of(to)?),
        other::Request::Bdat { chunk_size, is_last } => {
            Command::Bdat(Bdat { size: *chunk_size as u64, last: *is_last })
        }
        other::Request::Auth { mechanism, initial_response } => {
            let mechanism = mechanism_name(*mechanism)?.to_owned();
            Command::Auth(Auth { mechanism, initial: initial(initial_response)? })
        }
        other::Request::Noop { .. } => Command::Noop,
        other::Request::Help { .. } => Command::Help,
        other::Request::Vrfy { value } => Command::Vrfy(value.to_string()),
        other::Request::Expn { value } => Command::Expn(value.to_string()),
        other::Request::StartTls => Command::StartTls,
        other::Request::Data => Command::Data,
        other::Request::Rset => Command::Rset,
        other::Request::Quit => Command::Quit,
        other::Request::Etrn { .. } | other::Request::Atrn { .. } | other::Request::Burl { .. } => return None,
    })
}

fn mail_of(theirs: &other::MailFrom<Cow<'_, str>>) -> Option<Mail> {
    const KNOWN: u64 = other::MAIL_BODY_7BIT
        | other::MAIL_BODY_8BITMIME
        | other::MAIL_SMTPUTF8
        | other::MAIL_REQUIRETLS
        | other::MAIL_RET_FULL
        | other::MAIL_RET_HDRS;
    let has = |flag: u64| theirs.flags & flag != 0;
    let from = if theirs.address.is_empty() { None } else { Some(address_of(&theirs.address)?) };
    let envid = theirs.env_id.as_deref().map(encoded);
    let params = MailParams {
        size: Some(theirs.size as u64).filter(|size| *size > 0),
        body: if has(other::MAIL_BODY_8BITMIME) { Body::EightBit } else { Body::SevenBit },
        smtputf8: has(other::MAIL_SMTPUTF8),
        requiretls: has(other::MAIL_REQUIRETLS),
        ret: has(other::MAIL_RET_FULL)
            .then_some(DsnReturn::Full)
            .or(has(other::MAIL_RET_HDRS).then_some(DsnReturn::Hdrs)),
        envid,
    };
    (theirs.flags & !KNOWN == 0).then_some(Mail { from, params })
}

fn rcpt_of(theirs: &other::RcptTo<Cow<'_, str>>) -> Option<Rcpt> {
    const KNOWN: u64 =
        other::RCPT_NOTIFY_SUCCESS | other::RCPT_NOTIFY_FAILURE | other::RCPT_NOTIFY_DELAY | other::RCPT_NOTIFY_NEVER;
    let address = address_of(&theirs.address)?;
    let orcpt = theirs.orcpt.as_deref().map(|text| format!("rfc822;{}", encoded(text)));
    let recipient = Recipient { address, notify: notify(theirs.flags), orcpt };
    (theirs.flags & !KNOWN == 0).then_some(Rcpt(recipient))
}

/// With quotes where the local part needs them.
fn address_of(theirs: &str) -> Option<Address> {
    let (local, domain) = theirs.rsplit_once('@')?;
    let quoted = local.replace('\\', "\\\\").replace('"', "\\\"");
    Address::parse(theirs).or_else(|_| Address::parse(&format!("\"{quoted}\"@{domain}"))).ok()
}

fn encoded(text: &str) -> String {
    let mut xtext = String::new();
    for c in text.chars() {
        match c {
            '+' | '=' => xtext.push_str(&format!("+{:02X}", u32::from(c))),
            '!'..='~' => xtext.push(c),
            c => xtext.push_str(&format!("+{:02X}", u32::from(c))),
        }
    }
    xtext
}
