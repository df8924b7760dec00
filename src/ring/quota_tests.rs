//! Rings with a quota: what counts, what is refused, and ends that are killed between any two stores.

use super::raw_frame::{EndReason, data_word};
use super::raw_producer::ReserveError;
use super::raw_tests::{Heap, Seen, drain, killed_at, message, send, take};
use crate::sync::Ordering;

fn heap(quota: u64, capacity: u64, at: u64) -> Heap {
    let mut heap = Heap::new(capacity, None).at(at);
    heap.geometry = heap.geometry.with_quota(Some(quota));
    heap
}

fn is_full(sent: Result<(), ReserveError>) -> bool {
    matches!(sent, Err(ReserveError::Full { .. }))
}

/// What the messages still to be taken count as.
fn sum(seen: &[Seen]) -> u64 {
    let one = |seen: &Seen| match seen {
        Seen::Message(bytes, ..) => bytes.len() as u64 + 4,
        Seen::End(..) => 0,
    };
    seen.iter().map(one).sum()
}

#[test]
fn a_message_counts_as_its_bytes_and_four() {
    for at in (0..256).step_by(8) {
        let mut heap = heap(40, 256, at);
        let (mut tx, mut rx) = (heap.producer(1), heap.consumer());
        for _ in 0..30 {
            assert_eq!((tx.used(), rx.used()), (Ok(0), Ok(0)));
            send(&mut tx, &[1; 16], 0, 0).unwrap();
            send(&mut tx, &[2; 15], 0, 0).unwrap();
            assert_eq!((tx.used(), rx.used()), (Ok(39), Ok(39)));
            assert!(is_full(send(&mut tx, b"", 0, 0)));
            take(&mut rx).unwrap();
            assert_eq!((rx.used(), tx.used()), (Ok(19), Ok(19)));
            assert!(is_full(send(&mut tx, &[3; 18], 0, 0)));
            send(&mut tx, &[3; 17], 0, 0).unwrap();
            assert!(is_full(send(&mut tx, b"", 0, 0)));
            assert_eq!(drain(&mut rx), [message(&[2; 15]), message(&[3; 17])]);
        }
    }
}

#[test]
fn what_can_never_fit_is_too_large() {
    for (quota, limit) in [(1, 0), (3, 0), (4, 0), (5, 1), (20, 16)] {
        let mut heap = heap(quota, 256, 0);
        let mut tx = heap.producer(1);
        let refused = Err(ReserveError::TooLarge { limit });
        assert_eq!(tx.reserve(limit as usize + 1).map(drop), refused);
        assert_eq!(tx.reserve(limit as usize).is_ok(), quota >= 4);
    }
    let mut heap = heap(1 << 20, 256, 0);
    assert_eq!(heap.producer(1).reserve(65).map(drop), Err(ReserveError::TooLarge { limit: 64 }));
}

#[test]
fn ends_count_as_nothing_and_what_is_staged_counts() {
    let mut heap = heap(24, 256, 0);
    let mut rx = heap.consumer();
    let mut tx = heap.producer(1);
    send(&mut tx, &[1; 8], 0, 0).unwrap();
    tx.close(EndReason::Closed).unwrap();
    let mut tx = heap.producer(2);
    tx.begin().unwrap();
    assert_eq!((tx.used(), rx.used()), (Ok(12), Ok(12)));
    for _ in 0..3 {
        let room = tx.reserve(8).unwrap();
        tx.stage(room, 8, 0, 0);
        assert!(is_full(tx.reserve(0).map(drop)));
        assert_eq!((tx.used(), rx.used()), (Ok(24), Ok(12)));
        tx.rollback();
    }
    let room = tx.reserve(8).unwrap();
    tx.stage(room, 3, 0, 0); // less than was reserved
    let room = tx.reserve(1).unwrap();
    tx.stage(room, 1, 0, 0);
    tx.publish();
    assert_eq!((tx.used(), rx.used()), (Ok(24), Ok(24)));
    let seen = drain(&mut rx);
    assert_eq!(seen.len(), 4);
    assert_eq!((tx.used(), rx.used()), (Ok(0), Ok(0)));
}

/// Both ends are killed before each of their stores in turn; their successors count what is there.
#[test]
fn no_kill_leaves_a_wrong_count() {
    let mut whole = 0;
    for at in (0..128).step_by(8) {
        for pushes in 0..10 {
            for pops in 0..6 {
                whole += u32::from(kill_both(at, pushes, pops));
            }
        }
    }
    assert!((1..16 * 10 * 6).contains(&whole), "killed in between and let through");
}

fn kill_both(at: u64, pushes: u32, pops: u32) -> bool {
    let mut heap = heap(40, 128, at);
    let pushed = killed_at(pushes, || {
        let mut tx = heap.producer(1);
        tx.begin().unwrap();
        for byte in 0..4 {
            let _ = send(&mut tx, &[byte; 9], 0, 0);
        }
        tx.close(EndReason::Closed).unwrap();
    });
    let popped = killed_at(pops, || {
        let mut rx = heap.consumer();
        rx.used().unwrap();
        take(&mut rx);
        take(&mut rx);
    });
    let mut tx = heap.producer(2);
    tx.begin().unwrap();
    let mut rx = heap.consumer();
    let used = rx.used().unwrap();
    assert_eq!(tx.used(), Ok(used));
    let free = 40 - used;
    assert_eq!(is_full(send(&mut tx, b"", 0, 0)), free < 4, "{at} {pushes} {pops}");
    let used = rx.used().unwrap();
    let seen = drain(&mut rx);
    assert_eq!(sum(&seen), used, "{at} {pushes} {pops} {seen:?}");
    assert_eq!((tx.used(), rx.used()), (Ok(0), Ok(0)));
    send(&mut tx, &[7; 32], 0, 0).unwrap(); // max_message
    assert_eq!(rx.used(), Ok(36));
    pushed.is_some() && popped.is_some()
}

#[test]
fn a_length_that_was_written_over_is_an_error_or_harmless() {
    for word in [u64::MAX, 3 << 40, data_word(33, 0, 0), data_word(0, 0, 0), data_word(24, 0, 0)] {
        let mut heap = heap(40, 128, 0);
        let (mut tx, mut rx) = (heap.producer(1), heap.consumer());
        send(&mut tx, &[1; 16], 0, 0).unwrap();
        send(&mut tx, &[1; 16], 0, 0).unwrap();
        take(&mut rx).unwrap();
        heap.payload[0] = word.to_le();
        let _ = tx.used();
        let _ = send(&mut tx, &[1; 16], 0, 0);
        let _ = heap.producer(2).used();
        heap.payload[3] = word.to_le();
        heap.indices.consumer.head.store(48, Ordering::Relaxed);
        let _ = tx.used();
        let _ = rx.used();
    }
}

#[test]
fn the_quota_of_a_full_ring_that_shrank_under_it_waits_for_the_consumer() {
    let mut heap = heap(100, 256, 0);
    let (mut tx, mut rx) = (heap.producer(1), heap.consumer());
    send(&mut tx, &[1; 40], 0, 0).unwrap();
    send(&mut tx, &[2; 40], 0, 0).unwrap();
    heap.geometry = heap.geometry.with_quota(Some(50));
    let mut tx = heap.producer(2);
    tx.begin().unwrap();
    assert_eq!(tx.used(), Ok(88));
    assert!(is_full(send(&mut tx, b"", 0, 0)));
    take(&mut rx);
    assert!(!is_full(send(&mut tx, b"xx", 0, 0)));
    assert!(is_full(send(&mut tx, b"", 0, 0)));
}
