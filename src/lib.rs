//! Shared memory that processes can *await*: named rings, functions, locks, values, counters and segments
//! between unrelated processes of one machine, in Rust (tokio or plain threads) and Python (asyncio or
//! plain threads).
//!
//! A reader sleeps in the kernel until there is something to read, a writer while there is no room,
//! whoever wants a lock until it is free, a caller until the answer is there. When a process is killed, those who wait for it are told at
//! once. Nothing polls; there is no daemon.
//!
//! # Which primitive do I want?
//!
//! | I want to | type | waits for |
//! |---|---|---|
//! | stream messages to one other process, in order, none lost | [`Ring`] with [`Producer`] and [`Consumer`] | `push`: room; `pop`: a message |
//! | call a function of another process | [`rpc::serve`], [`rpc::Service`], [`rpc::Client`] | a call: its answer |
//! | let many processes read some bytes and one at a time write them | [`RwLock`], with a [`View`] for typed items | [`read`](RwLock::read): no writer; [`write`](RwLock::write): nobody |
//! | publish the latest of anything | [`Value`] | [`changed`](Value::changed), [`wait_for`](Value::wait_for), [`watch`](Value::watch) |
//! | count, or raise a flag | [`SharedInt`], [`SharedFloat`], [`SharedBool`] | [`changed`](Scalar::changed), [`wait_for`](Scalar::wait_for) |
//! | share bytes that many processes see, and say when they changed | [`Segment`] | [`changed`](Segment::changed): a [`notify`](Segment::notify) by anybody |
//! | share an array: all three, and a description of the bytes | [`Block`] | [`changed`](Block::changed), and the [`lock`](Block::lock) |
//!
//! A [`View`] reads and writes typed items, one after another, in bytes that a lock guards.
//!
//! [`segments`] lists what there is, [`remove`] deletes a name, [`gc`] sweeps what the dead left.
//!
//! A verb that can wait has three forms: bare is awaited, `try_` never waits, `blocking_` parks the
//! thread and takes a time-out. For other event loops every end offers
//! [`arm`](Consumer::arm), [`disarm`](Consumer::disarm) and [`AsFd`](std::os::fd::AsFd).
//!
//! # First program
//!
//! Two ends, here of one process; any two processes that name the ring will do.
//!
//! ```
//! use ringspan::Ring;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, PartialEq, Debug)]
//! struct Hello {
//!     n: u32,
//!     text: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! # let name = &format!("/doc-essay-{}", std::process::id());
//! // One process:
//! let mut tx = Ring::options().open_or_create(name)?.producer()?;
//! tx.push_value(&Hello { n: 1, text: "hello".into() }).await?;
//! tx.close()?;
//!
//! // Another one, before or after:
//! let mut rx = Ring::options().open(name)?.consumer()?;
//! while let Some(hello) = rx.pop_value::<Hello>().await? {
//!     assert_eq!(hello.n, 1);
//! }
//! # ringspan::remove(name)?;
//! # Ok(())
//! # }
//! ```
//!
//! # The picture
//!
//! ```text
//!   process A                  /dev/shm/frames                    process B
//!  +-----------+     +------------------------------------+     +-----------+
//!  | Producer  |     | header: magic, version, sizes      |     | Consumer  |
//!  |   push ---------> slots: who is attached, who sleeps |     |           |
//!  |           |     | indices: tail | head               |     |           |
//!  |           |     | [record][record][end][ ... free ]----------> pop     |
//!  | doorbell <--------- "there is room" - - - - - - - - - - - -            |
//!  |           | - - - - - - - - - "a message" -----------------> doorbell  |
//!  +-----------+     +------------------------------------+     +-----------+
//! ```
//!
//! Data goes through memory alone. The kernel is asked to sleep, and to wake somebody who sleeps.
//! Each process waits on a doorbell of its own (an eventfd); the other side gets it through a *door*, a
//! local socket that is found from the slot. docs/protocol.md has the protocol, docs/format.md the bytes.
//!
//! A function's calls go through a private pair of such rings for each client; see [`rpc`].
//!
//! # Names
//!
//! An optional `/`, then 1 to 200 bytes of `[A-Za-z0-9._-]`, the first one no dot. A name is a file in
//! `/dev/shm`, as with `shm_open`, and lives until [`remove`], unless its creator made it *ephemeral*:
//! then the last one out removes it. Creation is atomic: nobody sees half an object, and a killed
//! creator leaves none.
//!
//! # Crashes
//!
//! A process may be killed at any instruction; the others go on. Death is learnt from the kernel, never
//! from a time-out. Each type says under "What a crash leaves behind" what that means for it.
//!
//! # Trust
//!
//! Only processes of the owner of an object, and root, get in. Within these, nothing in shared memory is
//! trusted: every bound is checked on every use, and damage is an error ([`FaultKind::Damaged`]), no
//! panic and no undefined behaviour. One agreement remains, as with every memory map: nobody writes a
//! message that was published and not released, nor bytes that somebody has locked. On it alone
//! [`Message`], [`Batch`] and the guards of a lock deref to `&[u8]`;
//! [`Message::copy_to`], [`Message::to_vec`] and everything that parses do without it, by copying first.
//!
//! # Fork
//!
//! A handle does not work on in a forked child: its verbs return [`FaultKind::Forked`], and dropping it
//! there touches nothing. A [`Ring`] attaches anew in the child. Inherited descriptors are closed at the
//! fork, so that a child cannot make its dead parent look alive. A process that closes descriptors which
//! it does not own counts as dead.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `tokio` | yes | the awaited verbs, [`rpc::serve`], [`RingStream`], [`RingSink`]; without it `try_`, `blocking_`, `arm` remain |
//! | `python` | no | the Python extension module; built by maturin only |
//! | `failpoints` | no | crash points for the tests of this crate |
//!
//! Linux is complete. On macOS and Windows the crate type-checks; calls that are not finished there
//! return [`FaultKind::Unsupported`] and name themselves.

