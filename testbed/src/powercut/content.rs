//! The octets of one file: as programs see them, and as the disk has them.
//!
//! Only what differs is kept twice: the synced state of pages that were written since. It leaves names to [`super::disk`].

use std::collections::BTreeMap;

use super::random::Random;

/// What a disk writes as one.
const PAGE: usize = 4096;

/// The octets of a file.
#[derive(Debug, Default)]
pub(super) struct Content {
    now: Vec<u8>,
    /// Length when last synced.
    durable_length: usize,
    /// Pages that were changed since, as they were when last synced (cut off at `durable_length`).
    durable_pages: BTreeMap<usize, Vec<u8>>,
}

impl Content {
    pub(super) fn length(&self) -> usize {
        self.now.len()
    }

    /// Up to `size` octets from `offset`.
    pub(super) fn read(&self, offset: usize, size: usize) -> &[u8] {
        let start = offset.min(self.now.len());
        let end = offset.saturating_add(size).min(self.now.len());
        &self.now[start..end]
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        self.remember(offset, end);
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(data);
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.remember(length.min(self.now.len()), self.now.len().max(length));
        self.now.resize(length, 0);
    }

    pub(super) fn sync(&mut self) {
        self.durable_length = self.now.len();
        self.durable_pages.clear();
    }

    /// Goes back to what was synced, or with `random` to something between that and now, page by page.
    pub(super) fn cut(&mut self, mut random: Option<&mut Random>) {
        let mut survives = || random.as_mut().is_some_and(|random| random.below(2) == 1);
        let length = if survives() { self.now.len() } else { self.durable_length };
        self.now.resize(self.now.len().max(length), 0);
        for (page, octets) in std::mem::take(&mut self.durable_pages) {
            if !survives() {
                self.restore(page, &octets);
            }
        }
        self.now.resize(length, 0);
        self.sync();
    }

    fn restore(&mut self, page: usize, octets: &[u8]) {
        let start = page * PAGE;
        let filled = start + octets.len();
        if self.now.len() < filled {
            self.now.resize(filled, 0);
        }
        if let Some(part) = self.now.get_mut(start..filled) {
            part.copy_from_slice(octets);
        }
        let end = (start + PAGE).min(self.now.len());
        if let Some(rest) = self.now.get_mut(filled..end) {
            rest.fill(0);
        }
    }

    /// Keeps the synced state of all pages between two offsets, unless it is already kept.
    fn remember(&mut self, start: usize, end: usize) {
        for page in start / PAGE..end.div_ceil(PAGE) {
            let from = (page * PAGE).min(self.durable_length);
            let to = (from + PAGE).min(self.durable_length);
            let now = &self.now;
            self.durable_pages.entry(page).or_insert_with(|| now.get(from..to).unwrap_or_default().to_vec());
        }
    }
}
