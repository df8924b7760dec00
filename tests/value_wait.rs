//! Waiting for a value: tasks of several runtimes, threads and processes; what a wait holds, and what
//! ends it.

#![allow(unsafe_code, reason = "fork")]

mod common;
mod stage;

use common::{hear, say};
use ringspan::{ChangedError, FaultKind, TrySetError, Value};
use stage::{Test, parked, role, scaled, until};
use std::io::ErrorKind;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(30);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let value = Value::<u64>::open(&role.name).unwrap();
    match role.role.as_str() {
        "sets" => {
            while let Ok(number) = hear().parse() {
                say(value.blocking_set(&number, None).unwrap());
            }
        }
        "sets once" => {
            value.blocking_update(|_| role.argument.parse().unwrap(), None).unwrap();
            say("set");
        }
        "waits" => {
            let rt = runtime();
            let mut watch = value.watch();
            loop {
                let number = match role.argument.as_str() {
                    "async" => rt.block_on(watch.next()).unwrap(),
                    _ => watch.blocking_next(None).unwrap(),
                };
                say(number);
                if number == 0 {
                    break;
                }
            }
        }
        "forks" => forks(&value),
        other => panic!("role {other}"),
    }
    drop(value);
    std::process::exit(0);
}

#[test]
fn every_wait_of_one_task_or_thread() {
    let test = Test::new("waits");
    let value = Value::<u64>::create(&test.name).unwrap();
    let other = Value::<u64>::open(&test.name).unwrap();
    let timed_out = |err: ChangedError| {
        assert!(matches!(&err, ChangedError::Timeout(_)), "{err}");
        assert!(err.to_string().contains(&test.name), "{err}");
        assert_eq!(err.fault().errno(), Some(libc::ETIMEDOUT));
        assert_eq!(std::io::Error::from(err).kind(), ErrorKind::TimedOut);
    };
    timed_out(value.blocking_changed(None, MOMENT).unwrap_err());
    timed_out(value.blocking_changed(0, Duration::ZERO).unwrap_err());
    timed_out(value.blocking_wait_for(|_| true, MOMENT).unwrap_err()); // never set
    timed_out(value.watch().blocking_next(MOMENT).unwrap_err());
    other.try_set(&5).unwrap();
    assert_eq!(value.blocking_changed(0, None).unwrap(), 1);
    assert_eq!(value.blocking_changed(77, None).unwrap(), 1, "any other version will do");
    timed_out(value.blocking_changed(1, MOMENT).unwrap_err());
    assert_eq!(value.blocking_wait_for(|&n| n == 5, None).unwrap(), 5);
    timed_out(value.blocking_wait_for(|&n| n == 6, MOMENT).unwrap_err());
    let rt = runtime();
    assert_eq!(rt.block_on(value.changed(0)).unwrap(), 1);
    assert_eq!(rt.block_on(value.wait_for(|&n| n == 5)).unwrap(), 5);
    let gave_up = rt.block_on(async { tokio::time::timeout(MOMENT, value.changed(None)).await });
    assert!(gave_up.is_err());

    // `None`: from what it is when it is first polled.
    let future = value.changed(None);
    other.try_set(&6).unwrap();
    let gave_up = rt.block_on(async { tokio::time::timeout(MOMENT, future).await });
    assert!(gave_up.is_err());

    // Outside a runtime there is an error, and no panic.
    let mut future = std::pin::pin!(value.changed(None));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(err)) = Future::poll(future.as_mut(), &mut cx) else { panic!() };
    assert_eq!(err.fault().kind(), FaultKind::NoRuntime, "{err}");
}

