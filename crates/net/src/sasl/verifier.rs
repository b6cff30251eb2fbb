//! What is kept of a password: enough to check it, not enough to log in with (RFC 5803, RFC 7677).

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::LazyLock;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Iterations of new verifiers: some milliseconds for each login by password. RFC 7677 §4 asks for at least 4096.
pub const DEFAULT_ITERATIONS: NonZeroU32 = NonZeroU32::new(16_384).unwrap();

/// Fewest and most iterations that are read: fewer are too weak, more would stall the server.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=10_000_000;
/// Longest salt that is read, in octets.
const MAX_SALT: usize = 256;
/// Octets of a new salt.
const NEW_SALT: usize = 16;
/// Octets of a key.
pub(super) const KEY: usize = 32;

/// The verifier of one account. `Display` and `FromStr` use the form of RFC 5803,
/// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`; `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: [u8; KEY],
    server_key: [u8; KEY],
}

/// The text is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotVerifier {
    /// It is not of the form.
    #[error("a verifier looks like SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>")]
    Form,
    /// Its iterations are fewer than 4096 or more than 10 millions.
    #[error("the iterations of a verifier must be from 4096 to 10000000")]
    Iterations,
    /// The password cannot be prepared (RFC 4013): it is empty, or holds a control or unassigned character.
    #[error("the password is empty or holds a character that passwords must not hold")]
    Password,
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
}

impl ScramVerifier {
    /// A verifier of this password, with a new salt and [`DEFAULT_ITERATIONS`]. Takes some milliseconds.
    ///
    /// # Errors
    /// [`NotVerifier::Password`], [`NotVerifier::Randomness`].
    pub fn new(password: &str) -> Result<Self, NotVerifier> {
        let mut salt = [0; NEW_SALT];
        rand::fill(&mut salt).map_err(|_| NotVerifier::Randomness)?;
        Self::derive(password, &salt, DEFAULT_ITERATIONS)
    }

    /// The verifier of this password with this salt (RFC 5802 §3). The password is prepared with SASLprep.
    ///
    /// # Errors
    /// [`NotVerifier::Password`].
    pub fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Result<Self, NotVerifier> {
        let password = stringprep::saslprep(password).map_err(|_| NotVerifier::Password)?;
        if password.is_empty() {
            return Err(NotVerifier::Password);
        }
        let mut salted = [0; KEY];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
        let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let stored_key = hash(&mac(&salted, b"Client Key"));
        Ok(Self { iterations, salt: salt.to_vec(), stored_key, server_key: mac(&salted, b"Server Key") })
    }

    /// Is this the password? Takes as long as deriving.
    pub fn fits(&self, password: &str) -> bool {
        let Ok(derived) = Self::derive(password, &self.salt, self.iterations) else { return false };
        verify_slices_are_equal(&derived.stored_key, &self.stored_key).is_ok()
    }

    /// A verifier that no password fits, for a name that nobody has. It stays the same while the process lives,
    /// so that asking twice tells nothing.
    pub(super) fn of_nobody(name: &str) -> Self {
        static SECRET: LazyLock<hmac::Key> = LazyLock::new(|| {
            let mut secret = [0; KEY];
            // Without randomness the salts of unknown names could be told from others; nothing worse.
            let _ = rand::fill(&mut secret);
            hmac::Key::new(hmac::HMAC_SHA256, &secret)
        });
        let salt = mac(&SECRET, name.as_bytes());
        let (stored_key, server_key) = (mac(&SECRET, &salt), mac(&SECRET, &hash(&salt)));
        Self { iterations: DEFAULT_ITERATIONS, salt: salt[..NEW_SALT].to_vec(), stored_key, server_key }
    }

    pub(super) fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Does the proof of a SCRAM client fit (RFC 5802 §3)?
    pub(super) fn fits_proof(&self, auth_message: &[u8], proof: &[u8; KEY]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.stored_key);
        let mut client_key = mac(&key, auth_message);
        client_key.iter_mut().zip(proof).for_each(|(octet, proof)| *octet ^= proof);
        verify_slices_are_equal(&hash(&client_key), &self.stored_key).is_ok()
    }

    /// What proves to the client that the server knows the verifier.
    pub(super) fn server_signature(&self, auth_message: &[u8]) -> [u8; KEY] {
        mac(&hmac::Key::new(hmac::HMAC_SHA256, &self.server_key), auth_message)
    }
}

fn mac(key: &hmac::Key, message: &[u8]) -> [u8; KEY] {
    let mut octets = [0; KEY];
    octets.copy_from_slice(hmac::sign(key, message).as_ref());
    octets
}

fn hash(message: &[u8]) -> [u8; KEY] {
    let mut octets = [0; KEY];
    octets.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    octets
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] = [&self.salt[..], &self.stored_key, &self.server_key].map(|o| STANDARD.encode(o));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl FromStr for ScramVerifier {
    type Err = NotVerifier;
    fn from_str(text: &str) -> Result<Self, NotVerifier> {
        let parts = text.strip_prefix("SCRAM-SHA-256$").and_then(|rest| {
            let (first, second) = rest.split_once('$')?;
            Some((first.split_once(':')?, second.split_once(':')?))
        });
        let ((iterations, salt), (stored, server)) = parts.ok_or(NotVerifier::Form)?;
        let iterations: u32 = iterations.parse().map_err(|_| NotVerifier::Form)?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| NotVerifier::Form);
        let key = |text: &str| decode(text)?.try_into().map_err(|_| NotVerifier::Form);
        let salt = decode(salt)?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(NotVerifier::Form);
        }
        let in_range = Some(iterations).filter(|n| ITERATIONS.contains(n)).and_then(NonZeroU32::new);
        let iterations = in_range.ok_or(NotVerifier::Iterations)?;
        Ok(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramVerifier({} iterations)", self.iterations)
    }
}
