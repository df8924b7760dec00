//! Descriptors that belong to one process: a forked child closes its copies at once and never
//! closes a number twice.
//!
//! A copy of a door or a connection in a forked child would make a dead parent look alive, and a
//! copy of an epoll set keeps reporting. So every descriptor is entered in a table under a lock that
//! `fork` takes too (`pthread_atfork`), and the child's handler closes what the table holds. The
//! child's handles notice by the fork count.

#![allow(unsafe_code, reason = "pthread_atfork and closing by number in a forked child")]

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use rustix::fs::{Mode, OFlags};
use std::cell::UnsafeCell;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Once;

#[derive(Debug)]
struct Table {
    /// Bit `n` is set while descriptor `n` is ours.
    ours: Vec<u64>,
    /// One descriptor kept for the moment when there are no others. Here, because a lock of its own
    /// could be held by another thread when the process forks.
    spare: Option<OwnedFd>,
}

impl Table {
    /// Notes that a descriptor is ours.
    fn enter(&mut self, fd: OwnedFd) -> Fd {
        let number = fd.as_raw_fd() as usize;
        if self.ours.len() <= number / 64 {
            self.ours.resize(number / 64 + 1, 0);
        }
        self.ours[number / 64] |= 1 << (number % 64);
        Fd { fd: ManuallyDrop::new(fd), forks: fork_count() }
    }
}

static TABLE: Mutex<Table> = Mutex::new(Table { ours: Vec::new(), spare: None });
/// How many forks lie between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// The guard of [`TABLE`] while a fork is under way.
static HELD: Held = Held(UnsafeCell::new(None));

struct Held(UnsafeCell<Option<MutexGuard<'static, Table>>>);
// SAFETY: touched only by the thread that is forking, while it holds the table's lock (which is
// what it stores here), and by the child's only thread. No other process reaches our heap.
unsafe impl Sync for Held {}

extern "C" fn before_fork() {
    let guard = lock(&TABLE);
    // SAFETY: we hold the table's lock, see `Held`.
    unsafe { *HELD.0.get() = Some(guard) };
}

extern "C" fn after_fork_in_parent() {
    // SAFETY: still the forking thread, see `Held`.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn after_fork_in_child() {
    // SAFETY: the only thread of the child, the copy of the one that took the lock.
    let Some(mut table) = (unsafe { (*HELD.0.get()).take() }) else { return };
    FORKS.fetch_add(1, Ordering::SeqCst);
    table.spare = None; // closes our copy; the next attach makes another
    for (index, word) in table.ours.iter_mut().enumerate() {
        while *word != 0 {
            let bit = word.trailing_zeros();
            *word &= *word - 1;
            let number = index * 64 + bit as usize;
            // SAFETY: the table says that the number is a descriptor of ours; the handles that own
            // it see the new fork count and never use or close it again.
            unsafe { libc::close(number as RawFd) };
        }
    }
}

/// How many forks this process is away from the first one; a handle made under another count is
/// inherited and must not be used.
#[inline]
pub(crate) fn fork_count() -> u64 {
    FORKS.load(Ordering::Relaxed) // Relaxed: changes only inside fork, before the child runs
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: three plain functions that live as long as the program.
        unsafe {
            libc::pthread_atfork(
                Some(before_fork),
                Some(after_fork_in_parent),
                Some(after_fork_in_child),
            )
        };
    });
}

/// Makes sure that there is a spare descriptor, if there can be one.
pub(crate) fn keep_spare() {
    let _ = take_spare();
}

/// The same for one who must have it.
pub(crate) fn take_spare() -> io::Result<()> {
    install();
    let mut table = lock(&TABLE);
    if table.spare.is_none() {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        table.spare = Some(rustix::fs::open("/dev/null", flags, Mode::empty())?);
    }
    Ok(())
}

/// Runs `f` with the spare descriptor free for it, and takes a new spare afterwards. `f` must close
/// what it opens.
pub(crate) fn with_spare<T>(f: impl FnOnce() -> T) -> T {
    lock(&TABLE).spare = None;
    let result = f();
    keep_spare();
    result
}

/// An owned descriptor that a forked child drops.
#[derive(Debug)]
pub(crate) struct Fd {
    fd: ManuallyDrop<OwnedFd>,
    forks: u64,
}

impl Fd {
    /// Opens a descriptor with no fork between the call and its entry in the table. `open` must not
    /// wait: every fork of the process waits for it.
    pub(crate) fn open<E>(open: impl FnOnce() -> Result<OwnedFd, E>) -> Result<Fd, E> {
        install();
        let mut table = lock(&TABLE);
        open().map(|fd| table.enter(fd))
    }

    /// The same for a call that makes several at once.
    pub(crate) fn open_all<E>(
        open: impl FnOnce() -> Result<Vec<OwnedFd>, E>,
    ) -> Result<Vec<Fd>, E> {
        install();
        let mut table = lock(&TABLE);
        open().map(|fds| fds.into_iter().map(|fd| table.enter(fd)).collect())
    }

    /// A duplicate, close-on-exec.
    pub(crate) fn duplicate(&self) -> io::Result<Fd> {
        Fd::open(|| self.fd.try_clone())
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        if self.forks != fork_count() {
            return; // closed in this process by the fork handler; the number may be somebody else's
        }
        let mut table = lock(&TABLE);
        let number = self.fd.as_raw_fd() as usize;
        if let Some(word) = table.ours.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
        // SAFETY: dropped once, here; the table's lock keeps a fork from seeing half of it.
        unsafe { ManuallyDrop::drop(&mut self.fd) };
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child has no use for the parent's spare, and must get one of its own.
    #[test]
    fn a_forked_child_keeps_its_own_spare() {
        keep_spare();
        // SAFETY: the child takes the table's lock, which the handlers keep whole, makes plain
        // system calls and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let closed = lock(&TABLE).spare.is_none();
            keep_spare();
            let made = lock(&TABLE).spare.is_some();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { libc::_exit(i32::from(!(closed && made))) };
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: our own child and a place for its status.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
        assert!(lock(&TABLE).spare.is_some());
    }
}
