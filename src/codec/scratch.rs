//! Memory for encoding and copying that a thread uses again and again.

use std::cell::Cell;

/// What is kept of it between uses.
const KEPT: usize = 1 << 20;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `f` with memory of this thread, if that is free, else with new. It holds what its last user left.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut bytes = SCRATCH.take();
    let result = f(&mut bytes);
    if bytes.capacity() <= KEPT {
        SCRATCH.set(bytes);
    }
    result
}
