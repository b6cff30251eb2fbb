//! Who has signed a request, once that was verified: what a bound grant asks for.

use mail::Domain;

/// The domains whose signatures of a request verify, and the host that it was made for; by default nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedBy(Vec<(Domain, Domain)>);

impl SignedBy {
    /// A key of this domain has signed the request to this host.
    pub fn add(&mut self, domain: Domain, host: Domain) {
        self.0.push((domain, host));
    }

    /// Has this domain signed the request, to whatever host?
    pub fn is_by_domain(&self, domain: &Domain) -> bool {
        self.0.iter().any(|(by, _)| by == domain)
    }

    /// Has this domain signed the request, to this very host? A repository that is sent a signed request could send it
    /// on to another: the host keeps it from that.
    pub fn is_by(&self, domain: &Domain, host: &Domain) -> bool {
        self.0.iter().any(|(by, to)| by == domain && to == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_and_host_count() {
        let name = |text: &str| Domain::parse(text).unwrap();
        let (b, host) = (name("b.example"), name("tbr.a.example"));
        let mut signed = SignedBy::default();
        assert!(!signed.is_by(&b, &host));
        signed.add(b.clone(), host.clone());
        assert!(signed.is_by(&b, &host));
        assert!(!signed.is_by(&name("c.example"), &host));
        assert!(!signed.is_by(&b, &name("tbr.c.example")));
    }
}
