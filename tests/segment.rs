//! Segments between real processes: creation, what openers refuse, raw ones, the list.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

mod common;
mod waiting;

use common::{Leftovers, Peer, Watchdog, child, hear, path_of, say};
use ringspan::{FaultKind, Kind, OpenError, Ring, Segment};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use waiting::{until_attached, wait};

#[test]
fn child_entry() {
    child(|role, args| match role {
        "create" => {
            let made = Segment::options().ephemeral(args[1] == "ephemeral").create(&args[0], 64);
            say(if made.is_ok() { "made" } else { "not made" });
            hear();
        }
        "race" => {
            say("ready");
            hear();
            say(match Segment::create(&args[0], 4096) {
                Ok(_) => "won".into(),
                Err(OpenError::AlreadyExists(_)) => "lost".into(),
                Err(err) => err.to_string(),
            });
            hear();
        }
        "stranger" => {
            become_user_1();
            say(kind_of(Segment::open(&args[0])));
            say(kind_of(Segment::options().raw().open(&args[0])));
            say(ringspan::remove(&args[0]).map_err(|err| err.fault().kind()) == Ok(()));
            say(ringspan::segments().unwrap().iter().any(|info| info.name == args[0]));
        }
        "umask" => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
            Segment::options().mode(0o640).create(&args[0], 1).unwrap();
            Segment::options().raw().mode(0o660).create(&args[1], 1).unwrap();
        }
        "wait" => wait(&args[0], args[1] == "tokio"),
        other => panic!("role {other}"),
    });
}

fn kind_of(opened: Result<Segment, OpenError>) -> String {
    match opened {
        Ok(_) => "open".into(),
        Err(OpenError::NotFound(_)) => "NotFound".into(),
        Err(err) => format!("{:?}", err.fault().kind()),
    }
}

#[allow(unsafe_code, reason = "giving up root")]
fn become_user_1() {
    // SAFETY: plain numbers; only this child is changed.
    let done = unsafe { libc::setresuid(1, 1, 1) };
    assert_eq!(done, 0);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

// ---- bytes --------------------------------------------------------------------------------------

#[test]
fn bytes_travel_whole_at_every_alignment() {
    let left = Leftovers::new();
    let name = left.name("bytes");
    let seg = Segment::create(&name, 100).unwrap();
    let other = Segment::open(&name).unwrap();
    assert_eq!((other.len(), other.name()), (100, name.clone()));
    let all: Vec<u8> = (1..=100).collect();
    for start in 0..20 {
        for len in 0..=(100 - start) {
            seg.write_at(0, &[0; 100]).unwrap();
            seg.write_at(start, &all[..len]).unwrap();
            let (mut part, mut whole) = (vec![0; len], [0; 100]);
            other.read_at(start, &mut part).unwrap();
            other.read_at(0, &mut whole).unwrap();
            assert_eq!(part, &all[..len]);
            assert!(whole[..start].iter().chain(&whole[start + len..]).all(|&b| b == 0));
        }
    }
    for (at, len) in [(100, 1), (99, 2), (usize::MAX, 1), (1, usize::MAX - 200)] {
        let mut out = vec![0; len.min(200)];
        let err = seg.read_at(at, &mut out).unwrap_err();
        assert_eq!(err.kind(), FaultKind::InvalidOption);
        assert!(seg.write_at(at, &out).is_err());
    }
    seg.read_at(100, &mut []).unwrap();
    ringspan::remove(&name).unwrap();
}

#[test]
fn handles_go_between_threads() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Segment>();
    let left = Leftovers::new();
    let name = left.name("empty");
    let seg = Segment::create(&name, 0).unwrap();
    assert!(seg.is_empty() && !seg.is_raw() && !seg.is_ephemeral());
    assert_eq!(seg.notify().unwrap(), 1);
    ringspan::remove(&name).unwrap();
}

// ---- creation -----------------------------------------------------------------------------------

