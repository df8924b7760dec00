//! Messages of 1 MiB through a ring of 8 MiB: copied, made in place, or not touched at all.
//!
//! Only the child streams; what the parent sends are the few words that ask for it.

use crate::link::{Link, Place, Res, Runtime};
use crate::memory::{fill, sum, sum_of_fill};
use crate::ours::link::{ENDED, Ends};

/// `reserve` and one copy in, `copy_to` and one copy out.
pub struct Copied {
    ends: Ends,
    sink: Vec<u8>,
}

impl Link for Copied {
    const RUNTIME: Runtime = Runtime::Tokio;

    async fn parent(place: &Place) -> Res<Self> {
        Ok(Self { ends: Ends::parent(place, true)?, sink: vec![0; place.size] })
    }

    async fn child(place: &Place) -> Res<Self> {
        Ok(Self { ends: Ends::child(place, true)?, sink: vec![0; place.size] })
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        let mut grant = self.ends.tx.reserve(message.len()).await?;
        grant.copy_from_slice(message);
        grant.commit(message.len());
        Ok(())
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let message = self.ends.rx.pop().await?.ok_or(ENDED)?;
        message.copy_to(&mut self.sink);
        see(&self.sink);
        Ok(1)
    }

    fn parks(&self) -> Option<u64> {
        Some(self.ends.rx.stat().parks)
    }
}

/// Filled in the ring by one side, summed in the ring by the other; each sum is compared.
pub struct InPlace {
    ends: Ends,
    parent: bool,
}

impl Link for InPlace {
    const RUNTIME: Runtime = Runtime::Tokio;

    async fn parent(place: &Place) -> Res<Self> {
        Ok(Self { ends: Ends::parent(place, true)?, parent: true })
    }

    async fn child(place: &Place) -> Res<Self> {
        Ok(Self { ends: Ends::child(place, true)?, parent: false })
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        if self.parent {
            return Ok(self.ends.tx.push(message).await?);
        }
        let (number, _) = message.split_first_chunk().ok_or("a message without a number")?;
        let mut grant = self.ends.tx.reserve(message.len()).await?;
        fill(&mut grant, u64::from_le_bytes(*number));
        grant.commit(message.len());
        Ok(())
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let message = self.ends.rx.pop().await?.ok_or(ENDED)?;
        if self.parent {
            let (number, _) = message.split_first_chunk().ok_or("a message without a number")?;
            if sum(&message) != sum_of_fill(message.len(), u64::from_le_bytes(*number)) {
                return Err("the sum of a message is not the sum of what was filled in".into());
            }
        }
        see(&message);
        Ok(1)
    }

    fn parks(&self) -> Option<u64> {
        Some(self.ends.rx.stat().parks)
    }
}

/// Room is lent and the message is lent; only its number is written and read.
pub struct Untouched {
    ends: Ends,
    parent: bool,
}

impl Link for Untouched {
    const RUNTIME: Runtime = Runtime::Tokio;

    async fn parent(place: &Place) -> Res<Self> {
        Ok(Self { ends: Ends::parent(place, true)?, parent: true })
    }

    async fn child(place: &Place) -> Res<Self> {
        Ok(Self { ends: Ends::child(place, true)?, parent: false })
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        let mut grant = self.ends.tx.reserve(message.len()).await?;
        // What the parent asks for is longer than a number.
        let touched = if self.parent { 16 } else { 8 };
        grant[..touched].copy_from_slice(&message[..touched]);
        grant.commit(message.len());
        Ok(())
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        see(&self.ends.rx.pop().await?.ok_or(ENDED)?);
        Ok(1)
    }

    fn parks(&self) -> Option<u64> {
        Some(self.ends.rx.stat().parks)
    }
}
