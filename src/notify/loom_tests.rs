//! The wake protocol under loom. A lost wake shows as a thread that sleeps for ever, which loom
//! reports as a deadlock. Each claim has a twin with a planted bug (`should_panic`), so that a model
//! which cannot fail would be noticed.

use super::park::{self, ParkNumbers};
use super::slots;
use crate::layout::Slot;
use crate::sync::model::Alarm;
use crate::sync::{AtomicU64, Mutex, Ordering};
use loom::thread;
use std::sync::Arc;

/// Every interleaving with at most `preemptions` switches that no thread asked for.
pub(crate) fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A doorbell and the poll set around it: level-triggered until it is harvested.
pub(crate) struct Bell {
    state: Mutex<(bool, Vec<Arc<Alarm>>)>,
}

impl Bell {
    fn new() -> Bell {
        Bell { state: Mutex::new((false, Vec::new())) }
    }

    pub(crate) fn ring(&self) {
        let sleepers = {
            let mut state = self.state.lock().unwrap();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        sleepers.iter().for_each(|alarm| alarm.ring());
    }

    /// Sleeps until the bell is rung or `alarm` is; true when it was (or is) the bell.
    pub(crate) fn poll(&self, alarm: &Arc<Alarm>) -> bool {
        {
            let mut state = self.state.lock().unwrap();
            if state.0 {
                return true;
            }
            state.1.push(Arc::clone(alarm));
        }
        alarm.wait();
        self.state.lock().unwrap().0
    }

    pub(crate) fn harvest(&self) {
        self.state.lock().unwrap().0 = false;
    }

    pub(crate) fn park(&self) {
        self.poll(&Alarm::new());
        self.harvest();
    }
}

/// One sleeper's slot and bell, and the word that it waits for.
pub(crate) struct Desk {
    pub(crate) slot: Slot,
    pub(crate) bell: Bell,
    pub(crate) word: AtomicU64,
}

impl Desk {
    pub(crate) fn new() -> Arc<Desk> {
        Arc::new(Desk { slot: Slot::new(), bell: Bell::new(), word: AtomicU64::new(0) })
    }

    pub(crate) fn look(&self, wanted: u64) -> bool {
        self.word.load(Ordering::Relaxed) >= wanted // Relaxed: the protocol's fences must do
    }

    /// Steps 2 to 5 of the waker.
    pub(crate) fn wake(&self) {
        let number = park::waiting(&self.slot);
        if number != 0 {
            self.bell.ring();
            park::rung(&self.slot, number);
        }
    }

