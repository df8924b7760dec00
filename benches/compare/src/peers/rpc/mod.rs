//! Calls over a Unix socket: tarpc, tonic, and what one writes by hand.

mod frames;
mod hand;
mod tarpc;
mod tonic;

use std::os::unix::net::UnixListener as Listener;

use tokio::net::{UnixListener, UnixStream};

use crate::calls::calls;
use crate::cells::{Cell, Subject};
use crate::link::{Place, Res};
use crate::os;

/// Adds every cell of calls.
pub fn cells(cells: &mut Vec<Cell>) {
    let peer = |name, waits| Subject { name, class: "peer", waits };
    calls::<tarpc::Tarpc>(cells, peer("tarpc", "tokio"), 1);
    calls::<tonic::Tonic>(cells, peer("tonic", "tokio"), 1);
    calls::<hand::Hand<false>>(cells, peer("by-hand-inline", "tokio"), 1);
    calls::<hand::Hand<true>>(cells, peer("by-hand-spawned", "tokio"), 1);
}

/// In the parent: listens on a socket that the child inherits and starts it. One may connect at
/// once: the kernel keeps the connection until the child accepts.
fn listen(place: &Place) -> Res<()> {
    let listener = Listener::bind(place.path("sock"))?;
    place.start(&[os::inherit(&listener)?.to_string()])
}

/// Connects, and takes the name of the socket away.
async fn connect(place: &Place) -> Res<UnixStream> {
    listen(place)?;
    let stream = UnixStream::connect(place.path("sock")).await?;
    std::fs::remove_file(place.path("sock"))?;
    Ok(stream)
}

/// In the child: the socket that it inherited.
fn inherited(place: &Place) -> Res<UnixListener> {
    let listener: Listener = os::inherited(place.extra(0)?);
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}
