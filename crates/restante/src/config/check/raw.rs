//! Values that can be written in several ways, as written.

use std::path::{Path, PathBuf};

use mail::{Address, Domain};
use toml::de::DeValue;

use crate::config::MayAsk;
use crate::config::read::{FromToml, Wrong, one_of};
use crate::config::values::Network;

/// `deliver`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RawDeliver {
    Maildir,
    Lmtp(String),
    Relay(String),
    Site,
    OnDemand,
    Discard,
}

impl FromToml for RawDeliver {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let text = String::from_toml(value, base)?;
        match text.split_once(':') {
            None if text == "maildir" => Ok(Self::Maildir),
            None if text == "site" => Ok(Self::Site),
            None if text == "odmr" => Ok(Self::OnDemand),
            None if text == "discard" => Ok(Self::Discard),
            Some(("lmtp", name)) => Ok(Self::Lmtp(name.to_owned())),
            Some(("relay", name)) => Ok(Self::Relay(name.to_owned())),
            _ => {
                let known = one_of(&text, &["maildir", "lmtp:<name>", "relay:<name>", "site", "odmr", "discard"]);
                Err(vec![Wrong::new(format!("`{text}` is no way to deliver; {known}"))])
            }
        }
    }
}

/// `others`
pub(super) struct RawOthers(pub(super) String);

impl FromToml for RawOthers {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let text = String::from_toml(value, base)?;
        let wrong = || vec![Wrong::new(format!("`{text}` is no way for others; write \"relay:<name>\""))];
        text.strip_prefix("relay:").map(|name| Self(name.to_owned())).ok_or_else(wrong)
    }
}

/// `recipients`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RawRecipients {
    Accounts,
    File(PathBuf),
    List(AliasTargets),
    Probe,
    Any,
}

impl FromToml for RawRecipients {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        const FORMS: &str = "\"accounts\", \"probe\", \"any\", { list = [\"alice\"] } or { file = \"recipients\" }";
        let wrong = |message: String| Err(vec![Wrong::new(message)]);
        if let Some(text) = value.as_str() {
            return match text {
                "accounts" => Ok(Self::Accounts),
                "probe" => Ok(Self::Probe),
                "any" => Ok(Self::Any),
                _ => wrong(format!("`{text}` does not say who the recipients are; write {FORMS}")),
            };
        }
        let Some(table) = value.as_table() else { return wrong(format!("write {FORMS}")) };
        let mut entries = table.iter();
        match (entries.next(), entries.next()) {
            (Some((key, list)), None) if key.get_ref() == "list" => {
                AliasTargets::from_toml(list.get_ref(), base).map(Self::List)
            }
            (Some((key, file)), None) if key.get_ref() == "file" => {
                PathBuf::from_toml(file.get_ref(), base).map(Self::File)
            }
            _ => wrong(format!("write {FORMS}")),
        }
    }
}

/// `etrn`
#[derive(Debug, Clone)]
pub(super) struct RawMayAsk(pub(super) MayAsk);

impl FromToml for RawMayAsk {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        match value.as_str() {
            Some("anyone") => Ok(Self(MayAsk::Anyone)),
            Some("nobody") => Ok(Self(MayAsk::Nobody)),
            None if value.is_array() => Vec::from_toml(value, base).map(|networks| Self(MayAsk::From(networks))),
            _ => Err(vec![Wrong::new("write \"anyone\", \"nobody\" or a list of networks such as [\"192.0.2.0/24\"]")]),
        }
    }
}

/// Addresses, some perhaps without their domain; one may stand without brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AliasTargets(Vec<Target>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Whole(Address),
    Local(String),
}

impl AliasTargets {
    /// Names without a domain are in this one.
    pub(super) fn complete(self, domain: &Domain) -> Vec<Address> {
        let complete = |target| match target {
            Target::Whole(address) => Some(address),
            Target::Local(local) => Address::new(&local, domain).ok(),
        };
        self.0.into_iter().filter_map(complete).collect()
    }
}

impl FromToml for AliasTargets {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        if value.is_array() {
            return Vec::from_toml(value, base).map(Self);
        }
        Target::from_toml(value, base).map(|target| Self(vec![target]))
    }
}

impl FromToml for Target {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let text = String::from_toml(value, base)?;
        let whole = if text.contains('@') { text.clone() } else { format!("{text}@example") };
        match whole.parse::<Address>() {
            Ok(address) if text.contains('@') => Ok(Self::Whole(address)),
            Ok(_) => Ok(Self::Local(text)),
            Err(error) => Err(vec![Wrong::new(format!("`{text}` is no address: {error}"))]),
        }
    }
}

/// A network that may relay.
#[derive(Debug, Clone)]
pub(super) struct TrustedNetwork(pub(super) Network);

impl FromToml for TrustedNetwork {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let network = Network::from_toml(value, base)?;
        if network.is_too_wide_to_trust() {
            let message = format!("`{network}` would make this server an open relay: name your own networks only");
            return Err(vec![Wrong::new(message)]);
        }
        Ok(Self(network))
    }
}
