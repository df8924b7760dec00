//! Doors that lie, say nothing or are beset, and a process that runs out of descriptors.

#![allow(unsafe_code, reason = "limits of the process")]

mod common;
mod stage;

use common::{hear, say};
use ringspan::{Consumer, FaultKind, OpenError, PopError, PushError, Ring};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use stage::{Test, doors, role, until};
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

const CAPACITY: u64 = 4096;
const CONSUMER_SLOT: u64 = 384 + 128;
const TAG: u64 = 0x5eed_0000_0000_0100;
const BRIEF: Duration = Duration::from_millis(20);

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let ring = Ring::options().open(&role.name).unwrap();
    limit_files(64);
    match role.role.as_str() {
        "attaches" => attaches(&ring),
        "knocks" => knocks(&ring),
        "accepts" => accepts(&ring),
        "truncated" => truncated(&ring),
        "beset" => beset(&ring),
        "sleeps" => {
            let mut rx = ring.consumer().unwrap();
            say("ready");
            while let Some(message) = rx.blocking_pop(None).unwrap() {
                say(message.len());
            }
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

fn limit_files(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a place for the limit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: a whole limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// Every descriptor that is left.
fn hog() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn attaches(ring: &Ring) {
    let hogged = hog();
    assert!(!hogged.is_empty());
    let before = ring.stat();
    for attached in [ring.producer().map(drop), ring.consumer().map(drop)] {
        let OpenError::Fault(fault) = attached.unwrap_err() else { panic!() };
        assert_eq!(fault.kind(), FaultKind::TooManyFiles, "{fault}");
        assert!(fault.to_string().contains(&ring.name()), "{fault}");
    }
    assert_eq!(ring.stat(), before, "nothing changed");
    drop(hogged);
    let mut tx = ring.producer().unwrap();
    tx.try_push(b"ok").unwrap();
}

/// The first push must knock at the sleeper's door, and cannot.
fn knocks(ring: &Ring) {
    let mut tx = ring.producer().unwrap();
    let hogged = hog();
    say("hogged");
    hear();
    let before = ring.stat();
    assert!(before.consumer_parked);
    for _ in 0..3 {
        let Err(PushError::Fault(fault)) = tx.blocking_push(b"one", None) else { panic!() };
        assert_eq!(fault.kind(), FaultKind::TooManyFiles, "{fault}");
        assert!(fault.to_string().contains(&ring.name()), "{fault}");
    }
    assert_eq!((ring.stat().pushed, ring.stat().len), (before.pushed, before.len));
    drop(hogged);
    tx.blocking_push(b"one", None).unwrap();
    say("pushed");
    hear();
    tx.close().unwrap();
}

/// Asleep without a descriptor to spare, and somebody knocks.
fn accepts(ring: &Ring) {
    let mut rx = ring.consumer().unwrap();
    assert!(matches!(rx.blocking_pop(BRIEF), Err(PopError::Timeout(_))));
    let hogged = hog();
    say("hogged");
    // The knock wakes it; that it cannot knock back itself is an error, and takes nothing.
    let Err(PopError::Fault(fault)) = rx.blocking_pop(None).map(drop) else { panic!() };
    assert_eq!(fault.kind(), FaultKind::TooManyFiles, "{fault}");
    drop(hogged);
    assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(&b"one"[..]));
    say("popped");
    assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(&b"two"[..]));
    assert!(rx.blocking_pop(None).unwrap().is_none());
}

/// The sleeper's answer comes while there is no descriptor for it, and is lost.
fn truncated(ring: &Ring) {
    let mut tx = ring.producer().unwrap();
    tx.blocking_attached(None).unwrap();
    say("met");
    hear();
    let hogged = hog();
    tx.try_push(b"one").unwrap();
    drop(hogged);
    say("pushed");
    hear();
    tx.try_push(b"two").unwrap();
    hear();
    tx.close().unwrap();
}

/// Not even the spare descriptor is of use while somebody knocks.
fn beset(ring: &Ring) {
    let mut rx = ring.consumer().unwrap();
    assert!(matches!(rx.blocking_pop(BRIEF), Err(PopError::Timeout(_))));
    limit_files(3); // 0 to 2 are taken
    say("ready");
    for _ in 0..2 {
        let Err(PopError::Fault(fault)) = rx.blocking_pop(None).map(drop) else { panic!() };
        assert_eq!(fault.kind(), FaultKind::TooManyFiles, "{fault}");
    }
    limit_files(64);
    say("able");
    assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(&b"one"[..]));
}

