//! A reader-writer lock between processes that outlives its owners: [`RwLock`].
//!
//! One 64-bit word decides. It names its owners by a bit for each slot, so whoever finds an owner dead
//! takes exactly its bit out; a dead writer leaves the mark of poison. Tasks and threads of one handle
//! share its bit.
//!
//! | file | job |
//! |---|---|
//! | `word` | the bits of the word |
//! | `stake` | what one handle holds, in its own memory |
//! | `raw` | taking, giving, reaping: the algorithm over both |
//! | `core` | the same with all that follows: telling waiters, proving deaths |
//! | `tell` | waking those who wait; giving way to them |
//! | `lent` | the policy of staying awake, which one of a handle has |
//! | `wait` | the look of a sleeper; blocking and awaited waits |
//! | `guard` | the bytes, while the lock is held |
//! | `handle`, `options` | [`RwLock`], [`RwLockOptions`] |
//! | `holders` | [`Holder`], [`HandleStat`] |
//! | `error` | [`LockError`], [`TryLockError`], [`Poisoned`] |
//!
//! Sources: the owner in the word of the lock after LMDB's reader table and robust futexes
//! (get_robust_list(2)); the hint that keeps readers out after Courtois, Heymans, Parnas: Concurrent
//! control with "readers" and "writers", CACM 1971, second problem.

#[cfg(not(ringspan_loom))]
pub(crate) mod core;
#[cfg(not(ringspan_loom))]
mod error;
#[cfg(not(ringspan_loom))]
mod guard;
#[cfg(not(ringspan_loom))]
mod handle;
#[cfg(not(ringspan_loom))]
pub(crate) mod holders;
#[cfg(not(ringspan_loom))]
mod lent;
#[cfg(all(test, ringspan_loom))]
mod loom_tests;
#[cfg(all(test, ringspan_loom))]
mod loom_value_tests;
#[cfg(all(test, ringspan_loom))]
mod loom_wait_tests;
#[cfg(not(ringspan_loom))]
mod options;
pub(crate) mod raw;
pub(crate) mod stake;
#[cfg(not(ringspan_loom))]
mod tell;
#[cfg(not(ringspan_loom))]
pub(crate) mod wait;
pub(crate) mod word;

#[cfg(not(ringspan_loom))]
pub use self::core::LockMode;
#[cfg(not(ringspan_loom))]
pub use error::{LockError, Poisoned, TryLockError};
#[cfg(not(ringspan_loom))]
pub use guard::{OwnedReadGuard, OwnedWriteGuard, ReadGuard, WriteGuard};
#[cfg(not(ringspan_loom))]
pub use handle::RwLock;
#[cfg(not(ringspan_loom))]
pub use holders::{HandleStat, Holder};
#[cfg(not(ringspan_loom))]
pub use options::RwLockOptions;
