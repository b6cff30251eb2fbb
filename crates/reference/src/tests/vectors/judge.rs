//! From the input of a vector to its outcome, by the code under test.

use std::fmt::Display;

use mail::base64url::encode;
use serde_json::{Value, json};

use crate::block::Block;
use crate::body::JsonBody;
use crate::bundle::{BUNDLE_PATH, MailList, Manifest, verify as verify_bundle};
use crate::claims::{ClaimsAnswer, ClaimsRequest, ReceiptsAnswer, ReceiptsRequest};
use crate::delegate::{DelegateAnswer, DelegateRequest};
use crate::hop::{Hop, HopMode, Link};
use crate::keys::{DomainFacts, DomainRecord, KeyRecord, KeyState};
use crate::message_signature::{self, KeyId, Presented, Request, content_digest};
use crate::recipients::RecipientsHash;
use crate::reference::{Reference, signature_input};
use crate::sign::{SigningKey, VerifyingKey};
use crate::stored::{LineEnds, split_stored, split_stored_lf};
use crate::tests::{domain, secs};
use crate::upload::{MailAnswer, parse_offset};
use crate::uri::Uri;
use crate::verify::{Outcome, Parsed, Receiver, Refusal, Session, Verified};

use mail::{Address, Domain, Grant, ReferenceId, Xuid};

fn invalid(reason: impl Display) -> Value {
    json!({ "verdict": "invalid", "reason": reason.to_string() })
}

fn text<'a>(input: &'a Value, member: &str) -> &'a str {
    input[member].as_str().unwrap_or_default()
}

/// `uris.json`
pub(super) fn uri(input: &Value) -> Value {
    match Uri::parse(text(input, "uri")) {
        Ok(uri) => json!({
            "verdict": "valid", "host": uri.host.as_str(), "xuid": uri.xuid.to_string(), "grant": uri.grant.reveal(),
        }),
        Err(error) => invalid(error),
    }
}

/// `recipients.json`
pub(super) fn recipients(input: &Value) -> Value {
    let parse = |v: &Value| Address::parse(v.as_str().unwrap());
    let list: Result<Vec<Address>, _> = input["recipients"].as_array().unwrap().iter().map(parse).collect();
    let list = match list {
        Ok(list) => list,
        Err(error) => return invalid(error),
    };
    let id: ReferenceId = text(input, "i").parse().unwrap();
    let rh = match text(input, "grant") {
        "" => {
            let opener = mail::base64url::decode_array(text(input, "opener")).unwrap();
            RecipientsHash::compute_opened(&opener, &id, &list)
        }
        grant => RecipientsHash::compute(&grant.parse().unwrap(), &id, &list),
    };
    let octets: Vec<&str> = list.iter().map(Address::as_str).collect();
    json!({ "verdict": "valid", "hashed_as": octets, "rh": rh.to_string() })
}

fn field_value<'a>(field: &'a str, name: &str) -> &'a str {
    field.strip_prefix(name).and_then(|f| f.strip_prefix(':')).and_then(|f| f.strip_suffix("\r\n")).unwrap()
}

/// `references.json`
pub(super) fn reference(input: &Value) -> Value {
    let reference = match Reference::parse(field_value(text(input, "field"), "TBR-Reference").as_bytes()) {
        Ok(reference) => reference,
        Err(error) => return invalid(error),
    };
    let stated = reference.statement();
    let key: VerifyingKey = text(input, "key").parse().unwrap();
    if !reference.signed_by(&key) {
        return invalid("the signature does not verify");
    }
    let canonical = stated.canonical();
    let key = Uri::parse(text(input, "uri")).map(|uri| encode(reference.idempotence_key(&uri).as_bytes())).ok();
    json!({
        "verdict": "valid",
        "tags": {
            "d": stated.domain.as_str(), "s": stated.selector.as_str(), "a": stated.algorithm.as_str(),
            "i": stated.id.to_string(), "o": stated.xuid.to_string(), "l": stated.size,
            "t": stated.issued.as_secs(), "e": stated.expires.as_secs(), "to": stated.to.as_str(),
            "f": stated.mail_from.as_ref().map(Address::as_str), "rh": stated.recipients.to_string(),
            "b": encode(reference.signature().as_bytes()),
        },
        "canonical": canonical,
        "signature_input": String::from_utf8(signature_input("TBR-Reference", &canonical)).unwrap(),
        "idempotence_key": key,
    })
}

