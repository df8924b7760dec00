//! What can be seen of a ring without taking part.

use crate::layout::RingIndices;
use crate::notify::slots;
use crate::region::Region;
use crate::sync::Ordering;

/// An attached endpoint, as it described itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its process; 0 in the moment before it said so.
    pub pid: u32,
    /// The random name of this attachment.
    pub tag: u64,
}

impl Peer {
    pub(crate) fn in_slot(region: &Region, index: usize) -> Option<Peer> {
        let slot = region.slot(index);
        let tag = slot.tag.load(Ordering::SeqCst);
        let pid = slots::read_hints(slot, tag).map_or(0, |hints| hints.pid);
        (tag != 0).then_some(Peer { pid, tag })
    }
}

/// A snapshot of a ring. The parts are read one after the other while others may be writing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStat {
    /// Bytes of room for messages and their headers.
    pub capacity: u64,
    /// Bytes of the largest message.
    pub max_message: u64,
    /// Bytes published and not yet released, headers included.
    pub len: u64,
    /// Bytes ever published (free-running).
    pub pushed: u64,
    /// Bytes ever released (free-running).
    pub popped: u64,
    /// Who holds the producer end. It may have died since; only an attach or a wait proves that.
    pub producer: Option<Peer>,
    /// Who holds the consumer end.
    pub consumer: Option<Peer>,
    /// The producer sleeps because the ring is full (or it waits for somebody).
    pub producer_parked: bool,
    /// The consumer sleeps because the ring is empty.
    pub consumer_parked: bool,
}

impl RingStat {
    pub(crate) fn of(region: &Region) -> RingStat {
        let indices = region.kind_area::<RingIndices>();
        let popped = indices.consumer.head.load(Ordering::SeqCst);
        let pushed = indices.producer.tail.load(Ordering::SeqCst);
        let parked = |index| region.slot(index).waiting.load(Ordering::SeqCst) != 0;
        let capacity = region.constants().params[0];
        RingStat {
            capacity,
            max_message: region.constants().params[1],
            len: pushed.wrapping_sub(popped).min(capacity),
            pushed,
            popped,
            producer: Peer::in_slot(region, 0),
            consumer: Peer::in_slot(region, 1),
            producer_parked: parked(0),
            consumer_parked: parked(1),
        }
    }
}

/// What one end has done since it was attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndStat {
    /// Times it went to sleep.
    pub parks: u64,
    /// Times it rang the other end's doorbell.
    pub rings: u64,
    /// Times it knocked at a door.
    pub knocks: u64,
}
