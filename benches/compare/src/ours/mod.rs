//! ringspan itself: the same shape as every peer, and the cells that only it has.

mod calls;
mod calls_memory;
mod changed;
mod idle;
mod large;
mod link;
mod lock;
mod value;

use crate::alone::alone;
use crate::calls::{echoes, flights, sequential};
use crate::cells::{BOTH, Cell, Pin, SIZES, Side, Subject, cell, streams, trips, trips_as};
use crate::latest::latest;
use crate::link::{Link, Place};
use crate::measure::{self, Outcome};
use crate::turns::turns;
use calls::{InPlace, Owned};
use changed::{Bytes, Int, Told, Trip, Watched};
use link::{Async, Blocking, Many};

/// One way through an 8 MiB ring, in bytes per second.
fn large<L: Link + 'static>(cells: &mut Vec<Cell>, who: Subject) {
    let run = |_: &Cell, place: &Place, side: &Side<'_>| match side {
        Side::Parent(seconds) => measure::stream::<L>(place, *seconds)
            .map(|found| Outcome { value: found.value * place.size as f64, ..found }),
        Side::Child(place) => measure::serve::<L>(place).map(|()| Outcome::default()),
    };
    cells.push(cell("large", 1 << 20, Pin::Apart, who, Box::new(run)));
}

/// Adds every cell of ringspan.
pub fn cells(cells: &mut Vec<Cell>) {
    let ours = |name, waits| Subject { name, class: "ringspan", waits };
    streams::<Async<true>>(cells, ours("ringspan-pop", "tokio"), &SIZES);
    streams::<Blocking<true>>(cells, ours("ringspan-blocking", "parks"), &SIZES);
    streams::<Many>(cells, ours("ringspan-pop-many", "tokio"), &SIZES[..2]);

    trips::<Async<false>>(cells, ours("ringspan-parked", "tokio"), &BOTH, 1);
    trips::<Blocking<false>>(cells, ours("ringspan-blocking-parked", "parks"), &BOTH, 1);
    // As they come: awake while that pays. On one core it never does.
    trips::<Async<true>>(cells, ours("ringspan-awake", "tokio"), &BOTH[..1], 64);
    trips::<Async<true>>(cells, ours("ringspan-awake", "tokio"), &BOTH[1..], 1);
    trips::<Blocking<true>>(cells, ours("ringspan-blocking", "parks"), &BOTH[..1], 64);
    trips::<Blocking<true>>(cells, ours("ringspan-blocking", "parks"), &BOTH[1..], 1);

    large::<large::Copied>(cells, ours("ringspan-copy", "tokio"));
    large::<large::InPlace>(cells, ours("ringspan-in-place", "tokio"));
    large::<large::Untouched>(cells, ours("ringspan-lent-untouched", "tokio"));

    let run = |_: &Cell, place: &Place, side: &Side<'_>| match side {
        Side::Parent(_) => idle::watch(place),
        Side::Child(place) => idle::park(place).map(|()| Outcome::default()),
    };
    cells.push(cell("idle", 64, Pin::Apart, ours("ringspan-idle", "tokio"), Box::new(run)));

    shared(cells);
    rpc(cells);
}

/// The lock, the value and the waits for a change.
fn shared(cells: &mut Vec<Cell>) {
    let ours = |name, waits| Subject { name, class: "ringspan", waits };
    alone::<lock::Blocking>(cells, ours("ringspan-blocking", "parks"));
    turns::<lock::Blocking>(cells, ours("ringspan-blocking", "parks"));
    turns::<lock::Async>(cells, ours("ringspan-tokio", "tokio"));

    latest::<value::Blocking>(cells, ours("ringspan-value", "parks"));

    // The ring's parked round trip once more, beside what is held against it.
    let ring = ours("ringspan-ring-parked", "tokio");
    trips_as::<Async<false>>("changed", cells, ring, &BOTH, 1);
    let ring = ours("ringspan-ring-blocking-parked", "parks");
    trips_as::<Blocking<false>>("changed", cells, ring, &BOTH, 1);
    told::<Bytes<true>>(cells, ours("ringspan-value", "tokio"));
    told::<Bytes<false>>(cells, ours("ringspan-value-blocking", "parks"));
    told::<Watched<true>>(cells, ours("ringspan-watch", "tokio"));
    told::<Watched<false>>(cells, ours("ringspan-watch-blocking", "parks"));
    told::<Int<true>>(cells, ours("ringspan-int", "tokio"));
    told::<Int<false>>(cells, ours("ringspan-int-blocking", "parks"));
}

/// A change and its answer, there and back.
fn told<T: Told + 'static>(cells: &mut Vec<Cell>, who: Subject) {
    trips_as::<Trip<T>>("changed", cells, who, &BOTH, 1);
}

/// Calls, and the ring's own round trips beside them.
fn rpc(cells: &mut Vec<Cell>) {
    let ours = |name, waits| Subject { name, class: "ringspan", waits };
    let ring = ours("ringspan-ring-parked", "tokio");
    trips_as::<Async<false>>("rpc-add", cells, ring, &BOTH, 1);
    let ring = ours("ringspan-ring-awake", "tokio");
    trips_as::<Async<true>>("rpc-add", cells, ring, &BOTH[..1], 64);
    let awake = ours("ringspan-awake", "tokio");
    sequential::<Owned>(cells, awake, 64);
    flights::<Owned>(cells, awake);
    sequential::<calls::Blocking>(cells, ours("ringspan-blocking", "parks"), 64);
    sequential::<calls::Parked>(cells, ours("ringspan-parked", "tokio"), 1);
    echoes::<Owned>(cells, ours("ringspan-owned", "tokio"));
    echoes::<InPlace>(cells, ours("ringspan-in-place", "tokio"));
    let run = |_: &Cell, place: &Place, side: &Side<'_>| match side {
        Side::Parent(_) => calls_memory::watch(place),
        Side::Child(place) => calls_memory::serve(place).map(|()| Outcome::default()),
    };
    let server = ours("ringspan-server", "tokio");
    cells.push(cell("rpc-memory", 64, Pin::Apart, server, Box::new(run)));
}
