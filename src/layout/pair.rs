//! The private memory of one connection: two seats, two rings. It has no name and no header of a segment;
//! it is a sealed memfd that the server makes and hands over.
//!
//! ```text
//! offset 0     PairHead   magic, layout version, capacities
//!        128   Slot       the server's seat: waiting, last cpu
//!        256   Slot       the client's seat
//!        384   RingIndices  requests
//!        640   RingIndices  responses
//!        4096  requests' payload | responses' payload
//! ```

use super::{ORDER_TAG, PAGE, RingIndices, Shared, Slot};
use crate::sync::{AtomicU64, Ordering};

/// First eight bytes of the memory of a connection.
pub(crate) const PAIR_MAGIC: u64 = u64::from_le_bytes(*b"RSPANRPC");
/// Raised with every change of an offset, of a meaning, or of the frames in the rings.
pub(crate) const PAIR_VERSION: u32 = 1;
/// Where the payload of the first ring starts.
pub(crate) const PAIR_PAYLOAD: usize = PAGE;

/// Constants; the server writes them before anybody else has the memory.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct PairHead {
    magic: AtomicU64,
    version: AtomicU64,
    pad: [AtomicU64; 14],
}

/// Everything before the payloads.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct PairArea {
    pub(crate) head: PairHead,
    /// The server's and the client's.
    pub(crate) seats: [Slot; 2],
    pub(crate) requests: RingIndices,
    pub(crate) responses: RingIndices,
}

impl PairHead {
    /// Marks the memory as ours.
    pub(crate) fn store(&self) {
        // Relaxed, both: handed over by a socket afterwards.
        self.magic.store(PAIR_MAGIC, Ordering::Relaxed);
        self.version.store(Self::expected(), Ordering::Relaxed);
    }

    /// Whether the memory is of this version and byte order.
    pub(crate) fn is_ours(&self) -> bool {
        // Relaxed, both: received by a socket.
        self.magic.load(Ordering::Relaxed) == PAIR_MAGIC
            && self.version.load(Ordering::Relaxed) == Self::expected()
    }

    fn expected() -> u64 {
        u64::from(PAIR_VERSION) | u64::from(ORDER_TAG) << 32
    }
}

#[allow(unsafe_code, reason = "the marker that the casts in region/map.rs rely on")]
mod shared {
    use super::*;
    // SAFETY: repr(C), atomics and structs of atomics only.
    unsafe impl Shared for PairArea {}
}

#[cfg(not(ringspan_loom))]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<PairHead>() == 128 && offset_of!(PairArea, seats) == 128);
    assert!(offset_of!(PairArea, requests) == 384 && offset_of!(PairArea, responses) == 640);
    assert!(size_of::<PairArea>() == 896 && size_of::<PairArea>() <= PAIR_PAYLOAD);
};
