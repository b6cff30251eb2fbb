//! The accounts: who may log in, and as whom they may send.
//!
//! One file, `accounts` in the data directory, mode 0600, a line for each: name, SCRAM verifier, addresses, and what is
//! particular to it: `suspended`, limits of its own. No password is ever on disk, and from a verifier none can be had but by
//! guessing. Speaking SASL is `net`'s, counting what accounts send `receive`'s.

use std::fmt;
use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mail::{Address, Domain};
use net::sasl::{Credentials, ScramVerifier, Unavailable};
use policy::allowance::Allowance;

use crate::private;
use crate::routing::local_key;

/// Longest name of an account in octets.
const MAX_NAME: usize = 255;

/// All accounts, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts(Vec<Account>);

/// One account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    name: String,
    verifier: ScramVerifier,
    addresses: Vec<Sender>,
    suspended: bool,
    limits: OwnLimits,
}

/// Limits of one account that differ from those of the configuration. `None`: as configured; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct OwnLimits {
    /// Messages within an hour.
    pub messages_per_hour: Option<u32>,
    /// Messages within a day.
    pub messages_per_day: Option<u32>,
    /// Recipients within an hour.
    pub recipients_per_hour: Option<u32>,
    /// Recipients within a day.
    pub recipients_per_day: Option<u32>,
}

impl OwnLimits {
    /// The four by the names that stand in the file.
    fn named(&mut self) -> [(&'static str, &mut Option<u32>); 4] {
        [
            ("messages_per_hour", &mut self.messages_per_hour),
            ("messages_per_day", &mut self.messages_per_day),
            ("recipients_per_hour", &mut self.recipients_per_hour),
            ("recipients_per_day", &mut self.recipients_per_day),
        ]
    }

    /// These, where they say something, over those that were there.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            messages_per_hour: self.messages_per_hour.or(other.messages_per_hour),
            messages_per_day: self.messages_per_day.or(other.messages_per_day),
            recipients_per_hour: self.recipients_per_hour.or(other.recipients_per_hour),
            recipients_per_day: self.recipients_per_day.or(other.recipients_per_day),
        }
    }

    /// What the account may send, where `configured` holds for all others.
    pub fn allowance(self, configured: &Allowance) -> Allowance {
        let limit = |own: Option<u32>, other| own.map_or(other, NonZeroU32::new);
        Allowance {
            messages_per_hour: limit(self.messages_per_hour, configured.messages_per_hour),
            messages_per_day: limit(self.messages_per_day, configured.messages_per_day),
            recipients_per_hour: limit(self.recipients_per_hour, configured.recipients_per_hour),
            recipients_per_day: limit(self.recipients_per_day, configured.recipients_per_day),
        }
    }
}

/// What an account may send as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// This address, which it also receives.
    Address(Address),
    /// Any address of a domain, written `@a.example`.
    Domain(Domain),
}

/// Why the file of accounts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The file system.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// A line that is none.
    #[error("{}:{line}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What would be right.
        reason: String,
    },
    /// There is one already.
    #[error("there is an account `{0}` already; remove it first to set another password")]
    Exists(String),
    /// There is none.
    #[error("there is no account `{0}`")]
    Unknown(String),
    /// An address of several.
    #[error("`{0}` is an address of the accounts {1} and {2}: give the name of one")]
    Shared(String, String, String),
    /// A name with white space, control characters, or none at all.
    #[error("`{0}` cannot be the name of an account: it is empty, too long, or has spaces in it")]
    Name(String),
}

