//! The lock, blocking and awaited.

use ringspan::{LockError, RwLock};

use crate::alone::ReadWrite;
use crate::link::{Place, Res, Runtime};
use crate::turns::{GUARDED, Lock};

fn open(place: &Place) -> Res<RwLock> {
    let name = format!("/{}-lock", place.name);
    Ok(RwLock::options().ephemeral(true).open_or_create(&name, GUARDED)?)
}

/// `blocking_read` and `blocking_write`.
pub struct Blocking(RwLock);

impl ReadWrite for Blocking {
    fn new(place: &Place) -> Res<Self> {
        open(place).map(Self)
    }

    #[inline]
    fn read(&self) -> Res<u8> {
        Ok(self.0.blocking_read(None).map_err(LockError::into_fault)?[0])
    }

    #[inline]
    fn write(&self) -> Res<()> {
        let mut bytes = self.0.blocking_write(None).map_err(LockError::into_fault)?;
        bytes[0] = bytes[0].wrapping_add(1);
        Ok(())
    }
}

impl Lock for Blocking {
    fn open(place: &Place, _parent: bool) -> Res<Self> {
        open(place).map(Self)
    }

    #[inline(always)]
    async fn with<R>(&mut self, work: impl FnOnce(&mut [u8]) -> R) -> Res<R> {
        let mut bytes = self.0.blocking_write(None).map_err(LockError::into_fault)?;
        Ok(work(&mut bytes))
    }
}

/// `write().await`.
pub struct Async(RwLock);

impl Lock for Async {
    const RUNTIME: Runtime = Runtime::Tokio;

    fn open(place: &Place, _parent: bool) -> Res<Self> {
        open(place).map(Self)
    }

    #[inline(always)]
    async fn with<R>(&mut self, work: impl FnOnce(&mut [u8]) -> R) -> Res<R> {
        let mut bytes = self.0.write().await.map_err(LockError::into_fault)?;
        Ok(work(&mut bytes))
    }
}
