//! Nothing that stands in a value's memory is trusted: words of it are overwritten by choice while others
//! read, set and wait. What comes of it is a value or an error that names the object; no crash, no hang,
//! no write outside of the buffers, no memory asked for without end. `value_garbage.rs` does it by chance.
//!
//! The file is written by `write_at`, which on tmpfs is the same memory as the mappings.

#![allow(unsafe_code, reason = "a limit for a child's memory")]

mod common;
mod stage;

use common::say;
use ringspan::{Fault, FaultKind, SetError, TryGetError, TrySetError, Value};
use stage::{Random, Test, role, scaled, until};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Where things lie; `docs/format.md`.
const TOTAL: u64 = 264;
const SLOTS: u64 = 384;
const LOCK: u64 = 6528;
const VERSION: u64 = 12800;
const BUFFERS: u64 = 12928;
const DOOR_PATH: u64 = 13184;
const PAYLOAD: u64 = 16384;

const MOMENT: Duration = Duration::from_millis(30);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Does nothing unless it is a child. A crash or a panic is its bad end.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    match role.role.as_str() {
        "reads in little memory" => {
            let value = Value::<Vec<u8>>::open(&role.name).unwrap();
            let most = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
            // SAFETY: a limit of this process.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &most) }, 0);
            say(value.get_bytes().unwrap_err());
            say(value.get().unwrap_err());
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

fn word_at(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    u64::from_le_bytes(bytes)
}

fn put(file: &File, at: u64, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at).unwrap();
}

fn open_file(test: &Test) -> File {
    File::options().read(true).write(true).open(test.path()).unwrap()
}

fn names(fault: &Fault, test: &Test, kind: FaultKind) {
    assert_eq!(fault.kind(), kind, "{fault}");
    assert!(fault.to_string().contains(&test.name), "{fault}");
}

/// All that no set may touch: constants and state, who owns which slot, the path of the doors.
fn untouchable(file: &File) -> Vec<u8> {
    let slots = (0..48).map(|index| (SLOTS + 128 * index, SLOTS + 128 * index + 8));
    let mut bytes = Vec::new();
    for (from, to) in [(0, TOTAL), (DOOR_PATH, PAYLOAD)].into_iter().chain(slots) {
        let mut part = vec![0; (to - from) as usize];
        file.read_exact_at(&mut part, from).unwrap();
        bytes.append(&mut part);
    }
    bytes
}

/// Four words: offset, capacity, length, tag.
fn descriptor(file: &File, buffer: u64) -> [u64; 4] {
    std::array::from_fn(|i| word_at(file, BUFFERS + 128 * buffer + 8 * i as u64))
}

fn describe(file: &File, buffer: u64, words: [u64; 4]) {
    for (at, word) in (BUFFERS + 128 * buffer..).step_by(8).zip(words) {
        put(file, at, word);
    }
}

#[test]
fn descriptors_that_cannot_be() {
    let test = Test::new("descriptors");
    let value = Value::<String>::create(&test.name).unwrap();
    let other = Value::<String>::open(&test.name).unwrap();
    value.try_set(&"first".to_owned()).unwrap();
    value.try_set(&"second".to_owned()).unwrap();
    let file = open_file(&test);
    let size = file.metadata().unwrap().len();
    let (offsets, lens) = (
        [0, 8, 256, TOTAL, SLOTS, LOCK, VERSION, BUFFERS, DOOR_PATH, 4096, 8192, 12288],
        [PAYLOAD + 1, PAYLOAD + 2048, size, size - 8, 1 << 40, 1 << 63, u64::MAX, u64::MAX - 4095],
    );
    let now = value.version() & 1;
    let (good, spare) = (descriptor(&file, now), descriptor(&file, now ^ 1));
    let mut wrong = Vec::new();
    for offset in offsets.into_iter().chain(lens) {
        wrong.push([offset, 4096, 6, 1]);
        wrong.push([offset, 100, 6, 1]);
    }
    for len in lens {
        wrong.push([good[0], len, 6, 1]);
        wrong.push([good[0], 4096, len, 1]);
        wrong.push([good[0], len, len, 1]);
        wrong.push([PAYLOAD, len, len, 1]);
    }
    wrong.push([good[0], 4096, 4097, 1]);
    wrong.push([good[0], 4096, 6, 256]);
    wrong.push([good[0], 4096, 6, u64::MAX]);
    let outside = untouchable(&file);
    for words in wrong {
        // The one that is read.
        describe(&file, now, words);
        for reader in [&value, &other] {
            // A capacity may be smaller than it was, or reach to the end of the file.
            match reader.get() {
                Err(fault) => names(&fault, &test, FaultKind::Damaged),
                Ok(read) => panic!("{read:?} by {words:?}"),
            }
            let Err(TryGetError::Fault(fault)) = reader.try_get() else { panic!("{words:?}") };
            names(&fault, &test, FaultKind::Damaged);
            let err = reader.blocking_update(|_| "new".into(), None).unwrap_err();
            names(err.fault(), &test, FaultKind::Damaged);
        }
        describe(&file, now, good);
        assert_eq!(other.get().unwrap().unwrap(), "second");
    }
    for offset in offsets.into_iter().chain(lens).chain([good[0]]) {
        // The one that is written next.
        for capacity in [4096, 1 << 20, u64::MAX] {
            describe(&file, now ^ 1, [offset, capacity, 6, 1]);
            for long in ["third".to_owned(), "longer than any before ".repeat(9000)] {
                let err = value.blocking_set(&long, None).unwrap_err();
                names(err.fault(), &test, FaultKind::Damaged);
            }
            assert_eq!(other.get().unwrap().unwrap(), "second", "{offset} {capacity}");
        }
    }
    describe(&file, now ^ 1, spare);
    assert_eq!(word_at(&file, LOCK) & 0xffff_ffff_ffff, 0, "every failed set gave the lock back");
    assert!(untouchable(&file) == outside, "something was written outside of the buffers");
    assert_eq!(file.metadata().unwrap().len(), size);
    value.try_set(&"third".to_owned()).unwrap();
    assert_eq!(other.get().unwrap().unwrap(), "third");
}

/// The length in the header may be made up, too: what the file does not have is not read, nor is memory
/// asked for it.
#[test]
fn a_length_that_is_made_up() {
    let test = Test::new("made up");
    let value = Value::<Vec<u8>>::create(&test.name).unwrap();
    value.try_set(&vec![1, 2, 3]).unwrap();
    let file = open_file(&test);
    let total = word_at(&file, TOTAL);
    let good = descriptor(&file, 1);
    for len in [1 << 20, 1 << 36, 1 << 62] {
        put(&file, TOTAL, len + (1 << 30));
        describe(&file, 1, [PAYLOAD, len, len, 1]);
        let mut child = test.spawn("reads in little memory", "");
        for _ in 0..2 {
            let text = child.hear();
            assert!(text.contains(&test.name) && text.contains("its file has"), "{text}");
        }
        child.finish();
        describe(&file, 1, good);
        // Too long a file in the header is no reason to write behind its end.
        assert_eq!(value.get().unwrap().unwrap(), [1, 2, 3]);
        let err = value.blocking_set(&vec![7; 10_000], None).unwrap_err();
        names(err.fault(), &test, FaultKind::Damaged);
    }
    for short in [0, 1, total - 1] {
        put(&file, TOTAL, short);
        names(&value.get().unwrap_err(), &test, FaultKind::Damaged);
        let Err(TryGetError::Fault(fault)) = value.try_get() else { panic!("it was read") };
        names(&fault, &test, FaultKind::Damaged);
        names(value.blocking_set(&vec![1], None).unwrap_err().fault(), &test, FaultKind::Damaged);
    }
    put(&file, TOTAL, total);
    value.try_set(&vec![4]).unwrap();
    test.sweep_doors(); // the children left by exit
}

#[test]
fn any_version() {
    let test = Test::new("versions");
    let value = Value::<u64>::create(&test.name).unwrap();
    let other = Value::<u64>::open(&test.name).unwrap();
    let file = open_file(&test);
    for version in [1, 2, u64::MAX, u64::MAX - 1, 1 << 63, 0] {
        value.try_set(&1).unwrap();
        value.try_set(&2).unwrap();
        put(&file, VERSION, version);
        let read = other.get().unwrap();
        assert_eq!(read.is_none(), version == 0);
        let waiter = value.clone();
        let asleep = std::thread::spawn(move || waiter.blocking_changed(version, None));
        until(|| stage::parked(&test.path()) == 1);
        let after = other.try_set(&3).unwrap();
        assert!(after != 0 && after != version, "0 says: never set");
        assert_eq!(asleep.join().unwrap().unwrap(), after);
        assert_eq!(value.get().unwrap(), Some(3));
    }
}

const WRITER: u64 = 1 << 48;

#[test]
fn any_lock_word() {
    let test = Test::new("lock words");
    let value = Value::<u64>::create(&test.name).unwrap(); // slot 0
    let other = Value::<u64>::open(&test.name).unwrap(); // slot 1
    value.try_set(&1).unwrap();
    let file = open_file(&test);
    let outside = untouchable(&file);
    let rt = runtime();
    let flags = [0, WRITER, 1 << 49, 1 << 50, WRITER | 1 << 49, 0xfff8 << 48, 0xffff << 48];
    let owners = [0, 1, 2, 3, 1 << 20, 1 << 47, (1 << 48) - 1];
    for word in flags.into_iter().flat_map(|flag| owners.map(|owners| flag | owners)) {
        for handle in [&value, &other] {
            put(&file, LOCK, word);
            assert!(handle.get().unwrap().is_some(), "a reader needs no lock");
            if let Err(TrySetError::Fault(fault)) = handle.try_set(&2) {
                names(&fault, &test, FaultKind::Damaged);
            }
            put(&file, LOCK, word);
            match handle.blocking_set(&3, MOMENT / 10) {
                Err(SetError::Fault(fault)) => names(&fault, &test, FaultKind::Damaged),
                Err(SetError::Timeout(fault)) => assert!(fault.to_string().contains(&test.name)),
                done => drop(done.unwrap()),
            }
            put(&file, LOCK, word);
            let set = async { tokio::time::timeout(MOMENT / 10, handle.set(&4)).await };
            if let Ok(Err(err)) = rt.block_on(set) {
                names(err.fault(), &test, FaultKind::Damaged);
            }
        }
    }
    put(&file, LOCK, 0);
    for handle in [&value, &other] {
        handle.blocking_set(&5, None).unwrap();
        rt.block_on(handle.update(|old| old.unwrap() + 1)).unwrap();
    }
    assert!(untouchable(&file) == outside);
}

/// The lock is overwritten under a setter while another one waits for its turn.
#[test]
fn a_lock_word_overwritten_under_a_setter() {
    for word in [0, u64::MAX, WRITER, 1 << 20 | WRITER, 2 | WRITER, 2, 7 | WRITER] {
        for on_tokio in [false, true] {
            let test = Test::new(&format!("lock word {word:x} under a setter"));
            let value = Value::<u64>::create(&test.name).unwrap();
            let other = Value::<u64>::open(&test.name).unwrap(); // slot 1
            let file = open_file(&test);
            std::thread::scope(|scope| {
                let mut asleep = None;
                let update = value.blocking_update(
                    |_| {
                        asleep = Some(scope.spawn(|| match on_tokio {
                            true => runtime().block_on(other.set(&2)),
                            false => other.blocking_set(&2, None),
                        }));
                        until(|| stage::parked(&test.path()) == 1);
                        put(&file, LOCK, word);
                        1
                    },
                    None,
                );
                update.unwrap();
                if let Err(err) = asleep.unwrap().join().unwrap() {
                    names(err.fault(), &test, FaultKind::Damaged);
                }
            });
            assert!(value.get().unwrap().is_some());
            put(&file, LOCK, 0);
            value.blocking_set(&3, None).unwrap();
            other.blocking_set(&4, None).unwrap();
        }
    }
}

/// The slot of a sleeper is overwritten: the next set wakes it, with an error, or with the version.
#[test]
fn slots_overwritten_under_a_waiter() {
    for (word, garbage) in [(0, 0), (0, 0x1234_5678_9abc_de00), (0, u64::MAX), (1, u64::MAX)] {
        for on_tokio in [false, true] {
            let test = Test::new(&format!("slot word {word} = {garbage:x}"));
            let value = Value::<u64>::create(&test.name).unwrap();
            let other = Value::<u64>::open(&test.name).unwrap(); // slot 1
            let waiter = other.clone();
            let asleep = std::thread::spawn(move || match on_tokio {
                true => runtime().block_on(waiter.changed(0)),
                false => waiter.blocking_changed(0, None),
            });
            until(|| other.stat().unwrap().connections == 1);
            let file = open_file(&test);
            let at = SLOTS + 128 + 8 * word;
            let old = word_at(&file, at);
            put(&file, at, garbage);
            value.try_set(&1).unwrap();
            if (word, garbage) == (0, 0) {
                // A free slot has nobody to wake; who comes or goes wakes all.
                put(&file, at, old);
                value.try_set(&2).unwrap();
            }
            match asleep.join().unwrap() {
                Ok(version) => assert!(version > 0),
                Err(err) => names(err.fault(), &test, FaultKind::Damaged),
            }
            if word == 0 {
                put(&file, at, old);
            }
            assert!(other.get().unwrap().is_some());
        }
    }
}

#[test]
fn garbage_instead_of_msgpack() {
    let test = Test::new("msgpack");
    let value = Value::<BTreeMap<String, Vec<Option<(u8, f64)>>>>::create(&test.name).unwrap();
    value.try_set_bytes(&[0; 4096]).unwrap();
    value.try_set(&BTreeMap::new()).unwrap(); // the last one
    let file = open_file(&test);
    let [offset, ..] = descriptor(&file, 0);
    let show = |bytes: &[u8]| {
        file.write_all_at(bytes, offset).unwrap();
        put(&file, BUFFERS + 16, bytes.len() as u64);
        value.get()
    };
    let mut deep = vec![0x91; 3000];
    deep.push(0xc0);
    let chosen: [&[u8]; 9] = [
        b"",
        &[0xc1],
        &[0x80, 0x80],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xdd, 0xff, 0xff, 0xff, 0xff, 1],
        &[0xdb, 0xff, 0xff, 0xff, 0xff, b'x'],
        &[0x81, 0xa1, 0xff, 0x90],
        &[0xc9, 0xff, 0xff, 0xff, 0xff, 1],
        &deep,
    ];
    for bytes in chosen {
        names(&show(bytes).unwrap_err(), &test, FaultKind::Decode);
    }
    let mut random = Random::new(5);
    let mut bytes = [0; 64];
    for _ in 0..scaled(20_000) {
        let len = random.below(64) as usize;
        random.fill(&mut bytes[..len]);
        bytes[0] = 0x80 | bytes[0] & 3; // a map, as it should
        if let Err(fault) = show(&bytes[..len.max(1)]) {
            names(&fault, &test, FaultKind::Decode);
        }
    }
    for tag in 0..=255 {
        put(&file, BUFFERS + 24, tag);
        assert!(tag == 1 || value.get().is_err(), "tag {tag}");
        if let Err(fault) = value.get() {
            names(&fault, &test, FaultKind::Decode);
        }
    }
}
