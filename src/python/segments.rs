//! The module functions: list, remove, sweep.

use pyo3::prelude::*;
use std::time::UNIX_EPOCH;

use super::errors;
use super::opening;
use super::seconds::seconds;
use super::segment;
use crate::error::OpenError;
use crate::layout::Kind;
use crate::segment::{self as core, bind};

/// An endpoint that is attached to an object.
#[pyclass(frozen, get_all, name = "Attached", module = "ringspan")]
#[derive(Debug)]
pub(crate) struct PyAttached {
    /// Its process.
    pid: u32,
    /// The random name of this attachment.
    tag: u64,
    /// What it is there.
    role: &'static str,
    /// None: it can be neither reached nor proven dead.
    alive: Option<bool>,
}

#[pymethods]
impl PyAttached {
    fn __repr__(&self) -> String {
        let alive = self.alive.map_or("unknown", |alive| if alive { "alive" } else { "dead" });
        format!("<ringspan.Attached {} pid {}, {alive}>", self.role, self.pid)
    }
}

/// What can be seen of a named object without using it.
#[pyclass(frozen, get_all, name = "SegmentInfo", module = "ringspan")]
#[derive(Debug)]
pub(crate) struct PySegmentInfo {
    /// The name, with its slash.
    name: String,
    /// What lives in it: "segment", "ring", ...
    kind: Option<&'static str>,
    /// Bytes for its user.
    size: u64,
    /// Bytes in the file.
    file_size: u64,
    /// When it was made, in seconds since 1970.
    created: Option<f64>,
    /// The process that made it.
    creator_pid: Option<u32>,
    /// User id of its owner.
    owner: u32,
    /// Permission bits.
    mode: u32,
    /// Whether the last one out removes it.
    ephemeral: bool,
    /// A file without our header.
    raw: bool,
    /// Who is attached.
    attached: Vec<Py<PyAttached>>,
    /// Why it cannot be used.
    fault: Option<String>,
}

#[pymethods]
impl PySegmentInfo {
    fn __repr__(&self) -> String {
        let kind = self.kind.unwrap_or(if self.raw { "raw" } else { "unusable" });
        format!("<ringspan.SegmentInfo {kind} {:?} of {} bytes>", self.name, self.size)
    }
}

fn info(py: Python<'_>, info: core::SegmentInfo) -> PyResult<PySegmentInfo> {
    let attached = info.attached.iter().map(|one| {
        let core::Attached { pid, tag, role, alive, .. } = *one;
        Py::new(py, PyAttached { pid, tag, role, alive })
    });
    let since_1970 = |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH).ok();
    Ok(PySegmentInfo {
        kind: info.kind.map(crate::layout::Kind::noun),
        size: info.size,
        file_size: info.file_size,
        created: info.created.and_then(since_1970).map(|since| since.as_secs_f64()),
        creator_pid: info.creator_pid,
        owner: info.owner,
        mode: info.mode,
        ephemeral: info.ephemeral,
        raw: info.raw,
        attached: attached.collect::<PyResult<_>>()?,
        fault: info.fault.map(|fault| fault.to_string()),
        name: info.name,
    })
}

/// Lists every named object that this user may open.
#[pyfunction]
#[pyo3(signature = (*, raw=false))]
fn segments(py: Python<'_>, raw: bool) -> PyResult<Vec<PySegmentInfo>> {
    let list =
        opening::apart(|| if raw { core::segments_including_raw() } else { core::segments() });
    let list = list.map_err(|fault| errors::fault(&fault))?;
    list.into_iter().map(|one| info(py, one)).collect()
}

/// Deletes a name.
#[pyfunction]
#[pyo3(signature = (name, missing_ok=false, *, kind=None, file_id=None))]
fn remove(
    name: &str,
    missing_ok: bool,
    kind: Option<&str>,
    file_id: Option<(u64, u64)>,
) -> PyResult<()> {
    let unknown = |noun| errors::option(format!("kind {noun:?}: there is no such kind of object"));
    let kind = kind.map(|noun| Kind::from_noun(noun).ok_or_else(|| unknown(noun))).transpose()?;
    opening::found(|| match core::remove_only(name, &core::Only { kind, file: file_id }) {
        Err(OpenError::NotFound(_)) if missing_ok => Ok(()),
        done => done,
    })
}

/// `_unlink_file(name, file_id)`: deletes a name that leads to that raw file, and whether it did. Never
/// waits.
#[pyfunction]
#[pyo3(name = "_unlink_file", signature = (name, file_id, /))]
fn unlink_file(py: Python<'_>, name: &str, file_id: (u64, u64)) -> PyResult<bool> {
    py.detach(|| bind::unlink_file(name, file_id)).map_err(|err| errors::open(&err, ""))
}

/// `_unlink_any(name)`: deletes a name as `shm_unlink` does.
#[pyfunction]
#[pyo3(name = "_unlink_any", signature = (name, /))]
fn unlink_any(py: Python<'_>, name: &str) -> PyResult<()> {
    py.detach(|| bind::unlink_any(name)).map_err(|err| errors::open(&err, ""))
}

/// What a sweep did.
#[pyclass(frozen, get_all, name = "GcReport", module = "ringspan")]
#[derive(Debug)]
pub(crate) struct PyGcReport {
    /// Names of the objects that were removed.
    removed: Vec<String>,
    /// Files of creators that died half-way.
    temporaries: usize,
    /// Doors of endpoints that died.
    doors: usize,
}

#[pymethods]
impl PyGcReport {
    fn __repr__(&self) -> String {
        format!(
            "GcReport(removed={:?}, temporaries={}, doors={})",
            self.removed, self.temporaries, self.doors
        )
    }
}

/// Removes what the dead left behind.
#[pyfunction]
#[pyo3(signature = (*, persistent_older_than=None))]
fn gc(persistent_older_than: Option<&Bound<'_, PyAny>>) -> PyResult<PyGcReport> {
    let older = seconds(persistent_older_than, "persistent_older_than")?;
    let report = opening::apart(|| match older {
        None => core::gc(),
        Some(age) => core::gc_persistent_older_than(age),
    });
    let report = report.map_err(|fault| errors::fault(&fault))?;
    let core::GcReport { removed, temporaries, doors, .. } = report;
    Ok(PyGcReport { removed, temporaries, doors })
}

/// Adds classes and functions to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyAttached>()?;
    m.add_class::<PySegmentInfo>()?;
    m.add_class::<PyGcReport>()?;
    m.add_function(wrap_pyfunction!(segment::again, m)?)?;
    m.add_function(wrap_pyfunction!(segments, m)?)?;
    m.add_function(wrap_pyfunction!(remove, m)?)?;
    m.add_function(wrap_pyfunction!(unlink_file, m)?)?;
    m.add_function(wrap_pyfunction!(unlink_any, m)?)?;
    m.add_function(wrap_pyfunction!(gc, m)?)
}
