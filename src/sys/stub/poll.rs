//! Waiting for descriptors: not written for this system yet, and there are none.

#![allow(dead_code, reason = "nothing can be waited for")]

use crate::sys::fd::Fd;
pub(crate) use crate::sys::pollset::PollSet;
use crate::sys::unsupported::unsupported;
use std::io;
use std::time::Duration;

/// How a descriptor is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Edge,
    Level,
    HangUp,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    TimedOut,
    Interrupted,
}

pub(crate) fn wait_any<const N: usize>(
    _fds: [Option<&Fd>; N],
    _timeout: Option<Duration>,
) -> io::Result<(Waited, [bool; N])> {
    Err(unsupported("waiting (WaitForMultipleObjects)"))
}

pub(crate) fn is_readable(_fd: &Fd) -> bool {
    false
}

pub(crate) fn is_hung_up(_fd: &Fd) -> bool {
    false
}
