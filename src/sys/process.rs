//! Facts about this process and the machine.

use crate::sync::{AtomicU64, Ordering};
use crate::sys::fd;
use std::time::{SystemTime, UNIX_EPOCH};

/// Our process id, as our own namespace counts.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// Our effective user id.
pub(crate) fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Start time of a process in clock ticks since boot (proc_pid_stat(5), field 22).
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may hold spaces and parentheses; the fields start after the last one.
    let fields = stat.rsplit_once(')')?.1;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Our own start time, read once.
pub(crate) fn own_start_time() -> u64 {
    static CACHE: AtomicU64 = AtomicU64::new(0);
    static FOR_PID: AtomicU64 = AtomicU64::new(0);
    let pid = pid();
    if FOR_PID.load(Ordering::SeqCst) == u64::from(pid) {
        return CACHE.load(Ordering::SeqCst);
    }
    let start = start_time(pid).unwrap_or(0);
    CACHE.store(start, Ordering::SeqCst);
    FOR_PID.store(pid.into(), Ordering::SeqCst);
    start
}

/// Inode of our pid namespace, which a process never leaves, read once; 0 without /proc. A child may be in
/// another one, with the same pid.
pub(crate) fn pid_namespace() -> u64 {
    static CACHE: AtomicU64 = AtomicU64::new(0);
    static FOR_FORKS: AtomicU64 = AtomicU64::new(u64::MAX);
    let forks = fd::fork_count();
    if FOR_FORKS.load(Ordering::SeqCst) == forks {
        return CACHE.load(Ordering::SeqCst);
    }
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
    let inode = rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino as u64);
    CACHE.store(inode, Ordering::SeqCst);
    FOR_FORKS.store(forks, Ordering::SeqCst);
    inode
}

/// The cpu that runs this thread, plus one; 0 where the system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn current_cpu() -> u32 {
    u32::try_from(rustix::thread::sched_getcpu()).map_or(0, |cpu| cpu.saturating_add(1))
}

/// The system does not say.
#[cfg(not(target_os = "linux"))]
pub(crate) fn current_cpu() -> u32 {
    0
}

/// A pidfd of the process of that number, if it is the one that started then.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_of(pid: u32, start: u64) -> Option<crate::sys::fd::Fd> {
    let number = rustix::process::Pid::from_raw(pid.try_into().ok()?)?;
    let flags = rustix::process::PidfdFlags::empty();
    let pidfd = crate::sys::fd::Fd::open(|| rustix::process::pidfd_open(number, flags)).ok()?;
    // After it was opened, so that it is known whose it is.
    (start != 0 && start_time(pid) == Some(start)).then_some(pidfd)
}

/// There are none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pidfd_of(_pid: u32, _start: u64) -> Option<crate::sys::fd::Fd> {
    None
}

/// Nanoseconds that pass evenly, from some point in time on.
#[cfg(unix)]
pub(crate) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The wall clock, some milliseconds coarse and ten times cheaper.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn coarse_wall_clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    (now.tv_sec.cast_unsigned()) * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The same.
#[cfg(not(target_os = "linux"))]
pub(crate) fn coarse_wall_clock() -> u64 {
    wall_clock()
}

/// Nanoseconds since the epoch.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
