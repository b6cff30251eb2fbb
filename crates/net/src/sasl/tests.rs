//! Exchanges with a client of other people's making, the RFC's own example, and what must fail.

use std::io::Cursor;

use rsasl::prelude::{Mechname, SASLClient, SASLConfig, State as ClientState};

use super::*;

/// Knows one account, `alice,=x` with the password `correct horse`, and can be out of order.
struct Book(Result<ScramVerifier, Unavailable>);

const NAME: &str = "alice,=x@a.example";
const PASSWORD: &str = "correct horse";

impl Credentials for Book {
    async fn verifier(&self, name: &str) -> Result<Option<ScramVerifier>, Unavailable> {
        let verifier = self.0.clone()?;
        Ok(Some(verifier).filter(|_| name == NAME))
    }
}

fn book() -> Book {
    Book(Ok(ScramVerifier::derive(PASSWORD, b"some salt", DEFAULT_ITERATIONS).unwrap()))
}

/// Has rsasl's client log in.
async fn log_in(mechanism: &str, name: &str, password: &str) -> Result<String, Failure> {
    let config = SASLConfig::with_credentials(None, name.to_owned(), password.to_owned()).unwrap();
    let offered = [Mechname::parse(mechanism.as_bytes()).unwrap()];
    let mut client = SASLClient::new(config).start_suggested(&offered).unwrap();
    let mut exchange = Exchange::new(mechanism).unwrap();
    let mut challenge: Option<Vec<u8>> = None;
    let book = book();
    if !client.are_we_first() {
        let Step::Challenge(first) = exchange.step(&book, None).await? else { panic!("no challenge") };
        challenge = Some(first.reveal().to_vec());
    }
    loop {
        let mut out = Cursor::new(Vec::new());
        let state = client.step(challenge.as_deref(), &mut out).unwrap();
        let message = out.into_inner();
        match exchange.step(&book, Some(&message)).await? {
            Step::Authenticated(name) => {
                assert!(matches!(state, ClientState::Finished(_)), "the client is not content");
                return Ok(name);
            }
            Step::Challenge(next) => challenge = Some(next.reveal().to_vec()),
        }
    }
}

#[tokio::test]
async fn another_client_logs_in_with_every_mechanism() {
    for mechanism in MECHANISMS {
        assert_eq!(log_in(mechanism, NAME, PASSWORD).await.as_deref(), Ok(NAME), "{mechanism}");
        assert_eq!(log_in(mechanism, NAME, "wrong").await, Err(Failure::Refused), "{mechanism}");
        assert_eq!(log_in(mechanism, "bob@a.example", PASSWORD).await, Err(Failure::Refused), "{mechanism}");
    }
}

/// Drives our side with given messages; the last result.
async fn play(book: &Book, mechanism: &str, messages: &[&[u8]]) -> Result<Step, Failure> {
    let mut exchange = Exchange::new(mechanism).unwrap();
    let mut last = Err(Failure::Malformed);
    for message in messages {
        last = exchange.step(book, Some(message)).await;
    }
    last
}

#[tokio::test]
async fn malformed_messages_and_other_identities() {
    let book = book();
    let plain = |identity: &str| format!("{identity}\0{NAME}\0{PASSWORD}").into_bytes();
    assert!(matches!(play(&book, "PLAIN", &[&plain(NAME)]).await, Ok(Step::Authenticated(_))));
    assert_eq!(play(&book, "PLAIN", &[&plain("root")]).await, Err(Failure::Refused));
    for bad in [&b""[..], b"a", b"\0a", b"\0a\0b\0c", b"\0\0b", b"\0a\0", b"\0\xff\0b"] {
        assert_eq!(play(&book, "PLAIN", &[bad]).await, Err(Failure::Malformed), "{bad:?}");
    }
    for bad in [
        &b"n,,n=a"[..],
        b"n,,r=x,n=a",
        b"p=tls-unique,,n=a,r=x",
        b"n,,m=x,n=a,r=x",
        b"n,b,n=a,r=x",
        b"n,,n=a=b,r=x",
        b"n,,n=,r=x",
        b"n,,n=a,r=",
        b"x",
        b"",
    ] {
        assert_eq!(play(&book, "SCRAM-SHA-256", &[bad]).await, Err(Failure::Malformed), "{bad:?}");
    }
    assert_eq!(play(&book, "SCRAM-SHA-256", &[b"n,a=root,n=a,r=x"]).await, Err(Failure::Refused));
    assert_eq!(play(&book, "LOGIN", &[b"a", b"b", b"c"]).await, Err(Failure::Malformed));
    let broken = Book(Err(Unavailable));
    assert_eq!(play(&broken, "PLAIN", &[&plain("")]).await, Err(Failure::Unavailable(Unavailable)));
}

