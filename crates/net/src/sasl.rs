//! SASL on the server's side (RFC 4422): PLAIN (4616), LOGIN, SCRAM-SHA-256 (5802, 7677), all against the same
//! [`ScramVerifier`]s; passwords are kept nowhere.
//!
//! Written here, on aws-lc-rs, because of what an off-the-shelf implementation gives away: a random salt for
//! unknown users and its own error word for them tell which accounts exist. Here an unknown user gets a salt
//! that stays the same and fails at the end like a wrong password. Channel binding is not offered.
//!
//! Where verifiers are kept is asked of [`Credentials`]. When AUTH may be used is the session's business.

mod scram;
mod verifier;

#[cfg(test)]
mod tests;

use smtp::Secret;

use scram::Conversation;
pub use verifier::{DEFAULT_ITERATIONS, NotVerifier, ScramVerifier};

/// The mechanisms that are spoken here, the preferred one first.
pub const MECHANISMS: [&str; 3] = ["SCRAM-SHA-256", "PLAIN", "LOGIN"];

/// Longest name or password in octets.
const MAX_WORD: usize = 1024;

/// Where accounts are kept.
pub trait Credentials: Send + Sync {
    /// The verifier of an account; `None`: no such account, or it may not log in. `name` is prepared with SASLprep
    /// (RFC 4013); whether case matters is decided there.
    fn verifier(&self, name: &str) -> impl Future<Output = Result<Option<ScramVerifier>, Unavailable>> + Send;
}

/// The accounts cannot be looked up now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("accounts cannot be looked up now")]
pub struct Unavailable;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this to the client and give its answer to [`Exchange::step`].
    Challenge(Secret),
    /// The client is who it says: this account.
    Authenticated(String),
}

/// Why an exchange has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The client's message is none of this mechanism: 501.
    #[error("the SASL message is malformed")]
    Malformed,
    /// No such account, wrong password, or another identity was asked for: 535, always the same.
    #[error("name or password is wrong")]
    Refused,
    /// Not now: 454.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// One exchange, from AUTH to its end.
pub struct Exchange {
    state: State,
}

enum State {
    Plain,
    LoginName,
    LoginPassword { name: String },
    Scram(Conversation),
    Over,
}

impl Exchange {
    /// An exchange of this mechanism; `None` where it is unknown.
    pub fn new(mechanism: &str) -> Option<Self> {
        let state = match mechanism {
            "PLAIN" => State::Plain,
            "LOGIN" => State::LoginName,
            "SCRAM-SHA-256" => State::Scram(Conversation::default()),
            _ => return None,
        };
        Some(Self { state })
    }

    /// Takes the client's message; `None` at the start, where AUTH came without one.
    ///
    /// # Errors
    /// [`Failure`]; the exchange is over.
    pub async fn step(&mut self, credentials: &impl Credentials, message: Option<&[u8]>) -> Result<Step, Failure> {
        match (std::mem::replace(&mut self.state, State::Over), message) {
            (State::Plain, None) => Ok(self.ask(State::Plain, b"")),
            (State::Plain, Some(message)) => plain(credentials, message).await,
            (State::LoginName, None) => Ok(self.ask(State::LoginName, b"Username:")),
            (State::LoginName, Some(name)) => {
                let name = word(name)?.to_owned();
                Ok(self.ask(State::LoginPassword { name }, b"Password:"))
            }
            (State::LoginPassword { name }, Some(password)) => {
                check_password(credentials, &name, word(password)?).await
            }
            (State::Scram(conversation), None) => Ok(self.ask(State::Scram(conversation), b"")),
            (State::Scram(mut conversation), Some(message)) => {
                let step = conversation.step(credentials, message).await?;
                self.state = State::Scram(conversation);
                Ok(step)
            }
            (State::LoginPassword { .. } | State::Over, _) => Err(Failure::Malformed),
        }
    }

    fn ask(&mut self, state: State, challenge: &[u8]) -> Step {
        self.state = state;
        Step::Challenge(Secret::new(challenge))
    }
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 §2).
async fn plain(credentials: &impl Credentials, message: &[u8]) -> Result<Step, Failure> {
    let mut parts = message.split(|octet| *octet == 0);
    let (Some(identity), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::Malformed);
    };
    let (name, password) = (word(name)?, word(password)?);
    // Nobody may act for another.
    if !identity.is_empty() && identity != name.as_bytes() {
        return Err(Failure::Refused);
    }
    check_password(credentials, name, password).await
}

fn word(octets: &[u8]) -> Result<&str, Failure> {
    let text = std::str::from_utf8(octets).map_err(|_| Failure::Malformed)?;
    if text.is_empty() || text.len() > MAX_WORD || text.contains('\0') {
        return Err(Failure::Malformed);
    }
    Ok(text)
}

/// An unknown account costs as much time as a wrong password.
async fn check_password(credentials: &impl Credentials, name: &str, password: &str) -> Result<Step, Failure> {
    let name = prepare(name)?;
    let (verifier, known) = match credentials.verifier(&name).await? {
        Some(verifier) => (verifier, true),
        None => (ScramVerifier::of_nobody(&name), false),
    };
    let password = password.to_owned();
    // Milliseconds of pure computing: other sessions should not wait for it.
    let fits = tokio::task::spawn_blocking(move || verifier.fits(&password)).await.map_err(|_| Unavailable)?;
    if fits && known { Ok(Step::Authenticated(name)) } else { Err(Failure::Refused) }
}

/// SASLprep (RFC 4013).
fn prepare(text: &str) -> Result<String, Failure> {
    let prepared = stringprep::saslprep(text).map_err(|_| Failure::Malformed)?;
    if prepared.is_empty() { Err(Failure::Malformed) } else { Ok(prepared.into_owned()) }
}
