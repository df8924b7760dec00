//! Two rings, one per direction, through the awaited, the blocking and the batched verbs.
//!
//! `AWAKE` true is ringspan as it comes; false asks it to park at once (`spin` of nothing).

use std::time::Duration;

use ringspan::{Consumer, Producer, Ring};

use crate::link::{Link, Place, Res, Runtime};

/// Both ends that one process holds.
pub struct Ends {
    pub tx: Producer,
    pub rx: Consumer,
}

impl Ends {
    /// Creates both rings, starts the child.
    pub fn parent(place: &Place, awake: bool) -> Res<Self> {
        let ends = Self::open(place, awake, "down", "up")?;
        place.start(&[])?;
        Ok(ends)
    }

    /// Opens what the parent made.
    pub fn child(place: &Place, awake: bool) -> Res<Self> {
        Self::open(place, awake, "up", "down")
    }

    fn open(place: &Place, awake: bool, out: &str, back: &str) -> Res<Self> {
        let ring = |way: &str| {
            let mut options = Ring::options().capacity(place.capacity as u64).ephemeral(true);
            if !awake {
                options = options.spin(Duration::ZERO);
            }
            options.open_or_create(&format!("/{}-{way}", place.name))
        };
        Ok(Self { tx: ring(out)?.producer()?, rx: ring(back)?.consumer()? })
    }
}

/// What a stream that ends in the middle of a measurement means.
pub const ENDED: &str = "the other side ended the stream";

/// `push().await` and `pop().await`.
pub struct Async<const AWAKE: bool>(Ends);

impl<const AWAKE: bool> Link for Async<AWAKE> {
    const RUNTIME: Runtime = Runtime::Tokio;
    const LENDS: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        Ok(Self(Ends::parent(place, AWAKE)?))
    }

    async fn child(place: &Place) -> Res<Self> {
        Ok(Self(Ends::child(place, AWAKE)?))
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        Ok(self.0.tx.push(message).await?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        see(&self.0.rx.pop().await?.ok_or(ENDED)?);
        Ok(1)
    }

    fn parks(&self) -> Option<u64> {
        Some(self.0.rx.stat().parks)
    }
}

/// `blocking_push` and `blocking_pop`.
pub struct Blocking<const AWAKE: bool>(Ends);

impl<const AWAKE: bool> Link for Blocking<AWAKE> {
    const LENDS: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        Ok(Self(Ends::parent(place, AWAKE)?))
    }

    async fn child(place: &Place) -> Res<Self> {
        Ok(Self(Ends::child(place, AWAKE)?))
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        Ok(self.0.tx.blocking_push(message, None)?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        see(&self.0.rx.blocking_pop(None)?.ok_or(ENDED)?);
        Ok(1)
    }

    fn parks(&self) -> Option<u64> {
        Some(self.0.rx.stat().parks)
    }
}

/// How many messages share one call of `push_many` and, at most, of `pop_many`.
const MANY: usize = 64;

/// `push_many` and `pop_many`.
pub struct Many {
    ends: Ends,
    size: usize,
    held: Vec<u8>,
}

impl Many {
    fn new(ends: Ends, size: usize) -> Self {
        Self { ends, size, held: Vec::with_capacity(MANY * size) }
    }
}

impl Link for Many {
    const RUNTIME: Runtime = Runtime::Tokio;
    const LENDS: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        Ok(Self::new(Ends::parent(place, true)?, place.size))
    }

    async fn child(place: &Place) -> Res<Self> {
        Ok(Self::new(Ends::child(place, true)?, place.size))
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        self.held.extend_from_slice(message);
        if self.held.len() == MANY * self.size { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Res<()> {
        self.ends.tx.push_many(self.held.chunks_exact(self.size)).await?;
        self.held.clear();
        Ok(())
    }

    async fn recv(&mut self, most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let batch = self.ends.rx.pop_many((most as usize).min(MANY)).await?.ok_or(ENDED)?;
        for message in batch.iter() {
            see(message);
        }
        Ok(batch.len() as u64)
    }

    fn parks(&self) -> Option<u64> {
        Some(self.ends.rx.stat().parks)
    }
}
