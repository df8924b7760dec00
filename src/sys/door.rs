//! Doors: listening local sockets named by a tag, so that others find an endpoint from its slot
//! alone. unix(7): a non-blocking connect succeeds at once while the backlog has room; a socket that
//! nobody listens on any more refuses, and that is proof of death.
//!
//! A socket that is bound and not listening yet refuses too, so a door is made under another name
//! and renamed when it listens: at its own name it has always been open. Whoever sweeps the
//! directory may take an unfinished door away; its maker notices at the rename and makes another.

use crate::sys::failpoint::failpoint;
use crate::sys::fd::Fd;
use crate::sys::file::{self, FileId};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Callers that can wait in a door that nobody opens.
const BACKLOG: i32 = 4096;
/// Longest directory path, so that `<dir>/.new-<hex tag>` fits a socket address.
const MAX_DIR: usize = 80;
/// Start of the name of a door that does not listen yet.
const UNFINISHED: &str = ".new-";
/// How often an unfinished door may be swept away before its maker gives up.
const REMAKES: usize = 64;

/// The directory that holds the doors of one user's endpoints.
#[derive(Debug, Clone)]
pub(crate) struct DoorDir {
    path: PathBuf,
    id: FileId,
}

/// The outcome of a knock.
#[derive(Debug)]
pub(crate) enum Knock {
    /// Somebody listens (or will: the connection is in the backlog).
    Open(Fd),
    /// Nobody listens on the socket any more: the endpoint is dead.
    Refused,
    /// The backlog is full: the endpoint has callers enough to wake it.
    Full,
    /// No proof of anything.
    Failed(io::Error),
}

