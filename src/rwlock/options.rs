//! What a lock is to be like, and how its name is found.

use super::core::{Core, bury};
use super::handle::RwLock;
use crate::error::OpenError;
use crate::layout::{FLAG_EPHEMERAL, Kind, LockArea, PARAMS};
use crate::name::Name;
use crate::notify::find::{How, Wanted, too_small};
use crate::region::Spec;
use std::sync::Arc;

/// What a lock is to be like; see [`RwLock::options`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RwLockOptions {
    mode: u32,
    ephemeral: bool,
}

impl Default for RwLockOptions {
    fn default() -> Self {
        RwLockOptions { mode: 0o600, ephemeral: false }
    }
}

impl RwLockOptions {
    /// Permission bits of the file, whatever the umask (default 0600). Only the owner and root can
    /// attach in any case.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The last one out removes the lock; when all died, the next opener or [`gc`](crate::gc) does.
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// Makes a new lock over `len` zero bytes.
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyExists`] when the name is taken; faults for a bad name, a bad mode or a full
    /// `/dev/shm`.
    pub fn create(self, name: &str, len: usize) -> Result<RwLock, OpenError> {
        self.find(name, len, How::Create)
    }

    /// Opens a lock that exists, with all its bytes. Mode and ephemeral are what its creator chose.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`]; faults for another kind of object, another layout version, damage,
    /// another owner, and [`TooManyAttached`](crate::FaultKind::TooManyAttached) for the 49th handle.
    pub fn open(self, name: &str) -> Result<RwLock, OpenError> {
        self.find(name, 0, How::Open)
    }

    /// Opens the lock, or makes it when there is none.
    ///
    /// # Errors
    ///
    /// As [`RwLockOptions::create`] and [`RwLockOptions::open`], but for the two about existence; a
    /// fault when it exists over fewer than `len` bytes.
    pub fn open_or_create(self, name: &str, len: usize) -> Result<RwLock, OpenError> {
        self.find(name, len, How::OpenOrCreate)
    }

    fn find(&self, name: &str, len: usize, how: How) -> Result<RwLock, OpenError> {
        let name = Name::new(name)?;
        let spec = Spec {
            kind: Kind::Lock,
            kind_len: size_of::<LockArea>(),
            meta_len: 0,
            payload_len: len as u64,
            params: [0; PARAMS],
            flags: if self.ephemeral { FLAG_EPHEMERAL } else { 0 },
            mode: self.mode,
        };
        let endpoint =
            Wanted { name: &name, how, spec: &spec, bury, lay_out: |_| () }.attach(|region| {
                let has = region.constants().payload_len;
                match has < len as u64 {
                    true => Err(too_small(region, "a length of", len as u64, has)),
                    false => Ok(()),
                }
            })?;
        Ok(RwLock::of(Arc::new(Core::new(endpoint)?)))
    }
}
