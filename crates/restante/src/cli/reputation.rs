//! `restante reputation`: how mail of other domains has fared here, and whether it is welcome.

use hyper::Method;

use super::args::{Global, ReputationCommand};
use super::client::Client;
use super::humane;
use super::output::{Exit, Outcome, Output};
use crate::admin::api::{self, DomainStanding};

/// Carries a command out.
pub(super) fn run(command: &ReputationCommand, global: &Global, output: Output) -> Outcome {
    let client = Client::new(global)?;
    let (verb, domain) = match command {
        ReputationCommand::Show { domain } => {
            let query = domain.as_ref().map(|domain| format!("?domain={domain}")).unwrap_or_default();
            let list: Vec<DomainStanding> = client.ask(Method::GET, &format!("{}{query}", api::REPUTATION))?;
            output.print(&list, || list_text(&list, domain.as_ref()));
            return Ok(Exit::Done);
        }
        ReputationCommand::Good { domain } => ("good", domain),
        ReputationCommand::Bad { domain } => ("bad", domain),
    };
    let now: DomainStanding = client.ask(Method::POST, &format!("{}/{verb}/{domain}", api::REPUTATION))?;
    output.print(&now, || format!("{} is {} now, with {} points", now.domain, now.standing.as_str(), now.score));
    Ok(Exit::Done)
}

fn list_text(list: &[DomainStanding], asked: Option<&mail::Domain>) -> String {
    match (list, asked) {
        ([], Some(domain)) => return format!("{domain} is a stranger: nothing is known of its mail."),
        ([], None) => return "Nothing is known yet of any domain's mail.".to_owned(),
        _ => {}
    }
    let mut table = humane::table(&["DOMAIN", "STANDING", "POINTS"], &[2]);
    for entry in list {
        table.add_row([entry.domain.clone(), entry.standing.as_str().to_owned(), entry.score.to_string()]);
    }
    humane::print(&table)
}

#[cfg(test)]
mod tests {
    use policy::reputation::Standing;

    use super::*;

    #[test]
    fn the_list_tells_at_a_glance() {
        let entry = DomainStanding { domain: "a.example".into(), standing: Standing::Known, score: 31 };
        let text = list_text(&[entry], None);
        assert!(
            text.lines().nth(1).is_some_and(|line| line.split_whitespace().eq(["a.example", "known", "31"])),
            "{text}"
        );
        let domain = "b.example".parse().unwrap();
        assert_eq!(list_text(&[], Some(&domain)), "b.example is a stranger: nothing is known of its mail.");
    }
}
