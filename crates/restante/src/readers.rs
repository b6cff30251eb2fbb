//! What readers did with mail that came by reference: it is looked for in their Maildirs some time after it was delivered.
//!
//! Still there, in whatever folder: a point for its domain. In a folder for unwanted mail: points against it. Deleted, or fetched and
//! removed: nothing. Where mail goes to another server nobody can look, and what was delivered counts as kept. What points are
//! worth is `policy::reputation`'s. A crash forgets what was delivered within the last minute.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirEntry, File};
use std::hash::BuildHasher as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail::ledger::Key;
use mail::{Domain, ReferenceId, Timestamp};
use policy::budget::Prefix;
use policy::reputation::Event;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::kept::{self, Kept};
use crate::receive::LiveConfig;
use crate::reputation::Reputation;
use crate::runtime::now;

/// Most copies that are waited for of one registrable domain: more than it can be given points for while they wait.
const MAX_OF_DOMAIN: usize = 30;
/// Most registrable domains of which copies are waited for.
const MAX_DOMAINS: usize = 2_000;
/// Most deliveries whose receipts are under way.
const MAX_DELIVERED: usize = 10_000;
/// How often it is looked whether some have been there long enough.
const LOOK_EVERY: Duration = Duration::from_secs(600);
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Most folders of one mailbox that are searched.
const MAX_FOLDERS: usize = 200;
/// Most files of one folder whose names and times are looked at.
const MAX_FILES: usize = 20_000;
/// A copy in a folder bears the time of its delivery, give or take this.
const SAME_TIME: Duration = Duration::from_secs(3600);
/// Most files of one mailbox whose header is read, and how far.
const MAX_READ: usize = 200;
const MAX_HEADER: u64 = 32 * 1024;

/// Folders for unwanted mail, as mail programs name them.
const JUNK: [&str; 6] = ["junk", "spam", "junk e-mail", "junk email", "bulk mail", "junk mail"];
/// Folders of what was thrown away.
const TRASH: [&str; 4] = ["trash", "deleted messages", "deleted items", "bin"];

/// By registrable domain.
type Waiting = BTreeMap<String, Vec<Watched>>;

/// Watches; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    config: LiveConfig,
    reputation: Reputation,
    waiting: Arc<Kept<Waiting>>,
    /// Copies of references whose row is not closed yet: one for each.
    delivered: Arc<Mutex<HashMap<Key, Placed>>>,
    /// Chooses which copies are watched, so that no sender knows.
    chance: RandomState,
}

/// A copy that will be looked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Watched {
    copy: Placed,
    id: ReferenceId,
    /// Where the offer came from.
    network: Option<Prefix>,
}

/// A copy in a Maildir.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) maildir: PathBuf,
    /// Its file's name as it was delivered.
    pub(crate) name: String,
    pub(crate) at: Timestamp,
}

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Junked,
    Gone,
}

