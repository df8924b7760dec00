//! The only source of atomics, fences, process-local locks and events: the standard library and
//! `event_listener`, or loom when the crate is built with `--cfg ringspan_loom`.
//!
//! Everything else in the crate imports from here (`tests/arrows.rs` bans the originals), so that the
//! algorithm files run under the model checker unchanged.

#[cfg(not(ringspan_loom))]
mod imp {
    pub(crate) use event_listener::{Event, EventListener};
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence,
    };
    pub(crate) use std::sync::{Mutex, MutexGuard};
}

#[cfg(ringspan_loom)]
mod imp {
    pub(crate) use super::model::{Event, EventListener};
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence,
    };
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

#[allow(unused_imports, reason = "loom builds use a part of the list")]
pub(crate) use imp::*;

/// Locks a process-local mutex, also when a thread panicked while it held it: the data behind our
/// mutexes is valid after every statement.
#[allow(dead_code, reason = "loom builds use a part of the list")]
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The same, unless somebody holds it.
#[cfg(feature = "python")]
#[inline]
pub(crate) fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    use std::sync::TryLockError;
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Stands between a SeqCst write (a store, an RMW) and a later SeqCst load of another word that must
/// not be served before it. All four are in the one order of SeqCst operations, so nothing has to be
/// done, and nothing is paid; loom treats them as AcqRel and gets a fence.
#[inline(always)]
pub(crate) fn seqcst_store_load() {
    #[cfg(ringspan_loom)]
    fence(Ordering::SeqCst);
}

/// A SeqCst load. For loom a read-modify-write that changes nothing: it takes SeqCst loads for acquiring
/// ones, which may be stale, and its search misses switches between a thread's load and its CAS of the
/// same word (it remembers only the last access to a word, and ours hides that of another thread).
#[inline(always)]
pub(crate) fn load_seqcst(word: &AtomicU64) -> u64 {
    #[cfg(not(ringspan_loom))]
    return word.load(Ordering::SeqCst);
    #[cfg(ringspan_loom)]
    word.fetch_add(0, Ordering::Acquire)
}

/// A Release store to a word that others load by [`load_seqcst`]. For loom, to which those loads are
/// read-modify-writes, one as well: it takes a store beside one of these for older than it, although
/// it overwrote what was read there.
#[inline(always)]
pub(crate) fn store_release(word: &AtomicU64, value: u64) {
    #[cfg(not(ringspan_loom))]
    word.store(value, Ordering::Release);
    #[cfg(ringspan_loom)]
    word.swap(value, Ordering::Release);
}

/// The part of `event_listener` that we use, on loom's locks.
#[cfg(ringspan_loom)]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod model {
    use loom::sync::{Condvar, Mutex};
    use std::sync::Arc;

    /// What one thread of a model sleeps on: set once, stays set.
    #[derive(Debug)]
    pub(crate) struct Alarm {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Alarm {
        pub(crate) fn new() -> Arc<Alarm> {
            Arc::new(Alarm { rung: Mutex::new(false), changed: Condvar::new() })
        }

        pub(crate) fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_all();
        }

        pub(crate) fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
        }
    }

    /// Notifies everybody who listens.
    #[derive(Debug)]
    pub(crate) struct Event {
        listening: Mutex<Vec<Arc<Alarm>>>,
    }

    impl Event {
        pub(crate) fn new() -> Event {
            Event { listening: Mutex::new(Vec::new()) }
        }

        pub(crate) fn listen(&self) -> EventListener {
            let alarm = Alarm::new();
            self.listening.lock().unwrap().push(Arc::clone(&alarm));
            EventListener { alarm }
        }

        /// `event_listener` notifies the first `count`; we only ever notify all.
        pub(crate) fn notify(&self, count: usize) -> usize {
            assert_eq!(count, usize::MAX);
            let listening = std::mem::take(&mut *self.listening.lock().unwrap());
            listening.iter().for_each(|alarm| alarm.ring());
            listening.len()
        }
    }

    /// Hears the first notification after it was made.
    #[derive(Debug)]
    pub(crate) struct EventListener {
        alarm: Arc<Alarm>,
    }

    impl EventListener {
        pub(crate) fn alarm(&self) -> &Arc<Alarm> {
            &self.alarm
        }
    }
}
