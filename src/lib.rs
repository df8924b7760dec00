//! ringspan: shared memory that unrelated processes can await.

pub mod codec;
mod error;
mod layout;
mod sync;

pub use error::{Fault, FaultKind, OpenError};
pub use layout::Kind;
