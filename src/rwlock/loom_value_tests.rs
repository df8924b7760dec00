//! Publication of a value under loom: two buffers and a version, in a small model of its own. A reader
//! must accept no mixture of two sets, and no descriptor of another one. Twins with planted bugs as ever.

use crate::notify::loom_tests::check;
use crate::sync::{AtomicU64, Mutex, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// What a set leaves: all of it names the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copied {
    descriptor: u64,
    bytes: [u64; 2],
}

struct Buffer {
    descriptor: AtomicU64,
    bytes: [AtomicU64; 2],
}

impl Buffer {
    fn new(set: u64) -> Buffer {
        let word = || AtomicU64::new(set);
        Buffer { descriptor: word(), bytes: [word(), word()] }
    }

    fn copy_bytes(&self) -> [u64; 2] {
        // Relaxed, here and below: the fences must do.
        [0, 1].map(|at| self.bytes[at].load(Ordering::Relaxed))
    }
}

struct Value {
    version: AtomicU64,
    buffers: [Buffer; 2],
    /// Stands for the lock that a writer holds; the version as it knows it.
    writer: Mutex<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Right,
    /// No fence between a publication and the first byte of the next set.
    NoFence,
    /// No fence between the copy and the second look at the version.
    NoReaderFence,
    /// Takes the version that follows for as good.
    AcceptNext,
    /// Reads the descriptor when the version has been found unchanged.
    DescriptorLate,
    /// Reads the descriptor before the version.
    DescriptorEarly,
    /// Publishes before the bytes.
    VersionFirst,
}

impl Value {
    fn new() -> Arc<Value> {
        let buffers = [Buffer::new(0), Buffer::new(1)];
        Arc::new(Value { version: AtomicU64::new(1), buffers, writer: Mutex::new(1) })
    }

    fn set(&self, how: How) {
        let mut held = self.writer.lock().unwrap();
        let next = *held + 1;
        if how != How::NoFence {
            fence(Ordering::Release);
        }
        if how == How::VersionFirst {
            self.version.store(next, Ordering::Release);
        }
        let buffer = &self.buffers[(next & 1) as usize];
        buffer.descriptor.store(next, Ordering::Relaxed);
        for word in &buffer.bytes {
            word.store(next, Ordering::Relaxed);
        }
        self.version.store(next, Ordering::Release);
        *held = next;
    }

    /// One attempt.
    fn get(&self, how: How) -> Option<(u64, Copied)> {
        let buffer = |version: u64| &self.buffers[(version & 1) as usize];
        let describe = |version| buffer(version).descriptor.load(Ordering::Relaxed);
        let early = [describe(0), describe(1)];
        let version = self.version.load(Ordering::Acquire);
        let mut descriptor = match how {
            How::DescriptorEarly => early[(version & 1) as usize],
            _ => describe(version),
        };
        let bytes = buffer(version).copy_bytes();
        if how != How::NoReaderFence {
            fence(Ordering::Acquire);
        }
        let after = self.version.load(Ordering::Relaxed);
        if how == How::DescriptorLate {
            descriptor = describe(version);
        }
        let same = after == version || how == How::AcceptNext && after == version + 1;
        same.then_some((version, Copied { descriptor, bytes }))
    }
}

/// Two sets, by one writer or by two, and a reader.
fn sets(how: How, writers: usize) {
    check(3, move || {
        let value = Value::new();
        let threads: Vec<_> = (0..writers)
            .map(|_| {
                let value = Arc::clone(&value);
                thread::spawn(move || (0..2 / writers).for_each(|_| value.set(how)))
            })
            .collect();
        if let Some((version, copied)) = value.get(how) {
            let whole = Copied { descriptor: version, bytes: [version; 2] };
            assert_eq!(copied, whole, "mixed");
        }
        threads.into_iter().for_each(|it| it.join().unwrap());
        let (version, copied) = value.get(how).unwrap();
        assert_eq!((version, copied.bytes), (3, [3; 2]), "at rest");
    });
}

#[test]
fn loom_value_a_reader_accepts_no_mixture() {
    sets(How::Right, 1);
}

#[test]
fn loom_value_nor_one_of_two_writers() {
    sets(How::Right, 2);
}

#[test]
#[should_panic(expected = "mixed")]
fn loom_value_bug_no_fence_before_the_next_set() {
    sets(How::NoFence, 1);
}

#[test]
#[should_panic(expected = "mixed")]
fn loom_value_bug_no_fence_after_the_copy() {
    sets(How::NoReaderFence, 1);
}

#[test]
#[should_panic(expected = "mixed")]
fn loom_value_bug_the_next_version_accepted() {
    sets(How::AcceptNext, 1);
}

#[test]
#[should_panic(expected = "mixed")]
fn loom_value_bug_descriptor_read_afterwards() {
    sets(How::DescriptorLate, 1);
}

#[test]
#[should_panic(expected = "mixed")]
fn loom_value_bug_descriptor_read_before_the_version() {
    sets(How::DescriptorEarly, 1);
}

#[test]
#[should_panic(expected = "mixed")]
fn loom_value_bug_published_before_the_bytes() {
    sets(How::VersionFirst, 1);
}
