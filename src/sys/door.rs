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
use crate::sys::make;
pub(crate) use crate::sys::peer::{credentials, peer_pidfd};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Callers that can wait in a door that nobody opens.
const BACKLOG: i32 = 4096;
/// Longest directory path, so that `<dir>/.new-<hex tag>.call` fits a socket address.
const MAX_DIR: usize = if cfg!(target_os = "linux") { 80 } else { 76 };
/// Start of the name of a door that does not listen yet.
pub(super) const UNFINISHED: &str = ".new-";
/// How often an unfinished door may be swept away before its maker gives up.
const REMAKES: usize = 64;

/// The directory that holds the doors of one user's endpoints.
#[derive(Debug, Clone)]
pub(crate) struct DoorDir {
    path: PathBuf,
    id: FileId,
    owner: u32,
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
            _ => Path::new(file::SHM_DIR).join(format!(".ringspan-{uid}")),
        }
    }

    /// Opens (or makes) the directory and checks that it is `uid`'s and nobody else's.
    pub(crate) fn open(uid: u32) -> io::Result<DoorDir> {
        Self::open_at(Self::path_for(uid), uid)
    }

    /// The same at a place of the caller's choice.
    pub(crate) fn open_at(path: PathBuf, uid: u32) -> io::Result<DoorDir> {
        if path.as_os_str().len() > MAX_DIR {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("RINGSPAN_DIR is longer than {MAX_DIR} bytes"),
            ));
        }
        let stat = match rustix::fs::lstat(&path) {
            Err(Errno::NOENT) => {
                Self::make(&path, uid)?;
                rustix::fs::lstat(&path)?
            }
            found => found?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR.into()); // a link to one too
        }
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
        Ok(DoorDir { path, id, owner: uid })
    }

    fn make(path: &Path, uid: u32) -> rustix::io::Result<()> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) => {
                // The umask may have taken bits away; root makes it for its owner.
                rustix::fs::chmod(path, Mode::RWXU)?;
                if rustix::process::geteuid().as_raw() != uid {
                    let owner = rustix::fs::Uid::from_raw(uid);
                    rustix::fs::chown(path, Some(owner), None)?;
                }
                Ok(())
            }
            Err(Errno::EXIST) => Ok(()),
            made => made,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// The user whose endpoints have their doors here.
    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }

    /// The path of the door of a tag.
    pub(crate) fn door_path(&self, tag: u64) -> PathBuf {
        self.path.join(format!("{tag:016x}"))
    }

    /// Binds and listens at the door of `tag`; the door of a segment that root opened for another
    /// user is given to that user.
    pub(crate) fn listen(&self, tag: u64, owner: u32) -> io::Result<Fd> {
        self.remake(|| self.make_door(tag, owner))
    }

    /// Makes a door, and again when it is swept away before it is finished.
    pub(super) fn remake(&self, make: impl Fn() -> rustix::io::Result<Fd>) -> io::Result<Fd> {
        for _ in 0..REMAKES {
            match make() {
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
        let socket = Fd::open(make::local_socket)?;
        rustix::net::bind(&socket, &address)?;
        failpoint!("door.bound");
        finish(&socket, &path, &self.door_path(tag), owner)?;
        Ok(socket)
    }

    fn unfinished_path(&self, tag: u64) -> PathBuf {
        self.path.join(format!("{UNFINISHED}{tag:016x}"))
    }

    /// Knocks at the door of `tag`, without waiting.
    pub(crate) fn knock(&self, tag: u64) -> Knock {
        Self::knock_at(&self.door_path(tag))
    }

    /// Knocks at the door of that path.
    pub(super) fn knock_at(path: &Path) -> Knock {
        let address = match SocketAddrUnix::new(path) {
            Ok(address) => address,
            Err(err) => return Knock::Failed(err.into()),
        };
        let socket = match Fd::open(make::local_socket) {
            Ok(socket) => socket,
            Err(err) => return Knock::Failed(err.into()),
        };
        connect(socket, &address)
    }

    /// Removes the door of `tag` and its front door; a missing one is fine. The front door goes first: a
    /// killed remover leaves the one that leads whoever sweeps to both.
    pub(crate) fn unlink(&self, tag: u64) {
        self.unlink_front(tag);
        self.unlink_single(tag);
    }

    /// Removes the door of a `tag` that has no front door.
    pub(crate) fn unlink_single(&self, tag: u64) {
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

/// Connects `socket` to `address`, in its own mode of waiting.
pub(super) fn connect(socket: Fd, address: &SocketAddrUnix) -> Knock {
    loop {
        return match rustix::net::connect(&socket, address) {
            Ok(()) => Knock::Open(socket),
            Err(Errno::INTR) => continue,
            // Elsewhere a full backlog refuses as well.
            Err(Errno::CONNREFUSED) if cfg!(target_os = "linux") => Knock::Refused,
            Err(Errno::AGAIN) => Knock::Full,
            Err(err) => Knock::Failed(err.into()),
        };
    }
}

/// Opens a bound door and gives it its name.
pub(super) fn finish(socket: &Fd, from: &Path, to: &Path, owner: u32) -> rustix::io::Result<()> {
    let opened = (|| {
        rustix::net::listen(socket, BACKLOG)?;
        if rustix::process::geteuid().as_raw() != owner {
            rustix::fs::chown(from, Some(rustix::fs::Uid::from_raw(owner)), None)?;
        }
        rustix::fs::rename(from, to)
    })();
    if opened.is_err() {
        let _ = rustix::fs::unlink(from);
    }
    opened
}

pub(super) fn tag_of(entry: &str) -> Option<u64> {
    let hex = entry.len() == 16 && entry.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(entry, 16).ok()).flatten()
}

/// The tags of all doors that somebody listens at in our network namespace (proc_net_unix(5)). To be
/// listed is to live; not to be listed proves nothing. Spares the living a knock. A front door does not
/// count: whoever cannot be woken must not look alive for it.
pub(crate) fn listening() -> BTreeSet<u64> {
    // The kernel keeps the name of the bind, which was the unfinished one.
    listening_as(|entry| tag_of(entry.strip_prefix(UNFINISHED)?))
}

/// The tags of the listening sockets whose file names `tag_in` knows.
pub(super) fn listening_as(tag_in: impl Fn(&str) -> Option<u64>) -> BTreeSet<u64> {
    const SO_ACCEPTCON: u64 = 1 << 16;
    let list = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let tag_on = |line: &str| {
        let flags = u64::from_str_radix(line.split_ascii_whitespace().nth(3)?, 16).ok()?;
        let (_, entry) = line.rsplit_once('/')?;
        (flags & SO_ACCEPTCON != 0).then(|| tag_in(entry)).flatten()
    };
    list.lines().filter_map(tag_on).collect()
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
    loop {
        return match Fd::open(|| make::accept(door)) {
            Ok(conn) => Caller::Some(conn),
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(Errno::MFILE | Errno::NFILE) => Caller::TooManyFiles,
            Err(_) => Caller::None,
        };
    }
}
