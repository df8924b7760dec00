//! Guards: the lock is held as long as they live, and its bytes are theirs to see.
//!
//! `unsafe`: the payload as a slice. While a guard of ours lives, the lock keeps every correct handle of
//! every process from writing there (or, for a writer, from looking). That other processes keep to the
//! lock is the one agreement that a memory map needs; see the crate's page, "Trust". Within this process
//! the stake keeps the guards of one handle apart, whatever somebody writes into the shared word; two
//! handles of one lock map the bytes twice.
#![allow(unsafe_code, reason = "the payload as a slice, while the lock is held")]

use super::core::{Core, LockMode};
use super::handle::RwLock;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::Arc;
use std::thread;

/// A hold on the lock; given back when dropped.
struct Hold<C: Deref<Target = Core>> {
    core: C,
    mode: LockMode,
    /// A panic was under way already when the lock was taken, and will not count as ours.
    panicking: bool,
}

impl<C: Deref<Target = Core>> Hold<C> {
    #[inline]
    fn new(core: C, mode: LockMode) -> Self {
        Hold { core, mode, panicking: mode == LockMode::Write && thread::panicking() }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        let (at, len) = self.core.region().payload();
        // SAFETY: mapped as long as the region, which the core holds. We hold the lock, so nobody writes
        // there: no guard of this handle (the stake), no other handle or process that keeps to the lock
        // (the agreement).
        unsafe { slice::from_raw_parts(at.as_ptr(), len) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let (at, len) = self.core.region().payload();
        // SAFETY: as in `bytes`; we write, so nobody else even reads there.
        unsafe { slice::from_raw_parts_mut(at.as_ptr(), len) }
    }
}

impl<C: Deref<Target = Core>> Drop for Hold<C> {
    #[inline]
    fn drop(&mut self) {
        let torn = self.mode == LockMode::Write && !self.panicking && thread::panicking();
        self.core.give(self.mode, torn);
    }
}

/// The four guards are alike but for how they hold the handle and whether they may write.
macro_rules! guard {
    ($(#[$doc:meta])* $name:ident $(<$life:lifetime>)?, $core:ty, $mode:expr) => {
        $(#[$doc])*
        #[must_use = "the lock is given back when the guard is dropped"]
        pub struct $name $(<$life>)? {
            hold: Hold<$core>,
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// Of a lock that has just been taken.
            #[cfg_attr(
                not(any(feature = "tokio", feature = "python")),
                allow(dead_code, reason = "the owned ones are awaited, or Python's")
            )]
            pub(crate) fn new(core: $core) -> Self {
                Self { hold: Hold::new(core, $mode) }
            }
        }

        impl $(<$life>)? Deref for $name $(<$life>)? {
            type Target = [u8];

            #[inline]
            fn deref(&self) -> &[u8] {
                self.hold.bytes()
            }
        }

        impl $(<$life>)? fmt::Debug for $name $(<$life>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("lock", &self.hold.core.region().name().to_string())
                    .field("len", &self.len())
                    .finish_non_exhaustive()
            }
        }
    };
}

macro_rules! write_guard {
    ($name:ident $(<$life:lifetime>)?, $read:ident) => {
        impl $(<$life>)? DerefMut for $name $(<$life>)? {
            #[inline]
            fn deref_mut(&mut self) -> &mut [u8] {
                self.hold.bytes_mut()
            }
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// Goes on as a reader; nobody writes between. Other readers may come in at once.
            pub fn downgrade(self) -> $read $(<$life>)? {
                let mut hold = self.hold;
                hold.core.downgrade();
                hold.mode = LockMode::Read;
                $read { hold }
            }
        }
    };
}

macro_rules! read_guard {
    ($name:ident $(<$life:lifetime>)?, $write:ident) => {
        impl $(<$life>)? $name $(<$life>)? {
            /// Goes on as the writer, if nobody else reads; nobody writes between. There is no form that
            /// waits: two readers that both wanted to would wait for each other.
            ///
            /// # Errors
            ///
            /// The guard as it was, while others read.
            pub fn try_upgrade(self) -> Result<$write $(<$life>)?, Self> {
                if !self.hold.core.try_upgrade() {
                    return Err(self);
                }
                let mut hold = self.hold;
                (hold.mode, hold.panicking) = (LockMode::Write, thread::panicking());
                Ok($write { hold })
            }
        }
    };
}

guard! {
    /// The right to read the bytes of a [`RwLock`]; from [`RwLock::read`].
    ///
    /// Derefs to the bytes. `Send`: it may be dropped on another thread or held across an await.
    ///
    /// A guard that is leaked ([`std::mem::forget`]) keeps the lock until its handle is dropped.
    ReadGuard<'a>, &'a Core, LockMode::Read
}
guard! {
    /// The right to write the bytes of a [`RwLock`]; from [`RwLock::write`].
    ///
    /// Derefs to the bytes, also mutably. Dropped by a panic it poisons the lock, as in std: others must
    /// not take half of a change for the whole.
    WriteGuard<'a>, &'a Core, LockMode::Write
}
guard! {
    /// As [`ReadGuard`], with a hold on the handle instead of a borrow.
    OwnedReadGuard, Arc<Core>, LockMode::Read
}
guard! {
    /// As [`WriteGuard`], with a hold on the handle instead of a borrow.
    OwnedWriteGuard, Arc<Core>, LockMode::Write
}
read_guard!(ReadGuard<'a>, WriteGuard);
write_guard!(WriteGuard<'a>, ReadGuard);
read_guard!(OwnedReadGuard, OwnedWriteGuard);
write_guard!(OwnedWriteGuard, OwnedReadGuard);

impl OwnedReadGuard {
    #[cfg(feature = "python")]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.hold.core
    }

    /// The handle that holds the lock.
    pub fn lock(&self) -> RwLock {
        RwLock::of(Arc::clone(&self.hold.core))
    }
}

impl OwnedWriteGuard {
    #[cfg(feature = "python")]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.hold.core
    }

    /// The handle that holds the lock.
    pub fn lock(&self) -> RwLock {
        RwLock::of(Arc::clone(&self.hold.core))
    }
}
