//! Ends of streams: producers and consumers that are killed between any two stores, and garbage
//! that is named.

use super::raw_consumer::RawConsumer;
use super::raw_frame::{Damage, EndReason, Flaw, data_word, end_word, filler_word};
use super::raw_producer::RawProducer;
use super::raw_tests::{Heap, Seen, drain, killed_at, message, send, take};
use crate::sync::Ordering;

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
fn a_producer_that_published_nothing_is_not_cut_short() {
    for (at, cut) in [(0, false), (1, false), (2, false), (3, true)] {
        let mut heap = Heap::new(128, None);
        let mut tx = heap.producer(1);
        killed_at(at, || send(&mut tx, b"x", 0, 0).unwrap());
        let mut rx = heap.consumer();
        assert_eq!(drain(&mut rx).len(), usize::from(cut));
        assert_eq!(rx.cut_short(1), Ok(cut), "killed at {at}");
        assert_eq!(heap.producer(2).begin(), Ok(cut), "killed at {at}");
    }
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
