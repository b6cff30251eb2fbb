//! Tests.
use super::*;

fn _is_send(client: Client, destination: Destination, envelope: mail::Envelope, line: smtp::command::Tbr) {
    let content = futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"x"))]);
    tokio::spawn(async move {
        let mut session = client.connect(&destination).await.unwrap();
        session.by_value(&envelope, bytes::Bytes::new(), content, 1).await;
        session.offer(&envelope, line, bytes::Bytes::new()).await;
        session.release();
    });
}
