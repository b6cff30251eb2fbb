//! The demo's promise, on its own message.

use restante::cli::demo::{Options, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_by_reference_between_two_whole_domains() {
    let story = run(&Options::default()).await.unwrap();
    println!("{}", story.to_text());
    assert!(story.is_good());
    assert!(story.smtp_octets < 1800, "the offer and its replies took {} octets", story.smtp_octets);
    let fetched = (story.retrieved_octets, story.object_octets);
    assert!(0 < fetched.0 && fetched.0 < fetched.1, "coded, since that pays: {fetched:?}");
}

/// Whoever wrote it, and whatever it lacks: nothing is added, and nobody asks whose account it is from.
#[tokio::test(flavor = "multi_thread")]
async fn any_message_goes_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("message.eml");
    for message in [
        &b"From: Somebody Else <else@c.example>\nSubject: no date, no id\n\nhi\n"[..],
        b"Subject: nobody\r\n\r\n.\r\n..\r\nFrom here on\r\n",
        b"From: a@a.example\nFrom: b@b.example\n\ntwo of them, no end",
        b"From: not an address\nSubject: \xc3\xa4\n\n\xff\xfe\n",
    ] {
        std::fs::write(&file, message).unwrap();
        let story = run(&Options { message: Some(file.clone()), ..Options::default() }).await.unwrap();
        assert!(story.is_good(), "{}", story.to_text());
    }
}
