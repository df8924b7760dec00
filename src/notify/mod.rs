//! Waking: knock once, then ring. Who sleeps publishes a park number in its slot; who changes what
//! somebody may be waiting for looks at the number afterwards and rings that doorbell.
//!
//! ```text
//! sleeper                                                waker
//! 1 waiting := n, a new park number (never reused)       1 publish (tail, lock word, version)
//! 2 full barrier                                         2 full barrier
//! 3 read who my debtors are; watch each of them          3 each slot I owe a wake: read tag, waiting n, tag again
//! 4 look: ready? leave                                   4 n != 0: ring it (its doorbell is here; else knock)
//! 5 park on { doorbell, door, watches, timer }           5 only then CAS waiting n -> 0
//! 6 on any wake, of whatever cause: harvest, go to 1
//! ```
//!
//! `docs/protocol.md` says why each step is where it is; `docs/models/` has the models that lose a
//! wake when one is moved.
//!
//! | file | job |
//! |---|---|
//! | `slots` | claim, release, hints: the algorithm over one slot |
//! | `park` | steps 1, 2 and the waker's 2 to 5 over one slot |
//! | `endpoint` | one attached handle: slot, door, lazily the doorbell and the pollable fd |
//! | `attach` | door before slot; dead owners are reaped; parked ones are rung |
//! | `find` | a name becomes an attached handle |
//! | `link` | what we hold of a peer: connection, doorbell, pidfd; proofs of death |
//! | `harvest` | take in what fired |
//! | `lifetime` | who is alive; the end of a region: removed, or its last user gone |
//! | `wake` | ring, knock; also by somebody who is not attached |
//! | `bells` | doorbells of the peers that were rung last, in kinds with many slots |
//! | `local` | the fan-out: many waiters of one process on one endpoint, without any I/O |
//! | `shared` | the same with its faces: tasks of several runtimes, threads |
//! | `awake` | how long to stay awake before parking |
//! | `tokio` | the awaited face; the blocking one is `harvest_within` |

#[cfg(not(ringspan_loom))]
mod attach;
#[cfg(not(ringspan_loom))]
pub(crate) mod awake;
#[cfg(not(ringspan_loom))]
mod bells;
#[cfg(not(ringspan_loom))]
mod endpoint;
#[cfg(not(ringspan_loom))]
pub(crate) mod find;
#[cfg(not(ringspan_loom))]
mod harvest;
#[cfg(not(ringspan_loom))]
pub(crate) mod lifetime;
#[cfg(not(ringspan_loom))]
pub(crate) mod link;
pub(crate) mod local;
#[cfg(all(test, ringspan_loom))]
mod loom_local_tests;
#[cfg(all(test, ringspan_loom))]
mod loom_removal_tests;
#[cfg(all(test, ringspan_loom))]
pub(crate) mod loom_tests;
pub(crate) mod park;
#[cfg(not(ringspan_loom))]
pub(crate) mod shared;
#[cfg(all(test, not(ringspan_loom)))]
mod shared_tests;
pub(crate) mod slots;
#[cfg(all(not(ringspan_loom), feature = "tokio"))]
#[cfg_attr(not(unix), path = "stub/tokio.rs")]
pub(crate) mod tokio;
#[cfg(not(ringspan_loom))]
pub(crate) mod wake;

#[cfg(not(ringspan_loom))]
pub(crate) use attach::{Attach, Bury, Role};
#[cfg(not(ringspan_loom))]
pub(crate) use endpoint::Endpoint;
#[cfg(not(ringspan_loom))]
pub(crate) use link::Meeting;
