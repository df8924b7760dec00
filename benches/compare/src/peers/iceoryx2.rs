//! iceoryx2 publish-subscribe, copying in; an event service wakes the reader, or it spins.

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::link::{Link, Place, Res, until_there};

/// Samples of one direction: what fits the usual capacity, within iceoryx2's sensible range.
fn depth(place: &Place) -> usize {
    (place.capacity / place.size).clamp(4, 1024)
}

/// Both directions; `BUSY` never sends or awaits an event.
pub struct Iceoryx2<const BUSY: bool> {
    _node: Node<ipc::Service>,
    out: Publisher<ipc::Service, [u8], ()>,
    wake: Notifier<ipc::Service>,
    back: Subscriber<ipc::Service, [u8], ()>,
    woken: Listener<ipc::Service>,
}

impl<const BUSY: bool> Iceoryx2<BUSY> {
    fn open(place: &Place, out: &str, back: &str) -> Res<Self> {
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let data = |way: &str| -> Res<_> {
            let name: ServiceName = format!("{}/{way}", place.name).as_str().try_into()?;
            Ok(node
                .service_builder(&name)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .max_publishers(1)
                .max_subscribers(1)
                .subscriber_max_buffer_size(depth(place))
                .open_or_create()?)
        };
        let event = |way: &str| -> Res<_> {
            let name: ServiceName = format!("{}/{way}-event", place.name).as_str().try_into()?;
            Ok(node.service_builder(&name).event().open_or_create()?)
        };
        Ok(Self {
            out: data(out)?
                .publisher_builder()
                .initial_max_slice_len(place.size)
                .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
                .create()?,
            wake: event(out)?.notifier_builder().create()?,
            back: data(back)?.subscriber_builder().create()?,
            woken: event(back)?.listener_builder().create()?,
            _node: node,
        })
    }
}

impl<const BUSY: bool> Link for Iceoryx2<BUSY> {
    const LENDS: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        let this = Self::open(place, "down", "up")?;
        place.start(&[])?;
        // A message sent before the other side has subscribed would go nowhere.
        until_there(|| {
            this.wake.notify().map_err(|e| std::io::Error::other(format!("{e:?}"))).and_then(|n| {
                if n > 0 { Ok(()) } else { Err(std::io::Error::other("nobody listens yet")) }
            })
        })?;
        Ok(this)
    }

    async fn child(place: &Place) -> Res<Self> {
        Self::open(place, "up", "down")
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        self.out.loan_slice_uninit(message.len())?.write_from_slice(message).send()?;
        if !BUSY {
            self.wake.notify()?;
        }
        Ok(())
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        loop {
            if let Some(sample) = self.back.receive()? {
                see(sample.payload());
                return Ok(1);
            }
            if BUSY {
                std::hint::spin_loop();
            } else {
                self.woken.blocking_wait(|_| ())?;
            }
        }
    }
}
