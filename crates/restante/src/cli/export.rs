//! `restante store export`: the content of a message that is still here, verified as it is written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Response};
use mail::Xuid;
use mail::id::XuidHasher;
use serde::Serialize;

use super::args::{Global, split_number};
use super::client::{self, Client};
use super::output::{Exit, Failure, Outcome, Output};
use crate::admin::api;
use crate::private;

/// A file's name until it is whole.
const PART: &str = "part";
/// Octets that are written at a time.
const CHUNK: usize = 256 * 1024;

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    xuid: Xuid,
    octets: u64,
}

/// Writes it.
pub(super) fn run(id: &str, out: Option<&Path>, global: &Global, output: Output) -> Outcome {
    let client = Client::new(global)?;
    let written = client::runtime()?.block_on(async {
        let path = format!("{}/{}", api::STORE_OBJECTS, split_number(id).0);
        let response = client.send(Method::GET, &path, None, client::empty()).await?;
        if !response.status().is_success() {
            return client::answer(response).await.and_then(|()| Err(Failure::new("the server does not send it")));
        }
        match out {
            Some(file) => into_file(response, file).await,
            None => copy(response, &mut io::stdout().lock(), &|error| not_written("standard output", &error)).await,
        }
    })?;
    if out.is_some() {
        output.print(&written, || format!("{} octets, XUID {}", written.octets, written.xuid));
    }
    Ok(Exit::Done)
}

/// Under another name until it is whole and verified.
async fn into_file(response: Response<Incoming>, file: &Path) -> Result<Written, Failure> {
    let failed = |error: io::Error| not_written(&file.display().to_string(), &error);
    if file.exists() {
        let text = format!("{} is there already: it is not written over", file.display());
        return Err(Failure::new(text).help("name another file"));
    }
    let mut part = file.as_os_str().to_owned();
    part.push(format!(".{PART}"));
    let part = PathBuf::from(part);
    let written = async {
        let mut out = BufWriter::with_capacity(CHUNK, private::open(&part, true).map_err(failed)?);
        let written = copy(response, &mut out, &failed).await?;
        let whole: File = out.into_inner().map_err(|error| failed(error.into_error()))?;
        whole.sync_all().map_err(failed)?;
        fs::rename(&part, file).map_err(failed)?;
        Ok(written)
    };
    let written = written.await;
    if written.is_err() {
        // Half a message, or another one, is none.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Writes what comes, and verifies it.
async fn copy(
    response: Response<Incoming>,
    out: &mut impl Write,
    failed: &impl Fn(io::Error) -> Failure,
) -> Result<Written, Failure> {
    let named = response.headers().get(api::OBJECT_XUID).and_then(|value| value.to_str().ok());
    let named = named.and_then(|text| text.parse::<Xuid>().ok());
    let named = named.ok_or_else(|| Failure::new("the server does not say what it sends"))?;
    let (mut hasher, mut octets) = (XuidHasher::default(), 0);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| client::broken(&error))?;
        let chunk = frame.data_ref().map_or(&[][..], |chunk| &chunk[..]);
        hasher.update(chunk);
        octets += chunk.len() as u64;
        out.write_all(chunk).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    let xuid = hasher.finish();
    if xuid != named {
        let text = format!("the content is damaged: its XUID is {xuid}, and not {named}");
        return Err(Failure::new(text).help("`restante store check` says what else is"));
    }
    Ok(Written { xuid, octets })
}

fn not_written(what: &str, error: &io::Error) -> Failure {
    Failure::new(format!("{what} cannot be written: {error}"))
}
