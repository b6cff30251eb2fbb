//! The recipients hash `rh` (TBR §4.4): binds a reference to the exact recipients of one transaction without naming
//! them to whoever reads the field.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use mail::base64url::{self, NotCanonical};
use mail::{Address, Grant, ReferenceId};

const LABEL: &[u8] = b"tbr-rh-1\0";

/// The value of tag `rh`: 32 octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecipientsHash([u8; 32]);

impl RecipientsHash {
    /// The hash over every RCPT address of a transaction in the order sent, refused ones included.
    pub fn compute<'a, I>(grant: &Grant, id: &ReferenceId, recipients: I) -> Self
    where
        I: IntoIterator<Item = &'a Address>,
        I::IntoIter: ExactSizeIterator,
    {
        Self::with_secret(grant.as_bytes(), id, recipients)
    }

    /// The same under the opener of a by-value hop, which takes the grant's place (tag `g`, TBR §7.3).
    pub fn compute_opened<'a, I>(opener: &[u8; 16], id: &ReferenceId, recipients: I) -> Self
    where
        I: IntoIterator<Item = &'a Address>,
        I::IntoIter: ExactSizeIterator,
    {
        Self::with_secret(opener, id, recipients)
    }

    /// From octets that were read or computed elsewhere.
    pub fn from_bytes(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn with_secret<'a, I>(secret: &[u8], id: &ReferenceId, recipients: I) -> Self
    where
        I: IntoIterator<Item = &'a Address>,
        I::IntoIter: ExactSizeIterator,
    {
        let recipients = recipients.into_iter();
        let mut list = Context::new(&SHA256);
        list.update(&length(recipients.len()));
        for address in recipients {
            let octets = address.as_str().as_bytes();
            list.update(&length(octets.len()));
            list.update(octets);
        }
        let mut whole = Context::new(&SHA256);
        whole.update(LABEL);
        // A secret has at most 32 octets, so that its length fits two.
        whole.update(&length(secret.len())[2..]);
        whole.update(secret);
        whole.update(&id.0);
        whole.update(list.finish().as_ref());
        let mut octets = [0; 32];
        octets.copy_from_slice(whole.finish().as_ref());
        Self(octets)
    }
}

/// A length as four octets, most significant first. Nothing here comes near 4 GiB; if it did, it would saturate.
pub(crate) fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

impl FromStr for RecipientsHash {
    type Err = NotCanonical;
    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        base64url::decode_array(text).map(Self)
    }
}

impl fmt::Display for RecipientsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for RecipientsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_collide() {
        let (grant, id) = (Grant::new(&[7; 16]).unwrap(), ReferenceId([1; 16]));
        let list = |texts: &[&str]| {
            let addresses: Vec<Address> = texts.iter().map(|t| Address::parse(t).unwrap()).collect();
            RecipientsHash::compute(&grant, &id, &addresses)
        };
        let bob = list(&["bob@b.example"]);
        let others = [
            list(&[]),
            list(&["Bob@b.example"]),
            list(&["bob@b.example", "bob@b.example"]),
            list(&["bob@b.example", "eve@b.example"]),
            list(&["eve@b.example", "bob@b.example"]),
        ];
        for (place, other) in others.iter().enumerate() {
            assert_ne!(*other, bob);
            assert!(!others[..place].contains(other));
        }
        let (early, late) = (["a@b.exam", "plea@c.example"], ["a@b.exampl", "ea@c.example"]);
        assert!(early.concat() == late.concat() && list(&early) != list(&late), "each has its length before it");
        assert_eq!(list(&["bob@B.Example"]), bob, "the domain is compared in lower case");
        let other_grant = Grant::new(&[8; 16]).unwrap();
        let address = Address::parse("bob@b.example").unwrap();
        assert_ne!(RecipientsHash::compute(&other_grant, &id, [&address]), bob);
        assert_ne!(RecipientsHash::compute(&grant, &ReferenceId([2; 16]), [&address]), bob);
        assert_eq!(RecipientsHash::compute_opened(&[7; 16], &id, [&address]), bob);
    }
}
