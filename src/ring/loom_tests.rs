//! Models of the ring under loom: every interleaving of two ends over a ring of 64 bytes, with
//! each access to the payload watched, so that a missing ordering is found and not only a wrong
//! value.

use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::raw::RingMemory;
use super::raw_consumer::{Item, RawConsumer};
use super::raw_frame::{EndReason, Geometry};
use super::raw_producer::RawProducer;
use crate::layout::RingIndices;

const CAPACITY: u64 = 64;

/// A ring on the heap, its words and cells known to loom.
struct Heap {
    indices: RingIndices,
    payload: NonNull<[u64; CAPACITY as usize / 8]>,
    cells: Box<[UnsafeCell<()>]>,
}

#[allow(unsafe_code, reason = "shares the heap between threads as a mapping would be")]
mod shared {
    use super::*;

    // SAFETY: the payload is reached through `RingMemory` only.
    unsafe impl Send for Heap {}
    // SAFETY: as above.
    unsafe impl Sync for Heap {}

    impl Drop for Heap {
        fn drop(&mut self) {
            // SAFETY: from `Box::leak` in `new`, freed once; the ends are gone before.
            drop(unsafe { Box::from_raw(self.payload.as_ptr()) });
        }
    }

    impl Heap {
        pub(super) fn memory(&self) -> RingMemory {
            self.bounded(None)
        }

        pub(super) fn bounded(&self, quota: Option<u64>) -> RingMemory {
            let geometry = Geometry::above(CAPACITY, CAPACITY, None).unwrap().with_quota(quota);
            let cells = NonNull::from(&self.cells[0]);
            // SAFETY: lives as long as the `Arc`s that the threads hold; one cell for 8 bytes.
            unsafe {
                RingMemory::new(NonNull::from(&self.indices), self.payload.cast(), cells, geometry)
            }
        }
    }
}

impl Heap {
    fn new() -> Arc<Self> {
        let cells = (0..CAPACITY / 8).map(|_| UnsafeCell::new(())).collect();
        let payload = NonNull::from(Box::leak(Box::new([0; CAPACITY as usize / 8])));
        Arc::new(Heap { indices: RingIndices::new(), payload, cells })
    }
}

/// Sends `text` if there is room.
fn send(tx: &mut RawProducer, text: &[u8]) -> bool {
    match tx.reserve(text.len()) {
        Ok(room) => {
            tx.write(&room, text);
            tx.commit(room, text.len(), 0, 0);
            true
        }
        Err(_) => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Message(Vec<u8>),
    End(u64, EndReason),
}

/// Everything that is there now.
fn drain(rx: &mut RawConsumer, seen: &mut Vec<Seen>) {
    while let Some(item) = rx.peek().unwrap() {
        match item {
            Item::Data(record) => {
                let mut text = Vec::new();
                rx.append_to(&record, &mut text);
                rx.release(record.next());
                seen.push(Seen::Message(text));
            }
            Item::End(end) => {
                if rx.take_end(&end) {
                    seen.push(Seen::End(end.tag(), end.reason()));
                }
            }
        }
    }
}

fn message(text: &[u8]) -> Seen {
    Seen::Message(text.to_vec())
}

#[test]
fn loom_messages_arrive_whole_and_in_order_over_the_wrap() {
    loom::model(|| {
        let heap = Heap::new();
        let theirs = heap.clone();
        let producer = thread::spawn(move || {
            let mut tx = RawProducer::new(theirs.memory(), 1).unwrap();
            tx.begin().unwrap();
            let mut sent = 0;
            for text in [b"aaaaaaaaaaaa".as_slice(), b"bb", b"cccccccccccc", b"dd"] {
                sent += usize::from(send(&mut tx, text));
                thread::yield_now();
            }
            tx.close(EndReason::Closed).unwrap();
            sent
        });
        let mut rx = RawConsumer::new(heap.memory()).unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            drain(&mut rx, &mut seen);
            thread::yield_now();
        }
        let sent = producer.join().unwrap();
        drain(&mut rx, &mut seen);
        assert_eq!(seen.pop(), Some(Seen::End(1, EndReason::Closed)));
        assert_eq!(seen.len(), sent);
        assert_eq!(seen[0], message(b"aaaaaaaaaaaa"));
        let texts = [b"aaaaaaaaaaaa".as_slice(), b"bb", b"cccccccccccc", b"dd"];
        let mut expected = texts.iter().map(|text| message(text));
        assert!(seen.iter().all(|one| expected.any(|text| text == *one)), "{seen:?}");
        assert_eq!(rx.len(), Ok(0));
    });
}

