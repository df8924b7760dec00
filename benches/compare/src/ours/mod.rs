//! ringspan itself: the same shape as every peer, and the cells that only it has.

mod idle;
mod large;
mod link;

use crate::cells::{BOTH, Cell, Pin, SIZES, Side, Subject, cell, streams, trips};
use crate::link::{Link, Place};
use crate::measure::{self, Outcome};
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
}
