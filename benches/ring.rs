//! What one operation costs inside one process: no other core, no sleep, nobody to wake.
//!
//! The comparison between two processes, and with other libraries, is in `benches/compare`.
//! Run one group with `cargo bench --bench ring -- batch`.

use std::cell::Cell;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ringspan::{Consumer, Producer, Ring};

fn main() {
    divan::main();
}

thread_local! {
    static NEXT: Cell<u32> = const { Cell::new(0) };
}

/// Both ends of a ring of its own that goes with them.
fn ends(capacity: u64) -> (Producer, Consumer) {
    let name = format!("/bench-ring-{}-{}", std::process::id(), NEXT.replace(NEXT.get() + 1));
    let ring = Ring::options().capacity(capacity).ephemeral(true).create(&name);
    let ring = ring.expect("a new ring");
    (ring.producer().expect("its producer"), ring.consumer().expect("its consumer"))
}

/// One message in, one message out.
#[divan::bench(args = [8, 64, 1024])]
fn try_push_try_pop(bencher: Bencher<'_, '_>, size: usize) {
    let (mut tx, mut rx) = ends(1 << 20);
    let message = vec![0x5a; size];
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        tx.try_push(black_box(&message)).expect("room");
        black_box(rx.try_pop().expect("the message").len())
    });
}

/// The look at an empty ring that a poll loop would pay.
#[divan::bench]
fn try_pop_empty(bencher: Bencher<'_, '_>) {
    let (_tx, mut rx) = ends(1 << 20);
    bencher.bench_local(|| black_box(rx.try_pop().is_err()));
}

/// Sixty-four messages of 64 bytes, one publication, one release.
#[divan::bench(args = [1, 16, 64])]
fn batch(bencher: Bencher<'_, '_>, many: usize) {
    let (mut tx, mut rx) = ends(1 << 20);
    let message = [0x5a_u8; 64];
    bencher.counter(ItemsCount::new(many)).bench_local(|| {
        let sent = tx.try_push_many(std::iter::repeat_n(black_box(&message), many));
        assert_eq!(sent.expect("room"), many);
        let batch = rx.try_pop_many(many).expect("the batch");
        black_box(batch.iter().map(<[u8]>::len).sum::<usize>())
    });
}

/// Room lent, one copy in, published, lent out, one copy out.
#[divan::bench(args = [64, 1 << 10, 64 << 10, 1 << 20])]
fn reserve_commit_copy_to(bencher: Bencher<'_, '_>, size: usize) {
    let (mut tx, mut rx) = ends(8 << 20);
    let message = vec![0x5a; size];
    let mut sink = vec![0; size];
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let mut grant = tx.try_reserve(size).expect("room");
        grant.copy_from_slice(black_box(&message));
        grant.commit(size);
        black_box(rx.try_pop().expect("the message").copy_to(&mut sink))
    });
}

/// The same without touching the bytes: the price of the ring alone.
#[divan::bench]
fn reserve_commit_untouched(bencher: Bencher<'_, '_>) {
    let (mut tx, mut rx) = ends(8 << 20);
    bencher.bench_local(|| {
        tx.try_reserve(64).expect("room").commit(64);
        black_box(rx.try_pop().expect("the message").len())
    });
}

/// Awaits that are ready at once, on a current-thread runtime.
#[cfg(feature = "tokio")]
#[divan::bench]
fn push_pop_await_ready(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (mut tx, mut rx) = ends(1 << 20);
    bencher.counter(ItemsCount::new(64_usize)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..64 {
                tx.push(black_box(&[0x5a; 64])).await.expect("room");
                black_box(rx.pop().await.expect("the message").map(|m| m.len()));
            }
        })
    });
}