impl Account {
    /// A new account.
    ///
    /// # Errors
    /// [`AccountsError::Name`].
    pub fn new(name: &str, verifier: ScramVerifier, addresses: Vec<Sender>) -> Result<Self, AccountsError> {
        let fine = !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('#');
        if !fine || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(AccountsError::Name(name.to_owned()));
        }
        let (suspended, limits) = (false, OwnLimits::default());
        Ok(Self { name: name.to_lowercase(), verifier, addresses, suspended, limits })
    }

    /// The name to log in with, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its password is checked against.
    pub fn verifier(&self) -> &ScramVerifier {
        &self.verifier
    }

    /// What it may send as.
    pub fn addresses(&self) -> &[Sender] {
        &self.addresses
    }

    /// It may neither log in nor send; it goes on receiving.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Suspends it, or lets it send again.
    pub fn suspend(&mut self, suspended: bool) {
        self.suspended = suspended;
    }

    /// Its own limits.
    pub fn limits(&self) -> OwnLimits {
        self.limits
    }

    /// Replaces them.
    pub fn set_limits(&mut self, limits: OwnLimits) {
        self.limits = limits;
    }

    /// The address whose mailbox is the account's: the first.
    pub fn primary(&self) -> Option<&Address> {
        self.addresses.iter().find_map(|sender| match sender {
            Sender::Address(address) => Some(address),
            Sender::Domain(_) => None,
        })
    }

    /// Is this one of the addresses that the account receives? Local parts are compared without regard to case.
    pub fn receives(&self, address: &Address) -> bool {
        self.addresses.iter().any(|sender| matches!(sender, Sender::Address(own) if same_mailbox(own, address)))
    }

    /// Does the account stand for the whole domain, as `@a.example`?
    pub fn speaks_for(&self, domain: &Domain) -> bool {
        self.addresses.iter().any(|sender| matches!(sender, Sender::Domain(own) if own == domain))
    }

    fn has(&self, sender: &Sender) -> bool {
        match sender {
            Sender::Address(address) => self.receives(address),
            Sender::Domain(domain) => self.speaks_for(domain),
        }
    }

    /// May the account send as this address? `separator` is that of the domain's sub-addresses.
    pub fn may_send_as(&self, address: &Address, separator: Option<char>) -> bool {
        let by_domain = |domain: &Domain| address.host() == domain.as_str();
        let whole = self.addresses.iter().any(|sender| match sender {
            Sender::Address(own) => same_mailbox(own, address),
            Sender::Domain(domain) => by_domain(domain),
        });
        whole || crate::routing::without_subaddress(address, separator).is_some_and(|base| self.receives(&base))
    }
}

fn same_mailbox(a: &Address, b: &Address) -> bool {
    a.host() == b.host() && local_key(a) == local_key(b)
}

impl Accounts {
    /// Reads the file; where there is none, there are no accounts.
    ///
    /// # Errors
    /// [`AccountsError`] with the line that is wrong.
    pub fn load(path: &Path) -> Result<Self, AccountsError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(AccountsError::Io { path: path.to_owned(), error }),
        }
    }

    /// Reads the text of a file; `path` names it where something is wrong.
    ///
    /// # Errors
    /// As [`Accounts::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, AccountsError> {
        let mut accounts = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |reason: String| AccountsError::Line { path: path.to_owned(), line: number + 1, reason };
            let account: Account = line.parse().map_err(at)?;
            accounts.add(account).map_err(|error| at(error.to_string()))?;
        }
        Ok(accounts)
    }

    /// Changes the file: reads it, lets `change` work on it, and replaces it as a whole, synced. Two that do so at the
    /// same time wait for each other.
    ///
    /// # Errors
    /// [`AccountsError`]; the file is then as it was.
    pub fn edit<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, AccountsError>,
    ) -> Result<T, AccountsError> {
        let io = |error| AccountsError::Io { path: path.to_owned(), error };
        if let Some(directory) = path.parent() {
            private::create_directory(directory).map_err(io)?;
        }
        let lock = private::open(&path.with_extension("lock"), false).map_err(io)?;
        lock.lock().map_err(io)?;
        let mut accounts = Self::load(path)?;
        let done = change(&mut accounts)?;
        private::replace(path, accounts.to_string().as_bytes()).map_err(io)?;
        Ok(done)
    }

    /// Adds an account.
    ///
    /// # Errors
    /// [`AccountsError::Exists`].
    pub fn add(&mut self, account: Account) -> Result<(), AccountsError> {
        if self.get(&account.name).is_some() {
            return Err(AccountsError::Exists(account.name));
        }
        self.0.push(account);
        Ok(())
    }

    /// Removes an account. Its mailbox stays.
    ///
    /// # Errors
    /// [`AccountsError::Unknown`].
    pub fn remove(&mut self, name: &str) -> Result<(), AccountsError> {
        let before = self.0.len();
        self.0.retain(|account| account.name != name.to_lowercase());
        if self.0.len() == before { Err(AccountsError::Unknown(name.to_owned())) } else { Ok(()) }
    }

    /// The account of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&Account> {
        let name = name.to_lowercase();
        self.0.iter().find(|account| account.name == name)
    }

    /// The account of this name, or else the only one that has this address, or `@domain`.
    ///
    /// # Errors
    /// [`AccountsError::Unknown`], [`AccountsError::Shared`].
    pub fn find(&self, word: &str) -> Result<&Account, AccountsError> {
        if let Some(account) = self.get(word) {
            return Ok(account);
        }
        let sender = word.parse::<Sender>().ok();
        let mut having = self.iter().filter(|account| sender.as_ref().is_some_and(|sender| account.has(sender)));
        match (having.next(), having.next()) {
            (Some(only), None) => Ok(only),
            (Some(one), Some(other)) => {
                Err(AccountsError::Shared(word.to_owned(), one.name.clone(), other.name.clone()))
            }
            _ => Err(AccountsError::Unknown(word.to_owned())),
        }
    }

    /// Changes the account of this name.
    ///
    /// # Errors
    /// [`AccountsError::Unknown`].
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Account)) -> Result<(), AccountsError> {
        let found = self.0.iter_mut().find(|account| account.name == name.to_lowercase());
        change(found.ok_or_else(|| AccountsError::Unknown(name.to_owned()))?);
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.iter()
    }
}

