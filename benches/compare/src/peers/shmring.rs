//! shmring: a named byte ring that wakes by futex. The cells frame by the fixed size.

use std::io::{Read, Write};

use shmring::backend::ShmStorage;
use shmring::{Options, Reader, Writer, create_shm, open_shm};

use crate::link::{Link, Place, Res, until_there};

/// Both directions.
pub struct ShmRing {
    out: Writer<ShmStorage>,
    back: Reader<ShmStorage>,
    buf: Vec<u8>,
}

impl ShmRing {
    fn join(place: &Place, out: Writer<ShmStorage>, back: &str) -> Res<Self> {
        let (name, capacity) = (format!("{}-{back}", place.name), place.capacity as u64);
        let back = until_there(|| open_shm(&name, capacity, Options::default()))?;
        Ok(Self { out, back, buf: vec![0; place.size] })
    }

    fn create(place: &Place, out: &str) -> Res<Writer<ShmStorage>> {
        let name = format!("{}-{out}", place.name);
        Ok(create_shm(&name, place.capacity as u64, Options::default())?)
    }
}

impl Link for ShmRing {
    async fn parent(place: &Place) -> Res<Self> {
        let out = Self::create(place, "down")?;
        place.start(&[])?;
        Self::join(place, out, "up")
    }

    async fn child(place: &Place) -> Res<Self> {
        let out = Self::create(place, "up")?;
        Self::join(place, out, "down")
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        Ok(self.out.write_all(message)?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        self.back.read_exact(&mut self.buf)?;
        see(&self.buf);
        Ok(1)
    }
}