#[cfg(feature = "failpoints")]
#[test]
fn a_killed_creator_leaves_nothing() {
    let left = Leftovers::new();
    let points = ["create.anonymous", "create.header", "create.claimed", "create.named"];
    let attaching = ["door.bound", "attach.door", "attach.claimed", "attach.rung"];
    for (how, points) in [("plain", &points[..]), ("ephemeral", &[points, attaching].concat())] {
        for point in points {
            let _watchdog = Watchdog::new(format!("{how} creator killed at {point}"));
            let name = left.name(point);
            let mut creator = Peer::spawn_with("create", &[&name, how], |command| {
                command.env("RINGSPAN_FAILPOINT", point);
            });
            assert!(creator.was_killed(), "{point} is not passed by a {how} creator");
            match (*point, how) {
                // It is all there, but for the creator's knowing it.
                ("create.named", "plain") => ringspan::remove(&name).unwrap(),
                ("create.named", _) => {
                    assert!(path_of(&name).exists());
                    assert!(matches!(Segment::open(&name), Err(OpenError::NotFound(_))));
                }
                _ => assert!(!path_of(&name).exists(), "{point}"),
            }
            Segment::create(&name, 1).unwrap();
            ringspan::remove(&name).unwrap();
        }
    }
    ringspan::gc().unwrap();
}

#[test]
fn one_of_eight_creators_wins() {
    let _watchdog = Watchdog::new("eight creators");
    let left = Leftovers::new();
    for round in 0..5 {
        let name = left.name(&format!("race{round}"));
        let mut all: Vec<Peer> = (0..8).map(|_| Peer::spawn("race", &[&name])).collect();
        all.iter_mut().for_each(|peer| peer.expect("ready"));
        all.iter_mut().for_each(|peer| peer.say("go"));
        let mut said: Vec<String> = all.iter_mut().map(Peer::hear).collect();
        said.sort();
        let mut wanted = vec!["lost"; 7];
        wanted.push("won");
        assert_eq!(said, wanted);
        assert_eq!(Segment::open(&name).unwrap().len(), 4096);
        ringspan::remove(&name).unwrap();
    }
}

#[test]
fn what_cannot_be_made_says_why() {
    let left = Leftovers::new();
    let name = left.name("huge");
    for raw in [false, true] {
        let options = if raw { Segment::options().raw() } else { Segment::options() };
        let err = options.clone().create(&name, 1 << 50).unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::NoSpace, "{err}");
        assert_eq!(err.fault().errno(), Some(libc::ENOSPC));
        let err = options.mode(0o070).create(&name, 1).unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::InvalidOption, "{err}");
    }
    let err = Segment::options().raw().ephemeral(true).create(&name, 1).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::InvalidOption, "{err}");
    let err = Segment::create("a/b", 1).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::InvalidName, "{err}");
    let _there = Segment::create(&name, 10).unwrap();
    assert!(matches!(Segment::create(&name, 10), Err(OpenError::AlreadyExists(_))));
    assert_eq!(Segment::open_or_create(&name, 10).unwrap().len(), 10);
    let err = Segment::open_or_create(&name, 11).unwrap_err();
    assert!(err.to_string().contains("11") && err.to_string().contains("10"), "{err}");
    ringspan::remove(&name).unwrap();
    assert!(matches!(Segment::open(&name), Err(OpenError::NotFound(_))));
}

#[test]
fn a_raw_segment_takes_its_memory_at_once_or_when_it_is_written() {
    let left = Leftovers::new();
    let name = left.name("reserve");
    let held = || fs::metadata(path_of(&name)).unwrap().blocks() * 512;
    for (reserve, at_first) in [(true, 1 << 20), (false, 0)] {
        let options = Segment::options().raw().reserve(reserve);
        let seg = options.create(&name, 1 << 20).unwrap();
        assert_eq!((seg.len(), held()), (1 << 20, at_first));
        seg.write_at(0, b"x").unwrap();
        assert_eq!(held(), at_first.max(4096));
        ringspan::remove(&name).unwrap();
    }
    let options = Segment::options().reserve(false);
    let err = options.clone().create(&name, 1).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::InvalidOption, "{err}");
    // The same answer whether there is one or not.
    for _ in 0..2 {
        let err = options.clone().open_or_create(&name, 1).unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::InvalidOption, "{err}");
        let _ = Segment::create(&name, 1);
    }
    ringspan::remove(&name).unwrap();
    let err = options.raw().create(&name, 1 << 50).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::NoSpace, "{err}");
    assert!(!path_of(&name).exists());
}

