//! The threads that sleep in blocking verbs, and who ends that from outside: whoever closes the handle,
//! and the end of the process.
//!
//! The lock here is taken with the interpreter attached, for plain statements only.

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::Wake;

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
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
            Bell::Signals(pipe) => pipe.bell.drain(),
            Bell::Own(alarm) => alarm.silence(),
        }
    }

    fn ring(&self) {
        match self {
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
    /// As Python numbers threads; 0 where that is not known.
    thread: u64,
}

impl Own {
    fn new(py: Python<'_>) -> Option<Own> {
        let alarm = Arc::new(Alarm::new().ok()?);
        let number = || py.import("_thread")?.getattr("get_native_id")?.call0()?.extract();
        Some(Own { forks: fd::fork_count(), alarm, thread: number().unwrap_or(0) })
    }
}

/// The alarm of this thread, and its native id. `None` where it cannot be had: then nobody ends its waits.
pub(crate) fn own_bell(py: Python<'_>) -> Option<(Bell, u64)> {
    let found = OWN.with_borrow(|own| {
        let own = own.as_ref().filter(|own| own.forks == fd::fork_count())?;
        Some((Bell::Own(Arc::clone(&own.alarm)), own.thread))
    });
    found.or_else(|| {
        let own = Own::new(py)?;
        let bell = (Bell::Own(Arc::clone(&own.alarm)), own.thread);
        OWN.set(Some(own));
        Some(bell)
    })
}

struct Sleeper {
    number: u64,
    /// The address of its handle, which lives as long as this.
    of: usize,
    bell: Bell,
    /// Its native id, if it has to end before the process does. (The main thread ends it.)
    thread: Option<u64>,
}

struct Sleepers {
    forks: u64,
    next: u64,
    all: Vec<Sleeper>,
}

static SLEEPERS: Mutex<Sleepers> = Mutex::new(Sleepers { forks: 0, next: 0, all: Vec::new() });
/// The fork count of the process that ends, plus 1.
static LEAVING: AtomicU64 = AtomicU64::new(0);

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
pub(crate) fn enter(owner: &(impl Closes + ?Sized), bell: &Bell, thread: Option<u64>) -> u64 {
    let mut sleepers = sleepers();
    sleepers.next += 1;
    let (number, of) = (sleepers.next, key(owner));
    sleepers.all.push(Sleeper { number, of, bell: bell.clone(), thread });
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

/// The process ends, and this thread, which is not the main one, has to end before it: as if the
/// program had called `sys.exit` in it, which says nothing and runs what is to be run at the end.
pub(crate) fn check_leaving() -> PyResult<()> {
    // Relaxed, here and below: with the interpreter attached.
    if LEAVING.load(Ordering::Relaxed) == fd::fork_count() + 1 {
        return Err(PySystemExit::new_err(()));
    }
    Ok(())
}

/// `_leave()`: ends the waits of all threads but the main one, now and from now on; the native ids of
/// those who sleep. What they hold of shared objects is given back as their frames end.
#[pyfunction]
#[pyo3(name = "_leave", signature = ())]
pub(crate) fn leave_all() -> Vec<u64> {
    LEAVING.store(fd::fork_count() + 1, Ordering::Relaxed);
    let ring = |one: &Sleeper| one.thread.inspect(|_| one.bell.ring());
    sleepers().all.iter().filter_map(ring).collect()
}

/// Adds the private function to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(leave_all, m)?)
}
