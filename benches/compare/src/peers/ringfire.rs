//! ringfire: a ring of values with a sequence number per slot; waits by futex, by spinning, or
//! in tokio by a timer of 50 us. Lossless mode, one registered reader.

use ringfire::{
    AsyncRingConsumer, BusySpin, CleanupMode, FlowControl, FutexWait, RingConsumer, RingProducer,
    RingProducerBuilder,
};

use crate::link::{Link, Place, Res, Runtime, until_there};

fn create<const N: usize>(place: &Place, way: &str) -> Res<RingProducer<[u8; N]>> {
    Ok(RingProducerBuilder::new((place.capacity / N) as u64)
        .flow_control(FlowControl::LosslessBackpressure)
        .cleanup_mode(CleanupMode::UnlinkOnDrop)
        .build(place.path(way))?)
}

fn attach<const N: usize>(place: &Place, way: &str) -> Res<RingConsumer<[u8; N]>> {
    until_there(|| RingConsumer::builder().start_from_oldest().attach(place.path(way)))
}

/// Both directions of messages of `N` bytes.
pub struct Ringfire<const N: usize, const BUSY: bool> {
    out: RingProducer<[u8; N]>,
    back: RingConsumer<[u8; N]>,
    spin: BusySpin,
    sleep: FutexWait,
}

impl<const N: usize, const BUSY: bool> Ringfire<N, BUSY> {
    fn join(place: &Place, out: RingProducer<[u8; N]>, back: &str) -> Res<Self> {
        let back = attach(place, back)?;
        Ok(Self { out, back, spin: BusySpin::new(), sleep: FutexWait::default() })
    }
}

impl<const N: usize, const BUSY: bool> Link for Ringfire<N, BUSY> {
    async fn parent(place: &Place) -> Res<Self> {
        let out = create(place, "down")?;
        place.start(&[])?;
        Self::join(place, out, "up")
    }

    async fn child(place: &Place) -> Res<Self> {
        let out = create(place, "up")?;
        Self::join(place, out, "down")
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        self.out.push(message.try_into()?);
        Ok(())
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let value = if BUSY {
            self.back.recv_blocking(&mut self.spin)
        } else {
            self.back.recv_blocking(&mut self.sleep)
        };
        see(&value);
        Ok(1)
    }
}

/// The same ring read by ringfire's tokio wrapper.
pub struct RingfireAsync<const N: usize> {
    out: RingProducer<[u8; N]>,
    back: AsyncRingConsumer<[u8; N]>,
}

impl<const N: usize> Link for RingfireAsync<N> {
    const RUNTIME: Runtime = Runtime::Tokio;

    async fn parent(place: &Place) -> Res<Self> {
        let out = create(place, "down")?;
        place.start(&[])?;
        Ok(Self { out, back: AsyncRingConsumer::from_consumer(attach(place, "up")?) })
    }

    async fn child(place: &Place) -> Res<Self> {
        let out = create(place, "up")?;
        Ok(Self { out, back: AsyncRingConsumer::from_consumer(attach(place, "down")?) })
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        self.out.push(message.try_into()?);
        Ok(())
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        see(&self.back.recv().await);
        Ok(1)
    }
}
