//! Messages that show what a server does to them on the way.
//!
//! They leave to the test how they travel.

/// A message with LF line ends that must arrive octet for octet: dots at the beginning of lines, 8-bit octets that are no
/// UTF-8, white space at ends of lines, lines of 998 octets (without the line end), empty lines at the end.
#[must_use]
pub fn awkward(subject: &str) -> Vec<u8> {
    let mut message = format!(
        "From: Alice <alice@a.example>\nTo: bob@b.example\nSubject: {subject}\nDate: Mon, 01 Jan 2024 00:00:00 +0000\n\
         Message-ID: <{}@a.example>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1\n\
         Content-Transfer-Encoding: 8bit\nX-Folded: one\n\ttwo\n  three \n\n",
        subject.replace(' ', ".")
    )
    .into_bytes();
    for line in [&b"."[..], b"..", b"...", b". .", b".dot", b"", b" .", b"white \t ", b"From here", b">From there"] {
        message.extend_from_slice(line);
        message.push(b'\n');
    }
    message.extend((0xa0..=0xff).chain([0x80, 0x01, 0x7f, 0x1b]));
    message.push(b'\n');
    message.extend([b'x'; 998]);
    message.push(b'\n');
    message.push(b'.');
    message.extend([b'y'; 997]);
    message.extend_from_slice(b"\n.\n\nend\n\n\n");
    message
}

/// A message with LF line ends of about `octets` octets: text that a sum would not take for another.
#[must_use]
pub fn large(subject: &str, octets: usize) -> Vec<u8> {
    let mut message = format!(
        "From: Alice <alice@a.example>\nSubject: {subject}\nDate: Mon, 01 Jan 2024 00:00:00 +0000\n\
         Message-ID: <{}@a.example>\n\n",
        subject.replace(' ', ".")
    )
    .into_bytes();
    for number in 0_u32.. {
        if message.len() >= octets {
            break;
        }
        message.extend_from_slice(format!("line {number:08x} of many, each of them another\n").as_bytes());
    }
    message
}

/// A message with LF line ends of about `octets` octets, most of them an attachment that was compressed before: letters of base64
/// by chance, the same for the same subject.
#[must_use]
pub fn attachment(subject: &str, octets: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut message = large(subject, 0);
    let mut state =
        subject.bytes().fold(0x9e37_79b9_7f4a_7c15, |state: u64, octet| state.rotate_left(7) ^ u64::from(octet));
    while message.len() < octets {
        for _ in 0..76 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            message.push(ALPHABET[(state >> 58) as usize]);
        }
        message.push(b'\n');
    }
    message
}

/// The same with CRLF line ends.
#[must_use]
pub fn crlf(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 32);
    for octet in message {
        if *octet == b'\n' {
            out.push(b'\r');
        }
        out.push(*octet);
    }
    out
}

/// The same with LF line ends.
#[must_use]
pub fn lf(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    for (n, octet) in message.iter().enumerate() {
        if *octet != b'\r' || message.get(n + 1) != Some(&b'\n') {
            out.push(*octet);
        }
    }
    out
}

/// What follows the first empty line.
#[must_use]
pub fn body(message: &[u8]) -> &[u8] {
    let at =
        |pattern: &[u8]| message.windows(pattern.len()).position(|part| part == pattern).map(|n| n + pattern.len());
    let start = [at(b"\r\n\r\n"), at(b"\n\n")].into_iter().flatten().min();
    &message[start.unwrap_or(message.len())..]
}