#[test]
fn a_segment_begins_with_what_its_creator_gives_it() {
    let left = Leftovers::new();
    let name = left.name("data");
    for options in [
        Segment::options(),
        Segment::options().ephemeral(true),
        Segment::options().raw(),
        Segment::options().raw().reserve(false),
    ] {
        for len in [5, 100, 1 << 16] {
            let seg = options.clone().create_with(&name, len, b"hello").unwrap();
            let mut bytes = vec![1; len];
            seg.read_at(0, &mut bytes).unwrap();
            assert_eq!(bytes[..5], *b"hello");
            assert!(bytes[5..].iter().all(|&byte| byte == 0) && seg.len() == len);
            ringspan::remove(&name).unwrap();
        }
        let err = options.create_with(&name, 4, b"hello").unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::InvalidOption, "{err}");
        assert!(!path_of(&name).exists());
    }
}

#[test]
fn the_mode_is_what_was_asked_for_whatever_the_umask() {
    let _watchdog = Watchdog::new("umask");
    let left = Leftovers::new();
    let (name, raw) = (left.name("mode"), left.name("rawmode"));
    Peer::spawn("umask", &[&name, &raw]).finish();
    let mode = |name: &str| fs::metadata(path_of(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&name), mode(&raw)), (0o640, 0o660));
    ringspan::remove(&name).unwrap();
    ringspan::remove(&raw).unwrap();
}

// ---- what openers refuse ------------------------------------------------------------------------

#[test]
fn foreign_and_damaged_files_are_refused_and_removable() {
    let left = Leftovers::new();
    let made = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let name = left.name(what);
        drop(Segment::create(&name, 100).unwrap());
        let mut bytes = fs::read(path_of(&name)).unwrap();
        change(&mut bytes);
        fs::write(path_of(&name), bytes).unwrap();
        name
    };
    let foreign = made("foreign", &|bytes| bytes[..8].copy_from_slice(b"whatever"));
    let short = made("short", &|bytes| bytes.truncate(100));
    let truncated = made("truncated", &|bytes| bytes.truncate(5000));
    let version = made("version", &|bytes| bytes[8] ^= 0x40);
    let order = made("order", &|bytes| bytes[12..16].reverse());
    let sum = made("sum", &|bytes| bytes[100] ^= 1);
    let ring = left.name("ring");
    drop(Ring::options().create(&ring).unwrap());
    let link = left.name("link");
    std::os::unix::fs::symlink(path_of(&sum), path_of(&link)).unwrap();
    let cases = [
        (&foreign, FaultKind::Mismatch, "not a ringspan object"),
        (&short, FaultKind::Mismatch, "not a ringspan object"),
        (&truncated, FaultKind::Damaged, "the file has 5000"),
        (&version, FaultKind::Mismatch, "layout version"),
        (&order, FaultKind::Mismatch, "byte order"),
        (&sum, FaultKind::Damaged, "checksum"),
        (&ring, FaultKind::Mismatch, "is a ring, not a segment"),
        (&link, FaultKind::Mismatch, "symbolic link"),
    ];
    for (name, kind, text) in cases {
        let err = Segment::open(name).unwrap_err();
        assert_eq!(err.fault().kind(), kind, "{err}");
        assert!(err.to_string().contains(text) && err.to_string().contains(name.as_str()), "{err}");
        let err = Segment::open_or_create(name, 1).unwrap_err();
        assert_eq!(err.fault().kind(), kind, "{err}");
    }
    let list = ringspan::segments().unwrap();
    let listed = |name: &String| list.iter().find(|info| info.name == *name);
    assert_eq!(listed(&sum).unwrap().fault.as_ref().unwrap().kind(), FaultKind::Damaged);
    assert_eq!(listed(&version).unwrap().fault.as_ref().unwrap().kind(), FaultKind::Mismatch);
    assert_eq!(listed(&ring).unwrap().kind, Some(Kind::Ring));
    assert!(listed(&foreign).is_none() && listed(&link).is_none());
    for (name, ..) in cases {
        match ringspan::remove(name) {
            Err(_) if *name == link => fs::remove_file(path_of(name)).unwrap(),
            done => done.unwrap(),
        }
    }
}

#[test]
fn every_byte_of_the_header_may_be_garbage() {
    let left = Leftovers::new();
    let name = left.name("garbage");
    drop(Segment::create(&name, 64).unwrap());
    let good = fs::read(path_of(&name)).unwrap();
    for at in 0..256 {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            fs::write(path_of(&name), bytes).unwrap();
            let err = Segment::open(&name).unwrap_err();
            let kinds = [FaultKind::Mismatch, FaultKind::Damaged];
            assert!(kinds.contains(&err.fault().kind()), "byte {at}: {err}");
        }
    }
    fs::write(path_of(&name), good).unwrap();
    Segment::open(&name).unwrap();
    ringspan::remove(&name).unwrap();
}

