//! A lock's verbs: how its name is opened, the forms of taking it, guards, poison, who holds it.
//! Waiting of many at once is in `rwlock_tasks.rs`, other processes in `rwlock_processes.rs`.

mod common;
mod held;
mod stage;

use held::*;
use ringspan::{FaultKind, LockError, LockMode, OpenError, Ring, RwLock, Segment, TryLockError};
use stage::{Test, role, runtime, until};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    act(&role);
    std::process::exit(0);
}

// ---- names --------------------------------------------------------------------------------------

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let test = Test::new("names of locks");
    let name = &test.name;
    let Err(OpenError::NotFound(fault)) = RwLock::open(name) else { panic!() };
    assert!(fault.to_string().contains(name.as_str()), "{fault}");
    let lock = test.lock();
    let Err(OpenError::AlreadyExists(fault)) = RwLock::create(name, 8) else { panic!() };
    assert!(fault.to_string().contains(name.as_str()), "{fault}");
    // Another kind, both ways.
    let err = Ring::options().open(name).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Mismatch, "{err}");
    drop(lock);
    ringspan::remove(name).unwrap();
    drop(Segment::create(name, 64).unwrap());
    let err = RwLock::open(name).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Mismatch, "{err}");
    assert!(
        err.to_string().contains("segment") && err.to_string().contains(name.as_str()),
        "{err}"
    );
    assert_eq!(kind_of(RwLock::open_or_create(name, 64)), FaultKind::Mismatch);
    assert_eq!(kind_of(RwLock::create("no/name", 1)), FaultKind::InvalidName);
}

#[test]
fn length_and_mode_are_the_creators() {
    let test = Test::new("length of a lock");
    let lock = RwLock::options().mode(0o640).create(&test.name, 100).unwrap();
    let mode = std::fs::metadata(test.path()).unwrap().permissions().mode();
    assert_eq!((mode & 0o7777, lock.len(), lock.is_empty()), (0o640, 100, false));
    assert_eq!(lock.name(), test.name);
    assert_eq!(test.handle().len(), 100);
    assert_eq!(RwLock::open_or_create(&test.name, 100).unwrap().len(), 100);
    assert_eq!(RwLock::open_or_create(&test.name, 1).unwrap().len(), 100);
    let err = RwLock::open_or_create(&test.name, 101).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Mismatch, "{err}");
    assert!(err.to_string().contains("101") && err.to_string().contains("it 100;"), "{err}");
    drop(lock);
    ringspan::remove(&test.name).unwrap();
    for mode in [0o1000, 0o10_600, u32::MAX] {
        let made = RwLock::options().mode(mode).create(&test.name, 8);
        assert_eq!(kind_of(made), FaultKind::InvalidOption, "mode {mode:o}");
    }
    assert!(!test.path().exists());
    // No bytes at all are a lock, too.
    let lock = RwLock::open_or_create(&test.name, 0).unwrap();
    assert!(lock.is_empty() && lock.blocking_write(None).unwrap().is_empty());
    let _guard = lock.try_read().unwrap();
    assert!(would_block(test.handle().try_write()));
}

#[test]
fn an_ephemeral_lock_goes_with_the_last_one_out() {
    let test = Test::new("ephemeral lock");
    let lock = RwLock::options().ephemeral(true).create(&test.name, 8).unwrap();
    let other = test.handle();
    assert!(other.is_ephemeral() && !other.is_poisoned());
    let clone = other.clone();
    drop(lock);
    drop(other);
    assert!(test.path().exists());
    let guard = runtime().block_on(clone.read_owned()).unwrap();
    drop(clone);
    assert!(test.path().exists(), "an owned guard is a handle");
    drop(guard);
    assert!(!test.path().exists());
    // One whose users all died goes with its next opener.
    let lock = RwLock::options().ephemeral(true).create(&test.name, 8).unwrap();
    let mut actor = test.actor();
    assert_eq!(actor.does("read"), "got it");
    drop(lock);
    assert!(test.path().exists());
    actor.kill9();
    assert!(test.path().exists());
    assert!(matches!(RwLock::open(&test.name), Err(OpenError::NotFound(_))));
    assert!(!test.path().exists());
}

// ---- forms --------------------------------------------------------------------------------------

