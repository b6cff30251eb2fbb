//! `restante store check`: by itself, or by the server that has the store open. `restante store hold` and `export`: by the server.

use http_body_util::BodyExt as _;
use hyper::Method;
use indicatif::ProgressBar;
use store::{EmbeddedConfig, Store, StoreError};

use super::args::{Global, HoldArgs, HoldCommand, StoreCommand, split_number};
use super::client::{self, Client};
use super::export;
use super::humane;
use super::output::{Exit, Failure, Outcome, Output};
use crate::admin::api::{self, CheckLine, HoldList, HoldWish, StoreReport};
use crate::config::{Config, StoreKind, format_size};

/// Carries a command out.
pub(super) fn run(command: &StoreCommand, global: &Global, output: Output) -> Outcome {
    let repair = match command {
        StoreCommand::Check { repair } => repair,
        StoreCommand::Hold(args) => return hold(args, global, output),
        StoreCommand::Export { id, out } => return export::run(id, out.as_deref(), global, output),
    };
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let bar = output.bar(0);
    let report = client::runtime()?.block_on(check(&config, global, *repair, &bar))?;
    bar.finish_and_clear();
    output.print(&report, || text(&report, *repair));
    Ok(if report.clean { Exit::Done } else { Exit::Failed })
}

fn hold(args: &HoldArgs, global: &Global, output: Output) -> Outcome {
    let client = Client::new(global)?;
    let list: HoldList = match (&args.command, &args.id) {
        (Some(HoldCommand::List), _) => client.ask(Method::GET, api::STORE_HOLDS)?,
        (Some(HoldCommand::Release { number }), _) => {
            client.ask(Method::POST, &format!("{}/{number}/release", api::STORE_HOLDS))?
        }
        (None, Some(id)) => {
            let wish = HoldWish { id: split_number(id).0.to_owned(), until: args.until, why: args.why.clone() };
            client.ask_with(api::STORE_HOLDS, &wish)?
        }
        (None, None) => {
            let help = "give the id of a message, or `list`, or `release NUMBER`";
            return Err(Failure::new("what is to be held?").help(help));
        }
    };
    output.print(&list, || hold_text(&list));
    Ok(Exit::Done)
}

fn hold_text(list: &HoldList) -> String {
    let mut table = humane::table(&["hold", "message", "octets", "since", "until", "why"], &[0, 2]);
    for hold in &list.holds {
        let until = hold.until.map_or_else(|| "released".to_owned(), humane::date);
        let (since, octets) = (humane::date(hold.at), hold.object.size.to_string());
        table.add_row([hold.number.to_string(), hold.id.to_string(), octets, since, until, hold.why.clone()]);
    }
    let record = match list.records {
        0 => "Nothing was ever held.".to_owned(),
        records => format!("{} held; {records} records, digest {}", list.holds.len(), list.digest),
    };
    if list.holds.is_empty() { record } else { format!("{table}\n{record}") }
}

