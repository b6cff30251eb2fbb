//! What an authority is answered, while it is to be answered: texts by token for [`super::http_01`], certificates by name for
//! [`super::tls_alpn_01`]. Whoever listens shares it with whoever orders.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::sign::CertifiedKey;

/// How it is proven that a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// By HTTP at port 80 (RFC 8555 §8.3).
    #[default]
    Http01,
    /// By TLS at port 443 (RFC 8737).
    TlsAlpn01,
}

impl Kind {
    /// As in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// What is answered; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Challenges {
    kind: Kind,
    answers: Arc<Mutex<HashMap<String, Proof>>>,
}

/// What is answered to one question.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// A key authorization.
    Text(String),
    /// A certificate that holds its digest.
    Certificate(Arc<CertifiedKey>),
}

/// One question is answered for as long as this lives.
#[derive(Debug)]
pub(super) struct Answer {
    challenges: Challenges,
    key: String,
}

impl Challenges {
    /// Nothing yet; answered will be questions of this kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind, answers: Arc::default() }
    }

    /// Which questions are answered.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Answers whoever asks for this token, or this name.
    pub(super) fn answer(&self, key: &str, proof: Proof) -> Answer {
        self.lock().insert(key.to_owned(), proof);
        Answer { challenges: self.clone(), key: key.to_owned() }
    }

    /// The key authorization for a token.
    pub(super) fn text(&self, token: &str) -> Option<String> {
        match self.lock().get(token) {
            Some(Proof::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// The certificate for a name, which is in lower case.
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        match self.lock().get(name) {
            Some(Proof::Certificate(certificate)) => Some(Arc::clone(certificate)),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Proof>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.challenges.lock().remove(&self.key);
    }
}