/// Set from the same handle, a clone of it, another handle and another process.
#[test]
fn whoever_sets_it_wakes_whoever_waits() {
    let test = Test::new("who wakes");
    let value = Value::<u64>::create(&test.name).unwrap();
    let other = Value::<u64>::open(&test.name).unwrap();
    let mut child = test.spawn("sets", "");
    for on_tokio in [false, true] {
        for round in 0..scaled(40) {
            let number = value.version() + 1;
            let waiter = value.clone();
            let asleep = std::thread::spawn(move || match on_tokio {
                true => runtime().block_on(waiter.wait_for(|&n| n == number)),
                false => waiter.blocking_wait_for(|&n| n == number, None),
            });
            until(|| parked(&test.path()) == 1);
            match round % 4 {
                0 => drop(value.try_set(&number).unwrap()),
                1 => drop(other.try_set(&number).unwrap()),
                2 => drop(runtime().block_on(value.clone().set(&number)).unwrap()),
                _ => {
                    child.say(number);
                    child.expect(&number.to_string());
                }
            }
            assert_eq!(asleep.join().unwrap().unwrap(), number);
            assert_eq!(parked(&test.path()), 0);
        }
    }
    child.say("end");
    child.finish();
}

#[test]
fn tasks_of_several_runtimes_and_threads_on_one_handle() {
    let test = Test::new("many waiters");
    let value = Value::<u64>::create(&test.name).unwrap();
    let second = Value::<u64>::open(&test.name).unwrap();
    let mut setter = test.spawn("sets", "");
    let many =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rounds = scaled(60);
    std::thread::scope(|scope| {
        let mut counts = Vec::new();
        for at in 0..3 {
            let (value, second) = (value.clone(), second.clone());
            counts.push(scope.spawn(move || {
                let mut watch = if at == 2 { second } else { value }.watch();
                let rt = runtime();
                loop {
                    let number = match at {
                        0 => rt.block_on(watch.next()).unwrap(),
                        _ => watch.blocking_next(None).unwrap(),
                    };
                    if number == rounds {
                        return;
                    }
                }
            }));
        }
        let tasks: Vec<_> = (0..4)
            .map(|at| {
                let value = if at % 2 == 0 { value.clone() } else { second.clone() };
                many.spawn(async move { value.wait_for(|&n| n == rounds).await })
            })
            .collect();
        for number in 1..=rounds {
            // One that gives up takes nobody's wake with it.
            let waiter = value.clone();
            let given_up = many.spawn(async move { waiter.changed(None).await });
            if number % 2 == 0 {
                until(|| parked(&test.path()) == 2);
            }
            given_up.abort();
            setter.say(number);
            setter.expect(&number.to_string());
        }
        for task in tasks {
            assert_eq!(many.block_on(task).unwrap().unwrap(), rounds);
        }
    });
    drop(many);
    setter.say("end");
    setter.finish();
}

#[test]
fn processes_follow_a_value() {
    let test = Test::new("follow");
    let value = Value::<u64>::create(&test.name).unwrap();
    let mut children = [test.spawn("waits", "blocking"), test.spawn("waits", "async")];
    // One after the other, each of them asleep: none is missed.
    for number in [3, 2, 1] {
        until(|| parked(&test.path()) == 2);
        value.try_set(&number).unwrap();
        children.iter_mut().for_each(|child| child.expect(&number.to_string()));
    }
    // In a burst some are left out, the last one never.
    for number in (0..2000).rev() {
        value.blocking_set(&number, None).unwrap();
    }
    for mut child in children {
        let mut last = 2000;
        while last != 0 {
            let number = child.hear().parse().unwrap();
            assert!(number < last, "{number} after {last}");
            last = number;
        }
        child.finish();
    }
}

#[test]
fn a_watch_shows_the_latest_only() {
    let test = Test::new("watch");
    let value = Value::<u64>::create(&test.name).unwrap();
    let rt = runtime();
    let mut watch = value.watch();
    for n in 1..=3 {
        value.try_set(&n).unwrap();
    }
    assert_eq!(rt.block_on(watch.next()).unwrap(), 3);
    assert!(watch.blocking_next(MOMENT).is_err());
    value.try_set(&3).unwrap(); // the same again is a set too
    assert_eq!(watch.blocking_next(None).unwrap(), 3);
    assert_eq!(
        value.watch().blocking_next(None).unwrap(),
        3,
        "a new watch begins with what is there"
    );
    // What is no `u64` is told once, and then the watch goes on.
    value.try_set_bytes(b"bytes").unwrap();
    let err = watch.blocking_next(None).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Decode, "{err}");
    assert!(matches!(watch.blocking_next(MOMENT), Err(ChangedError::Timeout(_))));
    value.try_set(&4).unwrap();
    // Cancelled while it waits, it has lost nothing.
    assert_eq!(rt.block_on(watch.next()).unwrap(), 4);
    let gave_up = rt.block_on(async { tokio::time::timeout(MOMENT, watch.next()).await });
    assert!(gave_up.is_err());
    value.try_set(&5).unwrap();
    assert_eq!(rt.block_on(watch.next()).unwrap(), 5);
}

