//! Processor time as it is told. One test: threads of others, which end, would be counted with it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::thread;
use std::time::Duration;

use testbed::processor::time;

/// Works until this thread has had so much of a processor.
fn work(time: Duration) {
    let had = || {
        let line = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(line.split(' ').next().unwrap().parse().unwrap())
    };
    let end = had() + time;
    while had() < end {}
}

#[test]
fn short_work_is_seen_and_what_ended_threads_did_is_not_forgotten() {
    let here = std::process::id();
    let before = time(here).unwrap();
    work(Duration::from_millis(1));
    let after = time(here).unwrap();
    assert!(after > before + Duration::from_micros(500), "{before:?} {after:?}");
    thread::spawn(|| work(Duration::from_millis(60))).join().unwrap();
    let end = time(here).unwrap();
    assert!(end > after + Duration::from_millis(30), "{after:?} {end:?}");
    assert_eq!(time(u32::MAX), None, "there is no such process");
}
