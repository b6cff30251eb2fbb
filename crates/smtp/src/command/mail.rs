//! MAIL (RFC 5321 §4.1.1.2) with SIZE (1870), BODY (6152), SMTPUTF8 (6531), REQUIRETLS (8689), RET and
//! ENVID (3461). AUTH= (4954 §5) is checked for its form and not acted upon.

use ::mail::{Address, AddressError, Body, DsnReturn, MailParams};

use super::bdat::number;
use super::xtext::is_xtext;
use super::{SyntaxError, parameters, path};

/// `MAIL FROM:<reverse-path> [parameters]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The sender; `None` is the null sender `<>`.
    pub from: Option<Address>,
    /// The parameters.
    pub params: MailParams,
}

/// The parameters as they are found, each at most once.
#[derive(Default)]
struct Found {
    size: Option<u64>,
    body: Option<Body>,
    smtputf8: Option<()>,
    requiretls: Option<()>,
    ret: Option<DsnReturn>,
    envid: Option<String>,
    auth: Option<()>,
}

impl Mail {
    pub(super) fn parse(arguments: &str) -> Result<Self, SyntaxError> {
        let (path, rest) =
            path::split(arguments, "FROM:").ok_or(SyntaxError::Arguments("MAIL FROM:<address> [parameters]"))?;
        let mut found = Found::default();
        for (keyword, value) in parameters::iterate(rest) {
            found.take(keyword, value)?;
        }
        Ok(Self { from: sender(path).map_err(SyntaxError::Sender)?, params: found.into_params() })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write(self.from.as_ref(), &self.params, out);
    }
}

/// The line without CR LF. A parameter whose text is not what it must be is left out: it may come from
/// elsewhere than our parser, and must not become a second command.
pub(crate) fn write(from: Option<&Address>, params: &MailParams, out: &mut Vec<u8>) {
    let mut line = format!("MAIL FROM:<{}>", from.map_or("", Address::as_str));
    if let Some(size) = params.size {
        line.push_str(&format!(" SIZE={size}"));
    }
    if params.body == Body::EightBit {
        line.push_str(" BODY=8BITMIME");
    }
    if params.smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    if params.requiretls {
        line.push_str(" REQUIRETLS");
    }
    match params.ret {
        Some(DsnReturn::Full) => line.push_str(" RET=FULL"),
        Some(DsnReturn::Hdrs) => line.push_str(" RET=HDRS"),
        None => {}
    }
    if let Some(envid) = params.envid.as_deref().filter(|e| is_xtext(e, 100)) {
        line.push_str(" ENVID=");
        line.push_str(envid);
    }
    out.extend_from_slice(line.as_bytes());
}

/// Empty is the null sender; a bare postmaster is a recipient only (RFC 5321 §4.5.1).
fn sender(path: &str) -> Result<Option<Address>, AddressError> {
    if path.is_empty() {
        return Ok(None);
    }
    let address = Address::parse(path)?;
    if address.host().is_empty() { Err(AddressError::NoDomain) } else { Ok(Some(address)) }
}

impl Found {
    fn take(&mut self, keyword: &str, value: Option<&str>) -> Result<(), SyntaxError> {
        let flag = if value.is_none() { Some(()) } else { None };
        match keyword.to_ascii_uppercase().as_str() {
            "SIZE" => parameters::set_once(&mut self.size, value.and_then(number), "SIZE"),
            "BODY" => parameters::set_once(&mut self.body, value.and_then(body), "BODY"),
            "SMTPUTF8" => parameters::set_once(&mut self.smtputf8, flag, "SMTPUTF8"),
            "REQUIRETLS" => parameters::set_once(&mut self.requiretls, flag, "REQUIRETLS"),
            "RET" => parameters::set_once(&mut self.ret, value.and_then(ret), "RET"),
            "ENVID" => {
                let envid = value.filter(|v| is_xtext(v, 100)).map(str::to_owned);
                parameters::set_once(&mut self.envid, envid, "ENVID")
            }
            "AUTH" => {
                let form = value.filter(|v| *v == "<>" || is_xtext(v, 500)).map(|_| ());
                parameters::set_once(&mut self.auth, form, "AUTH")
            }
            _ => Err(SyntaxError::UnknownParameter),
        }
    }

    fn into_params(self) -> MailParams {
        MailParams {
            size: self.size,
            body: self.body.unwrap_or_default(),
            smtputf8: self.smtputf8.is_some(),
            requiretls: self.requiretls.is_some(),
            ret: self.ret,
            envid: self.envid,
        }
    }
}

fn body(value: &str) -> Option<Body> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Some(Body::SevenBit),
        "8BITMIME" => Some(Body::EightBit),
        _ => None,
    }
}

fn ret(value: &str) -> Option<DsnReturn> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Some(DsnReturn::Full),
        "HDRS" => Some(DsnReturn::Hdrs),
        _ => None,
    }
}
