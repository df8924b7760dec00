//! The ring: single producer, single consumer, messages of any length, each end awaitable.
//!
//! Records lie one behind the other in a power-of-two buffer between two free-running counters,
//! `head` and `tail`, each on a line of its own and each written by one side only. A side keeps a
//! copy of the other's counter and touches the shared one only when the copy runs out. After every
//! publication it looks, behind a full barrier, whether the other side sleeps (see `notify`).
//!
//! | file | job |
//! |---|---|
//! | `raw_frame`, `raw`, `raw_producer`, `raw_consumer` | the algorithm: framing, memory, two ends |
//! | `raw_quota` | what messages count as, for rings with a bound on that |
//! | `options` | [`Ring`]: name and geometry; create, open, attach |
//! | `side` | what both ends do alike: the peer, arming, the three ways to wait |
//! | `producer`, `_many`, `_value`, `_role`, `grant`, `sink` | pushing |
//! | `consumer`, `_many`, `_role`, `message`, `stream` | popping |
//! | `stat` | what can be seen from outside |
//! | `pair` | one side of two rings in a private memory, for RPC |
//! | `bind` | what the Python binding needs of the ends |
//! | `error` | the errors of the verbs |

#[cfg(all(not(ringspan_loom), feature = "python"))]
pub(crate) mod bind;
#[cfg(not(ringspan_loom))]
mod consumer;
#[cfg(not(ringspan_loom))]
mod consumer_many;
#[cfg(not(ringspan_loom))]
mod consumer_role;
#[cfg(not(ringspan_loom))]
mod error;
#[cfg(not(ringspan_loom))]
mod grant;
#[cfg(not(ringspan_loom))]
mod message;
#[cfg(not(ringspan_loom))]
mod options;
#[cfg(not(ringspan_loom))]
mod pair;
#[cfg(not(ringspan_loom))]
mod producer;
#[cfg(not(ringspan_loom))]
mod producer_many;
#[cfg(not(ringspan_loom))]
mod producer_role;
#[cfg(not(ringspan_loom))]
mod producer_value;
mod raw;
mod raw_consumer;
mod raw_frame;
mod raw_producer;
mod raw_quota;
#[cfg(not(ringspan_loom))]
mod side;
#[cfg(all(not(ringspan_loom), feature = "tokio"))]
mod sink;
#[cfg(not(ringspan_loom))]
mod stat;
#[cfg(all(not(ringspan_loom), feature = "tokio"))]
mod stream;

#[cfg(all(not(ringspan_loom), feature = "python"))]
pub(crate) use error::Stop;

#[cfg(not(ringspan_loom))]
pub use consumer::Consumer;
#[cfg(not(ringspan_loom))]
pub use error::{PopError, PushError, TryPopError, TryPushError};
#[cfg(not(ringspan_loom))]
pub use grant::Grant;
#[cfg(not(ringspan_loom))]
pub use message::{Batch, Message};
#[cfg(not(ringspan_loom))]
pub use options::{Ring, RingOptions};
#[cfg(not(ringspan_loom))]
pub(crate) use pair::{BadPair, PairEnd, PairGeometry, Side as PairSide};
#[cfg(not(ringspan_loom))]
pub use producer::Producer;
#[cfg(not(ringspan_loom))]
pub(crate) use raw_consumer::{Item, Record};
#[cfg(not(ringspan_loom))]
pub(crate) use raw_frame::{Damage, Geometry};
#[cfg(not(ringspan_loom))]
pub(crate) use raw_producer::{RawProducer, Reservation, ReserveError};
#[cfg(all(not(ringspan_loom), feature = "python"))]
pub(crate) use raw_quota::BESIDES;
#[cfg(all(not(ringspan_loom), feature = "tokio"))]
pub use sink::{RingSink, SinkError};
#[cfg(not(ringspan_loom))]
pub use stat::{EndStat, Peer, RingStat};
#[cfg(all(not(ringspan_loom), feature = "tokio"))]
pub use stream::RingStream;

#[cfg(all(test, not(ringspan_loom)))]
mod kill_tests;
#[cfg(all(test, ringspan_loom))]
mod loom_tests;
#[cfg(all(test, not(ringspan_loom)))]
mod quota_tests;
#[cfg(all(test, not(ringspan_loom)))]
mod random_tests;
#[cfg(all(test, not(ringspan_loom)))]
mod raw_tests;
