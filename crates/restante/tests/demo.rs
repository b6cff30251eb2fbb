//! The demo's promise, on its own message.

use restante::cli::demo::{Options, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_by_reference_between_two_whole_domains() {
    let story = run(&Options::default()).await.unwrap();
    println!("{}", story.to_text());
    assert!(story.is_good());
    assert!(story.smtp_octets < 1800, "the offer and its replies took {} octets", story.smtp_octets);
    assert_eq!(story.retrieved_octets, story.object_octets);
}
