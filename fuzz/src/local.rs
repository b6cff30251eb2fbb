//! Files of the operator and of the server itself: written by hand or by another program, and no mistake in one may stop the server in any
//! other way than with words.

use std::collections::BTreeMap;
use std::path::Path;

use mail::Domain;
use net::dns::zone::{Zone, ZoneError};
use reference::SigningKey;
use restante::accounts::Accounts;
use restante::config::Config;
use restante::keys;
use restante::routing::files;

/// A configuration that is read is read again, and one that is not has mistakes at places that are there.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = || Config::parse_with(text, Path::new("/etc/restante/restante.toml"), &BTreeMap::new());
    match read() {
        Ok(config) => assert!(config.restart_needed(&read().expect("the same text")).is_empty()),
        Err(errors) => {
            assert!(!errors.mistakes.is_empty() && !errors.to_string().is_empty());
            for mistake in &errors.mistakes {
                assert!(!mistake.message.contains("a fault of this program"), "{mistake:?}");
                if let Some(place) = &mistake.place {
                    assert!(
                        place.line >= 1 && place.line <= text.split('\n').count() && place.column >= 1,
                        "{mistake:?}"
                    );
                }
            }
        }
    }
}

/// Accounts are written back to themselves; no two have one name, and a mistake is at a line that is there.
pub fn accounts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("accounts");
    let accounts = match Accounts::parse(text, path) {
        Ok(accounts) => accounts,
        Err(error) => return drop(error.to_string()),
    };
    let written = accounts.to_string();
    assert_eq!(Accounts::parse(&written, path).expect("what we write, we read"), accounts);
    for account in accounts.iter() {
        assert_eq!(accounts.get(&account.name().to_uppercase()).map(|found| found.name()), Some(account.name()));
        for sender in account.addresses() {
            let has = accounts.find(&sender.to_string());
            assert!(
                has.is_err()
                    || has.is_ok_and(|found| found.addresses().contains(sender) || found.name() == sender.to_string())
            );
        }
    }
}

/// Recipients are of their domain, aliases lead to addresses, and mistakes are at lines that are there.
pub fn routes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (domain, path) = ("a.example".parse::<Domain>().expect("a name"), Path::new("file"));
    let mut mistakes = Vec::new();
    let recipients = files::recipients_in(text, path, &domain, &mut mistakes);
    let aliases = files::aliases_in(text, path, &domain, &mut mistakes);
    let lines = text.lines().count();
    assert!(
        mistakes.iter().all(|mistake| mistake.line.is_some_and(|line| (1..=lines).contains(&line))),
        "{mistakes:?}"
    );
    assert!(recipients.len() <= lines && aliases.len() <= lines);
    for name in recipients.iter().chain(aliases.keys()) {
        assert!(!name.is_empty() && !name.contains(['\r', '\n', '\0']), "{name:?}");
    }
    assert!(aliases.values().all(|targets| !targets.is_empty()));
}

/// A zone file is read, or its mistake is at a line that is there. Files that it would take in are left alone here.
pub fn zone(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.to_ascii_lowercase().contains("$i") {
        return;
    }
    if let Err(ZoneError::Syntax { line: Some(line), .. }) = Zone::parse(text, Path::new("zone")) {
        assert!(line >= 1 && line <= text.lines().count().max(1), "{line}");
    }
}

/// A key is written back to itself.
pub fn key_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(der) = keys::from_pem(text) else { return };
    assert_eq!(keys::from_pem(&keys::to_pem(&der)).as_ref(), Some(&der));
    if let Ok(key) = SigningKey::from_pkcs8(&der) {
        let again = SigningKey::from_pkcs8(&key.to_pkcs8().expect("a key")).expect("what we write, we read");
        assert_eq!(again.verifying_key(), key.verifying_key());
    }
}
