//! What a call answers that nobody has written for this system.

use std::io;

/// Names the call. Every face of the crate turns it into
/// [`FaultKind::Unsupported`](crate::error::FaultKind::Unsupported).
pub(super) fn unsupported(call: &str) -> io::Error {
    let text = format!("{call} is not available on this system yet");
    io::Error::new(io::ErrorKind::Unsupported, text)
}
