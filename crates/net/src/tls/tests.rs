//! Certificates follow their files and are chosen by name; clients believe whom they are told to.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection};

use super::trust::client_config;
use super::*;

pub(crate) struct Ca {
    pub(crate) folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = Self { folder: tempfile::tempdir().unwrap(), issuer };
        std::fs::write(ca.ca_file(), ca.issuer.pem()).unwrap();
        ca
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Writes a certificate and key for `name`, into files called `file`.
    pub(crate) fn issue(&self, name: &str, file: &str) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end| self.folder.path().join(format!("{file}.{end}"));
        let files = CertificateFiles { certificate: path("pem"), key: path("key") };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        permit(&files.key, 0o600);
        files
    }
}

fn permit(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// Does a handshake succeed? In memory. What the server shows.
pub(crate) fn handshake(
    server: &Arc<rustls::ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<Vec<u8>, rustls::Error> {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(client.peer_certificates().unwrap()[0].to_vec())
}

fn touch(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(10)).unwrap();
}

#[test]
fn clients_believe_their_ca_or_anybody() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let certificates = Certificates::load(&[ca.issue("mx.b.example", "mx")]).unwrap();
    let server = server_config(certificates, Versions::From12, &[]).unwrap();
    let ours = ClientTls::new(&Trust::CaFile(ca.ca_file())).unwrap();
    let theirs = ClientTls::new(&Trust::CaFile(stranger.ca_file())).unwrap();
    assert!(handshake(&server, &ours.verified, "mx.b.example").is_ok());
    assert!(handshake(&server, &ours.verified, "mx.c.example").is_err());
    assert!(handshake(&server, &theirs.verified, "mx.b.example").is_err());
    assert!(handshake(&server, &theirs.opportunistic, "mx.c.example").is_ok());
    let only13 = client_config(&Trust::CaFile(ca.ca_file()), Versions::Only13, &[]).unwrap();
    assert!(handshake(&server, &only13, "mx.b.example").is_ok());
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    let ca = Ca::new();
    let files = [ca.issue("mx.a.example", "a"), ca.issue("*.b.example", "b")];
    let certificates = Certificates::load(&files).unwrap();
    for (name, is_covered) in
        [("mx.a.example", true), ("tbr.b.example", true), ("b.example", false), ("x.y.b.example", false), ("?", false)]
    {
        assert_eq!(certificates.cover(name), is_covered, "{name}");
    }
    let server = server_config(certificates, Versions::From12, &[]).unwrap();
    let client = ClientTls::new(&Trust::CaFile(ca.ca_file())).unwrap();
    assert!(handshake(&server, &client.verified, "mx.a.example").is_ok());
    assert!(handshake(&server, &client.verified, "mx.b.example").is_ok());
    let first = handshake(&server, &client.opportunistic, "mx.a.example").unwrap();
    assert_eq!(handshake(&server, &client.opportunistic, "mx.c.example").unwrap(), first);
}

#[test]
fn certificates_follow_their_files() {
    let ca = Ca::new();
    let files = ca.issue("mx.a.example", "mx");
    let certificates = Certificates::load(std::slice::from_ref(&files)).unwrap();
    let server = server_config(Arc::clone(&certificates), Versions::From12, &[]).unwrap();
    // A new client each time: one that resumes a session sees no certificate.
    let certificate = || {
        let client = ClientTls::new(&Trust::CaFile(ca.ca_file())).unwrap().opportunistic;
        handshake(&server, &client, "mx.a.example").unwrap()
    };
    let before = certificate();
    assert!(!certificates.reload_if_changed().unwrap());

    ca.issue("mx.a.example", "mx");
    touch(&files.key);
    assert!(certificates.reload_if_changed().unwrap());
    let after = certificate();
    assert_ne!(before, after);

    std::fs::write(&files.key, "garbage").unwrap();
    assert!(certificates.reload_if_changed().is_err());
    assert!(!certificates.reload_if_changed().unwrap());
    assert_eq!(certificate(), after);
}

#[test]
fn other_files_are_taken_over_and_bad_ones_are_not() {
    let ca = Ca::new();
    let certificates = Certificates::load(&[ca.issue("mx.a.example", "a")]).unwrap();
    let server = server_config(Arc::clone(&certificates), Versions::From12, &[]).unwrap();
    let is_served = |name| {
        let client = ClientTls::new(&Trust::CaFile(ca.ca_file())).unwrap().verified;
        handshake(&server, &client, name).is_ok()
    };
    assert!(is_served("mx.a.example") && !is_served("mx.b.example"));
    certificates.replace(&[ca.issue("mx.b.example", "b")]).unwrap();
    assert!(!is_served("mx.a.example") && is_served("mx.b.example"));
    let missing = CertificateFiles { certificate: "none.pem".into(), key: "none.key".into() };
    assert!(certificates.replace(&[missing]).is_err());
    assert!(certificates.replace(&[]).is_err());
    assert!(is_served("mx.b.example"));
}

#[test]
fn errors_say_which_file_and_what_to_do() {
    let ca = Ca::new();
    let (a, b) = (ca.issue("a.example", "a"), ca.issue("b.example", "b"));
    let mixed = CertificateFiles { certificate: a.certificate.clone(), key: b.key.clone() };
    let swapped = CertificateFiles { certificate: a.key.clone(), key: a.certificate.clone() };
    for (files, words) in [(mixed, ["b.key", "belongs to"]), (swapped, ["a.key", "CERTIFICATE"])] {
        let error = Certificates::load(&[files]).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    permit(&a.key, 0o644);
    let error = Certificates::load(std::slice::from_ref(&a)).unwrap_err().to_string();
    assert!(["a.key", "0644", "chmod 600"].iter().all(|word| error.contains(word)), "{error}");
    permit(&a.key, 0o640);
    Certificates::load(&[a]).unwrap();
    let error = ClientTls::new(&Trust::CaFile(b.key)).unwrap_err().to_string();
    assert!(error.contains("b.key"), "{error}");
    assert!(matches!(Certificates::load(&[]), Err(TlsError::NoCertificate)));
}
