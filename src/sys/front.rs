//! Front doors: where callers of a function stand, beside the wake door of its owner and apart from it,
//! so that a stray knock is never parsed as a call. Named `<tag>.call`, and made like a wake door: under
//! an unfinished name, renamed when it listens.
//!
//! `interprocess` makes the listening socket: bound, close-on-exec, non-blocking, its name left to us.
//! Under the lock of the table in `fd`, so that no fork comes between. What it cannot do is done here:
//!
//! - its backlog is the system's default; ours is that of a wake door, by a second listen(2);
//! - its non-blocking connect takes the EAGAIN of a full backlog for a connect under way and returns a
//!   socket that is not connected; its blocking connect has no bound;
//! - its listener owns its descriptor, which a forked child must close and not drop; so callers are
//!   accepted as at a wake door;
//! - its credentials are an error for a peer of another pid namespace.
//!
//! The file of the socket keeps the mode that the umask leaves: the directory keeps others out.

use crate::sys::door::{self, DoorDir, Knock, UNFINISHED, tag_of};
use crate::sys::fd::Fd;
use crate::sys::file;
use crate::sys::make;
use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{
    GenericFilePath, Listener, ListenerNonblockingMode, ListenerOptions,
};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// End of the name of a front door.
const SUFFIX: &str = ".call";

/// The tag in the file name of a front door.
fn front_tag(entry: &str) -> Option<u64> {
    tag_of(entry.strip_suffix(SUFFIX)?)
}

/// A socket that listens at `path`.
fn listener(path: &Path) -> rustix::io::Result<OwnedFd> {
    let made = path.to_fs_name::<GenericFilePath>().and_then(|name| {
        ListenerOptions::new()
            .name(name)
            .nonblocking(ListenerNonblockingMode::Both)
            .reclaim_name(false)
            .create_sync()
    });
    match made {
        Ok(Listener::UdSocket(listener)) => Ok(listener.into()),
        Err(err) => Err(Errno::from_io_error(&err).unwrap_or(Errno::INVAL)),
    }
}

impl DoorDir {
    /// The path of the front door of a tag.
    pub(crate) fn front_path(&self, tag: u64) -> PathBuf {
        self.path().join(format!("{tag:016x}{SUFFIX}"))
    }

    fn unfinished_front(&self, tag: u64) -> PathBuf {
        self.path().join(format!("{UNFINISHED}{tag:016x}{SUFFIX}"))
    }

    /// Binds and listens at the front door of `tag`, non-blocking; given to `owner` as a wake door is.
    pub(crate) fn listen_front(&self, tag: u64, owner: u32) -> io::Result<Fd> {
        let path = self.unfinished_front(tag);
        self.remake(|| {
            let socket = Fd::open(|| listener(&path))?;
            door::finish(&socket, &path, &self.front_path(tag), owner)?;
            Ok(socket)
        })
    }

    /// Connects to the front door of `tag`, without waiting.
    pub(crate) fn call(&self, tag: u64) -> Knock {
        Self::knock_at(&self.front_path(tag))
    }

    /// The same, but at a full backlog the thread sleeps until there is room, for `time` at most
    /// (unix(7): a blocking connect waits; SO_SNDTIMEO bounds it). The connection is non-blocking
    /// afterwards.
    pub(crate) fn call_within(&self, tag: u64, time: Duration) -> Knock {
        let failed = |err: Errno| Knock::Failed(err.into());
        let prepared = SocketAddrUnix::new(self.front_path(tag)).and_then(|address| {
            let socket = Fd::open(make::local_socket)?;
            rustix::io::ioctl_fionbio(&socket, false)?;
            // Zero would be no bound at all.
            let time = time.max(Duration::from_millis(1));
            set_socket_timeout(&socket, Timeout::Send, Some(time))?;
            Ok((socket, address))
        });
        match prepared.map(|(socket, address)| door::connect(socket, &address)) {
            Ok(Knock::Open(socket)) => match rustix::io::ioctl_fionbio(&socket, true) {
                Ok(()) => Knock::Open(socket),
                Err(err) => failed(err),
            },
            Ok(other) => other,
            Err(err) => failed(err),
        }
    }

    /// Removes the front door of `tag`; a missing one is fine.
    pub(crate) fn unlink_front(&self, tag: u64) {
        let _ = rustix::fs::unlink(self.front_path(tag));
    }

    /// Removes the front doors, finished or not, at which nobody listens any more; how many. They prove
    /// nothing that the wake door does not prove, so they need not wait for a slot.
    pub(crate) fn sweep_fronts(&self) -> io::Result<usize> {
        // Not to be knocked at: there a knock is a caller who says nothing.
        let alive = door::listening_as(|entry| front_tag(entry.strip_prefix(UNFINISHED)?));
        let mut swept = 0;
        for entry in file::list(self.path())? {
            let Some(tag) = front_tag(entry.strip_prefix(UNFINISHED).unwrap_or(&entry)) else {
                continue;
            };
            let path = self.path().join(&entry);
            if !alive.contains(&tag)
                && matches!(Self::knock_at(&path), Knock::Refused)
                && rustix::fs::unlink(&path).is_ok()
            {
                swept += 1;
            }
        }
        Ok(swept)
    }
}
