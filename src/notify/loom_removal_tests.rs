//! A removal under loom: the mark comes from somebody who is attached to nothing and rings whoever sleeps.
//! Each claim has a twin with a planted bug.

use super::loom_tests::{Desk, check};
use super::park::{self, ParkNumbers};
use super::slots;
use crate::layout::STATE_REMOVED;
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// A value with one who waits for it to change.
struct Waited {
    /// Its word is the version.
    desk: Arc<Desk>,
    state: AtomicU64,
    /// What it grew by, until that is given back.
    bytes: AtomicU64,
}

#[derive(Debug, PartialEq)]
enum Told {
    Set,
    Removed,
}

impl Waited {
    fn new() -> Arc<Waited> {
        let desk = Desk::new();
        slots::claim(&desk.slot, 7).unwrap();
        Arc::new(Waited { desk, state: AtomicU64::new(0), bytes: AtomicU64::new(1) })
    }

    fn set(&self) {
        self.desk.word.fetch_add(1, Ordering::Relaxed); // Relaxed: the fences must do
    }

    fn mark(&self) {
        self.state.store(STATE_REMOVED, Ordering::Release); // as `Region::mark_removed`
    }

    fn is_removed(&self) -> bool {
        self.state.load(Ordering::Acquire) == STATE_REMOVED
    }

    /// As `wake::knock_all`.
    fn knock(&self) {
        if let Some((number, tag)) = park::asleep(&self.desk.slot) {
            assert_eq!(tag, 7);
            self.desk.bell.ring();
            park::rung(&self.desk.slot, number);
        }
    }

    /// As `Core::look`.
    fn look(&self) -> Option<Told> {
        let removed = self.is_removed();
        match self.desk.look(1) {
            true => Some(Told::Set),
            false => removed.then_some(Told::Removed),
        }
    }

    fn wait(&self, begin: impl Fn(&mut ParkNumbers), look: impl Fn() -> Option<Told>) -> Told {
        let mut numbers = ParkNumbers::starting_at(0);
        loop {
            begin(&mut numbers);
            if let Some(told) = look() {
                park::end(&self.desk.slot);
                return told;
            }
            self.desk.bell.park();
        }
    }

    fn wait_right(&self) -> Told {
        self.wait(|numbers| _ = numbers.begin(&self.desk.slot), || self.look())
    }
}

fn removed_by(remove: impl Fn(&Waited) + Copy + Send + Sync + 'static, wait: fn(&Waited) -> Told) {
    check(3, move || {
        let value = Waited::new();
        let remover = Arc::clone(&value);
        let remover = thread::spawn(move || remove(&remover));
        assert_eq!(wait(&value), Told::Removed);
        remover.join().unwrap();
    });
}

fn mark_and_knock(value: &Waited) {
    value.mark();
    value.knock();
}

#[test]
fn loom_a_removal_ends_every_wait() {
    removed_by(mark_and_knock, Waited::wait_right);
}

/// The barrier between the mark and the look at the sleepers is the one in `park::waiting`.
#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_remover_without_a_fence() {
    let remove = |value: &Waited| {
        value.mark();
        // Relaxed: the bug
        if value.desk.slot.waiting.load(Ordering::Relaxed) != 0 {
            value.desk.bell.ring();
        }
    };
    removed_by(remove, Waited::wait_right);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_knock_before_the_mark() {
    let remove = |value: &Waited| {
        value.knock();
        value.mark();
    };
    removed_by(remove, Waited::wait_right);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_waiter_without_a_fence() {
    removed_by(mark_and_knock, |value| {
        let begin = |_: &mut ParkNumbers| value.desk.slot.waiting.store(1, Ordering::Relaxed);
        value.wait(begin, || value.look())
    });
}

/// A remover is killed when it has marked; the next opener or remover ends what it began.
fn finished_by(finish: fn(&Waited)) {
    removed_by(
        move |value| {
            value.mark();
            fence(Ordering::SeqCst); // the inode's lock, which the kernel took from the dead
            finish(value);
        },
        Waited::wait_right,
    );
}

#[test]
fn loom_who_ends_a_removal_knocks() {
    finished_by(|value| {
        assert!(value.is_removed());
        value.knock();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_who_ends_a_removal_tells_nobody() {
    finished_by(|value| assert!(value.is_removed()));
}

/// Set, and removed at once.
fn set_before(look: fn(&Waited) -> Option<Told>) {
    check(3, move || {
        let value = Waited::new();
        let remover = Arc::clone(&value);
        let remover = thread::spawn(move || {
            remover.set();
            mark_and_knock(&remover);
        });
        let begin = |numbers: &mut ParkNumbers| _ = numbers.begin(&value.desk.slot);
        assert_eq!(value.wait(begin, || look(&value)), Told::Set);
        remover.join().unwrap();
    });
}

#[test]
fn loom_what_was_set_before_a_removal_is_told_first() {
    set_before(Waited::look);
}

#[test]
#[should_panic(expected = "left == right")]
fn loom_bug_the_version_read_before_the_mark() {
    set_before(|value| match value.desk.look(1) {
        true => Some(Told::Set),
        false => value.is_removed().then_some(Told::Removed),
    });
}

// ---- a handle that rests ------------------------------------------------------------------------

impl Waited {
    /// As `lifetime::bury`.
    fn remove(&self) {
        self.mark();
        self.knock();
        self.give_back();
    }

    /// As `lifetime::give_back_unused`.
    fn give_back(&self) {
        if self.is_removed() && slots::rests(&self.desk.slot) {
            self.bytes.store(0, Ordering::Relaxed); // Relaxed: a system call
        }
    }

    /// Uses a handle that rested. False: it was removed.
    fn use_it(&self, rouse: fn(&Waited)) -> bool {
        rouse(self);
        if self.is_removed() {
            return false;
        }
        // Relaxed: a system call
        assert_eq!(self.bytes.load(Ordering::Relaxed), 1, "the bytes are there");
        slots::rest(&self.desk.slot, 7);
        true
    }

    fn leave(&self) {
        slots::release(&self.desk.slot, 7);
        self.give_back();
    }
}

fn resting(rouse: fn(&Waited), look_again: bool) {
    check(3, move || {
        let value = Waited::new();
        slots::rest(&value.desk.slot, 7);
        let remover = Arc::clone(&value);
        let remover = thread::spawn(move || remover.remove());
        if !value.use_it(rouse) || look_again && value.is_removed() {
            value.leave();
        }
        remover.join().unwrap();
        assert_eq!(value.bytes.load(Ordering::Relaxed), 0, "given back");
    });
}

#[test]
fn loom_a_handle_that_rests_pins_nothing_and_loses_nothing() {
    resting(|value| slots::rouse(&value.desk.slot), true);
}

#[test]
#[should_panic(expected = "the bytes are there")]
fn loom_bug_roused_without_a_fence() {
    resting(|value| value.desk.slot.resting.store(0, Ordering::Relaxed), true);
}

#[test]
#[should_panic(expected = "given back")]
fn loom_bug_at_rest_without_a_look() {
    resting(|value| slots::rouse(&value.desk.slot), false);
}
