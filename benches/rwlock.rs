//! What one operation on a lock, a value or a number costs inside one process: nobody else there,
//! nobody to wake. The comparison between processes is in `benches/compare`.
//!
//! Run one group with `cargo bench --bench rwlock -- value`.

use std::cell::Cell;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use ringspan::{RwLock, SharedInt, Value};

fn main() {
    divan::main();
}

thread_local! {
    static NEXT: Cell<u32> = const { Cell::new(0) };
}

/// A name that nobody else uses.
fn name() -> String {
    format!("/bench-rwlock-{}-{}", std::process::id(), NEXT.replace(NEXT.get() + 1))
}

/// A lock over 64 bytes that goes with its handle.
fn new_lock() -> RwLock {
    RwLock::options().ephemeral(true).create(&name(), 64).expect("a new lock")
}

/// A value of so many bytes that goes with its handle.
fn new_value(size: usize) -> Value<u64> {
    let options = Value::options().capacity(size as u64).ephemeral(true);
    options.create(&name()).expect("a new value")
}

/// Taking a free lock, looking at a byte, giving it back.
#[divan::bench]
fn lock_blocking_read(bencher: Bencher<'_, '_>) {
    let lock = new_lock();
    bencher.bench_local(|| lock.blocking_read(None).expect("a free lock")[0]);
}

/// The same to write.
#[divan::bench]
fn lock_blocking_write(bencher: Bencher<'_, '_>) {
    let lock = new_lock();
    bencher.bench_local(|| {
        let mut bytes = lock.blocking_write(None).expect("a free lock");
        bytes[0] = bytes[0].wrapping_add(1);
    });
}

/// Without the way to a wait behind it.
#[divan::bench]
fn lock_try_write(bencher: Bencher<'_, '_>) {
    let lock = new_lock();
    bencher.bench_local(|| drop(black_box(lock.try_write().expect("a free lock"))));
}

/// A try in vain: a reader is there.
#[divan::bench]
fn lock_try_write_held(bencher: Bencher<'_, '_>) {
    let lock = new_lock();
    let _held = lock.blocking_read(None).expect("a free lock");
    bencher.bench_local(|| black_box(lock.try_write().is_err()));
}

/// A second reader beside the first.
#[divan::bench]
fn lock_read_beside_a_reader(bencher: Bencher<'_, '_>) {
    let lock = new_lock();
    let _held = lock.blocking_read(None).expect("a free lock");
    bencher.bench_local(|| lock.blocking_read(None).expect("a lock that is only read")[0]);
}

/// Down to a reader, up to the writer again.
#[divan::bench]
fn lock_downgrade_upgrade(bencher: Bencher<'_, '_>) {
    let lock = new_lock();
    let mut guard = Some(lock.blocking_write(None).expect("a free lock"));
    bencher.bench_local(|| {
        let reader = guard.take().expect("the guard").downgrade();
        guard = Some(reader.try_upgrade().expect("nobody else reads"));
    });
}

/// Threads that read through one handle.
#[divan::bench(threads = [1, 2, 4])]
fn lock_read_of_threads(bencher: Bencher<'_, '_>) {
    let lock = new_lock();
    bencher.bench(|| lock.blocking_read(None).expect("a lock that is only read")[0]);
}

/// Awaits that are ready at once, 64 of them.
#[cfg(feature = "tokio")]
#[divan::bench]
fn lock_write_await_ready(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let lock = new_lock();
    bencher.counter(divan::counter::ItemsCount::new(64_usize)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..64 {
                lock.write().await.expect("a free lock")[0] = 1;
            }
        })
    });
}

/// One copy out, into memory that is there.
#[divan::bench(args = [64, 1 << 10, 64 << 10, 1 << 20])]
fn value_get_bytes_into(bencher: Bencher<'_, '_>, size: usize) {
    let value = new_value(size);
    value.blocking_set_bytes(&vec![0x5a; size], None).expect("room");
    let mut copy = Vec::new();
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        assert!(value.get_bytes_into(&mut copy).expect("bytes"));
        black_box(&copy);
    });
}

/// One copy in.
#[divan::bench(args = [64, 1 << 10, 64 << 10, 1 << 20])]
fn value_set_bytes(bencher: Bencher<'_, '_>, size: usize) {
    let value = new_value(size);
    let bytes = vec![0x5a; size];
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| value.blocking_set_bytes(black_box(&bytes), None).expect("room"));
}

/// Through msgpack.
#[divan::bench]
fn value_set_get_number(bencher: Bencher<'_, '_>) {
    let value = new_value(64);
    bencher.bench_local(|| {
        value.blocking_set(&black_box(7), None).expect("room");
        black_box(value.get().expect("a number"))
    });
}

/// Whether it has changed.
#[divan::bench]
fn value_version(bencher: Bencher<'_, '_>) {
    let value = new_value(64);
    bencher.bench_local(|| black_box(value.version()));
}

/// One step of a number.
#[divan::bench]
fn int_add(bencher: Bencher<'_, '_>) {
    let int = SharedInt::options().ephemeral(true).create(&name()).expect("a new number");
    bencher.bench_local(|| int.add(black_box(1)).expect("no overflow"));
}

/// A look at it.
#[divan::bench]
fn int_load(bencher: Bencher<'_, '_>) {
    let int = SharedInt::options().ephemeral(true).create(&name()).expect("a new number");
    bencher.bench_local(|| black_box(int.load()));
}
