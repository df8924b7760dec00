//! Many who want one lock: tasks of several runtimes and threads on one handle and on many, all 48
//! places, readers without end. Those who give up waiting are in `rwlock_cancel.rs`.

mod common;
mod held;
mod stage;

use common::{hear, say};
use held::*;
use ringspan::{FaultKind, LockError, RwLock};
use stage::{Test, role, runtime, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    match role.role.as_str() {
        "overlap" => overlap(&role.name),
        _ => act(&role),
    }
    std::process::exit(0);
}

fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

// ---- fairness -----------------------------------------------------------------------------------

#[test]
fn a_task_that_takes_it_again_and_again_lets_the_others_come() {
    let test = Test::new("hogs of a lock");
    let lock = Arc::new(test.lock());
    for runtime in [runtime(), threads()] {
        runtime.block_on(async {
            let hog = tokio::spawn({
                let lock = Arc::clone(&lock);
                async move {
                    loop {
                        let held = lock.write().await.unwrap();
                        tokio::task::yield_now().await; // whoever looks now finds it held
                        drop(held);
                    }
                }
            });
            for _ in 0..100 {
                while lock.holders().is_empty() {
                    tokio::task::yield_now().await;
                }
                drop(lock.write().await.unwrap());
            }
            hog.abort();
            assert!(hog.await.unwrap_err().is_cancelled());
        });
    }
}

// ---- descriptors and places ---------------------------------------------------------------------

#[test]
fn descriptors_are_held_only_while_somebody_waits() {
    let test = Test::new("descriptors of a lock");
    let lock = test.lock();
    let mut actor = test.actor();
    let idle = |lock: &RwLock| {
        let stat = lock.stat().unwrap();
        assert_eq!((stat.pidfds, stat.attached), (0, 2), "{stat:?}");
        // One may stay at the door of a holder that has not looked there since.
        assert!(stat.connections <= 1, "{stat:?}");
        stat
    };
    assert_eq!(idle(&lock).parks, 0);
    for on_tokio in [false, true] {
        assert_eq!(actor.does("write"), "got it");
        let before = idle(&lock).parks;
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| match on_tokio {
                false => drop(lock.blocking_read(None).unwrap()),
                true => drop(runtime().block_on(lock.read()).unwrap()),
            });
            until(|| parks_of(&lock) > before);
            let stat = lock.stat().unwrap();
            assert!(stat.connections > 0, "{stat:?}");
            assert_eq!(stat.pidfds > 0, pidfds_can_be_had(), "{stat:?}");
            assert_eq!(actor.does("give"), "given");
            waiter.join().unwrap();
        });
        let before = idle(&lock).parks;
        // After a wait that was given up, too.
        assert_eq!(actor.does("read"), "got it");
        assert!(matches!(lock.blocking_write(MOMENT), Err(LockError::Timeout(_))));
        assert!(idle(&lock).parks > before);
        assert_eq!(actor.does("give"), "given");
        let before = parks_of(&lock);
        drop(lock.blocking_write(None).unwrap());
        assert_eq!(parks_of(&lock), before, "there was nothing to wait for");
    }
    actor.say("end");
    actor.finish();
}

/// Linux 6.5 and later.
fn pidfds_can_be_had() -> bool {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut words = text.split(['.', '-']).map(|word| word.parse::<u32>().unwrap_or(0));
    (words.next(), words.next()) >= (Some(6), Some(5))
}

#[test]
fn forty_eight_handles_and_no_more() {
    let test = Test::new("48 handles");
    let lock = test.lock();
    let mut actor = test.actor();
    let mut handles: Vec<RwLock> = (0..46).map(|_| test.handle()).collect();
    assert_eq!(lock.stat().unwrap().attached, 48);
    for opened in [RwLock::open(&test.name), RwLock::open_or_create(&test.name, 1)] {
        let err = opened.unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::TooManyAttached, "{err}");
        assert!(err.to_string().contains(&test.name) && err.to_string().contains("48"), "{err}");
    }
    // All of them work, the last one too.
    for handle in &handles {
        raise(&mut handle.blocking_write(None).unwrap());
    }
    let guards: Vec<_> = handles.iter().map(|handle| handle.try_read().unwrap()).collect();
    assert_eq!(lock.holders().len(), 46);
    assert!(would_block(lock.try_write()));
    drop(guards);
    // A place is free when a handle goes ...
    drop(handles.pop());
    handles.push(test.handle());
    assert_eq!(kind_of(RwLock::open(&test.name)), FaultKind::TooManyAttached);
    // ... or its process dies, whatever it held.
    assert_eq!(actor.does("write"), "got it");
    actor.kill9();
    handles.push(test.handle());
    assert_eq!(kind_of(RwLock::open(&test.name)), FaultKind::TooManyAttached);
    assert!(lock.is_poisoned(), "it died writing");
    drop(anyhow(handles[46].blocking_write(None)));
}

