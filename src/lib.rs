//! ringspan: shared memory that unrelated processes can await.

#![cfg_attr(ringspan_loom, allow(dead_code, unused_imports, reason = "models use a part"))]

#[cfg(not(ringspan_loom))]
pub mod codec;
mod error;
mod layout;
mod name;
mod notify;
#[cfg(not(ringspan_loom))]
mod region;
mod ring;
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