#[test]
fn loom_a_successor_ends_the_stream_of_a_dead_producer_once() {
    loom::model(|| {
        let heap = Heap::new();
        {
            let mut dead = RawProducer::new(heap.memory(), 1).unwrap();
            dead.begin().unwrap();
            assert!(send(&mut dead, b"a"));
        }
        let theirs = heap.clone();
        let successor = thread::spawn(move || {
            let mut tx = RawProducer::new(theirs.memory(), 2).unwrap();
            assert_eq!(tx.begin(), Ok(true));
            send(&mut tx, b"b")
        });
        let mut rx = RawConsumer::new(heap.memory()).unwrap();
        let mut seen = Vec::new();
        drain(&mut rx, &mut seen);
        // The kernel said that 1 is dead; its successor may be at any step.
        if rx.cut_short(1).unwrap() {
            rx.note_end(1);
            seen.push(Seen::End(1, EndReason::Died));
        } else if rx.is_drained() {
            assert!(seen.contains(&Seen::End(1, EndReason::Died)), "a second telling would follow");
        }
        drain(&mut rx, &mut seen);
        let sent = successor.join().unwrap();
        drain(&mut rx, &mut seen);
        let mut expected = vec![message(b"a"), Seen::End(1, EndReason::Died)];
        if sent {
            expected.push(message(b"b"));
        }
        assert_eq!(seen, expected);
    });
}

#[test]
fn loom_a_new_consumer_takes_over_while_the_producer_runs() {
    loom::model(|| {
        let heap = Heap::new();
        let theirs = heap.clone();
        let producer = thread::spawn(move || {
            let mut tx = RawProducer::new(theirs.memory(), 1).unwrap();
            [b"a", b"b", b"c"].into_iter().filter(|text| send(&mut tx, *text)).count()
        });
        let mut first = Vec::new();
        // Gone with one message peeked and not released.
        let mut rx = RawConsumer::new(heap.memory()).unwrap();
        let peeked = rx.peek().unwrap();
        let mut rx = RawConsumer::new(heap.memory()).unwrap();
        if peeked.is_some() {
            assert_eq!(rx.peek().unwrap(), peeked);
        }
        drain(&mut rx, &mut first);
        let sent = producer.join().unwrap();
        drain(&mut rx, &mut first);
        assert_eq!(first.len(), sent);
        assert_eq!(first[0], message(b"a"));
    });
}

/// The quota has room for one message while the ring has for two, and the third lies over the first:
/// the producer reads what the consumer has released, then writes there.
#[test]
fn loom_a_quota_is_kept_and_its_room_comes_back() {
    loom::model(|| {
        let heap = Heap::new();
        let theirs = heap.clone();
        let producer = thread::spawn(move || {
            let mut tx = RawProducer::new(theirs.bounded(Some(24)), 1).unwrap();
            let mut sent = 0;
            for _ in 0..5 {
                if sent < 3 {
                    sent += usize::from(send(&mut tx, &[b'a'; 16]));
                    thread::yield_now();
                }
            }
            let used = tx.used().unwrap();
            assert!(used == 0 || used == 20, "{used}");
            sent
        });
        let mut rx = RawConsumer::new(heap.bounded(Some(24))).unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            assert!(rx.used().unwrap() <= 20);
            drain(&mut rx, &mut seen);
            thread::yield_now();
        }
        let sent = producer.join().unwrap();
        drain(&mut rx, &mut seen);
        assert_eq!((seen.len(), rx.used()), (sent, Ok(0)));
        assert!(seen.iter().all(|one| *one == message(&[b'a'; 16])), "{seen:?}");
        // Whatever was refused before, there is room now.
        let mut next = RawProducer::new(heap.bounded(Some(24)), 1).unwrap();
        assert!(send(&mut next, b"e") && !send(&mut next, &[b'f'; 16]));
    });
}
