//! The lock under loom, without waiting (`loom_wait_tests` sleeps). The data under it are a cell that loom
//! watches: who is let in beside a writer, or without an order to it, is found whatever value he reads.
//! Each claim has a twin with a planted bug, so that a model which cannot fail would be noticed.

use super::raw::{Left, RawLock, Reaped, reap};
use super::stake::{Mode, Stake};
use super::word::{Word, owner_bit};
use crate::notify::loom_tests::check;
use crate::notify::slots;
use crate::sync::{AtomicU64, Ordering};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;

/// The word, and what it protects.
pub(super) struct Lock {
    pub(super) word: AtomicU64,
    data: UnsafeCell<u64>,
}

#[allow(unsafe_code, reason = "shares the cell between threads as a mapping would be")]
mod shared {
    use super::Lock;

    // SAFETY: loom checks every access to the cell, which is the purpose of the models.
    unsafe impl Sync for Lock {}

    impl Lock {
        pub(in super::super) fn write(&self) {
            // SAFETY: as above.
            self.data.with_mut(|data| unsafe { *data += 1 });
        }

        pub(in super::super) fn read(&self) -> u64 {
            // SAFETY: as above.
            self.data.with(|data| unsafe { *data })
        }
    }
}

impl Lock {
    pub(super) fn new() -> Arc<Lock> {
        Self::with(Word(0))
    }

    pub(super) fn with(word: Word) -> Arc<Lock> {
        Arc::new(Lock { word: AtomicU64::new(word.0), data: UnsafeCell::new(0) })
    }

    /// Nobody holds it, and the data are those of so many writers.
    fn at_rest(&self, written: u64) {
        let word = Word(self.word.load(Ordering::SeqCst));
        assert_eq!((word.owners(), word.is_written()), (0, false), "left standing");
        assert_eq!(self.read(), written, "lost");
    }
}

/// One attached handle.
pub(super) struct Handle {
    pub(super) lock: Arc<Lock>,
    stake: Stake,
    pub(super) bit: u64,
}

impl Handle {
    pub(super) fn new(lock: &Arc<Lock>, index: usize) -> Arc<Handle> {
        let lock = Arc::clone(lock);
        Arc::new(Handle { lock, stake: Stake::new(), bit: owner_bit(index) })
    }

    /// One of it has counted itself as a reader and not set the bit yet.
    pub(super) fn counted(lock: &Arc<Lock>, index: usize) -> Arc<Handle> {
        let handle = Handle::new(lock, index);
        let idle = handle.stake.load();
        assert!(handle.stake.swap(idle, idle.with(Mode::Readers(1))));
        handle
    }

    /// What an attempt to write does that finds a foreign owner after it moved the stake.
    pub(super) fn set_writer_and_fail(&self) {
        let idle = self.stake.load();
        if idle.mode == Mode::Idle && self.stake.swap(idle, idle.with(Mode::Writer)) {
            let idle = idle.next(Mode::Idle);
            self.stake.set(idle);
            self.stake.settle(idle);
        }
    }

    pub(super) fn raw(&self) -> RawLock<'_> {
        RawLock { word: &self.lock.word, stake: &self.stake, bit: self.bit }
    }

    /// Writes once if it may; how often it wrote.
    fn write(&self) -> u64 {
        if self.raw().write().is_err() {
            return 0;
        }
        self.lock.write();
        sound(self.raw().leave_write(false));
        1
    }

    fn read(&self) {
        if self.raw().read(&mut false).is_ok() {
            self.lock.read();
            sound(self.raw().leave_read());
        }
    }

    fn is_idle(&self) {
        assert_eq!(self.stake.load().mode, Mode::Idle);
    }
}

fn sound(left: Left) {
    assert!(!left.damaged, "robbed");
}

