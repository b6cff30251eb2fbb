//! How fast is the ledger? `cargo run --release -p store --example commit_rate [messages] [connections] [octets] [directory]`
//!
//! Each connection writes an object, commits a leg that names it, leases it, reads the object, commits the leg without it, and
//! deletes the row: three durable commits for each message, as the queue does. Prints rates and CPU time per message.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::Instant;

use mail::Timestamp;
use store::{EmbeddedConfig, Store};
use support::{content, delete, finished, leg, object, octets, put};

fn main() {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let number = |n: usize, default: usize| arguments.get(n).map_or(default, |a| a.parse().unwrap());
    let (messages, connections, size) = (number(0, 20_000), number(1, 50), number(2, 4096));
    let temporary = tempfile::tempdir().unwrap();
    let directory = arguments.get(3).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(EmbeddedConfig::new(&directory)).await.unwrap();
        let (begun, cpu) = (Instant::now(), cpu_micros());
        let each = messages / connections;
        let tasks = (0..connections).map(|n| tokio::spawn(connection(store.clone(), n, each, size))).collect::<Vec<_>>();
        for task in tasks {
            task.await.unwrap();
        }
        let (seconds, done) = (begun.elapsed().as_secs_f64(), (each * connections) as f64);
        let counts = store.counts().await.unwrap();
        let (batches, syncs) = (counts.batches as f64, counts.disk.commits as f64);
        println!(
            "{:.0} messages/s, {:.0} commits/s in groups of {:.1}, {:.0} µs CPU per message; database {} KiB, log {} KiB",
            done / seconds,
            batches / seconds,
            batches / syncs,
            (cpu_micros() - cpu) as f64 / done,
            kibibytes(&directory.join("ledger.sqlite")),
            kibibytes(&directory.join("ledger.sqlite-wal")),
        );
        store.close().await;
    });
}

async fn connection(store: Store, number: usize, messages: usize, size: usize) {
    let content = content(size, number as u8);
    for n in 0..messages {
        let object = object(&store, &content).await;
        let row = leg(&format!("q{n:06}c{number}"), Some(&object), Some(1));
        store.commit(put([row.clone()])).await.unwrap();
        store.lease(Timestamp::from_millis(2), 1, Timestamp::from_millis(1000)).await.unwrap();
        assert_eq!(octets(&store, &object).await.len(), content.len());
        let row = finished(row);
        store.commit(put([row.clone()])).await.unwrap();
        store.commit(delete(&row)).await.unwrap();
    }
}

/// User and system time of this process, in microseconds; the kernel counts in ticks of 10 ms.
fn cpu_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().collect::<Vec<_>>();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000
}

fn kibibytes(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len() / 1024)
}
