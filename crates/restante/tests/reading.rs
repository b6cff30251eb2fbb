//! Reading mail that was fetched while the link was up, by the recipes of docs/offline.md: a Maildir reader (mutt), Dovecot at the site, an
//! IMAP synchroniser (mbsync). Their configurations are the page's, word for word, but for paths. And whoever looks into a mailbox while
//! mail comes sees whole messages only.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testbed::peers::restante::object;
use testbed::peers::{Dovecot, PartTime, RestanteConfig};
use testbed::samples::{attachment, awkward, body, crlf, lf};
use testbed::{Host, PackageSet, Process, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// The recipes.
const PAGE: &str = include_str!("../../../docs/offline.md");

const ALICE: &str = "alice@site.example";

/// The block of the page with this line in it, each of these texts, which must stand there, replaced by the other.
fn recipe(line: &str, replaced: &[(&str, &str)]) -> String {
    // Blocks are what stands between every other pair of fences.
    let blocks = PAGE.split("\n```").skip(1).step_by(2).filter_map(|block| Some(block.split_once('\n')?.1));
    let mut with_it = blocks.filter(|block| block.lines().any(|found| found == line));
    let block = with_it.next().unwrap_or_else(|| panic!("the page has no block with {line}"));
    assert!(with_it.next().is_none(), "{line} stands in two blocks");
    replaced.iter().fold(format!("{block}\n"), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in the block:\n{text}");
        text.replace(from, to)
    })
}

/// Messages of many sizes, for alice at the site.
fn mail() -> Vec<Vec<u8>> {
    let attached = [3_000, 700_000, 60_000, 400_000].map(|size| attachment(&format!("of {size} octets"), size));
    attached.into_iter().chain([awkward("odd octets")]).collect()
}

/// A world whose site writes into these mailboxes, and where this mail waits for alice, over a link that takes a while for it.
fn waiting(mail: &[Vec<u8>], change: impl Fn(RestanteConfig) -> RestanteConfig) -> PartTime {
    let relay = "[[relay]]\nname = \"custodian\"\ncustodian = \"tbr.site.example\"\n";
    let world = PartTime::start(PROGRAM, |name, config| match name {
        "site" => change(config.tables(relay).with("", "smart_host", "\"custodian\"").names(&["imap.site.example"])),
        _ => config,
    });
    let world = world.unwrap();
    let sent: Vec<String> = mail.iter().map(|message| world.send(ALICE, message).unwrap()).collect();
    sent.iter().for_each(|id| world.until_kept(id).unwrap());
    world.custodian.host().limit_rate("4mbit").unwrap();
    world
}

/// What a mailbox shows to whoever looks again and again, by name: the octets that each file has at the first sight of it.
struct FirstSight<'a> {
    maildir: &'a Path,
    is_over: AtomicBool,
}