/// Taken in that mode, whatever the form, in words.
fn try_in(lock: &RwLock, mode: LockMode, form: u32) -> bool {
    let rt = timed_runtime();
    let brief = Duration::from_millis(2);
    match (mode, form) {
        (LockMode::Read, 0) => !would_block(lock.try_read()),
        (LockMode::Write, 0) => !would_block(lock.try_write()),
        (LockMode::Read, 1) => !matches!(lock.blocking_read(brief), Err(LockError::Timeout(_))),
        (LockMode::Write, 1) => !matches!(lock.blocking_write(brief), Err(LockError::Timeout(_))),
        (LockMode::Read, 2) => {
            rt.block_on(async { tokio::time::timeout(brief, lock.read()).await }).is_ok()
        }
        (LockMode::Write, 2) => {
            rt.block_on(async { tokio::time::timeout(brief, lock.write()).await }).is_ok()
        }
        (LockMode::Read, _) => {
            rt.block_on(async { tokio::time::timeout(brief, lock.read_owned()).await }).is_ok()
        }
        (LockMode::Write, _) => {
            rt.block_on(async { tokio::time::timeout(brief, lock.write_owned()).await }).is_ok()
        }
    }
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    let test = Test::new("who excludes whom");
    let lock = test.lock();
    let other = test.handle();
    for asks in [&lock, &other] {
        for form in 0..4 {
            for mode in [LockMode::Read, LockMode::Write] {
                assert!(try_in(asks, mode, form), "{mode:?} of a free lock, form {form}");
                let guard = lock.blocking_read(None).unwrap();
                assert_eq!(try_in(asks, mode, form), mode == LockMode::Read, "{mode:?} {form}");
                drop(guard);
                let guard = lock.try_write().unwrap();
                assert!(!try_in(asks, mode, form), "{mode:?} beside a writer, form {form}");
                drop(guard);
            }
        }
    }
    assert!(lock.holders().is_empty());
}

#[test]
fn a_time_out_says_who_holds_it() {
    let test = Test::new("time-outs");
    let lock = test.lock();
    let mut actor = test.actor();
    for (order, how) in [("write", "written by"), ("read", "read by")] {
        assert_eq!(actor.does(order), "got it");
        let err = lock.blocking_write(MOMENT).unwrap_err();
        let text = err.to_string();
        assert!(matches!(err, LockError::Timeout(_)), "{text}");
        assert_eq!(err.fault().errno(), Some(libc::ETIMEDOUT));
        assert!(text.contains(&format!("{how} pid {}", actor.pid())), "{text}");
        assert!(text.contains(&test.name), "{text}");
        assert_eq!(std::io::Error::from(err).kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(actor.does("give"), "given");
    }
    let guard = lock.blocking_write(None).unwrap();
    let other = test.handle();
    let err = other.blocking_read(Duration::ZERO).map(drop).unwrap_err();
    let ours = format!("written by pid {}", std::process::id());
    assert!(err.to_string().contains(&ours), "{err}");
    let err = lock.blocking_read(MOMENT).map(drop).unwrap_err();
    assert!(err.to_string().contains("(this handle)"), "{err}");
    let err = std::io::Error::from(other.try_write().unwrap_err());
    assert_eq!(err.kind(), std::io::ErrorKind::WouldBlock);
    drop(guard);
    actor.say("end");
    actor.finish();
}

// ---- guards -------------------------------------------------------------------------------------

#[test]
fn what_one_writes_another_reads() {
    let test = Test::new("bytes");
    let lock = test.lock();
    let other = test.handle();
    let mut guard = lock.blocking_write(None).unwrap();
    assert_eq!((guard.len(), read_all(&guard)), (LEN, 0));
    guard[..5].copy_from_slice(b"hello");
    assert!(format!("{guard:?}").contains(&test.name));
    drop(guard);
    assert_eq!(&other.try_read().unwrap()[..5], b"hello");
    // Dropped on another thread.
    let guard = other.blocking_write(None).unwrap();
    std::thread::scope(|scope| scope.spawn(move || drop(guard)).join().unwrap());
    let guard = runtime().block_on(lock.write_owned()).unwrap();
    std::thread::spawn(move || drop(guard)).join().unwrap();
    // Held across an await, on a runtime that moves tasks about.
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let owned = lock.try_read().map(drop).map(|()| lock.clone()).unwrap();
    let task = rt.spawn(async move {
        let mut guard = owned.try_write().unwrap();
        tokio::task::yield_now().await;
        guard[0] = b'j';
    });
    rt.block_on(task).unwrap();
    assert_eq!(&lock.try_read().unwrap()[..5], b"jello");
    assert!(lock.holders().is_empty());
}

#[test]
fn a_forgotten_guard_goes_with_its_handle() {
    let test = Test::new("forgotten guards");
    let lock = test.lock();
    let other = test.handle();
    std::mem::forget(other.blocking_write(None).unwrap());
    assert!(would_block(lock.try_read()));
    drop(other);
    drop(lock.try_write().unwrap());
    let other = test.handle();
    (0..3).for_each(|_| std::mem::forget(other.blocking_read(None).unwrap()));
    assert!(would_block(lock.try_write()));
    // A waiter that is parked is woken by it.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(lock.blocking_write(None).unwrap()));
        until(|| parked(&test.file()) == 1);
        drop(other);
        waiter.join().unwrap();
    });
    assert!(!lock.is_poisoned());
    // An owned guard outlives its handle and gives another one.
    let guard = runtime().block_on(test.handle().write_owned()).unwrap();
    assert!(would_block(lock.try_read()));
    assert!(would_block(guard.lock().try_read()));
    drop(guard);
    let guard = runtime().block_on(lock.read_owned()).unwrap();
    assert_eq!(guard.lock().len(), LEN);
    drop(test.handle().try_read().unwrap());
}