impl Readers {
    /// Waits for what this file says, and notes what it finds.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn open(path: Option<PathBuf>, config: LiveConfig, reputation: Reputation) -> io::Result<Self> {
        let waiting = Arc::new(Kept::open(path)?);
        Ok(Self { config, reputation, waiting, delivered: Arc::default(), chance: RandomState::new() })
    }

    /// A message of this reference is in a mailbox.
    pub(crate) fn delivered(&self, key: &Key, copy: Placed) {
        let mut delivered = self.lock();
        if delivered.len() < MAX_DELIVERED {
            delivered.entry(key.clone()).or_insert(copy);
        }
    }

    /// All duties for a reference are done: notes what that says of its domain, now or once its copy has been looked for.
    pub(crate) fn concluded(&self, key: &Key, domain: &Domain, event: Option<Event>, network: Option<Prefix>) {
        let copy = self.lock().remove(key);
        match (event, copy, key.clone()) {
            (Some(Event::Kept), Some(copy), Key::Inbound(id, _)) => self.watch(domain, Watched { copy, id, network }),
            (Some(event), ..) => self.reputation.note(domain, event, network, now()),
            (None, ..) => {}
        }
    }

    /// Where there are enough, the newest takes the place of another as often as not: nobody's first messages stand for all.
    fn watch(&self, domain: &Domain, watched: Watched) {
        let (name, chance) = (domain.registrable(), self.chance.hash_one(watched.id.0));
        self.waiting.change(|all| {
            if all.len() >= MAX_DOMAINS && !all.contains_key(name) {
                return;
            }
            let copies = all.entry(name.to_owned()).or_default();
            if copies.len() < MAX_OF_DOMAIN {
                copies.push(watched);
            } else if chance % 2 == 0 {
                copies[(chance / 2) as usize % MAX_OF_DOMAIN] = watched;
            }
        });
    }

    /// Looks, and writes down what is waited for, until the end.
    pub(crate) async fn keep(self, end: CancellationToken) {
        let saving = kept::keep(Arc::clone(&self.waiting), SAVE_EVERY, end.clone());
        let looking = async {
            let every = || LOOK_EVERY.min(self.config.get().policy.kept_after);
            while end.run_until_cancelled(tokio::time::sleep(every())).await.is_some() {
                self.look(now()).await;
            }
        };
        tokio::join!(saving, looking);
    }

    /// Looks for all that have been there long enough by then, one after the other.
    async fn look(&self, at: Timestamp) {
        let after = self.config.get().policy.kept_after;
        let is_due = |watched: &Watched| watched.copy.at.after(after) <= at;
        if !self.waiting.look(|all| all.values().flatten().any(is_due)) {
            return;
        }
        let due = self.waiting.change(|all| {
            let mut due = Vec::new();
            for (domain, copies) in &mut *all {
                due.extend(copies.extract_if(.., |watched| is_due(watched)).map(|watched| (domain.clone(), watched)));
            }
            all.retain(|_, copies| !copies.is_empty());
            due
        });
        for (domain, watched) in due {
            let network = watched.network;
            let looked = spawn_blocking(move || watched.fate()).await.map_err(io::Error::other);
            let event = match looked.flatten() {
                Ok(Fate::Kept) => Event::Kept,
                Ok(Fate::Junked) => Event::Junked,
                Ok(Fate::Gone) => continue,
                Err(error) => {
                    debug!(%domain, %error, "a mailbox could not be looked into");
                    continue;
                }
            };
            if let Ok(domain) = domain.parse() {
                self.reputation.note(&domain, event, network, at);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Placed>> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Looks at the mailbox itself first, then at its folders: IMAP servers give a message that is moved another file name.
    fn fate(&self) -> io::Result<Fate> {
        let mut reads = MAX_READ;
        if self.is_in(&self.copy.maildir, &mut 0)? {
            return Ok(Fate::Kept);
        }
        let mut is_kept = false;
        for folder in fs::read_dir(&self.copy.maildir)?.take(MAX_FOLDERS).flatten() {
            let Some(name) = folder_name(&folder) else { continue };
            if TRASH.contains(&&*name)
                || !folder.path().join("cur").is_dir()
                || !self.is_in(&folder.path(), &mut reads)?
            {
                continue;
            }
            if JUNK.contains(&&*name) {
                return Ok(Fate::Junked);
            }
            is_kept = true;
        }
        Ok(if is_kept { Fate::Kept } else { Fate::Gone })
    }

    /// By its name, or else, as long as files may be read, by the reference in its header.
    fn is_in(&self, folder: &Path, reads: &mut usize) -> io::Result<bool> {
        for part in ["new", "cur"] {
            let files = match fs::read_dir(folder.join(part)) {
                Ok(files) => files,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for file in files.take(MAX_FILES).flatten() {
                if let Some(is_there) = self.is_it(&file, reads) {
                    return Ok(is_there);
                }
            }
        }
        Ok(false)
    }

    /// Is this file the copy, and if so, is it still there for its reader?
    fn is_it(&self, file: &DirEntry, reads: &mut usize) -> Option<bool> {
        let name = file.file_name();
        let name = name.to_str()?;
        let (unique, flags) = (name.split([':', ',']).next(), name.rsplit_once(":2,").map_or("", |(_, flags)| flags));
        let is_deleted = flags.contains('T');
        if unique == Some(self.copy.name.as_str()) {
            return Some(!is_deleted);
        }
        if *reads == 0 || is_deleted || !self.is_of_its_time(file) {
            return None;
        }
        *reads -= 1;
        self.is_its_header(&file.path()).then_some(true)
    }

    fn is_of_its_time(&self, file: &DirEntry) -> bool {
        let modified = file.metadata().ok().filter(fs::Metadata::is_file).and_then(|about| about.modified().ok());
        let Some(modified) = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()) else {
            return false;
        };
        modified.as_secs().abs_diff(self.copy.at.as_secs()) <= SAME_TIME.as_secs()
    }

    /// A file that cannot be read is another's, or gone meanwhile.
    fn is_its_header(&self, path: &Path) -> bool {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_HEADER).read_to_end(&mut text));
        let (text, tag) = (String::from_utf8_lossy(&text), format!("i={};", self.id));
        let header = text.split("\n\n").next().and_then(|header| header.split("\r\n\r\n").next()).unwrap_or_default();
        read.is_ok() && header.contains(&tag)
    }
}