impl FirstSight<'_> {
    /// Looks while `work` lasts, and once more; what was seen, and what came of the work.
    fn of<T>(maildir: &Path, work: impl FnOnce() -> T) -> (BTreeMap<String, Vec<u8>>, T) {
        let watch = FirstSight { maildir, is_over: AtomicBool::new(false) };
        thread::scope(|scope| {
            let watcher = scope.spawn(|| watch.until_over());
            // Also when the work panics, or nobody would see why.
            let ends = Ends(&watch.is_over);
            let done = work();
            drop(ends);
            (watcher.join().unwrap(), done)
        })
    }

    fn until_over(&self) -> BTreeMap<String, Vec<u8>> {
        let mut seen = BTreeMap::new();
        loop {
            let is_last = self.is_over.load(Ordering::Acquire);
            self.look(&mut seen);
            if is_last {
                return seen;
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn look(&self, seen: &mut BTreeMap<String, Vec<u8>>) {
        let folders = ["new", "cur"].into_iter().filter_map(|part| fs::read_dir(self.maildir.join(part)).ok());
        for entry in folders.flatten().flatten() {
            // Readers add flags to a name.
            let name = entry.file_name().into_string().unwrap().split(':').next().unwrap().to_owned();
            // One that a reader has renamed meanwhile is found under its new name.
            if !seen.contains_key(&name)
                && let Ok(octets) = fs::read(entry.path())
            {
                seen.insert(name, octets);
            }
        }
    }
}

/// Sets its flag when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Each of the messages once, and nothing else; whatever stands above them, and with whichever line ends.
#[track_caller]
fn assert_each_once<'a>(found: impl IntoIterator<Item = &'a Vec<u8>>, mail: &[Vec<u8>]) {
    let found: Vec<Vec<u8>> = found.into_iter().map(|copy| lf(copy)).collect();
    assert_eq!(found.len(), mail.len());
    for message in mail {
        let copies = found.iter().filter(|copy| object(copy) == Some(message)).count();
        let subject = String::from_utf8_lossy(&message[..80]);
        assert_eq!(copies, 1, "cut off, doubled or lost: {subject}");
    }
}

/// A script on a host.
fn script(host: &Host, path: &str, text: &str) {
    host.put(path, format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
    host.run(&["chmod", "0755", path]).unwrap();
}

/// mutt on a host, with a configuration of its own.
struct Mutt<'a> {
    host: &'a Host,
    configuration: PathBuf,
    /// What was read, a file a message.
    read: PathBuf,
}

impl<'a> Mutt<'a> {
    /// What it needs beyond the recipe is to ask nobody.
    fn new(host: &'a Host, recipe: &str) -> Self {
        let (configuration, read) = (host.room().join("muttrc"), host.room().join("read"));
        fs::write(&configuration, format!("{recipe}set wait_key=no\nset pipe_split\nset pipe_sep=\"\"\n")).unwrap();
        fs::create_dir(&read).unwrap();
        script(host, "/usr/bin/keep", &format!("exec cat > \"$(mktemp {}/XXXXXXXX)\"", read.display()));
        Self { host, configuration, read }
    }

    fn run(&self, arguments: &str, input: &[u8]) {
        let line = format!("TERM=vt100 HOME=/root mutt -n -F {} {arguments}", self.configuration.display());
        let output = self.host.output(&["sh", "-c", &line], input).unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Opens a mailbox (its first if none is named), reads every message of it, and leaves them marked as read. Their octets.
    fn read(&self, mailbox: &str) -> Vec<Vec<u8>> {
        let keys = "<tag-pattern>~A<enter><tag-prefix><pipe-message>keep<enter><tag-prefix><clear-flag>N<quit>";
        // A reader wants a terminal.
        let line = format!("mutt -n -F {} {mailbox} -e \"push {keys}\"", self.configuration.display());
        let mut command = self.host.command("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.env("TERM", "vt100").env("HOME", "/root");
        let mut process = self.host.spawn_command("mutt", command).unwrap();
        let status = process.wait(wait::LONG).unwrap();
        assert!(status.success(), "{status}: {}", process.log());
        let files = fs::read_dir(&self.read).unwrap().map(|entry| entry.unwrap().path());
        let take = |file: PathBuf| (fs::read(&file).unwrap(), fs::remove_file(&file).unwrap()).0;
        files.map(take).collect()
    }
}

/// `restante sync` at the site, begun.
fn begin_sync(world: &PartTime) -> Process {
    world.site.host().spawn_command("sync", world.site.command(&["sync"])).unwrap()
}

fn assert_ends_well(sync: &mut Process) {
    let status = sync.wait(wait::LONG).unwrap();
    assert!(status.success(), "{status}: {}", sync.log());
}

fn files_in(folder: PathBuf) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_maildir_reader_reads_while_sync_brings_more_and_what_it_answers_on_the_airplane_goes_out_later() {
    let mail = mail();
    let mut world = waiting(&mail, |config| config.packages(PackageSet::Mutt));
    world.site.stop().unwrap();
    let host = world.site.host();
    // The program and its configuration are where every installation has them.
    host.run(&["mkdir", "-p", "/etc/restante"]).unwrap();
    let configuration = host.room().join("restante.toml");
    host.run(&["ln", "-s", configuration.to_str().unwrap(), "/etc/restante/restante.toml"]).unwrap();
    host.run(&["ln", "-s", PROGRAM, "/usr/bin/restante"]).unwrap();
    let maildir = world.site.maildir(ALICE).path().to_owned();
    let folder = maildir.to_str().unwrap();
    let mutt = recipe("set spoolfile=+", &[("/var/lib/restante/mail/site.example/alice", folder)]);
    let mutt = Mutt::new(host, &mutt);

    // So slow that reading is over long before.
    world.custodian.host().limit_rate("256kbit").unwrap();
    let (seen, early) = FirstSight::of(&maildir, || {
        let mut sync = begin_sync(&world);
        let first = || (files_in(maildir.join("new")) > 0).then_some(());
        wait::until("the first message", wait::LONG, first).unwrap();
        let early = mutt.read("");
        assert!(sync.is_alive(), "everything was there before anybody read");
        world.custodian.host().limit_rate("4mbit").unwrap();
        assert_ends_well(&mut sync);
        early
    });
    assert_each_once(seen.values(), &mail);
    assert!(!early.is_empty() && early.len() < mail.len(), "{} were read while others came", early.len());
    assert_each_once(&mutt.read(""), &mail);
    assert_eq!((files_in(maildir.join("new")), files_in(maildir.join("cur"))), (0, mail.len()));

    // On the airplane.
    host.unplug().unwrap();
    let answer = b"It came, all of it.\n.\nAlice\n";
    mutt.run("-s 'Re: odd octets' alice@a.example", answer);
    assert_eq!(files_in(world.site.data().join("outbox")), 1, "no server was there to take it");
    host.plug_in().unwrap();
    assert_ends_well(&mut begin_sync(&world));
    let copy = world.origin.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert_eq!(body(&copy), crlf(answer), "{text}");
    assert!(
        text.contains("Return-Path: <alice@site.example>") && text.contains("tbr=pass header.d=site.example"),
        "{text}"
    );
    // What was read and renamed is not brought once more.
    assert_each_once(&world.copies(ALICE), &mail);
}

/// A laptop with mbsync and mutt, and the recipe's account at the site: its password and the authority that it trusts.
fn laptop(world: &PartTime) -> Host {
    let laptop = world.sandbox.host("laptop.example", &[PackageSet::Isync, PackageSet::Mutt]).unwrap();
    let authority = fs::read(world.sandbox.ca().certificate()).unwrap();
    laptop.put("/etc/ssl/certs/ca-certificates.crt", &authority).unwrap();
    script(&laptop, "/usr/bin/pass", "[ \"$1\" = site ] && echo secret");
    let home = laptop.room().join("home");
    fs::create_dir_all(home.join("Mail")).unwrap();
    fs::write(home.join(".mbsyncrc"), recipe("IMAPAccount site", &[])).unwrap();
    laptop
}

/// One run of the synchroniser.
fn synchronise(laptop: &Host) {
    let mut command = laptop.command("mbsync");
    let mut process = laptop
        .spawn_command("mbsync", {
            command.arg("-a").env("HOME", laptop.room().join("home"));
            command
        })
        .unwrap();
    let status = process.wait(wait::LONG).unwrap();
    assert!(status.success(), "{status}: {}", process.log());
}

/// Without the field by which mbsync finds again what it has copied.
fn as_sent<'a>(copies: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Vec<u8>> {
    let without_mark = |copy: &Vec<u8>| {
        let is_mark = |line: &&[u8]| line.starts_with(b"X-TUID: ");
        let lines = || copy.split_inclusive(|octet| *octet == b'\n');
        assert_eq!(lines().filter(is_mark).count(), 1, "{}", String::from_utf8_lossy(copy));
        lines().filter(|line| !is_mark(line)).collect::<Vec<_>>().concat()
    };
    copies.into_iter().map(without_mark).collect()
}

/// From a site whose Dovecot shows `maildir`, onto a laptop, while `bring` brings mail to the site; then into mutt, and what was read is read at
/// the site too.
fn assert_reaches_a_laptop(world: &PartTime, maildir: &Path, mail: &[Vec<u8>], bring: impl FnOnce() + Send) {
    let laptop = laptop(world);
    let inbox = laptop.room().join("home/Mail/Inbox");
    let (here, (there, ())) = FirstSight::of(&inbox, || {
        FirstSight::of(maildir, || {
            thread::scope(|scope| {
                let bringing = scope.spawn(bring);
                while !bringing.is_finished() {
                    synchronise(&laptop);
                }
                bringing.join().unwrap();
            });
            synchronise(&laptop);
        })
    });
    assert_each_once(there.values(), mail);
    assert_each_once(&as_sent(here.values()), mail);

    // Offline: what was read stays read, and the site hears of it.
    laptop.unplug().unwrap();
    let mutt = Mutt::new(&laptop, "set mbox_type=Maildir\n");
    assert_each_once(&as_sent(&mutt.read(&format!("-f {}", inbox.display()))), mail);
    laptop.plug_in().unwrap();
    synchronise(&laptop);
    let names = fs::read_dir(maildir.join("cur")).unwrap().map(|entry| entry.unwrap().file_name());
    let flags: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    assert!(flags.len() == mail.len() && flags.iter().all(|name| name.ends_with(":2,S")), "{flags:?}");
}

/// Dovecot beside the site's server, with the recipe's lines.
fn dovecot(world: &PartTime, lines: &str) -> Process {
    // Users log in with their addresses, as Dovecot has it by itself.
    let lines = format!("auth_username_format = %Lu\n{lines}");
    Dovecot::serve(world.site.host(), &[(ALICE, "secret")], &lines).unwrap()
}

#[test]
fn dovecot_shows_the_maildirs_that_sync_fills_and_a_synchroniser_takes_them_along() {
    let mail = mail();
    let mut world = waiting(&mail, |config| config.packages(PackageSet::Dovecot));
    let mail_folder = world.site.host().room().join("mail");
    let mail_folder = mail_folder.to_str().unwrap();
    // `maildir` as in the text of the page.
    let line = r#"maildir = "/var/mail/{domain}/{user}""#;
    assert!(PAGE.contains(line));
    let (field, value) = line.split_once(" = ").unwrap();
    world.site.stop().unwrap();
    world.site.set("domain", field, &value.replace("/var/mail", mail_folder)).unwrap();
    // Both run as the owner of the mail.
    let host = world.site.host();
    for path in [world.site.data(), host.room().join("tls"), world.site.key("site.example"), host.room().to_owned()] {
        host.run(&["chown", "-R", "vmail:vmail", path.to_str().unwrap()]).unwrap();
    }
    let line = "mail_location = maildir:/var/mail/%d/%n       # Dovecot 2.3";
    let _dovecot = dovecot(&world, &recipe(line, &[("/var/mail", mail_folder)]));
    let maildir = Path::new(mail_folder).join("site.example/alice");
    assert_reaches_a_laptop(&world, &maildir, &mail, || {
        let own = world.site.command(&["sync"]);
        let own: Vec<String> = own.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
        let after = own.iter().position(|word| word == "--").unwrap() + 1;
        let mut command = host.command("setpriv");
        command.args(["--reuid=vmail", "--regid=vmail", "--clear-groups"]).args(&own[after..]);
        command.env("RESTANTE_CONFIG", host.room().join("restante.toml"));
        assert_ends_well(&mut host.spawn_command("sync", command).unwrap());
    });
    let mode = fs::metadata(&maildir).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "the mail is open to strangers: {mode:o}");
}

#[test]
fn dovecot_files_what_it_is_given_by_lmtp_and_a_synchroniser_takes_it_along() {
    let mail = mail();
    let mut world = waiting(&mail, |config| config.packages(PackageSet::Dovecot));
    let text = recipe("socket = \"/run/dovecot/lmtp\"", &[]);
    let fields = text.lines().next().unwrap().strip_prefix("# in [[domain]]: ").unwrap();
    let _dovecot = dovecot(&world, "");
    world.site.stop().unwrap();
    for (field, value) in fields.split(" and ").map(|field| field.split_once(" = ").unwrap()) {
        world.site.set("domain", field, value).unwrap();
    }
    let file = world.site.host().room().join("restante.toml");
    let configuration = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{configuration}\n{text}")).unwrap();
    world.site.run().unwrap();
    let maildir = world.site.host().room().join("mail/alice");
    assert_reaches_a_laptop(&world, &maildir, &mail, || {
        let report = world.fetch().unwrap();
        let asked = &report["fetched"][0];
        assert_eq!((&asked["pending"], &asked["later"]), (&mail.len().into(), &0.into()), "{report:#}");
    });
}
