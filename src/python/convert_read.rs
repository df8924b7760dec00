//! msgpack to Python objects in one walk, straight into lists, tuples and dicts of the right size.
//! Extensions are in `convert_read_more.rs`.

use std::cell::RefCell;
use std::str;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};

use super::convert_read_more as more;
use super::convert_write::codec_error;
use crate::codec::{CodecError, Head, MAX_DEPTH, Reader};

/// Where a value stands decides what an array becomes: keys and members of sets must be hashable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Arrays become lists.
    Plain,
    /// Arrays become tuples.
    Hashed,
}

/// A value, decoded or not: what PyO3 takes items of lists and tuples from.
struct Item<'py>(PyResult<Bound<'py, PyAny>>);

impl<'py> IntoPyObject<'py> for Item<'py> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    #[inline(always)]
    fn into_pyobject(self, _py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0
    }
}

/// The one value that fills `bytes`, which lie inside so many containers.
pub(super) fn whole<'py>(
    py: Python<'py>,
    bytes: &[u8],
    depth: usize,
    place: Place,
) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader::new(bytes);
    let obj = value(py, &mut reader, depth, 0, place)?;
    reader.end().map_err(codec_error)?;
    Ok(obj)
}

/// The next value; `owed` as in [`Reader::head`].
pub(super) fn value<'py>(
    py: Python<'py>,
    reader: &mut Reader<'_>,
    depth: usize,
    owed: usize,
    place: Place,
) -> PyResult<Bound<'py, PyAny>> {
    let at = reader.pos();
    Ok(match reader.head(owed).map_err(codec_error)? {
        Head::Int(v) => v.into_pyobject(py)?.into_any(),
        Head::Str(v) => text(py, v, at)?.into_any(),
        Head::Float(v) => PyFloat::new(py, v).into_any(),
        Head::Nil => py.None().into_bound(py),
        Head::Bool(v) => PyBool::new(py, v).to_owned().into_any(),
        Head::Bin(v) => PyBytes::new(py, v).into_any(),
        Head::UInt(v) => v.into_pyobject(py)?.into_any(),
        Head::Array(n) => match place {
            Place::Plain => list(py, reader, n, depth, owed)?.into_any(),
            Place::Hashed => tuple(py, reader, n, depth, owed, place)?.into_any(),
        },
        Head::Map(n) => map(py, reader, n, depth, owed)?.into_any(),
        Head::Ext(id, body) => more::extension(py, id, body, depth, place)?,
    })
}

fn enter(depth: usize) -> PyResult<usize> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(codec_error(CodecError::TooDeep)) }
}

fn text<'py>(py: Python<'py>, bytes: &[u8], at: usize) -> PyResult<Bound<'py, PyString>> {
    let text = str::from_utf8(bytes).map_err(|_| codec_error(CodecError::BadUtf8 { at }))?;
    Ok(PyString::new(py, text))
}

/// The `n` items of an array whose head has been read.
pub(super) fn list<'py>(
    py: Python<'py>,
    reader: &mut Reader<'_>,
    n: usize,
    depth: usize,
    owed: usize,
) -> PyResult<Bound<'py, PyList>> {
    let depth = enter(depth)?;
    // Memory for `n` items is bounded: the reader has checked that as many bytes are there.
    let items = (0..n).map(|i| Item(value(py, reader, depth, owed + (n - i - 1), Place::Plain)));
    PyList::new(py, items)
}

/// As [`list`], a tuple.
pub(super) fn tuple<'py>(
    py: Python<'py>,
    reader: &mut Reader<'_>,
    n: usize,
    depth: usize,
    owed: usize,
    place: Place,
) -> PyResult<Bound<'py, PyTuple>> {
    let depth = enter(depth)?;
    PyTuple::new(py, (0..n).map(|i| Item(value(py, reader, depth, owed + (n - i - 1), place))))
}

/// The `n` pairs of a map whose head has been read.
pub(super) fn map<'py>(
    py: Python<'py>,
    reader: &mut Reader<'_>,
    n: usize,
    depth: usize,
    owed: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let depth = enter(depth)?;
    let dict = PyDict::new(py);
    for i in 0..n {
        let behind = owed + 2 * (n - i - 1);
        let key = key(py, reader, depth, behind + 1)?;
        let item = value(py, reader, depth, behind, Place::Plain)?;
        dict.set_item(key, item).map_err(|err| unhashable(py, err))?;
    }
    Ok(dict)
}

/// The error for bytes that ask for an unhashable key or member.
pub(super) fn unhashable(py: Python<'_>, err: PyErr) -> PyErr {
    let new = PyValueError::new_err(format!("key of a map or member of a set: {}", err.value(py)));
    new.set_cause(py, Some(err));
    new
}

fn key<'py>(
    py: Python<'py>,
    reader: &mut Reader<'_>,
    depth: usize,
    owed: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let mut ahead = reader.clone();
    match ahead.head(owed).map_err(codec_error)? {
        Head::Str(bytes) if bytes.len() <= KEY_MAX => {
            let at = reader.pos();
            *reader = ahead;
            cached_key(py, bytes, at).map(Bound::into_any)
        }
        _ => value(py, reader, depth, owed, Place::Hashed),
    }
}

/// Longest key that is kept.
const KEY_MAX: usize = 23;

/// How many keys a thread keeps: a power of two.
const KEYS: usize = 512;

/// A key seen before, with its bytes: found again without making a new `str`, and its hash is
/// computed already.
struct Key {
    len: u8,
    bytes: [u8; KEY_MAX],
    text: Py<PyString>,
}

thread_local! {
    static CACHE: RefCell<Vec<Option<Key>>> = const { RefCell::new(Vec::new()) };
}

/// Keys repeat from message to message, so the newest of each slot is kept. A peer that sends ever
/// new keys gains nothing but misses.
fn cached_key<'py>(py: Python<'py>, bytes: &[u8], at: usize) -> PyResult<Bound<'py, PyString>> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let slot = usize::try_from((hash ^ (hash >> 32)) & (KEYS as u64 - 1)).unwrap_or(0);
    let found = CACHE.with_borrow(|cache| match cache.get(slot) {
        Some(Some(key)) if key.bytes.get(..usize::from(key.len)) == Some(bytes) => {
            Some(key.text.bind(py).clone())
        }
        _ => None,
    });
    if let Some(text) = found {
        return Ok(text);
    }
    let made = text(py, bytes, at)?;
    let mut key = Key { len: 0, bytes: [0; KEY_MAX], text: made.clone().unbind() };
    key.bytes[..bytes.len()].copy_from_slice(bytes);
    key.len = u8::try_from(bytes.len()).unwrap_or(0);
    // What is pushed out is dropped outside the borrow.
    let _old = CACHE.with_borrow_mut(|cache| {
        if cache.is_empty() {
            cache.resize_with(KEYS, || None);
        }
        cache[slot].replace(key)
    });
    Ok(made)
}
