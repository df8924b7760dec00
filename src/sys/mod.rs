//! What the operating system gives: files, maps, doorbells, doors, processes. No algorithm lives
//! here, and nothing here knows a slot or a segment.
//!
//! | file | gives |
//! |---|---|
//! | `fd` | descriptors that a forked child closes and never closes twice |
//! | `file` | atomic creation, locking and unlinking in `/dev/shm` |
//! | `map` | raw mappings |
//! | `alarm` | wakes one thread of this process out of `poll` |
//! | `doorbell` | eventfd or pipe |
//! | `door` | listening local sockets, knocks, credentials, pidfds |
//! | `fdpass` | one descriptor over a socket |
//! | `poll` | one pollable descriptor for many |
//! | `inode` | a watch on the deletion of a file |
//! | `process` | pid, start time, cpu |
//! | `failpoint` | crash points; empty without the feature |

pub(crate) mod alarm;
pub(crate) mod door;
pub(crate) mod doorbell;
pub(crate) mod failpoint;
pub(crate) mod fd;
pub(crate) mod fdpass;
pub(crate) mod file;
pub(crate) mod inode;
pub(crate) mod map;
pub(crate) mod poll;
pub(crate) mod process;
