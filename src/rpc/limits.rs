//! What a server grants, and how much memory a client can make it use.

use crate::error::{Fault, FaultKind};
use crate::ring::{Geometry, PairGeometry};
use crate::rpc::wire::HEAD_LEN;

/// The limits of a server. Every client is told its part of them when it connects.
///
/// ```
/// use ringspan::rpc::Limits;
///
/// let limits = Limits::default().max_concurrency(16).max_message(1 << 20).max_inflight_bytes(4 << 20);
/// // Both rings, the arguments under way, their places, unread results, one message in parts.
/// let bound = 2 * (1 << 20) + (4 << 20) + 1024 * 1024 + (1 << 20) + (1 << 20);
/// assert_eq!(limits.memory_per_client(), bound);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Handlers at work at once, of all clients together. Calls beyond it are read, and wait. Default 256.
    pub max_concurrency: u32,
    /// Calls of one client under way at once; its library makes further ones wait. Default 1024.
    pub max_pending: u32,
    /// Bytes of arguments of one client under way at once; at least `max_message`. Default 64 MiB.
    pub max_inflight_bytes: u64,
    /// Bytes of the largest arguments, result or stream item. Default 64 MiB.
    pub max_message: u64,
    /// Bytes of results of one client that wait for room in its ring before no other call of it is
    /// started. Default 1 MiB.
    pub max_unread_bytes: u64,
    /// Bytes of each of the two rings of a connection. Default 1 MiB, of which an idle client uses a page
    /// or two.
    pub ring_capacity: u64,
    /// Clients connected at once; further ones are refused. Default 4096.
    pub max_clients: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_concurrency: 256,
            max_pending: 1024,
            max_inflight_bytes: 64 << 20,
            max_message: 64 << 20,
            max_unread_bytes: 1 << 20,
            ring_capacity: 1 << 20,
            max_clients: 4096,
        }
    }
}

/// The largest `max_message`.
pub(crate) const MAX_MESSAGE: u64 = u32::MAX as u64;
/// What one call costs a server beside its bytes; generous.
const PER_CALL: u64 = 1024;

impl Limits {
    /// The same with another [`max_concurrency`](Limits#structfield.max_concurrency).
    #[must_use]
    pub fn max_concurrency(mut self, handlers: u32) -> Limits {
        self.max_concurrency = handlers;
        self
    }

    /// The same with another [`max_pending`](Limits#structfield.max_pending).
    #[must_use]
    pub fn max_pending(mut self, calls: u32) -> Limits {
        self.max_pending = calls;
        self
    }

    /// The same with another [`max_inflight_bytes`](Limits#structfield.max_inflight_bytes).
    #[must_use]
    pub fn max_inflight_bytes(mut self, bytes: u64) -> Limits {
        self.max_inflight_bytes = bytes;
        self
    }

    /// The same with another [`max_message`](Limits#structfield.max_message).
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Limits {
        self.max_message = bytes;
        self
    }

    /// The same with another [`max_unread_bytes`](Limits#structfield.max_unread_bytes).
    #[must_use]
    pub fn max_unread_bytes(mut self, bytes: u64) -> Limits {
        self.max_unread_bytes = bytes;
        self
    }

    /// The same with another [`ring_capacity`](Limits#structfield.ring_capacity).
    #[must_use]
    pub fn ring_capacity(mut self, bytes: u64) -> Limits {
        self.ring_capacity = bytes;
        self
    }

    /// The same with another [`max_clients`](Limits#structfield.max_clients).
    #[must_use]
    pub fn max_clients(mut self, clients: u32) -> Limits {
        self.max_clients = clients;
        self
    }

    /// The most that one client can make a server hold, in bytes: both rings, the arguments of its calls
    /// and their places (in parts or whole), the results that it does not read, and the one message by
    /// which they may be more than `max_unread_bytes`. Handlers at work hold their own arguments and
    /// results beyond that.
    pub fn memory_per_client(&self) -> u64 {
        2 * self.ring_capacity
            + self.max_inflight_bytes
            + u64::from(self.max_pending) * PER_CALL
            + self.max_unread_bytes
            + self.max_message
    }

    /// Checks the limits against each other; capacities become powers of two.
    pub(crate) fn checked(mut self, object: &str) -> Result<(Limits, PairGeometry), Fault> {
        let refuse = |cause: String| Err(Fault::new(FaultKind::InvalidOption, object, cause));
        for (name, value) in [
            ("max_concurrency", u64::from(self.max_concurrency)),
            ("max_pending", u64::from(self.max_pending)),
            ("max_message", self.max_message),
            ("max_clients", u64::from(self.max_clients)),
        ] {
            if value == 0 {
                return refuse(format!("{name} is 0; nothing could be called"));
            }
        }
        if self.max_message > MAX_MESSAGE {
            return refuse(format!("max_message {} is above 4 GiB", self.max_message));
        }
        if self.max_inflight_bytes < self.max_message {
            return refuse(format!(
                "max_inflight_bytes {} is less than max_message {}: the largest call could never be sent",
                self.max_inflight_bytes, self.max_message
            ));
        }
        let capacity = Geometry::capacity_for(self.ring_capacity)
            .and_then(|capacity| Ok((capacity, Geometry::new(capacity, None)?)));
        let (capacity, ring) = match capacity {
            Ok(found) => found,
            Err(err) => return refuse(format!("ring_capacity: {err}")),
        };
        self.ring_capacity = capacity;
        Ok((self, PairGeometry { requests: ring, responses: ring }))
    }
}

/// The part of the limits that a client keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) max_pending: u32,
    pub(crate) max_inflight_bytes: u64,
    pub(crate) max_message: u64,
}

impl From<&Limits> for Grant {
    fn from(limits: &Limits) -> Grant {
        Grant {
            max_pending: limits.max_pending,
            max_inflight_bytes: limits.max_inflight_bytes,
            max_message: limits.max_message,
        }
    }
}

/// The longest body of one frame in a ring of this geometry; what is longer goes in chunks.
pub(crate) fn max_body(ring: Geometry) -> usize {
    usize::try_from(ring.max_message()).unwrap_or(usize::MAX) - HEAD_LEN
}
