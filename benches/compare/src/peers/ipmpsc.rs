//! ipmpsc: a ring in a file under a process-shared mutex and condition; bytes by serde_bytes.

use ipmpsc::{Receiver, Sender, SharedRingBuffer};
use serde_bytes::Bytes;

use crate::link::{Link, Place, Res};

/// Both directions.
pub struct Ipmpsc {
    out: Sender,
    back: Receiver,
}

fn path(place: &Place, way: &str) -> Res<String> {
    Ok(place.path(way).to_str().ok_or("the path is not text")?.to_owned())
}

impl Link for Ipmpsc {
    const LENDS: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        let size = u32::try_from(place.capacity)?;
        let out = SharedRingBuffer::create(&path(place, "down")?, size)?;
        let back = SharedRingBuffer::create(&path(place, "up")?, size)?;
        place.start(&[])?;
        Ok(Self { out: Sender::new(out), back: Receiver::new(back) })
    }

    async fn child(place: &Place) -> Res<Self> {
        let (down, up) = (path(place, "down")?, path(place, "up")?);
        let (back, out) = (SharedRingBuffer::open(&down)?, SharedRingBuffer::open(&up)?);
        std::fs::remove_file(down)?;
        std::fs::remove_file(up)?;
        Ok(Self { out: Sender::new(out), back: Receiver::new(back) })
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        Ok(self.out.send(&Bytes::new(message))?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let mut context = self.back.zero_copy_context();
        see(context.recv::<&Bytes>()?);
        Ok(1)
    }
}
