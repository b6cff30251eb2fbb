//! The relay's errand to the origin: to have its hop by reference recorded there (TBR §7.3).
//!
//! When to go and what to conclude is the queue's; whatever goes wrong here means custody instead.

use net::retrieval::{Client, Repository};
use queue::port::{Delegating, JobEvent};
use reference::Block;
use reference::body::Revision1;
use reference::delegate::{DelegateRequest, HopText};

use super::retrieve::as_answer;
use crate::request_keys::RequestKeys;

/// Posts a delegation, signed by the relay's domain.
pub(super) async fn post(client: &Client, keys: &RequestKeys, post: Delegating) -> JobEvent {
    let (d, host, signer) = (post.d.clone(), post.host.clone(), keys.of(&post.to));
    let Some(request) = request(post) else { return failed("the stored hop is not valid") };
    let Some(signer) = signer else { return failed("the domain's key is not here any more") };
    match client.post_delegation(Repository { d: &d, host: &host }, &request, &[signer]).await {
        Ok(word) => as_answer(word).map_or_else(|| failed("no word that counts"), JobEvent::Delegated),
        Err(no_answer) => failed(&no_answer.text),
    }
}

fn request(post: Delegating) -> Option<DelegateRequest> {
    let block = Block::parse(post.block.as_bytes()).ok()?;
    let hop = HopText::new(block.chain().hops().first()?.clone())?;
    let Delegating { instance, to, id, grant, hop_grant, map, .. } = post;
    Some(DelegateRequest { v: Revision1, instance, to, i: id, grant, hop, hop_grant, map })
}

fn failed(text: &str) -> JobEvent {
    JobEvent::PostFailed { text: text.to_owned() }
}
