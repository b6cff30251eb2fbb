//! `Signature-Input` and `Signature` as they travel: structured fields (RFC 9651), read strictly.
//!
//! Both must be the canonical serialisation of what they say (RFC 9651 §4.1). So a label or parameter that stands there
//! twice, of which readers would take different ones, is malformed.

use mail::Timestamp;
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, ListEntry, Parameters, Parser};

use super::{ALGORITHM, KeyId, MAX_FIELD, MAX_SIGNATURES, Nonce, Presented, Request, TAG};
use crate::sign::{Algorithm, Signature};

/// Why the fields of a request are no signatures. The request then counts as unsigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Over [`MAX_FIELD`].
    #[error("a signature field is longer than {MAX_FIELD} octets")]
    TooLong,
    /// Over [`MAX_SIGNATURES`].
    #[error("there are more than {MAX_SIGNATURES} signatures")]
    TooMany,
    /// No dictionary, or not in canonical form, a repeated label or parameter included.
    #[error("a signature field is not a dictionary in canonical form")]
    NotCanonical,
    /// No list of component names.
    #[error("the components of a signature are not a list of plain names")]
    Components,
    /// A parameter that is missing, not known or not valid.
    #[error("the parameter {0} of a signature is missing, not known or not valid")]
    Parameter(&'static str),
    /// A label without its signature of 64 octets.
    #[error("a signature is missing or has another length")]
    Signature,
}

/// The two fields of a signed request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// Value of `Signature-Input`.
    pub input: String,
    /// Value of `Signature`.
    pub signature: String,
}

impl Fields {
    /// Adds a signature under the label `tbr<number>`.
    pub(super) fn push(&mut self, number: usize, parameters: &str, signature: &Signature) {
        let parting = if self.input.is_empty() { "" } else { ", " };
        let octets = BareItem::ByteSequence(signature.as_bytes().to_vec());
        let octets = sfv::Item::new(octets).serialize();
        self.input += &format!("{parting}tbr{number}={parameters}");
        self.signature += &format!("{parting}tbr{number}={octets}");
    }
}

/// The value of a label in `Signature-Input`. All of it is in canonical form by itself.
pub(super) fn parameters(request: &Request<'_>, id: &KeyId, nonce: Nonce, created: Timestamp) -> String {
    let names: Vec<String> = request.components().iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let (names, created) = (names.join(" "), created.as_secs());
    format!("({names});created={created};nonce=\"{nonce}\";keyid=\"{id}\";alg=\"{ALGORITHM}\";tag=\"{TAG}\"")
}

/// Reads the values of `Signature-Input` and `Signature`, several lines of a field joined by `", "`. Signatures of other
/// tags are passed over.
///
/// # Errors
/// [`FieldError`].
pub fn parse(input: &str, signature: &str) -> Result<Vec<Presented>, FieldError> {
    let (inputs, signatures) = (dictionary(input)?, dictionary(signature)?);
    let ours = inputs.iter().filter_map(|(label, entry)| match entry {
        ListEntry::InnerList(list) if has_our_tag(&list.params) => Some((label, list)),
        _ => None,
    });
    ours.map(|(label, list)| presented(list, signatures.get(label))).collect()
}

fn dictionary(text: &str) -> Result<Dictionary, FieldError> {
    if text.len() > MAX_FIELD {
        return Err(FieldError::TooLong);
    }
    let read: Dictionary = Parser::new(text).parse().map_err(|_| FieldError::NotCanonical)?;
    if read.len() > MAX_SIGNATURES {
        return Err(FieldError::TooMany);
    }
    let canonical = read.serialize().unwrap_or_default();
    if canonical == text { Ok(read) } else { Err(FieldError::NotCanonical) }
}

fn has_our_tag(params: &Parameters) -> bool {
    matches!(params.get("tag"), Some(BareItem::String(tag)) if tag.as_str() == TAG)
}

fn presented(list: &InnerList, signature: Option<&ListEntry>) -> Result<Presented, FieldError> {
    let known = ["created", "nonce", "keyid", "alg", "tag"];
    if list.params.keys().any(|key| !known.contains(&key.as_str())) {
        return Err(FieldError::Parameter("of another name"));
    }
    if string(&list.params, "alg")? != ALGORITHM {
        return Err(FieldError::Parameter("alg"));
    }
    Ok(Presented {
        id: string(&list.params, "keyid")?.parse().map_err(|_| FieldError::Parameter("keyid"))?,
        created: created(&list.params)?,
        nonce: string(&list.params, "nonce")?.parse().map_err(|_| FieldError::Parameter("nonce"))?,
        components: components(list)?,
        parameters: vec![ListEntry::InnerList(list.clone())].serialize().unwrap_or_default(),
        signature: octets(signature)?,
    })
}

fn components(list: &InnerList) -> Result<Vec<String>, FieldError> {
    let name = |item: &sfv::Item| match &item.bare_item {
        BareItem::String(name) if item.params.is_empty() => Ok(name.as_str().to_owned()),
        _ => Err(FieldError::Components),
    };
    list.items.iter().map(name).collect()
}

fn string<'a>(params: &'a Parameters, name: &'static str) -> Result<&'a str, FieldError> {
    match params.get(name) {
        Some(BareItem::String(text)) => Ok(text.as_str()),
        _ => Err(FieldError::Parameter(name)),
    }
}

fn created(params: &Parameters) -> Result<Timestamp, FieldError> {
    let Some(BareItem::Integer(seconds)) = params.get("created") else {
        return Err(FieldError::Parameter("created"));
    };
    let seconds = u64::try_from(i64::from(*seconds)).map_err(|_| FieldError::Parameter("created"))?;
    Ok(Timestamp::from_secs(seconds))
}

fn octets(entry: Option<&ListEntry>) -> Result<Signature, FieldError> {
    match entry {
        Some(ListEntry::Item(item)) if item.params.is_empty() => match &item.bare_item {
            BareItem::ByteSequence(octets) => {
                Signature::new(Algorithm::Ed25519, octets.clone()).map_err(|_| FieldError::Signature)
            }
            _ => Err(FieldError::Signature),
        },
        _ => Err(FieldError::Signature),
    }
}