// ---- many at once -------------------------------------------------------------------------------

const RAISES: u64 = 200;

/// Reads and raises in turns; how often it raised.
async fn raise_async(lock: RwLock, owned: bool) -> u64 {
    for n in 0..RAISES {
        if n % 4 == 0 {
            read_all(&lock.read().await.unwrap());
        }
        if owned {
            raise(&mut lock.write_owned().await.unwrap());
        } else {
            let mut guard = lock.write().await.unwrap();
            tokio::task::yield_now().await;
            raise(&mut guard);
        }
    }
    RAISES
}

fn raise_blocking(lock: &RwLock) -> u64 {
    for n in 0..RAISES {
        if n % 4 == 0 {
            read_all(&lock.blocking_read(None).unwrap());
        }
        let mut guard = lock.blocking_write(None).unwrap();
        let number = raise(&mut guard);
        let guard = guard.downgrade();
        assert_eq!(read_all(&guard), number);
        if let Ok(mut guard) = guard.try_upgrade() {
            assert_eq!(raise(&mut guard), number + 1);
            drop(guard);
            continue;
        }
        raise(&mut lock.blocking_write(None).unwrap());
    }
    2 * RAISES
}

/// Threads, tasks of one runtime of many threads and of two of one thread, all at once.
fn everybody_raises(handles: &[RwLock]) -> u64 {
    let sum = AtomicU64::new(0);
    let count = |raised: u64| {
        sum.fetch_add(raised, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let lock = &handles[thread % handles.len()];
            scope.spawn(move || count(raise_blocking(lock)));
        }
        for rt in [threads(), timed_runtime(), timed_runtime()] {
            scope.spawn(move || {
                let tasks: Vec<_> = (0..4)
                    .map(|n| rt.spawn(raise_async(handles[n % handles.len()].clone(), n % 2 == 0)))
                    .collect();
                for task in tasks {
                    count(rt.block_on(task).unwrap());
                }
            });
        }
    });
    sum.into_inner()
}

#[test]
fn threads_and_tasks_on_one_handle() {
    let test = Test::lasting("one handle, many users", Duration::from_secs(40));
    let lock = test.lock();
    let raised = everybody_raises(std::slice::from_ref(&lock));
    assert_eq!(read_all(&lock.try_read().unwrap()), raised);
    assert_eq!((holds(&test.file()), parked(&test.file())), (0, 0));
}

#[test]
fn threads_and_tasks_on_three_handles() {
    let test = Test::lasting("three handles, many users", Duration::from_secs(40));
    let handles = [test.lock(), test.handle(), test.handle()];
    let raised = everybody_raises(&handles);
    assert_eq!(read_all(&handles[0].try_read().unwrap()), raised);
    assert_eq!((holds(&test.file()), parked(&test.file())), (0, 0));
}

/// Reads without a gap, by two handles in turns, until a writer is let in; then begins anew. Without
/// the hint no writer would ever be.
fn overlap(name: &str) {
    const STARVED: u64 = 2_000_000;
    let (a, b) = (RwLock::open(name).unwrap(), RwLock::open(name).unwrap());
    let file = file_of(&common::path_of(name));
    static ENOUGH: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        hear();
        ENOUGH.store(true, Ordering::SeqCst);
    });
    let (mut overlaps, mut let_in, mut waited) = (0u64, 0u64, 0u64);
    let mut held = a.blocking_read(None).unwrap();
    say("reading");
    while !ENOUGH.load(Ordering::SeqCst) {
        for lock in [&b, &a] {
            match lock.try_read() {
                Ok(next) => {
                    held = next; // before the last one is given back
                    overlaps += 1;
                    let asleep = overlaps.is_multiple_of(64) && parked(&file) > 0;
                    waited = if asleep { waited + 64 } else { waited };
                    if waited > STARVED {
                        return say("a writer starves"); // and it is let in
                    }
                }
                Err(_) => {
                    drop(held);
                    (let_in, waited) = (let_in + 1, 0);
                    held = lock.blocking_read(None).unwrap();
                }
            }
        }
    }
    drop(held);
    say(overlaps > 0 && let_in > 0);
}

#[test]
fn overlapping_readers_do_not_starve_a_writer() {
    let test = Test::new("starving");
    let lock = test.lock();
    let mut child = test.spawn("overlap", "");
    child.expect("reading");
    let rt = runtime();
    for _ in 0..100 {
        raise(&mut lock.blocking_write(None).unwrap());
        raise(&mut rt.block_on(lock.write()).unwrap());
        assert_eq!(child.has_said(), None);
    }
    child.say("enough");
    child.expect("true");
    child.finish();
}
