//! One pollable descriptor that stands for many: not written for kqueue(2) yet, so nobody can wait.

#![allow(dead_code, reason = "there is no set to call them on")]

use crate::sys::fd::Fd;
use crate::sys::poll::{Interest, Waited};
use crate::sys::unsupported::unsupported;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The set; there can be none.
#[derive(Debug)]
pub(crate) struct PollSet {
    never: Infallible,
}

impl PollSet {
    pub(crate) fn new() -> io::Result<PollSet> {
        Err(unsupported("waiting on a poll set (kqueue)"))
    }

    /// The set's own descriptor.
    pub(crate) fn fd(&self) -> &Arc<Fd> {
        match self.never {}
    }

    pub(crate) fn add(&self, _fd: &Fd, _key: u64, _interest: Interest) -> io::Result<()> {
        match self.never {}
    }

    pub(crate) fn remove(&self, _fd: &Fd) {
        match self.never {}
    }

    pub(crate) fn collect(
        &self,
        _keys: &mut Vec<u64>,
        _timeout: Option<Duration>,
    ) -> io::Result<(Waited, bool)> {
        match self.never {}
    }
}
