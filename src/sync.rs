//! The only source of atomics, fences and process-local locks: the standard library, or loom when
//! the crate is built with `--cfg ringspan_loom`.
//!
//! Everything else in the crate imports from here (`clippy.toml` bans the originals), so that the
//! algorithm files run under the model checker unchanged.

#[cfg(not(ringspan_loom))]
#[allow(clippy::disallowed_types, reason = "this is the one module that picks them")]
mod imp {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard};
}

#[cfg(ringspan_loom)]
#[allow(clippy::disallowed_types, reason = "this is the one module that picks them")]
mod imp {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
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
