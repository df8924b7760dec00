//! Files in the directory of shared memory: atomic and exclusive creation, locks on an inode,
//! unlinking.
//!
//! Sources: open(2) O_TMPFILE, linkat(2), posix_fallocate(3), flock(2). `ftruncate` reserves
//! nothing, so a full tmpfs would be a SIGBUS at the first touch; `fallocate` fails instead.

use crate::sys::fd::Fd;
use crate::sys::make;
pub(crate) use crate::sys::make::SHM_DIR;
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, RawMode};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Start of the temporary names used where anonymous files cannot be linked.
pub(crate) const TEMP_PREFIX: &str = ".ringspan-tmp-";

/// What identifies a file: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

/// What `fstat` says of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileInfo {
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) regular: bool,
}

#[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
fn info_of(stat: &rustix::fs::Stat) -> FileInfo {
    let mode = stat.st_mode as u32;
    FileInfo {
        id: FileId { dev: stat.st_dev as u64, ino: stat.st_ino as u64 },
        size: u64::try_from(stat.st_size).unwrap_or(0),
        uid: stat.st_uid,
        mode: mode & 0o7777,
        links: stat.st_nlink as u64,
        regular: mode & libc::S_IFMT as u32 == libc::S_IFREG as u32,
    }
}

/// The path of a file in the directory of shared memory.
pub(crate) fn shm_path(file: &str) -> PathBuf {
    Path::new(SHM_DIR).join(file)
}

/// `fstat`.
pub(crate) fn info(fd: &Fd) -> io::Result<FileInfo> {
    Ok(info_of(&rustix::fs::fstat(fd)?))
}

/// `lstat` of a path, `None` where nothing has that name.
pub(crate) fn info_at(path: &Path) -> io::Result<Option<FileInfo>> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(info_of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Reserves `len` bytes from `offset` on; the file becomes longer if need be. All of it or nothing.
pub(crate) fn reserve(fd: &Fd, offset: u64, len: u64) -> io::Result<()> {
    // tmpfs undoes all of it when a signal comes, and says so.
    while let Err(err) = rustix::fs::fallocate(fd, FallocateFlags::empty(), offset, len) {
        if err != Errno::INTR {
            return Err(err.into());
        }
    }
    Ok(())
}

/// Reads all of `out` from `offset` on. `UnexpectedEof`: the file is not so long.
pub(crate) fn read_at(fd: &Fd, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match rustix::io::pread(fd, &mut *out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(done) => {
                offset += done as u64;
                out = &mut out[done..];
            }
            Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// Writes all of `bytes` to `offset`.
pub(crate) fn write_at(fd: &Fd, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(fd, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(done) => {
                offset += done as u64;
                bytes = &bytes[done..];
            }
            Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

/// Gives the memory of a part of the file back, where the system can; the part stays, and reads as
/// zeros.
pub(crate) fn give_back(fd: &Fd, offset: u64, len: u64) {
    make::punch(fd, offset, len);
}

/// A file that is not (fully) published yet.
#[derive(Debug)]
pub(crate) struct Unborn {
    fd: Arc<Fd>,
    id: FileId,
    /// Set where the system has no anonymous files.
    temp: Option<PathBuf>,
}

impl Unborn {
    /// Makes an anonymous file of `len` bytes, all of them reserved, with exactly `mode`.
    pub(crate) fn new(len: u64, mode: u32) -> io::Result<Unborn> {
        let unborn = Self::empty(mode)?;
        reserve(&unborn.fd, 0, len)?;
        Ok(unborn)
    }

    /// The same with `data` in front, of at most `len` bytes. What is not `reserved` has no memory until
    /// it is written; there must be room for it now.
    pub(crate) fn with(len: u64, mode: u32, reserved: bool, data: &[u8]) -> io::Result<Unborn> {
        let unborn = Self::empty(mode)?;
        let fd = &unborn.fd;
        // A write reserves as well: what covers all of it needs nothing else.
        if (data.len() as u64) < len {
            if reserved {
                reserve(fd, 0, len)?;
            } else {
                let room = rustix::fs::fstatvfs(fd)?;
                // A file system without a limit says that it has no blocks at all.
                if room.f_blocks > 0 && len.div_ceil(room.f_frsize.max(1)) > room.f_bavail {
                    return Err(Errno::NOSPC.into());
                }
                rustix::fs::ftruncate(fd, len)?;
            }
        }
        write_at(fd, 0, data)?;
        Ok(unborn)
    }

    fn empty(mode: u32) -> io::Result<Unborn> {
        #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
        let bits = Mode::from_raw_mode(mode as RawMode);
        let (fd, temp) = match Fd::open(|| make::nameless(SHM_DIR, bits)) {
            Ok(fd) => (fd, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let (fd, path) = Self::temporary()?;
                (fd, Some(path))
            }
            Err(err) => return Err(err.into()),
        };
        let mut unborn = Unborn { fd: Arc::new(fd), id: FileId { dev: 0, ino: 0 }, temp };
        let made = info(&unborn.fd)?;
        unborn.id = made.id;
        if made.mode != mode {
            rustix::fs::fchmod(&*unborn.fd, bits)?; // the umask took bits away
        }
        Ok(unborn)
    }

    /// A file with a temporary name, locked while it has that name, so that nobody who sweeps takes
    /// it for a dead creator's.
    fn temporary() -> io::Result<(Fd, PathBuf)> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        for _ in 0..8 {
            let name = format!("{TEMP_PREFIX}{}-{:x}", std::process::id(), random()?);
            let path = shm_path(&name);
            let fd = Fd::open(|| rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)))?;
            let locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && info(&fd)?.links > 0 {
                return Ok((fd, path));
            }
            let _ = rustix::fs::unlink(&path); // a sweeper has it
        }
        Err(Errno::AGAIN.into())
    }

    pub(crate) fn fd(&self) -> &Arc<Fd> {
        &self.fd
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Gives the file its name, unless the name is taken (`AlreadyExists`). From here on everybody
    /// sees the whole file; before, nobody saw any of it.
    pub(crate) fn publish(self, path: &Path) -> io::Result<Arc<Fd>> {
        match &self.temp {
            Some(temp) => rustix::fs::link(temp, path)?,
            None => make::give_name(&*self.fd, path)?,
        }
        Ok(Arc::clone(&self.fd))
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            let _ = rustix::fs::unlink(temp);
            let _ = rustix::fs::flock(&*self.fd, FlockOperation::Unlock);
        }
    }
}

/// Opens a regular file for reading and writing; never follows a link, never creates.
pub(crate) fn open(path: &Path) -> io::Result<Fd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(Fd::open(|| rustix::fs::open(path, flags, Mode::empty()))?)
}

/// The largest file that this process may write (`ulimit -f`).
pub(crate) fn size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// Removes a name.
pub(crate) fn unlink(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::unlink(path)?)
}