/// The last part of a folder's name, in lower case: `.INBOX.Junk` (Maildir++) and `Junk` are both `junk`.
fn folder_name(folder: &DirEntry) -> Option<String> {
    let name = folder.file_name();
    let name = name.to_str()?;
    let is_part = matches!(name, "new" | "cur" | "tmp");
    (!is_part).then(|| name.rsplit('.').next().unwrap_or(name).to_lowercase())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::config::Config;

    const NAME: &str = "1800000000.Rx_0_y.mx.b.example";

    struct World {
        readers: Readers,
        room: TempDir,
    }

    fn day(day: u64) -> Timestamp {
        Timestamp::from_secs(now().as_secs() + day * 86_400)
    }

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    fn id(number: u8) -> ReferenceId {
        ReferenceId([number; 16])
    }

    impl World {
        fn new() -> Self {
            let config = Config::parse("hostname = \"mx.b.example\"\n", Path::new("restante.toml")).unwrap();
            let reputation = Reputation::open(None).unwrap();
            Self {
                readers: Readers::open(None, LiveConfig::new(config), reputation).unwrap(),
                room: tempfile::tempdir().unwrap(),
            }
        }

        /// Puts a message of reference `number` there.
        fn put(&self, place: &str, number: u8) {
            let path = self.room.path().join(place);
            for part in ["new", "cur"] {
                fs::create_dir_all(path.parent().unwrap().with_file_name(part)).unwrap();
            }
            let id = id(number);
            fs::write(
                path,
                format!("Received: x\r\nTBR-Reference: v=1; d=a.example; i={id};\r\n o=x\r\nA: b\r\n\r\nx"),
            )
            .unwrap();
        }

        /// A copy of reference 1 was delivered to the inbox, and its duties are done.
        fn deliver(&self, sender: &str) {
            let key = Key::Inbound(id(1), domain(sender));
            let copy = Placed { maildir: self.room.path().to_owned(), name: NAME.to_owned(), at: now() };
            self.readers.delivered(&key, copy);
            self.readers.concluded(&key, &domain(sender), Some(Event::Kept), None);
        }

        /// What the domain is given for a copy that has come to be there.
        async fn score_of(place: Option<&str>) -> i32 {
            let world = Self::new();
            if let Some(place) = place {
                world.put(place, 1);
            }
            // Others do not count for it.
            world.put("cur/1.other:2,S", 2);
            world.put(".Junk/cur/2.other:2,S", 3);
            world.deliver("a.example");
            world.readers.look(day(1)).await;
            assert_eq!(world.readers.reputation.score(&domain("a.example"), day(1)), 0, "too early");
            world.readers.look(day(3)).await;
            world.readers.look(day(4)).await;
            world.readers.reputation.score(&domain("a.example"), day(3))
        }
    }

    #[tokio::test]
    async fn what_is_still_there_is_a_point_and_what_readers_call_junk_counts_against_its_domain() {
        let kept = [
            &*format!("new/{NAME}"),
            &format!("cur/{NAME}:2,S"),
            &format!("cur/{NAME},S=400:2,RS"),
            &format!(".Archive/cur/{NAME}:2,S"),
            ".Archive.2026/cur/moved:2,S",
            "Work/cur/moved:2,S",
        ];
        for place in kept {
            assert_eq!(World::score_of(Some(place)).await, 1, "{place}");
        }
        for place in [&*format!(".Junk/cur/{NAME}:2,S"), ".INBOX.Spam/new/moved", "Junk E-mail/cur/moved:2,"] {
            assert!(World::score_of(Some(place)).await < -1, "{place}");
        }
        for place in [&*format!("cur/{NAME}:2,ST"), ".Trash/cur/moved:2,S"] {
            assert_eq!(World::score_of(Some(place)).await, 0, "{place}");
        }
        assert_eq!(World::score_of(None).await, 0, "deleted");
    }

    #[tokio::test]
    async fn what_is_not_in_a_mailbox_here_counts_when_it_is_done() {
        let world = World::new();
        let key = Key::Inbound(id(1), domain("a.example"));
        world.readers.concluded(&key, &domain("a.example"), Some(Event::Kept), None);
        assert_eq!(world.readers.reputation.score(&domain("a.example"), now()), 1);
        world.readers.concluded(&key, &domain("a.example"), Some(Event::Refused), None);
        world.readers.concluded(&key, &domain("a.example"), None, None);
        assert_eq!(world.readers.reputation.score(&domain("a.example"), now()), -1);
    }

    #[test]
    fn so_many_are_watched_and_no_more_and_of_a_flood_not_only_the_first() {
        let world = World::new();
        for number in 0..2000_u32 {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            let key = Key::Inbound(ReferenceId(bytes), domain("a.example"));
            world.readers.delivered(&key, Placed { maildir: "x".into(), name: number.to_string(), at: now() });
            world.readers.concluded(&key, &domain("www.a.example"), Some(Event::Kept), None);
        }
        assert!(world.readers.lock().is_empty());
        let names: Vec<u32> = world.readers.waiting.look(|all| {
            assert_eq!(all.keys().collect::<Vec<_>>(), ["a.example"]);
            all["a.example"].iter().map(|watched| watched.copy.name.parse().unwrap()).collect()
        });
        assert_eq!(names.len(), MAX_OF_DOMAIN);
        assert!(names.iter().any(|name| *name > 1000), "{names:?}");
    }
}
