//! The syntax of signature fields (RFC 6376 §3.2), which the library reads more loosely than it is written: tags twice, tags that
//! have no name, tags that are missing. What others refuse must not be believed here.

/// Is the value of a field a tag list in which no name stands twice, and all these stand?
pub(super) fn has_all(value: &[u8], required: &[&str]) -> bool {
    let value = value.trim_ascii();
    let tags = value.strip_suffix(b";").unwrap_or(value).split(|octet| *octet == b';');
    let mut names: Vec<&[u8]> = Vec::new();
    for tag in tags {
        let Some(end) = tag.iter().position(|octet| *octet == b'=') else { return false };
        let name = tag[..end].trim_ascii();
        if !is_name(name) || names.contains(&name) {
            return false;
        }
        names.push(name);
    }
    required.iter().all(|required| names.contains(&required.as_bytes()))
}

fn is_name(name: &[u8]) -> bool {
    let is_word = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'_';
    name.first().is_some_and(u8::is_ascii_alphabetic) && name.iter().all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_once_and_has_a_name() {
        let good: [&[u8]; 5] = [b" a=x; b=y", b"b=y;a=x;\r\n", b"a = x ;\r\n\tb=", b"a==; b=; c_1=;", b"\ta=;b=;x="];
        assert!(good.iter().all(|value| has_all(value, &["a", "b"])));
        let bad: [&[u8]; 11] = [
            b"",
            b"a=x",
            b"a=x;;b=y",
            b"a=x; b=y; a=x",
            b"a=x; b=y;;",
            b"A=x; b=y",
            b"a=x; b",
            b"a=x; b=y; _=",
            b"a=x; b=y; =z",
            b"a=x; b=y; 1=",
            b"a=x; b=y; c-d=",
        ];
        let accepted: Vec<_> = bad.iter().filter(|value| has_all(value, &["a", "b"])).collect();
        assert!(accepted.is_empty(), "{accepted:?}");
    }
}