/// One push of the child's finds us asleep.
fn woken_for(
    child: &mut common::Peer,
    ring: &Ring,
    mut rx: Consumer,
    expected: &'static [u8],
) -> Consumer {
    let asleep = std::thread::spawn(move || {
        assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(expected));
        rx
    });
    until(|| ring.stat().consumer_parked);
    child.say("push");
    asleep.join().unwrap()
}

#[test]
fn an_answer_that_was_lost_loses_no_later_wake() {
    let test = Test::new("lost answer");
    let ring = test.ring(CAPACITY);
    let mut rx = ring.consumer().unwrap();
    let mut child = test.spawn("truncated", "");
    child.expect("met");
    // Its knock is answered here.
    assert!(matches!(rx.blocking_pop(BRIEF), Err(PopError::Timeout(_))));
    rx = woken_for(&mut child, &ring, rx, b"one");
    child.expect("pushed");
    rx = woken_for(&mut child, &ring, rx, b"two");
    child.say("close");
    assert!(rx.blocking_pop(None).unwrap().is_none());
    child.finish();
}

#[test]
fn a_door_that_cannot_be_answered_is_an_error() {
    let test = Test::new("beset");
    let ring = test.ring(CAPACITY);
    let mut child = test.spawn("beset", "");
    child.expect("ready");
    let tag = ring.stat().consumer.unwrap().tag;
    let _caller = UnixStream::connect(common::door_of(tag)).unwrap();
    child.expect("able");
    let mut tx = ring.producer().unwrap();
    tx.try_push(b"one").unwrap();
    child.finish();
}

#[test]
fn out_of_descriptors_when_attaching() {
    let test = Test::new("attach without descriptors");
    let ring = test.ring(CAPACITY);
    test.spawn("attaches", "").finish();
    assert_eq!(&*ring.consumer().unwrap().try_pop().unwrap(), b"ok");
}

#[test]
fn out_of_descriptors_when_knocking() {
    let test = Test::new("knock without descriptors");
    let ring = test.ring(CAPACITY);
    let mut child = test.spawn("knocks", "");
    child.expect("hogged");
    let mut rx = ring.consumer().unwrap();
    let asleep = std::thread::spawn(move || {
        assert_eq!(rx.blocking_pop(None).unwrap().as_deref(), Some(&b"one"[..]));
        rx
    });
    until(|| ring.stat().consumer_parked);
    child.say("push");
    child.expect("pushed");
    let mut rx = asleep.join().unwrap();
    child.say("close");
    assert!(rx.blocking_pop(None).unwrap().is_none());
    child.finish();
}

#[test]
fn out_of_descriptors_when_accepting() {
    let test = Test::new("accept without descriptors");
    let ring = test.ring(CAPACITY);
    let mut child = test.spawn("accepts", "");
    child.expect("hogged");
    until(|| ring.stat().consumer_parked);
    let mut tx = ring.producer().unwrap();
    tx.blocking_push(b"one", None).unwrap();
    child.expect("popped");
    until(|| ring.stat().consumer_parked);
    tx.blocking_push(b"two", None).unwrap();
    tx.close().unwrap();
    child.finish();
}

/// Thousands of callers, those who stay as well as those who go, at a sleeper with 64 descriptors:
/// every wake arrives.
#[test]
fn a_flood_of_callers() {
    limit_files(1 << 14);
    let test = Test::new("flood");
    let ring = test.ring(CAPACITY);
    let mut child = test.spawn("sleeps", "");
    child.expect("ready");
    let mut tx = ring.producer().unwrap();
    let door = door_of(ring.stat().consumer.unwrap().tag);
    let mut kept = Vec::new();
    for n in 0..5000 {
        let caller = UnixStream::connect(&door).unwrap();
        if n % 16 == 0 {
            kept.push(caller);
        }
        if n % 500 == 0 {
            until(|| ring.stat().consumer_parked);
            tx.blocking_push(&[1; 10], None).unwrap();
            child.expect("10");
        }
    }
    drop(kept);
    tx.blocking_push(&[1; 11], None).unwrap();
    child.expect("11");
    tx.close().unwrap();
    child.finish();
}

