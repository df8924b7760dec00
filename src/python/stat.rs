//! Peer, RingStat, EndStat, Holder, HandleStat: plain records.

use pyo3::prelude::*;
use std::time::UNIX_EPOCH;

use super::rwlock_guard::mode_word;
use crate::ring::{EndStat, Peer, RingStat};
use crate::rwlock::{HandleStat, Holder};

/// An attached end, as it described itself.
#[pyclass(frozen, eq, hash, get_all, name = "Peer", module = "ringspan")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PyPeer {
    /// Its process; 0 in the moment before it said so.
    pid: u32,
    /// The random name of this attachment.
    tag: u64,
}

impl From<Peer> for PyPeer {
    fn from(peer: Peer) -> Self {
        PyPeer { pid: peer.pid, tag: peer.tag }
    }
}

#[pymethods]
impl PyPeer {
    fn __repr__(&self) -> String {
        format!("Peer(pid={}, tag={:#x})", self.pid, self.tag)
    }
}

/// A snapshot of a ring.
#[pyclass(frozen, get_all, name = "RingStat", module = "ringspan")]
#[derive(Debug)]
pub(crate) struct PyRingStat {
    /// Bytes of room for messages and their headers.
    capacity: u64,
    /// Bytes of the largest message.
    max_message: u64,
    /// Bytes published and not yet released, headers included.
    len: u64,
    /// Bytes ever published.
    pushed: u64,
    /// Bytes ever released.
    popped: u64,
    /// Who holds the producer end.
    producer: Option<Py<PyPeer>>,
    /// Who holds the consumer end.
    consumer: Option<Py<PyPeer>>,
    /// The producer sleeps.
    producer_parked: bool,
    /// The consumer sleeps.
    consumer_parked: bool,
}

impl PyRingStat {
    pub(crate) fn new(py: Python<'_>, stat: &RingStat) -> PyResult<Self> {
        let peer =
            |peer: Option<Peer>| peer.map(|peer| Py::new(py, PyPeer::from(peer))).transpose();
        Ok(PyRingStat {
            capacity: stat.capacity,
            max_message: stat.max_message,
            len: stat.len,
            pushed: stat.pushed,
            popped: stat.popped,
            producer: peer(stat.producer)?,
            consumer: peer(stat.consumer)?,
            producer_parked: stat.producer_parked,
            consumer_parked: stat.consumer_parked,
        })
    }
}

#[pymethods]
impl PyRingStat {
    fn __repr__(&self) -> String {
        let who = |peer: &Option<Py<PyPeer>>| match peer {
            Some(peer) => peer.get().pid.to_string(),
            None => "None".to_owned(),
        };
        format!(
            "RingStat(capacity={}, max_message={}, len={}, pushed={}, popped={}, producer={}, \
             consumer={})",
            self.capacity,
            self.max_message,
            self.len,
            self.pushed,
            self.popped,
            who(&self.producer),
            who(&self.consumer)
        )
    }
}

/// What one end has done since it was attached.
#[pyclass(frozen, eq, get_all, name = "EndStat", module = "ringspan")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PyEndStat {
    /// Times it went to sleep.
    parks: u64,
    /// Times it rang the other end's doorbell.
    rings: u64,
    /// Times it knocked at a door.
    knocks: u64,
}

impl From<EndStat> for PyEndStat {
    fn from(stat: EndStat) -> Self {
        PyEndStat { parks: stat.parks, rings: stat.rings, knocks: stat.knocks }
    }
}

#[pymethods]
impl PyEndStat {
    fn __repr__(&self) -> String {
        format!("EndStat(parks={}, rings={}, knocks={})", self.parks, self.rings, self.knocks)
    }
}

/// A handle that holds a lock, as it described itself.
#[pyclass(frozen, eq, get_all, name = "Holder", module = "ringspan")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PyHolder {
    /// Its process; 0 in the moment before it said so.
    pid: u32,
    /// The random name of its attachment.
    tag: u64,
    /// "read" or "write".
    mode: &'static str,
    /// When it got the lock, in seconds since 1970.
    since: Option<f64>,
    /// Guards that were left while views of the bytes live on.
    kept_by_views: u64,
}

impl From<&Holder> for PyHolder {
    fn from(holder: &Holder) -> Self {
        let since = holder.since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        PyHolder {
            pid: holder.pid,
            tag: holder.tag,
            mode: mode_word(holder.mode),
            since: since.map(|since| since.as_secs_f64()),
            kept_by_views: holder.kept_by_views,
        }
    }
}

#[pymethods]
impl PyHolder {
    fn __repr__(&self) -> String {
        let kept = match self.kept_by_views {
            0 => String::new(),
            count => format!(", kept_by_views={count}"),
        };
        format!("Holder(pid={}, mode={:?}{kept})", self.pid, self.mode)
    }
}

/// What a handle of a lock holds and has done.
#[pyclass(frozen, eq, get_all, name = "HandleStat", module = "ringspan")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PyHandleStat {
    /// Handles that are attached, in all processes.
    attached: usize,
    /// Times this handle went to sleep.
    parks: u64,
    /// Sleepers that this handle woke.
    rings: u64,
    /// Connections to the doors of others.
    connections: usize,
    /// Connections of others at our door.
    inbound: usize,
    /// Process descriptors.
    pidfds: usize,
    /// Doorbells of those whom this handle wakes again and again.
    doorbells: usize,
}

impl From<HandleStat> for PyHandleStat {
    fn from(stat: HandleStat) -> Self {
        let HandleStat { attached, parks, rings, connections, inbound, pidfds, doorbells } = stat;
        PyHandleStat { attached, parks, rings, connections, inbound, pidfds, doorbells }
    }
}

#[pymethods]
impl PyHandleStat {
    fn __repr__(&self) -> String {
        format!(
            "HandleStat(attached={}, parks={}, rings={})",
            self.attached, self.parks, self.rings
        )
    }
}
