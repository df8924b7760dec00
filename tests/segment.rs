//! Segments between real processes: creation, what openers refuse, removal, sweeps, waiting.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

mod common;

use common::{Leftovers, Peer, Watchdog, child, hear, path_of, say};
use ringspan::{FaultKind, Kind, OpenError, Ring, Segment};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

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
        "remove" => drop(ringspan::remove(&args[0])),
        "removals" => {
            let mut done = 0;
            say("ready");
            loop {
                match ringspan::remove(&args[0]) {
                    Ok(()) => done += 1,
                    Err(OpenError::NotFound(_)) => {}
                    Err(err) => panic!("{err}"),
                }
                if !path_of(&args[1]).exists() {
                    break;
                }
            }
            say(done);
        }
        "wait" => wait(&args[0], args[1] == "tokio"),
        "notify" => {
            let seg = Segment::open(&args[0]).unwrap();
            say("ready");
            while hear() == "go" {
                seg.write_at(0, b"x").unwrap();
                say(seg.notify().unwrap());
            }
        }
        "own tmpfs" => own_tmpfs(&args[0]),
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Says each version that comes.
fn wait(name: &str, on_tokio: bool) {
    let seg = Segment::open(name).unwrap();
    let runtime = runtime();
    let mut seen = seg.version().unwrap();
    say("ready");
    loop {
        let changed = match on_tokio {
            true => runtime.block_on(seg.changed(seen)),
            false => seg.blocking_changed(seen, None),
        };
        match changed {
            Ok(version) => seen = version,
            Err(err) => return say(format!("{:?}", err.fault().kind())),
        }
        say(seen);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Parked, as far as can be seen: somebody is attached with that pid.
fn attached(name: &str, pid: u32) -> bool {
    let list = ringspan::segments().unwrap();
    let info = list.iter().find(|info| info.name == name);
    info.is_some_and(|info| info.attached.iter().any(|a| a.pid == pid && a.alive == Some(true)))
}

fn until_attached(name: &str, peer: &Peer) {
    while !attached(name, peer.pid()) {
        std::thread::yield_now();
    }
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

// ---- removal ------------------------------------------------------------------------------------

#[test]
fn an_old_handle_does_not_remove_a_new_segment() {
    let left = Leftovers::new();
    let name = left.name("again");
    let old = Segment::options().ephemeral(true).create(&name, 8).unwrap();
    ringspan::remove(&name).unwrap();
    let new = Segment::create(&name, 16).unwrap();
    old.write_at(0, b"old").unwrap();
    assert_eq!(old.notify().map_err(|fault| fault.kind()), Ok(1), "it is attached");
    drop(old);
    assert_eq!(Segment::open(&name).unwrap().len(), 16);
    ringspan::remove(&name).unwrap();
    let err = new.notify().unwrap_err();
    assert_eq!(err.kind(), FaultKind::Removed, "{err}");
}

/// Each removal that succeeds took away exactly one creation.
#[test]
fn removers_and_creators_at_once() {
    let _watchdog = Watchdog::new("removers");
    let left = Leftovers::new();
    let (name, flag) = (left.name("churn"), left.name("flag"));
    fs::write(path_of(&flag), b"").unwrap();
    let mut removers: Vec<Peer> =
        (0..3).map(|_| Peer::spawn("removals", &[&name, &flag])).collect();
    removers.iter_mut().for_each(|peer| peer.expect("ready"));
    let mut made = 0;
    while made < 300 {
        match Segment::create(&name, 8) {
            Ok(_) => made += 1,
            Err(OpenError::AlreadyExists(_)) => {}
            Err(err) => panic!("{err}"),
        }
    }
    fs::remove_file(path_of(&flag)).unwrap();
    let mut removed: u32 = removers.iter_mut().map(|p| p.hear().parse::<u32>().unwrap()).sum();
    removed += u32::from(ringspan::remove(&name).is_ok());
    assert_eq!(removed, made);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_killed_remover_wedges_no_name() {
    let left = Leftovers::new();
    for point in ["remove.marked", "remove.unlink"] {
        let _watchdog = Watchdog::new(format!("remover killed at {point}"));
        for how in 0..4 {
            let name = left.name(point);
            drop(Segment::create(&name, 8).unwrap());
            let mut remover = Peer::spawn_with("remove", &[&name], |command| {
                command.env("RINGSPAN_FAILPOINT", point);
            });
            assert!(remover.was_killed());
            assert!(path_of(&name).exists());
            match how {
                0 => drop(Segment::create(&name, 8).unwrap()),
                1 => drop(Segment::open_or_create(&name, 8).unwrap()),
                2 => drop(Ring::options().open_or_create(&name).err()),
                _ => assert!(matches!(Segment::open(&name), Err(OpenError::NotFound(_)))),
            }
            let _ = ringspan::remove(&name);
        }
    }
}

// ---- ephemeral, gc ------------------------------------------------------------------------------

#[test]
fn the_last_one_out_removes_an_ephemeral_segment() {
    let _watchdog = Watchdog::new("ephemeral");
    let left = Leftovers::new();
    let name = left.name("ephemeral");
    let first = Segment::options().ephemeral(true).create(&name, 8).unwrap();
    let mut other = Peer::spawn("wait", &[&name, "blocking"]);
    other.expect("ready");
    until_attached(&name, &other);
    assert!(first.is_ephemeral());
    drop(first);
    assert!(path_of(&name).exists());
    other.kill9();
    // All died: it is not there for an opener, and a creator makes it anew.
    assert!(matches!(Segment::open(&name), Err(OpenError::NotFound(_))));
    assert!(!path_of(&name).exists());
    drop(Segment::options().ephemeral(true).create(&name, 8).unwrap());
    assert!(!path_of(&name).exists());
}

#[test]
fn an_ephemeral_ring_goes_with_its_last_end() {
    let left = Leftovers::new();
    let name = left.name("ring");
    let ring = Ring::options().ephemeral(true).create(&name).unwrap();
    assert!(Ring::options().open(&name).is_ok(), "nobody has been in it yet");
    let (tx, rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    drop(tx);
    assert!(path_of(&name).exists());
    drop(rx);
    assert!(!path_of(&name).exists());
}

#[test]
fn gc_takes_the_dead_and_leaves_the_living() {
    let _watchdog = Watchdog::new("gc");
    let left = Leftovers::new();
    let names: Vec<String> = ["dead", "alive", "kept"].iter().map(|what| left.name(what)).collect();
    let mut dead = Peer::spawn("create", &[&names[0], "ephemeral"]);
    let mut alive = Peer::spawn("create", &[&names[1], "ephemeral"]);
    dead.expect("made");
    alive.expect("made");
    drop(Segment::create(&names[2], 8).unwrap());
    let mut sleeper = Peer::spawn("wait", &[&names[2], "tokio"]);
    sleeper.expect("ready");
    until_attached(&names[2], &sleeper);
    let door = |name: &String, pid| {
        let list = ringspan::segments().unwrap();
        let info = list.iter().find(|info| info.name == *name).unwrap();
        left.door(info.attached.iter().find(|a| a.pid == pid).unwrap().tag)
    };
    let doors = [door(&names[0], dead.pid()), door(&names[2], sleeper.pid())];
    let living = door(&names[1], alive.pid());
    dead.kill9();
    sleeper.kill9();
    assert!(doors.iter().chain([&living]).all(|door| door.exists()));
    ringspan::gc().unwrap();
    assert!(!path_of(&names[0]).exists() && path_of(&names[1]).exists());
    assert!(path_of(&names[2]).exists(), "a persistent one stays");
    assert!(doors.iter().all(|door| !door.exists()), "the doors of the dead");
    assert!(living.exists());
    alive.say("end");
    alive.finish();
    assert!(!path_of(&names[1]).exists());
    ringspan::remove(&names[2]).unwrap();
}

/// In a mount namespace of its own, so that nobody else's segments are in reach.
#[test]
fn gc_of_old_segments_and_a_full_tmpfs() {
    let script = "mount -t tmpfs -o size=1m none /dev/shm && exec \"$0\" \"$@\"";
    let mounts = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs none /dev/shm"])
        .stderr(Stdio::null())
        .status();
    if !mounts.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: gc_of_old_segments_and_a_full_tmpfs needs root and unshare");
    }
    let _watchdog = Watchdog::new("own tmpfs");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_entry", "--nocapture", "--test-threads=1"])
        .env("RINGSPAN_CHILD", "own tmpfs")
        .env("RINGSPAN_CHILD_ARGS", "/old");
    let mut peer = Peer::start("own tmpfs", command);
    peer.expect("done");
    peer.finish();
}

fn own_tmpfs(name: &str) {
    drop(Segment::create(name, 8).unwrap());
    drop(Segment::options().raw().create("/raw", 8).unwrap());
    let used = Segment::create("/used", 8).unwrap();
    used.notify().unwrap();
    fs::write("/dev/shm/.ringspan-tmp-2147483646-1", b"half").unwrap();
    fs::write(format!("/dev/shm/.ringspan-tmp-{}-1", std::process::id()), b"half").unwrap();
    let report = ringspan::gc().unwrap();
    assert_eq!((report.removed.len(), report.temporaries), (0, 1), "{report:?}");
    let report = ringspan::gc_persistent_older_than(Duration::from_secs(3600)).unwrap();
    assert_eq!(report.removed.len(), 0);
    let report = ringspan::gc_persistent_older_than(Duration::ZERO).unwrap();
    assert_eq!(report.removed, [name]);
    assert!(path_of("/raw").exists() && path_of("/used").exists());
    let err = Segment::create("/large", 2 << 20).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::NoSpace, "{err}");
    assert!(!path_of("/large").exists());
    Segment::create("/fits", 1 << 19).unwrap();
    say("done");
}

#[test]
fn a_name_is_removed_only_where_it_is_what_was_meant() {
    let left = Leftovers::new();
    let name = left.name("meant");
    let first = Segment::create(&name, 8).unwrap();
    let err = ringspan::remove_kind(&name, Kind::Value).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Mismatch, "{err}");
    ringspan::remove_kind(&name, Kind::Bytes).unwrap();
    let gone = ringspan::remove_kind(&name, Kind::Bytes);
    assert!(matches!(gone, Err(OpenError::NotFound(_))));

    let second = Segment::options().raw().create(&name, 8).unwrap();
    let opened = Segment::options().raw().open(&name).unwrap();
    assert_eq!(second.file_id(), opened.file_id());
    assert_ne!(first.file_id(), second.file_id());
    let err = ringspan::remove_kind(&name, Kind::Bytes).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Mismatch, "{err}");
    let elsewhere = ringspan::remove_file(&name, first.file_id());
    assert!(matches!(elsewhere, Err(OpenError::NotFound(_))));
    assert!(path_of(&name).exists());
    ringspan::remove_file(&name, second.file_id()).unwrap();
    assert!(!path_of(&name).exists());

    // What is damaged has no kind.
    drop(Segment::create(&name, 8).unwrap());
    let mut bytes = fs::read(path_of(&name)).unwrap();
    bytes[100] ^= 1;
    fs::write(path_of(&name), bytes).unwrap();
    let err = ringspan::remove_kind(&name, Kind::Bytes).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Mismatch, "{err}");
    assert!(err.to_string().contains("checksum"), "{err}");
    ringspan::remove(&name).unwrap();
}

