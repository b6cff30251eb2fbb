//! The operator's certificates: read from PEM files, chosen by the name that a client asks for (SNI), and
//! read again when the files change, as tools that renew certificates expect.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider};

/// How often a handshake looks at the files' times.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// One certificate chain with its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate first, then the intermediates.
    pub certificate: PathBuf,
    /// Its private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
}

/// Certificates that follow their files. Implements rustls' [`ResolvesServerCert`].
pub struct Certificates {
    loaded: RwLock<Loaded>,
    started: Instant,
    /// Milliseconds after `started` at which the files are looked at again.
    next_check: AtomicU64,
}

struct Loaded {
    files: Vec<CertificateFiles>,
    /// In the order of configuration.
    keys: Vec<Arc<CertifiedKey>>,
    stamps: Vec<Stamp>,
}

/// What tells that a file has changed: its time and its length.
type Stamp = Option<(SystemTime, u64)>;

impl Certificates {
    /// Reads all files. The first entry serves clients that name no host, or an unknown one.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what to do.
    pub fn load(files: &[CertificateFiles]) -> Result<Arc<Self>, TlsError> {
        let loaded = RwLock::new(Loaded::read(files)?);
        let (started, next_check) = (Instant::now(), AtomicU64::new(in_millis(CHECK_EVERY)));
        Ok(Arc::new(Self { loaded, started, next_check }))
    }

    /// Goes on with these files instead, at the next handshake.
    ///
    /// # Errors
    /// [`TlsError`]: what was loaded before stays in use.
    pub fn replace(&self, files: &[CertificateFiles]) -> Result<(), TlsError> {
        let loaded = Loaded::read(files)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Reads the files again if their times or lengths have changed; tells whether it did. Handshakes do so by
    /// themselves every few seconds.
    ///
    /// # Errors
    /// [`TlsError`]: what was loaded before stays in use.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let (files, known) = {
            let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
            (loaded.files.clone(), loaded.stamps.clone())
        };
        let now = stamps(&files);
        if known == now {
            return Ok(false);
        }
        let keys = read_all(&files);
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        if loaded.files != files {
            // Replaced meanwhile.
            return Ok(false);
        }
        // Remembered in case of failure too: one warning for each change is enough.
        loaded.stamps = now;
        loaded.keys = keys?;
        Ok(true)
    }

    /// Whether one of them is for this name (RFC 9525); a client that asks for another gets the first.
    #[must_use]
    pub fn cover(&self, name: &str) -> bool {
        let Ok(name) = ServerName::try_from(name) else { return false };
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).keys.iter().any(|key| is_for(key, &name))
    }

    fn check_now_and_then(&self) {
        let now = in_millis(self.started.elapsed());
        let due = self.next_check.load(Ordering::Relaxed);
        let next = now.saturating_add(in_millis(CHECK_EVERY));
        if now < due || self.next_check.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        match self.reload_if_changed() {
            Ok(false) => {}
            Ok(true) => tracing::info!("certificates have been read again"),
            Err(error) => tracing::warn!(%error, "changed certificates cannot be used, the earlier ones stay"),
        }
    }

    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let fits = name.and_then(|name| loaded.keys.iter().find(|key| is_for(key, &name)));
        fits.or(loaded.keys.first()).cloned()
    }
}

impl Loaded {
    fn read(files: &[CertificateFiles]) -> Result<Self, TlsError> {
        if files.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Ok(Self { files: files.to_vec(), stamps: stamps(files), keys: read_all(files)? })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.check_now_and_then();
        self.choose(hello.server_name())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(&loaded.files).finish()
    }
}

fn in_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| rustls::client::verify_server_name(&certificate, name).is_ok())
}

fn stamps(files: &[CertificateFiles]) -> Vec<Stamp> {
    let paths = files.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
    paths.map(|path| std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok()).collect()
}

fn read_all(files: &[CertificateFiles]) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
    files.iter().map(|pair| read(pair).map(Arc::new)).collect()
}

fn read(files: &CertificateFiles) -> Result<CertifiedKey, TlsError> {
    let chain = read_chain(&files.certificate)?;
    let octets = read_file(&files.key)?;
    refuse_exposed(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&octets).map_err(|error| TlsError::Content {
        path: files.key.clone(),
        problem: format!("no private key can be read from it ({error})"),
        remedy: "it must be PEM with an unencrypted PRIVATE KEY",
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsError::Content {
        path: files.key.clone(),
        problem: format!("the key cannot be used with {} ({error})", files.certificate.display()),
        remedy: "name the key that belongs to the certificate",
    })
}

/// The server's own certificate, the first of a PEM file: for records that tell the world of it.
///
/// # Errors
/// [`TlsError`] names the file and what to do.
pub fn end_entity(path: &Path) -> Result<CertificateDer<'static>, TlsError> {
    // The chain is not empty.
    read_chain(path).map(|mut chain| chain.swap_remove(0))
}

/// The certificates of a PEM file, at least one.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let octets = read_file(path)?;
    let content = |problem| TlsError::Content {
        path: path.to_owned(),
        problem,
        remedy: "it must be PEM with at least one CERTIFICATE",
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    let chain = chain.map_err(|error| content(format!("it cannot be read as PEM ({error})")))?;
    if chain.is_empty() {
        return Err(content("it holds no certificate".into()));
    }
    Ok(chain)
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })
}

/// A key that every user of this machine can read is nobody's proof of anything. A group may read it: tools that renew
/// certificates hand keys over in this way.
fn refuse_exposed(key: &Path) -> Result<(), TlsError> {
    let metadata = std::fs::metadata(key).map_err(|error| TlsError::Unreadable { path: key.to_owned(), error })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(TlsError::Content {
        path: key.to_owned(),
        problem: format!("its mode is {mode:04o}, so every user of this machine could use the private key"),
        remedy: "chmod 600 makes it the owner's alone",
    })
}
