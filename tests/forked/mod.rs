//! What the tests of fork share.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unsafe_code, reason = "fork and its like")]

use crate::common::say;
use ringspan::FaultKind;

/// True in the forked child.
pub(crate) fn fork() -> bool {
    // SAFETY: the child only uses what may be used after fork (glibc's allocator may).
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    pid == 0
}

/// What a forked child does, and its end: 1 when it panicked, for the test runner is the parent's.
pub(crate) fn leave_after(f: impl FnOnce()) -> ! {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    // SAFETY: ends this process without running what belongs to the parent.
    unsafe { libc::_exit(i32::from(done.is_err())) }
}

/// Waits for the good end of the forked child.
pub(crate) fn wait_for_it() {
    let mut status = 0;
    // SAFETY: a place for the status.
    unsafe { libc::wait(&mut status) };
    assert_eq!(status, 0, "the forked child failed");
}

pub(crate) fn is_forked(fault: &ringspan::Fault, name: &str) {
    assert_eq!(fault.kind(), FaultKind::Forked, "{fault}");
    assert!(fault.to_string().contains(name), "{fault}");
}

/// Leaves a child behind that lives until the standard input ends or brings a byte, says its pid, and
/// stays.
pub(crate) fn leave_a_child(how: &str) -> ! {
    let pid = match how {
        // SAFETY: the child only reads and exits.
        "fork" => unsafe { libc::fork() },
        // Behind the back of `pthread_atfork`, so that all descriptors are inherited.
        // SAFETY: as above; a fork without flags of its own.
        _ => unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t },
    };
    if pid == 0 {
        let mut byte = 0u8;
        // SAFETY: one byte of ours.
        unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
        // SAFETY: ends this process without running what belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    say(pid);
    loop {
        std::thread::park();
    }
}

pub(crate) fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
