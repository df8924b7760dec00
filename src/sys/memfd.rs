//! Sealed memory without a name (memfd_create(2)): what two processes map that do not trust each
//! other's care. The seals keep the file at its length, so no access beyond its end, and no SIGBUS,
//! can be made by shrinking it under a mapping.

use crate::sys::fd::Fd;
use crate::sys::file;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::io;

/// Neither shorter nor longer, and no further seals.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
/// What statfs(2) says of memory in pages of the usual size.
const TMPFS: u64 = 0x0102_1994;

/// Makes `len` bytes of zeros, sealed. The memory is taken page by page, at the first touch.
pub(crate) fn create(len: u64) -> io::Result<Fd> {
    let plain = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let make = |flags| Fd::open(|| rustix::fs::memfd_create("ringspan", flags));
    let fd = match make(plain | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => make(plain)?, // before Linux 6.3
        made => made?,
    };
    rustix::fs::ftruncate(&fd, len)?;
    rustix::fs::fcntl_add_seals(&fd, SEALS)?;
    Ok(fd)
}

/// What a receiver looks at before it maps what a peer sent: a regular file of ordinary memory whose
/// length is sealed. Returns the length; whether it is the one that was agreed on is for the caller.
///
/// Huge pages are refused: they can run out under a mapping, and that is a SIGBUS.
pub(crate) fn check(fd: &Fd) -> io::Result<u64> {
    let refuse = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let seals = match rustix::fs::fcntl_get_seals(fd) {
        Ok(seals) => seals,
        Err(Errno::INVAL) => return refuse("not a file that can be sealed"),
        Err(err) => return Err(err.into()),
    };
    if !seals.contains(SEALS) {
        return refuse("the length of the file is not sealed");
    }
    let info = file::info(fd)?;
    if !info.regular {
        return refuse("not a regular file");
    }
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
    if rustix::fs::fstatfs(fd)?.f_type as u64 != TMPFS {
        return refuse("not ordinary memory");
    }
    Ok(info.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::doorbell::Doorbell;
    use rustix::io::FdFlags;

    fn memfd(flags: MemfdFlags) -> Fd {
        let fd =
            Fd::open(|| rustix::fs::memfd_create("test", flags | MemfdFlags::CLOEXEC)).unwrap();
        rustix::fs::ftruncate(&fd, 8192).unwrap();
        fd
    }

    #[test]
    fn what_is_made_passes_the_check_and_keeps_its_length() {
        let fd = create(12_288).unwrap();
        assert_eq!(check(&fd).unwrap(), 12_288);
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
        for len in [0, 4096, 12_287, 12_289, 1 << 20] {
            assert_eq!(rustix::fs::ftruncate(&fd, len), Err(Errno::PERM));
        }
        assert_eq!(rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE), Err(Errno::PERM));
        file::write_at(&fd, 12_280, b"the end.").unwrap();
        assert_eq!(check(&create(0).unwrap()).unwrap(), 0);
    }

    #[test]
    fn whatever_could_shrink_is_refused() {
        let unsealable = memfd(MemfdFlags::empty());
        assert_eq!(check(&unsealable).unwrap_err().kind(), io::ErrorKind::InvalidData);
        for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
            let fd = memfd(MemfdFlags::ALLOW_SEALING);
            assert!(check(&fd).is_err());
            rustix::fs::fcntl_add_seals(&fd, SEALS.difference(missing)).unwrap();
            let err = check(&fd).unwrap_err();
            assert_eq!(err.to_string(), "the length of the file is not sealed");
        }
    }

    #[test]
    fn other_files_are_refused() {
        let bell = Doorbell::new().unwrap();
        assert!(check(bell.for_waker()).is_err());
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let open = |path| Fd::open(|| rustix::fs::open(path, flags, rustix::fs::Mode::empty()));
        assert!(check(&open("/dev/null").unwrap()).is_err());
        let unborn = file::Unborn::new(4096, 0o600).unwrap();
        let err = check(unborn.fd()).unwrap_err(); // of the same file system, but it can be cut
        assert_eq!(err.kind(), io::ErrorKind::InvalidData);
        // Where there are no huge pages, none can be made.
        let huge = MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        if let Ok(fd) = Fd::open(|| rustix::fs::memfd_create("huge", huge)) {
            rustix::fs::fcntl_add_seals(&fd, SEALS).unwrap();
            assert_eq!(check(&fd).unwrap_err().to_string(), "not ordinary memory");
        }
    }
}
