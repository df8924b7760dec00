//! Those who give up waiting for a lock, at every moment and in every way: they keep nobody out and take
//! no wake along. Also runtimes that stand still or end, and a name that is removed.

mod common;
mod held;
mod stage;

use held::*;
use ringspan::{FaultKind, LockError, OpenError, RwLock};
use stage::{Random, Test, runtime, until};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Polls once; what waits is parked then.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

// ---- those who gave up --------------------------------------------------------------------------

/// One reader holds it all the while. A writer that waits keeps the second one out; when it is gone the
/// second one comes in, also one that sleeps already.
#[test]
fn a_writer_that_gave_up_keeps_nobody_out() {
    for (same_handle, on_tokio) in [(false, false), (false, true), (true, false), (true, true)] {
        let test = Test::new(&format!("a writer gives up; {same_handle} {on_tokio}"));
        let lock = test.lock();
        let file = test.file();
        let (held, wants) = (test.handle(), test.handle());
        let reads = if same_handle { wants.clone() } else { test.handle() };
        let guard = held.blocking_read(None).unwrap();
        assert!(matches!(wants.blocking_write(MOMENT), Err(LockError::Timeout(_))));
        drop(reads.try_read().unwrap());
        std::thread::scope(|scope| {
            let rt = timed_runtime();
            let mut write = Box::pin(wants.write());
            let before = parks_of(&wants);
            rt.block_on(park(write.as_mut(), &wants, before));
            assert!(
                awaited(&file) && would_block(reads.try_read()) && would_block(lock.try_read())
            );
            let before = parks_of(&reads);
            let second = scope.spawn(|| match on_tokio {
                false => drop(reads.blocking_read(None).unwrap()),
                true => drop(runtime().block_on(reads.read()).unwrap()),
            });
            until(|| parks_of(&reads) > before);
            drop(write);
            second.join().unwrap();
        });
        assert!(!awaited(&file) && parked(&file) == 0);
        assert_eq!(lock.holders().len(), 1);
        drop(guard);
    }
}

