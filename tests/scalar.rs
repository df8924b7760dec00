//! `SharedInt`, `SharedFloat`, `SharedBool`: changes, waits, and a kill between a change and its
//! telling.

#![allow(unsafe_code, reason = "fork")]

mod common;
mod stage;

use common::{Peer, hear, say};
use ringspan::{
    ChangedError, Fault, FaultKind, OpenError, SharedBool, SharedFloat, SharedInt, Value,
};
use stage::{Test, parked, role, scaled, until};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(30);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let int = SharedInt::open(&role.name).unwrap();
    match role.role.as_str() {
        "adds" => {
            for _ in 0..role.argument.parse().unwrap() {
                int.add(1).unwrap();
            }
        }
        "stores" => {
            say("ready");
            hear();
            int.store(role.argument.parse().unwrap()).unwrap();
            say("stored");
            hear();
        }
        "waits" => {
            let wanted = |n| n == 7;
            say(match role.argument.as_str() {
                "async" => runtime().block_on(int.wait_for(wanted)).unwrap(),
                _ => int.blocking_wait_for(wanted, None).unwrap(),
            });
        }
        "forks" => forks(&int),
        other => panic!("role {other}"),
    }
    drop(int);
    std::process::exit(0);
}

fn names(fault: &Fault, test: &Test, kind: FaultKind, words: &[&str]) {
    let text = fault.to_string();
    assert_eq!(fault.kind(), kind, "{text}");
    for word in [test.name.as_str()].iter().chain(words) {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

// ---- numbers ------------------------------------------------------------------------------------

#[test]
fn an_int() {
    let test = Test::new("int");
    let int = SharedInt::create(&test.name).unwrap();
    let other = SharedInt::open(&test.name).unwrap();
    assert_eq!((int.load(), int.version()), (0, 0));
    int.store(-5).unwrap();
    assert_eq!((other.load(), other.version()), (-5, 1));
    assert_eq!(other.swap(7).unwrap(), -5);
    assert_eq!(int.add(3).unwrap(), 10);
    assert_eq!(int.add(-20).unwrap(), -10);
    assert!(!int.compare_exchange(9, 1).unwrap());
    assert_eq!((int.load(), int.version()), (-10, 4), "refused, it changes nothing");
    assert!(int.compare_exchange(-10, 1).unwrap());
    assert_eq!((other.load(), other.version()), (1, 5));
    int.store(1).unwrap();
    assert_eq!(int.version(), 6, "the same again is a change");
    assert!(format!("{int:?}").contains("now: 1"), "{int:?}");
    assert_eq!(int.name(), test.name);
}

#[test]
fn an_overflow_changes_nothing() {
    let test = Test::new("overflow");
    let int = SharedInt::options().initial(i64::MAX - 1).create(&test.name).unwrap();
    assert_eq!(int.add(1).unwrap(), i64::MAX);
    for (start, add) in [(i64::MAX, 1), (i64::MAX, i64::MAX), (i64::MIN, -1), (-2, i64::MIN)] {
        int.store(start).unwrap();
        let version = int.version();
        let figures = [start.to_string(), add.to_string()];
        let err = int.add(add).unwrap_err();
        names(&err, &test, FaultKind::InvalidOption, &[&figures[0], &figures[1]]);
        assert_eq!((int.load(), int.version()), (start, version));
    }
    assert_eq!(int.add(i64::MAX).unwrap(), i64::MAX - 2);
}

#[test]
fn a_float_with_its_nans_and_zeros() {
    let test = Test::new("float");
    let float = SharedFloat::options().initial(0.5).create(&test.name).unwrap();
    assert_eq!(SharedFloat::open(&test.name).unwrap().load(), 0.5);
    assert_eq!(float.add(0.25).unwrap(), 0.75);
    assert_eq!(float.swap(-0.0).unwrap(), 0.75);
    assert!(float.load().is_sign_negative(), "a zero keeps its sign");
    assert!(float.compare_exchange(0.0, 1.5).unwrap(), "the zeros are equal");
    let nan = f64::from_bits(0x7ff8_dead_beef_0001);
    float.store(nan).unwrap();
    assert_eq!(float.load().to_bits(), nan.to_bits());
    assert!(!float.compare_exchange(nan, 1.0).unwrap(), "a NaN equals nothing");
    assert!(float.add(1.0).unwrap().is_nan());
    float.store(f64::MAX).unwrap();
    assert_eq!(float.add(f64::MAX).unwrap(), f64::INFINITY);
    assert!(float.add(f64::NEG_INFINITY).unwrap().is_nan());
    float.store(f64::MIN_POSITIVE / 4.0).unwrap(); // subnormal
    assert_eq!(float.load(), f64::MIN_POSITIVE / 4.0);
}

#[test]
fn a_bool() {
    let test = Test::new("bool");
    let flag = SharedBool::options().initial(true).create(&test.name).unwrap();
    let other = SharedBool::open(&test.name).unwrap();
    assert!(other.load());
    assert!(other.swap(false).unwrap());
    assert!(!flag.load());
    assert!(!flag.compare_exchange(true, true).unwrap());
    assert!(flag.compare_exchange(false, true).unwrap());
    assert!(other.blocking_wait_for(|now| now, None).unwrap());
    other.store(false).unwrap();
    assert!(!flag.load());
}

#[test]
fn names_and_options() {
    let test = Test::new("options");
    let err = SharedInt::open(&test.name).unwrap_err();
    assert!(matches!(&err, OpenError::NotFound(_)), "{err}");
    let err = SharedInt::options().mode(0o111).create(&test.name).unwrap_err();
    names(err.fault(), &test, FaultKind::InvalidOption, &[]);
    let float = SharedFloat::options().mode(0o660).create(&test.name).unwrap();
    assert_eq!(test.path().metadata().unwrap().mode() & 0o7777, 0o660);
    let both = ["is a shared float, not a shared int"];
    names(SharedInt::open(&test.name).unwrap_err().fault(), &test, FaultKind::Mismatch, &both);
    let err = SharedInt::open_or_create(&test.name).unwrap_err();
    names(err.fault(), &test, FaultKind::Mismatch, &both);
    let both = ["is a shared float, not a shared bool"];
    names(SharedBool::open(&test.name).unwrap_err().fault(), &test, FaultKind::Mismatch, &both);
    let both = ["is a shared float, not a value"];
    names(Value::<f64>::open(&test.name).unwrap_err().fault(), &test, FaultKind::Mismatch, &both);
    let err = SharedFloat::create(&test.name).unwrap_err();
    assert!(matches!(&err, OpenError::AlreadyExists(_)), "{err}");
    // An opener's initial number has no meaning.
    float.store(2.5).unwrap();
    let again = SharedFloat::options().initial(9.0).open_or_create(&test.name).unwrap();
    assert_eq!(again.load(), 2.5);
    drop((float, again));
    ringspan::remove(&test.name).unwrap();

    let first = SharedInt::options().ephemeral(true).initial(3).create(&test.name).unwrap();
    let second = SharedInt::open(&test.name).unwrap();
    assert!(second.is_ephemeral());
    drop(first);
    assert_eq!(second.load(), 3);
    drop(second);
    assert!(!test.path().exists());
}

#[test]
fn forty_eight_handles_and_no_more() {
    let test = Test::new("48 handles");
    let mut handles: Vec<_> =
        (0..48).map(|_| SharedInt::open_or_create(&test.name).unwrap()).collect();
    for handle in &handles {
        handle.add(1).unwrap();
    }
    assert_eq!((handles[7].load(), handles[7].stat().unwrap().attached), (48, 48));
    let err = SharedInt::open(&test.name).unwrap_err();
    names(err.fault(), &test, FaultKind::TooManyAttached, &["48"]);
    handles.swap_remove(9);
    assert_eq!(SharedInt::open(&test.name).unwrap().add(1).unwrap(), 49);
}

#[test]
fn four_processes_add_up() {
    let test = Test::new("add up");
    let int = SharedInt::create(&test.name).unwrap();
    let each = scaled(25_000);
    let children: Vec<_> = (0..4).map(|_| test.spawn("adds", &each.to_string())).collect();
    let sum = i64::try_from(4 * each).unwrap();
    assert_eq!(int.blocking_wait_for(|now| now >= sum, None).unwrap(), sum);
    children.into_iter().for_each(Peer::finish);
    assert_eq!((int.load(), int.version()), (sum, 4 * each));
}

// ---- waits --------------------------------------------------------------------------------------

#[test]
fn waits_that_end_at_once_or_by_a_time_out() {
    let test = Test::new("time-outs");
    let int = SharedInt::create(&test.name).unwrap();
    let rt = runtime();
    let timed_out = |err: ChangedError| {
        assert!(matches!(&err, ChangedError::Timeout(_)), "{err}");
        names(err.fault(), &test, FaultKind::Os, &["time-out"]);
        assert_eq!(err.fault().errno(), Some(libc::ETIMEDOUT));
    };
    timed_out(int.blocking_changed(None, MOMENT).unwrap_err());
    timed_out(int.blocking_wait_for(|n| n == 1, MOMENT).unwrap_err());
    assert!(rt.block_on(async { tokio::time::timeout(MOMENT, int.changed(None)).await }).is_err());
    int.store(1).unwrap();
    assert_eq!(int.blocking_changed(0, None).unwrap(), 1);
    assert_eq!(rt.block_on(int.changed(9)).unwrap(), 1);
    assert_eq!(int.blocking_wait_for(|n| n == 1, None).unwrap(), 1);
    assert_eq!(rt.block_on(int.wait_for(|n| n == 1)).unwrap(), 1);
    timed_out(int.blocking_changed(1, MOMENT).unwrap_err());
    // A change that is changed back is a change.
    let since = int.version();
    int.store(2).unwrap();
    int.store(1).unwrap();
    assert_eq!(int.blocking_changed(since, None).unwrap(), since + 2);
    let mut future = std::pin::pin!(int.changed(None));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(err)) = Future::poll(future.as_mut(), &mut cx) else { panic!() };
    names(err.fault(), &test, FaultKind::NoRuntime, &[]);
}

#[test]
fn whoever_changes_it_wakes_whoever_waits() {
    let test = Test::new("who wakes");
    let int = SharedInt::create(&test.name).unwrap();
    let other = SharedInt::open(&test.name).unwrap();
    for on_tokio in [false, true] {
        for round in 0..scaled(60) {
            let (now, since) = (int.load(), int.version());
            let (waiter, counter) = (int.clone(), int.clone());
            let asleep = std::thread::spawn(move || match on_tokio {
                true => runtime().block_on(waiter.wait_for(|n| n == now + 1)),
                false => waiter.blocking_wait_for(|n| n == now + 1, None),
            });
            let second = std::thread::spawn(move || match on_tokio {
                true => counter.blocking_changed(since, None),
                false => runtime().block_on(counter.changed(since)),
            });
            until(|| parked(&test.path()) == 1);
            match round % 4 {
                0 => int.store(now + 1).unwrap(),
                1 => assert!(other.compare_exchange(now, now + 1).unwrap()),
                2 => assert_eq!(other.add(1).unwrap(), now + 1),
                _ => assert_eq!(int.clone().swap(now + 1).unwrap(), now),
            }
            assert_eq!(asleep.join().unwrap().unwrap(), now + 1);
            assert_eq!(second.join().unwrap().unwrap(), since + 1);
        }
    }
    let stat = int.stat().unwrap();
    assert!(stat.parks > 0, "{stat:?}");
    assert!(stat.connections <= 1 && stat.pidfds == 0, "{stat:?}"); // see below
    assert!(other.stat().unwrap().rings > 0);
}

#[test]
fn other_processes_are_woken() {
    for how in ["async", "blocking"] {
        let test = Test::new(&format!("other processes, {how}"));
        let int = SharedInt::create(&test.name).unwrap();
        let mut children = [test.spawn("waits", how), test.spawn("waits", how)];
        until(|| parked(&test.path()) == 2);
        int.store(6).unwrap(); // woken for nothing, they sleep again
        until(|| parked(&test.path()) == 2);
        int.store(7).unwrap();
        children.iter_mut().for_each(|child| child.expect("7"));
        children.into_iter().for_each(Peer::finish);
        assert_eq!(int.stat().unwrap().attached, 1);
    }
}

#[test]
fn descriptors_are_held_by_a_wait_only() {
    let test = Test::new("descriptors");
    let int = SharedInt::create(&test.name).unwrap();
    let other = SharedInt::open(&test.name).unwrap();
    let held = || {
        let stat = int.stat().unwrap();
        (stat.connections, stat.pidfds)
    };
    assert_eq!(held(), (0, 0));
    let waiter = int.clone();
    let asleep = std::thread::spawn(move || waiter.blocking_wait_for(|n| n == 2, None));
    until(|| held().0 == 1);
    other.store(1).unwrap();
    other.store(2).unwrap();
    assert_eq!(asleep.join().unwrap().unwrap(), 2);
    // A peer that has not looked at its door since keeps a connection standing there, for the next wait.
    let (connections, pidfds) = held();
    assert!(connections <= 1 && pidfds == 0, "{connections} {pidfds}");
}

#[test]
fn a_peer_that_never_waits_can_be_waited_for_without_end() {
    // Its door takes 4096 callers, and nobody answers there.
    let test = Test::new("waits without end");
    let int = SharedInt::create(&test.name).unwrap();
    let idle = SharedInt::open(&test.name).unwrap();
    let setter = SharedInt::open(&test.name).unwrap();
    // This one has waited, and keeps what it needs for that.
    assert!(setter.blocking_changed(None, Duration::from_micros(1)).is_err());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                setter.add(1).unwrap();
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        let mut seen = int.version();
        for _ in 0..5000 {
            seen = int.blocking_changed(seen, None).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    for _ in 0..5000 {
        assert!(int.blocking_changed(None, Duration::from_micros(1)).is_err());
    }
    assert!(int.stat().unwrap().connections <= 2);
    setter.add(1).unwrap();
    assert!(setter.stat().unwrap().inbound <= 100, "{:?}", setter.stat());
    drop(idle);
}

#[test]
fn removed_while_waited_for() {
    for on_tokio in [false, true] {
        let test = Test::new("removed");
        let int = SharedInt::create(&test.name).unwrap();
        let other = SharedInt::open(&test.name).unwrap();
        let waiter = int.clone();
        let asleep = std::thread::spawn(move || match on_tokio {
            true => runtime().block_on(waiter.wait_for(|n| n == 2)),
            false => waiter.blocking_wait_for(|n| n == 2, None),
        });
        until(|| parked(&test.path()) == 1);
        ringspan::remove(&test.name).unwrap();
        other.store(1).unwrap(); // as long as somebody is there the wait goes on
        drop(other);
        let err = asleep.join().unwrap().unwrap_err();
        names(err.fault(), &test, FaultKind::Removed, &[]);
        assert_eq!(int.load(), 1);
    }
}

// ---- kill, fork ---------------------------------------------------------------------------------

/// Killed between the change and its version, or between the version and the first ring: who waits
/// learns of the change all the same.
#[cfg(feature = "failpoints")]
#[test]
fn killed_before_it_could_tell() {
    let points = ["scalar.changed", "scalar.raised", "wake.seen", "wake.rung"];
    for (point, how) in points.iter().flat_map(|point| [(point, "blocking"), (point, "async")]) {
        let test = Test::new(&format!("killed at {point}, {how}"));
        let int = SharedInt::create(&test.name).unwrap();
        let mut killed = Peer::spawn_with("stores", &[&test.name, "7"], |command| {
            command.env("RINGSPAN_FAILPOINT", point);
        });
        killed.expect("ready"); // before anybody sleeps, since an attach rings too
        let mut waiter = test.spawn("waits", how);
        let here = int.clone();
        let asleep = std::thread::spawn(move || match how {
            "async" => runtime().block_on(here.wait_for(|n| n == 7)),
            _ => here.blocking_wait_for(|n| n == 7, None),
        });
        until(|| parked(&test.path()) == 2);
        killed.say("go");
        waiter.expect("7");
        assert_eq!(asleep.join().unwrap().unwrap(), 7);
        assert!(killed.was_killed(), "{point}");
        waiter.finish();
        // Whoever sleeps next takes the dead out, if that has not been done yet.
        until(|| int.blocking_changed(None, Duration::ZERO).is_err());
        assert_eq!((int.load(), int.stat().unwrap().attached), (7, 1));
        int.store(8).unwrap();
    }
}

fn forks(int: &SharedInt) {
    let rt = runtime();
    rt.block_on(async { tokio::time::timeout(MOMENT, int.changed(None)).await }).unwrap_err();
    // SAFETY: the child only uses what may be used after fork (glibc's allocator may).
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let errors = [
                int.store(1).unwrap_err(),
                int.add(1).unwrap_err(),
                int.compare_exchange(0, 1).unwrap_err(),
                int.stat().unwrap_err(),
                int.blocking_changed(None, None).unwrap_err().fault().clone(),
                int.blocking_wait_for(|n| n == 1, None).unwrap_err().fault().clone(),
            ];
            for fault in errors {
                assert_eq!(fault.kind(), FaultKind::Forked, "{fault}");
                assert!(fault.to_string().contains(&int.name()), "{fault}");
            }
            assert_eq!(int.load(), 0);
            SharedInt::open(&int.name()).unwrap().store(4).unwrap();
        }));
        // SAFETY: ends this process without running what belongs to the parent.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    let mut status = 0;
    // SAFETY: a place for the status.
    assert_eq!(unsafe { libc::wait(&mut status) }, pid);
    assert_eq!(status, 0, "the forked child failed");
    assert_eq!(int.load(), 4);
    int.add(1).unwrap();
    say("forked");
    assert_eq!(rt.block_on(int.wait_for(|n| n == 6)).unwrap(), 6);
    say("woken");
}

#[test]
fn a_forked_child_is_refused_and_harms_nothing() {
    let test = Test::new("fork");
    let int = SharedInt::create(&test.name).unwrap();
    let mut child = test.spawn("forks", "");
    child.expect("forked");
    until(|| parked(&test.path()) == 1);
    assert_eq!(int.add(1).unwrap(), 6);
    child.expect("woken");
    child.finish();
}
