//! Named segments of plain bytes that processes read, write and await; and the module functions that
//! see to all named objects: list, remove, sweep.
//!
//! A segment's wait is a version word: [`Segment::notify`] raises it and rings everybody who sleeps,
//! [`Segment::changed`] sleeps until it differs from the version that the caller has seen. Reading
//! and writing take no part in it, so plain use costs no door and no descriptor: a handle is
//! attached when it first waits or notifies. (A notifier is attached too: sleepers watch whoever is
//! attached, so one that is killed between raising the version and ringing wakes them by its death.)
//!
//! | file | job |
//! |---|---|
//! | `options` | [`SegmentOptions`]: create, open |
//! | `handle` | [`Segment`]: bytes |
//! | `version` | the version word: raising it, looking for a change |
//! | `wait` | notify, changed |
//! | `list` | [`segments`] |
//! | `sweep` | [`remove`], [`gc`] |
//! | `error` | [`ChangedError`] |
//! | `bind` | what the Python binding needs |

#[cfg(feature = "python")]
pub(crate) mod bind;
mod error;
mod handle;
mod list;
mod options;
mod sweep;
pub(crate) mod version;
mod wait;

pub use error::ChangedError;
pub use handle::Segment;
pub use list::{Attached, SegmentInfo, segments, segments_including_raw};
pub use options::SegmentOptions;
pub use sweep::{GcReport, gc, gc_persistent_older_than, remove, remove_file, remove_kind};
#[cfg(feature = "python")]
pub(crate) use sweep::{Only, remove_only};
