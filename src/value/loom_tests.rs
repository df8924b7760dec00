//! The two buffers of a value under loom, with the code that runs: a reader copies while a writer sets
//! again and again. The twins with planted bugs are in `rwlock/loom_value_tests.rs`, on a model that can
//! be broken.

use super::raw::{LEAST, RawValue, Read, Sink, Store};
use crate::layout::{BufferLine, VersionLine};
use crate::sync::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;

/// A file of two buffers of one word each; its bytes are eight to a word.
struct File {
    version: VersionLine,
    buffers: [BufferLine; 2],
    words: [AtomicU64; 2],
}

/// Where the words of the model begin: where a buffer may.
fn at(buffer: u64) -> u64 {
    (buffer + 1) * LEAST
}

impl File {
    fn new() -> Arc<File> {
        let buffers = [BufferLine::new(), BufferLine::new()];
        for (buffer, line) in (0..).zip(&buffers) {
            line.offset.store(at(buffer), Ordering::Relaxed);
            line.capacity.store(8, Ordering::Relaxed);
        }
        let words = [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(File { version: VersionLine::new(), buffers, words })
    }

    fn raw(&self) -> RawValue<'_, File> {
        RawValue { version: &self.version.version, buffers: &self.buffers, store: self }
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        &self.words[(offset / LEAST - 1) as usize]
    }

    /// A value whose word, length and tag all say the same number.
    fn set(&self, number: u8) {
        let prepared = self.raw().prepare(number.into()).unwrap();
        let word = u64::from(number) * 0x0101_0101_0101_0101;
        self.word(prepared.offset).store(word, Ordering::Relaxed);
        self.raw().publish(&prepared, number);
    }

    /// What a reader gets in one attempt.
    fn read(&self) -> Option<(Read, Vec<u8>)> {
        let mut copy = Vec::new();
        let read = self.raw().try_read(&mut copy).unwrap()?;
        Some((read, copy))
    }
}

impl Store for File {
    type Fault = String;

    fn is_there(&self, _offset: u64, _len: u64) -> Result<(), String> {
        Ok(())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        let bytes = self.word(offset).load(Ordering::Relaxed).to_le_bytes();
        let len = out.len();
        out.copy_from_slice(&bytes[..len]);
        Ok(())
    }

    fn grow(&self, _from: u64, len: u64) -> Result<(), String> {
        Err(format!("no room for {len} bytes"))
    }

    fn may_hold(&self, offset: u64, len: u64) -> bool {
        [at(0), at(1)].contains(&offset) && len <= 8
    }

    fn no_memory(&self, len: usize) -> String {
        format!("no memory for {len} bytes")
    }

    fn is_full(_fault: &String) -> bool {
        false
    }

    fn damaged(&self, what: &str) -> String {
        what.to_owned()
    }
}

/// Everything that was read is one value, and of the version that it says.
fn check_whole(file: &File) -> Option<u64> {
    let (read, copy) = file.read()?;
    let Some(tag) = read.tag else {
        assert_eq!(read.version, 0);
        return Some(0);
    };
    assert_eq!(u64::from(tag), read.version, "the tag of another version");
    assert_eq!(copy.len(), usize::from(tag), "the length of another version");
    assert!(copy.iter().all(|&byte| byte == tag), "bytes of another version: {copy:?}, tag {tag}");
    Some(read.version)
}

#[test]
fn loom_value_a_reader_beside_a_writer_copies_whole_values() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let file = File::new();
        file.set(1);
        let writer = {
            let file = Arc::clone(&file);
            thread::spawn(move || (2..=4).for_each(|number| file.set(number)))
        };
        let first = check_whole(&file);
        let second = check_whole(&file);
        if let (Some(first), Some(second)) = (first, second) {
            assert!(second >= first, "an older value after a newer one");
        }
        writer.join().unwrap();
        assert_eq!(check_whole(&file), Some(4), "nobody sets, so the first attempt is the last");
    });
}

#[test]
fn loom_value_room_is_asked_for_only_by_a_whole_descriptor() {
    struct Watched(Vec<u8>);
    impl Sink for Watched {
        fn room(&mut self, len: usize) -> Option<&mut [u8]> {
            assert!([1, 8].contains(&len), "a length of no version: {len}");
            self.0.room(len)
        }
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let file = File::new();
        file.set(1);
        let writer = {
            let file = Arc::clone(&file);
            thread::spawn(move || {
                for len in [8, 1] {
                    let prepared = file.raw().prepare(len).unwrap();
                    file.raw().publish(&prepared, 0);
                }
            })
        };
        let _ = file.raw().try_read(&mut Watched(Vec::new())).unwrap();
        writer.join().unwrap();
    });
}
