//! `restante bundle export` and `import`: mail for links without TCP, in files.
//!
//! The server writes and reads bundles; here are the files. Where no server runs, one runs for as long as it takes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Response, StatusCode};
use indicatif::ProgressBar;
use reference::bundle::End;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::args::{BundleCommand, BundleExportArgs, BundleImportArgs, Global};
use super::client::{self, Body, Client};
use super::humane;
use super::output::{Exit, Failure, Outcome, Output};
use super::sync::{self, Deliveries};
use crate::admin::api::{self, Exported, Imported, UnderWay};
use crate::bundle::archive::is_bundle;
use crate::config::format_size;
use crate::private;

/// Octets read from a file at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks that wait for the connection.
const WAITING: usize = 4;
/// Between two looks at what is still to be delivered.
const PAUSE: Duration = Duration::from_millis(100);
/// An answer that has not come by then is waiting for deliveries, which is said.
const AT_ONCE: Duration = Duration::from_secs(1);
/// What a file is called until it is whole.
const PART: &str = "part";

/// A bundle that was written.
#[derive(Debug, Serialize)]
struct Written {
    /// Nothing: there was nothing to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(flatten)]
    exported: Exported,
}

/// What `export` prints.
#[derive(Debug, Serialize)]
struct ExportReport {
    bundles: Vec<Written>,
    /// There is more than found room.
    more: bool,
}

/// A bundle that was read.
#[derive(Debug, Serialize)]
struct ReadFile {
    file: PathBuf,
    #[serde(flatten)]
    imported: Imported,
}

/// What `import` prints.
#[derive(Debug, Serialize)]
struct ImportReport {
    bundles: Vec<ReadFile>,
    /// What is left to claim and deliver of all that is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<UnderWay>,
}

/// Carries a command out.
pub(super) fn run(command: &BundleCommand, global: &Global, output: Output) -> Outcome {
    match command {
        BundleCommand::Export(args) => {
            let report = sync::with_server(global, Deliveries::Wait, |client| export(client, args, output))?;
            output.print(&report, || export_text(&report));
            Ok(export_exit(&report))
        }
        BundleCommand::Import(args) => {
            let report = sync::with_server(global, Deliveries::Begin, |client| import(client, args, output))?;
            output.print(&report, || import_text(&report));
            Ok(import_exit(&report))
        }
    }
}

fn export(client: &Client, args: &BundleExportArgs, output: Output) -> Result<ExportReport, Failure> {
    let (mut bundles, mut after) = (Vec::<Written>::new(), None::<String>);
    let (into_folder, began) = (args.out.is_dir(), humane::now().as_secs());
    loop {
        let number = bundles.len() + 1;
        let file = match into_folder {
            true => args.out.join(format!("{}-{began}-{number:03}.tar", args.site)),
            false => args.out.clone(),
        };
        let written = client::runtime()?.block_on(export_one(client, args, after.as_deref(), &file, output))?;
        // The last one of several may be empty: what was there has been fetched meanwhile.
        let is_empty = written.file.is_none();
        after.clone_from(&written.exported.next);
        if !is_empty || bundles.is_empty() || written.exported.under_way > 0 {
            bundles.push(written);
        }
        if is_empty || after.is_none() || !into_folder {
            return Ok(ExportReport { bundles, more: after.is_some() });
        }
    }
}

async fn export_one(
    client: &Client,
    args: &BundleExportArgs,
    after: Option<&str>,
    file: &Path,
    output: Output,
) -> Result<Written, Failure> {
    let mut path = format!("{}?site={}", api::BUNDLE, args.site);
    path.extend(args.custodian.iter().map(|host| format!("&custodian={host}")));
    path.extend(args.limit.iter().map(|limit| format!("&limit={limit}")));
    // Keys of rows: letters, digits and slashes.
    path.extend(after.iter().map(|after| format!("&after={after}")));
    let response = patiently(client.send(Method::GET, &path, None, client::empty()), output).await?;
    if !response.status().is_success() {
        return client::answer(response).await.map(|exported| Written { file: None, exported });
    }
    let summary = response.headers().get(api::BUNDLE_SUMMARY).and_then(|value| value.to_str().ok());
    let exported = summary.and_then(api::decode_summary);
    let exported = exported.ok_or_else(|| Failure::new("the server does not say what is in the bundle"))?;
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(Written { file: None, exported });
    }
    let bar = output.bar(exported.octets);
    write(file, response, &bar).await?;
    bar.finish_and_clear();
    Ok(Written { file: Some(file.to_owned()), exported })
}

