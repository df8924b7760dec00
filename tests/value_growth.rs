//! A value of any size: growing under readers, giving back what it left, a full `/dev/shm`.

#![allow(unsafe_code, reason = "a slice larger than memory")]

mod common;
mod stage;

use common::{Peer, Watchdog, say};
use ringspan::{FaultKind, SetError, TrySetError, Value};
use stage::{Random, Test, doors, role, runtime, scaled};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

const PAGE: u64 = 4096;
/// Header, slots, kind area.
const FRONT: u64 = 16384;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    match role.role.as_str() {
        "own tmpfs" => own_tmpfs(&role.name),
        "checks" => {
            let value = Value::<()>::open(&role.name).unwrap();
            let mut seen = 0;
            loop {
                say("waits");
                seen = value.blocking_changed(seen, None).unwrap();
                let bytes = value.get_bytes().unwrap().unwrap();
                say(format!("{} {}", bytes.len(), is_whole(&bytes)));
                if bytes.is_empty() {
                    break;
                }
            }
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

fn filled(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Random::new(seed ^ len as u64).fill(&mut bytes);
    if let Some(first) = bytes.first_mut() {
        *first = seed as u8;
    }
    bytes
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes == filled(bytes.len(), bytes[0].into())
}

const SIZES: [usize; 22] = [
    0,
    1,
    7,
    8,
    9,
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    65536,
    1 << 20,
    3_000_001,
    8 << 20,
    100,
    0,
    5_000_000,
    1,
    4096,
    12 << 20,
    0,
];

#[test]
fn any_size_and_back() {
    let test = Test::new("sizes");
    let value = Value::<()>::create(&test.name).unwrap();
    let other = Value::<()>::open(&test.name).unwrap(); // mapped before anything grew
    let mut reused = Vec::new();
    for (seed, &len) in (0..).zip(&SIZES) {
        let bytes = filled(len, seed);
        let setter = if seed % 2 == 0 { &value } else { &other };
        assert_eq!(setter.blocking_set_bytes(&bytes, None).unwrap(), seed + 1);
        for reader in [&value, &other, &Value::open(&test.name).unwrap()] {
            assert!(reader.get_bytes_into(&mut reused).unwrap());
            assert!(reused == bytes, "{len} bytes came back as other ones");
        }
    }
}

#[test]
fn random_sizes() {
    let test = Test::new("random sizes");
    let value = Value::<()>::create(&test.name).unwrap();
    let other = Value::<()>::open(&test.name).unwrap();
    let mut random = Random::new(11);
    for seed in 0..scaled(400) {
        let shift = random.below(22);
        let bytes = filled(random.below(1 << shift) as usize, seed);
        value.try_set_bytes(&bytes).unwrap();
        assert!(other.get_bytes().unwrap().unwrap() == bytes, "{} bytes", bytes.len());
    }
}

#[test]
fn a_typed_value_grows_under_an_update() {
    let test = Test::new("update grows");
    let value = Value::<String>::create(&test.name).unwrap();
    let late = Value::<String>::open(&test.name).unwrap();
    let rt = runtime();
    for round in 0..20u32 {
        let grow = |old: Option<String>| format!("{0}{0}.", old.unwrap_or_default());
        match round % 2 {
            0 => value.blocking_update(grow, None).map(drop).unwrap(),
            _ => rt.block_on(value.update(grow)).map(drop).unwrap(),
        }
        assert_eq!(value.get().unwrap().unwrap().len(), (2 << round) - 1);
    }
    assert!(late.get().unwrap().unwrap().bytes().all(|byte| byte == b'.'));
}

/// Another process, asleep since before the growth, reads what has grown.
#[test]
fn another_process_follows_the_growth() {
    let test = Test::new("process follows");
    let value = Value::<()>::create(&test.name).unwrap();
    let mut child = test.spawn("checks", "");
    for (seed, len) in [100, 5000, 1 << 20, 300, 3 << 20, 0].into_iter().enumerate() {
        child.expect("waits");
        value.blocking_set_bytes(&filled(len, seed as u64), None).unwrap();
        child.expect(&format!("{len} true"));
    }
    child.finish();
    test.sweep_doors(); // the child left by exit
}

fn memory(test: &Test) -> u64 {
    test.path().metadata().unwrap().blocks() * 512
}

#[test]
fn memory_is_given_back_on_the_way() {
    let test = Test::new("memory");
    let value = Value::<()>::create(&test.name).unwrap();
    // Step by step: each of the two buffers moves again and again.
    let mut len = 1000;
    while len < 8 << 20 {
        value.blocking_set_bytes(&vec![1; len], None).unwrap();
        let most = 4 * len as u64 + FRONT + 4 * PAGE;
        assert!(memory(&test) <= most, "{} bytes for a value of {len}", memory(&test));
        len += len / 5 + 1;
    }
    let grown = (memory(&test), test.path().metadata().unwrap().len());
    // No more for the sets that follow, of whatever size up to that.
    for len in [len / 2, 0, 8 << 20, 8 << 20, 77, 1 << 20] {
        value.blocking_set_bytes(&vec![2; len], None).unwrap();
        assert_eq!((memory(&test), test.path().metadata().unwrap().len()), grown);
    }
    drop(value);
    ringspan::remove(&test.name).unwrap();
}

#[test]
fn more_than_there_can_be() {
    let test = Test::new("too large");
    let value = Value::<()>::create(&test.name).unwrap();
    value.try_set_bytes(b"old").unwrap();
    let size = test.path().metadata().unwrap().len();
    // 256 GiB of address space that is never touched, since the room is reserved first.
    let len = 1 << 38;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping, nothing of ours is moved.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: mapped, readable, and nobody else's, for as long as the process lives.
    let huge = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) };
    let err = value.blocking_set_bytes(huge, None).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::NoSpace, "{err}");
    assert_eq!(value.get_bytes().unwrap().unwrap(), b"old");
    assert_eq!(test.path().metadata().unwrap().len(), size);
}

