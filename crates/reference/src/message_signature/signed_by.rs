//! Who has signed a request, once that was verified: what a bound grant asks for.

use mail::{Domain, Holder};

/// Those whose signatures of a request verify, and the host that it was made for; by default nobody. A user's key speaks for him alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedBy(Vec<(Holder, Domain)>);

impl SignedBy {
    /// A key of this domain, or of this user, has signed the request to this host.
    pub fn add(&mut self, holder: impl Into<Holder>, host: Domain) {
        self.0.push((holder.into(), host));
    }

    /// Has this domain signed the request, to whatever host? A user of it is not the domain.
    pub fn is_by_domain(&self, domain: &Domain) -> bool {
        self.0.iter().any(|(by, _)| by.is_domain(domain))
    }

    /// Has this very domain or user signed the request, to this very host? A repository that is sent a signed request could send it
    /// on to another: the host keeps it from that.
    pub fn is_by(&self, holder: &Holder, host: &Domain) -> bool {
        self.0.iter().any(|(by, to)| by == holder && to == host)
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
        let all = Holder::from(b.clone());
        assert!(!signed.is_by(&all, &host));
        signed.add(b.clone(), host.clone());
        assert!(signed.is_by(&all, &host) && signed.is_by_domain(&b));
        assert!(!signed.is_by(&name("c.example").into(), &host));
        assert!(!signed.is_by(&all, &name("tbr.c.example")));
    }

    #[test]
    fn a_user_signs_for_himself_alone() {
        let name = |text: &str| Domain::parse(text).unwrap();
        let (b, host) = (name("b.example"), name("tbr.a.example"));
        let user = |user: &str| Holder::user(user, b.clone()).unwrap();
        let mut signed = SignedBy::default();
        signed.add(user("alice"), host.clone());
        assert!(signed.is_by(&user("alice"), &host));
        assert!(!signed.is_by(&user("bob"), &host));
        assert!(!signed.is_by(&b.clone().into(), &host), "a user's key is not his domain's");
        assert!(!signed.is_by_domain(&b), "a user's key is not his domain's");
        let mut of_domain = SignedBy::default();
        of_domain.add(b.clone(), host.clone());
        assert!(!of_domain.is_by(&user("alice"), &host), "nor is his domain's his");
    }
}
