//! One side of a private pair of rings: it produces into one and consumes from the other, in a memory
//! that one other process maps. The algorithms are those of the named ring; the wake protocol is that of
//! `notify`, with one number for both directions.
//!
//! Who produced rings a sleeper always; who only took something rings it if it waits for room, which the
//! lowest bit of its park number says (`notify/park.rs`).
#![allow(unsafe_code, reason = "a mapping becomes the memory of two rings")]

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use super::raw::RingMemory;
use super::raw_consumer::RawConsumer;
use super::raw_frame::{Damage, Geometry};
use super::raw_producer::RawProducer;
use crate::layout::{PAIR_PAYLOAD, PairArea, Slot};
use crate::notify::park::{self, ParkNumbers};
use crate::region::map::view;
use crate::sync::Ordering;
use crate::sys::map::Mapping;
use crate::sys::process;

/// Which side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Consumes requests, produces responses.
    Server,
    /// Produces requests, consumes responses.
    Client,
}

/// The sizes of both rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PairGeometry {
    pub(crate) requests: Geometry,
    pub(crate) responses: Geometry,
}

impl PairGeometry {
    /// Bytes of the memory.
    pub(crate) fn len(self) -> u64 {
        PAIR_PAYLOAD as u64 + self.requests.capacity() + self.responses.capacity()
    }
}

/// The words of the memory, for as long as it is mapped.
#[derive(Debug)]
struct Area {
    at: NonNull<PairArea>,
    mapping: Arc<Mapping>,
}

// SAFETY: a shared reference to atomics that `mapping` keeps mapped, and that mapping.
unsafe impl Send for Area {}

impl Deref for Area {
    type Target = PairArea;

    #[inline]
    fn deref(&self) -> &PairArea {
        // SAFETY: made from a reference into the mapping, which lives as long as this does; atomics only,
        // so a peer's writes are not data races.
        unsafe { self.at.as_ref() }
    }
}

/// One side. Not shared: whoever does puts it behind a lock.
#[derive(Debug)]
pub(crate) struct PairEnd {
    pub(crate) tx: RawProducer,
    pub(crate) rx: RawConsumer,
    side: Side,
    numbers: ParkNumbers,
    // Last: the ends above point into it.
    area: Area,
}

/// Why a memory is not that of a connection.
#[derive(Debug)]
pub(crate) enum BadPair {
    /// Too short for the geometry, or without our mark.
    Foreign,
    Damage(Damage),
}

impl From<Damage> for BadPair {
    fn from(damage: Damage) -> Self {
        BadPair::Damage(damage)
    }
}

impl PairEnd {
    /// Marks a fresh (zeroed) memory; the server does it before it hands it over.
    pub(crate) fn format(mapping: &Mapping) -> Option<()> {
        view::<PairArea>(mapping, 0)?.head.store();
        Some(())
    }

    /// One side of a formatted memory of at least [`PairGeometry::len`] bytes, which cannot shrink. Each
    /// side is taken once. `random` is where its park numbers start.
    pub(crate) fn new(
        mapping: Arc<Mapping>,
        geometry: PairGeometry,
        side: Side,
        random: u64,
    ) -> Result<PairEnd, BadPair> {
        if (mapping.len() as u64) < geometry.len() {
            return Err(BadPair::Foreign);
        }
        let at = NonNull::from(view::<PairArea>(&mapping, 0).ok_or(BadPair::Foreign)?);
        let area = Area { at, mapping };
        if !area.head.is_ours() {
            return Err(BadPair::Foreign);
        }
        let requests = Self::memory(&area, PAIR_PAYLOAD, geometry.requests, |area| &area.requests);
        let behind = PAIR_PAYLOAD + geometry.requests.capacity() as usize;
        let responses = Self::memory(&area, behind, geometry.responses, |area| &area.responses);
        let (out, into, tag) = match side {
            Side::Server => (responses, requests, 1),
            Side::Client => (requests, responses, 2),
        };
        let (tx, rx) = (RawProducer::new(out, tag)?, RawConsumer::new(into)?);
        Ok(PairEnd { tx, rx, side, numbers: ParkNumbers::starting_at(random), area })
    }

    fn memory(
        area: &Area,
        offset: usize,
        geometry: Geometry,
        indices: impl Fn(&PairArea) -> &crate::layout::RingIndices,
    ) -> RingMemory {
        // SAFETY: inside the mapping: the caller has compared its length with the geometry.
        let base = unsafe { area.mapping.as_mut_ptr().add(offset) };
        let base = NonNull::new(base).expect("a mapping is never at address zero");
        // SAFETY: both lie in the mapping, in bounds (see above) and aligned: the payloads start on pages
        // since capacities are multiples of a page. The ends stand before the mapping in `PairEnd`, so
        // they are gone before it. What the other process writes there is validated on every use.
        unsafe { RingMemory::new(NonNull::from(indices(area)), base, geometry) }
    }

    fn mine(&self) -> &Slot {
        &self.area.seats[usize::from(self.side == Side::Client)]
    }

    /// The seat of the other side.
    pub(crate) fn theirs(&self) -> &Slot {
        &self.area.seats[usize::from(self.side == Side::Server)]
    }

    /// Steps 1 and 2 of the sleeper; look afterwards, then sleep. `room`: something waits to be sent.
    pub(crate) fn park(&mut self, room: bool) {
        let seat = &self.area.seats[usize::from(self.side == Side::Client)];
        self.numbers.begin_for(seat, room);
    }

    /// Nobody needs to ring us.
    pub(crate) fn unpark(&mut self) {
        park::end(self.mine());
    }

    /// Says on which cpu we look, for the other side's policy of staying awake.
    pub(crate) fn note_cpu(&self) {
        self.mine().last_cpu.store(process::current_cpu(), Ordering::Relaxed); // Relaxed: a hint
    }

    /// After a publication (or, `taken`, after a release): the number of the sleeper to ring, if any.
    #[inline]
    pub(crate) fn sleeper(&self, taken: bool) -> Option<u64> {
        let number = park::waiting(self.theirs());
        (number != 0 && (!taken || park::wants_room(number))).then_some(number)
    }

    /// Step 5 of the waker, after it rang.
    pub(crate) fn rung(&self, number: u64) {
        park::rung(self.theirs(), number);
    }

    /// How far the other side has taken what we sent; anything at all if it misbehaves.
    pub(crate) fn taken(&self) -> u64 {
        let ring = match self.side {
            Side::Server => &self.area.responses,
            Side::Client => &self.area.requests,
        };
        // Acquire: pairs with the Release store in `RawConsumer::release`.
        ring.consumer.head.load(Ordering::Acquire)
    }
}
