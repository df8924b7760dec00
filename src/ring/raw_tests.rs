//! Geometry, framing, and what the other tests of the ring stand on: a ring on the heap and a
//! simulated kill.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use super::raw::RingMemory;
use super::raw_consumer::{Item, RawConsumer};
use super::raw_frame::{
    EndReason, Geometry, GeometryError, MAX_CAPACITY, MIN_CAPACITY, data_word, filler_word,
};
use super::raw_producer::{RawProducer, ReserveError};
use crate::layout::RingIndices;
use crate::sync::Ordering;

thread_local! {
    static STEPS: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What the simulated kill throws.
struct Killed;

/// Called before every store to an index word.
pub(super) fn step() {
    if let Some(left) = STEPS.get() {
        if left == 0 {
            STEPS.set(None);
            resume_unwind(Box::new(Killed)); // does not print, as a panic would
        }
        STEPS.set(Some(left - 1));
    }
}

/// Runs `act` and kills it before its store number `at`; `None` if it got that far.
pub(super) fn killed_at<T>(at: u32, act: impl FnOnce() -> T) -> Option<T> {
    STEPS.set(Some(at));
    let done = catch_unwind(AssertUnwindSafe(act));
    STEPS.set(None);
    match done {
        Ok(value) => Some(value),
        Err(cause) if cause.is::<Killed>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// A ring on the heap.
pub(super) struct Heap {
    pub(super) indices: Box<RingIndices>,
    pub(super) payload: Vec<u64>,
    pub(super) geometry: Geometry,
}

impl Heap {
    pub(super) fn new(capacity: u64, max_message: Option<u64>) -> Self {
        let geometry = Geometry::above(64, capacity, max_message).unwrap();
        let payload = vec![0; capacity as usize / 8];
        Heap { indices: Box::new(RingIndices::new()), payload, geometry }
    }

    /// Both counts start there, as after much traffic.
    pub(super) fn at(self, count: u64) -> Self {
        self.indices.producer.tail.store(count, Ordering::Relaxed);
        self.indices.producer.ending.store(count, Ordering::Relaxed);
        self.indices.consumer.head.store(count, Ordering::Relaxed);
        self
    }

    #[allow(unsafe_code, reason = "lends the heap as the memory of a ring")]
    pub(super) fn memory(&mut self) -> RingMemory {
        let base = NonNull::new(self.payload.as_mut_ptr()).unwrap().cast();
        // SAFETY: boxes that outlive the ends in every test; 8-byte aligned.
        unsafe { RingMemory::new(NonNull::from(&*self.indices), base, self.geometry) }
    }

    pub(super) fn producer(&mut self, tag: u64) -> RawProducer {
        RawProducer::new(self.memory(), tag).unwrap()
    }

    pub(super) fn consumer(&mut self) -> RawConsumer {
        RawConsumer::new(self.memory()).unwrap()
    }

    pub(super) fn free(&self) -> u64 {
        let tail = self.indices.producer.tail.load(Ordering::Relaxed);
        let head = self.indices.consumer.head.load(Ordering::Relaxed);
        self.geometry.capacity() - tail.wrapping_sub(head)
    }
}

/// What the consumer's user sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Message(Vec<u8>, u8, u8),
    End(u64, EndReason),
}

pub(super) fn send(
    tx: &mut RawProducer,
    bytes: &[u8],
    tag: u8,
    flags: u8,
) -> Result<(), ReserveError> {
    let room = tx.reserve(bytes.len())?;
    assert_eq!(tx.write(&room, bytes), bytes.len());
    tx.commit(room, bytes.len(), tag, flags);
    Ok(())
}

pub(super) fn take(rx: &mut RawConsumer) -> Option<Seen> {
    loop {
        match rx.peek().unwrap()? {
            Item::Data(record) => {
                let seen = Seen::Message(rx.slice(&record).to_vec(), record.tag(), record.flags());
                let mut copy = vec![0; record.len()];
                assert_eq!(rx.copy_to(&record, &mut copy), copy.len());
                let mut more = vec![9];
                rx.append_to(&record, &mut more);
                assert_eq!(seen, Seen::Message(copy, record.tag(), record.flags()));
                assert_eq!(more[1..], *rx.slice(&record));
                rx.release(record.next());
                return Some(seen);
            }
            Item::End(end) => {
                if rx.take_end(&end) {
                    return Some(Seen::End(end.tag(), end.reason()));
                }
            }
        }
    }
}

pub(super) fn drain(rx: &mut RawConsumer) -> Vec<Seen> {
    std::iter::from_fn(|| take(rx)).collect()
}

pub(super) fn message(text: &[u8]) -> Seen {
    Seen::Message(text.to_vec(), 0, 0)
}

#[test]
fn geometry_takes_powers_of_two_and_messages_that_fit() {
    assert_eq!(Geometry::capacity_for(0), Ok(MIN_CAPACITY));
    assert_eq!(Geometry::capacity_for(4097), Ok(8192));
    assert_eq!(Geometry::capacity_for(1 << 20), Ok(1 << 20));
    let asked = MAX_CAPACITY + 1;
    assert_eq!(Geometry::capacity_for(asked), Err(GeometryError::Capacity { asked }));
    assert_eq!(Geometry::capacity_for(u64::MAX).ok(), None);
    for asked in [0, 2048, 4095, 5000, MAX_CAPACITY * 2, u64::MAX] {
        assert_eq!(Geometry::new(asked, None), Err(GeometryError::Capacity { asked }));
    }
    assert_eq!(Geometry::new(4096, None).unwrap().max_message(), 1024);
    assert_eq!(Geometry::new(4096, Some(2032)).unwrap().max_message(), 2032);
    for asked in [0, 2033, u64::MAX] {
        let error = GeometryError::MaxMessage { asked, limit: 2032, capacity: 4096 };
        assert_eq!(Geometry::new(4096, Some(asked)), Err(error));
        assert!(error.to_string().contains(&asked.to_string()));
    }
    assert!(Geometry::limit(MAX_CAPACITY) <= u64::from(u32::MAX));
}

#[test]
fn the_largest_message_fits_at_any_offset_of_an_empty_ring() {
    for capacity in [64, 128, 256, 4096] {
        let limit = Geometry::limit(capacity);
        assert_eq!(limit, capacity / 2 - 16);
        let bytes: Vec<u8> = (0..limit).map(|i| i as u8).collect();
        for offset in (0..capacity).step_by(8) {
            let mut heap = Heap::new(capacity, Some(limit)).at(offset.wrapping_sub(capacity));
            let (mut tx, mut rx) = (heap.producer(7), heap.consumer());
            tx.begin().unwrap();
            assert!(tx.needs(bytes.len()) <= capacity);
            send(&mut tx, &bytes, 0, 0).unwrap();
            assert_eq!(tx.close(EndReason::Closed), Ok(true));
            assert_eq!(drain(&mut rx), [message(&bytes), Seen::End(7, EndReason::Closed)]);
        }
    }
}

#[test]
fn one_byte_more_is_refused_with_the_limit() {
    let mut heap = Heap::new(4096, None);
    let mut tx = heap.producer(7);
    assert_eq!(tx.reserve(1025), Err(ReserveError::TooLarge { limit: 1024 }));
    assert_eq!(tx.reserve(usize::MAX), Err(ReserveError::TooLarge { limit: 1024 }));
    assert_eq!(tx.len(), Ok(0));
}

#[test]
fn a_filler_may_be_eight_bytes() {
    let mut heap = Heap::new(128, None).at(120);
    let (mut tx, mut rx) = (heap.producer(7), heap.consumer());
    send(&mut tx, b"wrapped", 5, 0xff).unwrap();
    assert_eq!(heap.payload[15], filler_word(8).to_le());
    assert_eq!(heap.payload[0], data_word(7, 5, 0xff).to_le());
    assert_eq!(tx.len(), Ok(24));
    assert_eq!(take(&mut rx), Some(Seen::Message(b"wrapped".to_vec(), 5, 0xfc)));
    assert_eq!(rx.len(), Ok(0));
}

#[test]
fn a_dropped_reservation_and_a_rollback_publish_nothing() {
    let mut heap = Heap::new(128, None).at(104);
    let (mut tx, mut rx) = (heap.producer(7), heap.consumer());
    let dropped = tx.reserve(32).unwrap(); // writes a filler
    assert_eq!(tx.slice_mut(&dropped).len(), 32);
    assert_eq!(take(&mut rx), None);
    send(&mut tx, b"before the wrap", 0, 0).unwrap();
    assert_eq!(tx.len(), Ok(24));
    let room = tx.reserve(3).unwrap();
    tx.stage(room, 3, 0, 0);
    tx.rollback();
    assert_eq!(tx.free(), Ok(104));
    assert_eq!(drain(&mut rx), [message(b"before the wrap")]);
}

#[test]
fn full_says_what_is_needed_and_that_is_enough() {
    let mut heap = Heap::new(256, None);
    let (mut tx, mut rx) = (heap.producer(7), heap.consumer());
    let mut sent = 0;
    let needs = loop {
        match send(&mut tx, &[sent; 40], 0, 0) {
            Ok(()) => sent += 1,
            Err(ReserveError::Full { needs, free }) => {
                assert!(free < needs && needs == tx.needs(40));
                break needs;
            }
            Err(other) => panic!("{other:?}"),
        }
    };
    while heap.free() < needs {
        take(&mut rx).unwrap();
    }
    send(&mut tx, &[sent; 40], 0, 0).unwrap();
}

#[test]
fn several_are_peeked_and_released_at_once() {
    let mut heap = Heap::new(256, None).at(200);
    let (mut tx, mut rx) = (heap.producer(7), heap.consumer());
    for text in [b"a", b"b", b"c"] {
        let mut room = tx.reserve(30).unwrap();
        tx.slice_mut(&room)[..1].copy_from_slice(text);
        tx.stage(room, 1, 0, 0);
        room = tx.reserve(0).unwrap();
        tx.stage(room, 0, 0, 0);
    }
    assert_eq!(take(&mut rx), None);
    tx.publish();
    let mut cursor = rx.head();
    let mut got = Vec::new();
    while let Some(Item::Data(record)) = rx.peek_at(cursor).unwrap() {
        got.push(record);
        cursor = record.next();
    }
    let texts: Vec<_> = got.iter().map(|record| rx.slice(record)).collect();
    assert_eq!(texts, [b"a".as_slice(), b"", b"b", b"", b"c", b""]);
    assert_eq!(heap.free(), 256 - rx.len().unwrap());
    rx.release(cursor);
    assert_eq!(heap.free(), 256);
    assert!(rx.slice(&got[0]).is_empty(), "a released record lends nothing");
}

#[test]
fn an_empty_stream_has_an_end_too_unless_the_ring_is_full_of_another() {
    let mut heap = Heap::new(64, Some(8));
    for tag in 1..10 {
        let written = heap.producer(tag).close(EndReason::Closed).unwrap();
        assert_eq!(written, tag <= 2, "24 of 64 bytes each");
    }
    let ends = drain(&mut heap.consumer());
    assert_eq!(ends, [Seen::End(1, EndReason::Closed), Seen::End(2, EndReason::Closed)]);
}

#[test]
fn closing_names_the_consumer() {
    let mut heap = Heap::new(128, None);
    let tx = heap.producer(1);
    heap.consumer().close(9);
    assert_eq!(tx.closed_by(), 9);
}