impl Credentials for Accounts {
    async fn verifier(&self, name: &str) -> Result<Option<ScramVerifier>, Unavailable> {
        Ok(self.get(name).map(|account| account.verifier.clone()))
    }
}

impl FromStr for Account {
    type Err = String;
    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(verifier)) = (words.next(), words.next()) else {
            return Err("a line is: name, SCRAM verifier, addresses".into());
        };
        let verifier = verifier.parse::<ScramVerifier>().map_err(|error| error.to_string())?;
        // Every address has an @, and nothing else has one.
        let (addresses, others): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('@'));
        let addresses = addresses.into_iter().map(str::parse).collect::<Result<_, String>>()?;
        let mut account = Self::new(name, verifier, addresses).map_err(|error| error.to_string())?;
        others.into_iter().try_for_each(|word| account.read_particular(word))?;
        Ok(account)
    }
}

impl Account {
    fn read_particular(&mut self, word: &str) -> Result<(), String> {
        let unknown = || format!("`{word}` is neither an address nor anything else that is known of accounts");
        if word == "suspended" {
            self.suspended = true;
            return Ok(());
        }
        let (name, number) = word.split_once('=').ok_or_else(unknown)?;
        let number = number.parse().map_err(|_| format!("`{word}`: the limit is not a number"))?;
        let mut limits = self.limits.named();
        let (_, limit) = limits.iter_mut().find(|(known, _)| *known == name).ok_or_else(unknown)?;
        **limit = Some(number);
        Ok(())
    }

    fn particulars(&self) -> Vec<String> {
        let mut limits = self.limits;
        let named = limits.named();
        let own = named.into_iter().filter_map(|(name, limit)| limit.map(|limit| format!("{name}={limit}")));
        self.suspended.then(|| "suspended".to_owned()).into_iter().chain(own).collect()
    }
}