#[test]
fn files_of_others_are_refused() {
    if !is_root() {
        return eprintln!("skipped: files_of_others_are_refused needs root");
    }
    let _watchdog = Watchdog::new("a stranger");
    let left = Leftovers::new();
    let name = left.name("mine");
    let _seg = Segment::options().mode(0o666).create(&name, 64).unwrap();
    let mut stranger = Peer::spawn("stranger", &[&name]);
    for answer in ["PermissionDenied", "PermissionDenied", "false", "false"] {
        stranger.expect(answer);
    }
    assert_eq!(fs::metadata(path_of(&name)).unwrap().uid(), 0);
    ringspan::remove(&name).unwrap();
}

// ---- raw, list ----------------------------------------------------------------------------------

#[test]
fn raw_segments_are_those_of_python() {
    if Command::new("python3").arg("-c").arg("").status().is_err() {
        return eprintln!("skipped: raw_segments_are_those_of_python needs python3");
    }
    let _watchdog = Watchdog::new("python");
    let left = Leftovers::new();
    let (ours, theirs) = (left.name("ours"), left.name("theirs"));
    let seg = Segment::options().raw().create(&ours, 100).unwrap();
    seg.write_at(0, b"from rust").unwrap();
    let code = "
import os, sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
a = SharedMemory(sys.argv[1])
assert a.size == 100, a.size
assert bytes(a.buf[:9]) == b'from rust'
a.buf[:11] = b'from python'
b = SharedMemory(sys.argv[2], create=True, size=50)
b.buf[:6] = b'theirs'
print('\\x01made', flush=True)
sys.stdin.readline()
for shm in (a, b):
    resource_tracker.unregister(shm._name, 'shared_memory')
os._exit(0)
";
    let mut command = Command::new("python3");
    command.args(["-c", code, ours.trim_start_matches('/'), theirs.trim_start_matches('/')]);
    let mut python = Peer::start("python", command);
    python.expect("made");
    let mut bytes = [0; 11];
    seg.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"from python");
    let other = Segment::options().raw().open(&theirs).unwrap();
    assert_eq!((other.len(), other.is_raw()), (50, true));
    other.read_at(0, &mut bytes[..6]).unwrap();
    assert_eq!(&bytes[..6], b"theirs");
    let err = seg.notify().unwrap_err();
    assert_eq!(err.kind(), FaultKind::Unsupported, "{err}");
    let raw = ringspan::segments_including_raw().unwrap();
    assert!([&ours, &theirs].iter().all(|n| raw.iter().any(|info| info.name == **n && info.raw)));
    assert!(!ringspan::segments().unwrap().iter().any(|info| info.name == ours));
    ringspan::gc().unwrap();
    ringspan::remove(&ours).unwrap();
    ringspan::remove(&theirs).unwrap();
    python.say("end");
    python.finish();
}

#[test]
fn the_list_says_who_is_attached() {
    let _watchdog = Watchdog::new("list");
    let left = Leftovers::new();
    let name = left.name("list");
    let _seg = Segment::options().mode(0o640).create(&name, 123).unwrap();
    let mut sleeper = Peer::spawn("wait", &[&name, "blocking"]);
    sleeper.expect("ready");
    until_attached(&name, &sleeper);
    let look = || ringspan::segments().unwrap().into_iter().find(|i| i.name == name).unwrap();
    let info = look();
    assert_eq!((info.kind, info.size, info.mode), (Some(Kind::Bytes), 123, 0o640));
    assert_eq!(info.creator_pid, Some(std::process::id()));
    assert!(info.created.is_some() && !info.ephemeral && info.fault.is_none());
    assert_eq!(info.attached.len(), 1);
    assert_eq!((info.attached[0].pid, info.attached[0].role), (sleeper.pid(), "user"));
    sleeper.kill9();
    assert_eq!(look().attached[0].alive, Some(false));
    left.door(info.attached[0].tag);
    ringspan::gc().unwrap();
    assert!(look().attached.is_empty());
    ringspan::remove(&name).unwrap();
}
