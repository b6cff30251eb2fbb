//! Signing requests by the recipient domains' keys (TBR §6.2).

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use hyper::Request;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use mail::Domain;
use reference::message_signature::{
    CONTENT_DIGEST, Fields, Nonce, SIGNATURE, SIGNATURE_INPUT, Signer, content_digest, sign,
};
use reference::upload::{UPLOAD_OFFSET, parse_offset};

use crate::wire::now;

/// Adds a signature of each of these domains, made now and with a nonce of its own. `body` is that of a POST; of a part the
/// offset is covered.
///
/// # Errors
/// One plain sentence, without grant.
pub(super) fn signed<B>(
    mut request: Request<B>,
    host: &Domain,
    body: Option<&[u8]>,
    signers: &[Signer],
) -> Result<Request<B>, String> {
    if signers.is_empty() {
        return Ok(request);
    }
    let digest = body.map(content_digest);
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let covered = reference::message_signature::Request {
        method: request.method().as_str(),
        host,
        path_and_query: &path,
        content_digest: digest.as_deref(),
        upload_offset: offset(request.headers()),
    };
    let with_nonces: Vec<_> = signers.iter().map(|signer| Ok((signer, nonce()?))).collect::<Result<_, String>>()?;
    let fields =
        sign(&covered, with_nonces, now()).map_err(|error| format!("the request cannot be signed: {error}"))?;
    let Fields { input, signature } = fields;
    put(&mut request, SIGNATURE_INPUT, &input)?;
    put(&mut request, SIGNATURE, &signature)?;
    if let Some(digest) = digest {
        put(&mut request, CONTENT_DIGEST, &digest)?;
    }
    Ok(request)
}

/// Where a part begins, if the request is one.
fn offset(headers: &HeaderMap) -> Option<u64> {
    headers.get(UPLOAD_OFFSET)?.to_str().ok().and_then(parse_offset)
}

fn nonce() -> Result<Nonce, String> {
    let mut octets = [0; 16];
    SystemRandom::new().fill(&mut octets).map_err(|_| "the system has no randomness for a nonce".to_owned())?;
    Ok(Nonce(octets))
}

fn put<B>(request: &mut Request<B>, name: &'static str, value: &str) -> Result<(), String> {
    let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HeaderName::from_static(name), value);
    Ok(())
}
