use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::block::{BlockReader, BlockStep};
use super::*;

/// Feeds the octets cut at every `step`; the message, and what was left behind its end.
fn unstuff(wire: &[u8], step: usize) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut unstuffer, mut input, mut message) = (Unstuffer::default(), BytesMut::new(), Vec::new());
    let mut pieces = wire.chunks(step.max(1));
    loop {
        match unstuffer.take(&mut input) {
            Unstuffed::Chunk(chunk) => message.extend_from_slice(&chunk),
            Unstuffed::End => return (message, Some([&input[..], &pieces.collect::<Vec<_>>().concat()].concat())),
            Unstuffed::More => {
                assert!(input.len() <= 4, "{} octets held back", input.len());
                match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => return (message, None),
                }
            }
        }
    }
}

/// The definition, octet by octet.
fn unstuff_slowly(wire: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut message, mut at, mut line_start) = (Vec::new(), 0, true);
    while at < wire.len() {
        let rest = &wire[at..];
        if line_start && rest.starts_with(b".\r\n") {
            return (message, Some(rest[3..].to_vec()));
        }
        if line_start && rest[0] == b'.' && rest.len() >= 2 && rest != b".\r" {
            at += 1;
        }
        message.push(wire[at]);
        at += 1;
        line_start = message.ends_with(b"\r\n");
    }
    (message, None)
}

#[test]
fn only_the_exact_sequence_ends_a_content() {
    for wire in [
        &b"a\n.\nb"[..],
        b"a\r.\rb",
        b"a\n.\r\nb",
        b"a\r\n.\nb",
        b"a\r\n.\rb",
        b"a\r.\r\nb",
        b"a\r\n\r.\r\nb",
        b"\n.\r\n",
        b".\n",
        b".\r\r\n",
        b"..\r\n",
        b"a.\r\n",
        b"\r\n..\r\n",
        b".\r",
        b"a\r\n.\r",
        b"\r\n.a\r\n",
    ] {
        for step in 1..5 {
            assert_eq!(unstuff(wire, step).1, None, "{wire:?}");
        }
    }
    for step in 1..9 {
        assert_eq!(unstuff(b".\r\nQUIT", step), (b"".to_vec(), Some(b"QUIT".to_vec())));
        assert_eq!(unstuff(b"a\r\n.\r\n.\r\n", step), (b"a\r\n".to_vec(), Some(b".\r\n".to_vec())));
        assert_eq!(unstuff(b"..\r\n...\r\n.a\r\n.\r\n", step), (b".\r\n..\r\na\r\n".to_vec(), Some(vec![])));
        assert_eq!(unstuff(b".\r\r\n.\r\n", step), (b"\r\r\n".to_vec(), Some(vec![])));
    }
}

fn watch(message: &[u8], step: usize) -> Result<(), LineFault> {
    let mut rules = LineRules::new(6);
    message.chunks(step).try_for_each(|chunk| rules.watch(chunk))?;
    rules.finish()
}

#[test]
fn lines_have_rules() {
    for step in 1..9 {
        for good in [&b""[..], b"\r\n", b"a\r\nbcde\r\n\r\n", b"no end"] {
            assert_eq!(watch(good, step), Ok(()), "{good:?}");
        }
        for bad in [&b"\n"[..], b"\r", b"\r\r\n", b"a\nb", b"a\rb", b"\n\r", b"\r\n\n", b"\r\n\r\r\n", b"\ra\n"] {
            assert_eq!(watch(bad, step), Err(LineFault::BareLineEnd), "{bad:?} {step}");
        }
        for long in [&b"abcde\r\n"[..], b"a\r\nabcdefg", b"abcdefg"] {
            assert_eq!(watch(long, step), Err(LineFault::TooLong), "{long:?}");
        }
        // Two faults: the first counts, however they come.
        assert_eq!(watch(b"abcdefgh\n\r\n", step), Err(LineFault::TooLong));
        assert_eq!(watch(b"a\rb\r\nabcdefgh\r\n", step), Err(LineFault::BareLineEnd));
    }
}

fn block(wire: &[u8], step: usize, limit: usize) -> (BlockStep, Vec<u8>) {
    let (mut reader, mut input) = (BlockReader::new(limit, true), BytesMut::new());
    let mut pieces = wire.chunks(step);
    while let Some(piece) = pieces.next() {
        input.extend_from_slice(piece);
        match reader.read(&mut input) {
            BlockStep::More => {}
            step => return (step, [&input[..], &pieces.collect::<Vec<_>>().concat()].concat()),
        }
    }
    (BlockStep::More, input.to_vec())
}

#[test]
fn blocks_end_with_the_lone_dot_only() {
    for step in 1..9 {
        let good = (BlockStep::End(Some(Bytes::from_static(b"a: b\r\n"))), b"QUIT\r\n".to_vec());
        assert_eq!(block(b"a: b\r\n.\r\nQUIT\r\n", step, 6), good);
        assert_eq!(block(b"a: b\r\n.\r\nQUIT\r\n", step, 5).0, BlockStep::TooBig);
        assert_eq!(block(b".\r\n", step, 6).0, BlockStep::End(Some(Bytes::new())));
        for bad in
            [&b"a\nb\r\n.\r\n"[..], b"a\n.\r\n.\r\n", b"..\r\n.\r\n", b".a\r\n.\r\n", b"a\r.\r\n.\r\n", b"\n.\r\n.\r\n"]
        {
            assert_eq!(block(bad, step, 64), (BlockStep::End(None), vec![]), "{bad:?}");
        }
        assert_eq!(block(&b"a: b\r\n".repeat(9), step, 20).0, BlockStep::TooBig);
        assert_eq!(block(&[b'a'; 99], step, 20).0, BlockStep::TooBig);
    }
    let long = [&[b'a'; 999][..], b"\r\n.\r\n"].concat();
    assert_eq!(block(&long, 64, 4000).0, BlockStep::End(None));
}

/// Octets among which the interesting sequences are common.
pub(crate) fn dotty(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"\r\n"[..]),
        Just(&b"."[..]),
        Just(&b"\r"[..]),
        Just(&b"\n"[..]),
        Just(&b"ab"[..]),
        Just(&b"\r\n."[..]),
    ];
    proptest::collection::vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn cutting_changes_nothing(wire in dotty(60), step in 1usize..20) {
        let slow = unstuff_slowly(&wire);
        let fast = unstuff(&wire, step);
        prop_assert_eq!(&fast.1, &slow.1);
        match slow.1 {
            Some(_) => prop_assert_eq!(fast.0, slow.0),
            // Without an end up to three octets are held back.
            None => prop_assert!(slow.0.starts_with(&fast.0) && slow.0.len() - fast.0.len() <= 3),
        }
        prop_assert_eq!(watch(&wire, step), watch(&wire, 1000));
    }

    #[test]
    fn stuffing_is_undone(message in dotty(60), step in 1usize..20, cut in 1usize..20) {
        let message = [&message[..], b"\r\n"].concat();
        let mut stuffer = Stuffer::default();
        let mut wire = Vec::new();
        for chunk in message.chunks(cut) {
            wire.extend_from_slice(&stuffer.stuff(Bytes::copy_from_slice(chunk)));
        }
        wire.extend_from_slice(&stuffer.end());
        prop_assert!(!wire.windows(3).any(|w| w == b"\n.\n"));
        // A bare LF makes the stuffing of its dot one-sided: strict receivers refuse such a message anyway.
        if LineRules::new(9999).watch(&message).is_ok() {
            prop_assert_eq!(unstuff(&wire, step), (message, Some(vec![])));
        }
    }
}
