//! How many octets there are, on whose account, and how many there may be.
//!
//! Whoever is about to bring octets in reserves room for them first; what is reserved and what is stored never exceeds a quota
//! by more than was there before the quota was set. A part of the whole is for what is in custody already: objects of
//! references that were accepted, and reports, find room when new mail does not. What to answer is left to the callers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail::Domain;
use mail::ledger::Owner;

/// What may be stored, in octets as they are kept. Without a limit: anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    /// In all.
    pub total: Option<u64>,
    /// How much of that new mail does not get.
    pub reserve: u64,
    /// For each account.
    pub account: Option<u64>,
    /// For domains.
    pub domains: HashMap<Domain, u64>,
}

/// For what room is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Mail that nobody here has answered for yet.
    New,
    /// An object that belongs to what was accepted.
    Custody,
}

/// There is no room; the caller should say so, for a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// In the store.
    #[error("the store is full")]
    Store,
    /// For this account.
    #[error("too much mail of this account is stored")]
    Account,
    /// For this domain.
    #[error("too much mail of {0} is stored")]
    Domain(Domain),
}

/// Octets stored and reserved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    quotas: Quotas,
    stored: Sums,
    reserved: Sums,
}

#[derive(Debug, Default)]
struct Sums {
    total: u64,
    accounts: HashMap<String, u64>,
    domains: HashMap<Domain, u64>,
}

/// Room for octets that are about to come. Given back when dropped: by then they are stored, or will not be.
#[derive(Debug)]
pub struct Reservation {
    usage: Usage,
    owner: Owner,
    purpose: Purpose,
    octets: u64,
}

impl Reservation {
    /// Makes it one for so many octets at least.
    ///
    /// # Errors
    /// [`Full`]: it stays as it was.
    pub fn grow(&mut self, octets: u64) -> Result<(), Full> {
        let more = octets.saturating_sub(self.octets);
        if more > 0 {
            self.usage.take(&self.owner, self.purpose, more)?;
            self.octets = octets;
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.usage.lock().reserved.remove(&self.owner, self.octets);
    }
}

impl Usage {
    pub(crate) fn set(&self, quotas: Quotas) {
        self.lock().quotas = quotas;
    }

    pub(crate) fn reserve(&self, owner: Owner, purpose: Purpose, octets: u64) -> Result<Reservation, Full> {
        self.take(&owner, purpose, octets)?;
        Ok(Reservation { usage: self.clone(), owner, purpose, octets })
    }

    fn take(&self, owner: &Owner, purpose: Purpose, octets: u64) -> Result<(), Full> {
        let mut counted = self.lock();
        counted.check(owner, purpose, octets)?;
        counted.reserved.add(owner, octets);
        Ok(())
    }

    /// Octets stored and reserved, in all.
    pub(crate) fn octets(&self) -> (u64, u64) {
        let counted = self.lock();
        (counted.stored.total, counted.reserved.total)
    }

    /// An object was stored.
    pub(crate) fn add(&self, owner: &Owner, octets: u64) {
        self.lock().stored.add(owner, octets);
    }

    /// An object was removed.
    pub(crate) fn remove(&self, owner: &Owner, octets: u64) {
        self.lock().stored.remove(owner, octets);
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn check(&self, owner: &Owner, purpose: Purpose, octets: u64) -> Result<(), Full> {
        let Quotas { total, reserve, account, domains } = &self.quotas;
        let spared = if purpose == Purpose::New { *reserve } else { 0 };
        let fits = |used: u64, limit: u64| used.saturating_add(octets) <= limit;
        if total.is_some_and(|total| !fits(self.stored.total + self.reserved.total, total.saturating_sub(spared))) {
            return Err(Full::Store);
        }
        if purpose == Purpose::Custody {
            return Ok(());
        }
        let of_account = |sums: &Sums, name: &String| sums.accounts.get(name).copied().unwrap_or(0);
        if let (Some(limit), Some(name)) = (account, &owner.account)
            && !fits(of_account(&self.stored, name) + of_account(&self.reserved, name), *limit)
        {
            return Err(Full::Account);
        }
        let of_domain = |sums: &Sums, domain: &Domain| sums.domains.get(domain).copied().unwrap_or(0);
        match owner.domain.as_ref().and_then(|domain| Some((domain, *domains.get(domain)?))) {
            Some((domain, limit))
                if !fits(of_domain(&self.stored, domain) + of_domain(&self.reserved, domain), limit) =>
            {
                Err(Full::Domain(domain.clone()))
            }
            _ => Ok(()),
        }
    }
}

impl Sums {
    fn add(&mut self, owner: &Owner, octets: u64) {
        self.total += octets;
        if let Some(account) = &owner.account {
            *self.accounts.entry(account.clone()).or_default() += octets;
        }
        if let Some(domain) = &owner.domain {
            *self.domains.entry(domain.clone()).or_default() += octets;
        }
    }

