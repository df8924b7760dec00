//! The latest value of anything, in memory that processes share and await: [`Value`].
//!
//! Readers copy beside the writer and are never in its way; writers take turns by a lock of the same kind
//! as [`RwLock`](crate::RwLock). Two buffers and a version: a writer killed at any instruction leaves the
//! value that was there.
//!
//! | file | job |
//! |---|---|
//! | `raw` | versions, descriptors, bytes: the algorithm |
//! | `core` | the same over a region, with its lock and its waits |
//! | `handle`, `set`, `wait` | [`Value`]: open and read; set and update; changes |
//! | `peek` | [`Value::peek`]: reading without a handle |
//! | `options` | [`ValueOptions`] |
//! | `error` | [`SetError`], [`TrySetError`], [`TryGetError`] |

#[cfg(not(ringspan_loom))]
pub(crate) mod core;
#[cfg(not(ringspan_loom))]
mod error;
#[cfg(not(ringspan_loom))]
mod handle;
#[cfg(all(test, ringspan_loom))]
mod loom_tests;
#[cfg(not(ringspan_loom))]
mod options;
#[cfg(not(ringspan_loom))]
mod peek;
pub(crate) mod raw;
#[cfg(not(ringspan_loom))]
mod set;
#[cfg(not(ringspan_loom))]
mod wait;

#[cfg(not(ringspan_loom))]
pub use error::{SetError, TryGetError, TrySetError};
#[cfg(not(ringspan_loom))]
pub use handle::Value;
#[cfg(not(ringspan_loom))]
pub use options::ValueOptions;
#[cfg(all(not(ringspan_loom), feature = "python"))]
pub(crate) use options::{Initial, Plain};
#[cfg(all(not(ringspan_loom), feature = "python"))]
pub(crate) use peek::Peek;
#[cfg(all(not(ringspan_loom), feature = "python"))]
pub(crate) use set::timed_out;
#[cfg(not(ringspan_loom))]
pub use wait::Watch;
