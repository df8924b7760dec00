//! Bytes that say what they are, under a lock, and that can be awaited: [`Block`]. Arrays are made of it.
//!
//! Nothing of it is new: the lock is that of [`RwLock`](crate::RwLock), the version word that of a
//! [`Segment`](crate::Segment), both on one endpoint. The meta is written before the name exists and
//! never changes; a handle copies it once, and looks at its checksum.
//!
//! | file | job |
//! |---|---|
//! | `options` | [`BlockOptions`]: create, open |
//! | `handle` | [`Block`]: meta, bytes, the lock |
//! | `wait` | notify, changed |

mod handle;
mod options;
mod wait;

pub use handle::Block;
pub use options::BlockOptions;
#[cfg(feature = "python")]
pub(crate) use wait::raise;
