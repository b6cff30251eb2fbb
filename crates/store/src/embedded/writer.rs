//! The one thread that owns the database. It takes whatever waits for it, serves the reads at once, and commits
//! all batches together: while one group is being synced the next one gathers, so the rate adapts by itself.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::ledger::Ledger;
use crate::batch::Prepared;
use crate::error::{CommitError, StoreError};

/// Most batches in one transaction: bounds the memory and the time of one.
const MAX_GROUP: usize = 256;
/// Orders that may wait: callers beyond it wait themselves.
const QUEUE: usize = 1024;

type Answer = oneshot::Sender<Result<(), CommitError>>;

/// What the thread is asked to do.
pub(super) enum Order {
    /// Write.
    Commit(Prepared, Answer),
    /// Anything short, between two groups.
    Visit(Box<dyn FnOnce(&mut Ledger) + Send>),
    /// Close the database and end.
    Close(oneshot::Sender<()>),
}

/// Starts the thread. It ends when the sender is dropped, or by [`Order::Close`]; `lock` is held until then.
pub(super) fn start(ledger: Ledger, lock: Arc<File>) -> Result<mpsc::Sender<Order>, StoreError> {
    let (sender, orders) = mpsc::channel(QUEUE);
    let work = move || run(ledger, orders, lock);
    std::thread::Builder::new().name("store-writer".into()).spawn(work).map_err(StoreError::io("start a thread"))?;
    Ok(sender)
}

fn run(mut ledger: Ledger, mut orders: mpsc::Receiver<Order>, lock: Arc<File>) {
    let mut closing = None;
    while closing.is_none() {
        let Some(first) = orders.blocking_recv() else { break };
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next.take() {
            match order {
                Order::Commit(batch, answer) => group.push((batch, answer)),
                Order::Visit(visit) => visit(&mut ledger),
                Order::Close(done) => closing = Some(done),
            }
            if group.len() < MAX_GROUP && closing.is_none() {
                next = orders.try_recv().ok();
            }
        }
        commit(&mut ledger, group);
    }
    if let Err((_, error)) = ledger.conn.close() {
        tracing::warn!(%error, "the ledger could not be closed cleanly; nothing is lost");
    }
    drop(lock);
    if let Some(done) = closing {
        done.send(()).unwrap_or_default();
    }
}

fn commit(ledger: &mut Ledger, group: Vec<(Prepared, Answer)>) {
    if group.is_empty() {
        return;
    }
    let batches = group.iter().map(|(batch, _)| batch).collect::<Vec<_>>();
    let results = ledger.commit(&batches);
    for ((_, answer), result) in group.into_iter().zip(results) {
        // Who no longer waits for the answer finds out by loading the rows again.
        answer.send(result).unwrap_or_default();
    }
}