/// An exclusive `flock` on an inode, held until dropped (or until this process dies).
#[derive(Debug)]
pub(crate) struct InodeLock {
    _file: Fd,
}

impl InodeLock {
    /// Locks the inode behind `fd` through a description of its own, so that two threads exclude
    /// each other too. `path` is used where /proc is missing; another inode there is ESTALE.
    pub(crate) fn take(fd: &Fd, path: &Path) -> io::Result<InodeLock> {
        let file = Self::reopen(fd, path)?;
        lock_whole(&file)?;
        Ok(InodeLock { _file: file })
    }

    /// The same, or `None` while somebody else holds the lock.
    pub(crate) fn try_take(fd: &Fd, path: &Path) -> io::Result<Option<InodeLock>> {
        let file = Self::reopen(fd, path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(InodeLock { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    fn reopen(fd: &Fd, path: &Path) -> io::Result<Fd> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let proc = format!("/proc/self/fd/{}", fd.as_raw_fd());
        match Fd::open(|| rustix::fs::open(proc, flags, Mode::empty())) {
            Err(Errno::NOENT) => {
                let file = open(path)?;
                if info(&file)?.id == info(fd)?.id { Ok(file) } else { Err(Errno::STALE.into()) }
            }
            done => Ok(done?),
        }
    }
}

/// Locks the inode through this very description, until it is closed, unless somebody else holds the
/// lock. Only for one that nobody else in this process has: it would not keep them out.
pub(crate) fn try_lock_whole(fd: &Fd) -> io::Result<bool> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

fn lock_whole(fd: &Fd) -> io::Result<()> {
    loop {
        match rustix::fs::flock(fd, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Removes the temporary file at `path` if its creator is gone: nobody holds its lock, and no process
/// of the number in its name is to be seen from here.
pub(crate) fn sweep_temporary(entry: &str) -> io::Result<bool> {
    let pid = entry.strip_prefix(TEMP_PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
    let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { return Ok(false) };
    if rustix::process::test_kill_process(pid) != Err(Errno::SRCH) {
        return Ok(false);
    }
    let path = shm_path(entry);
    let file = open(&path)?;
    let Some(_lock) = InodeLock::try_take(&file, &path)? else { return Ok(false) };
    unlink(&path).map(|()| true)
}

/// Opens a directory entry list; names only.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// 64 random bits from the system.
pub(crate) fn random() -> io::Result<u64> {
    getrandom::u64().map_err(|err| io::Error::other(err.to_string()))
}