fn two_writers(write: fn(&Handle) -> u64) {
    check(5, move || {
        let lock = Lock::new();
        let (one, two) = (Handle::new(&lock, 0), Handle::new(&lock, 1));
        let other = thread::spawn(move || write(&two) + write(&two));
        let written = write(&one) + other.join().unwrap();
        lock.at_rest(written);
    });
}

#[test]
fn loom_lock_two_writers() {
    two_writers(Handle::write);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_lock_bug_given_without_release() {
    two_writers(|handle| {
        if handle.raw().write().is_err() {
            return 0;
        }
        handle.lock.write();
        let idle = handle.stake.load().next(Mode::Idle);
        let written = Word(handle.lock.word.load(Ordering::SeqCst));
        let free = written.without(handle.bit).0;
        handle.lock.word.swap(free, Ordering::Relaxed); // Relaxed: the bug
        handle.stake.set(idle);
        1
    });
}

fn writer_and_reader(take: fn(&Handle) -> bool) {
    check(5, move || {
        let lock = Lock::new();
        let (one, two) = (Handle::new(&lock, 0), Handle::new(&lock, 1));
        let other = thread::spawn(move || {
            two.read();
            two.read();
        });
        let mut written = 0;
        for _ in 0..2 {
            if take(&one) {
                one.lock.write();
                written += 1;
                sound(one.raw().leave_write(false));
            }
        }
        other.join().unwrap();
        lock.at_rest(written);
    });
}

#[test]
fn loom_lock_writer_and_reader() {
    writer_and_reader(|handle| handle.raw().write().is_ok());
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_lock_bug_writes_beside_readers() {
    writer_and_reader(|handle| {
        let idle = handle.stake.load();
        handle.stake.set(idle.with(Mode::Writer));
        let alone = Word(0).with_writer(handle.bit).unwrap();
        handle.lock.word.fetch_or(alone.0, Ordering::SeqCst);
        true
    });
}

/// How two tasks of one handle share its bit.
#[derive(Clone, Copy, PartialEq)]
enum Share {
    Right,
    /// Who joins before the bit is set does not raise the era.
    SameEra,
    /// Who leaves last looks for the bit after it left.
    LookLate,
}

fn join(handle: &Handle, how: Share) -> bool {
    let raw = handle.raw();
    if how != Share::SameEra {
        return raw.read(&mut false).is_ok();
    }
    let (stake, word) = (handle.stake.load(), raw.load());
    match stake.mode {
        Mode::Readers(count) if !word.has(handle.bit) => {
            word.with_reader(handle.bit).is_some()
                && handle.stake.swap(stake, stake.with(Mode::Readers(count + 1)))
                && raw.set_reader().is_ok()
        }
        _ => raw.read(&mut false).is_ok(),
    }
}

/// True: it found what it had to clear, or had nothing to clear.
fn leave(handle: &Handle, how: Share) {
    let raw = handle.raw();
    let stake = handle.stake.load();
    if how != Share::LookLate || stake.mode != Mode::Readers(1) {
        raw.leave_read();
        return;
    }
    let idle = stake.next(Mode::Idle);
    if handle.stake.swap(stake, idle) {
        handle.lock.word.fetch_and(!handle.bit, Ordering::SeqCst);
        handle.stake.settle(idle);
    } else {
        raw.leave_read();
    }
}

/// One that met a foreign writer, which is gone by now, uncounts itself; another one of its handle
/// reads; a third handle writes.
fn undo(how: Share) {
    check(5, move || {
        let lock = Lock::new();
        let ours = Handle::counted(&lock, 0);
        let (one, two, far) = (Arc::clone(&ours), Arc::clone(&ours), Handle::new(&lock, 1));
        let gives_up = thread::spawn(move || leave(&one, how));
        let writes = thread::spawn(move || far.write());
        if join(&two, how) {
            lock.read();
            sound(two.raw().leave_read());
        }
        gives_up.join().unwrap();
        lock.at_rest(writes.join().unwrap());
        ours.is_idle();
    });
}

#[test]
fn loom_lock_one_gives_up_while_another_reads() {
    undo(Share::Right);
}

#[test]
#[should_panic(expected = "left standing")]
fn loom_lock_bug_no_new_era_for_who_joins() {
    undo(Share::SameEra);
}

#[test]
#[should_panic]
fn loom_lock_bug_the_bit_looked_for_after_leaving() {
    undo(Share::LookLate);
}

/// Two tasks of one handle read while another handle writes: all from the beginning.
#[test]
fn loom_lock_two_readers_of_one_handle_and_a_writer() {
    check(4, || {
        let lock = Lock::new();
        let (ours, far) = (Handle::new(&lock, 0), Handle::new(&lock, 1));
        let two = Arc::clone(&ours);
        let reads = thread::spawn(move || two.read());
        let writes = thread::spawn(move || far.write());
        ours.read();
        reads.join().unwrap();
        lock.at_rest(writes.join().unwrap());
        ours.is_idle();
    });
}

/// One reads and leaves while another one of its handle joins.
#[test]
fn loom_lock_one_leaves_while_another_joins() {
    check(5, || {
        let lock = Lock::new();
        let (ours, far) = (Handle::new(&lock, 0), Handle::new(&lock, 1));
        assert!(ours.raw().read(&mut false).is_ok());
        let two = Arc::clone(&ours);
        let joins = thread::spawn(move || two.read());
        let writes = thread::spawn(move || far.write());
        lock.read();
        sound(ours.raw().leave_read());
        joins.join().unwrap();
        lock.at_rest(writes.join().unwrap());
        ours.is_idle();
    });
}

/// A task that reads and one that writes, of one handle, and nobody else: neither meets damage.
#[test]
fn loom_lock_reader_and_writer_of_one_handle() {
    check(5, || {
        let lock = Lock::new();
        let ours = Handle::new(&lock, 0);
        let two = Arc::clone(&ours);
        let writes = thread::spawn(move || match two.raw().write() {
            Ok(_) => {
                two.lock.write();
                sound(two.raw().leave_write(false));
                1
            }
            Err(busy) => {
                assert_eq!(busy.why, super::raw::Why::Ours);
                0
            }
        });
        for _ in 0..2 {
            match ours.raw().read(&mut false) {
                Ok(_) => {
                    lock.read();
                    sound(ours.raw().leave_read());
                }
                Err(busy) => assert_eq!(busy.why, super::raw::Why::Ours),
            }
        }
        lock.at_rest(writes.join().unwrap());
    });
}

fn downgrades(downgrade: fn(&Handle) -> bool) {
    check(5, move || {
        let lock = Lock::new();
        let (ours, far) = (Handle::new(&lock, 0), Handle::new(&lock, 1));
        assert!(ours.raw().write().is_ok());
        let two = Arc::clone(&ours);
        let other = thread::spawn(move || {
            two.read();
            far.read();
            far.write()
        });
        ours.lock.write();
        if downgrade(&ours) {
            assert_eq!(lock.read(), 1, "somebody wrote between");
            sound(ours.raw().leave_read());
        }
        lock.at_rest(1 + other.join().unwrap());
        ours.is_idle();
    });
}

#[test]
fn loom_lock_nobody_writes_between_in_a_downgrade() {
    downgrades(|handle| {
        sound(handle.raw().downgrade());
        true
    });
}

#[test]
#[should_panic(expected = "somebody wrote between")]
fn loom_lock_bug_a_downgrade_in_two_steps() {
    downgrades(|handle| {
        sound(handle.raw().leave_write(false));
        handle.raw().read(&mut false).is_ok()
    });
}

fn upgrades(upgrade: fn(&Handle) -> bool) {
    check(5, move || {
        let lock = Lock::new();
        let (ours, far) = (Handle::new(&lock, 0), Handle::new(&lock, 1));
        assert!(ours.raw().read(&mut false).is_ok());
        let two = Arc::clone(&ours);
        let joins = thread::spawn(move || two.read());
        let reads = thread::spawn(move || far.read());
        let mut written = 0;
        if upgrade(&ours) {
            lock.write();
            written = 1;
            sound(ours.raw().leave_write(false));
        } else {
            sound(ours.raw().leave_read());
        }
        joins.join().unwrap();
        reads.join().unwrap();
        lock.at_rest(written);
        ours.is_idle();
    });
}

#[test]
fn loom_lock_only_the_last_reader_upgrades() {
    upgrades(|handle| handle.raw().try_upgrade());
}

#[test]
#[should_panic]
fn loom_lock_bug_an_upgrade_that_asks_only_the_word() {
    upgrades(|handle| {
        let stake = handle.stake.load();
        let word = handle.raw().load();
        let Some(next) = word.upgraded(handle.bit) else { return false };
        let swapped =
            handle.lock.word.compare_exchange(word.0, next.0, Ordering::SeqCst, Ordering::SeqCst);
        if swapped.is_ok() {
            handle.stake.set(stake.with(Mode::Writer));
        }
        swapped.is_ok()
    });
}

/// One reaper takes a dead reader out, and its slot gets a new owner, which reads; another reaper was
/// stopped on the way.
fn slow_reaper(slow: fn(&AtomicU64, &dyn Fn() -> bool)) {
    check(5, move || {
        let lock = Lock::with(Word(0).with_reader(1).unwrap());
        let slot = Arc::new(crate::layout::Slot::new());
        slots::claim(&slot, 7).unwrap();
        let (l, s) = (Arc::clone(&lock), Arc::clone(&slot));
        let other = thread::spawn(move || {
            slow(&l.word, &|| s.tag.load(Ordering::SeqCst) == 7);
            slots::reap(&s, 7);
        });
        let theirs = || slot.tag.load(Ordering::SeqCst) == 7;
        reap(&lock.word, 1, true, theirs);
        slots::reap(&slot, 7);
        if slots::claim(&slot, 9).is_ok() {
            let next = Handle::new(&lock, 0);
            assert!(next.raw().read(&mut false).is_ok());
            lock.read();
            sound(next.raw().leave_read());
        }
        other.join().unwrap();
        lock.at_rest(0);
    });
}

#[test]
fn loom_lock_a_slow_reaper_robs_nobody() {
    slow_reaper(|word, theirs| {
        reap(word, 1, true, theirs);
    });
}

#[test]
#[should_panic(expected = "robbed")]
fn loom_lock_bug_a_reaper_that_does_not_count() {
    slow_reaper(|word, theirs| {
        let seen = Word(word.load(Ordering::SeqCst));
        if theirs() && seen.has(1) {
            // As if the first one had not counted either.
            let uncounted = |word: u64| word & ((1 << 51) - 1);
            let now = word.load(Ordering::SeqCst);
            if uncounted(now) == uncounted(seen.0) {
                let next = Word(now).without(1).0;
                let _ = word.compare_exchange(now, next, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
    });
}

#[test]
fn loom_lock_two_reapers_take_a_dead_writer_out_once() {
    check(5, || {
        let lock = Lock::with(Word(0).with_writer(1).unwrap());
        let far = Handle::new(&lock, 1);
        let l = Arc::clone(&lock);
        let other = thread::spawn(move || reap(&l.word, 1, true, || true));
        let reaped = reap(&lock.word, 1, true, || true);
        let written = far.write();
        let all = [reaped, other.join().unwrap()];
        assert_eq!(all.iter().filter(|it| matches!(it, Reaped::Cleared(_))).count(), 1);
        let word = Word(lock.word.load(Ordering::SeqCst));
        assert!(word.is_poisoned() && word.0 >> 55 == 1);
        lock.at_rest(written);
        assert_eq!(written, 1);
    });
}
