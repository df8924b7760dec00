//! A server without its runtime: who drives it brings a [`Starter`](floor::Starter) for the handlers and
//! sleeps on one descriptor.
//!
//! | file | job |
//! |---|---|
//! | `engine` | what driver, clients and handlers share |
//! | `peer` | one client |
//! | `floor` | the driver's own: all clients, whose turn it is, when to sleep |
//! | `round` | up to 64 frames of one client |
//! | `doors` | who comes, who goes |

pub(crate) mod doors;
pub(crate) mod engine;
pub(crate) mod floor;
pub(crate) mod peer;
pub(crate) mod round;