fn door_of(tag: u64) -> PathBuf {
    doors().join(format!("{tag:016x}"))
}

/// A peer of our making: a slot with a tag and a park number, and a door.
struct Fake {
    door: UnixListener,
    file: File,
}

impl Fake {
    fn new(test: &Test) -> Fake {
        let door = UnixListener::bind(door_of(TAG)).unwrap();
        let fake = Fake { door, file: File::options().write(true).open(test.path()).unwrap() };
        fake.write(0, TAG);
        fake.sleeps(1);
        fake
    }

    fn write(&self, at: u64, word: u64) {
        self.file.write_at(&word.to_le_bytes(), CONSUMER_SLOT + at).unwrap();
    }

    fn sleeps(&self, number: u64) {
        self.write(8, number);
    }

    /// Answers the first caller that is still there; some only knock and go.
    fn answer(&self, with: impl AsFd) -> UnixStream {
        loop {
            let (conn, _) = self.door.accept().unwrap();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [with.as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            let (bytes, flags) = ([IoSlice::new(b"!")], SendFlags::NOSIGNAL);
            if rustix::net::sendmsg(&conn, &bytes, &mut control, flags).is_ok() {
                return conn;
            }
        }
    }
}

/// A blocking pipe without room for one more byte.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    rustix::io::ioctl_fionbio(&write, true).unwrap();
    while rustix::io::write(&write, &[0; 4096]).is_ok() {}
    while rustix::io::write(&write, &[0]).is_ok() {}
    rustix::io::ioctl_fionbio(&write, false).unwrap();
    (read, write)
}

/// Whatever stands in for a doorbell, a push neither waits for it nor fails nor breaks.
#[test]
fn doorbells_that_are_none() {
    let regular = tempfile();
    let read_only: OwnedFd = File::open("/dev/null").unwrap().into();
    let (closed, other) = UnixStream::pair().unwrap();
    drop(other);
    let (_reader, full) = full_pipe();
    let directory: OwnedFd = File::open("/").unwrap().into();
    let bells: [(&str, OwnedFd); 5] = [
        ("a regular file", regular),
        ("a file for reading", read_only),
        ("a closed socket", closed.into()),
        ("a full pipe", full),
        ("a directory", directory),
    ];
    for (what, bell) in bells {
        let test = Test::new(what);
        let ring = test.ring(CAPACITY);
        let fake = Fake::new(&test);
        let mut tx = ring.producer().unwrap();
        tx.try_push(b"first").unwrap(); // knocks
        let _conn = fake.answer(&bell);
        for n in 2..200 {
            fake.sleeps(n);
            let pushed = tx.blocking_push(&[1; 8], BRIEF);
            assert!(matches!(pushed, Ok(()) | Err(PushError::Timeout(_))), "{what}: {pushed:?}");
        }
        drop(tx);
        fake.write(0, 0);
        test.sweep_doors();
    }
}

fn tempfile() -> OwnedFd {
    let path = std::env::temp_dir().join(format!("ringspan-test-{}", std::process::id()));
    let file = File::options().create(true).truncate(true).write(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.into()
}

/// A door that never answers, and one that hangs up on everybody: pushes go on, and a producer that
/// must wait waits no longer than it was told.
#[test]
fn doors_that_do_not_answer() {
    for hangs_up in [false, true] {
        let test = Test::new(&format!("a silent door, hangs up: {hangs_up}"));
        let ring = test.ring(CAPACITY);
        let fake = Fake::new(&test);
        fake.door.set_nonblocking(true).unwrap();
        let mut tx = ring.producer().unwrap();
        let mut pushed = 0;
        for n in 2..300 {
            fake.sleeps(n);
            match tx.blocking_push(&[1; 32], if pushed > 90 { Duration::ZERO } else { BRIEF }) {
                Ok(()) => pushed += 1,
                Err(PushError::Timeout(_)) => {}
                Err(err) => panic!("{err}"),
            }
            while hangs_up && fake.door.accept().is_ok() {}
        }
        assert!(pushed > 90, "{pushed}");
        // The door is shut at last: refused, which is a proof.
        drop(fake.door);
        let err = loop {
            if let Err(err) = tx.blocking_push(&[1; 32], None) {
                break err;
            }
        };
        assert!(matches!(err, PushError::PeerDied { .. }), "{err}");
        drop(tx);
        test.sweep_doors();
    }
}
