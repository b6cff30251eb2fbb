//! Somebody in a repository's place.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testbed::{Host, Sandbox};

/// He, and who came.
pub(crate) struct Impostor {
    pub(crate) host: Host,
    pub(crate) greeted: Arc<AtomicUsize>,
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Impostor {
    /// With a certificate of the authority that everybody trusts, for this name.
    pub(crate) fn start(sandbox: &Sandbox, name: &str) -> Self {
        let identity = sandbox.ca().issue(&[name]).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let host = sandbox.host("impostor.hub.example", &[]).unwrap();
        let (listener, greeted, asked) = (host.listen(443).unwrap(), Arc::default(), Arc::default());
        let counts: [Arc<AtomicUsize>; 2] = [Arc::clone(&greeted), Arc::clone(&asked)];
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream);
                counts[0].fetch_add(1, Ordering::SeqCst);
                // An error: the client has gone, and said nothing.
                if stream.read(&mut [0; 1]).is_ok_and(|octets| octets > 0) {
                    counts[1].fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { host, greeted, asked }
    }
}
