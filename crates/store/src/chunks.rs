//! Reading files chunk by chunk into buffers that are used again and again: a chunk costs neither new memory nor the
//! zeroing of it, and no thread where the octets are in memory already. Which octets to read is left to the caller.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, preadv2};

use crate::error::StoreError;
use crate::files::blocking;

/// Octets read at once: few enough to be still in the processor's cache when they are sent.
pub(crate) const READ: usize = 64 * 1024;

/// Most buffers kept while nobody uses them.
const KEPT: usize = 64;

/// Buffers of [`READ`] octets that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// A buffer with octets of a file in it. Goes back when the last who reads it is done.
struct Chunk {
    buffer: Vec<u8>,
    length: usize,
    buffers: Arc<Buffers>,
}

impl Chunk {
    fn new(buffers: Arc<Buffers>) -> Self {
        let kept = buffers.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { buffer: kept.unwrap_or_else(|| vec![0; READ]), length: 0, buffers }
    }

    fn into_octets(mut self, length: usize) -> Bytes {
        self.length = length;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut kept = self.buffers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// At most `length` and [`READ`] octets from `from` on, and one at least.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] where the file ends at `from`.
pub(crate) async fn read(
    buffers: &Arc<Buffers>,
    file: &Arc<File>,
    from: u64,
    length: usize,
) -> Result<io::Result<Bytes>, StoreError> {
    let (mut chunk, length) = (Chunk::new(buffers.clone()), length.min(READ));
    let now = preadv2(file, &mut [IoSliceMut::new(&mut chunk.buffer[..length])], from, ReadWriteFlags::NOWAIT);
    if let Ok(read @ 1..) = now {
        return Ok(Ok(chunk.into_octets(read)));
    }
    // Nothing is in memory, or this kernel or file system cannot say. The end of the file is told by this read, too.
    let file = file.clone();
    let work = move || {
        file.read_exact_at(&mut chunk.buffer[..length], from)?;
        Ok(chunk.into_octets(length))
    };
    blocking(work).await
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_buffer_is_used_again_once_its_octets_are_gone() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; READ + 5]).unwrap();
        let (file, buffers) = (Arc::new(file), Arc::new(Buffers::default()));
        let kept = || buffers.0.lock().unwrap().len();
        let whole = read(&buffers, &file, 0, READ + 5).await.unwrap().unwrap();
        let part = whole.slice(..3);
        drop(whole);
        assert_eq!(kept(), 0, "a part of it is still in use");
        drop(part);
        assert_eq!(kept(), 1);
        let rest = read(&buffers, &file, READ as u64, 5).await.unwrap().unwrap();
        assert_eq!((rest.as_ref(), kept()), (&[7; 5][..], 0), "not an octet of what was there before");
    }

    #[tokio::test]
    async fn no_more_buffers_are_kept_than_are_worth_it() {
        let buffers = Arc::new(Buffers::default());
        let chunks: Vec<Chunk> = (0..=KEPT).map(|_| Chunk::new(buffers.clone())).collect();
        drop(chunks);
        assert_eq!(buffers.0.lock().unwrap().len(), KEPT);
    }

    #[tokio::test]
    async fn behind_the_end_there_is_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        let end = read(&Arc::default(), &Arc::new(file), 3, 1).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