/// Says what it waits for where an answer takes its time.
async fn patiently<T>(answer: impl Future<Output = T>, output: Output) -> T {
    let mut answer = pin!(answer);
    if let Ok(at_once) = timeout(AT_ONCE, &mut answer).await {
        return at_once;
    }
    if !output.json {
        eprintln!("restante: waiting a moment for what is being sent just now");
    }
    answer.await
}

/// Writes the file under another name, syncs it, and then gives it its own: what has that is whole.
async fn write(file: &Path, response: Response<Incoming>, bar: &ProgressBar) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format!("{} cannot be written: {error}", file.display()));
    spare(file)?;
    let mut part = file.as_os_str().to_owned();
    part.push(format!(".{PART}"));
    let part = PathBuf::from(part);
    let written = async {
        let mut out = BufWriter::with_capacity(CHUNK, private::open(&part, true).map_err(failed)?);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| client::broken(&error))?;
            let octets = frame.data_ref().map_or(&[][..], |octets| &octets[..]);
            out.write_all(octets).map_err(failed)?;
            bar.inc(octets.len() as u64);
        }
        out.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
        fs::rename(&part, file).map_err(failed)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(failed)
    };
    let written = written.await;
    if written.is_err() {
        // Leaving it would only take room.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Only an earlier bundle is written over.
fn spare(file: &Path) -> Result<(), Failure> {
    let mut head = Vec::new();
    match File::open(file).and_then(|found| found.take(512).read_to_end(&mut head)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) if is_bundle(&head) => Ok(()),
        Ok(_) => {
            let text = format!("{} is there, and is no bundle: it is not written over", file.display());
            Err(Failure::new(text).help("name another file, or a folder"))
        }
        Err(error) => Err(Failure::new(format!("{}: {error}", file.display()))),
    }
}

fn import(client: &Client, args: &BundleImportArgs, output: Output) -> Result<ImportReport, Failure> {
    let mut bundles = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let imported = client::runtime()?.block_on(import_one(client, file, output))?;
        bundles.push(ReadFile { file: file.clone(), imported });
    }
    // A custodian has mail of its own on the way at any time.
    let for_us = |imported: &Imported| imported.from == End::Custodian && imported.messages + imported.known > 0;
    let brought = bundles.iter().any(|read| for_us(&read.imported));
    let left = brought.then(|| wait(client, args.limit)).transpose()?;
    Ok(ImportReport { bundles, left })
}

async fn import_one(client: &Client, file: &Path, output: Output) -> Result<Imported, Failure> {
    let failed = |error: &io::Error| Failure::new(format!("{} cannot be read: {error}", file.display()));
    let opened = File::open(file).map_err(|error| failed(&error))?;
    let size = opened.metadata().map_err(|error| failed(&error))?.len();
    let bar = output.bar(size);
    let response = client.send(Method::POST, api::BUNDLE, None, body(opened, bar.clone())).await?;
    bar.finish_and_clear();
    client::answer(response).await.map_err(|failure: Failure| {
        let message = format!("{}: {}", file.display(), failure.message);
        Failure { message, ..failure }
    })
}

/// The file's octets; read by a thread of its own.
fn body(mut file: File, bar: ProgressBar) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut next = || {
            let mut chunk = vec![0; CHUNK];
            let length = file.read(&mut chunk)?;
            chunk.truncate(length);
            Ok(Bytes::from(chunk))
        };
        loop {
            let read = next();
            let octets = read.as_ref().map_or(0, Bytes::len);
            bar.inc(octets as u64);
            let is_end = matches!(&read, Ok(chunk) if chunk.is_empty());
            // Nobody may be there any more to hear of it.
            if is_end || sender.blocking_send(read).is_err() || octets == 0 {
                return;
            }
        }
    });
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((chunk.map(Frame::data), receiver))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// Waits until everything that is here is in its mailboxes; what is left at the limit. That the custodian knows takes the way
/// back.
fn wait(client: &Client, limit: Duration) -> Result<UnderWay, Failure> {
    let began = Instant::now();
    loop {
        let left: UnderWay = client.ask(Method::GET, api::UNDER_WAY)?;
        if left.to_claim + left.to_deliver == 0 || began.elapsed() >= limit {
            return Ok(left);
        }
        thread::sleep(PAUSE);
    }
}

