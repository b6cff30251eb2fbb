//! SCRAM, as strangers speak it before they are known.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use net::sasl::{Credentials, Exchange, Failure, ScramVerifier, Step, Unavailable};

/// What everybody logs in with.
pub(crate) const PASSWORD: &str = "correct horse";

/// Made once; the number of iterations is for nobody's safety here.
static VERIFIER: LazyLock<Option<ScramVerifier>> =
    LazyLock::new(|| ScramVerifier::derive(PASSWORD, b"salt", NonZeroU32::MIN).ok());

/// Everybody has an account, and the same password.
pub(crate) struct Everybody;

impl Credentials for Everybody {
    async fn verifier(&self, _: &str) -> Result<Option<ScramVerifier>, Unavailable> {
        Ok(VERIFIER.clone())
    }
}

/// Whatever is said, a line for each message: nobody comes in without the password, and a challenge is one line that repeats the
/// client's nonce.
pub fn sasl(data: &[u8]) {
    let Some(mut exchange) = Exchange::new("SCRAM-SHA-256") else { return };
    for message in data.split(|octet| *octet == b'\n') {
        match step(&mut exchange, message) {
            Ok(Step::Challenge(challenge)) => {
                let text = String::from_utf8_lossy(challenge.reveal()).into_owned();
                let nonce = text.strip_prefix("r=").and_then(|rest| rest.split(',').next()).unwrap_or_default();
                let said = String::from_utf8_lossy(message);
                let ours = said.split(",r=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
                assert!(!ours.is_empty() && nonce.starts_with(ours) && nonce.len() > ours.len(), "{text}");
                assert!(!text.contains(['\r', '\n', '\0']), "{text}");
            }
            Ok(Step::Authenticated(name)) => panic!("{name} came in without a password"),
            Err(_) => return,
        }
    }
}

/// Nothing here has to be waited for.
fn step(exchange: &mut Exchange, message: &[u8]) -> Result<Step, Failure> {
    match pin!(exchange.step(&Everybody, Some(message))).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("an exchange waits"),
    }
}
