//! Policies found, kept, refreshed and survived: over real HTTPS, with a web server that follows a script.

use std::sync::atomic::{AtomicUsize, Ordering};

use mail::mta_sts::Mode;

use super::*;
use crate::lookup::LookupError;
use crate::retrieval;
use crate::testing::{Authority, Play, Scripted, Table, domain};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + seconds)
}

fn body(mode: &str, age: u64) -> String {
    format!("version: STSv1\nmode: {mode}\nmx: mx.b.example\nmax_age: {age}\n")
}

fn good(body: &str) -> Vec<Play> {
    Play::response(&format!("200 OK\nContent-Type: text/plain\nContent-Length: {}", body.len()), body.as_bytes())
}

/// b.example: its zone, and its policy host.
struct World {
    table: Arc<Table>,
    authority: Authority,
    server: Scripted,
    folder: tempfile::TempDir,
}

impl World {
    async fn new(script: impl Fn(usize) -> Vec<Play> + Send + Sync + 'static) -> Self {
        Self::under("mta-sts.b.example", script).await
    }

    async fn under(name: &str, script: impl Fn(usize) -> Vec<Play> + Send + Sync + 'static) -> Self {
        let authority = Authority::new();
        let server = Scripted::new(authority.server(&[name]), Box::new(move |number, _| script(number))).await;
        let table = Table::new();
        table.set_txt("_mta-sts.b.example", &["v=STSv1; id=1"], false);
        Self { table, authority, server, folder: tempfile::tempdir().unwrap() }
    }

    fn client(&self, allow_private: bool) -> Client {
        let config = retrieval::Config { port: self.server.port, allow_private, ..retrieval::Config::default() };
        Client::new(self.authority.client(), self.table.clone(), config)
    }

    fn open(&self, now: Timestamp) -> MtaSts {
        MtaSts::new(self.table.clone(), self.client(true), Some(self.folder.path()), now).unwrap()
    }

    fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

async fn find(sts: &MtaSts, now: Timestamp) -> Found {
    sts.find(&domain("b.example"), now).await
}

fn mode(found: &Found) -> Option<Mode> {
    match found {
        Found::Policy(policy) => Some(policy.mode),
        _ => None,
    }
}

#[tokio::test]
async fn a_policy_is_fetched_once_and_survives_a_restart_and_its_record() {
    let world = World::new(|_| good(&body("enforce", 86_400))).await;
    let sts = world.open(at(0));
    let (one, two) = (domain("b.example"), domain("b.example"));
    let (one, two) = tokio::join!(sts.find(&one, at(0)), sts.find(&two, at(0)));
    assert_eq!((mode(&one), mode(&two), world.requests()), (Some(Mode::Enforce), Some(Mode::Enforce), 1));
    assert!(
        world.server.requests()[0].starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\nhost: mta-sts.b.example\r\n")
    );

    // Somebody on the way takes the record away: the policy counts to its end, after a restart too, and no longer.
    world.table.set_txt("_mta-sts.b.example", &[], false);
    let sts = world.open(at(1000));
    assert_eq!(mode(&find(&sts, at(80_000)).await), Some(Mode::Enforce));
    world.table.set_error("_mta-sts.b.example", LookupError::Temporary("nobody".into()));
    assert_eq!(mode(&find(&sts, at(86_399)).await), Some(Mode::Enforce));
    assert_eq!(find(&sts, at(86_400)).await, Found::None);
    assert_eq!(find(&world.open(at(86_400)), at(86_400)).await, Found::None);
    assert_eq!(world.requests(), 1);
}

#[tokio::test]
async fn another_id_means_another_policy() {
    let modes = ["enforce", "none"];
    let world = World::new(move |number| good(&body(modes[number], 86_400))).await;
    let sts = world.open(at(0));
    assert_eq!(mode(&find(&sts, at(0)).await), Some(Mode::Enforce));
    world.table.set_txt("_mta-sts.b.example", &["v=STSv1; id=2"], false);
    assert_eq!(mode(&find(&sts, at(60)).await), Some(Mode::Enforce), "not looked at yet");
    assert_eq!(mode(&find(&sts, at(600)).await), Some(Mode::None));
    assert_eq!(world.requests(), 2);
}

#[tokio::test]
async fn a_fetch_that_fails_leaves_what_was_known_and_else_nothing() {
    let world = World::new(|number| match number {
        0 => good(&body("enforce", 86_400)),
        _ => Play::response("500 Oops\nContent-Length: 0", b""),
    })
    .await;
    let sts = world.open(at(0));
    find(&sts, at(0)).await;
    world.table.set_txt("_mta-sts.b.example", &["v=STSv1; id=2"], false);
    assert_eq!(mode(&find(&sts, at(600)).await), Some(Mode::Enforce));

    world.table.set_txt("_mta-sts.c.example", &["v=STSv1; id=2"], false);
    let unknown = sts.find(&domain("c.example"), at(600)).await;
    assert!(
        matches!(unknown, Found::Unfetched(Unfetched::Certificate(_))),
        "{unknown:?}: no certificate for mta-sts.c.example"
    );
}

#[tokio::test]
async fn old_policies_in_use_are_fetched_anew_before_they_end() {
    let world = World::new(|number| good(&body(["enforce", "testing"][number], 10 * 86_400))).await;
    let sts = world.open(at(0));
    find(&sts, at(0)).await;
    sts.refresh(at(0).after(DAY)).await;
    assert_eq!(world.requests(), 1, "nobody has asked for it since");
    find(&sts, at(10)).await;
    sts.refresh(at(0).after(DAY / 2)).await;
    assert_eq!(world.requests(), 1, "it is not old");
    sts.refresh(at(0).after(DAY)).await;
    assert_eq!((world.requests(), mode(&find(&sts, at(0).after(DAY)).await)), (2, Some(Mode::Testing)));
    // After its end it is gone from the disk.
    sts.refresh(at(0).after(12 * DAY)).await;
    assert_eq!(std::fs::read_dir(world.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn hostile_hosts_give_no_policy() {
    let valid = body("enforce", 86_400);
    let whole =
        |head: &str, body: &str| Play::response(&format!("{head}\nContent-Length: {}", body.len()), body.as_bytes());
    let answers = vec![
        ("a redirect", Play::response("302 Found\nLocation: https://elsewhere.example/\nContent-Length: 0", b"")),
        ("HTML", whole("200 OK\nContent-Type: text/html", &valid)),
        ("too long", whole("200 OK\nContent-Type: text/plain", &(valid.clone() + &" \n".repeat(33_000)))),
        (
            "endless",
            vec![
                Play::Write(crate::testing::response("200 OK\nContent-Type: text/plain", b"version: STSv1\n")),
                Play::Forever(vec![b'x'; 4096]),
            ],
        ),
        ("no policy", whole("200 OK\nContent-Type: text/plain", "hello")),
    ];
    for (what, answer) in answers {
        let answer = Mutex::new(Some(answer));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let world = World::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            answer.lock().unwrap().take().unwrap_or_default()
        })
        .await;
        let sts = world.open(at(0));
        let found = find(&sts, at(0)).await;
        // What is no policy is told apart from what never came.
        let Found::Unfetched(why) = &found else { panic!("{what}: {found:?}") };
        assert_eq!(matches!(why, Unfetched::Invalid(_)), what == "no policy", "{what}: {why:?}");
        assert!(!matches!(why, Unfetched::Certificate(_)), "{what}: {why:?}");
        // It is left alone for a while.
        assert!(matches!(find(&sts, at(1)).await, Found::Unfetched(_)));
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{what}");
    }
}

#[tokio::test]
async fn neither_private_addresses_nor_wrong_names_are_believed() {
    let world = World::new(|_| good(&body("enforce", 86_400))).await;
    let client = world.client(false);
    let sts = MtaSts::new(world.table.clone(), client, None, at(0)).unwrap();
    assert!(matches!(find(&sts, at(0)).await, Found::Unfetched(Unfetched::Fetch(_))));
    assert_eq!(world.server.connections(), 0);

    let world = World::under("b.example", |_| good(&body("enforce", 86_400))).await;
    let misnamed = find(&world.open(at(0)), at(0)).await;
    assert!(matches!(misnamed, Found::Unfetched(Unfetched::Certificate(_))), "{misnamed:?}");
    assert_eq!(world.requests(), 0);
}

#[tokio::test]
async fn without_a_record_nobody_is_asked_and_broken_files_are_passed_over() {
    let world = World::new(|_| good(&body("enforce", 86_400))).await;
    world.table.set_txt("_mta-sts.b.example", &["v=spf1 -all"], false);
    for (name, text) in [("b.example.json", "{"), ("x", "y"), ("c.example.json.new", "{}")] {
        std::fs::write(world.folder.path().join(name), text).unwrap();
    }
    assert_eq!(find(&world.open(at(0)), at(0)).await, Found::None);
    assert_eq!(world.server.connections(), 0);
}