fn import_exit(report: &ImportReport) -> Exit {
    let any = |wanted: fn(&Imported) -> bool| report.bundles.iter().any(|read| wanted(&read.imported));
    let is_left = report.left.as_ref().is_some_and(|left| left.to_claim + left.to_deliver > 0);
    if any(|imported| !imported.whole || imported.refused > 0) {
        Exit::Failed
    } else if is_left || any(|imported| imported.later > 0) {
        Exit::Later
    } else {
        Exit::Done
    }
}

fn under_way(report: &ExportReport) -> u64 {
    report.bundles.iter().map(|written| written.exported.under_way).sum()
}

fn export_exit(report: &ExportReport) -> Exit {
    if under_way(report) > 0 { Exit::Later } else { Exit::Done }
}

fn export_text(report: &ExportReport) -> String {
    let mut lines: Vec<String> = report.bundles.iter().map(written_line).collect();
    match under_way(report) {
        0 => {}
        1 => lines.push("1 message is being sent just now, and is not in it: run it again.".to_owned()),
        n => lines.push(format!("{n} messages are being sent just now, and are not in it: run it again.")),
    }
    if report.more {
        lines.push("More waits than found room: give a larger --limit, or a folder for several files.".to_owned());
    }
    lines.join("\n")
}

fn written_line(Written { file, exported }: &Written) -> String {
    let Exported { site, custodian, from, messages, answers, heard, taken, octets, too_large, under_way, .. } =
        exported;
    let (whose, other) = match from {
        End::Custodian => (format!("for {site}"), "the site has nothing to fetch"),
        End::Site => (format!("of {site} for {custodian}"), "the custodian knows everything"),
    };
    let mut line = match file {
        None if *under_way > 0 => format!("Nothing to write {whose} yet."),
        None => format!("Nothing to write {whose}: {other}."),
        Some(file) => {
            let acknowledged = heard + taken;
            let parts = [(messages, "message(s)"), (answers, "answer(s)"), (&acknowledged, "acknowledgement(s)")];
            let parts = parts.iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!("{count} {what}"));
            let parts: Vec<String> = parts.collect();
            format!("{}: {} {whose}, {}", file.display(), parts.join(", "), format_size(*octets))
        }
    };
    if *too_large > 0 {
        line.push_str(&format!(" {too_large} message(s) are larger than the limit by themselves."));
    }
    line
}

fn import_text(report: &ImportReport) -> String {
    let mut lines: Vec<String> = report.bundles.iter().map(read_lines).collect();
    if let Some(left) = report.left.as_ref().filter(|left| left.to_claim + left.to_deliver > 0) {
        lines.push(format!("{} to deliver yet.", left.to_claim + left.to_deliver));
    }
    lines.join("\n")
}

fn read_lines(ReadFile { file, imported }: &ReadFile) -> String {
    let parts = [
        (imported.messages, "new message(s)"),
        (imported.known, "known already"),
        (imported.missing, "without their content"),
        (imported.later, "cannot be judged now"),
        (imported.refused, "refused, see the log"),
        (imported.claims, "claim(s)"),
        (imported.receipts, "receipt(s)"),
        (imported.unknown, "answer(s) to nothing known here"),
        (imported.heard + imported.taken, "acknowledgement(s)"),
    ];
    let words: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let words = if words.is_empty() { "nothing new".to_owned() } else { words.join(", ") };
    let mut line = format!("{}: {words}", file.display());
    if let Some(error) = &imported.error {
        line.push_str(&format!("\n  not read to its end: {error}; what stands before that was taken"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(under_way: u64) -> ExportReport {
        let (site, custodian) = ("site.example".parse().unwrap(), "tbr.site.example".parse().unwrap());
        let exported = Exported { under_way, ..Exported::new(site, custodian, End::Site) };
        ExportReport { bundles: vec![Written { file: None, exported }], more: false }
    }

    #[test]
    fn what_is_left_out_is_said() {
        let (nothing, some) = (report(0), report(2));
        assert_eq!((export_exit(&nothing), export_exit(&some)), (Exit::Done, Exit::Later));
        assert_eq!(
            export_text(&nothing),
            "Nothing to write of site.example for tbr.site.example: the custodian knows everything."
        );
        assert_eq!(
            export_text(&some),
            "Nothing to write of site.example for tbr.site.example yet.\n\
             2 messages are being sent just now, and are not in it: run it again."
        );
    }
}