#[test]
fn one_of_two_writers_gives_up_and_the_other_does_not() {
    for same_handle in [false, true] {
        let test = Test::new("one of two writers gives up");
        let lock = test.lock();
        let first = test.handle();
        let second = if same_handle { first.clone() } else { test.handle() };
        let guard = lock.blocking_read(None).unwrap();
        let rt = runtime();
        let (mut one, mut two) = (Box::pin(first.write()), Box::pin(second.write()));
        let before = parks_of(&first);
        rt.block_on(park(one.as_mut(), &first, before));
        let before = parks_of(&second);
        rt.block_on(park(two.as_mut(), &second, before));
        drop(one);
        // The hint is renewed by the other one's own look.
        rt.block_on(std::future::poll_fn(|cx| {
            assert!(two.as_mut().poll(cx).is_pending());
            if awaited(&test.file()) { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert!(would_block(lock.try_read()));
        drop(guard);
        drop(rt.block_on(two).unwrap());
        drop(lock.try_write().unwrap());
    }
}

/// Several wait on one handle, and whoever happens to watch the descriptor for all leaves.
#[test]
fn a_waiter_that_leaves_takes_no_wake_along() {
    let test = Test::new("leaders leave");
    let lock = test.lock();
    let waits = test.handle();
    let (first, second) = (runtime(), runtime());
    for round in 0..60 {
        let guard = lock.blocking_write(None).unwrap();
        std::thread::scope(|scope| {
            let mut leaves = Box::pin(waits.read());
            let before = parks_of(&waits);
            first.block_on(park(leaves.as_mut(), &waits, before));
            let other = scope.spawn(|| match round % 3 {
                0 => drop(waits.blocking_read(None).unwrap()),
                1 => drop(second.block_on(waits.read()).unwrap()),
                _ => drop(waits.blocking_write(None).unwrap()),
            });
            until(|| parks_of(&waits) > before + 1);
            // Before, after or at the moment of the release.
            match round / 3 % 3 {
                0 => drop((leaves, guard)),
                1 => drop((guard, leaves)),
                _ => {
                    scope.spawn(|| drop(guard));
                    drop(leaves);
                }
            }
            other.join().unwrap();
        });
        assert_eq!((holds(&test.file()), parked(&test.file())), (0, 0));
    }
}

/// Time-outs and `select!` at every moment, on three handles.
#[test]
fn given_up_again_and_again() {
    let test = Test::lasting("given up again and again", Duration::from_secs(40));
    let handles = [test.lock(), test.handle(), test.handle()];
    let gave_up = AtomicU64::new(0);
    let impatient = async |lock: &RwLock, seed: u64| {
        let mut random = Random::new(seed);
        let mut raised = 0;
        for _ in 0..400 {
            let patience = Duration::from_micros(random.below(300));
            match random.below(4) {
                0 => match tokio::time::timeout(patience, lock.read()).await {
                    Ok(guard) => drop(read_all(&guard.unwrap())),
                    Err(_) => drop(gave_up.fetch_add(1, Ordering::SeqCst)),
                },
                1 => match tokio::time::timeout(patience, lock.write()).await {
                    Ok(guard) => {
                        let mut guard = guard.unwrap();
                        tokio::task::yield_now().await;
                        raise(&mut guard);
                        raised += 1;
                    }
                    Err(_) => drop(gave_up.fetch_add(1, Ordering::SeqCst)),
                },
                2 => {
                    tokio::select! {
                        guard = lock.write() => {
                            raise(&mut guard.unwrap());
                            raised += 1;
                        }
                        guard = lock.read() => drop(read_all(&guard.unwrap())),
                        () = tokio::task::yield_now() => drop(gave_up.fetch_add(1, Ordering::SeqCst)),
                    }
                }
                _ => {
                    raise(&mut lock.write().await.unwrap());
                    raised += 1;
                }
            }
        }
        raised
    };
    let raised: u64 = std::thread::scope(|scope| {
        let impatient = &impatient;
        let tasks: Vec<_> = (0..6)
            .map(|n| {
                let lock = &handles[n % 3];
                scope.spawn(move || {
                    let more =
                        async { tokio::join!(impatient(lock, n as u64), impatient(lock, 77)) };
                    let (one, two) = timed_runtime().block_on(more);
                    one + two
                })
            })
            .collect();
        tasks.into_iter().map(|task| task.join().unwrap()).sum()
    });
    assert!(gave_up.into_inner() > 0);
    assert_eq!(read_all(&handles[0].try_read().unwrap()), raised);
    assert_eq!((holds(&test.file()), parked(&test.file())), (0, 0));
}

// ---- runtimes -----------------------------------------------------------------------------------

#[test]
fn without_a_runtime_what_would_sleep_is_an_error() {
    let test = Test::new("lock without runtime");
    let lock = test.lock();
    let other = test.handle();
    let without = |mode_is_read: bool| {
        for _ in 0..200 {
            let ended = match mode_is_read {
                true => poll_once(pin!(other.read())).map(fault_of),
                false => poll_once(pin!(other.write())).map(fault_of),
            };
            match ended {
                Poll::Ready(fault) => return fault,
                Poll::Pending => {} // a turn of the scheduler before it sleeps
            }
        }
        panic!("neither asleep nor an error");
    };
    let guard = lock.blocking_write(None).unwrap();
    for read in [true, false] {
        let fault = without(read);
        assert_eq!(fault.kind(), FaultKind::NoRuntime, "{fault}");
        assert!(fault.to_string().contains(&test.name) && fault.to_string().contains("blocking_"));
    }
    assert_eq!(parked(&test.file()), 0, "nobody is left behind");
    drop(guard);
    // What needs no sleep needs no runtime; nobody is kept out by the failed writer.
    assert!(matches!(poll_once(pin!(other.read())), Poll::Ready(Ok(_))));
    assert!(matches!(poll_once(pin!(lock.write())), Poll::Ready(Ok(_))));
}

#[test]
fn runtimes_that_stand_still_end_or_lack_io() {
    let test = Test::new("runtimes of a lock");
    let lock = test.lock();
    let other = test.handle();
    let guard = lock.blocking_write(None).unwrap();
    // Asleep on the one, registered there, and then nobody drives it any more.
    let still = runtime();
    let mut forgotten = Box::pin(other.read());
    still.block_on(park(forgotten.as_mut(), &other, parks_of(&other)));
    let bare = Builder::new_current_thread().build().unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(bare.block_on(other.write()));
    }));
    assert!(panicked.is_err());
    drop(guard);
    for n in 0..10 {
        let guard = lock.blocking_write(None).unwrap();
        std::thread::scope(|scope| {
            let before = parks_of(&other);
            let rt = if n % 2 == 0 { runtime() } else { threads() };
            let other = &other;
            let waiter = scope.spawn(move || drop(rt.block_on(other.write()).unwrap()));
            until(|| parks_of(other) > before);
            drop(guard);
            waiter.join().unwrap();
        });
    }
    drop(still);
    drop(forgotten);
    // A task whose runtime ends under it has given up.
    let guard = lock.blocking_read(None).unwrap();
    let rt = threads();
    let (owned, before) = (other.clone(), parks_of(&other));
    let task = rt.spawn(async move { drop(owned.write().await.unwrap()) });
    until(|| parks_of(&other) > before && awaited(&test.file()));
    drop(rt);
    assert!(timed_runtime().block_on(task).unwrap_err().is_cancelled());
    drop(other.try_read().unwrap());
    drop(guard);
    drop(lock.try_write().unwrap());
}

/// Those who have it go on with it; the name is free.
#[test]
fn removed_while_it_is_held_and_waited_for() {
    let test = Test::new("removed lock");
    let lock = test.lock();
    let other = test.handle();
    let mut guard = lock.blocking_write(None).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| raise(&mut other.blocking_write(None).unwrap()));
        until(|| parks_of(&other) > 0);
        ringspan::remove(&test.name).unwrap();
        assert!(matches!(RwLock::open(&test.name), Err(OpenError::NotFound(_))));
        let fresh = RwLock::create(&test.name, LEN).unwrap();
        raise(&mut fresh.try_write().unwrap());
        write_all(&mut guard, 10);
        drop(guard);
        assert_eq!(waiter.join().unwrap(), 11);
    });
    assert!(!other.is_poisoned());
    assert_eq!(read_all(&lock.try_read().unwrap()), 11);
    assert_eq!(read_all(&test.handle().try_read().unwrap()), 1);
}