#[test]
fn a_raw_file_that_looks_like_ours_is_removed_all_the_same() {
    let left = Leftovers::new();
    let name = left.name("looks");
    for len in [8, 4096] {
        let seg = Segment::options().raw().create(&name, len).unwrap();
        seg.write_at(0, b"RINGSPAN").unwrap();
        ringspan::remove(&name).unwrap();
        assert!(!path_of(&name).exists());
    }
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

// ---- waiting ------------------------------------------------------------------------------------

#[test]
fn every_sleeper_is_woken_by_each_notification() {
    let _watchdog = Watchdog::new("four sleepers");
    let left = Leftovers::new();
    let name = left.name("notify");
    let seg = Segment::create(&name, 8).unwrap();
    let faces = ["tokio", "blocking", "tokio", "blocking"];
    let mut all: Vec<Peer> = faces.iter().map(|face| Peer::spawn("wait", &[&name, face])).collect();
    all.iter_mut().for_each(|peer| peer.expect("ready"));
    all.iter().for_each(|peer| until_attached(&name, peer));
    for _ in 0..200 {
        let version = seg.notify().unwrap();
        all.iter_mut().for_each(|peer| peer.expect(&version.to_string()));
    }
    ringspan::remove(&name).unwrap();
    all.iter_mut().for_each(Peer::kill9);
    drop(seg);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_killed_notifier_wakes_by_its_death() {
    for point in ["notify.raised", "wake.seen", "wake.rung"] {
        let _watchdog = Watchdog::new(format!("notifier killed at {point}"));
        let left = Leftovers::new();
        let name = left.name("killed");
        let seg = Segment::create(&name, 8).unwrap();
        let faces = ["tokio", "blocking", "tokio", "blocking"];
        let mut all: Vec<Peer> =
            faces.iter().map(|face| Peer::spawn("wait", &[&name, face])).collect();
        all.iter_mut().for_each(|peer| peer.expect("ready"));
        all.iter().for_each(|peer| until_attached(&name, peer));
        let mut notifier = Peer::spawn_with("notify", &[&name], |command| {
            command.env("RINGSPAN_FAILPOINT", point);
        });
        notifier.expect("ready");
        notifier.say("go");
        assert!(notifier.was_killed(), "{point}");
        let raised = seg.version().unwrap();
        if raised == 1 {
            all.iter_mut().for_each(|peer| peer.expect("1"));
        }
        assert!(raised == 1 || point.starts_with("wake"), "killed while it attached");
        let version = seg.notify().unwrap();
        all.iter_mut().for_each(|peer| peer.expect(&version.to_string()));
        all.iter_mut().for_each(Peer::kill9);
        ringspan::remove(&name).unwrap();
        ringspan::gc().unwrap();
    }
}

#[test]
fn a_lonely_sleeper_learns_of_the_removal() {
    for (face, by_hand) in
        [("tokio", false), ("blocking", false), ("tokio", true), ("blocking", true)]
    {
        let _watchdog = Watchdog::new(format!("removal under a {face} sleeper, by hand {by_hand}"));
        let left = Leftovers::new();
        let name = left.name("removal");
        drop(Segment::create(&name, 8).unwrap());
        let mut sleeper = Peer::spawn("wait", &[&name, face]);
        sleeper.expect("ready");
        until_attached(&name, &sleeper);
        match by_hand {
            true => fs::remove_file(path_of(&name)).unwrap(),
            false => ringspan::remove(&name).unwrap(),
        }
        sleeper.expect("Removed");
        sleeper.finish();
    }
}

#[test]
fn many_tasks_and_threads_wait_on_one_handle() {
    let _watchdog = Watchdog::new("one handle");
    let left = Leftovers::new();
    let name = left.name("handle");
    let seg = Segment::create(&name, 8).unwrap();
    let mut notifier = Peer::spawn("notify", &[&name]);
    notifier.expect("ready");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..20 {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let seg = seg.clone();
                runtime.spawn(async move { seg.changed(round).await.unwrap() })
            })
            .collect();
        let given_up = seg.clone();
        let given_up = runtime.spawn(async move { given_up.changed(u64::from(round == 0)).await });
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let seg = seg.clone();
                std::thread::spawn(move || seg.blocking_changed(round, None).unwrap())
            })
            .collect();
        given_up.abort();
        notifier.say("go");
        notifier.expect(&(round + 1).to_string());
        threads.into_iter().for_each(|t| assert_eq!(t.join().unwrap(), round + 1));
        tasks.into_iter().for_each(|t| assert_eq!(runtime.block_on(t).unwrap(), round + 1));
    }
    notifier.say("end");
    notifier.finish();
    let timed_out = seg.blocking_changed(None, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(timed_out, ringspan::ChangedError::Timeout(_)), "{timed_out}");
    ringspan::remove(&name).unwrap();
}

