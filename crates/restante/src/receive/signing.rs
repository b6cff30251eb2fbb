//! Signing what is sent from here, before it is an object: the signatures are part of what is sent, by reference and by value.
//!
//! The signatures stand on top, but are known last; so content is read once more and written below them. How to sign is
//! `net::authentication::signer`'s; headers in memory count against the memory that it shares with what is received.

use std::collections::HashMap;

use mail::ledger::{ObjectRef, Route, Target};
use mail::object::Checked;
use mail::{Address, Domain};
use net::authentication::Authenticator;
use net::authentication::content::{Content, ContentFault, ContentReader, MAX_HEADER, end_of_header};
use net::authentication::seal::Sealed;
use net::authentication::signer::{Signer, SigningFault};
use policy::evidence::Verdict;
use store::{Store, StoreError};
use tracing::warn;

use super::Approved;
use crate::compose;
use crate::live::Live;
use crate::runtime::now;

/// Who signs for which domain.
#[derive(Clone)]
pub(crate) struct Signers {
    by_domain: Live<HashMap<Domain, Signer>>,
    authenticator: Authenticator,
}

/// Why a message could not be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSigned {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The library.
    #[error(transparent)]
    Signing(#[from] SigningFault),
    /// No memory for its header now.
    #[error(transparent)]
    Content(#[from] ContentFault),
}

impl Signers {
    /// `authenticator` has the memory for headers.
    pub(crate) fn new(by_domain: HashMap<Domain, Signer>, authenticator: Authenticator) -> Self {
        Self { by_domain: Live::new(by_domain), authenticator }
    }

    /// Other keys from now on.
    pub(crate) fn replace(&self, by_domain: HashMap<Domain, Signer>) {
        self.by_domain.replace(by_domain);
    }

    /// Does nobody sign here?
    pub(crate) fn is_empty(&self) -> bool {
        self.by_domain.get().is_empty()
    }

    /// Signs a finished object for the domain of its author, where there is a key for it or for a domain above. Answers the
    /// object that takes its place; it is kept coded where that is asked for.
    pub(crate) async fn sign(
        &self,
        store: &Store,
        object: ObjectRef,
        checked: Checked,
        is_coded: bool,
    ) -> Result<(ObjectRef, Checked), NotSigned> {
        let signers = self.by_domain.get();
        if signers.is_empty() {
            return Ok((object, checked));
        }
        let signed = self.signed(&signers, store, &object, is_coded).await;
        match signed {
            Ok(None) => return Ok((object, checked)),
            // Whatever came of it, nobody will commit the unsigned one.
            Ok(Some(_)) | Err(_) => store.discard(&object),
        }
        signed.map(|signed| signed.unwrap_or((object, checked)))
    }

    /// Another object, with signatures on top; `None` where nobody signs for the author, or the header does not end.
    async fn signed(
        &self,
        signers: &HashMap<Domain, Signer>,
        store: &Store,
        object: &ObjectRef,
        is_coded: bool,
    ) -> Result<Option<(ObjectRef, Checked)>, NotSigned> {
        let begin = object.size.min(MAX_HEADER as u64);
        let mut drawn = self.authenticator.draw(usize::try_from(begin).unwrap_or(MAX_HEADER))?;
        let mut head = store.read(object, 0..begin).await?.collect(begin).await?.to_vec();
        let Some(end) = end_of_header(&head, 0) else { return Ok(None) };
        head.truncate(end);
        let Some(signer) = of(signers, &head) else { return Ok(None) };
        // Each signature keeps the header until it is made.
        drawn.merge(self.authenticator.draw(signer.keys() * end)?);
        let mut signing = signer.begin();
        signing.push(&head);
        let mut source = store.read(object, end as u64..object.size).await?;
        while let Some(chunk) = source.next_chunk().await? {
            signing.push(&chunk);
        }
        let fields = signing.finish()?;
        let mut writer = if is_coded { store.create_coded() } else { store.create() };
        writer.write(fields.as_bytes()).await?;
        let mut source = store.read(object, 0..object.size).await?;
        while let Some(chunk) = source.next_chunk().await? {
            writer.write(&chunk).await?;
        }
        Ok(Some(writer.finish().await?))
    }

    /// Does anybody seal what this domain forwards?
    pub(crate) fn seals(&self, domain: &Domain) -> bool {
        at_or_above(&self.by_domain.get(), domain).is_some()
    }

    /// An ARC set (RFC 8617) for what this domain forwards; empty where nobody seals for it or no set may be added. `content` was
    /// read to be sealed.
    pub(crate) fn seal(&self, domain: &Domain, content: &Content, approved: &Approved) -> String {
        self.seal_with(domain, content, &approved.results, approved.chain)
    }

    fn seal_with(&self, domain: &Domain, content: &Content, results: &str, chain: Verdict) -> String {
        let signers = self.by_domain.get();
        let Some(signer) = at_or_above(&signers, domain) else { return String::new() };
        signer.seal(content, results, chain, now()).unwrap_or_else(|error| {
            warn!(%error, "what is forwarded is not sealed");
            String::new()
        })
    }

    /// The set of ours that these fields begin with, and a reader for what takes the place of the content below; `None` where there
    /// is no such set, or nobody seals for its domain any more.
    pub(crate) fn seals_again(&self, above: &str) -> Option<(Sealed, ContentReader)> {
        let sealed = Sealed::on_top_of(above).filter(|sealed| self.seals(&sealed.domain))?;
        Some((sealed, self.authenticator.content().to_be_sealed()))
    }

    /// The same set, of content in another form; empty as in [`Signers::seal`].
    pub(crate) fn seal_again(&self, sealed: &Sealed, content: &Content) -> String {
        self.seal_with(&sealed.domain, content, &sealed.results, sealed.chain)
    }

    /// Signatures for a message of this server's own, such as a report, to stand on top of it; empty where nobody signs for its
    /// author. What cannot be signed goes without.
    pub(crate) fn fields(&self, message: &[u8]) -> String {
        let signers = self.by_domain.get();
        let end = end_of_header(message, 0).unwrap_or(message.len());
        let Some(signer) = of(&signers, &message[..end]) else { return String::new() };
        let mut signing = signer.begin();
        signing.push(message);
        signing.finish().unwrap_or_else(|error| {
            warn!(%error, "a message of this server's own is not signed");
            String::new()
        })
    }
}

/// For which of our domains a message is forwarded: the first of them an alias of which leads to other servers.
pub(crate) fn forwarder<'a>(mut recipients: impl Iterator<Item = (&'a Address, &'a [Target])>) -> Option<Domain> {
    let elsewhere = |address: &Address, target: &Target| {
        target.address != *address && matches!(target.route, Route::Mx(_) | Route::Relay(_))
    };
    let found = recipients.find(|(address, targets)| targets.iter().any(|target| elsewhere(address, target)));
    found.and_then(|(address, _)| address.domain())
}

/// Who signs for the author in this header.
fn of<'s>(signers: &'s HashMap<Domain, Signer>, head: &[u8]) -> Option<&'s Signer> {
    let authors = compose::authors(head).ok().flatten()?;
    at_or_above(signers, &authors.first()?.domain()?)
}

fn at_or_above<'s>(signers: &'s HashMap<Domain, Signer>, domain: &Domain) -> Option<&'s Signer> {
    std::iter::successors(Some(domain.clone()), Domain::parent).find_map(|domain| signers.get(&domain))
}
