//! The limits: the least code that can do the job, to hold ringspan against.
//!
//! None of this is safe to use. It knows no crash, no close, no second attacher and no damaged
//! index; that is the point.

pub mod copied;
pub mod eventfd;
pub mod line;
pub mod ring;
