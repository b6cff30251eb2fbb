//! Paths: what stands between `<` and `>` (RFC 5321 §4.1.2).

/// Splits `<path> rest` behind a keyword such as `FROM:`. The `>` that ends the path is the first one
/// outside a quoted string. A space behind the colon is tolerated: many clients write one.
pub(super) fn split<'a>(arguments: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, rest) = arguments.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let path = rest.trim_start_matches(' ').strip_prefix('<')?;
    let end = closing_bracket(path)?;
    let rest = &path[end + 1..];
    (rest.is_empty() || rest.starts_with(' ')).then_some((without_route(&path[..end]), rest))
}

fn closing_bracket(path: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    path.bytes().position(|octet| {
        let ends = octet == b'>' && !quoted;
        if quoted && !escaped && octet == b'\\' {
            escaped = true;
            return false;
        }
        if octet == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = false;
        ends
    })
}

/// A source route (`@a,@b:user@c`) is accepted and ignored (RFC 5321 §4.1.1.3, appendix C).
fn without_route(path: &str) -> &str {
    match path.strip_prefix('@').and_then(|route| route.split_once(':')) {
        Some((_, mailbox)) => mailbox,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn the_path_ends_outside_quotes() {
        assert_eq!(split("FROM:<a@b>", "FROM:"), Some(("a@b", "")));
        assert_eq!(split("from: <\"a>b\"@c> X=1", "FROM:"), Some(("\"a>b\"@c", " X=1")));
        assert_eq!(split("FROM:<\"a\\\">\"@c>", "FROM:"), Some(("\"a\\\">\"@c", "")));
        assert_eq!(split("FROM:<@x,@y:a@b>", "FROM:"), Some(("a@b", "")));
        for bad in ["FROM", "FROM:", "FROM:a@b", "FROM:<a@b", "FROM:<a@b>x", "TO:<a@b>", "FROM <a@b>", "FROM:<\"a>"] {
            assert_eq!(split(bad, "FROM:"), None, "{bad}");
        }
    }
}