/// A future that is leaked never leaves by itself; with its handle it does.
#[test]
fn a_forgotten_wait_goes_with_its_handle() {
    let test = Test::new("a forgotten wait");
    let lock = test.lock();
    let (held, wants) = (test.handle(), test.handle());
    let guard = held.blocking_read(None).unwrap();
    let rt = timed_runtime();
    let mut write = Box::pin(wants.write());
    let before = parks_of(&wants);
    rt.block_on(park(write.as_mut(), &wants, before));
    assert!(would_block(lock.try_read()), "a writer waits");
    std::mem::forget(write);
    drop(wants);
    drop(lock.blocking_read(None).unwrap());
    assert_eq!(lock.stat().unwrap().attached, 2);
    drop(guard);
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Signals end the sleep of a thread again and again; its place among those who wait it keeps.
#[test]
#[allow(unsafe_code, reason = "a signal for one thread")]
fn a_writer_that_is_interrupted_all_the_time_is_not_starved() {
    let test = Test::new("interrupted");
    let lock = test.lock();
    // SAFETY: plain numbers and a null pointer. No SA_RESTART, so that it ends system calls.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: a handler that does nothing.
    unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = test.handle();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let _guard = reader.blocking_read(None).unwrap();
                    std::thread::sleep(Duration::from_millis(4));
                }
            });
        }
        // SAFETY: ourselves.
        let me = unsafe { libc::pthread_self() };
        let done = &done;
        scope.spawn(move || {
            while !done.load(Ordering::SeqCst) {
                // SAFETY: that thread waits for this one before it ends.
                unsafe { libc::pthread_kill(me, libc::SIGUSR1) };
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..20 {
            drop(lock.blocking_write(None).unwrap());
        }
        done.store(true, Ordering::SeqCst);
    });
}
