//! Peer, RingStat, EndStat: plain records.

use pyo3::prelude::*;

use crate::ring::{EndStat, Peer, RingStat};

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
