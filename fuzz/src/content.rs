//! Content of strangers, as it is read for DKIM, ARC, DMARC and a reference on top of it.

use std::sync::LazyLock;
use std::time::Duration;
use std::{fs, io};

use net::authentication::content::{ContentFault, OnTop};
use net::authentication::{Authenticator, Settings};
use net::dns::{Dnssec, Resolver, Source};
use policy::ContentEvidence;
use policy::evidence::Verdict;
use reference::stored::StoredError;
use tokio::runtime::{Builder, Runtime};

/// What is found in the world: a domain with a key, whose private half nobody has, and a wish for what is not its own.
const ZONE: &str = "\
a.example. A 192.0.2.1
k1._domainkey.a.example. TXT \"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"
_dmarc.a.example. TXT \"v=DMARC1; p=reject; rua=mailto:reports@a.example\"
";

static WORLD: LazyLock<Option<(Runtime, Authenticator)>> = LazyLock::new(|| world().ok());

fn world() -> io::Result<(Runtime, Authenticator)> {
    let folder = tempfile::tempdir()?;
    let zone = folder.path().join("zone");
    fs::write(&zone, ZONE)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let settings = Settings {
        hostname: "mx.b.example".parse().map_err(io::Error::other)?,
        block_lists: Vec::new(),
        allow_lists: Vec::new(),
        header_octets: 4 << 20,
        patience: Duration::from_secs(10),
    };
    let resolver = Resolver::new(&Source::ZoneFile(zone), &Dnssec::Off).map_err(io::Error::other)?;
    let authenticator = Authenticator::new(settings, resolver).map_err(io::Error::other)?;
    drop(inside);
    Ok((runtime, authenticator))
}

/// All that is found out about content.
type Found = Result<(ContentEvidence, Option<Result<OnTop, StoredError>>), ContentFault>;

fn read<'a>(runtime: &Runtime, authenticator: &Authenticator, chunks: impl Iterator<Item = &'a [u8]>) -> Found {
    let mut reader = authenticator.content().to_be_sealed();
    chunks.for_each(|chunk| reader.push(chunk));
    let content = reader.finish()?;
    Ok((runtime.block_on(authenticator.judge(&content, None)), content.on_top))
}

/// What is found out does not depend on how content is cut (the first octet says where), and nobody is believed who has not signed.
pub fn content(data: &[u8]) {
    let Some((cut, content)) = data.split_first() else { return };
    let Some((runtime, authenticator)) = &*WORLD else { panic!("there is no world to read in") };
    let cut = usize::from(*cut).min(content.len());
    let whole = read(runtime, authenticator, std::iter::once(content));
    let parts = std::iter::once(&content[..cut]).chain(content[cut..].chunks(61));
    assert_eq!(whole, read(runtime, authenticator, parts));
    if let Ok((evidence, _)) = whole {
        assert!(evidence.dkim.iter().all(|signature| signature.verdict != Verdict::Pass), "{evidence:?}");
        assert!(evidence.arc.verdict != Verdict::Pass && evidence.dmarc.verdict != Verdict::Pass, "{evidence:?}");
    }
}
