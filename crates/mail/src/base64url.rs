//! Base64url without padding (RFC 4648 §5), canonical only: one text for one value.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The text does not decode, or is not the canonical encoding of what it decodes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not canonical base64url without padding")]
pub struct NotCanonical;

/// Encodes octets as base64url without padding.
pub fn encode(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// Decodes canonical base64url without padding.
///
/// # Errors
/// [`NotCanonical`] on padding, a character outside the alphabet, or non-zero trailing bits.
pub fn decode(text: &str) -> Result<Vec<u8>, NotCanonical> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotCanonical)
}

/// Decodes exactly `N` octets.
///
/// # Errors
/// [`NotCanonical`] also when the length is another one.
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], NotCanonical> {
    decode(text)?.try_into().map_err(|_| NotCanonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_decodes() {
        assert_eq!(decode("AA").unwrap(), [0]);
        for bad in ["AB", "AA==", "A", "A+", "A/", "AA\n", "AA "] {
            assert_eq!(decode(bad), Err(NotCanonical), "{bad:?}");
        }
        assert_eq!(decode_array::<2>("AA"), Err(NotCanonical));
    }
}
