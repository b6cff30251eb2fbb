//! `TBR-Reference` by itself: form, signature, size.

use super::*;
use crate::taglist::SyntaxError;

/// The value of the encoded field, as `Reference::parse` takes it.
fn value(reference: &Reference) -> String {
    reference.encode().trim_start_matches("TBR-Reference:").trim_end_matches("\r\n").to_owned()
}

fn parse(text: &str) -> Result<Reference, SyntaxError> {
    Reference::parse(text.as_bytes())
}

#[test]
fn what_is_encoded_parses_to_the_same() {
    let reference = reference();
    let again = parse(&value(&reference)).unwrap();
    assert_eq!(again, reference);
    assert!(again.signed_by(&key_of("a.example").verifying_key()));
    assert!(!again.signed_by(&key_of("b.example").verifying_key()));
    assert!(reference.encode().lines().all(|l| l.len() <= 78));
}

#[test]
fn canonical_text_has_the_tags_in_order_without_white_space() {
    let canonical = reference().statement().canonical();
    let names: Vec<&str> = canonical.split(';').map(|t| t.split('=').next().unwrap()).collect();
    assert_eq!(names, ["v", "d", "s", "a", "i", "o", "l", "t", "e", "to", "f", "rh"]);
    assert!(!canonical.contains(char::is_whitespace));
}

#[test]
fn folding_changes_nothing() {
    let reference = reference();
    let flat = format!(
        "{};b={}",
        reference.statement().canonical(),
        mail::base64url::encode(reference.signature().as_bytes())
    );
    assert_eq!(parse(&flat), Ok(reference.clone()));
    let wide = flat.replace(';', ";\r\n\t ");
    assert_eq!(parse(&wide), Ok(reference.clone()));
    let (head, tail) = flat.split_at(flat.len() - 40);
    assert_eq!(parse(&format!("{head}\r\n {tail} ")), Ok(reference));
}

#[test]
fn white_space_elsewhere_is_refused() {
    let text = value(&reference());
    for (from, to) in [("v=1", "v= 1"), ("v=1", "v =1"), ("v=1;", "v=1 ;"), ("d=a.example", "d=a.\r\n example")] {
        assert!(parse(&text.replace(from, to)).is_err(), "{from} → {to}");
    }
    for (from, to) in [("; s=", ";\r\n s=\r\n"), ("; s=", ";\n s="), ("; s=", ";\r s="), ("; s=", ";\r\n \r\n s=")] {
        assert!(parse(&text.replace(from, to)).is_err(), "{from} → {to:?}");
    }
}

#[test]
fn tags_are_required_once_in_order() {
    let canonical = format!("{};b={}", reference().statement().canonical(), "A".repeat(86));
    let tags: Vec<&str> = canonical.split(';').collect();
    for place in 0..tags.len() {
        let mut without = tags.clone();
        without.remove(place);
        assert!(matches!(parse(&without.join(";")), Err(SyntaxError::Missing(_))), "without {}", tags[place]);
        let mut twice = tags.clone();
        twice.insert(place, tags[place]);
        assert!(matches!(parse(&twice.join(";")), Err(SyntaxError::Duplicate(_))), "twice {}", tags[place]);
        if place > 0 {
            let mut swapped = tags.clone();
            swapped.swap(place - 1, place);
            assert!(matches!(parse(&swapped.join(";")), Err(SyntaxError::Misordered(_))), "swapped {}", tags[place]);
        }
    }
    assert_eq!(parse(&canonical.replace(";t=", ";x=1;t=")), Err(SyntaxError::Unknown("x".to_owned())));
    assert_eq!(parse(&format!("{canonical};z=1")), Err(SyntaxError::Unknown("z".to_owned())));
    assert_eq!(parse(&format!("{canonical};")), Err(SyntaxError::NotATag));
    assert_eq!(parse(""), Err(SyntaxError::NotATag));
}

#[test]
fn other_revisions_and_algorithms_are_told_from_nonsense() {
    let text = value(&reference());
    assert_eq!(parse(&text.replace("v=1;", "v=2;")), Err(SyntaxError::Revision("2".to_owned())));
    assert_eq!(parse(&text.replace("v=1;", "v=x;")), Err(SyntaxError::Value("v")));
    assert_eq!(parse(&text.replace("ed25519", "ml-dsa-44")), Err(SyntaxError::Algorithm("ml-dsa-44".to_owned())));
    assert_eq!(parse(&text.replace("ed25519", "ED25519")), Err(SyntaxError::Value("a")));
    assert_eq!(parse(&text.replace("ed25519", "")), Err(SyntaxError::Value("a")));
}

