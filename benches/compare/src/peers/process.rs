//! Locks of one process: they share no memory with another one, and no crash concerns them.

use crate::alone::ReadWrite;
use crate::link::{Place, Res};

/// parking_lot's.
pub struct Parking(parking_lot::RwLock<[u8; 64]>);

impl ReadWrite for Parking {
    fn new(_place: &Place) -> Res<Self> {
        Ok(Self(parking_lot::RwLock::new([0; 64])))
    }

    #[inline]
    fn read(&self) -> Res<u8> {
        Ok(self.0.read()[0])
    }

    #[inline]
    fn write(&self) -> Res<()> {
        let mut bytes = self.0.write();
        bytes[0] = bytes[0].wrapping_add(1);
        Ok(())
    }
}

/// The standard library's.
pub struct Std(std::sync::RwLock<[u8; 64]>);

impl ReadWrite for Std {
    fn new(_place: &Place) -> Res<Self> {
        Ok(Self(std::sync::RwLock::new([0; 64])))
    }

    #[inline]
    fn read(&self) -> Res<u8> {
        Ok(self.0.read().map_err(|_| "poisoned")?[0])
    }

    #[inline]
    fn write(&self) -> Res<()> {
        let mut bytes = self.0.write().map_err(|_| "poisoned")?;
        bytes[0] = bytes[0].wrapping_add(1);
        Ok(())
    }
}
