//! Sleeping for the lock, under loom: the word, the mask of the parked, the park numbers, the seats that
//! want to write. A lost wake is a deadlock; each claim has a twin with a planted bug.

use super::loom_tests::{Handle, Lock};
use super::raw::{Left, reap};
use super::word::{Word, owner_bit};
use crate::notify::loom_tests::{Desk, check};
use crate::notify::park::{self, ParkNumbers};
use crate::sync::{AtomicU64, Event, Mutex, Ordering, load_seqcst};
use loom::thread;
use std::sync::Arc;

/// What is shared around one lock, for so many handles.
struct Hub {
    lock: Arc<Lock>,
    parked: AtomicU64,
    wants: Vec<AtomicU64>,
    desks: Vec<Arc<Desk>>,
    graves: Mutex<Graves>,
}

/// Whom the watches tell of.
#[derive(Default)]
struct Graves {
    dead: u64,
    watched: [u64; 4],
}

#[derive(Clone, Copy, PartialEq)]
enum Sleep {
    Right,
    /// Enters the mask after the look.
    MaskLate,
    /// Leaves a word with the hint as it is.
    SameWord,
}

impl Hub {
    fn new(word: Word, handles: usize) -> Arc<Hub> {
        Arc::new(Hub {
            lock: Lock::with(word),
            parked: AtomicU64::new(0),
            wants: (0..handles).map(|_| AtomicU64::new(0)).collect(),
            desks: (0..handles).map(|_| Desk::new()).collect(),
            graves: Mutex::new(Graves::default()),
        })
    }

    fn ring(&self, mask: u64) {
        let desks = self.desks.iter().enumerate();
        desks.filter(|(index, _)| mask & owner_bit(*index) != 0).for_each(|(_, it)| it.wake());
    }

    fn ring_all(&self, me: u64) {
        self.ring(park::anybody(&self.parked) & !me);
    }

    fn tell(&self, left: Left, me: u64) {
        if left.word.owners() == 0 {
            self.ring_all(me);
        }
    }

    fn give_read(&self, handle: &Handle) {
        self.lock.read();
        self.tell(handle.raw().leave_read(), handle.bit);
    }

    fn give_write(&self, handle: &Handle) {
        self.lock.write();
        self.tell(handle.raw().leave_write(false), handle.bit);
    }

    fn sleep(&self, index: usize, how: Sleep, mut look: impl FnMut() -> bool) {
        let desk = &self.desks[index];
        let mut numbers = ParkNumbers::starting_at(100 * index as u64);
        let mut in_mask = false;
        let mut enter = || {
            if !std::mem::replace(&mut in_mask, true) {
                park::set_bit(&self.parked, owner_bit(index));
            }
        };
        loop {
            if how != Sleep::MaskLate {
                enter();
            }
            numbers.begin(&desk.slot);
            if look() {
                park::end(&desk.slot);
                park::clear_bit(&self.parked, owner_bit(index));
                return;
            }
            enter();
            desk.bell.park();
        }
    }

    /// As `Core::look` for a writer.
    fn look_write(&self, handle: &Handle, index: usize, how: Sleep) -> bool {
        loop {
            let word = match handle.raw().write() {
                Ok(_) => return true,
                Err(busy) => busy.word,
            };
            self.wants[index].swap(1, Ordering::SeqCst);
            let same = how == Sleep::SameWord && word.is_awaited();
            if (same || handle.raw().hint(word)) && self.watch(index, word.owners()) {
                return false;
            }
        }
    }

    /// As `Core::look` for a reader.
    fn look_read(&self, handle: &Handle) -> bool {
        loop {
            let busy = match handle.raw().read(&mut false) {
                Ok(_) => return true,
                Err(busy) => busy,
            };
            if busy.freed {
                self.ring_all(handle.bit);
            }
            let wants = || self.wants.iter().any(|it| load_seqcst(it) != 0);
            if !busy.is_hint_only(true) || wants() {
                return false;
            }
            self.ring_all(handle.bit);
            handle.raw().unhint(busy.word);
        }
    }

