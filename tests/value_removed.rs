//! What a removal tells those who wait for a value, and what a remover that is killed leaves to others.

mod common;
mod stage;

use common::say;
use ringspan::{FaultKind, Value};
use stage::{Test, parked, role, scaled, until};
use std::fs::File;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Leaves this process that many descriptors, while what is returned lives.
fn all_descriptors_but(left: usize) -> Vec<File> {
    let most = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.truncate(taken.len() - left);
    taken
}

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    match role.role.as_str() {
        "is told" => {
            let value = Value::<u64>::open(&role.name).unwrap();
            say("ready");
            let ended = match role.argument.as_str() {
                "async" => runtime().block_on(value.changed(0)),
                _ => value.blocking_changed(0, None),
            };
            say(format!("{:?}", ended.unwrap_err().fault().kind()));
        }
        "removes" => ringspan::remove(&role.name).unwrap(),
        "short" => {
            // Enough for the file and its lock, and none for a knock.
            let short = all_descriptors_but(2);
            let ended = match role.argument.as_str() {
                "opens" => Value::<u64>::open(&role.name).map(drop),
                _ => ringspan::remove(&role.name),
            };
            drop(short);
            say(format!("{:?}", ended.unwrap_err().fault().kind()));
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

#[test]
fn removed_while_waited_for() {
    for on_tokio in [false, true] {
        for from_outside in [false, true] {
            let test = Test::new(&format!("removed, tokio {on_tokio}, outside {from_outside}"));
            let value = Value::<u64>::create(&test.name).unwrap();
            let other = Value::<u64>::open(&test.name).unwrap();
            let wait = |since| {
                let waiter = value.clone();
                let asleep = std::thread::spawn(move || match on_tokio {
                    true => runtime().block_on(waiter.changed(since)),
                    false => waiter.blocking_changed(since, None),
                });
                until(|| value.stat().unwrap().parks > 0 && value.stat().unwrap().connections == 1);
                asleep
            };
            let asleep = wait(0);
            match from_outside {
                true => std::fs::remove_file(test.path()).unwrap(),
                false => ringspan::remove(&test.name).unwrap(),
            }
            let err = if from_outside {
                // Somebody is left who can set it.
                other.try_set(&1).unwrap();
                assert_eq!(asleep.join().unwrap().unwrap(), 1);
                let asleep = wait(1);
                drop(other);
                asleep.join().unwrap().unwrap_err()
            } else {
                let err = asleep.join().unwrap().unwrap_err();
                other.try_set(&1).unwrap();
                assert_eq!(value.blocking_changed(0, None).unwrap(), 1, "that came first");
                err
            };
            assert_eq!(err.fault().kind(), FaultKind::Removed, "{err}");
            assert!(err.to_string().contains(&test.name), "{err}");
            assert_eq!(value.get().unwrap(), Some(1), "it can still be read");
            value.try_set(&2).unwrap();
            assert_eq!(value.get().unwrap(), Some(2));
        }
    }
}

/// All of them, in all processes, whoever else is attached.
#[test]
fn a_removal_ends_every_wait() {
    let test = Test::new("removed for all");
    let value = Value::<u64>::create(&test.name).unwrap();
    for _ in 0..scaled(20) {
        let value = Value::<u64>::open_or_create(&test.name).unwrap();
        let mut peers: Vec<_> = ["", "async", ""].map(|how| test.spawn("is told", how)).into();
        peers.iter_mut().for_each(|peer| peer.expect("ready"));
        until(|| parked(&test.path()) == 3);
        ringspan::remove(&test.name).unwrap();
        assert!(value.is_removed());
        for peer in &mut peers {
            peer.expect("Removed");
        }
        peers.into_iter().for_each(common::Peer::finish);
    }
    assert!(value.is_removed());
}

#[test]
fn removed_while_nobody_else_is_there() {
    for on_tokio in [false, true] {
        for from_outside in [false, true] {
            let test = Test::new(&format!("alone, tokio {on_tokio}, outside {from_outside}"));
            let value = Value::<u64>::create(&test.name).unwrap();
            let waiter = value.clone();
            let asleep = std::thread::spawn(move || match on_tokio {
                true => runtime().block_on(waiter.changed(None)),
                false => waiter.blocking_changed(None, None),
            });
            until(|| parked(&test.path()) == 1);
            match from_outside {
                true => std::fs::remove_file(test.path()).unwrap(),
                false => ringspan::remove(&test.name).unwrap(),
            }
            let err = asleep.join().unwrap().unwrap_err();
            assert_eq!(err.fault().kind(), FaultKind::Removed, "{err}");
        }
    }
}

/// Whoever comes by the name next ends what the dead one began: an opener, a creator, a remover.
#[cfg(feature = "failpoints")]
#[test]
fn a_killed_remover_leaves_nobody_asleep() {
    for point in ["remove.marked", "remove.unlink"] {
        for next in ["opens", "makes", "removes"] {
            let test = Test::new(&format!("remover killed at {point}, then one who {next}"));
            let value = Value::<u64>::create(&test.name).unwrap();
            let mut peers: Vec<_> = ["", "async"].map(|how| test.spawn("is told", how)).into();
            peers.iter_mut().for_each(|peer| peer.expect("ready"));
            until(|| parked(&test.path()) == 2);
            let mut remover = common::Peer::spawn_with("removes", &[&test.name, ""], |command| {
                command.env("RINGSPAN_FAILPOINT", point);
            });
            assert!(remover.was_killed());
            match next {
                "opens" => assert!(Value::<u64>::open(&test.name).is_err()),
                "makes" => drop(Value::<u64>::create(&test.name).unwrap()),
                _ => ringspan::remove(&test.name).unwrap(),
            }
            peers.iter_mut().for_each(|peer| peer.expect("Removed"));
            peers.into_iter().for_each(common::Peer::finish);
            assert!(value.is_removed());
        }
    }
}

/// It can ring nobody, but leaves the mark for who looks: not only for who is alone, or asks the kernel.
#[test]
fn removed_by_one_with_other_doors() {
    let test = Test::new("removed from elsewhere");
    let [value, _other] = [(); 2].map(|()| Value::<u64>::open_or_create(&test.name).unwrap());
    let mut peer = test.spawn("is told", "");
    peer.expect("ready");
    until(|| parked(&test.path()) == 1);
    let doors = format!("{}-elsewhere", stage::doors().display());
    let remover = common::Peer::spawn_with("removes", &[&test.name, ""], |command| {
        command.env("RINGSPAN_DIR", &doors);
    });
    remover.finish();
    std::fs::remove_dir(doors).unwrap();
    assert!(value.is_removed() && !test.path().exists());
    drop(value); // whoever leaves wakes who sleeps
    peer.expect("Removed");
    peer.finish();
}

/// Nothing has changed then, and the next one tells all who wait.
#[test]
fn a_remover_without_a_descriptor_for_a_knock() {
    let test = Test::new("remover without descriptors");
    let value = Value::<u64>::create(&test.name).unwrap();
    let mut peers: Vec<_> = ["", "async"].map(|how| test.spawn("is told", how)).into();
    peers.iter_mut().for_each(|peer| peer.expect("ready"));
    until(|| parked(&test.path()) == 2);
    let mut remover = test.spawn("short", "removes");
    remover.expect("TooManyFiles");
    remover.finish();
    assert!(!value.is_removed() && test.path().exists());
    assert_eq!(parked(&test.path()), 2);
    ringspan::remove(&test.name).unwrap();
    peers.iter_mut().for_each(|peer| peer.expect("Removed"));
    peers.into_iter().for_each(common::Peer::finish);
}

/// It leaves the name of one that is half removed, so that another one comes by it.
#[cfg(feature = "failpoints")]
#[test]
fn an_opener_without_a_descriptor_for_a_knock() {
    let test = Test::new("opener without descriptors");
    let value = Value::<u64>::create(&test.name).unwrap();
    let mut peers: Vec<_> = ["", "async"].map(|how| test.spawn("is told", how)).into();
    peers.iter_mut().for_each(|peer| peer.expect("ready"));
    until(|| parked(&test.path()) == 2);
    let mut remover = common::Peer::spawn_with("removes", &[&test.name, ""], |command| {
        command.env("RINGSPAN_FAILPOINT", "remove.marked");
    });
    assert!(remover.was_killed());
    for how in ["opens", "removes"] {
        let mut opener = test.spawn("short", how);
        opener.expect("TooManyFiles");
        opener.finish();
        assert!(value.is_removed() && test.path().exists());
    }
    assert!(Value::<u64>::open(&test.name).is_err());
    assert!(!test.path().exists());
    peers.iter_mut().for_each(|peer| peer.expect("Removed"));
    peers.into_iter().for_each(common::Peer::finish);
}
