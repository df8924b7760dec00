//! Segments between real processes: waiting for a change.

mod common;
mod waiting;

use common::{Leftovers, Peer, Watchdog, child, hear, path_of, say};
use ringspan::{FaultKind, Segment};
use std::fs;
use std::time::Duration;
use waiting::{until_attached, wait};

#[test]
fn child_entry() {
    child(|role, args| match role {
        "wait" => wait(&args[0], args[1] == "tokio"),
        "notify" => {
            let seg = Segment::open(&args[0]).unwrap();
            say("ready");
            while hear() == "go" {
                seg.write_at(0, b"x").unwrap();
                say(seg.notify().unwrap());
            }
        }
        other => panic!("role {other}"),
    });
}

/// Four processes that wait on it, tokio and blocking in turn.
fn four_sleepers(name: &str) -> Vec<Peer> {
    let faces = ["tokio", "blocking", "tokio", "blocking"];
    let mut all: Vec<Peer> = faces.iter().map(|face| Peer::spawn("wait", &[name, face])).collect();
    all.iter_mut().for_each(|peer| peer.expect("ready"));
    all.iter().for_each(|peer| until_attached(name, peer));
    all
}

#[test]
fn every_sleeper_is_woken_by_each_notification() {
    let _watchdog = Watchdog::new("four sleepers");
    let left = Leftovers::new();
    let name = left.name("notify");
    let seg = Segment::create(&name, 8).unwrap();
    let mut all = four_sleepers(&name);
    for _ in 0..200 {
        let version = seg.notify().unwrap();
        all.iter_mut().for_each(|peer| peer.expect(&version.to_string()));
    }
    ringspan::remove(&name).unwrap();
    all.iter_mut().for_each(Peer::kill9);
    drop(seg);
    ringspan::gc().unwrap(); // the doors of the killed
}

#[cfg(feature = "failpoints")]
#[test]
fn a_killed_notifier_wakes_by_its_death() {
    for point in ["notify.raised", "wake.seen", "wake.rung"] {
        let _watchdog = Watchdog::new(format!("notifier killed at {point}"));
        let left = Leftovers::new();
        let name = left.name("killed");
        let seg = Segment::create(&name, 8).unwrap();
        let mut all = four_sleepers(&name);
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
