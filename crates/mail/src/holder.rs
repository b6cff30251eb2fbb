//! For whom a key speaks, and for whom mail waits: a whole domain, or one user of a domain that others use too (TBR §7.4).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::domain::Domain;

/// A domain, or one user of it: written `b.example` or `alice@b.example`.
///
/// The two are never the same: what one user's key has signed, the domain has not, and the other way round.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Holder {
    domain: Domain,
    user: Option<String>,
}

/// The text names neither a domain nor a user of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a domain nor a user of one")]
pub struct NotHolder;

impl Holder {
    /// One user of a domain, by the local part of his mailbox: without sub-address, in lower case, and such as needs no quotes.
    ///
    /// # Errors
    /// [`NotHolder`] for every other name.
    pub fn user(name: &str, domain: Domain) -> Result<Self, NotHolder> {
        let address = Address::new(name, &domain).map_err(|_| NotHolder)?;
        let is_plain = address.local() == name && !name.starts_with('"') && name.to_lowercase() == name;
        if is_plain { Ok(Self { domain, user: Some(name.to_owned()) }) } else { Err(NotHolder) }
    }

    /// The domain, whoever of it that is.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The user's name; none where it is the domain.
    pub fn user_name(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The domain, where it is all of it.
    pub fn whole_domain(&self) -> Option<&Domain> {
        self.user.is_none().then_some(&self.domain)
    }

    /// Is it all of this domain?
    pub fn is_domain(&self, domain: &Domain) -> bool {
        self.whole_domain() == Some(domain)
    }
}

impl From<Domain> for Holder {
    fn from(domain: Domain) -> Self {
        Self { domain, user: None }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "{user}@{}", self.domain),
            None => fmt::Display::fmt(&self.domain, f),
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Holder {
    type Err = NotHolder;
    fn from_str(text: &str) -> Result<Self, NotHolder> {
        let domain = |name: &str| Domain::parse(name).map_err(|_| NotHolder);
        match text.rsplit_once('@') {
            Some((user, name)) => Self::user(user, domain(name)?),
            None => domain(text).map(Self::from),
        }
    }
}

impl TryFrom<String> for Holder {
    type Error = NotHolder;
    fn try_from(text: String) -> Result<Self, NotHolder> {
        text.parse()
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> Self {
        holder.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        Domain::parse("b.example").unwrap()
    }

    #[test]
    fn a_user_is_not_his_domain() {
        let (alice, all) = (Holder::user("alice", domain()).unwrap(), Holder::from(domain()));
        assert_ne!(alice, all);
        assert_ne!(alice, Holder::user("bob", domain()).unwrap());
        assert_eq!((alice.domain(), alice.user_name(), alice.whole_domain()), (&domain(), Some("alice"), None));
        assert!(all.is_domain(&domain()) && !alice.is_domain(&domain()));
    }

    #[test]
    fn text_is_read_as_it_is_written() {
        for text in ["b.example", "alice@b.example", "o'hara.x-1@b.example", "café@b.example"] {
            let holder: Holder = text.parse().unwrap();
            assert_eq!(holder.to_string(), text);
            assert_eq!(serde_json::to_string(&holder).unwrap(), format!("\"{text}\""));
        }
        for bad in
            ["", "@b.example", "alice@", "Alice@b.example", "\"a b\"@b.example", "a b@b.example", "a@b@b.example"]
        {
            assert_eq!(bad.parse::<Holder>(), Err(NotHolder), "{bad}");
        }
    }

    /// Rows from before there were users say only which domain.
    #[test]
    fn a_domain_is_written_as_it_always_was() {
        let read: Holder = serde_json::from_str(&serde_json::to_string(&domain()).unwrap()).unwrap();
        assert_eq!(read, Holder::from(domain()));
    }
}