    fn remove(&mut self, owner: &Owner, octets: u64) {
        self.total = self.total.saturating_sub(octets);
        if let Some(account) = &owner.account {
            lower(&mut self.accounts, account, octets);
        }
        if let Some(domain) = &owner.domain {
            lower(&mut self.domains, domain, octets);
        }
    }
}

/// Names with nothing left are forgotten: peers choose some of them.
fn lower<K: Eq + std::hash::Hash>(sums: &mut HashMap<K, u64>, name: &K, octets: u64) {
    if let Some(sum) = sums.get_mut(name) {
        *sum = sum.saturating_sub(octets);
        if *sum == 0 {
            sums.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(account: &str, domain: &str) -> Owner {
        Owner { account: Some(account.into()), domain: Some(domain.parse().unwrap()) }
    }

    fn usage(total: u64, reserve: u64, account: Option<u64>, domain: Option<u64>) -> Usage {
        let usage = Usage::default();
        let domains = domain.map(|limit| ("a.example".parse().unwrap(), limit)).into_iter().collect();
        usage.set(Quotas { total: Some(total), reserve, account, domains });
        usage
    }

    #[test]
    fn new_mail_does_not_get_what_is_reserved_for_custody() {
        let usage = usage(100, 20, None, None);
        usage.add(&Owner::default(), 50);
        let first = usage.reserve(Owner::default(), Purpose::New, 30).unwrap();
        assert_eq!(usage.reserve(Owner::default(), Purpose::New, 1).unwrap_err(), Full::Store);
        let mut custody = usage.reserve(Owner::default(), Purpose::Custody, 15).unwrap();
        assert_eq!(custody.grow(21), Err(Full::Store));
        custody.grow(20).unwrap();
        drop(first);
        assert_eq!(usage.octets(), (50, 20));
        usage.reserve(Owner::default(), Purpose::New, 10).unwrap();
        assert_eq!(usage.octets(), (50, 20), "given back");
    }

    #[test]
    fn accounts_and_domains_have_quotas_of_their_own() {
        let usage = usage(1000, 0, Some(10), Some(15));
        let alice = usage.reserve(owner("alice", "a.example"), Purpose::New, 10).unwrap();
        assert_eq!(usage.reserve(owner("alice", "a.example"), Purpose::New, 1).unwrap_err(), Full::Account);
        let bob = usage.reserve(owner("bob", "a.example"), Purpose::New, 6).unwrap_err();
        assert_eq!(bob, Full::Domain("a.example".parse().unwrap()));
        usage.reserve(owner("bob", "b.example"), Purpose::New, 6).unwrap();
        usage.reserve(owner("alice", "a.example"), Purpose::Custody, 100).unwrap();
        usage.add(&owner("alice", "a.example"), 10);
        drop(alice);
        assert_eq!(usage.reserve(owner("alice", "a.example"), Purpose::New, 1).unwrap_err(), Full::Account);
        usage.remove(&owner("alice", "a.example"), 10);
        usage.reserve(owner("alice", "a.example"), Purpose::New, 10).unwrap();
        assert!(usage.lock().stored.accounts.is_empty() && usage.lock().reserved.accounts.is_empty());
    }

    #[test]
    fn numbers_without_end_do_not_fit() {
        let usage = usage(100, 0, None, None);
        assert_eq!(usage.reserve(Owner::default(), Purpose::New, u64::MAX).unwrap_err(), Full::Store);
    }
}
