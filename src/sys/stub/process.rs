//! Facts about this process and the machine, as far as the standard library has them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Our process id.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// Users have no numbers here. Nothing can be owned: whatever would be fails to be made.
pub(crate) fn euid() -> u32 {
    0
}

/// Not known here.
pub(crate) fn own_start_time() -> u64 {
    0
}

/// There are none here.
pub(crate) fn pid_namespace() -> u64 {
    0
}

/// The system was not asked.
pub(crate) fn current_cpu() -> u32 {
    0
}

/// Nanoseconds since the epoch.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds that pass evenly, from some point in time on.
pub(crate) fn monotonic() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let since = START.get_or_init(std::time::Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The same, as good as it gets.
pub(crate) fn coarse_wall_clock() -> u64 {
    wall_clock()
}

/// There are none here.
pub(crate) fn pidfd_of(_pid: u32, _start: u64) -> Option<crate::sys::fd::Fd> {
    None
}
