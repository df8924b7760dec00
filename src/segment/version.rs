//! The version word that notifiers raise and sleepers watch, in whichever kind area it lies.

use crate::error::{Fault, FaultKind};
use crate::layout::BytesLine;
use crate::notify::{Bury, Endpoint};
use crate::region::Region;
use crate::sync::Ordering;
use crate::sys::failpoint::failpoint;

/// The version as it stands.
pub(crate) fn read(line: &BytesLine) -> u64 {
    // Acquire: pairs with the SeqCst addition in `raise`; what was written before it is read after.
    line.version.load(Ordering::Acquire)
}

/// The first step of the waker: the version is raised. Then it looks who sleeps, and rings. The new
/// version.
#[inline]
pub(crate) fn raise(line: &BytesLine) -> u64 {
    failpoint!("notify.begin");
    // SeqCst: releases what was written to whoever reads the version by Acquire, and stands before
    // the looks at `parked` and `waiting` that follow.
    let version = line.version.fetch_add(1, Ordering::SeqCst);
    failpoint!("notify.raised");
    version.wrapping_add(1) // the word may hold anything
}

/// Steps 3 and 4 of the sleeper: everybody who is attached may owe the wake; the dead are taken out by
/// `bury`.
pub(crate) fn look(
    endpoint: &mut Endpoint,
    line: &BytesLine,
    since: u64,
    bury: Bury,
) -> Result<Option<u64>, Fault> {
    let differs = || Some(read(line)).filter(|&version| version != since);
    if let Some(version) = differs() {
        return Ok(Some(version));
    }
    let alone = endpoint.watch_everybody(bury)?;
    match differs() {
        None if alone && endpoint.region.is_nameless() => Err(removed(&endpoint.region)),
        found => Ok(found),
    }
}

/// The name is gone, and with it whoever could have come.
pub(crate) fn removed(region: &Region) -> Fault {
    region.fault(FaultKind::Removed, "it was removed; open the name anew")
}