/// `hops.json`
pub(super) fn hop(input: &Value) -> Value {
    let hop = match Hop::parse(field_value(text(input, "field"), "TBR-Hop").as_bytes()) {
        Ok(hop) => hop,
        Err(error) => return invalid(error),
    };
    let key: VerifyingKey = text(input, "key").parse().unwrap();
    if !hop.signed_by(&key) {
        return invalid("the signature does not verify");
    }
    let stated = hop.statement();
    let (mode, at, opener) = match &stated.mode {
        HopMode::Custody(at) => ("custody", Some(at.as_str()), None),
        HopMode::Reference => ("reference", None, None),
        HopMode::Value(opener) => ("value", None, Some(encode(opener))),
    };
    json!({
        "verdict": "valid", "mode": mode,
        "tags": {
            "n": stated.number, "d": stated.domain.as_str(), "s": stated.selector.as_str(),
            "a": stated.algorithm.as_str(), "i": stated.id.to_string(), "p": encode(&stated.previous),
            "to": stated.to.as_str(), "f": stated.mail_from.as_ref().map(Address::as_str),
            "rh": stated.recipients.to_string(), "g": opener, "at": at, "t": stated.issued.as_secs(),
            "e": stated.expires.as_secs(), "b": encode(hop.signature().as_bytes()),
        },
        "canonical": stated.canonical(),
        "p_of_the_next_hop": encode(&Link::Hop(&hop).signature_hash()),
    })
}

/// `blocks.json`
pub(super) fn block(input: &Value) -> Value {
    match Block::parse(text(input, "block").as_bytes()) {
        Ok(block) => {
            let chain = block.chain();
            let signers: Vec<&str> = chain.links().map(|link| link.domain().as_str()).collect();
            let host_of = chain.repository().map(|link| link.domain().as_str());
            json!({ "verdict": "valid", "signers": signers, "repository_of": host_of })
        }
        Err(error) => invalid(error),
    }
}

/// `offers.json`
pub(super) fn offer(input: &Value) -> Value {
    match judge_offer(input) {
        Ok(verified) => json!({
            "verdict": "valid",
            "signer": verified.signer().as_str(),
            "connect_to": verified.uri().host.as_str(),
            "idempotence_key": encode(verified.idempotence_key().as_bytes()),
        }),
        Err(refusal) => {
            let (reply, status, reason) = refusal.reply();
            let fault = format!("{:?}", refusal.fault()).to_lowercase();
            json!({
                "verdict": "invalid", "reply": reply, "status": status.to_string(), "reason": reason, "fault": fault,
            })
        }
    }
}

fn judge_offer(input: &Value) -> Result<Verified, Refusal> {
    let parse = |v: &Value| Address::parse(v.as_str().unwrap()).unwrap();
    let recipients: Vec<Address> = input["recipients"].as_array().unwrap().iter().map(parse).collect();
    let mail_from = Some(text(input, "mail_from")).filter(|f| !f.is_empty()).map(|f| Address::parse(f).unwrap());
    let ours = domain(text(input, "our_domain"));
    let is_ours = |d: &Domain| *d == ours;
    let receiver = Receiver {
        now: secs(input["now"].as_u64().unwrap()),
        max_size: input["max_size"].as_u64().unwrap(),
        is_ours: &is_ours,
    };
    let session = Session { mail_from: mail_from.as_ref(), recipients: &recipients };
    let arguments = text(input, "line").strip_prefix("TBR ").unwrap();
    let matched = Parsed::new(arguments, text(input, "block").as_bytes())?.match_session(&session, &receiver)?;
    let facts: Vec<DomainFacts> = input["facts"].as_array().unwrap().iter().map(read_facts).collect();
    let known = |d: &Domain| facts.iter().find(|f| f.domain == *d).map(|f| (f, crate::keys::Assurance::Webpki));
    match matched.verify_with(&known)? {
        Outcome::Verified(verified) => Ok(verified),
        Outcome::NeedsConsent(consent) => {
            let name = consent.name().unwrap();
            let records = input["txt"][name.as_str()].as_array().cloned().unwrap_or_default();
            consent.answer(crate::keys::is_consent(records.iter().filter_map(Value::as_str)))
        }
    }
}

