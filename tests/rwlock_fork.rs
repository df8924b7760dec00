//! A lock and fork, and exec: an inherited handle is refused and harms nothing; a forked child does not
//! hide its parent's death; exec is the death of what was attached.

mod common;
mod forked;
mod held;
mod stage;

use common::{hear, say};
use forked::{fork, is_forked, leave_a_child, leave_after, lives, wait_for_it};
use held::*;
use ringspan::{LockError, RwLock, TryLockError};
use rustix::process::Signal;
use stage::{Test, role, runtime, until};
use std::os::unix::process::CommandExt;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let lock = RwLock::open(&role.name).unwrap();
    match role.role.as_str() {
        "inherits" => inherits(&lock, &role.name),
        "leaves-a-child" => {
            let _guard = lock.blocking_write(None).unwrap();
            leave_a_child(&role.argument)
        }
        "leaves-a-child-reading" => {
            let _guard = lock.blocking_read(None).unwrap();
            leave_a_child(&role.argument)
        }
        "execs" => {
            let _guard = lock.blocking_write(None).unwrap();
            say("ready");
            hear();
            panic!("{}", std::process::Command::new("cat").exec());
        }
        other => panic!("role {other}"),
    }
    drop(lock);
    std::process::exit(0);
}

fn is_refused<G>(name: &str, taken: Result<G, LockError<G>>) {
    is_forked(&fault_of(taken), name);
}

/// Every verb of an inherited handle is refused in the forked child, and what it inherited stays the
/// parent's.
fn inherits(lock: &RwLock, name: &str) {
    let rt = runtime();
    let other = RwLock::open(name).unwrap();
    // Asleep on tokio once, so that there is a registration to inherit.
    let held = other.blocking_write(None).unwrap();
    rt.block_on(async {
        let (mut first, second) = (Box::pin(lock.read()), lock.write());
        park(first.as_mut(), lock, 0).await;
        drop((first, second));
    });
    drop(held);
    let mut guard = lock.blocking_write(None).unwrap();
    write_all(&mut guard, 4);
    let reading = other.clone();
    if fork() {
        leave_after(|| {
            drop(guard);
            for lock in [lock, &reading] {
                is_refused(name, lock.blocking_read(None));
                is_refused(name, lock.blocking_write(MOMENT));
                is_refused(name, rt.block_on(lock.read()));
                is_refused(name, rt.block_on(lock.write_owned()));
                let Err(TryLockError::Fault(fault)) = lock.try_read() else { panic!() };
                is_forked(&fault, name);
                let Err(TryLockError::Fault(fault)) = lock.try_write() else { panic!() };
                is_forked(&fault, name);
                is_forked(&lock.clear_poison().unwrap_err(), name);
                is_forked(&lock.stat().unwrap_err(), name);
                assert_eq!(lock.holders().len(), 1, "a look is free");
            }
            // A handle of its own works, and waits for the parent's.
            let fresh = RwLock::open(name).unwrap();
            assert!(would_block(fresh.try_read()));
            assert!(matches!(fresh.blocking_write(MOMENT), Err(LockError::Timeout(_))));
        });
    }
    wait_for_it();
    assert_eq!(whole(&guard), Some(4));
    assert_eq!(lock.holders().len(), 1);
    let guard = guard.downgrade();
    if fork() {
        leave_after(|| {
            let guard = guard.try_upgrade().unwrap_err();
            drop(guard);
        });
    }
    wait_for_it();
    let guard = guard.try_upgrade().unwrap();
    // A child that panics while it holds what is the parent's poisons nothing.
    if fork() {
        leave_after(|| {
            std::panic::set_hook(Box::new(|_| ()));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _guard = guard;
                panic!("planned");
            }));
            assert!(panicked.is_err());
        });
    }
    wait_for_it();
    say("held");
    hear();
    assert!(!lock.is_poisoned());
    drop(guard);
    hear();
}

#[test]
fn an_inherited_handle_is_refused_and_harms_nothing() {
    let test = Test::new("inherited lock");
    let lock = test.lock();
    let mut child = test.spawn("inherits", "");
    child.expect("held");
    assert!(would_block(lock.try_read()) && !lock.is_poisoned());
    assert_eq!(lock.holders()[0].pid, child.pid());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| read_all(&lock.blocking_read(None).unwrap()));
        until(|| parks_of(&lock) > 0);
        child.say("give");
        assert_eq!(waiter.join().unwrap(), 4);
    });
    child.say("end");
    child.finish();
}

#[test]
fn a_forked_child_does_not_hide_its_parents_death() {
    for (how, on_tokio) in [("fork", false), ("fork", true), ("clone", false), ("clone", true)] {
        for role in ["leaves-a-child", "leaves-a-child-reading"] {
            let test = Test::new(&format!("death of a {role}, {how}, tokio {on_tokio}"));
            let lock = test.lock();
            let mut child = test.spawn(role, how);
            let grandchild: u32 = child.hear().parse().unwrap();
            std::thread::scope(|scope| {
                let survivor = scope.spawn(|| {
                    match on_tokio {
                        true => runtime().block_on(lock.write()).map(drop),
                        false => lock.blocking_write(None).map(drop),
                    }
                    .is_err_and(|err| matches!(err, LockError::Poisoned(_)))
                });
                until(|| parks_of(&lock) > 0);
                child.signal(Signal::KILL); // and its standard input stays open for the other
                assert_eq!(survivor.join().unwrap(), role == "leaves-a-child");
            });
            assert!(lives(grandchild), "the forked child is there all the while");
            assert_eq!(lock.stat().unwrap().attached, 1);
            drop(child);
        }
    }
}

#[test]
fn exec_is_the_death_of_what_was_attached() {
    for on_tokio in [false, true] {
        let test = Test::new("exec of a writer");
        let lock = test.lock();
        let mut child = test.spawn("execs", "");
        child.expect("ready");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| match on_tokio {
                true => runtime().block_on(lock.read()).map(drop).unwrap_err().to_string(),
                false => lock.blocking_read(None).map(drop).unwrap_err().to_string(),
            });
            until(|| parks_of(&lock) > 0);
            child.say("exec");
            assert!(waiter.join().unwrap().contains("writer died"));
        });
        assert!(lives(child.pid()) && lock.is_poisoned());
        child.finish();
    }
}
