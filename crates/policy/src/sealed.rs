//! What a sealer found out, as it says in ARC-Authentication-Results (RFC 8617 §4.1.1, in the grammar of RFC 8601 §2.2).
//!
//! Whether the sealer is believed is `decide`'s, whether its seal holds was looked at before.

/// Does the value of the field say that DMARC passed? Comments and quoted strings say nothing.
#[must_use]
pub fn says_dmarc_passed(value: &[u8]) -> bool {
    bare(value).split(|octet| *octet == b';').any(|result| {
        let words = result.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        // White space may stand around the sign; what follows the word must not go on with it.
        let first = words.take(3).fold(Vec::new(), |mut joined, word| {
            if joined.is_empty() || joined.ends_with(b"=") || word.starts_with(b"=") {
                joined.extend_from_slice(word);
            }
            joined
        });
        first.eq_ignore_ascii_case(b"dmarc=pass")
    })
}

/// The text without comments, which may be nested, and without what is in quoted strings.
fn bare(value: &[u8]) -> Vec<u8> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut kept = Vec::with_capacity(value.len());
    for octet in value {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if depth > 0 || quoted => escaped = true,
            b'"' if depth == 0 => {
                quoted = !quoted;
                kept.push(*octet);
            }
            b'(' if !quoted => {
                depth += 1;
                kept.push(b' ');
            }
            b')' if !quoted => depth = depth.saturating_sub(1),
            _ if depth == 0 && !quoted => kept.push(*octet),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_result_counts() {
        for passed in [
            " i=1; mx.f.example; spf=pass smtp.mailfrom=a.example; dmarc=pass header.from=a.example\r\n",
            " i=2; mx.f.example;\r\n\tdmarc = pass (p=reject) header.from=a.example",
            "i=1; x; dmarc=Pass",
            "i=1; x; dmarc=pass(comment)",
        ] {
            assert!(says_dmarc_passed(passed.as_bytes()), "{passed}");
        }
        for not in [
            "",
            "i=1; x; dmarc=fail",
            "i=1; x; dmarc=passed",
            "i=1; x; dmarc=pass-not",
            "i=1; x; xdmarc=pass",
            "i=1; x (; dmarc=pass; )",
            "i=1; x ((a) ; dmarc=pass; )",
            "i=1; x; spf=pass reason=\"; dmarc=pass ;\"",
            "i=1; x; spf=pass reason=\"\\\"; dmarc=pass ;\"",
            "i=1; x; arc=pass dmarc=pass",
            "i=1; x; dm\"x\"arc=pass",
            "i=1; x; dm(x)arc=pass",
        ] {
            assert!(!says_dmarc_passed(not.as_bytes()), "{not}");
        }
    }
}
