//! The list of what waits for a site: what comes first, and where its pages begin.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::time::Duration;

use mail::Timestamp;
use mail::ledger::{Key, Leg, Row, RowBody};
use queue::pending::{Place, SMALL, Taken, URGENT};
use support::Server;

const MINUTE: Duration = Duration::from_secs(60);

/// A leg whose object has so many octets, and whose reference ends then.
fn row(like: &Leg, number: u32, size: u64, expires: Timestamp) -> Row {
    let mut leg = like.clone();
    leg.object.as_mut().unwrap().size = size;
    leg.issued[0].expires = expires;
    let key = Key::Leg("1mcc5rmp7jz8g4j8".parse().unwrap(), number);
    Row { key, version: 1, due: None, body: RowBody::Leg(Box::new(leg)) }
}

/// The sizes on the page that begins there, of at most two legs, and where the next one does.
fn page(rows: &[Row], cursor: Option<&str>, now: Timestamp) -> (Vec<u64>, Option<String>) {
    let mut place = cursor.map_or_else(|| Place::start(now), |cursor| Place::parse(cursor, now));
    let mut sizes = Vec::new();
    loop {
        let behind: Vec<Row> =
            rows.iter().filter(|row| row.key.to_string().as_str() > place.after()).cloned().collect();
        let taken = place.take(&behind, true, |leg| {
            let has_room = sizes.len() < 2;
            sizes.extend(leg.object.iter().map(|object| object.size).filter(|_| has_room));
            has_room
        });
        match taken {
            Taken::Full => return (sizes, Some(place.cursor())),
            Taken::More => {}
            Taken::All => return (sizes, None),
        }
    }
}

#[test]
fn what_is_small_or_ends_soon_comes_first_and_every_page_begins_where_the_last_one_ended() {
    let mut a = Server::new("a.example", 1);
    let (id, _) = a.offered(&["bob@b.example"]);
    let (now, leg) = (a.now, a.leg(&id, 0).clone());
    let (soon, late) = (now.after(URGENT), now.after(2 * URGENT));
    let rows = [
        row(&leg, 0, SMALL + 1, late),
        row(&leg, 1, SMALL, late),
        row(&leg, 2, SMALL + 2, soon),
        row(&leg, 3, SMALL + 3, late),
        row(&leg, 4, 1, late),
    ];
    let (first, next) = page(&rows, None, now);
    assert_eq!(first, [SMALL, SMALL + 2]);
    let (second, next) = page(&rows, next.as_deref(), now);
    assert_eq!(second, [1, SMALL + 1]);
    assert_eq!(page(&rows, next.as_deref(), now), (vec![SMALL + 3], None));
}

#[test]
fn what_comes_to_end_soon_between_two_pages_is_not_left_out() {
    let mut a = Server::new("a.example", 1);
    let (id, _) = a.offered(&["bob@b.example"]);
    let (now, leg) = (a.now, a.leg(&id, 0).clone());
    let almost = now.after(URGENT + MINUTE);
    let rows: Vec<Row> = (0..4).map(|number| row(&leg, number, SMALL + 1 + u64::from(number), almost)).collect();
    let (_, next) = page(&rows, None, now);
    let rest = page(&rows, next.as_deref(), now.after(2 * MINUTE));
    assert_eq!(rest, (vec![SMALL + 3, SMALL + 4], None));
}

#[test]
fn a_cursor_of_nobodys_lists_what_it_can() {
    let mut a = Server::new("a.example", 1);
    let (id, _) = a.offered(&["bob@b.example"]);
    let rows = [row(a.leg(&id, 0), 0, 1, a.now.after(2 * URGENT))];
    for cursor in ["", "/", "first/99999999999999999999/", "first/x/", "first//"] {
        assert!(page(&rows, Some(cursor), a.now).1.is_none(), "{cursor}");
    }
    assert_eq!(page(&rows, Some("first/4294967295/"), a.now), (vec![1], None));
}
