//! Addresses and where they go.

use std::fs;
use std::path::Path;

use net::sasl::ScramVerifier;

use super::*;

fn router_in(directory: &Path, text: &str, accounts: &[(&str, &str)]) -> Result<Router, RoutingErrors> {
    let text = format!("hostname = \"mx.a.example\"\ndata_dir = \"/data\"\n{text}");
    let config = Config::parse(&text, &directory.join("restante.toml")).map_err(|e| e.to_string()).unwrap();
    let mut all = Accounts::default();
    for (name, addresses) in accounts {
        let verifier = ScramVerifier::derive("x", b"salt", 4096.try_into().unwrap()).unwrap();
        let addresses = addresses.split(' ').map(|a| a.parse().unwrap()).collect();
        all.add(Account::new(name, verifier, addresses).unwrap()).unwrap();
    }
    Router::load(&config, all)
}

fn router(text: &str, accounts: &[(&str, &str)]) -> Router {
    router_in(Path::new("/"), text, accounts).unwrap()
}

fn a(text: &str) -> Address {
    text.parse().unwrap()
}

/// Destinations in print: `maildir:bob@a.example bob@a.example`.
fn shown(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|target| format!("{} {}", target.route, target.address)).collect()
}

fn to(router: &Router, address: &str) -> Vec<String> {
    match router.resolve(&a(address)) {
        Resolution::Local(targets) => shown(&targets),
        other => vec![format!("{other:?}")],
    }
}

const ACCOUNTS: &str =
    "[[domain]]\nname = \"a.example\"\naliases = { info = [\"alice\", \"x@c.example\"], Sales = \"info\" }\n";

#[test]
fn accounts_aliases_and_subaddresses() {
    let router = router(ACCOUNTS, &[("alice", "alice@a.example al@a.example"), ("bob", "bob@a.example")]);
    let alice = "maildir:alice@a.example";
    assert_eq!(to(&router, "alice@a.example"), [format!("{alice} alice@a.example")]);
    assert_eq!(to(&router, "ALICE@A.EXAMPLE"), [format!("{alice} ALICE@a.example")]);
    assert_eq!(to(&router, "\"alice\"@a.example"), [format!("{alice} \"alice\"@a.example")]);
    assert_eq!(to(&router, "alice+lists@a.example"), [format!("{alice} alice+lists@a.example")]);
    assert_eq!(to(&router, "al@a.example"), [format!("{alice} alice@a.example")], "the account's own mailbox");
    let info = [format!("{alice} alice@a.example"), "c.example x@c.example".to_owned()];
    assert_eq!(to(&router, "info@a.example"), info);
    assert_eq!(to(&router, "SALES+x@a.example"), info);
    assert_eq!(router.resolve(&a("carol@a.example")), Resolution::Unknown);
    assert_eq!(router.resolve(&a("+x@a.example")), Resolution::Unknown);
    assert_eq!(router.resolve(&a("alice@sub.a.example")), Resolution::NotOurs);
    assert_eq!(router.resolve(&a("alice@[127.0.0.1]")), Resolution::NotOurs);
}

#[test]
fn postmaster_is_never_refused() {
    let two = "[[domain]]\nname = \"a.example\"\n[[domain]]\nname = \"b.example\"\ndeliver = \"discard\"\nrecipients = { list = [] }\n";
    let with = router(&format!("postmaster = \"alice@a.example\"\n{two}"), &[("alice", "alice@a.example")]);
    for address in ["postmaster@a.example", "Postmaster@b.example", "POSTMASTER"] {
        assert_eq!(to(&with, address), ["maildir:alice@a.example alice@a.example"], "{address}");
    }
    let first = router(two, &[("bob", "bob@c.example"), ("alice", "alice@a.example")]);
    assert_eq!(to(&first, "postmaster@a.example"), ["maildir:alice@a.example alice@a.example"]);
    let nobody = router(two, &[]);
    assert_eq!(to(&nobody, "postmaster@a.example"), ["maildir:postmaster@a.example postmaster@a.example"]);
    assert_eq!(to(&nobody, "postmaster@b.example"), ["discard postmaster@b.example"]);
    let itself = router(&format!("postmaster = \"postmaster@a.example\"\n{two}"), &[]);
    assert_eq!(to(&itself, "postmaster@a.example"), ["maildir:postmaster@a.example postmaster@a.example"]);
    let outside = router("postmaster = \"x@c.example\"", &[]);
    assert_eq!(to(&outside, "postmaster"), ["c.example x@c.example"]);
}

