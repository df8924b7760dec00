//! Arguments and results of calls: objects to bytes and back, errors to exceptions.
//!
//! ```text
//! f()            nil                     f(a=1)      {"a": 1}
//! f(1, 2)        [1, 2]                  f(1, a=1)   [[1], {"a": 1}]   with the flag MIXED
//! a method of raw bytes takes and returns them as they are
//! ```

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::convert_buffer::ByteBuffer;
use super::convert_read::{self as read, Place};
use super::convert_write::{Walk, codec_error};
use super::errors;
use super::once;
use crate::codec::write as w;
use crate::codec::{Head, Reader};
use crate::rpc::client;
use crate::rpc::conn::Conn;
use crate::rpc::core::news::{Answer, Outcome};
use crate::rpc::error::{CallError, RemoteError};
use crate::rpc::wire::{MIXED, RAW};

/// Writes arguments behind what `out` holds; the flags of the call.
pub(crate) fn write_args(
    out: &mut Vec<u8>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
    (raw, exact): (bool, bool),
) -> PyResult<u8> {
    let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
    if raw {
        return match (args.len(), kwargs) {
            (1, None) => write_raw(out, &args.get_item(0)?).map(|()| RAW),
            _ => Err(PyTypeError::new_err("the method takes one argument: bytes or a buffer")),
        };
    }
    let mut walk = Walk { out, exact };
    match kwargs {
        None if args.is_empty() => w::nil(walk.out),
        None => walk.tuple_items(args, 0)?,
        Some(kwargs) if args.is_empty() => walk.mapping(kwargs, 0)?,
        Some(kwargs) => {
            w::array_head(walk.out, 2).map_err(codec_error)?;
            walk.tuple_items(args, 1)?;
            walk.mapping(kwargs, 1)?;
            return Ok(MIXED);
        }
    }
    Ok(0)
}

/// Bytes and buffers as they are.
pub(crate) fn write_raw(out: &mut Vec<u8>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(bytes) = obj.cast::<PyBytes>() {
        out.extend_from_slice(bytes.as_bytes());
        return Ok(());
    }
    let buffer = ByteBuffer::any(obj)?;
    let start = out.len();
    out.resize(start + buffer.len(), 0);
    buffer.copy_to(obj.py(), &mut out[start..])
}

/// Writes one value.
pub(crate) fn write_value(out: &mut Vec<u8>, obj: &Bound<'_, PyAny>, exact: bool) -> PyResult<()> {
    Walk { out, exact }.value(obj, 0)
}

/// Positional and keyword arguments of a call.
pub(crate) type Arguments<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// Reads arguments.
pub(crate) fn read_args<'py>(
    py: Python<'py>,
    bytes: &[u8],
    raw: bool,
    mixed: bool,
) -> PyResult<Arguments<'py>> {
    if raw {
        return Ok((PyTuple::new(py, [PyBytes::new(py, bytes)])?, None));
    }
    let mut reader = Reader::new(bytes);
    let found = match reader.head(0).map_err(codec_error)? {
        Head::Nil => (PyTuple::empty(py), None),
        Head::Array(n) if !mixed => (read::tuple(py, &mut reader, n, 0, 0, Place::Plain)?, None),
        Head::Map(n) => {
            let kwargs = read::map(py, &mut reader, n, 0, 0)?;
            (PyTuple::empty(py), Some(kwargs))
        }
        Head::Array(2) => {
            let Head::Array(n) = reader.head(1).map_err(codec_error)? else {
                return Err(PyValueError::new_err(
                    "arguments that are not positional and keywords",
                ));
            };
            let args = read::tuple(py, &mut reader, n, 1, 1, Place::Plain)?;
            let Head::Map(n) = reader.head(0).map_err(codec_error)? else {
                return Err(PyValueError::new_err(
                    "arguments that are not positional and keywords",
                ));
            };
            (args, Some(read::map(py, &mut reader, n, 1, 0)?))
        }
        // Another language sent one bare value.
        _ => {
            let one = read::whole(py, bytes, 0, Place::Plain)?;
            return Ok((PyTuple::new(py, [one])?, None));
        }
    };
    reader.end().map_err(codec_error)?;
    Ok(found)
}

/// The object of a result or an item.
pub(crate) fn read_answer<'py>(
    py: Python<'py>,
    conn: &Conn,
    answer: &Answer,
) -> PyResult<Bound<'py, PyAny>> {
    if answer.raw {
        return Ok(PyBytes::new(py, &answer.body).into_any());
    }
    read::whole(py, &answer.body, 0, Place::Plain)
        .map_err(|cause| errors::codec(py, conn.object(), cause))
}

/// The object of an outcome, or the exception that it is.
pub(crate) fn read_outcome<'py>(
    py: Python<'py>,
    conn: &Conn,
    outcome: Outcome,
) -> PyResult<Bound<'py, PyAny>> {
    match client::value(conn, outcome) {
        Ok(answer) => read_answer(py, conn, &answer),
        Err(error) => Err(call_error(py, &error)),
    }
}

static RAISE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception of a call.
#[cold]
pub(crate) fn call_error(py: Python<'_>, error: &CallError) -> PyErr {
    match error {
        CallError::Remote { fault, error } => remote(py, fault.object(), error),
        CallError::Disconnected { fault, delivered } => {
            errors::disconnected(fault, &format!("{delivered:?}").to_lowercase())
        }
        CallError::Timeout(fault) => errors::timeout(fault),
        CallError::Connect(open) => errors::connect(open),
        CallError::UnknownMethod(fault) => errors::unknown_method(fault),
        CallError::TooLarge { fault, len, max } => errors::too_large(fault, *len, *max),
        CallError::Codec(fault) | CallError::Fault(fault) => errors::fault(fault),
    }
}

/// What the handler raised, as near as can be: see `_remote.py`.
fn remote(py: Python<'_>, object: &str, error: &RemoteError) -> PyErr {
    let make = once::get_or_make(&RAISE, py, || {
        py.import("ringspan._remote")?.getattr("remote_error").map(Bound::unbind)
    });
    let args = (object, &error.type_name, &error.message, &error.traceback);
    match make.and_then(|make| make.bind(py).call1(args)) {
        Ok(made) => PyErr::from_value(made),
        Err(err) => err,
    }
}

static DESCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What goes over the wire of an exception that a handler raised.
#[cold]
pub(crate) fn describe(py: Python<'_>, err: &PyErr) -> RemoteError {
    let text = |value: PyResult<Bound<'_, PyAny>>| {
        value.and_then(|value| value.extract::<String>()).unwrap_or_default()
    };
    let describe = once::get_or_make(&DESCRIBE, py, || {
        py.import("ringspan._remote")?.getattr("describe").map(Bound::unbind)
    });
    // Its value, with the traceback in it: below 3.12 they come apart.
    let value = err.clone_ref(py).into_value(py);
    let told = describe.and_then(|describe| describe.bind(py).call1((value,)));
    match told {
        Ok(told) => RemoteError {
            type_name: text(told.get_item(0)),
            message: text(told.get_item(1)),
            traceback: text(told.get_item(2)),
            reason: None,
        },
        Err(_) => RemoteError {
            type_name: text(err.get_type(py).getattr(intern!(py, "__name__"))),
            message: err.value(py).to_string(),
            traceback: String::new(),
            reason: None,
        },
    }
}
