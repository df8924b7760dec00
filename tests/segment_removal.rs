//! Segments between real processes: removal, ephemeral ones, sweeps.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

mod common;
mod waiting;

use common::{Leftovers, Peer, Watchdog, child, hear, path_of, say};
use ringspan::{FaultKind, Kind, OpenError, Ring, Segment};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use waiting::{until_attached, wait};

#[test]
fn child_entry() {
    child(|role, args| match role {
        "create" => {
            let made = Segment::options().ephemeral(args[1] == "ephemeral").create(&args[0], 64);
            say(if made.is_ok() { "made" } else { "not made" });
            hear();
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
        "own tmpfs" => own_tmpfs(&args[0]),
        other => panic!("role {other}"),
    });
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