/// The answer to an unknown name looks like one to a known name, and stays the same.
#[tokio::test]
async fn unknown_names_cannot_be_told_from_known_ones() {
    let book = book();
    let salt = async |name: &str| {
        let first = format!("n,,n={name},r=abc");
        let Ok(Step::Challenge(challenge)) = play(&book, "SCRAM-SHA-256", &[first.as_bytes()]).await else {
            panic!("no challenge")
        };
        let text = String::from_utf8(challenge.reveal().to_vec()).unwrap();
        let parts: Vec<&str> = text.split(',').collect();
        assert!(parts[0].starts_with("r=abc") && parts[2] == format!("i={DEFAULT_ITERATIONS}"), "{text}");
        parts[1].to_owned()
    };
    assert_eq!(salt("bob").await, salt("bob").await);
    assert_ne!(salt("bob").await, salt("carol").await);
    assert_eq!(ScramVerifier::new("x").unwrap().salt().len(), ScramVerifier::of_nobody("bob").salt().len());
}

/// RFC 7677 §3, over the functions that a conversation is made of.
#[test]
fn the_example_of_the_rfc() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let verifier = ScramVerifier::derive("pencil", &salt, 4096.try_into().unwrap()).unwrap();
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let auth_message =
        format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}");
    let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
    assert!(verifier.fits_proof(auth_message.as_bytes(), &proof.try_into().unwrap()));
    let signature = STANDARD.encode(verifier.server_signature(auth_message.as_bytes()));
    assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn verifiers_are_written_and_read() {
    let verifier = ScramVerifier::new(PASSWORD).unwrap();
    let text = verifier.to_string();
    assert!(text.starts_with("SCRAM-SHA-256$16384:"), "{text}");
    let read: ScramVerifier = text.parse().unwrap();
    assert!(read == verifier && read.fits(PASSWORD) && !read.fits("other"));
    assert_eq!(format!("{read:?}"), "ScramVerifier(16384 iterations)");
    assert_ne!(ScramVerifier::new(PASSWORD).unwrap(), verifier);
    for (bad, why) in [
        ("", NotVerifier::Form),
        ("SCRAM-SHA-1$4096:AA==$AA==:AA==", NotVerifier::Form),
        ("SCRAM-SHA-256$4096:AA==$AA==:AA==", NotVerifier::Form),
        (&text.replace("16384", "100"), NotVerifier::Iterations),
        (&text.replace("16384", "4000000000"), NotVerifier::Iterations),
        (&text.replace("16384", "x"), NotVerifier::Form),
        (&format!("{text}="), NotVerifier::Form),
    ] {
        assert_eq!(bad.parse::<ScramVerifier>(), Err(why), "{bad}");
    }
    assert_eq!(ScramVerifier::new(""), Err(NotVerifier::Password));
    // SASLprep: a no-break space is a space (RFC 4013 §2.1).
    assert!(verifier.fits("correct\u{a0}horse"));
}

/// What a client that knows the password proves of these messages (RFC 5802 §3).
fn proof(auth_message: &str) -> String {
    use aws_lc_rs::{digest, hmac, pbkdf2};
    use base64::Engine as _;
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, DEFAULT_ITERATIONS, b"some salt", PASSWORD.as_bytes(), &mut salted);
    let client_key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref()), auth_message.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    base64::engine::general_purpose::STANDARD.encode(proof)
}

#[tokio::test]
async fn a_proof_for_another_nonce_or_header_is_refused() {
    let (book, bare) = (book(), "n=alice=2C=3Dx@a.example,r=abc");
    let answer = async |header: &str, suffix: &str| {
        let mut exchange = Exchange::new("SCRAM-SHA-256").unwrap();
        let first = exchange.step(&book, Some(format!("n,,{bare}").as_bytes())).await;
        let Ok(Step::Challenge(challenge)) = first else { panic!("no challenge") };
        let server_first = String::from_utf8(challenge.reveal().to_vec()).unwrap();
        let nonce = server_first.split(',').next().unwrap();
        let last = format!("c={header},{nonce}{suffix}");
        let proof = proof(&format!("{bare},{server_first},{last}"));
        exchange.step(&book, Some(format!("{last},p={proof}").as_bytes())).await
    };
    assert!(matches!(answer("biws", "").await, Ok(Step::Challenge(_))));
    assert_eq!(answer("biws", "x").await, Err(Failure::Refused), "another nonce");
    assert_eq!(answer("eSws", "").await, Err(Failure::Refused), "another header");
}