#![cfg_attr(
    not(feature = "tokio"),
    allow(dead_code, reason = "tokio drives much of what serves and calls functions")
)]
#![cfg_attr(ringspan_loom, allow(dead_code, unused_imports, reason = "models use a part"))]

#[cfg(not(ringspan_loom))]
mod block;
#[cfg(not(ringspan_loom))]
pub mod codec;
mod error;
mod layout;
mod name;
mod notify;
#[cfg(all(not(ringspan_loom), feature = "python"))]
mod python;
#[cfg(not(ringspan_loom))]
mod region;
mod ring;
#[cfg(not(ringspan_loom))]
pub mod rpc;
mod rwlock;
#[cfg(not(ringspan_loom))]
mod scalar;
#[cfg(not(ringspan_loom))]
mod segment;
mod sync;
#[cfg(not(ringspan_loom))]
mod sys;
mod value;
#[cfg(not(ringspan_loom))]
mod view;

#[cfg(not(ringspan_loom))]
pub use block::{Block, BlockOptions};
pub use error::{Fault, FaultKind, OpenError};
pub use layout::Kind;
#[cfg(not(ringspan_loom))]
pub use ring::{
    Batch, Consumer, EndStat, Grant, Message, Peer, PopError, Producer, PushError, Ring,
    RingOptions, RingStat, TryPopError, TryPushError,
};
#[cfg(all(not(ringspan_loom), feature = "tokio"))]
pub use ring::{RingSink, RingStream, SinkError};
#[cfg(not(ringspan_loom))]
pub use rwlock::{
    HandleStat, Holder, LockError, LockMode, OwnedReadGuard, OwnedWriteGuard, Poisoned, ReadGuard,
    RwLock, RwLockOptions, TryLockError, WriteGuard,
};
#[cfg(not(ringspan_loom))]
pub use scalar::{Addable, Number, Scalar, ScalarOptions, SharedBool, SharedFloat, SharedInt};
#[cfg(not(ringspan_loom))]
pub use segment::{
    Attached, ChangedError, GcReport, Segment, SegmentInfo, SegmentOptions, gc,
    gc_persistent_older_than, remove, remove_file, remove_kind, segments, segments_including_raw,
};
#[cfg(not(ringspan_loom))]
pub use value::{SetError, TryGetError, TrySetError, Value, ValueOptions, Watch};
#[cfg(not(ringspan_loom))]
pub use view::{ReadItem, View, ViewError, ViewItem, ViewTag, WriteItem};

/// The Rust blocks of the pages, as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../docs/functions.md")]
    struct Functions;
}
