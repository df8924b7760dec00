//! The sleeping ping-pong: one eventfd per direction, nothing else.
//!
//! [`Blocking`] reads the eventfd. [`Async`] is the least that tokio can do: the eventfd is
//! registered once, edge-triggered, and never read.

use std::os::fd::{OwnedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::link::{Link, Place, Res, Runtime};
use crate::os;

/// Makes both eventfds and starts the child: (ours to ring, ours to wait on).
fn pair(place: &Place, nonblocking: bool) -> Res<(OwnedFd, OwnedFd)> {
    let (out, back) = (os::eventfd(nonblocking)?, os::eventfd(nonblocking)?);
    place.start(&[os::inherit(&out)?.to_string(), os::inherit(&back)?.to_string()])?;
    Ok((out, back))
}

/// The same two from the child's side.
fn taken(place: &Place) -> Res<(OwnedFd, OwnedFd)> {
    Ok((os::inherited(place.extra::<RawFd>(1)?), os::inherited(place.extra::<RawFd>(0)?)))
}

/// A thread that blocks in `read`.
pub struct Blocking {
    out: OwnedFd,
    back: OwnedFd,
}

impl Link for Blocking {
    const SIGNAL_ONLY: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        let (out, back) = pair(place, false)?;
        Ok(Self { out, back })
    }

    async fn child(place: &Place) -> Res<Self> {
        let (out, back) = taken(place)?;
        Ok(Self { out, back })
    }

    async fn send(&mut self, _message: &[u8]) -> Res<()> {
        Ok(os::ring(&self.out)?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        os::wait(&self.back)?;
        see(&[]);
        Ok(1)
    }
}

/// A tokio task that waits for the edge.
pub struct Async {
    out: OwnedFd,
    back: AsyncFd<OwnedFd>,
}

impl Async {
    fn new((out, back): (OwnedFd, OwnedFd)) -> Res<Self> {
        // SAFETY: the AsyncFd owns the eventfd and deregisters it before closing; nobody replaces it.
        let back = unsafe { AsyncFd::register_with_interest(back, Interest::READABLE) };
        Ok(Self { out, back: back.map_err(|e| e.into_parts().1)? })
    }
}

impl Link for Async {
    const RUNTIME: Runtime = Runtime::Tokio;
    const SIGNAL_ONLY: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        Self::new(pair(place, true)?)
    }

    async fn child(place: &Place) -> Res<Self> {
        Self::new(taken(place)?)
    }

    async fn send(&mut self, _message: &[u8]) -> Res<()> {
        Ok(os::ring(&self.out)?)
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        self.back.readable().await?.clear_ready();
        see(&[]);
        Ok(1)
    }
}
