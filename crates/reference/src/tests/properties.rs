//! Properties: round trips, any change of a signed octet, nothing panics on any octets.

use mail::base64url;
use proptest::prelude::*;

use super::*;
use crate::block::Block;
use crate::body::{JsonBody, Text};
use crate::claims::{ClaimsAnswer, ClaimsRequest, ReceiptsAnswer, ReceiptsRequest};
use crate::hop::Hop;
use crate::keys::DomainRecord;
use crate::stored::{split_stored, split_stored_lf};

fn any_mailbox() -> impl Strategy<Value = Option<Address>> {
    proptest::option::of("[a-zA-Z0-9+=_-]{1,40}@([a-z0-9]{1,20}\\.){1,4}[a-z]{2,10}".prop_map(|t| address(&t)))
}

fn any_domain() -> impl Strategy<Value = Domain> {
    "([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\\.){1,5}[a-z]{2,12}".prop_map(|t| domain(&t))
}

prop_compose! {
    fn any_statement()(
        domain in any_domain(), to in any_domain(), id: [u8; 16], xuid: [u8; 32], hash: [u8; 32],
        selector in "[a-z0-9]{1,20}", size in 1..=crate::taglist::MAX_SIZE, issued in 0..4_000_000_000_u64,
        life in 1..2_592_000_u64, mail_from in any_mailbox(),
    ) -> Statement {
        Statement {
            domain, to, size, mail_from, selector: selector.parse().unwrap(), algorithm: Algorithm::Ed25519,
            id: ReferenceId(id), xuid: Xuid::from_digest(xuid), recipients: RecipientsHash::from_bytes(hash),
            issued: secs(issued), expires: secs(issued + life),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn references_survive_encoding_within_limits(statement in any_statement()) {
        let reference = statement.sign(&key_of("a")).unwrap();
        let text = reference.encode();
        prop_assert!(text.split("\r\n").all(|line| line.len() <= 998));
        let block = Block::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(block.chain().reference(), &reference);
        prop_assert!(reference.signed_by(&key_of("a").verifying_key()));
    }

    /// Changing one octet anywhere either breaks the syntax, or the signature, or nothing that is signed: letter case
    /// of the field's name, or white space that no parser keeps.
    #[test]
    fn any_change_of_a_signed_octet_fails(statement in any_statement(), place: prop::sample::Index, octet in 0x20..0x7f_u8) {
        let reference = statement.sign(&key_of("a")).unwrap();
        let mut text = reference.encode().into_bytes();
        let at = place.index(text.len());
        prop_assume!(text[at] != octet);
        text[at] = octet;
        if let Ok(block) = Block::parse(&text) {
            let changed = block.chain().reference();
            let good = changed.signed_by(&key_of("a").verifying_key());
            prop_assert_eq!(good, changed == &reference);
        }
    }

    #[test]
    fn any_change_of_a_signature_bit_fails(place in 0..512_usize) {
        let reference = reference();
        let mut octets = reference.signature().as_bytes().to_vec();
        octets[place / 8] ^= 1 << (place % 8);
        let text = format!("{};b={}", reference.statement().canonical(), base64url::encode(&octets));
        prop_assert!(!Reference::parse(text.as_bytes()).unwrap().signed_by(&key_of("a.example").verifying_key()));
    }

    #[test]
    fn folding_anywhere_inside_a_binary_value_changes_nothing(cuts in prop::collection::vec(0..86_usize, 0..10), fold in "(\r\n)?[ \t]{1,3}") {
        let reference = reference();
        let mut signature = base64url::encode(reference.signature().as_bytes());
        let mut cuts = cuts;
        cuts.sort_unstable();
        cuts.dedup();
        for cut in cuts.into_iter().rev() {
            signature.insert_str(cut, &fold);
        }
        let text = format!("{};b={signature}", reference.statement().canonical());
        prop_assert_eq!(Reference::parse(text.as_bytes()).unwrap(), reference);
    }

    #[test]
    fn uris_have_one_text(host in any_domain(), xuid: [u8; 32], secret in prop::collection::vec(any::<u8>(), 16..=32)) {
        let uri = Uri { host, xuid: Xuid::from_digest(xuid), grant: Grant::new(&secret).unwrap() };
        prop_assert_eq!(Uri::parse(&uri.reveal()), Ok(uri));
    }

    #[test]
    fn no_octets_make_a_parser_panic(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&octets);
        let _ = (Reference::parse(&octets), Hop::parse(&octets), Block::parse(&octets), Uri::parse(&text));
        let _ = (split_stored(&octets), split_stored_lf(&octets), Parsed::new(&text, &octets));
        let _ = (ClaimsRequest::parse(&octets), ClaimsAnswer::parse(&octets));
        let _ = (ReceiptsRequest::parse(&octets), ReceiptsAnswer::parse(&octets));
        let _ = DomainRecord::from_txt(&domain("a.example"), [text.as_ref()]);
        let _ = DomainFacts::from_document(&domain("a.example"), &octets);
    }

    #[test]
    fn no_tag_soup_makes_a_parser_panic(soup in "(TBR-Reference:|TBR-Hop:|[a-z]{1,2}=|;|\r\n|[ \t]|[A-Za-z0-9_-]{0,44}|\\.){0,40}") {
        let _ = (Reference::parse(soup.as_bytes()), Hop::parse(soup.as_bytes()), Block::parse(soup.as_bytes()));
        let _ = (split_stored(soup.as_bytes()), split_stored_lf(soup.as_bytes()));
    }

    #[test]
    fn texts_stay_as_they_are_made(text in any::<String>()) {
        let once = Text::new(&text);
        prop_assert_eq!(Text::new(once.as_str()), once);
    }
}