async fn check(config: &Config, global: &Global, repair: bool, bar: &ProgressBar) -> Result<StoreReport, Failure> {
    let socket = global.socket.as_deref().unwrap_or(&config.admin_socket);
    if config.store.kind == StoreKind::Memory {
        return by_server(&Client::at(socket), repair, bar).await;
    }
    let directory = config.store_dir();
    if !directory.is_dir() {
        let help = "it is made when the server is started for the first time";
        return Err(Failure::new(format!("there is no store at {}", directory.display())).help(help));
    }
    match Store::open(EmbeddedConfig::new(directory)).await {
        Ok(store) => {
            let progress = |p: store::Progress| shown(bar, p.rows, p.of_rows, p.octets);
            let report = store.check(repair, progress).await.map_err(|error| Failure::new(error.to_string()))?;
            store.close().await;
            Ok(report.into())
        }
        Err(StoreError::Locked { .. }) => by_server(&Client::at(socket), repair, bar).await,
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

fn shown(bar: &ProgressBar, rows: u64, of_rows: u64, octets: u64) {
    bar.set_length(of_rows.max(rows));
    bar.set_position(rows);
    bar.set_message(format!("{rows} of {of_rows} rows, {} read", format_size(octets)));
}

async fn by_server(client: &Client, repair: bool, bar: &ProgressBar) -> Result<StoreReport, Failure> {
    let path = format!("{}?repair={repair}", api::STORE_CHECK);
    let response = client.send(Method::POST, &path, None, client::empty()).await?;
    if !response.status().is_success() {
        return client::answer(response).await;
    }
    let mut body = response.into_body();
    let mut line = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| client::broken(&error))?;
        for octet in frame.data_ref().into_iter().flatten() {
            if *octet != b'\n' {
                line.push(*octet);
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(CheckLine::Progress { rows, of_rows, octets }) => shown(bar, rows, of_rows, octets),
                Ok(CheckLine::Report(report)) => return Ok(report),
                Ok(CheckLine::Failed(why)) => return Err(Failure::new(why)),
                Err(error) => return Err(Failure::new(format!("the server's answer is not understood: {error}"))),
            }
            line.clear();
        }
    }
    Err(client::broken(&"it ended before the report"))
}

fn text(report: &StoreReport, repair: bool) -> String {
    let mut lines: Vec<String> = report
        .faults
        .iter()
        .map(|fault| {
            let done = match (fault.repaired, fault.set_aside) {
                (true, _) => " (repaired)",
                (false, true) => " (set aside in damaged/; the message has lost its content)",
                (false, false) => "",
            };
            format!("{} {}: {}{done}", fault.kind, fault.subject, fault.detail)
        })
        .collect();
    if report.more_faults > 0 {
        lines.push(format!("and {} more", report.more_faults));
    }
    let looked = format!("{} rows and {} objects, {}", report.rows, report.objects, format_size(report.octets));
    lines.push(match (report.clean, report.faults.is_empty(), repair) {
        (true, true, _) => format!("Everything is in order: {looked}."),
        (true, false, _) => format!("Everything is in order now: {looked}."),
        (false, _, false) => {
            format!("There are faults in {looked}; `restante store check --repair` mends what can be.")
        }
        (false, _, true) => format!(
            "Faults remain that cannot be repaired, in {looked}. A message without its content waits until it expires: put the object \
             back from a backup, or end it with `restante queue fail`."
        ),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::StoreFault;

    #[test]
    fn the_report_ends_in_a_verdict() {
        let mut report =
            StoreReport { clean: true, rows: 2, objects: 1, octets: 4_200, faults: Vec::new(), more_faults: 0 };
        assert_eq!(text(&report, false), "Everything is in order: 2 rows and 1 objects, 4.2 kB.");
        report.clean = false;
        report.faults.push(StoreFault {
            kind: "orphan object".into(),
            subject: "f-1".into(),
            detail: "no row names it".into(),
            repaired: false,
            set_aside: false,
        });
        assert!(text(&report, false).starts_with("orphan object f-1: no row names it\nThere are faults in "));
        report.faults[0].set_aside = true;
        let lost = text(&report, true);
        assert!(lost.contains("(set aside in damaged/; the message has lost its content)\nFaults remain "), "{lost}");
        assert!(!lost.contains("(repaired)"), "{lost}");
    }

    #[test]
    fn a_store_is_checked_without_a_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("restante.toml");
        std::fs::write(&path, "hostname = \"a\"\ndata_dir = \".\"\n").unwrap();
        let global = Global { config: path, json: true, socket: None };
        let command = StoreCommand::Check { repair: false };
        let none = run(&command, &global, Output { json: true }).unwrap_err();
        assert!(none.message.starts_with("there is no store at "), "{}", none.message);
        std::fs::create_dir(directory.path().join("store")).unwrap();
        assert_eq!(run(&command, &global, Output { json: true }), Ok(Exit::Done));
    }
}