    /// As `Core::leave_hint`, of a writer that slept.
    fn cancel(&self, handle: &Handle, index: usize) {
        self.wants[index].swap(0, Ordering::SeqCst);
        let word = handle.raw().load();
        self.ring_all(handle.bit);
        if self.wants.iter().all(|it| load_seqcst(it) == 0) {
            handle.raw().unhint(word);
        }
    }

    fn wait_write(&self, handle: &Handle, index: usize, how: Sleep) {
        self.sleep(index, how, || self.look_write(handle, index, how));
        self.wants[index].swap(0, Ordering::SeqCst);
    }

    fn wait_read(&self, handle: &Handle, index: usize) {
        self.sleep(index, Sleep::Right, || self.look_read(handle));
    }

    /// False: one of them is dead, and has been taken out.
    fn watch(&self, index: usize, mask: u64) -> bool {
        let dead = {
            let mut graves = self.graves.lock().unwrap();
            graves.watched[index] = mask;
            graves.dead & mask
        };
        for other in (0..self.desks.len()).filter(|&it| dead & owner_bit(it) != 0) {
            reap(&self.lock.word, owner_bit(other), true, || true);
        }
        dead == 0
    }

    fn die(&self, index: usize) {
        let watching = {
            let mut graves = self.graves.lock().unwrap();
            graves.dead |= owner_bit(index);
            graves.watched.map(|mask| mask & owner_bit(index) != 0)
        };
        let desks = self.desks.iter().zip(watching);
        desks.filter(|(_, watches)| *watches).for_each(|(desk, _)| desk.bell.ring());
    }
}

