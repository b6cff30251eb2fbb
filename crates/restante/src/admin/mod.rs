//! The admin API: what `restante queue`, `trace` and `send` ask of a running server.

mod accounts;
pub mod api;
mod bundle;
mod holds;
mod link;
mod objects;
mod reputation;
mod server;
mod submit;

pub(crate) use server::{Office, ReloadRequest, bind, lookup, serve};
pub(crate) use submit::take_outbox_at_start;
