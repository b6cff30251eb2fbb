//! Processor time of processes, as `/proc` tells it.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The kernel's unit for every program (`USER_HZ`, a hundredth of a second).
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process: of its threads to the nanosecond, of threads that have ended and of children that it has
/// waited for in steps of 10 ms. `None` when there is no such process any more.
#[must_use]
pub fn time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the fields after it are counted from the state.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields = fields.split_whitespace().skip(11).take(4);
    let ticks = fields.map(|field| field.parse().ok()).collect::<Option<Vec<u32>>>()?;
    let &[user, system, childrens_user, childrens_system] = ticks.as_slice() else { return None };
    let threads = threads(process)?;
    let ended = (TICK * (user + system)).saturating_sub(threads);
    // What is less than the rounding of the two is rounding.
    let ended = if ended > TICK * 2 { ended } else { Duration::ZERO };
    Some(threads + ended + TICK * (childrens_user + childrens_system))
}

/// Of the threads that there are; one that ends meanwhile had none.
fn threads(process: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
    Some(threads.filter_map(|thread| thread_time(&thread.path())).sum())
}

fn thread_time(thread: &Path) -> Option<Duration> {
    let line = fs::read_to_string(thread.join("schedstat")).ok()?;
    Some(Duration::from_nanos(line.split(' ').next()?.parse().ok()?))
}