#[test]
fn the_49th_handle_is_told_that_there_is_no_place() {
    let left = Leftovers::new();
    let name = left.name("full");
    let handles: Vec<Segment> =
        (0..49).map(|_| Segment::open_or_create(&name, 8).unwrap()).collect();
    for handle in &handles[..48] {
        handle.notify().unwrap();
    }
    let err = handles[48].notify().unwrap_err();
    assert_eq!(err.kind(), FaultKind::TooManyAttached, "{err}");
    drop(handles);
    Segment::open(&name).unwrap().notify().unwrap();
    ringspan::remove(&name).unwrap();
}

/// The version is a word in shared memory, so it may hold anything.
#[test]
fn the_largest_version_is_followed_by_zero() {
    use std::os::unix::fs::FileExt;
    const VERSION: u64 = 384 + 48 * 128;
    let left = Leftovers::new();
    let name = left.name("version");
    let seg = Segment::create(&name, 8).unwrap();
    let file = fs::File::options().write(true).open(path_of(&name)).unwrap();
    file.write_all_at(&u64::MAX.to_le_bytes(), VERSION).unwrap();
    assert_eq!(seg.version().unwrap(), u64::MAX);
    assert_eq!(seg.notify().unwrap(), 0);
    assert_eq!(seg.blocking_changed(u64::MAX, None).unwrap(), 0);
    drop(seg);
    ringspan::remove(&name).unwrap();
}
