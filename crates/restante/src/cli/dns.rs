//! `restante dns`: the records that the domains of the configuration need, printed, or compared with what the world sees.

use mail::{Domain, mta_sts};
use net::mta_sts::{Found, MtaSts};
use net::tls::Trust;
use serde::Serialize;

use super::args::{DnsArgs, DnsCommand, Global};
use super::client;
use super::document;
use super::humane::now;
use super::output::{Exit, Failure, Outcome, Output};
use crate::config::{Config, LocalDomain};
use crate::records::compare::{Finding, Verdict, compare};
use crate::records::{self, Missing, Record, zone};

/// Carries a command out.
pub(super) fn run(command: &DnsCommand, global: &Global, output: Output) -> Outcome {
    match command {
        DnsCommand::Print(args) => print(args, global, output),
        DnsCommand::Check(args) => check(args, global, output),
    }
}

fn print(args: &DnsArgs, global: &Global, output: Output) -> Outcome {
    let (config, records) = wanted(args, global)?;
    let missing = records::missing(&config, args.domain.as_ref());
    output.print(&records, || zone::text(&records, &missing));
    Ok(Exit::Done)
}

fn wanted(args: &DnsArgs, global: &Global) -> Result<(Config, Vec<Record>), Failure> {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let only: Option<&Domain> = args.domain.as_ref();
    if let Some(domain) = only.filter(|domain| !config.is_ours(domain)) {
        let failure = Failure::usage(format!("{domain} is no [[domain]] of {}", config.origin.display()));
        return Err(failure.help(format!("how mail to it would go: restante check peer {domain}")));
    }
    let records = records::wanted(&config, only, now()).map_err(|error| Failure::usage(error.to_string()))?;
    Ok((config, records))
}

/// What `check` found.
#[derive(Debug, Serialize)]
struct Report {
    /// Is everything as it should be?
    verdict: Verdict,
    /// Record by record.
    records: Vec<Finding>,
    /// What there is no setting for, so that no record was looked for.
    missing: Vec<Missing>,
}

fn check(args: &DnsArgs, global: &Global, output: Output) -> Outcome {
    let (config, records) = wanted(args, global)?;
    let findings = client::runtime()?.block_on(async {
        let resolver = crate::server::resolver(&config);
        let resolver = resolver.map_err(|error| Failure::usage(error.to_string()))?;
        let mut findings = compare(&records, &resolver, now()).await;
        let trust = config.outgoing.ca_file.clone().map_or(Trust::System, Trust::CaFile);
        let policies = crate::server::mta_sts(&config, &trust, &resolver, None);
        let policies = policies.map_err(|error| Failure::usage(format!("{error:#}")))?;
        let repositories = crate::server::repository_client(&config, &trust, &resolver);
        let repositories = repositories.map_err(|error| Failure::usage(format!("{error:#}")))?;
        for domain in config.domains.values() {
            policy(domain, &policies, &mut findings).await;
            document::check(domain, &resolver, &repositories, &mut findings).await;
        }
        Ok::<_, Failure>(findings)
    })?;
    let has = |verdict| findings.iter().any(|finding: &Finding| finding.verdict == verdict);
    let (verdict, exit) = match () {
        () if has(Verdict::Change) => (Verdict::Change, Exit::Failed),
        () if has(Verdict::Unknown) => (Verdict::Unknown, Exit::Later),
        () => (Verdict::Good, Exit::Done),
    };
    let missing = records::missing(&config, args.domain.as_ref());
    let report = Report { verdict, records: findings, missing };
    output.print(&report, || text(&report));
    Ok(exit)
}

/// What is served at `mta-sts.<domain>` must be the domain's policy.
async fn policy(domain: &LocalDomain, policies: &MtaSts, findings: &mut [Finding]) {
    let (Some(ours), Ok(host)) = (&domain.mta_sts, domain.name.child(mta_sts::HOST_LABEL)) else { return };
    let Some(finding) = findings.iter_mut().find(|finding| finding.record.name == host) else { return };
    let wrong = match policies.find(&domain.name, now()).await {
        Found::Policy(found) if found == *ours => return,
        Found::Policy(found) => format!("another policy is served there, in mode {}", found.mode),
        // The record is missing, and asked for by itself.
        Found::None => return,
        Found::Unfetched(why) => format!("the policy cannot be fetched as others would: {why}"),
    };
    (finding.verdict, finding.advice) = (Verdict::Change, Some(wrong));
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report.records.iter().flat_map(finding_lines).collect();
    lines.extend(report.missing.iter().map(|missing| format!("missing  {}", missing.advice)));
    let count = |verdict| report.records.iter().filter(|finding| finding.verdict == verdict).count();
    lines.push(match (count(Verdict::Change), count(Verdict::Unknown)) {
        (0, 0) => "Everything is published as it should be.".to_owned(),
        (0, unknown) => format!("{unknown} of {} could not be looked up now.", report.records.len()),
        (change, _) => format!("{change} of {} should be changed.", report.records.len()),
    });
    lines.join("\n")
}

fn finding_lines(finding: &Finding) -> Vec<String> {
    let word = match finding.verdict {
        Verdict::Good => "good",
        Verdict::Change => "CHANGE",
        Verdict::Unknown => "unknown",
    };
    let (name, kind) = (&finding.record.name, finding.record.kind());
    let mut lines = vec![format!("{word:<8} {name} {kind}")];
    // What is good needs no proof.
    if finding.verdict == Verdict::Change {
        lines.extend(finding.found.iter().map(|found| format!("         seen: {found}")));
    }
    lines.extend(finding.advice.iter().map(|advice| format!("         {advice}")));
    lines
}
