//! What is kept of a password: a SCRAM-SHA-256 verifier (RFC 5802 §3, RFC 7677) in the textual form of RFC 5803.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Rounds of PBKDF2 for new verifiers. RFC 7677 §4 asks for 4096 at least; this costs some 10 ms.
pub const ITERATIONS: u32 = 32_768;
const LEAST_ITERATIONS: u32 = 4096;
/// More would let a damaged file block logins for long.
const MOST_ITERATIONS: u32 = 10_000_000;
const SALT: usize = 16;
const KEY: usize = 32;
const MECHANISM: &str = "SCRAM-SHA-256$";

/// A SCRAM-SHA-256 verifier. Not the password, but enough to pretend to be the server: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; KEY],
    server_key: [u8; KEY],
}

/// Why there is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// The text is none.
    #[error("this is not a SCRAM-SHA-256 verifier (RFC 5803) with 4096 iterations or more")]
    Syntax,
    /// Characters that no password may hold (SASLprep, RFC 4013), or nothing.
    #[error("the password is empty or has characters that no password may have")]
    Password,
    /// The system has no randomness.
    #[error("the cryptographic library failed")]
    Library,
}

impl Verifier {
    /// The verifier of a new password, with a salt of its own.
    ///
    /// # Errors
    /// [`VerifierError::Password`], [`VerifierError::Library`].
    pub fn new(password: &str) -> Result<Self, VerifierError> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| VerifierError::Library)?;
        Self::derive(password, &salt, ITERATIONS)
    }

    /// RFC 5802 §3 with these parameters.
    ///
    /// # Errors
    /// [`VerifierError::Password`]; [`VerifierError::Syntax`] for too few or too many iterations.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Result<Self, VerifierError> {
        if !(LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
            return Err(VerifierError::Syntax);
        }
        let rounds = NonZeroU32::new(iterations).ok_or(VerifierError::Syntax)?;
        let prepared = stringprep::saslprep(password).map_err(|_| VerifierError::Password)?;
        if prepared.is_empty() {
            return Err(VerifierError::Password);
        }
        let mut salted = [0; KEY];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, prepared.as_bytes(), &mut salted);
        let client_key = keyed(&salted, b"Client Key");
        let mut stored_key = [0; KEY];
        stored_key.copy_from_slice(digest(&SHA256, &client_key).as_ref());
        Ok(Self { iterations, salt: salt.to_vec(), stored_key, server_key: keyed(&salted, b"Server Key") })
    }

    /// Is this the password? Takes as long for a wrong one.
    pub fn verify(&self, password: &str) -> bool {
        let Ok(other) = Self::derive(password, &self.salt, self.iterations) else { return false };
        verify_slices_are_equal(&other.stored_key, &self.stored_key).is_ok()
    }

    /// Rounds of PBKDF2.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// H(ClientKey).
    pub fn stored_key(&self) -> &[u8; KEY] {
        &self.stored_key
    }

    /// HMAC(SaltedPassword, "Server Key").
    pub fn server_key(&self) -> &[u8; KEY] {
        &self.server_key
    }

    /// The text of RFC 5803, for the file of accounts.
    pub fn reveal(&self) -> String {
        let [salt, stored, server] = [self.salt.as_slice(), &self.stored_key, &self.server_key].map(|o| STANDARD.encode(o));
        format!("{MECHANISM}{}:{salt}${stored}:{server}", self.iterations)
    }
}

fn keyed(salted: &[u8; KEY], text: &[u8]) -> [u8; KEY] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salted), text);
    let mut key = [0; KEY];
    key.copy_from_slice(tag.as_ref());
    key
}

impl FromStr for Verifier {
    type Err = VerifierError;
    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let parts = || {
            let (parameters, keys) = text.strip_prefix(MECHANISM)?.split_once('$')?;
            let ((iterations, salt), (stored, server)) = (parameters.split_once(':')?, keys.split_once(':')?);
            let key = |text: &str| <[u8; KEY]>::try_from(STANDARD.decode(text).ok()?).ok();
            let iterations = iterations.parse().ok().filter(|i| (LEAST_ITERATIONS..=MOST_ITERATIONS).contains(i))?;
            let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
            Some(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
        };
        parts().ok_or(VerifierError::Syntax)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({} iterations)", self.iterations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_rfc_7677() {
        // RFC 7677 §3: user "user", password "pencil"; the proof and the signature of its exchange.
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::derive("pencil", &salt, 4096).unwrap();
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                       r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                       c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = keyed(verifier.server_key(), message.as_bytes());
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let client_signature = keyed(verifier.stored_key(), message.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(client_signature).map(|(p, s)| p ^ s).collect();
        assert_eq!(digest(&SHA256, &client_key).as_ref(), verifier.stored_key());
    }

    #[test]
    fn only_the_password_verifies() {
        let verifier = Verifier::new("corr\u{e9}ct horse").unwrap();
        assert!(verifier.verify("corr\u{e9}ct horse"));
        // SASLprep: the same characters, composed otherwise.
        assert!(verifier.verify("corre\u{301}ct horse"));
        assert!(!verifier.verify("correct horse") && !verifier.verify("") && !verifier.verify("\0"));
        assert_ne!(Verifier::new("a").unwrap().reveal(), Verifier::new("a").unwrap().reveal(), "salted");
    }

    #[test]
    fn the_text_is_read_back_and_others_are_refused() {
        let verifier = Verifier::derive("x", b"salt", 4096).unwrap();
        let text = verifier.reveal();
        assert_eq!(text.parse::<Verifier>().unwrap(), verifier);
        let few = text.replace("4096", "4095");
        for bad in ["", "x", "SCRAM-SHA-256$", "SCRAM-SHA-1$4096:a$b:c", few.as_str(), &text[..text.len() - 4]] {
            assert_eq!(bad.parse::<Verifier>(), Err(VerifierError::Syntax), "{bad}");
        }
        assert_eq!(Verifier::new(""), Err(VerifierError::Password));
        assert!(!format!("{verifier:?}").contains(&STANDARD.encode(verifier.stored_key())));
    }
}
