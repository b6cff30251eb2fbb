//! Where mail for an address goes.

use mail::Address;

/// What a local part is looked up by: quotes removed, lower case.
pub fn local_key(address: &Address) -> String {
    address.unquoted_local().to_lowercase()
}
