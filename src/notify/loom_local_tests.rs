//! The fan-out under loom: many waiters of one process on one endpoint. As in `loom_tests`, a lost
//! wake is a deadlock, and each claim has a twin with a planted bug.

use super::local::{Local, Sleeper, Waiter};
use super::loom_tests::{Desk, check};
use super::park::{self, ParkNumbers};
use crate::sync::{Ordering, fence};
use loom::thread;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// The endpoint of the fan-out: a slot and a bell.
struct Model {
    desk: Arc<Desk>,
    numbers: ParkNumbers,
}

impl Sleeper for Model {
    type Fault = ();

    fn begin(&mut self) -> Result<(), ()> {
        self.numbers.begin(&self.desk.slot);
        Ok(())
    }

    fn end(&mut self) {
        park::end(&self.desk.slot);
    }

    fn harvest(&mut self) -> Result<(), ()> {
        self.desk.bell.harvest();
        Ok(())
    }

    fn forks() -> u64 {
        0
    }
}

type Fan = Arc<Local<Model>>;

fn fan() -> (Arc<Desk>, Fan) {
    let desk = Desk::new();
    let numbers = ParkNumbers::starting_at(0);
    let local = Arc::new(Local::new(Model { desk: Arc::clone(&desk), numbers }));
    (desk, local)
}

/// A waiter from start to end; `tell`: what it does when it finds the bell rung.
fn wait(desk: &Desk, local: &Fan, tell: fn(&Fan, &mut Waiter<Model>)) {
    // Not dropped when loom unwinds a deadlock: outside a model its locks panic.
    let mut waiter = ManuallyDrop::new(local.waiter());
    while waiter.attempt(|_| Ok(desk.look(1).then_some(()))).unwrap().is_none() {
        let alarm = Arc::clone(waiter.listener().unwrap().alarm());
        if desk.bell.poll(&alarm) {
            tell(local, &mut waiter);
        }
    }
    drop(ManuallyDrop::into_inner(waiter));
}

fn fired(_: &Fan, waiter: &mut Waiter<Model>) {
    waiter.fired().unwrap();
}

/// Two waiters and a waker in another process.
fn two_waiters(tell: fn(&Fan, &mut Waiter<Model>)) {
    check(2, move || {
        let (desk, local) = fan();
        let (d, l) = (Arc::clone(&desk), Arc::clone(&local));
        let second = thread::spawn(move || wait(&d, &l, tell));
        let d = Arc::clone(&desk);
        let waker = thread::spawn(move || d.publish());
        wait(&desk, &local, tell);
        second.join().unwrap();
        waker.join().unwrap();
        assert_eq!(desk.slot.waiting.load(Ordering::SeqCst), 0, "the last one clears it");
    });
}

#[test]
fn loom_both_local_waiters_are_woken() {
    two_waiters(fired);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_a_harvest_that_tells_nobody() {
    two_waiters(|local, _| local.with(|model| model.harvest().unwrap()));
}

/// The first waiter begins, perhaps harvests, and is cancelled.
fn cancelled(harvests: bool, leave: fn(&Fan, Waiter<Model>)) {
    check(2, move || {
        let (desk, local) = fan();
        let (d, l) = (Arc::clone(&desk), Arc::clone(&local));
        let first = thread::spawn(move || {
            let mut waiter = l.waiter();
            let came = waiter.attempt(|_| Ok(d.look(1).then_some(()))).unwrap();
            if came.is_none() && harvests {
                waiter.fired().unwrap();
            }
            leave(&l, waiter);
        });
        let d = Arc::clone(&desk);
        let waker = thread::spawn(move || d.publish());
        wait(&desk, &local, fired);
        first.join().unwrap();
        waker.join().unwrap();
    });
}

#[test]
fn loom_a_cancelled_waiter_takes_no_wake_with_it() {
    cancelled(false, |_, waiter| drop(waiter));
}

#[test]
fn loom_a_waiter_cancelled_after_its_harvest_told_the_others() {
    cancelled(true, |_, waiter| drop(waiter));
}

#[test]
fn loom_a_leaked_waiter_takes_no_wake_with_it() {
    cancelled(true, |_, waiter| std::mem::forget(waiter));
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_the_first_to_leave_clears_the_number() {
    cancelled(false, |local, waiter| {
        local.with(Model::end);
        drop(waiter);
    });
}

/// A change made in this process, which rings no bell of its own slot.
fn local_change(notify: bool) {
    check(3, move || {
        let (desk, local) = fan();
        let (d, l) = (Arc::clone(&desk), Arc::clone(&local));
        let releasing = thread::spawn(move || {
            d.word.fetch_add(1, Ordering::Relaxed); // Relaxed: the fence must do
            fence(Ordering::SeqCst);
            if notify {
                l.notify();
            }
        });
        wait(&desk, &local, fired);
        releasing.join().unwrap();
    });
}

#[test]
fn loom_a_change_in_this_process_reaches_local_waiters() {
    local_change(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_a_local_change_that_tells_nobody() {
    local_change(false);
}
