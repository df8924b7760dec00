//! ringspan: shared memory that unrelated processes can await.

mod error;
mod layout;
mod ring;
mod sync;

pub use error::{Fault, FaultKind, OpenError};
pub use layout::Kind;
