//! What MTA-STS (RFC 8461) makes of connections to a domain's exchangers, where DANE says nothing (§2).

use mail::mta_sts::{Mode, Policy};
use mail::{Domain, EnhancedStatus};

use super::{ConnectError, Inner};
use crate::mta_sts::Found;
use crate::wire::Clock;

/// A domain's policy and one of its exchangers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sts {
    /// There is no policy, or none that demands anything.
    Silent,
    /// Only over TLS with a good certificate.
    Enforced,
    /// A policy under test: mail goes whatever there is.
    Watched,
    /// The policy does not name the host, and forbids it.
    Forbidden,
}

impl Inner {
    /// What the policy of the domain says of this host.
    pub(super) async fn sts(&self, domain: &Domain, host: &Domain) -> Sts {
        let Some(finder) = &self.settings.mta_sts else { return Sts::Silent };
        match finder.find(domain, Clock::new().now()).await {
            Found::Policy(policy) => {
                let sts = of_policy(&policy, host);
                if sts == Sts::Forbidden {
                    self.tell_forbidden(domain, host, &policy);
                }
                sts
            }
            Found::None => Sts::Silent,
            Found::Unfetched(why) => {
                tracing::info!(%domain, %why, "an MTA-STS policy is announced, but cannot be had");
                Sts::Silent
            }
        }
    }
}

fn of_policy(policy: &Policy, host: &Domain) -> Sts {
    match (policy.mode, policy.names(host)) {
        (Mode::None, _) => Sts::Silent,
        (Mode::Enforce, true) => Sts::Enforced,
        (Mode::Enforce, false) => Sts::Forbidden,
        (Mode::Testing, _) => Sts::Watched,
    }
}

/// A host that the policy forbids; the policy may change, or the MX records may have been forged.
pub(super) fn forbidden(domain: &Domain, host: &Domain) -> ConnectError {
    let text = format!("{host} is not among the hosts that the MTA-STS policy of {domain} names");
    ConnectError { temporary: true, text, status: EnhancedStatus::temporary(7, 5) }
}

#[cfg(test)]
mod tests {
    use mail::mta_sts::policy_id;

    use super::*;

    /// Record and policy as RFC 8461 §3.1 and §3.2 have them, in each mode (§5), against hosts that §4.1 tells apart.
    #[test]
    fn the_example_of_the_standard_lets_some_hosts_take_mail_and_others_not() {
        assert_eq!(policy_id(["v=STSv1; id=20160831085700Z;"]), Some("20160831085700Z"));
        let of = |mode: &str, host: &str| {
            let lines = ["mx: mail.example.com", "mx: *.example.net", "mx: backupmx.example.com", "max_age: 604800"];
            let text = format!("version: STSv1\r\nmode: {mode}\r\n{}\r\n", lines.join("\r\n"));
            of_policy(&Policy::parse(text.as_bytes()).unwrap(), &host.parse().unwrap())
        };
        for (host, is_named) in [
            ("mail.example.com", true),
            ("MAIL.example.com", true),
            ("backupmx.example.com", true),
            ("mx1.example.net", true),
            ("example.com", false),
            ("other.example.com", false),
            ("x.mail.example.com", false),
            ("example.net", false),
            ("a.mx1.example.net", false),
            ("mx1example.net", false),
            ("mail.example.com.example.org", false),
        ] {
            let enforced = if is_named { Sts::Enforced } else { Sts::Forbidden };
            let verdicts = ["enforce", "testing", "none"].map(|mode| of(mode, host));
            assert_eq!(verdicts, [enforced, Sts::Watched, Sts::Silent], "{host}");
        }
    }
}
