//! Finding CR LF, and nothing less, in a buffer that grows.

use memchr::memchr_iter;

/// Where the first CR LF of `input` begins. `scanned` remembers between calls how much needs no second
/// look, so that a line that arrives octet by octet costs linear time; it is 0 again after a find.
pub(crate) fn find_crlf(input: &[u8], scanned: &mut usize) -> Option<usize> {
    let from = (*scanned).min(input.len());
    let found = memchr_iter(b'\n', &input[from..]).map(|at| from + at).find(|at| *at > 0 && input[at - 1] == b'\r');
    *scanned = if found.is_some() { 0 } else { input.len() };
    found.map(|at| at - 1)
}

/// Does the text hold a CR or LF?
pub(crate) fn has_line_end(text: &[u8]) -> bool {
    memchr::memchr2(b'\r', b'\n', text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pair_ends_a_line() {
        let mut scanned = 0;
        assert_eq!(find_crlf(b"a\nb\rc\r", &mut scanned), None);
        assert_eq!(find_crlf(b"a\nb\rc\r\n\r\n", &mut scanned), Some(5));
        assert_eq!(find_crlf(b"\r\n", &mut scanned), Some(0));
        assert_eq!(find_crlf(b"\n", &mut scanned), None);
    }
}