#[test]
fn downgrade_and_upgrade() {
    let test = Test::new("downgrade and upgrade");
    let lock = test.lock();
    let other = test.handle();
    let mut guard = lock.blocking_write(None).unwrap();
    raise(&mut guard);
    let guard = guard.downgrade();
    assert_eq!(lock.holders()[0].mode, LockMode::Read);
    let theirs = other.try_read().unwrap();
    assert_eq!((read_all(&guard), read_all(&theirs)), (1, 1));
    assert!(would_block(other.try_write()));
    let guard = guard.try_upgrade().unwrap_err(); // another handle reads
    drop(theirs);
    let ours = lock.try_read().unwrap();
    let guard = guard.try_upgrade().unwrap_err(); // another one of this handle reads
    drop(ours);
    let mut guard = guard.try_upgrade().unwrap();
    assert_eq!(lock.holders()[0].mode, LockMode::Write);
    assert!(would_block(other.try_read()) && would_block(lock.try_read()));
    assert_eq!(raise(&mut guard), 2);
    drop(guard);
    // The owned ones alike.
    let guard = runtime().block_on(lock.write_owned()).unwrap().downgrade();
    let guard = guard.try_upgrade().unwrap();
    assert!(would_block(other.try_read()));
    drop(guard);
    // Both kinds of waiter are woken by a downgrade: one of this handle, one of another.
    let guard = lock.blocking_write(None).unwrap();
    std::thread::scope(|scope| {
        let waiters = [&lock, &other]
            .map(|lock| scope.spawn(|| read_all(&lock.blocking_read(None).unwrap())));
        until(|| parked(&test.file()) == 2);
        let guard = guard.downgrade();
        assert_eq!(waiters.map(|waiter| waiter.join().unwrap()), [2, 2]);
        drop(guard);
    });
    // A failed upgrade keeps nobody out.
    let (one, two) = (lock.try_read().unwrap(), other.try_read().unwrap());
    let one = one.try_upgrade().unwrap_err();
    drop(test.handle().try_read().unwrap());
    drop((one, two));
    drop(other.try_write().unwrap());
}

// ---- poison -------------------------------------------------------------------------------------