/// Whether the kernel gives a descriptor of the process behind a connection (6.5).
fn has_peer_pidfd() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>());
    let [Some(Ok(major)), Some(Ok(minor))] = [numbers.next(), numbers.next()] else { return false };
    (major, minor) >= (6, 5)
}

#[test]
fn descriptors_are_held_by_a_wait_only() {
    let test = Test::new("descriptors");
    let value = Value::<u64>::create(&test.name).unwrap();
    let mut setter = test.spawn("sets", "");
    let others: Vec<_> = (0..3).map(|_| Value::<u64>::open(&test.name).unwrap()).collect();
    until(|| value.stat().unwrap().attached == 5);
    let held = || {
        let stat = value.stat().unwrap();
        (stat.connections, stat.pidfds, stat.doorbells)
    };
    // A peer that never looks at its door keeps one connection standing there, for the next wait.
    let at_rest = |(connections, pidfds, doorbells)| {
        assert!(connections <= 4, "{connections}");
        assert_eq!((pidfds, doorbells), (0, 0));
    };
    assert_eq!(held(), (0, 0, 0), "idle");
    for round in 1..=4u64 {
        at_rest(held());
        let parks = value.stat().unwrap().parks;
        let waiter = value.clone();
        let asleep = std::thread::spawn(move || match round % 2 {
            0 => runtime().block_on(waiter.changed(round - 1)).unwrap(),
            _ => waiter.blocking_changed(round - 1, None).unwrap(),
        });
        until(|| held().0 == 4);
        until(|| held().1 == if has_peer_pidfd() { 4 } else { 0 });
        setter.say(1);
        setter.expect(&round.to_string());
        assert_eq!(asleep.join().unwrap(), round);
        assert!(value.stat().unwrap().parks > parks, "{:?}", value.stat());
    }
    at_rest(held());
    // A watch keeps them from one wait to the next.
    let mut watch = value.watch();
    watch.blocking_next(None).unwrap();
    assert!(watch.blocking_next(MOMENT).is_err());
    assert_eq!(held().0, 4);
    assert_eq!(held().1, if has_peer_pidfd() { 4 } else { 0 });
    drop(watch);
    at_rest(held());
    drop(others);
    setter.say("end");
    setter.finish();
}

/// What is dropped while it waits for its turn has set nothing.
#[test]
fn a_cancelled_set_sets_nothing() {
    let test = Test::new("cancelled set");
    let value = Value::<u64>::create(&test.name).unwrap();
    let other = Value::<u64>::open(&test.name).unwrap();
    let rt = runtime();
    for waits in [&value.clone(), &other] {
        let before = value.version();
        let set = value.blocking_update(
            |_| {
                let gave_up =
                    rt.block_on(async { tokio::time::timeout(MOMENT, waits.set(&9)).await });
                assert!(gave_up.is_err());
                let update = waits.update(|_| panic!("it has not got its turn"));
                let gave_up = rt.block_on(async { tokio::time::timeout(MOMENT, update).await });
                assert!(gave_up.is_err());
                1
            },
            None,
        );
        assert_eq!((set.unwrap(), value.version()), (1, before + 1));
        assert_eq!((other.get().unwrap(), other.version()), (Some(1), before + 1));
    }
    other.try_set(&2).unwrap();
}

// ---- stop, fork ---------------------------------------------------------------------------------