/// A writer sleeps until the only reader leaves.
fn writer_sleeps(how: Sleep, give: fn(&Hub, &Handle)) {
    check(5, move || {
        let hub = Hub::new(Word(0), 2);
        let (reader, writer) = (Handle::new(&hub.lock, 0), Handle::new(&hub.lock, 1));
        reader.raw().read(&mut false).unwrap();
        let h = Arc::clone(&hub);
        let leaving = thread::spawn(move || give(&h, &reader));
        hub.wait_write(&writer, 1, how);
        hub.give_write(&writer);
        leaving.join().unwrap();
        assert_eq!(hub.parked.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn loom_lock_wait_the_last_to_leave_wakes_a_writer() {
    writer_sleeps(Sleep::Right, Hub::give_read);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_mask_entered_after_the_look() {
    writer_sleeps(Sleep::MaskLate, Hub::give_read);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_mask_read_before_the_release() {
    writer_sleeps(Sleep::Right, |hub, handle| {
        let mask = park::anybody(&hub.parked);
        handle.raw().leave_read();
        hub.ring(mask);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_given_without_a_ring() {
    writer_sleeps(Sleep::Right, |_, handle| {
        handle.raw().leave_read();
    });
}

/// Two writers take turns: each may find the other one there.
#[test]
fn loom_lock_wait_two_writers_wake_each_other() {
    check(3, || {
        let hub = Hub::new(Word(0), 2);
        let (one, two) = (Handle::new(&hub.lock, 0), Handle::new(&hub.lock, 1));
        let h = Arc::clone(&hub);
        let other = thread::spawn(move || {
            h.wait_write(&two, 1, Sleep::Right);
            h.give_write(&two);
        });
        hub.wait_write(&one, 0, Sleep::Right);
        hub.give_write(&one);
        other.join().unwrap();
        assert_eq!(hub.lock.read(), 2);
    });
}

/// A reader of our handle gives up, having met a foreign writer that has gone since; another one of ours
/// joined it, read and left the bit to it. The foreign one sleeps for us.
fn gives_up(tell: bool) {
    check(3, move || {
        let hub = Hub::new(Word(0), 2);
        let (ours, far) = (Handle::counted(&hub.lock, 0), Handle::new(&hub.lock, 1));
        far.raw().write().unwrap();
        let (h, one) = (Arc::clone(&hub), Arc::clone(&ours));
        let first = thread::spawn(move || match one.raw().set_reader() {
            Ok(_) => h.give_read(&one),
            Err(busy) if busy.freed && tell => h.ring_all(one.bit),
            Err(_) => {}
        });
        let (h, two) = (Arc::clone(&hub), ours);
        let second = thread::spawn(move || match two.raw().read(&mut false) {
            Ok(_) => h.give_read(&two),
            Err(busy) if busy.freed && tell => h.ring_all(two.bit),
            Err(_) => {}
        });
        hub.give_write(&far);
        hub.wait_write(&far, 1, Sleep::Right);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn loom_lock_wait_one_that_gives_up_rings_for_what_it_freed() {
    gives_up(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_one_that_gives_up_rings_nobody() {
    gives_up(false);
}

/// The writer becomes a reader and stays for ever; a reader sleeps.
fn downgrade_rings(rings: bool) {
    check(5, move || {
        let hub = Hub::new(Word(0), 2);
        let (writer, reader) = (Handle::new(&hub.lock, 0), Handle::new(&hub.lock, 1));
        writer.raw().write().unwrap();
        let h = Arc::clone(&hub);
        let other = thread::spawn(move || {
            h.lock.write();
            writer.raw().downgrade();
            if rings {
                h.ring_all(writer.bit);
            }
        });
        hub.wait_read(&reader, 1);
        assert_eq!(hub.lock.read(), 1);
        other.join().unwrap();
    });
}

#[test]
fn loom_lock_wait_a_downgrade_wakes_readers() {
    downgrade_rings(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_a_downgrade_without_a_ring() {
    downgrade_rings(false);
}

/// Handle 0 reads for ever; 1 waited to write and gives up; 2 sleeps as a reader that the hint keeps out.
fn cancelled(cancel: fn(&Hub, &Handle)) {
    check(5, move || {
        let hub = Hub::new(Word(1).hinted(), 3);
        let (writer, reader) = (Handle::new(&hub.lock, 1), Handle::new(&hub.lock, 2));
        hub.wants[1].swap(1, Ordering::SeqCst);
        let h = Arc::clone(&hub);
        let other = thread::spawn(move || cancel(&h, &writer));
        hub.wait_read(&reader, 2);
        other.join().unwrap();
    });
}

#[test]
fn loom_lock_wait_a_cancelled_writer_lets_readers_in() {
    cancelled(|hub, handle| hub.cancel(handle, 1));
}

#[test]
fn loom_lock_wait_one_cancelled_before_its_hint_lets_readers_in() {
    cancelled(|hub, handle| {
        handle.raw().unhint(handle.raw().load()); // as a reader that saw none who wants to write
        hub.cancel(handle, 1);
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_a_hint_taken_back_without_a_ring() {
    cancelled(|hub, handle| {
        hub.wants[1].swap(0, Ordering::SeqCst);
        handle.raw().unhint(handle.raw().load());
    });
}

/// As `cancelled`, while another one (3) waits to write; then the owner leaves, too.
#[test]
fn loom_lock_wait_a_reader_and_a_writer_survive_a_cancelled_one() {
    check(3, || {
        let hub = Hub::new(Word(0), 4);
        let handles = [0, 1, 2, 3].map(|index| Handle::new(&hub.lock, index));
        let [owner, gone, reader, writer] = handles;
        owner.raw().read(&mut false).unwrap();
        assert!(!hub.look_write(&gone, 1, Sleep::Right));
        let h = Arc::clone(&hub);
        let other = thread::spawn(move || {
            h.cancel(&gone, 1);
            h.give_read(&owner);
        });
        let h = Arc::clone(&hub);
        let reads = thread::spawn(move || {
            h.wait_read(&reader, 2);
            h.give_read(&reader);
        });
        hub.wait_write(&writer, 3, Sleep::Right);
        hub.give_write(&writer);
        other.join().unwrap();
        reads.join().unwrap();
    });
}

/// A writer (3) sleeps for an owner (0). One that waited with it (1) gives up and is killed on the way; a
/// reader (2) comes, outlasts the owner, and is killed before it rings.
fn killed_one_after_another(how: Sleep, cancel: fn(&Hub, &Handle)) {
    check(3, move || {
        let hub = Hub::new(Word(0), 4);
        let handles = [0, 1, 2, 3].map(|index| Handle::new(&hub.lock, index));
        let [owner, gone, reader, writer] = handles;
        owner.raw().read(&mut false).unwrap();
        assert!(!hub.look_write(&gone, 1, Sleep::Right));
        let h = Arc::clone(&hub);
        let others = thread::spawn(move || {
            cancel(&h, &gone);
            h.die(1);
            let reads = reader.raw().read(&mut false).is_ok();
            h.give_read(&owner);
            if reads {
                reader.raw().leave_read();
            }
            h.die(2);
        });
        hub.wait_write(&writer, 3, how);
        others.join().unwrap();
    });
}

fn rings_first(hub: &Hub, handle: &Handle) {
    hub.wants[1].swap(0, Ordering::SeqCst);
    let word = handle.raw().load();
    hub.ring_all(handle.bit);
    handle.raw().unhint(word);
}

#[test]
fn loom_lock_wait_no_kill_leaves_a_writer_without_its_hint() {
    killed_one_after_another(Sleep::Right, rings_first);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_killed_between_unhint_and_ring() {
    killed_one_after_another(Sleep::Right, |hub, handle| {
        hub.wants[1].swap(0, Ordering::SeqCst);
        handle.raw().unhint(handle.raw().load());
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_a_look_that_leaves_the_word_as_it_is() {
    killed_one_after_another(Sleep::SameWord, rings_first);
}

/// A waiter of our own handle (0) sleeps while another one of it moves the stake; handle 1 reads all the
/// time, or nobody does.
fn told(word: Word, moves: fn(&Handle) -> bool, tell: bool, look: fn(&Hub, &Handle) -> bool) {
    check(5, move || {
        let hub = Hub::new(word, 2);
        let ours = Handle::new(&hub.lock, 0);
        let event = Arc::new(Event::new());
        let (h, other, e) = (Arc::clone(&hub), Arc::clone(&ours), Arc::clone(&event));
        let moving = thread::spawn(move || {
            for _ in 0..2 {
                let more = moves(&other);
                if tell && park::anybody(&h.parked) & other.bit != 0 {
                    e.notify(usize::MAX);
                }
                if !more {
                    break;
                }
            }
        });
        let mut numbers = ParkNumbers::starting_at(0);
        park::set_bit(&hub.parked, ours.bit);
        loop {
            let listener = event.listen();
            numbers.begin(&hub.desks[0].slot);
            if look(&hub, &ours) {
                break;
            }
            if hub.desks[0].bell.poll(listener.alarm()) {
                hub.desks[0].bell.harvest();
            }
        }
        moving.join().unwrap();
    });
}

/// Takes it for writing, then gives it back; fails where another one reads.
fn writes(handle: &Handle) -> bool {
    if handle.raw().load().has(handle.bit) {
        handle.raw().leave_write(false);
        return false;
    }
    handle.raw().write().is_ok()
}

#[test]
fn loom_lock_wait_a_release_is_told_to_our_own() {
    told(Word(0), writes, true, Hub::look_read);
}

#[test]
fn loom_lock_wait_a_release_is_told_to_one_of_us_who_wants_to_write() {
    told(Word(0), writes, true, |_, ours| ours.raw().write().is_ok());
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_a_release_not_told_to_one_of_us_who_wants_to_write() {
    told(Word(0), writes, false, |_, ours| ours.raw().write().is_ok());
}

#[test]
fn loom_lock_wait_a_failed_attempt_is_told_to_our_own() {
    told(Word(2), fails, true, Hub::look_read);
}

/// An attempt to write that meets the foreign reader when it has already counted itself.
fn fails(handle: &Handle) -> bool {
    handle.set_writer_and_fail();
    false
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_a_release_not_told_to_our_own() {
    told(Word(0), writes, false, Hub::look_read);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_lock_wait_bug_a_failed_attempt_not_told_to_our_own() {
    told(Word(2), fails, false, Hub::look_read);
}