#[test]
fn catch_all_gets_what_nobody_has() {
    let text = "[[domain]]\nname = \"a.example\"\ncatch_all = \"bob@a.example\"\nrecipients = { list = [\"bob\"] }\n\
                [[domain]]\nname = \"b.example\"\ncatch_all = \"nobody@b.example\"\nrecipients = { list = [\"x\"] }\n";
    let router = router(text, &[]);
    assert_eq!(to(&router, "whoever@a.example"), ["maildir:bob@a.example bob@a.example"]);
    assert_eq!(
        router.resolve(&a("y@b.example")),
        Resolution::Unknown,
        "a catch-all that does not exist catches nothing"
    );
}

#[test]
fn circles_are_found_and_an_alias_of_itself_is_its_mailbox() {
    let text = "[[domain]]\nname = \"a.example\"\nrecipients = { list = [\"alice\"] }\n\
                aliases = { alice = [\"alice\", \"copy@c.example\"], x = \"y\", y = \"x\", lost = \"none\", half = [\"none\", \"alice\"] }\n";
    let router = router(text, &[]);
    assert_eq!(to(&router, "alice@a.example"), ["maildir:alice@a.example alice@a.example", "c.example copy@c.example"]);
    assert_eq!(router.resolve(&a("x@a.example")), Resolution::Loop);
    assert_eq!(router.resolve(&a("lost@a.example")), Resolution::Unknown);
    assert_eq!(to(&router, "half@a.example").len(), 2);
    assert!(router.nobody_at().is_empty());
    assert_eq!(router.dangling(), [a("lost@a.example"), a("x@a.example"), a("y@a.example")]);
    let chain: String = (0..40).map(|n| format!("a{n} = \"a{}\", ", n + 1)).collect();
    let deep = format!(
        "[[domain]]\nname = \"a.example\"\nrecipients = {{ list = [\"a40\"] }}\naliases = {{ {chain} z = \"a40\" }}\n"
    );
    let deep = super::tests::router(&deep, &[]);
    assert_eq!(deep.resolve(&a("a0@a.example")), Resolution::Loop);
    assert!(matches!(deep.resolve(&a("a30@a.example")), Resolution::Local(_)));
}

#[test]
fn probing_asks_for_the_whole_address_but_not_for_postmaster() {
    let text = "[[lmtp]]\nname = \"d\"\nsocket = \"/s\"\n[[domain]]\nname = \"a.example\"\ndeliver = \"lmtp:d\"\nrecipients = \"probe\"\n\
                aliases = { team = [\"bob\", \"x@c.example\"] }\n";
    let router = router(text, &[]);
    let Resolution::Probe { targets, ask } = router.resolve(&a("bob+x@a.example")) else { panic!() };
    assert_eq!((shown(&targets), targets == ask), (vec!["lmtp:d bob+x@a.example".to_owned()], true));
    let Resolution::Probe { targets, ask } = router.resolve(&a("team@a.example")) else { panic!() };
    assert_eq!((shown(&targets).len(), shown(&ask)), (2, vec!["lmtp:d bob@a.example".to_owned()]));
    assert_eq!(to(&router, "postmaster@a.example"), ["lmtp:d postmaster@a.example"]);
}

#[test]
fn any_recipient_shares_a_mailbox_with_its_subaddresses() {
    let router = router("[[domain]]\nname = \"a.example\"\nrecipients = \"any\"\n", &[]);
    assert_eq!(to(&router, "Bob+x@a.example"), ["maildir:bob@a.example Bob+x@a.example"]);
}

#[test]
fn mail_for_others_goes_to_its_exchangers_or_to_the_smart_host() {
    let plain = router("", &[]);
    assert_eq!(shown(&plain.targets(&a("x@c.example"))), ["c.example x@c.example"]);
    assert_eq!(plain.outgoing(&a("x@[127.0.0.1]")), None);
    let smart = router("smart_host = \"p\"\n[[relay]]\nname = \"p\"\nhost = \"p.example\"\n", &[]);
    assert_eq!(shown(&smart.targets(&a("x@c.example"))), ["relay:p x@c.example"]);
    assert!(smart.outgoing(&a("x@[127.0.0.1]")).is_some());
}

