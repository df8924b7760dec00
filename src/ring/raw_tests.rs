//! Framing against a model, kills between any two stores, and garbage.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use super::raw::RingMemory;
use super::raw_consumer::{Item, RawConsumer};
use super::raw_frame::{
    Damage, EndReason, Flaw, Geometry, GeometryError, MAX_CAPACITY, MIN_CAPACITY, data_word,
    end_word, filler_word,
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
fn killed_at<T>(at: u32, act: impl FnOnce() -> T) -> Option<T> {
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

fn send(tx: &mut RawProducer, bytes: &[u8], tag: u8, flags: u8) -> Result<(), ReserveError> {
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

fn message(text: &[u8]) -> Seen {
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
    let room = tx.reserve(32).unwrap(); // writes a filler
    assert_eq!(tx.slice_mut(&room).len(), 32);
    drop(room);
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
fn detaching_leaves_no_end_owed() {
    let mut heap = Heap::new(128, None);
    let mut tx = heap.producer(1);
    send(&mut tx, b"x", 0, 0).unwrap();
    tx.detach();
    let mut next = heap.producer(2);
    assert_eq!(next.begin(), Ok(false));
    send(&mut next, b"y", 0, 0).unwrap();
    assert_eq!(drain(&mut heap.consumer()), [message(b"x"), message(b"y")]);
}

#[test]
fn a_death_is_told_once_whoever_tells_it() {
    for consumer_first in [false, true] {
        let mut heap = Heap::new(128, None);
        let mut rx = heap.consumer();
        let mut tx = heap.producer(1);
        send(&mut tx, b"x", 0, 0).unwrap();
        assert_eq!(rx.cut_short(1), Ok(false), "not drained");
        take(&mut rx);
        if consumer_first {
            assert_eq!(rx.cut_short(2), Ok(false), "another");
            assert_eq!(rx.cut_short(1), Ok(true));
            rx.note_end(1);
        }
        let mut next = heap.producer(2);
        assert_eq!(next.begin(), Ok(true));
        send(&mut next, b"y", 0, 0).unwrap();
        let mut seen = drain(&mut rx);
        if !consumer_first {
            assert_eq!(seen.remove(0), Seen::End(1, EndReason::Died));
        }
        assert_eq!(seen, [message(b"y")]);
        assert_eq!(rx.cut_short(1), Ok(false));
        assert_eq!(rx.cut_short(2), Ok(true));
    }
}

#[test]
fn closing_names_the_consumer() {
    let mut heap = Heap::new(128, None);
    let tx = heap.producer(1);
    heap.consumer().close(9);
    assert_eq!(tx.closed_by(), 9);
}

/// Kills a producer before each of its stores, then each successor before each of its own, and
/// looks at what the consumer is told.
#[test]
fn a_stream_has_one_end_wherever_its_producers_are_killed() {
    for offset in (0..128).step_by(8) {
        for first in 0..12 {
            for second in 0..8 {
                kill_two(offset, first, second);
            }
        }
    }
}

fn kill_two(offset: u64, first: u32, second: u32) {
    let mut heap = Heap::new(128, None).at(offset);
    let mut rx = heap.consumer();
    let whole = killed_at(first, || {
        let mut tx = heap.producer(1);
        tx.begin().unwrap();
        send(&mut tx, b"one", 0, 0).unwrap();
        tx.close(EndReason::Closed).unwrap();
    });
    let second_whole = killed_at(second, || {
        let mut tx = heap.producer(2);
        tx.begin().unwrap();
        send(&mut tx, b"a stream as long as an end"[..16].as_ref(), 0, 0).unwrap();
    });
    let mut last = heap.producer(3);
    last.begin().unwrap();
    assert_eq!(last.close(EndReason::Closed), Ok(true));
    let seen = drain(&mut rx);
    let ends = |tag| seen.iter().filter(|s| matches!(s, Seen::End(t, _) if *t == tag)).count();
    let first_wrote = seen.contains(&message(b"one"));
    let second_wrote = seen.contains(&message(b"a stream as long"));
    assert_eq!(ends(1), usize::from(first_wrote), "{offset} {first} {second} {seen:?}");
    assert_eq!(ends(2), usize::from(second_wrote), "{offset} {first} {second} {seen:?}");
    assert_eq!(ends(3), 1);
    assert!(whole.is_none() || first_wrote && seen[1] == Seen::End(1, EndReason::Closed));
    assert!(second_whole.is_none() || second_wrote);
}

/// A close of an empty stream that is killed leaves `ending` ahead of the tail; a record that
/// ends exactly there is not taken for an end.
#[test]
fn an_unfinished_end_of_an_empty_stream_hides_nothing() {
    for at in 0..3 {
        let mut heap = Heap::new(128, None);
        let mut rx = heap.consumer();
        killed_at(at, || heap.producer(1).close(EndReason::Closed).unwrap());
        let already = drain(&mut rx).len();
        let mut tx = heap.producer(2);
        tx.begin().unwrap();
        send(&mut tx, &[0; 16], 0, 0).unwrap();
        assert_eq!(heap.producer(3).begin(), Ok(true), "killed at {at}");
        let seen = drain(&mut rx);
        assert_eq!(seen[1..], [Seen::End(2, EndReason::Died)], "{already}");
    }
}

#[test]
fn a_killed_consumer_repeats_messages_and_never_ends() {
    let mut whole = 0;
    for at in 0..8 {
        let mut heap = Heap::new(128, None);
        let mut tx = heap.producer(1);
        send(&mut tx, b"one", 0, 0).unwrap();
        tx.close(EndReason::Closed).unwrap();
        let mut first = Vec::new();
        whole += usize::from(
            killed_at(at, || {
                let mut rx = heap.consumer();
                while let Some(seen) = take(&mut rx) {
                    first.push(seen);
                }
            })
            .is_some(),
        );
        let noted = heap.indices.consumer.ended.load(Ordering::Relaxed) == 1;
        let rest = drain(&mut heap.consumer());
        assert_eq!(rest.contains(&message(b"one")), !first.contains(&message(b"one")));
        assert_eq!(rest.contains(&Seen::End(1, EndReason::Closed)), !noted);
        assert_eq!(heap.free(), 128, "a skipped end gives its room back");
    }
    assert!((1..8).contains(&whole), "killed in between and let through");
}

#[test]
fn each_flaw_is_found_and_named() {
    let bad = |words: &[u64], published: u64| {
        let mut heap = Heap::new(128, None);
        for (place, word) in heap.payload.iter_mut().zip(words) {
            *place = word.to_le();
        }
        heap.indices.producer.tail.store(published, Ordering::Relaxed);
        match RawConsumer::new(heap.memory()) {
            Err(Damage::Record { offset: 0, flaw, .. }) => flaw,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(bad(&[3 << 40], 8), Flaw::Kind);
    assert_eq!(bad(&[1 << 48], 8), Flaw::Kind);
    assert_eq!(bad(&[data_word(1, 0, 0)], 8), Flaw::Length);
    assert_eq!(bad(&[data_word(33, 0, 0)], 128), Flaw::Length, "above max_message");
    assert_eq!(bad(&[u64::from(u32::MAX)], 128), Flaw::Length);
    assert_eq!(bad(&[filler_word(8)], 16), Flaw::Filler);
    assert_eq!(bad(&[filler_word(128)], 128), Flaw::Filler);
    assert_eq!(bad(&[end_word() + 8, 1, 1], 128), Flaw::End);
    assert_eq!(bad(&[end_word(), 1, 1], 16), Flaw::Length);
    assert_eq!(bad(&[end_word(), 3, 1], 24), Flaw::End);
    assert_eq!(bad(&[end_word(), 1, 0], 24), Flaw::End);
    let mut heap = Heap::new(128, None).at(120);
    heap.payload[15] = filler_word(8).to_le();
    heap.indices.producer.tail.store(128, Ordering::Relaxed);
    let damage = RawProducer::new(heap.memory(), 1).unwrap_err();
    assert!(matches!(damage, Damage::Record { offset: 120, flaw: Flaw::Filler, .. }));
    assert!(damage.to_string().contains("120"));
}

#[test]
fn impossible_indices_are_refused() {
    for (head, tail) in [(0, 136), (8, 0), (0, 4), (4, 8), (u64::MAX - 7, 256)] {
        let mut heap = Heap::new(128, None);
        let (mut tx, mut rx) = (heap.producer(1), heap.consumer());
        heap.indices.consumer.head.store(head, Ordering::Relaxed);
        heap.indices.producer.tail.store(tail, Ordering::Relaxed);
        let damage = Damage::Indices { head, tail, capacity: 128 };
        assert_eq!(RawProducer::new(heap.memory(), 2).unwrap_err(), damage);
        assert_eq!(RawConsumer::new(heap.memory()).unwrap_err(), damage);
        if head != 0 {
            assert!(matches!(tx.free(), Err(Damage::Indices { .. })));
        }
        if head == 0 {
            assert!(matches!(rx.peek(), Err(Damage::Indices { .. })));
        }
    }
}

#[test]
fn an_index_that_goes_back_is_refused() {
    let mut heap = Heap::new(128, None);
    let (mut tx, mut rx) = (heap.producer(1), heap.consumer());
    send(&mut tx, b"x", 0, 0).unwrap();
    send(&mut tx, b"y", 0, 0).unwrap();
    take(&mut rx);
    tx.free().unwrap();
    heap.indices.consumer.head.store(0, Ordering::Relaxed);
    assert!(matches!(tx.free(), Err(Damage::Indices { head: 0, .. })));
    heap.indices.producer.tail.store(16, Ordering::Relaxed);
    assert!(matches!(rx.len(), Err(Damage::Indices { tail: 16, .. })));
}

#[test]
fn a_stream_without_room_for_its_end_is_damage() {
    let mut heap = Heap::new(128, None);
    heap.payload[0] = data_word(32, 0, 0).to_le();
    heap.indices.producer.tail.store(120, Ordering::Relaxed);
    heap.indices.producer.writer.store(5, Ordering::Relaxed);
    let mut tx = heap.producer(1);
    assert_eq!(tx.begin(), Err(Damage::NoRoomForEnd { head: 0, tail: 120 }));
}
