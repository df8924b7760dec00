//! Shared functions: async calls into other processes, over rings.
//!
//! A function, or a service of many methods, lives in one process and has a name; any process of the same
//! user calls it as `await`. Arguments and results are msgpack (the [`codec`](crate::codec)), carried by a
//! private pair of rings that the server hands over when a client connects, woken by eventfd.
//!
//! ```text
//! client                                                        server
//! find the name, read the slot's tag
//! connect to the front door  ------------------------------->   who is it? (SO_PEERCRED) same user, or root
//!                            <-- hello, memfd, two doorbells -   grants, methods; nothing was parsed
//! call 1, call 2, ...        ===== ring of requests ========>   64 frames a round, handlers run at once
//!                            <==== ring of responses ========   answers of a round, published together
//! the socket stays open, a pidfd is watched: either end learns at once that the other is gone
//! ```
//!
//! | file | job |
//! |---|---|
//! | `wire`, `hello`, `limits` | frames, the first message, what is granted: arithmetic, no I/O |
//! | `core` | both halves of the protocol as state machines, no I/O |
//! | `link` | one side of a connection with its descriptors |
//! | `claim`, `front`, `connect` | the name, the front door, the hand-over |
//! | `conn`, `conn_drive`, `drive_client`, `drive_blocking` | a client's connection and who drives it |
//! | `client`, `client_async` | [`Client`] and its verbs |
//! | `server` | a server without its runtime |
//! | `drive_server` | the tokio driver of a server |
//! | `in_place` | answering a call where it lies |
//! | `service`, `handler`, `context`, `answer`, `stats`, `error` | what users see |

pub(crate) mod answer;
pub(crate) mod claim;
#[cfg(test)]
mod claim_tests;
pub(crate) mod client;
#[cfg(feature = "tokio")]
mod client_async;
pub(crate) mod conn;
mod conn_drive;
pub(crate) mod connect;
mod context;
pub(crate) mod core;
pub(crate) mod drive_blocking;
#[cfg(feature = "tokio")]
mod drive_client;
#[cfg(feature = "tokio")]
mod drive_server;
pub(crate) mod error;
mod front;
#[cfg(test)]
mod front_tests;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "tokio")]
mod handler;
pub(crate) mod hello;
mod in_place;
pub(crate) mod limits;
mod link;
pub(crate) mod server;
#[cfg(feature = "tokio")]
mod service;
pub(crate) mod stats;
pub(crate) mod wire;

pub use answer::{Answer, HandlerError};
pub use client::Client;
#[cfg(feature = "tokio")]
pub use client_async::CallStream;
pub use context::{Caller, Context};
pub use error::{CallError, Delivered, Reason, RemoteError};
#[cfg(feature = "tokio")]
pub use handler::{Handler, Plain, StreamHandler, WithContext};
pub use in_place::Reply;
pub use limits::Limits;
#[cfg(feature = "tokio")]
pub use service::{Server, Service, ServiceBuilder, serve};
pub use stats::ServerStats;
