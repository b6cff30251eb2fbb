//! Who signs references, one by one, for programs that load a server with them.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use bytes::Bytes;
use mail::{Address, Domain, Envelope, Grant, MailParams, Recipient, ReferenceId, Timestamp, Xuid};
use reference::{RecipientsHash, SigningKey, Statement, Uri};
use smtp::command::Tbr;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Who signs, and for whom.
pub(crate) struct Author {
    key: SigningKey,
    domain: Domain,
    pub(crate) envelope: Envelope,
    to: Domain,
}

impl Author {
    /// alice at a domain, with the key in this file, to bob at another.
    pub(crate) fn new(key: &str, from: &str, to: &str) -> Result<Self> {
        let pem = std::fs::read_to_string(key)?;
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let key = SigningKey::from_pkcs8(&base64::engine::general_purpose::STANDARD.decode(base64)?)?;
        Self::with(key, from, to)
    }

    /// The same with this key.
    pub(crate) fn with(key: SigningKey, from: &str, to: &str) -> Result<Self> {
        let (domain, to) = (Domain::parse(from)?, Domain::parse(to)?);
        let sender: Address = format!("alice@{domain}").parse()?;
        let recipient: Address = format!("bob@{to}").parse()?;
        Ok(Self { key, domain, envelope: envelope(sender, recipient), to })
    }

    /// The TBR line and the block of a reference that nobody has seen before, to an object of so many octets.
    pub(crate) fn offer(&self, octets: u64) -> Result<(Tbr, Bytes)> {
        let (mut id, mut secret) = ([0; 16], [0; 16]);
        aws_lc_rs::rand::fill(&mut id)?;
        aws_lc_rs::rand::fill(&mut secret)?;
        let grant = Grant::new(&secret).ok_or("no grant")?;
        let (id, xuid) = (ReferenceId(id), Xuid::of(b"whatever it is"));
        let issued = Timestamp::from_secs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
        let addresses = self.envelope.recipients.iter().map(|recipient| &recipient.address);
        let statement = Statement {
            domain: self.domain.clone(),
            selector: "k1".parse()?,
            algorithm: self.key.algorithm(),
            id,
            xuid,
            size: octets,
            issued,
            expires: issued.after(Duration::from_secs(24 * 3600)),
            to: self.to.clone(),
            mail_from: self.envelope.mail_from.clone(),
            recipients: RecipientsHash::compute(&grant, &id, addresses),
        };
        let uri = Uri { host: Domain::parse(&format!("tbr.{}", self.domain))?, xuid, grant };
        Ok((Tbr::parse(&format!("0 {}", uri.reveal()))?, Bytes::from(statement.sign(&self.key)?.encode())))
    }
}

pub(crate) fn envelope(sender: Address, recipient: Address) -> Envelope {
    let recipients = vec![Recipient::plain(recipient)];
    Envelope { mail_from: Some(sender), params: MailParams::default(), recipients }
}
