//! Dovecot by itself: takes a message by LMTP, refuses an unknown user, and the message is read back by IMAP.

use testbed::peers::{Dovecot, clients};
use testbed::{Sandbox, wait};

#[test]
fn takes_by_lmtp_and_shows_by_imap() {
    let sandbox = Sandbox::new().unwrap();
    let client = sandbox.host("client.example", &[]).unwrap();
    let dovecot = Dovecot::start(&sandbox, "store.d.example", &[("alice", "secret")]).unwrap();
    let lmtp = |to: &str| {
        let server = ["--protocol", "LMTP", "--server", "store.d.example:24"];
        let mut arguments = server.to_vec();
        arguments.extend(["--from", "x@client.example", "--to", to]);
        arguments.extend(["--header", "Subject: by lmtp", "--body", "line one\nline two"]);
        let output = clients::swaks(&client, &arguments).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    let imap = dovecot.imap("alice", "secret");
    assert_eq!(imap.count(&client).unwrap(), 0);
    let said = lmtp("alice@d.example");
    assert!(said.contains(" 250 2.0.0 <alice@d.example>"), "{said}");
    let said = lmtp("nobody@d.example");
    assert!(said.contains(" 550 5.1.1 "), "{said}");

    wait::until("the message", wait::LONG, || (imap.count(&client).ok()? == 1).then_some(())).unwrap();
    let message = String::from_utf8(imap.fetch(&client, 1).unwrap()).unwrap();
    assert!(message.contains("Subject: by lmtp\r\n"), "{message}");
    assert!(message.contains("\r\nline one\r\nline two\r\n"), "{message}");
    assert_eq!(dovecot.maildir("alice").messages().len(), 1);
    let wrong = dovecot.imap("alice", "wrong");
    assert!(wrong.count(&client).is_err());
}
