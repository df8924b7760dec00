//! Cells for one thread at a time that need no lock of their own: they are opened and left only with
//! the interpreter attached, and there is one interpreter lock.
//!
//! A lock around a call costs two read-modify-writes, some ten nanoseconds, which is a tenth of a whole
//! `try_pop`. The interpreter lock already orders all that happens here; what is left to see to is a
//! call that finds another one *inside*, which gave the interpreter lock back to park or to copy, or
//! is interrupted by a signal handler or a finalizer. For that a plain word, or a plain count, is
//! enough.
//!
//! `unsafe`: the insides of an `UnsafeCell`. A `Python<'py>` proves that the thread is attached, and a
//! guard does not outlive it, so flag and count change under the interpreter lock alone. That holds
//! for interpreters that have one (`#[pymodule(gil_used = true)]`; the stable ABI knows no other).
//! Nothing here is in shared memory, so no other process has a part in it.

#![allow(unsafe_code, reason = "the insides of cells; listed in CONTRIBUTING")]

use pyo3::Python;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::sys::fd::fork_count;

/// Lets one call in at a time; whoever comes meanwhile is refused.
#[derive(Debug)]
pub(crate) struct LoneCell<T> {
    /// 0, or one more than the fork count of the process whose call is inside. Changed with the
    /// interpreter attached, so Relaxed everywhere: its lock orders the rest.
    taken: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: a guard is alone with the value, wherever it is sent from (`T: Send`); that it is alone is
// decided with the interpreter attached, one thread after the other.
unsafe impl<T: Send> Sync for LoneCell<T> {}

impl<T> LoneCell<T> {
    pub(crate) fn new(value: T) -> Self {
        LoneCell { taken: AtomicU64::new(0), value: UnsafeCell::new(value) }
    }

    /// The value, unless another call is inside.
    #[inline]
    pub(crate) fn enter<'a>(&'a self, _py: Python<'a>) -> Option<LoneGuard<'a, T>> {
        // Relaxed, both: see the field.
        if self.taken.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.taken.store(fork_count() + 1, Ordering::Relaxed);
        Some(LoneGuard { cell: self, attached: PhantomData })
    }

    /// A call of the parent was inside when a `fork` made this process. Unless that call itself forked,
    /// it never leaves here; what it left may be half done.
    pub(crate) fn is_torn(&self, _py: Python<'_>) -> bool {
        let taken = self.taken.load(Ordering::Relaxed); // Relaxed: see the field
        taken != 0 && taken != fork_count() + 1
    }
}

/// The call is inside. It may give the interpreter lock back, but has it again when it leaves.
#[derive(Debug)]
pub(crate) struct LoneGuard<'a, T> {
    cell: &'a LoneCell<T>,
    attached: PhantomData<Python<'a>>, // and is not `Send`
}

impl<T> Deref for LoneGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `taken` is ours until we are dropped, so there is no other guard.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for LoneGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and we are borrowed mutably.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl<T> Drop for LoneGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.cell.taken.store(0, Ordering::Relaxed); // Relaxed: see the field
    }
}

/// Keeps a value until it is given up, and as long as calls that were let in before still use it.
#[derive(Debug)]
pub(crate) struct KeptCell<T> {
    /// Calls inside. As `over` changed with the interpreter attached, so Relaxed everywhere.
    users: AtomicU64,
    over: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: calls of several threads may share the value (`T: Sync`), and the last of them drops it
// (`T: Send`); it is changed while `users` is 0 only, with the interpreter attached.
unsafe impl<T: Send + Sync> Sync for KeptCell<T> {}

impl<T> KeptCell<T> {
    /// Nothing yet.
    pub(crate) fn empty() -> Self {
        let (users, over) = (AtomicU64::new(0), AtomicBool::new(false));
        KeptCell { users, over, value: UnsafeCell::new(None) }
    }

    /// The value, unless there is none (yet, or any more).
    #[inline]
    pub(crate) fn enter<'a>(&'a self, _py: Python<'a>) -> Option<KeptGuard<'a, T>> {
        // Relaxed, here and below: see the field.
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: it changes only while `users` is 0, and not while we are attached here.
        let value = NonNull::from(unsafe { &*self.value.get() }.as_ref()?);
        self.users.store(self.users.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(KeptGuard { cell: self, value, attached: PhantomData })
    }

    /// Puts it there, unless something is there or it is over.
    pub(crate) fn put(&self, _py: Python<'_>, value: T) {
        if self.users.load(Ordering::Relaxed) == 0 && !self.over.load(Ordering::Relaxed) {
            // SAFETY: nobody is inside, and nobody comes in while we are attached here.
            let place = unsafe { &mut *self.value.get() };
            if place.is_none() {
                *place = Some(value);
            }
        }
    }

    /// Gives it up: at once, or when the last call that is inside leaves.
    pub(crate) fn end(&self, _py: Python<'_>) {
        self.over.store(true, Ordering::Relaxed);
        self.clear();
    }

    fn clear(&self) {
        if self.users.load(Ordering::Relaxed) == 0 {
            // SAFETY: nobody is inside, and nobody comes in any more. The value is moved out first:
            // its drop may come back here, and finds nothing.
            let value = unsafe { &mut *self.value.get() }.take();
            drop(value);
        }
    }
}

/// The call is inside, and the value stays. It may give the interpreter lock back, but has it again when
/// it leaves.
#[derive(Debug)]
pub(crate) struct KeptGuard<'a, T> {
    cell: &'a KeptCell<T>,
    value: NonNull<T>,
    attached: PhantomData<Python<'a>>, // and is not `Send`
}

impl<T> Deref for KeptGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: we are counted among the users, so it is neither moved nor dropped.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for KeptGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let left = self.cell.users.load(Ordering::Relaxed) - 1;
        self.cell.users.store(left, Ordering::Relaxed);
        if left == 0 && self.cell.over.load(Ordering::Relaxed) {
            self.cell.clear();
        }
    }
}