fn read_facts(document: &Value) -> DomainFacts {
    let name = domain(text(document, "domain"));
    DomainFacts::from_document(&name, document.to_string().as_bytes()).unwrap()
}

/// `keys.json`
pub(super) fn keys(input: &Value) -> Value {
    let records: Vec<&str> = input["txt"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let name = domain(text(input, "domain"));
    match text(input, "kind") {
        "seed" => {
            let seed = mail::base64url::decode_array(text(input, "seed")).unwrap();
            json!({ "verdict": "valid", "p": SigningKey::from_seed(&seed).unwrap().verifying_key().to_string() })
        }
        "key record" => match KeyRecord::from_txt(&text(input, "s").parse().unwrap(), records) {
            Ok(Some(record)) => json!({ "verdict": "valid", "key": show_key(&record) }),
            Ok(None) => invalid("there is no TBR1 record"),
            Err(error) => invalid(error),
        },
        "domain record" => match DomainRecord::from_txt(&name, records) {
            Ok(Some(record)) => {
                let hosts: Vec<&str> = record.repo.iter().map(Domain::as_str).collect();
                json!({ "verdict": "valid", "repo": hosts, "sub": record.sub })
            }
            Ok(None) => invalid("there is no TBR1 record"),
            Err(error) => invalid(error),
        },
        _ => match DomainFacts::from_document(&name, text(input, "document").as_bytes()) {
            Ok(facts) => {
                let hosts: Vec<&str> = facts.repo.iter().map(Domain::as_str).collect();
                let keys: Vec<Value> = facts.keys.iter().map(show_key).collect();
                json!({
                    "verdict": "valid", "repo": hosts, "sub": facts.sub, "keys": keys,
                    "believe_for_seconds": facts.max_age.as_secs(),
                })
            }
            Err(error) => invalid(error),
        },
    }
}

fn show_key(record: &KeyRecord) -> Value {
    match &record.state {
        KeyState::Revoked => json!({ "s": record.selector.as_str(), "revoked": true }),
        KeyState::Active { key, not_before, not_after } => json!({
            "s": record.selector.as_str(), "p": key.to_string(), "nb": not_before.as_secs(), "na": not_after.as_secs(),
        }),
    }
}

/// `claims.json`, `receipts.json`, `delegations.json` and `uploads.json`
pub(super) fn body(input: &Value) -> Value {
    let body = text(input, "body").as_bytes();
    let written = match text(input, "kind") {
        "claims request" => ClaimsRequest::parse(body).and_then(|b| b.encode()),
        "claims answer" => ClaimsAnswer::parse(body).and_then(|b| b.encode()),
        "receipts request" => ReceiptsRequest::parse(body).and_then(|b| b.encode()),
        "delegate request" => DelegateRequest::parse(body).and_then(|b| b.encode()),
        "mail list" => MailList::parse(body).and_then(|b| b.encode()),
        "mail answer" => MailAnswer::parse(body).and_then(|b| b.encode()),
        "delegate answer" => DelegateAnswer::parse(body).and_then(|b| b.encode()),
        _ => ReceiptsAnswer::parse(body).and_then(|b| b.encode()),
    };
    match written {
        Ok(octets) => json!({ "verdict": "valid", "understood_as": String::from_utf8(octets).unwrap() }),
        Err(error) => invalid(error),
    }
}

/// `requests.json`
pub(super) fn request(input: &Value) -> Value {
    let (host, digest) = (domain(text(input, "host")), input["fields"]["content-digest"].as_str());
    if input["body"].as_str().is_some_and(|body| digest != Some(content_digest(body.as_bytes()).as_str())) {
        return invalid("the digest is not that of the body");
    }
    let request = Request {
        method: text(input, "method"),
        host: &host,
        path_and_query: text(input, "path_and_query"),
        content_digest: input["body"].as_str().and(digest),
        upload_offset: input["fields"]["upload-offset"].as_str().and_then(parse_offset),
    };
    let fields = &input["fields"];
    let presented = match message_signature::parse(text(fields, "signature-input"), text(fields, "signature")) {
        Ok(presented) if presented.is_empty() => return invalid("there is no signature"),
        Ok(presented) => presented,
        Err(error) => return invalid(error),
    };
    match presented.iter().map(|one| judge_signature(input, &request, one)).collect::<Result<Vec<_>, _>>() {
        Ok(signed_by) => json!({ "verdict": "valid", "signed_by": signed_by }),
        Err(reason) => invalid(reason),
    }
}

/// `bundles.json`
pub(super) fn bundle(input: &Value) -> Value {
    let (body, signature) = (text(input, "bundle.json"), text(input, "bundle.sig"));
    let manifest = match Manifest::parse(body.as_bytes()) {
        Ok(manifest) => manifest,
        Err(error) => return invalid(error),
    };
    let key = |id: &KeyId| {
        let record = input["keys"][id.to_string()].as_str()?;
        KeyRecord::from_txt(&id.selector, [record]).unwrap()
    };
    let now = secs(input["now"].as_u64().unwrap());
    match verify_bundle(body.as_bytes(), &manifest.host, signature.as_bytes(), key, now) {
        Ok(sealed) => {
            let digest = content_digest(body.as_bytes());
            let request = Request {
                method: "POST",
                host: &manifest.host,
                path_and_query: BUNDLE_PATH,
                content_digest: Some(&digest),
                upload_offset: None,
            };
            let line = signature.strip_prefix("Signature-Input: tbr1=").and_then(|rest| rest.split_once("\r\n"));
            json!({
                "verdict": "valid", "key": sealed.key.to_string(), "name": sealed.name.to_string(),
                "created": sealed.created.as_secs(), "signature_base": request.signature_base(line.unwrap().0),
            })
        }
        Err(error) => invalid(error),
    }
}

fn judge_signature(input: &Value, request: &Request<'_>, one: &Presented) -> Result<Value, String> {
    one.check(request, secs(input["now"].as_u64().unwrap())).map_err(|refusal| refusal.to_string())?;
    let record = input["txt"][one.id.to_string()].as_str().ok_or("the key is not known")?;
    let record = KeyRecord::from_txt(&one.id.selector, [record]).unwrap().unwrap();
    one.verify(request, &record).map_err(|refusal| refusal.to_string())?;
    Ok(json!({
        "domain": one.id.domain.as_str(), "selector": one.id.selector.as_str(), "nonce": one.nonce.to_string(),
        "created": one.created.as_secs(), "signature_base": request.signature_base(one.parameters()),
    }))
}

/// `stored.json`
pub(super) fn stored(input: &Value) -> Value {
    let message = text(input, "message");
    let split = match text(input, "line_ends") {
        "lf" => split_stored_lf(message.as_bytes()),
        _ => split_stored(message.as_bytes()),
    };
    let stored = match split {
        Ok(stored) => stored,
        Err(error) => return invalid(error),
    };
    let below = &message[stored.object_at..];
    let object = if stored.line_ends == LineEnds::Lf { below.replace('\n', "\r\n") } else { below.to_owned() };
    let xuid = Xuid::of(object.as_bytes());
    let facts = input.get("facts").map(read_facts);
    let key = facts.as_ref().and_then(|f| f.key(&stored.chain.reference().statement().selector));
    let judgement = stored.judge(xuid, object.len() as u64, key, secs(input["now"].as_u64().unwrap()));
    let details = json!({
        "object_at": stored.object_at, "object_octets": object.len(), "object_xuid": xuid.to_string(),
        "intact": judgement.intact, "signature": format!("{:?}", judgement.signature).to_lowercase(),
        "expired": judgement.expired, "lf_copy": judgement.lf_copy, "trace_fields": stored.trace.len(),
    });
    if judgement.holds() {
        return json!({ "verdict": "valid", "details": details });
    }
    json!({ "verdict": "invalid", "reason": "the message is not shown to be what the origin signed", "details": details })
}

/// `codes.json`
pub(super) fn code(input: &Value) -> Value {
    let status = input["status"].as_str().and_then(|s| s.parse().ok());
    let reply = input["reply"].as_u64().unwrap() as u16;
    json!({ "verdict": "valid", "means": format!("{:?}", crate::codes::classify(reply, status)).to_lowercase() })
}

/// The grant of a vector, for building inputs.
pub(super) fn grant_text(grant: &Grant) -> String {
    grant.reveal()
}