#[test]
fn mailboxes_lead_to_their_directory_only() {
    let router = router("[[domain]]\nname = \"a.example\"\nrecipients = \"any\"\n", &[]);
    let path = |address: &str| match router.resolve(&a(address)) {
        Resolution::Local(targets) => match &targets[0].route {
            Route::Maildir(mailbox) => router.maildir(mailbox),
            _ => None,
        },
        _ => None,
    };
    assert_eq!(path("bob@a.example"), Some("/data/mail/a.example/bob".into()));
    assert_eq!(path("\"../../x\"@a.example"), Some("/data/mail/a.example/%2E.%2F..%2Fx".into()));
    assert_eq!(path("\"a@b\"@a.example"), Some("/data/mail/a.example/a@b".into()));
    assert_eq!(router.maildir("bob@gone.example"), None);
    assert_eq!(router.maildir("bob"), None);
}

#[test]
fn files_of_recipients_and_aliases() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[[domain]]\nname = \"a.example\"\nrecipients = { file = \"recipients\" }\nalias_file = \"aliases\"\n";
    fs::write(directory.path().join("recipients"), "# who\nalice\nBob@a.example # the builder\n\n").unwrap();
    fs::write(directory.path().join("aliases"), "info: alice,\n  x@c.example\npostmaster: bob\n").unwrap();
    let router = router_in(directory.path(), text, &[]).unwrap();
    assert_eq!(to(&router, "bob@a.example"), ["maildir:bob@a.example bob@a.example"]);
    assert_eq!(to(&router, "info@a.example").len(), 2);
    assert_eq!(to(&router, "postmaster@a.example"), ["maildir:bob@a.example bob@a.example"]);

    fs::write(directory.path().join("recipients"), "alice\nbob@b.example\nx y\n").unwrap();
    fs::write(directory.path().join("aliases"), "a: |/bin/sh\nb\nc: :include:/x\nd: alice\nD: bob\n").unwrap();
    let errors = router_in(directory.path(), text, &[]).unwrap_err();
    let places: Vec<_> = errors.0.iter().map(|m| (m.file.file_name().unwrap().to_str().unwrap(), m.line)).collect();
    assert_eq!(
        places,
        [
            ("recipients", Some(2)),
            ("recipients", Some(3)),
            ("aliases", Some(1)),
            ("aliases", Some(2)),
            ("aliases", Some(3)),
            ("aliases", Some(5))
        ]
    );
    fs::remove_file(directory.path().join("aliases")).unwrap();
    assert!(router_in(directory.path(), text, &[]).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn accounts_send_as_themselves() {
    let router = router(ACCOUNTS, &[("alice", "alice@a.example")]);
    let alice = router.accounts().get("alice").unwrap();
    assert!(router.may_send_as(alice, &a("alice+x@a.example")));
    assert!(!router.may_send_as(alice, &a("info@a.example")));
}

#[test]
fn fallbacks_that_name_nobody_are_found() {
    let text = |postmaster: &str, catch_all: &str| {
        format!("postmaster = \"{postmaster}\"\n[[domain]]\nname = \"a.example\"\ncatch_all = \"{catch_all}\"\n")
    };
    let accounts = [("alice", "alice@a.example")];
    let nobody = router(&text("root@b.example", "alise@a.example"), &accounts).nobody_at();
    assert_eq!(nobody, [("catch_all", a("alise@a.example"))], "what is elsewhere is not known here");
    let nobody = router(&text("root@a.example", "root@a.example"), &accounts).nobody_at();
    assert_eq!(nobody.len(), 2, "{nobody:?}");
    assert!(router(&text("alice@a.example", "alice@a.example"), &accounts).nobody_at().is_empty());
}

const USERS: &str = "[[domain]]\nname = \"a.example\"\naliases = { info = [\"alice\", \"bob\"] }\n\
    [domain.tbr]\nselector = \"k1\"\nkey = \"k.pem\"\n\
    [[domain.user]]\nname = \"Alice\"\nkeys = { laptop = \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\" }\n\
    [[listener]]\nkind = \"repository\"\naddress = \"127.0.0.1:0\"\n[[certificate]]\ncert = \"c\"\nkey = \"k\"\n";

#[test]
fn mail_of_a_user_with_a_device_waits_for_it_and_that_of_the_others_does_not() {
    for (recipients, accounts) in [
        ("\"accounts\"", &[("alice", "alice@a.example al@a.example"), ("bob", "bob@a.example")][..]),
        ("\"accounts\"", &[("bob", "bob@a.example")]),
        ("{ list = [\"bob\"] }", &[]),
        ("\"any\"", &[]),
    ] {
        let text = USERS.replacen("aliases", &format!("recipients = {recipients}\naliases"), 1);
        let router = router(&text, accounts);
        for address in ["alice@a.example", "ALICE@a.example", "alice+lists@a.example"] {
            let target = format!("site:alice@a.example {}", a(address));
            assert_eq!(to(&router, address), [target], "{recipients} {accounts:?}");
        }
        assert_eq!(to(&router, "bob@a.example"), ["maildir:bob@a.example bob@a.example"]);
        let both = ["site:alice@a.example alice@a.example", "maildir:bob@a.example bob@a.example"];
        assert_eq!(to(&router, "info@a.example"), both);
    }
    let router = router(USERS, &[("alice", "alice@a.example al@a.example")]);
    assert_eq!(to(&router, "al@a.example"), ["site:alice@a.example alice@a.example"], "another name of hers");
    let text = USERS.replacen("{ info", "{ alice = [\"alice\", \"archive\"], info", 1);
    let both = to(&self::router(&text, &[("archive", "archive@a.example")]), "alice@a.example");
    assert_eq!(both, ["site:alice@a.example alice@a.example", "maildir:archive@a.example archive@a.example"]);
}

#[test]
fn a_server_is_not_asked_for_a_user_with_a_device() {
    let text = USERS.replacen("aliases", "deliver = \"lmtp:l\"\nrecipients = \"probe\"\naliases", 1);
    let router = router(&format!("{text}[[lmtp]]\nname = \"l\"\nsocket = \"/l\"\n"), &[]);
    assert_eq!(to(&router, "alice+x@a.example"), ["site:alice@a.example alice+x@a.example"]);
    assert!(matches!(router.resolve(&a("bob@a.example")), Resolution::Probe { .. }));
}

#[test]
fn a_user_is_his_own_addresses_and_no_others() {
    let router = router(USERS, &[]);
    let alice: Holder = "alice@a.example".parse().unwrap();
    for own in ["alice@a.example", "Alice@a.example", "alice+x@a.example"] {
        assert!(router.is_of_site(&a(own), &alice), "{own}");
    }
    for other in ["bob@a.example", "bob+alice@a.example", "alice@sub.a.example", "alice@b.example", "alice@[127.0.0.1]"]
    {
        assert!(!router.is_of_site(&a(other), &alice), "{other}");
    }
    let all: Holder = "a.example".parse().unwrap();
    assert!(router.is_of_site(&a("bob@sub.a.example"), &all) && !router.is_of_site(&a("bob@b.example"), &all));
}

#[test]
fn whoever_is_elsewhere_goes_there() {
    let text = "[[domain]]\nname = \"a.example\"\nrecipients = { list = [\"alice\"] }\nothers = \"relay:rest\"\n\
        [[relay]]\nname = \"rest\"\nhost = \"mx.a.example\"\n";
    let device = router(text, &[]);
    assert_eq!(to(&device, "alice+x@a.example"), ["maildir:alice@a.example alice+x@a.example"]);
    assert_eq!(to(&device, "bob@a.example"), ["relay:rest bob@a.example"]);
    assert_eq!(to(&device, "postmaster@a.example"), ["relay:rest postmaster@a.example"]);
    assert_eq!(device.resolve(&a("bob@b.example")), Resolution::NotOurs);
    let with = router(&format!("postmaster = \"alice@a.example\"\n{text}"), &[]);
    assert_eq!(to(&with, "postmaster@a.example"), ["maildir:alice@a.example alice@a.example"]);
}