#[test]
fn a_panic_poisons_as_in_std() {
    let test = Test::new("poison by panic");
    let lock = test.lock();
    let other = test.handle();
    let panics = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    // A reader's panic, and a writer's that has become a reader, are harmless.
    panics(&mut || {
        let _guard = lock.blocking_read(None).unwrap();
        panic!("planned");
    });
    panics(&mut || {
        let _guard = lock.blocking_write(None).unwrap().downgrade();
        panic!("planned");
    });
    // And a guard that a destructor takes while a panic is under way.
    struct Writes<'a>(&'a RwLock);
    impl Drop for Writes<'_> {
        fn drop(&mut self) {
            drop(self.0.blocking_write(None).unwrap());
        }
    }
    panics(&mut || {
        let _writes = Writes(&lock);
        panic!("planned");
    });
    assert!(!lock.is_poisoned());
    panics(&mut || {
        let mut guard = lock.blocking_write(None).unwrap();
        guard[0] = 1;
        panic!("planned");
    });
    assert!(lock.is_poisoned() && other.is_poisoned());
    // Every form says so and has the guard inside.
    let rt = runtime();
    for lock in [&lock, &other] {
        let Err(TryLockError::Poisoned(poisoned)) = lock.try_read() else { panic!() };
        assert_eq!((poisoned.get_ref()[0], lock.holders().len()), (1, 1));
        assert_eq!(poisoned.fault().kind(), FaultKind::Poisoned);
        assert_eq!(poisoned.fault().errno(), Some(libc::EOWNERDEAD));
        assert!(poisoned.to_string().contains(&test.name), "{poisoned}");
        drop(poisoned);
        let Err(LockError::Poisoned(mut poisoned)) = lock.blocking_write(MOMENT) else { panic!() };
        poisoned.get_mut()[1] = 2;
        drop(poisoned.into_inner());
        assert!(matches!(rt.block_on(lock.read()), Err(LockError::Poisoned(_))));
        assert!(matches!(rt.block_on(lock.write_owned()), Err(LockError::Poisoned(_))));
        assert_eq!(rt.block_on(lock.read()).or_else(LockError::into_guard).unwrap()[1], 2);
        // Become an io::Error, the lock is given back.
        let err = std::io::Error::from(lock.blocking_write(None).unwrap_err());
        assert!(err.to_string().contains(&test.name), "{err}");
        assert!(lock.holders().is_empty());
    }
    let mut guard = anyhow(other.blocking_write(None));
    guard.fill(0);
    other.clear_poison().unwrap();
    drop(guard);
    assert!(!lock.is_poisoned());
    assert_eq!(read_all(&lock.try_read().unwrap()), 0);
    // Poison of a panic in a task.
    let task = timed_runtime();
    let owned = lock.clone();
    let joined = task.block_on(task.spawn(async move {
        let _guard = owned.write().await.unwrap();
        panic!("planned");
    }));
    assert!(joined.unwrap_err().is_panic() && lock.is_poisoned());
    lock.clear_poison().unwrap();
    drop(lock.try_write().unwrap());
}

// ---- who holds it -------------------------------------------------------------------------------

#[test]
fn holders_describe_themselves() {
    let test = Test::new("holders");
    let lock = test.lock();
    assert!(lock.holders().is_empty());
    let begin = coarse_now();
    let ours = lock.blocking_read(None).unwrap();
    let mut actor = test.actor();
    assert_eq!(actor.does("read"), "got it");
    let end = coarse_now();
    let mut holders = lock.holders();
    holders.sort_by_key(|holder| holder.pid != std::process::id());
    let pids: Vec<u32> = holders.iter().map(|holder| holder.pid).collect();
    assert_eq!(pids, [std::process::id(), actor.pid()]);
    assert_ne!(holders[0].tag, holders[1].tag);
    for holder in &holders {
        assert_eq!((holder.mode, holder.kept_by_views), (LockMode::Read, 0));
        let since = holder.since.unwrap();
        assert!(begin <= since && since <= end, "{begin:?} {since:?} {end:?}");
    }
    drop(ours);
    assert_eq!(lock.holders()[0].pid, actor.pid());
    assert_eq!(actor.does("give"), "given");
    let begin = coarse_now();
    assert_eq!(actor.does("tokio write"), "got it");
    let [holder] = &lock.holders()[..] else { panic!() };
    assert_eq!((holder.pid, holder.mode), (actor.pid(), LockMode::Write));
    assert!(begin <= holder.since.unwrap());
    actor.say("end");
    actor.finish();
    assert!(lock.holders().is_empty() && !lock.is_poisoned());
}