impl FromStr for Sender {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let wrong = |error: &dyn fmt::Display| format!("`{word}` is neither an address nor @domain: {error}");
        if let Some(domain) = word.strip_prefix('@') {
            return domain.parse().map(Self::Domain).map_err(|error| wrong(&error));
        }
        let address: Address = word.parse().map_err(|error| wrong(&error))?;
        // White space parts the words of a line.
        if address.domain().is_none() || word.contains(char::is_whitespace) {
            return Err(wrong(&"it needs a domain, and no space"));
        }
        Ok(Self::Address(address))
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Accounts: name, SCRAM verifier, addresses, particulars. Kept by `restante accounts`.")?;
        for account in &self.0 {
            write!(f, "{} {}", account.name, account.verifier)?;
            account.addresses.iter().try_for_each(|sender| write!(f, " {sender}"))?;
            account.particulars().iter().try_for_each(|word| write!(f, " {word}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn account(name: &str, addresses: &[&str]) -> Account {
        let rounds = 4096.try_into().unwrap();
        let verifier = ScramVerifier::derive("pencil", b"0123456789abcdef", rounds).unwrap();
        Account::new(name, verifier, addresses.iter().map(|a| a.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn accounts_survive_their_file_which_is_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/accounts");
        assert_eq!(Accounts::load(&path).unwrap(), Accounts::default());
        Accounts::edit(&path, |all| all.add(account("Alice", &["alice@a.example", "@b.example"]))).unwrap();
        Accounts::edit(&path, |all| all.add(account("bob", &[]))).unwrap();
        let loaded = Accounts::load(&path).unwrap();
        assert_eq!(loaded.iter().map(Account::name).collect::<Vec<_>>(), ["alice", "bob"]);
        assert!(loaded.get("ALICE").unwrap().verifier().fits("pencil"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&path).unwrap().contains("pencil"));
        Accounts::edit(&path, |all| all.remove("Bob")).unwrap();
        assert!(Accounts::load(&path).unwrap().get("bob").is_none());
    }

    #[test]
    fn an_account_is_found_by_its_name_and_by_what_is_its_own_alone() {
        let shared = "info@a.example";
        let all = Accounts(vec![
            account("alice", &["alice@a.example", shared]),
            account("bob@a.example", &["bob@a.example", shared]),
            account("site", &["@b.example"]),
        ]);
        let found = |word: &str| all.find(word).map(|account| account.name().to_owned()).map_err(|e| e.to_string());
        for (word, name) in [
            ("ALICE", "alice"),
            ("Alice@a.example", "alice"),
            ("bob@a.example", "bob@a.example"),
            ("@b.example", "site"),
        ] {
            assert_eq!(found(word).unwrap(), name);
        }
        assert_eq!(found("alcie").unwrap_err(), "there is no account `alcie`");
        assert!(found(shared).unwrap_err().contains("alice and bob@a.example"));
        assert!(found("carol@b.example").is_err(), "who may be sent as is not the account's own");
    }

    #[test]
    fn particulars_survive_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accounts");
        Accounts::edit(&path, |all| all.add(account("alice", &["alice@a.example"]))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("suspended") && !text.contains("_per_"), "as it was before there were any");
        let own = OwnLimits { messages_per_hour: Some(5), recipients_per_day: Some(0), ..OwnLimits::default() };
        Accounts::edit(&path, |all| {
            all.change("ALICE", |account| {
                account.suspend(true);
                account.set_limits(own);
            })
        })
        .unwrap();
        let loaded = Accounts::load(&path).unwrap();
        let alice = loaded.get("alice").unwrap();
        assert!(alice.is_suspended() && alice.limits() == own && alice.addresses().len() == 1);
        let configured = Allowance { recipients_per_day: NonZeroU32::new(9), ..Allowance::default() };
        let allowed = alice.limits().allowance(&configured);
        assert_eq!((allowed.messages_per_hour, allowed.recipients_per_day), (NonZeroU32::new(5), None));
        assert_eq!(OwnLimits::default().allowance(&configured), configured);
        let unknown = Accounts::edit(&path, |all| all.change("bob", |_| {}));
        assert!(matches!(unknown, Err(AccountsError::Unknown(_))));
        let text = fs::read_to_string(&path).unwrap();
        for wrong in ["messages_per_hour=x", "messages=5", "suspend"] {
            let broken = Accounts::parse(&text.replace("suspended", wrong), &path).unwrap_err().to_string();
            assert!(broken.contains(&format!("`{wrong}`")), "{broken}");
        }
    }

    #[test]
    fn a_refused_change_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accounts");
        Accounts::edit(&path, |all| all.add(account("alice", &["alice@a.example"]))).unwrap();
        let before = fs::read(&path).unwrap();
        let twice = Accounts::edit(&path, |all| all.add(account("ALICE", &[])));
        assert!(matches!(twice, Err(AccountsError::Exists(_))));
        assert!(matches!(Accounts::edit(&path, |all| all.remove("x")), Err(AccountsError::Unknown(_))));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn mistakes_in_the_file_name_their_line() {
        let parse = |text: &str| Accounts::parse(text, Path::new("accounts")).unwrap_err().to_string();
        assert_eq!(parse("# x\n\nalice"), "accounts:3: a line is: name, SCRAM verifier, addresses");
        assert!(parse("alice secret alice@a.example").starts_with("accounts:1: "));
        assert!(!parse("alice secret alice@a.example").contains("secret"));
    }

    #[test]
    fn an_account_sends_as_its_addresses_and_their_subaddresses() {
        let account = account("alice", &["Alice@a.example", "@c.example"]);
        let may = |text: &str| account.may_send_as(&text.parse().unwrap(), Some('+'));
        assert!(may("alice@a.example") && may("ALICE@A.example") && may("alice+lists@a.example"));
        assert!(may("whoever@c.example"));
        for other in ["bob@a.example", "alice@b.example", "alice@sub.a.example", "alice.x@a.example", "postmaster"] {
            assert!(!may(other), "{other}");
        }
        assert!(!account.may_send_as(&"alice+x@a.example".parse().unwrap(), None));
        for bad in ["", "a b", "#x", "a\tb", "a\nb"] {
            assert!(Account::new(bad, account.verifier.clone(), Vec::new()).is_err(), "{bad:?}");
        }
    }
}
