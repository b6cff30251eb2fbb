//! When an authority wants a certificate renewed (ACME Renewal Information, RFC 9773). What is made of it is the caller's.

use std::time::Duration;

use instant_acme::{AccountCredentials, CertificateIdentifier, Error};
use mail::Timestamp;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{AcmeError, Authority, contained, printable};

/// It is not asked again earlier than that, whatever it says (RFC 9773 §4.3.2).
pub const LEAST_PAUSE: Duration = Duration::from_secs(60);
/// Nor later.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Some time from `start` to `end` would be welcome, in milliseconds since the Unix epoch; `start` is before `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Not before.
    pub start: Timestamp,
    /// Not after.
    pub end: Timestamp,
    /// A page that says why: for people, and not to be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// What an authority says of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// When it is to be renewed.
    pub window: Window,
    /// When to ask again: from [`LEAST_PAUSE`] to [`LONGEST_PAUSE`].
    pub pause: Duration,
}

impl Authority {
    /// Asks when this certificate is to be renewed; nothing where the authority has no such service, or the certificate nothing that
    /// would name it there (RFC 9773 §4.1).
    ///
    /// # Errors
    /// [`AcmeError`].
    pub async fn suggestion(
        &self,
        account: AccountCredentials,
        certificate: &CertificateDer<'_>,
    ) -> Result<Option<Suggestion>, AcmeError> {
        let Ok(name) = CertificateIdentifier::try_from(certificate) else { return Ok(None) };
        contained(async {
            let account = self.builder().from_credentials(account).await?;
            match account.renewal_info(&name).await {
                Ok((info, pause)) => {
                    let at = |time: i64| Timestamp::from_secs(u64::try_from(time).unwrap_or(0));
                    let (start, end) = (info.suggested_window.start, info.suggested_window.end);
                    let window = Window {
                        start: at(start.unix_timestamp()),
                        end: at(end.unix_timestamp()),
                        explanation: info.explanation_url.map(|text| printable(&text)),
                    };
                    suggestion(window, pause).map(Some)
                }
                Err(Error::Unsupported(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}

/// A window that is none is rejected (RFC 9773 §4.2).
///
/// # Errors
/// [`AcmeError`].
pub fn suggestion(window: Window, pause: Duration) -> Result<Suggestion, AcmeError> {
    if window.start >= window.end {
        return Err(AcmeError::new("the authority suggests a time for renewal that ends before it begins"));
    }
    Ok(Suggestion { window, pause: pause.clamp(LEAST_PAUSE, LONGEST_PAUSE) })
}