    pub(crate) fn publish(&self) {
        self.word.fetch_add(1, Ordering::Relaxed); // Relaxed: as above
        self.wake();
    }
}

/// How the sleeper goes about it.
#[derive(Clone, Copy)]
enum Sleep {
    Right,
    NoFence,
    LookFirst,
    SameNumber,
    NumberOnce,
}

fn sleep(desk: &Desk, wanted: u64, how: Sleep) {
    sleep_on(desk, &mut ParkNumbers::starting_at(0), wanted, how);
}

fn sleep_on(desk: &Desk, numbers: &mut ParkNumbers, wanted: u64, how: Sleep) {
    let mut first = true;
    loop {
        let early = desk.look(wanted);
        match how {
            Sleep::Right | Sleep::LookFirst => drop(numbers.begin(&desk.slot)),
            Sleep::NoFence => desk.slot.waiting.store(1, Ordering::Relaxed),
            Sleep::SameNumber => drop(ParkNumbers::starting_at(0).begin(&desk.slot)),
            Sleep::NumberOnce if first => drop(numbers.begin(&desk.slot)),
            Sleep::NumberOnce => {}
        }
        first = false;
        if matches!(how, Sleep::LookFirst) && early
            || !matches!(how, Sleep::LookFirst) && desk.look(wanted)
        {
            park::end(&desk.slot);
            return;
        }
        desk.bell.park();
    }
}

/// What an earlier waker is still about, who published something else long ago.
#[derive(Clone, Copy)]
enum Late {
    Finishes,
    DiesBeforeRing,
    ClearsAndDies,
}

fn wake_late(desk: &Desk, how: Late) {
    match how {
        Late::Finishes => desk.wake(),
        Late::DiesBeforeRing => drop(park::waiting(&desk.slot)),
        Late::ClearsAndDies => {
            let number = park::waiting(&desk.slot);
            park::rung(&desk.slot, number);
        }
    }
}

fn with_late_waker(sleeper: Sleep, late: Late) {
    check(3, move || {
        let desk = Desk::new();
        let (one, two) = (Arc::clone(&desk), Arc::clone(&desk));
        let other = thread::spawn(move || wake_late(&one, late));
        let waker = thread::spawn(move || two.publish());
        sleep(&desk, 1, sleeper);
        other.join().unwrap();
        waker.join().unwrap();
    });
}

fn with_one_waker(sleeper: Sleep, publish: fn(&Desk)) {
    check(3, move || {
        let desk = Desk::new();
        let other = Arc::clone(&desk);
        let waker = thread::spawn(move || publish(&other));
        sleep(&desk, 1, sleeper);
        waker.join().unwrap();
    });
}

#[test]
fn loom_a_wake_is_never_lost() {
    with_one_waker(Sleep::Right, Desk::publish);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_sleeper_without_a_fence() {
    with_one_waker(Sleep::NoFence, Desk::publish);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_waker_without_a_fence() {
    with_one_waker(Sleep::Right, |desk| {
        desk.word.fetch_add(1, Ordering::Relaxed); // Relaxed: the bug
        if desk.slot.waiting.load(Ordering::Relaxed) != 0 {
            desk.bell.ring();
        }
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_look_before_the_number() {
    with_one_waker(Sleep::LookFirst, Desk::publish);
}

#[test]
fn loom_two_wakers_reach_one_sleeper() {
    check(3, || {
        let desk = Desk::new();
        let wakers = [(); 2].map(|()| {
            let desk = Arc::clone(&desk);
            thread::spawn(move || desk.publish())
        });
        sleep(&desk, 2, Sleep::Right);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

#[test]
fn loom_a_waker_that_was_stopped_clears_no_later_number() {
    with_late_waker(Sleep::Right, Late::Finishes);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_a_park_number_used_twice() {
    with_late_waker(Sleep::SameNumber, Late::Finishes);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_a_second_look_without_a_new_number() {
    with_late_waker(Sleep::NumberOnce, Late::Finishes);
}

#[test]
fn loom_a_waker_killed_before_the_ring_leaves_the_number() {
    with_late_waker(Sleep::Right, Late::DiesBeforeRing);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_clear_before_the_ring() {
    with_late_waker(Sleep::Right, Late::ClearsAndDies);
}

/// Both sides of a ring of one message: each sleeps for the other's index.
fn ring_of_one(wake_producer: bool) {
    check(3, move || {
        // `word` of the consumer's desk is the tail, that of the producer's the head.
        let (producer, consumer) = (Desk::new(), Desk::new());
        let (p, c) = (Arc::clone(&producer), Arc::clone(&consumer));
        let pushing = thread::spawn(move || {
            c.publish();
            sleep(&p, 1, Sleep::Right); // full until the first is taken
            c.publish();
        });
        let mut numbers = ParkNumbers::starting_at(0);
        for wanted in 1..=2 {
            sleep_on(&consumer, &mut numbers, wanted, Sleep::Right);
            if wake_producer {
                producer.publish();
            } else {
                producer.word.fetch_add(1, Ordering::Relaxed); // Relaxed: the bug is the silence
            }
        }
        pushing.join().unwrap();
    });
}

#[test]
fn loom_a_ring_of_one_message_parks_on_both_sides() {
    ring_of_one(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_a_pop_that_tells_nobody() {
    ring_of_one(false);
}

/// A newcomer and a sleeper that has nobody to watch yet: the sleeper must come to see it.
fn newcomer(read_early: bool) {
    check(3, move || {
        let desk = Desk::new();
        let other = Arc::new(Slot::new());
        let (d, slot) = (Arc::clone(&desk), Arc::clone(&other));
        let attaching = thread::spawn(move || {
            slots::claim(&slot, 9).unwrap();
            d.wake();
        });
        let mut numbers = ParkNumbers::starting_at(0);
        loop {
            let early = other.tag.load(Ordering::Relaxed); // Relaxed: the fence must do
            numbers.begin(&desk.slot);
            let now = other.tag.load(Ordering::Relaxed); // Relaxed: as above
            if if read_early { early } else { now } == 9 {
                break;
            }
            desk.bell.park();
        }
        attaching.join().unwrap();
    });
}

#[test]
fn loom_a_newcomer_is_seen_by_a_parked_sleeper() {
    newcomer(false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_bug_debtors_read_before_the_number() {
    newcomer(true);
}

#[test]
fn loom_one_newcomer_gets_the_slot_of_the_dead() {
    check(3, || {
        let slot = Arc::new(Slot::new());
        slots::claim(&slot, 7).unwrap();
        let take = |slot: &Slot, tag| match slots::claim(slot, tag) {
            Ok(()) => (true, false),
            Err(7) => {
                let reaped = slots::reap(slot, 7);
                (slots::claim(slot, tag).is_ok(), reaped)
            }
            Err(_) => (false, false),
        };
        let (s, r) = (Arc::clone(&slot), Arc::clone(&slot));
        let second = thread::spawn(move || take(&s, 11));
        let reaper = thread::spawn(move || slots::reap(&r, 7));
        let first = take(&slot, 9);
        let second = second.join().unwrap();
        let reaped = [first.1, second.1, reaper.join().unwrap()];
        assert!(first.0 ^ second.0, "one of the two has it");
        assert_eq!(reaped.iter().filter(|&&it| it).count(), 1, "reaped once");
        let tag = slot.tag.load(Ordering::SeqCst);
        assert_eq!(tag, if first.0 { 9 } else { 11 });
        assert_eq!(slot.died.load(Ordering::SeqCst), 7);
    });
}

/// A reaper that was stopped must not speak of an old death after a later one.
#[test]
fn loom_a_late_reaper_does_not_hide_a_later_death() {
    check(3, || {
        let slot = Arc::new(Slot::new());
        slots::claim(&slot, 7).unwrap();
        let late = Arc::clone(&slot);
        let late = thread::spawn(move || slots::reap(&late, 7));
        slots::reap(&slot, 7);
        slots::claim(&slot, 9).unwrap();
        assert!(slots::reap(&slot, 9));
        late.join().unwrap();
        assert_eq!(slot.died.load(Ordering::SeqCst), 9);
    });
}

/// The next owner of a slot parks while the last one leaves it.
fn leave_and_follow(release: fn(&Slot, u64) -> bool) {
    check(3, move || {
        let slot = Arc::new(Slot::new());
        slots::claim(&slot, 7).unwrap();
        slot.waiting.store(5, Ordering::SeqCst);
        let leaving = Arc::clone(&slot);
        let leaving = thread::spawn(move || assert!(release(&leaving, 7)));
        while slots::claim(&slot, 9).is_err() {
            thread::yield_now();
        }
        let number = ParkNumbers::starting_at(40).begin(&slot);
        leaving.join().unwrap();
        assert_eq!(slot.waiting.load(Ordering::SeqCst), number);
    });
}

#[test]
fn loom_leaving_touches_nothing_of_the_next_owner() {
    leave_and_follow(slots::release);
}

#[test]
#[should_panic(expected = "left == right")]
fn loom_bug_the_number_cleared_after_the_tag() {
    leave_and_follow(|slot, tag| {
        let freed = slot.tag.compare_exchange(tag, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        slot.waiting.store(0, Ordering::SeqCst);
        freed
    });
}
