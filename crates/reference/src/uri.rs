//! The eXAM URI: where an object is fetched, and the grant that permits it (TBR §4.1).
//!
//! One exact form, so that a URI can be compared octet by octet and nothing in it can name another port, path or user.

use std::fmt;

use mail::{Domain, Grant, Xuid};

use crate::taglist::is_host_name;

/// The path of the retrieval resource.
pub const PATH: &str = "/.well-known/tbr/m";
/// Longest URI in octets: `https://`, a host of 253, the path, `?XUID=` and 43, `&RCPT=` and 43.
pub const MAX_URI: usize = 8 + 253 + PATH.len() + 6 + 43 + 6 + 43;

/// `https://<host>/.well-known/tbr/m?XUID=<43 characters>&RCPT=<22 to 43 characters>`.
///
/// Holds a secret: there is no `Display`, and `Debug` leaves the grant out.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// The repository's host name.
    pub host: Domain,
    /// The object.
    pub xuid: Xuid,
    /// The secret that permits the retrieval.
    pub grant: Grant,
}

/// The text is no eXAM URI; says which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Longer than [`MAX_URI`].
    #[error("the reference URI is too long")]
    TooLong,
    /// Does not begin with `https://` in lower case.
    #[error("the reference URI is not an https URI")]
    Scheme,
    /// A port, user, address, or name that is not in lower-case A-labels.
    #[error("the host of the reference URI is not a plain lower-case host name")]
    Host,
    /// Another path than [`PATH`].
    #[error("the path of the reference URI is not {PATH}")]
    Path,
    /// `XUID` does not come first, or is no digest.
    #[error("the XUID of the reference URI is not valid")]
    Xuid,
    /// `RCPT` does not follow, is no grant, or is not the end.
    #[error("the RCPT parameter of the reference URI is not valid")]
    Rcpt,
}

impl Uri {
    /// Reads the exact form.
    ///
    /// # Errors
    /// [`UriError`] names the first part that is wrong.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if text.len() > MAX_URI {
            return Err(UriError::TooLong);
        }
        let rest = text.strip_prefix("https://").ok_or(UriError::Scheme)?;
        let (host, path) = rest.split_at(rest.find('/').ok_or(UriError::Path)?);
        let host = parse_host(host)?;
        let query = path.strip_prefix(PATH).and_then(|r| r.strip_prefix('?')).ok_or(UriError::Path)?;
        let (xuid, grant) = parse_query(query)?;
        Ok(Self { host, xuid, grant })
    }

    /// The query of a retrieval request, as the repository receives it.
    ///
    /// # Errors
    /// [`UriError::Xuid`] or [`UriError::Rcpt`].
    pub fn parse_request(query: &str) -> Result<(Xuid, Grant), UriError> {
        parse_query(query)
    }

    /// The URI with its grant. For the wire only, never for a log.
    pub fn reveal(&self) -> String {
        format!("https://{}{}", self.host, self.path_and_query())
    }

    /// What an HTTP request line asks for. Holds the grant.
    pub fn path_and_query(&self) -> String {
        format!("{PATH}?XUID={}&RCPT={}", self.xuid, self.grant.reveal())
    }
}

fn parse_host(text: &str) -> Result<Domain, UriError> {
    let host = Domain::parse(text).map_err(|_| UriError::Host)?;
    if host.as_str() == text && is_host_name(&host) { Ok(host) } else { Err(UriError::Host) }
}

fn parse_query(query: &str) -> Result<(Xuid, Grant), UriError> {
    let rest = query.strip_prefix("XUID=").ok_or(UriError::Xuid)?;
    let (xuid, rest) = rest.split_once('&').ok_or(UriError::Rcpt)?;
    let xuid = xuid.parse().map_err(|_| UriError::Xuid)?;
    let grant = rest.strip_prefix("RCPT=").ok_or(UriError::Rcpt)?;
    Ok((xuid, grant.parse().map_err(|_| UriError::Rcpt)?))
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{PATH}?XUID={}&RCPT=…", self.host, self.xuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XUID: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    const GRANT: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn the_exact_form_round_trips_and_hides_its_grant() {
        let text = format!("https://tbr.a.example/.well-known/tbr/m?XUID={XUID}&RCPT={GRANT}");
        let uri = Uri::parse(&text).unwrap();
        assert_eq!(uri.reveal(), text);
        assert!(!format!("{uri:?}").contains(GRANT));
    }

    #[test]
    fn every_other_form_is_refused_by_the_part_that_is_wrong() {
        let query = format!("XUID={XUID}&RCPT={GRANT}");
        for (text, error) in [
            (format!("http://tbr.a.example{PATH}?{query}"), UriError::Scheme),
            (format!("HTTPS://tbr.a.example{PATH}?{query}"), UriError::Scheme),
            (format!("https://tbr.a.example:443{PATH}?{query}"), UriError::Host),
            (format!("https://u@tbr.a.example{PATH}?{query}"), UriError::Host),
            (format!("https://TBR.a.example{PATH}?{query}"), UriError::Host),
            (format!("https://tbr.a.example.{PATH}?{query}"), UriError::Host),
            (format!("https://127.0.0.1{PATH}?{query}"), UriError::Host),
            (format!("https://[::1]{PATH}?{query}"), UriError::Host),
            (format!("https://_tbr.a.example{PATH}?{query}"), UriError::Host),
            (format!("https://localhost{PATH}?{query}"), UriError::Host),
            (format!("https://bücher.example{PATH}?{query}"), UriError::Host),
            (format!("https://tbr.a.example/x/..{PATH}?{query}"), UriError::Path),
            (format!("https://tbr.a.example/.well-known/tbr/%6d?{query}"), UriError::Path),
            (format!("https://tbr.a.example{PATH}?RCPT={GRANT}&XUID={XUID}"), UriError::Xuid),
            (format!("https://tbr.a.example{PATH}?XUID={XUID}A&RCPT={GRANT}"), UriError::Xuid),
            (format!("https://tbr.a.example{PATH}?{query}&X=1"), UriError::Rcpt),
            (format!("https://tbr.a.example{PATH}?{query}#f"), UriError::Rcpt),
            (format!("https://tbr.a.example{PATH}?XUID={XUID}&RCPT=short"), UriError::Rcpt),
            (format!("https://{}.example{PATH}?{query}", "a".repeat(400)), UriError::TooLong),
        ] {
            assert_eq!(Uri::parse(&text), Err(error), "{text}");
        }
    }
}
