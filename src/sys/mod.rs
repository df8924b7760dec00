//! What the operating system gives: files, maps, doorbells, doors, processes. No algorithm lives
//! here, and nothing here knows a slot or a segment.
//!
//! | file | gives |
//! |---|---|
//! | `fd` | descriptors that a forked child closes and never closes twice |
//! | `make` | how descriptors are made: flags, eventfd, pipe, sockets, nameless files |
//! | `file` | atomic creation, locking and unlinking in `/dev/shm` |
//! | `map` | raw mappings |
//! | `alarm` | wakes one thread of this process out of `poll` |
//! | `doorbell` | eventfd or pipe |
//! | `door` | listening local sockets, knocks |
//! | `peer` | credentials and pidfds of the other end |
//! | `front` | front doors: where callers of functions stand |
//! | `fdpass` | descriptors over a socket |
//! | `memfd` | sealed memory without a name |
//! | `poll` | waiting for one or two descriptors |
//! | `pollset` | one pollable descriptor for many |
//! | `timer` | one timer that can be watched |
//! | `inode` | a watch on the deletion of a file |
//! | `process` | pid, start time, cpu |
//! | `failpoint` | crash points; empty without the feature |
//!
//! The files here are Linux'; other unixes share those that compile there and take the rest from
//! `bsd/`. Windows takes all of them from `stub/`. What is not written for a system answers with an
//! error that names the call (`unsupported`); `docs/platforms.md` has the list.

#[cfg_attr(not(unix), path = "stub/alarm.rs")]
pub(crate) mod alarm;
#[cfg_attr(not(unix), path = "stub/door.rs")]
pub(crate) mod door;
#[cfg_attr(not(unix), path = "stub/doorbell.rs")]
pub(crate) mod doorbell;
pub(crate) mod failpoint;
#[cfg_attr(not(unix), path = "stub/fd.rs")]
pub(crate) mod fd;
#[cfg_attr(not(unix), path = "stub/fdpass.rs")]
pub(crate) mod fdpass;
#[cfg_attr(not(unix), path = "stub/file.rs")]
pub(crate) mod file;
#[cfg(unix)]
mod front;
#[cfg_attr(not(target_os = "linux"), path = "bsd/inode.rs")]
pub(crate) mod inode;
#[cfg(unix)]
#[cfg_attr(not(target_os = "linux"), path = "bsd/make.rs")]
mod make;
#[cfg_attr(not(unix), path = "stub/map.rs")]
pub(crate) mod map;
#[allow(dead_code, reason = "until the drivers of functions use it")]
#[cfg_attr(not(target_os = "linux"), path = "bsd/memfd.rs")]
pub(crate) mod memfd;
#[cfg(unix)]
#[cfg_attr(not(target_os = "linux"), path = "bsd/peer.rs")]
mod peer;
#[cfg_attr(not(unix), path = "stub/poll.rs")]
pub(crate) mod poll;
#[cfg_attr(not(target_os = "linux"), path = "bsd/pollset.rs")]
mod pollset;
#[cfg_attr(not(unix), path = "stub/process.rs")]
pub(crate) mod process;
#[cfg_attr(not(target_os = "linux"), path = "bsd/timer.rs")]
pub(crate) mod timer;
#[cfg(not(target_os = "linux"))]
mod unsupported;