#[test]
fn values_have_one_form() {
    let text = value(&reference());
    let size = format!("l={};", OBJECT.len());
    for (from, to, tag) in [
        ("d=a.example", "d=A.example".to_owned(), "d"),
        ("d=a.example", "d=a_b.example".to_owned(), "d"),
        ("d=a.example", "d=localhost".to_owned(), "d"),
        ("d=a.example", "d=127.0.0.1".to_owned(), "d"),
        ("s=k1", "s=K1".to_owned(), "s"),
        (&size, format!("l=0{};", OBJECT.len()), "l"),
        (&size, "l=0;".to_owned(), "l"),
        (&size, "l=+1;".to_owned(), "l"),
        (&size, "l=9007199254740992;".to_owned(), "l"),
        ("t=1799999000", "t=253402300800".to_owned(), "t"),
        ("to=b.example", "to=b.example.".to_owned(), "to"),
        ("i=SUlJSUlJSUlJSUlJSUlJSQ", "i=SUlJSUlJSUlJSUlJSUlJSR".to_owned(), "i"),
        ("i=SUlJSUlJSUlJSUlJSUlJSQ", "i=SUlJSUlJSUlJSUlJSUlJSQ==".to_owned(), "i"),
        ("i=SUlJSUlJSUlJSUlJSUlJSQ", "i=SUlJSUlJSUlJSUlJSUlJ".to_owned(), "i"),
    ] {
        assert!(text.contains(from), "{from}");
        assert_eq!(parse(&text.replace(from, &to)), Err(SyntaxError::Value(tag)), "{to}");
    }
}

#[test]
fn the_sender_is_a_mailbox_or_null() {
    let text = format!("{};b={}", reference().statement().canonical(), "A".repeat(86));
    let with = |mailbox: &str| {
        let old = mail::base64url::encode(b"alice@a.example");
        parse(&text.replace(&format!("f={old}"), &format!("f={}", mail::base64url::encode(mailbox.as_bytes()))))
    };
    assert_eq!(with("").unwrap().statement().mail_from, None);
    assert_eq!(with("Ünï@a.example").unwrap().statement().mail_from, Some(address("Ünï@a.example")));
    for bad in ["alice", "alice@A.example", "postmaster", "alice@[127.0.0.1]", "a b@a.example", "a\r\n@a.example"] {
        assert_eq!(with(bad), Err(SyntaxError::Value("f")), "{bad:?}");
    }
}

#[test]
fn a_one_recipient_offer_stays_below_800_octets() {
    let offer = |reference: &Reference, uri: &Uri, from: &str, to: &str| {
        let line = crate::block::OfferLine { count: 0, uri: uri.clone() }.encode();
        format!("MAIL FROM:<{from}>\r\nRCPT TO:<{to}>\r\n{line}{}.\r\n", reference.encode()).len()
    };
    assert!(offer(&reference(), &uri_at("tbr.a.example"), "alice@a.example", "bob@b.example") < 560);
    let (from, to) = ("firstname.lastname@department.some-company.example", "someone.else@mail.another-firm.example");
    let mut statement = statement_for(&addresses(&[to]));
    statement.domain = domain("department.some-company.example");
    statement.mail_from = Some(address(from));
    statement.to = domain("mail.another-firm.example");
    statement.size = 50_000_000;
    let reference = statement.sign(&key_of("a.example")).unwrap();
    assert!(offer(&reference, &uri_at("tbr.department.some-company.example"), from, to) < 800);
}

#[test]
fn the_idempotence_key_names_text_signature_and_uri() {
    let (reference, uri) = (reference(), uri_at("tbr.a.example"));
    let key = reference.idempotence_key(&uri);
    assert_eq!(parse(&value(&reference)).unwrap().idempotence_key(&uri), key);
    assert_ne!(reference.idempotence_key(&uri_at("tbr2.a.example")), key);
    let mut statement = reference.statement().clone();
    statement.size += 1;
    assert_ne!(statement.sign(&key_of("a.example")).unwrap().idempotence_key(&uri), key);
    let other_signer = reference.statement().clone().sign(&key_of("b.example")).unwrap();
    assert_ne!(other_signer.idempotence_key(&uri), key);
}

#[test]
fn a_signature_counts_for_its_own_field_only() {
    let (key, canonical) = (key_of("a.example"), reference().statement().canonical());
    let counts = |label: &str| {
        let signature = key.sign(format!("{label}{canonical}").as_bytes()).unwrap();
        let signature = mail::base64url::encode(signature.as_bytes());
        parse(&format!("{canonical};b={signature}")).unwrap().signed_by(&key.verifying_key())
    };
    assert!(counts("TBR-Reference:"));
    assert!(!counts("TBR-Hop:") && !counts(""));
}

#[test]
fn a_field_has_a_limit() {
    let text = value(&reference());
    let spaced = |spaces: usize| parse(&format!("{text}{}", " ".repeat(spaces)));
    assert!(spaced(crate::taglist::MAX_FIELD - text.len()).is_ok());
    assert_eq!(spaced(crate::taglist::MAX_FIELD - text.len() + 1), Err(SyntaxError::FieldTooLong));
}