impl DoorDir {
    /// Where the doors of `uid` live: `RINGSPAN_DIR`, else `/dev/shm/.ringspan-<uid>`.
    pub(crate) fn path_for(uid: u32) -> PathBuf {
        match std::env::var_os("RINGSPAN_DIR") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => Path::new(crate::sys::file::SHM_DIR).join(format!(".ringspan-{uid}")),
        }
    }

    /// Opens (or makes) the directory and checks that it is `uid`'s and nobody else's.
    pub(crate) fn open(uid: u32) -> io::Result<DoorDir> {
        let path = Self::path_for(uid);
        if path.as_os_str().len() > MAX_DIR {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("RINGSPAN_DIR is longer than {MAX_DIR} bytes"),
            ));
        }
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) => {
                // The umask may have taken bits away; root makes it for its owner.
                rustix::fs::chmod(&path, Mode::RWXU)?;
                if rustix::process::geteuid().as_raw() != uid {
                    let owner = rustix::fs::Uid::from_raw(uid);
                    rustix::fs::chown(&path, Some(owner), None)?;
                }
            }
            Err(Errno::EXIST) => {}
            Err(err) => return Err(err.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = Fd::open(|| rustix::fs::open(&path, flags, Mode::empty()))?;
        let stat = rustix::fs::fstat(&dir)?;
        if stat.st_uid != uid || stat.st_mode & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "door directory {} is owned by uid {} with mode {:o}; it must belong to uid {uid} \
                     with mode 700",
                    path.display(),
                    stat.st_uid,
                    stat.st_mode & 0o7777
                ),
            ));
        }
        #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
        let id = FileId { dev: stat.st_dev as u64, ino: stat.st_ino as u64 };
        Ok(DoorDir { path, id })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// The path of the door of a tag.
    pub(crate) fn door_path(&self, tag: u64) -> PathBuf {
        self.path.join(format!("{tag:016x}"))
    }

    /// Binds and listens at the door of `tag`; the door of a segment that root opened for another
    /// user is given to that user.
    pub(crate) fn listen(&self, tag: u64, owner: u32) -> io::Result<Fd> {
        for _ in 0..REMAKES {
            match self.make_door(tag, owner) {
                Err(Errno::NOENT) if file::info_at(&self.path)?.is_some() => {}
                done => return Ok(done?),
            }
        }
        Err(Errno::NOENT.into())
    }

    /// `NOENT`: the unfinished door (or the directory) was taken away.
    fn make_door(&self, tag: u64, owner: u32) -> rustix::io::Result<Fd> {
        let path = self.unfinished_path(tag);
        let address = SocketAddrUnix::new(&path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = Fd::open(|| {
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        })?;
        rustix::net::bind(&socket, &address)?;
        failpoint!("door.bound");
        let opened = (|| {
            rustix::net::listen(&socket, BACKLOG)?;
            if rustix::process::geteuid().as_raw() != owner {
                rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(owner)), None)?;
            }
            rustix::fs::rename(&path, self.door_path(tag))
        })();
        match opened {
            Ok(()) => Ok(socket),
            Err(err) => {
                let _ = rustix::fs::unlink(&path);
                Err(err)
            }
        }
    }

    fn unfinished_path(&self, tag: u64) -> PathBuf {
        self.path.join(format!("{UNFINISHED}{tag:016x}"))
    }

    /// Knocks at the door of `tag`, without waiting.
    pub(crate) fn knock(&self, tag: u64) -> Knock {
        Self::knock_at(&self.door_path(tag))
    }

    fn knock_at(path: &Path) -> Knock {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let address = match SocketAddrUnix::new(path) {
            Ok(address) => address,
            Err(err) => return Knock::Failed(err.into()),
        };
        let opened = Fd::open(|| {
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        });
        let socket = match opened {
            Ok(socket) => socket,
            Err(err) => return Knock::Failed(err.into()),
        };
        loop {
            return match rustix::net::connect(&socket, &address) {
                Ok(()) => Knock::Open(socket),
                Err(Errno::INTR) => continue,
                Err(Errno::CONNREFUSED) => Knock::Refused,
                Err(Errno::AGAIN) => Knock::Full,
                Err(err) => Knock::Failed(err.into()),
            };
        }
    }

    /// Removes the door of `tag`; a missing one is fine.
    pub(crate) fn unlink(&self, tag: u64) {
        let _ = rustix::fs::unlink(self.door_path(tag));
    }

    /// Removes the unfinished doors of makers that are gone (or that have to begin again); how many.
    pub(crate) fn sweep_unfinished(&self) -> io::Result<usize> {
        let mut swept = 0;
        for entry in file::list(&self.path)? {
            if let Some(tag) = entry.strip_prefix(UNFINISHED).and_then(tag_of)
                && let path = self.unfinished_path(tag)
                && matches!(Self::knock_at(&path), Knock::Refused)
                && rustix::fs::unlink(&path).is_ok()
            {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// The tags of the doors here at which nobody listens any more. Those in `alive` are not
    /// knocked at.
    pub(crate) fn refused(&self, alive: &BTreeSet<u64>) -> io::Result<Vec<u64>> {
        let mut tags: Vec<u64> = file::list(&self.path)?.iter().filter_map(|e| tag_of(e)).collect();
        tags.retain(|&tag| !alive.contains(&tag) && matches!(self.knock(tag), Knock::Refused));
        Ok(tags)
    }
}

fn tag_of(entry: &str) -> Option<u64> {
    let hex = entry.len() == 16 && entry.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(entry, 16).ok()).flatten()
}

/// The tags of all doors that somebody listens at in our network namespace (proc_net_unix(5)). To be
/// listed is to live; not to be listed proves nothing. Spares the living a knock.
pub(crate) fn listening() -> BTreeSet<u64> {
    const SO_ACCEPTCON: u64 = 1 << 16;
    let list = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let tag_in = |line: &str| {
        let flags = u64::from_str_radix(line.split_ascii_whitespace().nth(3)?, 16).ok()?;
        // The kernel keeps the name of the bind, which was the unfinished one.
        let (_, entry) = line.rsplit_once('/')?;
        let tag = tag_of(entry.strip_prefix(UNFINISHED)?)?;
        (flags & SO_ACCEPTCON != 0).then_some(tag)
    };
    list.lines().filter_map(tag_in).collect()
}

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

/// SO_PEERCRED: who connected, or who listens.
#[allow(unsafe_code, reason = "getsockopt with plain structures")]
pub(crate) fn credentials(conn: &Fd) -> io::Result<Credentials> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: a live descriptor, and a structure of exactly the length passed. (rustix wraps the pid
    // in a type that cannot hold the 0 of a peer in a foreign pid namespace.)
    let done = unsafe {
        libc::getsockopt(
            conn.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    if done == 0 {
        Ok(Credentials { pid: u32::try_from(cred.pid).unwrap_or(0), uid: cred.uid })
    } else {
        Err(io::Error::last_os_error())
    }
}

/// SO_PEERPIDFD (Linux 6.5): a pidfd of the other end, where the kernel gives one. Out of
/// descriptors is an error, or a death that only the pidfd tells would go unnoticed.
#[allow(unsafe_code, reason = "getsockopt that rustix does not wrap")]
pub(crate) fn peer_pidfd(conn: &Fd) -> io::Result<Option<Fd>> {
    use std::os::fd::{FromRawFd, OwnedFd, RawFd};
    const SO_PEERPIDFD: libc::c_int = 77;
    let got = Fd::open(|| {
        let mut number: RawFd = -1;
        let mut len = size_of::<RawFd>() as libc::socklen_t;
        // SAFETY: a live descriptor and an int of exactly the length passed.
        let done = unsafe {
            libc::getsockopt(
                conn.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERPIDFD,
                (&raw mut number).cast(),
                &raw mut len,
            )
        };
        if done == 0 && number >= 0 {
            // SAFETY: the kernel just made this descriptor for us (close-on-exec).
            Ok(unsafe { OwnedFd::from_raw_fd(number) })
        } else {
            Err(io::Error::last_os_error())
        }
    });
    match got {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(err) if matches!(err.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Err(err),
        Err(_) => Ok(None),
    }
}

/// The next caller at a door.
#[derive(Debug)]
pub(crate) enum Caller {
    Some(Fd),
    None,
    /// Out of descriptors; the caller still stands at the door.
    TooManyFiles,
}

/// Accepts one caller, without waiting.
pub(crate) fn accept(door: &Fd) -> Caller {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        return match Fd::open(|| rustix::net::accept_with(door.as_fd(), flags)) {
            Ok(conn) => Caller::Some(conn),
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(Errno::MFILE | Errno::NFILE) => Caller::TooManyFiles,
            Err(_) => Caller::None,
        };
    }
}
