//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, without channel binding.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use smtp::Secret;

use super::verifier::KEY;
use super::{Credentials, Failure, MAX_WORD, ScramVerifier, Step, Unavailable, prepare};

/// Octets of our part of the nonce, before base64.
const NONCE: usize = 18;
/// Longest client nonce.
const MAX_CLIENT_NONCE: usize = 256;

/// Where a conversation stands.
#[derive(Default)]
pub(super) enum Conversation {
    /// Waits for client-first.
    #[default]
    First,
    /// Waits for client-final.
    Final(Box<Opened>),
    /// The proof was right and the client has ours: waits for its empty answer (RFC 4954 §4 knows no data with
    /// success).
    Acknowledged(String),
    /// Has failed.
    Over,
}

/// After the first two messages.
pub(super) struct Opened {
    name: String,
    verifier: ScramVerifier,
    known: bool,
    gs2_header: String,
    nonce: String,
    /// client-first-bare `,` server-first.
    messages: String,
    server_first_at: usize,
}

impl Conversation {
    /// Takes a message of the client.
    pub(super) async fn step(&mut self, credentials: &impl Credentials, message: &[u8]) -> Result<Step, Failure> {
        match std::mem::replace(self, Self::Over) {
            Self::First => {
                let opened = open(credentials, message).await?;
                let challenge = Secret::new(opened.server_first());
                *self = Self::Final(Box::new(opened));
                Ok(Step::Challenge(challenge))
            }
            Self::Final(opened) => {
                let signature = opened.check(message)?;
                *self = Self::Acknowledged(opened.name);
                Ok(Step::Challenge(Secret::new(format!("v={}", STANDARD.encode(signature)))))
            }
            Self::Acknowledged(name) if message.is_empty() => Ok(Step::Authenticated(name)),
            Self::Acknowledged(_) | Self::Over => Err(Failure::Malformed),
        }
    }
}

/// Reads client-first, looks the account up and answers.
async fn open(credentials: &impl Credentials, message: &[u8]) -> Result<Opened, Failure> {
    let first = ClientFirst::parse(message)?;
    let (verifier, known) = match credentials.verifier(&first.name).await? {
        Some(verifier) => (verifier, true),
        None => (ScramVerifier::of_nobody(&first.name), false),
    };
    let mut random = [0; NONCE];
    rand::fill(&mut random).map_err(|_| Unavailable)?;
    let nonce = format!("{}{}", first.nonce, STANDARD.encode(random));
    let (salt, iterations) = (STANDARD.encode(verifier.salt()), verifier.iterations());
    let messages = format!("{},r={nonce},s={salt},i={iterations}", first.bare);
    let (gs2_header, server_first_at) = (first.gs2_header.to_owned(), first.bare.len() + 1);
    Ok(Opened { name: first.name, verifier, known, gs2_header, nonce, messages, server_first_at })
}

impl Opened {
    fn server_first(&self) -> &str {
        &self.messages[self.server_first_at..]
    }

    /// Checks client-final (RFC 5802 §7); our signature if all is right.
    fn check(&self, message: &[u8]) -> Result<[u8; KEY], Failure> {
        let message = std::str::from_utf8(message).map_err(|_| Failure::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Failure::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c=")).ok_or(Failure::Malformed)?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or(Failure::Malformed)?;
        let proof = STANDARD.decode(proof).ok().and_then(|p| p.try_into().ok()).ok_or(Failure::Malformed)?;
        if binding != STANDARD.encode(&self.gs2_header) || nonce != self.nonce {
            return Err(Failure::Refused);
        }
        let auth_message = format!("{},{without_proof}", self.messages);
        let right = self.verifier.fits_proof(auth_message.as_bytes(), &proof);
        if !(right && self.known) {
            return Err(Failure::Refused);
        }
        Ok(self.verifier.server_signature(auth_message.as_bytes()))
    }
}

struct ClientFirst<'a> {
    /// `n,[a=…],` or `y,[a=…],`.
    gs2_header: &'a str,
    bare: &'a str,
    /// Decoded and prepared.
    name: String,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        let message = std::str::from_utf8(message).map_err(|_| Failure::Malformed)?;
        let mut commas = message.match_indices(',').map(|(at, _)| at);
        let (first, second) = commas.next().zip(commas.next()).ok_or(Failure::Malformed)?;
        let (gs2_header, bare) = message.split_at(second + 1);
        // `p=…` asks for channel binding, which is not offered; `y` is honest then.
        if !matches!(&gs2_header[..first], "n" | "y") {
            return Err(Failure::Malformed);
        }
        let mut attributes = bare.split(',');
        // A reserved extension `m=` would come first, and must fail.
        let name = attributes.next().and_then(|a| a.strip_prefix("n=")).ok_or(Failure::Malformed)?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or(Failure::Malformed)?;
        if nonce.is_empty() || nonce.len() > MAX_CLIENT_NONCE || !nonce.bytes().all(|o| o.is_ascii_graphic()) {
            return Err(Failure::Malformed);
        }
        let name = prepare(&decode_name(name)?)?;
        Self::check_identity(&gs2_header[first + 1..second], &name)?;
        Ok(Self { gs2_header, bare, name, nonce })
    }

    /// Nobody may act for another.
    fn check_identity(identity: &str, name: &str) -> Result<(), Failure> {
        match identity.strip_prefix("a=") {
            None if identity.is_empty() => Ok(()),
            None => Err(Failure::Malformed),
            Some(identity) if prepare(&decode_name(identity)?)? == name => Ok(()),
            Some(_) => Err(Failure::Refused),
        }
    }
}

/// `=2C` is a comma, `=3D` an equals sign, and no other `=` may stand (RFC 5802 §5.1).
fn decode_name(name: &str) -> Result<String, Failure> {
    let mut parts = name.split('=');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(Failure::Malformed),
        };
        decoded.push(character);
        decoded.push_str(rest);
    }
    if decoded.is_empty() || decoded.len() > MAX_WORD { Err(Failure::Malformed) } else { Ok(decoded) }
}
