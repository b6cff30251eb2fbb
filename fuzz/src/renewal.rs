//! What a certificate says of itself, and what an authority says of its renewal: times from anywhere.

use std::time::Duration;

use mail::{Domain, Timestamp};
use net::acme::renewal::{LEAST_PAUSE, LONGEST_PAUSE, Window, suggestion};
use restante::acme::Standing;
use restante::acme::renewal::{Advice, LEAST_AGE, moment};

/// When a suggested window begins and ends, and after how long to ask again, in eight octets each, milliseconds; then a certificate. It is
/// renewed neither before it is some hours old nor so late that nothing could go wrong any more.
pub fn renewal(data: &[u8]) {
    let Some((numbers, certificate)) = data.split_at_checked(24) else { return };
    let number = |at: usize| numbers.as_chunks().0.get(at).map_or(0, |number| u64::from_be_bytes(*number));
    let [start, end, pause] = [0, 1, 2].map(number);
    let window = Window { start: Timestamp::from_millis(start), end: Timestamp::from_millis(end), explanation: None };
    let found = suggestion(window, Duration::from_millis(pause)).ok();
    assert_eq!(found.is_some(), start < end);
    assert!(found.as_ref().is_none_or(|found| (LEAST_PAUSE..=LONGEST_PAUSE).contains(&found.pause)));
    let is_suggested = found.is_some();
    let now = Timestamp::from_secs(1_800_000_000);
    let advice = Advice::of("x".to_owned(), now, found);
    assert_eq!(
        serde_json::to_vec(&advice).and_then(|text| serde_json::from_slice::<Advice>(&text)).ok().as_ref(),
        Some(&advice)
    );

    let Ok(standing) = Standing::of(certificate) else { return };
    assert!(standing.names.iter().all(|name| !name.contains(|letter: char| letter.is_ascii_uppercase())));
    let name = "mx.a.example".parse::<Domain>().expect("a name");
    let at = moment(&name, &standing, &advice);
    assert_eq!(at, moment(&name, &standing, &advice), "another one each time");
    let lifetime = standing.to.since(standing.from);
    if lifetime.is_zero() {
        return assert!(at <= standing.to.max(standing.from), "{at}");
    }
    let earliest = standing.from.after(if is_suggested { LEAST_AGE.min(lifetime / 8) } else { Duration::ZERO });
    assert!(at >= earliest && at < standing.to, "{at} for a certificate from {} to {}", standing.from, standing.to);
    // They go into logs.
    assert!(advice.window.is_none_or(|window| window.end.to_rfc3339().ends_with('Z')));
}
