//! The other libraries, one file each, behind [`crate::link::Link`], and other locks.
//!
//! Each is used the way its documentation shows, with one publication per message unless the
//! name says `batched`. `waits` tells what an empty queue costs: `tokio` sleeps in a tokio
//! reactor, `parks` blocks the thread in the kernel, `spins` burns a core, `polls` sleeps on a
//! timer.

mod fcntl;
mod framed;
#[cfg(feature = "iceoryx2")]
mod iceoryx2;
mod ipc_channel;
mod ipmpsc;
mod process;
mod pthread;
mod ringfire;
mod rpc;
mod shaq;
mod shmem_ipc;
mod shmring;
mod spin;

use crate::alone::alone;
use crate::cells::{BOTH, Cell, SIZES, Subject, streams, trips};
use crate::turns::turns;

/// Adds every cell of every peer.
pub fn cells(cells: &mut Vec<Cell>) {
    let peer = |name, waits| Subject { name, class: "peer", waits };

    let unix = peer("tokio-unix", "tokio");
    streams::<framed::Unix<1>>(cells, unix, &SIZES);
    trips::<framed::Unix<1>>(cells, unix, &BOTH, 1);
    // Delivers nothing before its buffer is full or flushed: for bulk only, so no round trip.
    streams::<framed::Unix<0>>(cells, peer("tokio-unix-batched", "batched"), &SIZES);

    let local = peer("interprocess", "tokio");
    streams::<framed::Local>(cells, local, &SIZES);
    trips::<framed::Local>(cells, local, &BOTH, 1);

    #[cfg(feature = "iceoryx2")]
    {
        let event = peer("iceoryx2-event", "parks");
        streams::<iceoryx2::Iceoryx2<false>>(cells, event, &SIZES);
        trips::<iceoryx2::Iceoryx2<false>>(cells, event, &BOTH, 1);
        let busy = peer("iceoryx2-busy", "spins");
        streams::<iceoryx2::Iceoryx2<true>>(cells, busy, &SIZES);
        trips::<iceoryx2::Iceoryx2<true>>(cells, busy, &BOTH[..1], 16);
    }

    let channel = peer("ipc-channel", "parks");
    streams::<ipc_channel::IpcChannel>(cells, channel, &SIZES);
    trips::<ipc_channel::IpcChannel>(cells, channel, &BOTH, 1);

    let shmem = peer("shmem-ipc", "parks");
    streams::<shmem_ipc::ShmemIpc<false>>(cells, shmem, &SIZES);
    trips::<shmem_ipc::ShmemIpc<false>>(cells, shmem, &BOTH, 1);
    let shmem = peer("shmem-ipc-busy", "spins");
    streams::<shmem_ipc::ShmemIpc<true>>(cells, shmem, &SIZES[..2]);
    trips::<shmem_ipc::ShmemIpc<true>>(cells, shmem, &BOTH[..1], 16);

    let shmring = peer("shmring", "parks");
    streams::<shmring::ShmRing>(cells, shmring, &SIZES);
    trips::<shmring::ShmRing>(cells, shmring, &BOTH, 1);

    // These two carry values of a size known at compile time.
    let futex = peer("shaq-futex", "parks");
    streams::<shaq::Shaq<64, false>>(cells, futex, &[64]);
    streams::<shaq::Shaq<1024, false>>(cells, futex, &[1024]);
    trips::<shaq::Shaq<64, false>>(cells, futex, &BOTH, 1);
    let busy = peer("shaq-busy", "spins");
    streams::<shaq::Shaq<64, true>>(cells, busy, &[64]);
    streams::<shaq::Shaq<1024, true>>(cells, busy, &[1024]);
    trips::<shaq::Shaq<64, true>>(cells, busy, &BOTH[..1], 64);

    let futex = peer("ringfire-futex", "parks");
    streams::<ringfire::Ringfire<64, false>>(cells, futex, &[64]);
    streams::<ringfire::Ringfire<1024, false>>(cells, futex, &[1024]);
    trips::<ringfire::Ringfire<64, false>>(cells, futex, &BOTH, 1);
    let busy = peer("ringfire-busy", "spins");
    streams::<ringfire::Ringfire<64, true>>(cells, busy, &[64]);
    streams::<ringfire::Ringfire<1024, true>>(cells, busy, &[1024]);
    trips::<ringfire::Ringfire<64, true>>(cells, busy, &BOTH[..1], 64);
    let polls = peer("ringfire-async", "polls");
    streams::<ringfire::RingfireAsync<64>>(cells, polls, &[64]);

    let ipmpsc = peer("ipmpsc", "parks");
    streams::<ipmpsc::Ipmpsc>(cells, ipmpsc, &SIZES[..2]);
    trips::<ipmpsc::Ipmpsc>(cells, ipmpsc, &BOTH, 1);

    locks(cells);
    rpc::cells(cells);
}

/// The locks: two that know one process only, and those that processes share.
fn locks(cells: &mut Vec<Cell>) {
    let peer = |name, waits| Subject { name, class: "peer", waits };
    alone::<process::Parking>(cells, peer("parking-lot", "parks"));
    alone::<process::Std>(cells, peer("std", "parks"));

    turns::<pthread::RwLock>(cells, peer("pthread-rwlock", "parks"));
    turns::<fcntl::Record<true>>(cells, peer("fcntl-ofd", "parks"));
    turns::<fcntl::Record<false>>(cells, peer("fcntl-classic", "parks"));
    turns::<spin::Spin>(cells, peer("spin-yield", "spins"));
}
