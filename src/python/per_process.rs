//! What an object has once in each process: made at its first use there, kept by a child that comes by
//! fork as long as the object lives, and not used there.

use pyo3::PyResult;
use std::sync::OnceLock;

use crate::sys::fd::fork_count;

/// See the module.
pub(super) struct PerProcess<T> {
    first: OnceLock<Box<Link<T>>>,
}

/// That of one process; the next one is that of a child.
struct Link<T> {
    forks: u64,
    value: T,
    next: OnceLock<Box<Link<T>>>,
}

impl<T> PerProcess<T> {
    pub(super) fn new() -> Self {
        PerProcess { first: OnceLock::new() }
    }

    /// That of this process, if it was made.
    #[inline]
    pub(super) fn get(&self) -> Option<&T> {
        let forks = fork_count();
        let mut link = self.first.get()?;
        while link.forks != forks {
            link = link.next.get()?;
        }
        Some(&link.value)
    }

    /// That of this process, made if need be. Where another thread is faster, its one is taken and ours
    /// goes.
    #[inline]
    pub(super) fn get_or_make(&self, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        match self.get() {
            Some(value) => Ok(value),
            None => self.make(make),
        }
    }

    #[cold]
    fn make(&self, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        let forks = fork_count(); // what is made is this process's, whoever may fork meanwhile
        let mut made = Some(Box::new(Link { forks, value: make()?, next: OnceLock::new() }));
        let mut place = &self.first;
        loop {
            let link = place.get_or_init(|| made.take().expect("put into one place only"));
            if link.forks == forks {
                return Ok(&link.value);
            }
            place = &link.next;
        }
    }
}
