//! ringspan: shared memory that unrelated processes can await.

pub mod codec;
mod error;
mod layout;
mod name;
mod notify;
#[cfg(not(ringspan_loom))]
mod region;
mod sync;
#[cfg(not(ringspan_loom))]
mod sys;

pub use error::{Fault, FaultKind, OpenError};
pub use layout::Kind;
