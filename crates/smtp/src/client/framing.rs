//! How content is told from what follows it: by a lone dot, or by counting.

use bytes::Bytes;

use crate::content::Stuffer;

/// The framing of one content on its way out.
#[derive(Debug)]
pub(super) enum Framing {
    /// DATA (RFC 5321 §4.5.2).
    Dots(Box<Stuffer>),
    /// BDAT (RFC 3030 §2): so many octets are still to come.
    Counted { left: u64 },
}

impl Framing {
    pub(super) fn dots() -> Self {
        Self::Dots(Box::default())
    }

    /// The octets as they go on the wire. `None`: more than were announced.
    pub(super) fn frame(&mut self, chunk: Bytes) -> Option<Bytes> {
        match self {
            Self::Dots(stuffer) => Some(stuffer.stuff(chunk)),
            Self::Counted { left } => {
                *left = left.checked_sub(chunk.len() as u64)?;
                Some(chunk)
            }
        }
    }

    /// Is the last octet among those that have gone out?
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Counted { left: 0 })
    }

    /// What ends the content. `None`: fewer octets than were announced have come.
    pub(super) fn end(self) -> Option<Bytes> {
        match self {
            Self::Dots(stuffer) => Some(stuffer.end()),
            Self::Counted { left } => (left == 0).then(Bytes::new),
        }
    }
}
