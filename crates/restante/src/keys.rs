//! Signing keys on disk, and the DNS records that make them known.
//!
//! A key is a file of its own: Ed25519, PKCS#8 in PEM as `openssl genpkey -algorithm ed25519` writes it, mode 0600.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail::{Domain, DomainError};
use reference::keys::{consent_name, key_name, record_name};
use reference::sign::KeyError;
use reference::{DomainRecord, KeyRecord, Selector, SigningKey};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// Octets of base64 in a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;
/// Longest file that is read.
const MAX_FILE: u64 = 16 * 1024;

/// Why a key file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: KeyFileReason,
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileReason {
    /// The file system.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Others than its owner may read it.
    #[error("its mode is {0:04o}, so others could read the key; run: chmod 600")]
    Exposed(u32),
    /// No PEM block of a private key, or one of another kind.
    #[error("there is no PKCS#8 private key in it; `restante keys generate` makes one")]
    NotPem,
    /// No Ed25519 key.
    #[error("{0}")]
    Key(#[from] KeyError),
}

/// Reads a key.
///
/// # Errors
/// [`KeyFileError`] names the file; one that others may read is refused.
pub fn read(path: &Path) -> Result<SigningKey, KeyFileError> {
    read_key(path).map_err(|reason| KeyFileError { path: path.to_owned(), reason })
}

/// Reads a key of any kind, as PKCS#8.
///
/// # Errors
/// As [`read`].
pub fn read_pkcs8(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    read_der(path).map_err(|reason| KeyFileError { path: path.to_owned(), reason })
}

/// Writes a key of any kind, as [`write`] does.
///
/// # Errors
/// As [`write`].
pub fn write_pkcs8(path: &Path, der: &[u8]) -> Result<(), KeyFileError> {
    write_der(path, der).map_err(|reason| KeyFileError { path: path.to_owned(), reason })
}

fn read_key(path: &Path) -> Result<SigningKey, KeyFileReason> {
    Ok(SigningKey::from_pkcs8(&read_der(path)?)?)
}

fn read_der(path: &Path) -> Result<Vec<u8>, KeyFileReason> {
    let metadata = fs::metadata(path)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileReason::Exposed(mode));
    }
    if metadata.len() > MAX_FILE {
        return Err(KeyFileReason::NotPem);
    }
    from_pem(&fs::read_to_string(path)?).ok_or(KeyFileReason::NotPem)
}

/// Writes a key into a new file, mode 0600, and syncs it.
///
/// # Errors
/// [`KeyFileError`], also where the file exists: a key is never overwritten.
pub fn write(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    write_key(path, key).map_err(|reason| KeyFileError { path: path.to_owned(), reason })
}

fn write_key(path: &Path, key: &SigningKey) -> Result<(), KeyFileReason> {
    write_der(path, &key.to_pkcs8()?)
}

fn write_der(path: &Path, der: &[u8]) -> Result<(), KeyFileReason> {
    let pem = to_pem(der);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

/// A key as it stands in its file.
pub fn to_pem(der: &[u8]) -> String {
    let mut pem = format!("{BEGIN}\n");
    let mut rest = STANDARD.encode(der);
    while !rest.is_empty() {
        let tail = rest.split_off(rest.len().min(PEM_LINE));
        pem.push_str(&rest);
        pem.push('\n');
        rest = tail;
    }
    pem + END + "\n"
}

/// The first private key in a text, as PKCS#8; what it is a key of is not looked at. `None`: there is none.
pub fn from_pem(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

/// A DNS record to publish.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TxtRecord {
    /// Its owner, without a final dot.
    pub name: Domain,
    /// Its text.
    pub text: String,
}

impl TxtRecord {
    /// A line of a zone file.
    pub fn zone_line(&self) -> String {
        // A string of a TXT record holds 255 octets (RFC 1035 §3.3.14).
        let strings: Vec<_> = self.text.as_bytes().chunks(255).map(String::from_utf8_lossy).collect();
        format!("{}. IN TXT \"{}\"", self.name, strings.join("\" \""))
    }
}

/// What is to be published so that this key counts: the domain's record, the key's, and the consent of each host that lies
/// outside the domain (TBR §6).
///
/// # Errors
/// Where the names would be too long.
pub fn records(domain: &Domain, facts: &DomainRecord, key: &KeyRecord) -> Result<Vec<TxtRecord>, DomainError> {
    let mut records = vec![
        TxtRecord { name: record_name(domain)?, text: facts.to_txt() },
        TxtRecord { name: key_name(&key.selector, domain)?, text: key.to_txt() },
    ];
    for host in facts.repo.iter().filter(|host| !host.is_within(domain)) {
        records.push(TxtRecord { name: consent_name(domain, host)?, text: "v=TBR1".to_owned() });
    }
    Ok(records)
}

/// Where a DKIM key is published (RFC 6376 §3.6.2.1).
///
/// # Errors
/// Where the name would be too long.
pub fn dkim_name(selector: &Selector, domain: &Domain) -> Result<Domain, DomainError> {
    domain.child(&format!("{selector}._domainkey"))
}

/// The usual place of a new key: `<domain>.<selector>.pem` in a directory.
pub fn file_name(domain: &Domain, selector: &Selector) -> PathBuf {
    PathBuf::from(format!("{domain}.{selector}.pem"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k1.pem");
        let key = SigningKey::generate().unwrap();
        write(&path, &key).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().verifying_key(), key.verifying_key());
        assert!(matches!(write(&path, &key).unwrap_err().reason, KeyFileReason::Io(_)), "never overwritten");
    }

    #[test]
    fn a_host_outside_the_domain_is_asked_for_its_consent() {
        let domain: Domain = "a.example".parse().unwrap();
        let key = SigningKey::generate().unwrap().verifying_key();
        let at = mail::Timestamp::from_secs(1_800_000_000);
        let record = KeyRecord::active("k1".parse().unwrap(), key, at, at);
        let names = |host: &str| {
            let facts = DomainRecord { repo: vec![host.parse().unwrap()], sub: false };
            let records = records(&domain, &facts, &record).unwrap();
            assert!(records.iter().all(|r| reference::keys::is_consent([r.text.as_str()])), "all are TBR1 records");
            records.into_iter().map(|r| r.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("tbr.a.example"), ["_tbr.a.example", "k1._tbr.a.example"]);
        assert_eq!(names("tbr.host.example")[2], "a.example._tbr-host.tbr.host.example");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k1.pem");
        write(&path, &SigningKey::generate().unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().ends_with("run: chmod 600"), "{error}");
        assert!(error.to_string().contains("0640"), "{error}");
    }

    #[test]
    fn keys_of_openssl_are_read_and_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.pem");
        let put = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            read(&path)
        };
        // RFC 8410 §10.3.
        let body = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
        assert!(put(&format!("{BEGIN}\n{body}\n{END}\n")).is_ok());
        for bad in ["", "x", &format!("{BEGIN}\n{body}"), &format!("{BEGIN}\nAAAA\n{END}")] {
            assert!(put(bad).is_err(), "{bad}");
        }
        assert!(matches!(read(&directory.path().join("none")).unwrap_err().reason, KeyFileReason::Io(_)));
    }
}
