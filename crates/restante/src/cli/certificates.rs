//! `restante certificates`: what ACME has brought, when it is renewed, and a wish for another one.

use mail::Timestamp;
use net::acme::renewal::Window;
use serde::Serialize;

use super::args::{CertificatesCommand, Global};
use super::humane::{date, now, when};
use super::output::{Exit, Failure, Outcome, Output};
use crate::acme::{Attempts, Standing, Wanted, wanted};
use crate::config::Config;

/// One certificate.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    wanted: Wanted,
    /// What is there; nothing before the first start.
    certificate: Option<Standing>,
    /// When another one is ordered.
    renewal: Option<Timestamp>,
    /// When the authority would like that.
    suggested: Option<Window>,
    attempts: Attempts,
}

/// Carries a command out.
pub(super) fn run(command: &CertificatesCommand, global: &Global, output: Output) -> Outcome {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    if config.acme.is_none() {
        let failure = Failure::usage("there is no [acme] in the configuration".to_owned());
        return Err(failure.help("certificates of [[certificate]] are renewed by whoever made them"));
    }
    match command {
        CertificatesCommand::List => list(&config, output),
        CertificatesCommand::Renew { name } => renew(&config, name.as_deref(), output),
    }
}

fn list(config: &Config, output: Output) -> Outcome {
    let shown = wanted(config).into_iter().map(|wanted| {
        let certificate = wanted.standing(config).ok();
        let advice = wanted.advice(config);
        let renewal = certificate.as_ref().map(|standing| wanted.renew_at(standing, &advice));
        let attempts = wanted.attempts(config);
        Shown { certificate, renewal, suggested: advice.window, attempts, wanted }
    });
    let shown: Vec<Shown> = shown.collect();
    output.print(&shown, || shown.iter().flat_map(|shown| lines(shown, now())).collect::<Vec<_>>().join("\n"));
    Ok(Exit::Done)
}

fn lines(shown: &Shown, now: Timestamp) -> Vec<String> {
    let names: Vec<_> = shown.wanted.names.iter().map(ToString::to_string).collect();
    let state = match (&shown.certificate, shown.renewal) {
        (Some(standing), Some(renewal)) if !standing.stands_in => {
            format!("until {}, renewed {}", date(standing.to), when(renewal, now))
        }
        (Some(_), _) => "not issued yet: one of our own making stands in".to_owned(),
        _ => "not issued yet".to_owned(),
    };
    let mut lines = vec![format!("{}: {state}", names.join(", "))];
    if let Some(window) = &shown.suggested {
        let why = window.explanation.as_ref().map(|page| format!(" ({page})")).unwrap_or_default();
        lines.push(format!("  the authority suggests {} to {}{why}", date(window.start), date(window.end)));
    }
    let attempts = &shown.attempts;
    if attempts.failures > 0 {
        let next = when(attempts.next, now);
        lines.push(format!("  {} failed, next attempt {next}: {}", attempts.failures, attempts.problem));
    }
    lines
}

fn renew(config: &Config, name: Option<&str>, output: Output) -> Outcome {
    let chosen: Vec<Wanted> =
        wanted(config).into_iter().filter(|wanted| name.is_none_or(|name| wanted.name.as_str() == name)).collect();
    if chosen.is_empty() {
        let failure = Failure::usage(format!("there is no certificate named {}", name.unwrap_or_default()));
        return Err(failure.help("`restante certificates list` names them: the first name of each"));
    }
    for wanted in &chosen {
        let attempts = Attempts { wanted: true, next: Timestamp::default(), ..wanted.attempts(config) };
        wanted.remember(config, &attempts).map_err(|error| Failure::new(format!("that cannot be noted: {error}")))?;
    }
    let names: Vec<_> = chosen.iter().map(|wanted| wanted.name.to_string()).collect();
    output.print(&serde_json::json!({ "wanted": names }), || {
        format!(
            "{}: ordered within a minute, if the server is running; `certificates list` shows what came of it",
            names.join(", ")
        )
    });
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mail::Domain;

    use super::*;

    #[test]
    fn what_the_authority_suggests_is_shown_with_its_reason() {
        let (day, name) = (Duration::from_secs(24 * 3600), Domain::parse("mx.a.example").unwrap());
        let at = Timestamp::from_date("2027-01-02").unwrap();
        let why = Some("https://acme.example/why".to_owned());
        let shown = Shown {
            wanted: Wanted { names: vec![name.clone()], name },
            certificate: Some(Standing { from: at, to: at.after(90 * day), names: Vec::new(), stands_in: false }),
            renewal: Some(at.after(day / 2)),
            suggested: Some(Window { start: at, end: at.after(day), explanation: why }),
            attempts: Attempts::default(),
        };
        assert_eq!(
            lines(&shown, at),
            [
                "mx.a.example: until 2027-04-02 00:00:00, renewed in 12 h",
                "  the authority suggests 2027-01-02 00:00:00 to 2027-01-03 00:00:00 (https://acme.example/why)"
            ]
        );
    }
}
