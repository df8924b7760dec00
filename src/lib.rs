//! ringspan: shared memory that unrelated processes can await.

#[cfg(not(ringspan_loom))]
pub mod codec;
mod error;
mod layout;
mod name;
mod notify;
#[cfg(all(not(ringspan_loom), feature = "python"))]
mod python;
#[cfg(not(ringspan_loom))]
mod region;
mod ring;
#[cfg(not(ringspan_loom))]
mod segment;
mod sync;
#[cfg(not(ringspan_loom))]
mod sys;

pub use error::{Fault, FaultKind, OpenError};
pub use layout::Kind;
#[cfg(not(ringspan_loom))]
pub use ring::{
    Batch, Consumer, EndStat, Grant, Message, Peer, PopError, Producer, PushError, Ring,
    RingOptions, RingStat, TryPopError, TryPushError,
};
#[cfg(all(not(ringspan_loom), feature = "tokio"))]
pub use ring::{RingSink, RingStream, SinkError};
#[cfg(not(ringspan_loom))]
pub use segment::{
    Attached, ChangedError, GcReport, Segment, SegmentInfo, SegmentOptions, gc,
    gc_persistent_older_than, remove, segments, segments_including_raw,
};
