//! The threads that sleep in blocking verbs, and who ends that from outside: whoever closes the handle.
//!
//! The lock here is taken with the interpreter attached, for plain statements only.

use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::Wake;

use crate::sync::{Mutex, MutexGuard, lock};
use crate::sys::alarm::Alarm;
use crate::sys::doorbell::{self, Doorbell};
use crate::sys::fd::{self, Fd};

/// A handle that may be closed while threads sleep in it.
pub(crate) trait Closes {
    /// An error once closed.
    fn check_open(&self) -> PyResult<()>;
}

/// For waits that no `close` ends.
pub(crate) struct Open;

impl Closes for Open {
    fn check_open(&self) -> PyResult<()> {
        Ok(())
    }
}

/// What a thread listens to while it sleeps.
#[derive(Debug, Clone)]
pub(crate) enum Bell {
    /// In the main thread: the pipe that Python's signal handler writes to.
    Signals(Arc<Pipe>),
    /// The thread's own.
    Own(Arc<Alarm>),
}

/// A pipe, and the process that made it.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) bell: Doorbell,
    pub(crate) forks: u64,
}

impl Bell {
    pub(crate) fn fd(&self) -> &Fd {
        match self {
            Bell::Signals(pipe) => pipe.bell.watched(),
            Bell::Own(alarm) => alarm.fd(),
        }
    }

    /// Takes in every ring so far.
    pub(crate) fn silence(&self) {
        match self {
            // In a forked child the number is closed, or somebody else's by now.
            Bell::Signals(pipe) if pipe.forks != fd::fork_count() => {}
            Bell::Signals(pipe) => pipe.bell.drain(),
            Bell::Own(alarm) => alarm.silence(),
        }
    }

    fn ring(&self) {
        match self {
            Bell::Signals(pipe) if pipe.forks != fd::fork_count() => {}
            // Full, it is readable all the same.
            Bell::Signals(pipe) => drop(doorbell::ring(pipe.bell.for_waker())),
            Bell::Own(alarm) => alarm.wake_by_ref(),
        }
    }
}

thread_local! {
    /// One for all waits of this thread.
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

struct Own {
    forks: u64,
    alarm: Arc<Alarm>,
}

/// The alarm of this thread. `None` where it cannot be had: then nobody ends its waits.
pub(crate) fn own_bell() -> Option<Bell> {
    let forks = fd::fork_count();
    let found = OWN.with_borrow(|own| {
        let own = own.as_ref().filter(|own| own.forks == forks)?;
        Some(Arc::clone(&own.alarm))
    });
    let alarm = found.or_else(|| {
        let alarm = Arc::new(Alarm::new().ok()?);
        OWN.set(Some(Own { forks, alarm: Arc::clone(&alarm) }));
        Some(alarm)
    })?;
    Some(Bell::Own(alarm))
}

struct Sleeper {
    number: u64,
    /// The address of its handle, which lives as long as this.
    of: usize,
    bell: Bell,
}

struct Sleepers {
    forks: u64,
    next: u64,
    all: Vec<Sleeper>,
}

static SLEEPERS: Mutex<Sleepers> = Mutex::new(Sleepers { forks: 0, next: 0, all: Vec::new() });

/// Those of this process.
fn sleepers() -> MutexGuard<'static, Sleepers> {
    let mut sleepers = lock(&SLEEPERS);
    if sleepers.forks != fd::fork_count() {
        sleepers.forks = fd::fork_count();
        sleepers.all.clear();
    }
    sleepers
}

fn key(owner: &(impl Closes + ?Sized)) -> usize {
    std::ptr::from_ref(owner).cast::<()>().addr()
}

/// This thread is about to sleep in `owner`; the number by which it is forgotten. Whether that is still
/// open has to be looked at after this.
pub(crate) fn enter(owner: &(impl Closes + ?Sized), bell: &Bell) -> u64 {
    let mut sleepers = sleepers();
    sleepers.next += 1;
    let (number, of) = (sleepers.next, key(owner));
    sleepers.all.push(Sleeper { number, of, bell: bell.clone() });
    number
}

/// It sleeps no more.
pub(crate) fn leave(number: u64) {
    let mut sleepers = sleepers();
    if let Some(at) = sleepers.all.iter().position(|one| one.number == number) {
        sleepers.all.swap_remove(at);
    }
}

/// `owner` has been closed: whoever sleeps in it looks again.
pub(crate) fn closed(owner: &(impl Closes + ?Sized)) {
    let of = key(owner);
    sleepers().all.iter().filter(|one| one.of == of).for_each(|one| one.bell.ring());
}