/// A process that is stopped while it sets keeps out who sets, and nobody who reads.
#[cfg(feature = "failpoints")]
#[test]
fn a_stopped_setter_keeps_no_reader_out() {
    use ringspan::SetError;
    use rustix::process::Signal;
    use stage::state;
    let points = ["value.prepared", "value.half", "value.written", "value.published"];
    for point in points {
        let test = Test::new(&format!("stopped at {point}"));
        let value = Value::<u64>::create(&test.name).unwrap();
        value.try_set(&1).unwrap();
        let mut reader = test.spawn("waits", "blocking");
        reader.expect("1");
        let mut child = common::Peer::spawn_with("sets once", &[&test.name, "2"], |command| {
            command.env("RINGSPAN_FAILPOINT", format!("{point}:1:stop"));
        });
        until(|| state(child.pid()) == Some('T'));
        let now = if point == "value.published" { 2 } else { 1 };
        let late = Value::<u64>::open(&test.name).unwrap();
        for _ in 0..1000 {
            assert_eq!((value.get().unwrap(), late.try_get().unwrap()), (Some(now), now));
        }
        assert_eq!(late.watch().blocking_next(None).unwrap(), now);
        for _ in 0..200 {
            assert_eq!(value.try_set(&3), Err(TrySetError::WouldBlock));
        }
        let err = late.blocking_set(&3, MOMENT).unwrap_err();
        let SetError::Timeout(fault) = &err else { panic!("{err}") };
        assert!(fault.to_string().contains(&format!("pid {}", child.pid())), "{fault}");
        let waits = late.clone();
        let set = std::thread::spawn(move || waits.blocking_update(|old| old.unwrap() + 1, None));
        until(|| late.stat().unwrap().parks > 1);
        assert_eq!(value.version(), now);
        child.signal(Signal::CONT);
        child.expect("set");
        child.finish();
        assert_eq!(set.join().unwrap().unwrap(), 3);
        assert_eq!(value.get().unwrap(), Some(3));
        value.try_set(&0).unwrap();
        while reader.hear() != "0" {}
        reader.finish();
    }
}

/// True in the forked child.
fn fork() -> bool {
    // SAFETY: the child only uses what may be used after fork (glibc's allocator may).
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    pid == 0
}

fn forks(value: &Value<u64>) {
    let rt = runtime();
    rt.block_on(async { tokio::time::timeout(MOMENT, value.changed(None)).await }).unwrap_err();
    value.try_set(&1).unwrap();
    let asleep = {
        let waiter = value.clone();
        std::thread::spawn(move || waiter.blocking_changed(1, None))
    };
    until(|| value.stat().unwrap().parks > 1);
    if fork() {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let is_forked = |fault: &ringspan::Fault| {
                assert_eq!(fault.kind(), FaultKind::Forked, "{fault}");
                assert!(fault.to_string().contains(&value.name()), "{fault}");
            };
            is_forked(&value.get().unwrap_err());
            is_forked(&value.get_bytes().unwrap_err());
            let Err(TrySetError::Fault(fault)) = value.try_set(&2) else { panic!() };
            is_forked(&fault);
            is_forked(value.blocking_set(&2, None).unwrap_err().fault());
            is_forked(value.blocking_update(|_| 2, None).unwrap_err().fault());
            is_forked(value.blocking_changed(None, None).unwrap_err().fault());
            is_forked(value.watch().blocking_next(None).unwrap_err().fault());
            is_forked(&value.stat().unwrap_err());
            drop(value.clone());
            let new = Value::<u64>::open(&value.name()).unwrap();
            assert_eq!(new.get().unwrap(), Some(1));
            new.try_set(&5).unwrap();
        }));
        // SAFETY: ends this process without running what belongs to the parent.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    let mut status = 0;
    // SAFETY: a place for the status.
    unsafe { libc::wait(&mut status) };
    assert_eq!(status, 0, "the forked child failed");
    assert_eq!(asleep.join().unwrap().unwrap(), 2);
    assert_eq!(value.get().unwrap(), Some(5));
    rt.block_on(value.set(&6)).unwrap();
    say("forked");
    assert_eq!(rt.block_on(value.wait_for(|&n| n == 7)).unwrap(), 7);
    say("woken");
}

#[test]
fn a_forked_child_is_refused_and_harms_nothing() {
    let test = Test::new("fork");
    let value = Value::<u64>::create(&test.name).unwrap();
    let mut child = test.spawn("forks", "");
    child.expect("forked");
    assert_eq!(value.get().unwrap(), Some(6));
    until(|| parked(&test.path()) == 1);
    value.try_set(&7).unwrap();
    child.expect("woken");
    child.finish();
    assert_eq!(value.stat().unwrap().attached, 1);
}
