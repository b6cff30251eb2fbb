//! xtext (RFC 3461 §4): printable ASCII, with `+XX` for everything else. Kept as sent, only checked.

/// Is it xtext of 1 to `most` characters?
pub(super) fn is_xtext(text: &str, most: usize) -> bool {
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let fine = match octet {
            b'+' => octets.next().is_some_and(is_upper_hex) && octets.next().is_some_and(is_upper_hex),
            b'=' => false,
            octet => octet.is_ascii_graphic(),
        };
        if !fine {
            return false;
        }
    }
    (1..=most).contains(&text.len())
}

fn is_upper_hex(octet: u8) -> bool {
    matches!(octet, b'0'..=b'9' | b'A'..=b'F')
}