// ---- a tmpfs of a few pages ---------------------------------------------------------------------

fn skipped(test: &str, reason: &str) {
    use std::io::Write;
    if let Some(path) = std::env::var_os("RINGSPAN_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        file.and_then(|mut file| writeln!(file, "{test}\t{reason}")).unwrap();
    }
}

/// In a mount namespace of its own, with a `/dev/shm` of 1 MiB.
#[test]
fn a_full_tmpfs_leaves_the_old_value() {
    let mounts = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs none /dev/shm"])
        .stderr(Stdio::null())
        .status();
    if !mounts.is_ok_and(|status| status.success()) {
        return skipped("a_full_tmpfs_leaves_the_old_value", "needs root and unshare");
    }
    let _watchdog = Watchdog::new("own tmpfs");
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs -o size=1m none /dev/shm && exec \"$0\" \"$@\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_entry", "--nocapture", "--test-threads=1"])
        .env(common::ROLE, "own tmpfs")
        .env(common::ARGS, "/full\n");
    let mut peer = Peer::start("own tmpfs", command);
    peer.expect("done");
    peer.finish();
}

fn own_tmpfs(name: &str) {
    let value = Value::<String>::create(name).unwrap();
    let other = Value::<String>::open(name).unwrap();
    let full = |err: &ringspan::Fault| {
        assert_eq!(err.kind(), FaultKind::NoSpace, "{err}");
        assert_eq!(err.errno(), Some(libc::ENOSPC), "{err}");
        assert!(err.to_string().contains(name), "{err}");
    };
    let old = "old".repeat(2000);
    value.try_set(&old).unwrap();
    let large = "x".repeat(1_100_000);
    for round in 0..4 {
        let before = (value.version(), std::fs::metadata("/dev/shm/full").unwrap().blocks());
        let Err(TrySetError::Fault(fault)) = value.try_set(&large) else { panic!() };
        full(&fault);
        let Err(SetError::Fault(fault)) = other.blocking_set(&large, None) else { panic!() };
        full(&fault);
        full(runtime().block_on(value.update(|_| large.clone())).unwrap_err().fault());
        assert_eq!(other.get().unwrap().as_ref(), Some(&old), "the old value stands");
        let after = (value.version(), std::fs::metadata("/dev/shm/full").unwrap().blocks());
        assert_eq!(before, after, "round {round}: nothing has changed");
        // What fits is set as before.
        other.try_set(&"small".to_owned()).unwrap();
        assert_eq!(value.get().unwrap().as_deref(), Some("small"));
        value.blocking_set(&old, None).unwrap();
    }
    // Grows as far as it goes, step by step, and works on when it goes no further.
    let (mut len, mut set) = (10_000, 0);
    let end = loop {
        match value.try_set(&"y".repeat(len)) {
            Ok(_) => (set, len) = (len, len + len / 4),
            Err(TrySetError::Fault(fault)) => break fault,
            Err(err) => panic!("{err}"),
        }
    };
    full(&end);
    assert!(set > 100_000, "{set} bytes of a MiB were all that went in");
    let whole = other.get().unwrap().unwrap();
    assert_eq!(whole.len(), set);
    assert!(whole.bytes().all(|byte| byte == b'y'));
    for _ in 0..3 {
        value.try_set(&old).unwrap();
        other.try_set(&whole).unwrap();
        assert_eq!(value.get().unwrap().as_ref(), Some(&whole));
    }
    // A place that was given back, in a tmpfs that is full: to read it by the mapping takes a page.
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    let mut fill = std::fs::File::create("/dev/shm/fill").unwrap();
    while fill.write_all(&[1; 512]).is_ok() {}
    let file = std::fs::File::options().read(true).write(true).open("/dev/shm/full").unwrap();
    let at = 12928 + 128 * (value.version() & 1);
    for (word, at) in [FRONT, PAGE, PAGE, 0].into_iter().zip((at..).step_by(8)) {
        file.write_all_at(&u64::to_le_bytes(word), at).unwrap();
    }
    drop(other.get_bytes());
    drop((value, other));
    assert!(!doors().exists() || doors().read_dir().unwrap().next().is_none());
    say("done");
}
