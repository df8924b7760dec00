//! POSIX: a reader-writer lock in shared memory, with PTHREAD_PROCESS_SHARED. Whoever dies in it
//! keeps it for ever.

use std::io;

use crate::link::{Place, Res};
use crate::os;
use crate::turns::{GUARDED, Lock};

const BYTES: usize = 256;

/// The lock at the start of a page, the bytes behind it.
pub struct RwLock(*mut u8);

fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(status)) }
}

impl RwLock {
    fn lock(&self) -> *mut libc::pthread_rwlock_t {
        self.0.cast()
    }

    /// Makes the lock in a page that nobody else uses yet.
    fn make(&self) -> Res<()> {
        let mut attributes = std::mem::MaybeUninit::uninit();
        // SAFETY: the attributes are initialised by the first call; the page is mapped, aligned and
        // zero, and the child is started later.
        unsafe {
            check(libc::pthread_rwlockattr_init(attributes.as_mut_ptr()))?;
            let shared = libc::PTHREAD_PROCESS_SHARED;
            check(libc::pthread_rwlockattr_setpshared(attributes.as_mut_ptr(), shared))?;
            check(libc::pthread_rwlock_init(self.lock(), attributes.as_ptr()))?;
        }
        Ok(())
    }
}

impl Lock for RwLock {
    fn open(place: &Place, parent: bool) -> Res<Self> {
        const { assert!(size_of::<libc::pthread_rwlock_t>() <= BYTES) };
        let lock = Self(os::map(&place.shared("lock", 4096, parent)?, 4096)?);
        if parent {
            lock.make()?;
        }
        Ok(lock)
    }

    #[inline(always)]
    async fn with<R>(&mut self, work: impl FnOnce(&mut [u8]) -> R) -> Res<R> {
        // SAFETY: the lock was made in `open` and stays mapped; its holder alone has the bytes.
        unsafe {
            check(libc::pthread_rwlock_wrlock(self.lock()))?;
            let done = work(std::slice::from_raw_parts_mut(self.0.add(BYTES), GUARDED));
            check(libc::pthread_rwlock_unlock(self.lock()))?;
            Ok(done)
        }
    }
}
