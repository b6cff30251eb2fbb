//! The admin API: what `restante queue`, `trace` and `send` ask of a running server.

pub mod api;
mod server;
mod submit;

pub(crate) use server::{Office, ReloadRequest, bind, lookup, serve};
