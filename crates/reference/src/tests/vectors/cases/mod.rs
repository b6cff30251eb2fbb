//! The inputs of the golden vectors, and what is expected of each.

mod bodies;
mod bundles;
mod fields;
mod offers;
mod published;
mod requests;

use serde_json::Value;

use super::{Case, File};
use crate::hop::HopMode;
use crate::tests::domain;

pub(super) fn files() -> Vec<File> {
    vec![
        fields::uris(),
        fields::recipients(),
        fields::references(),
        fields::hops(),
        fields::blocks(),
        offers::offers(),
        offers::offers_by_relays(),
        published::keys(),
        bodies::claims(),
        bodies::receipts(),
        bodies::delegations(),
        bodies::uploads(),
        requests::requests(),
        bundles::bundles(),
        bodies::stored(),
        published::reply_codes(),
    ]
}

fn ok(name: &'static str, input: Value) -> Case {
    Case { name, input, fault: None }
}

fn bad(name: &'static str, fault: &'static str, input: Value) -> Case {
    Case { name, input, fault: Some(fault) }
}

fn custody() -> HopMode {
    HopMode::Custody(domain("tbr.b.example"))
}
