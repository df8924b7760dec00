//! Python objects to records and back: the face that the ring, value and call bindings use.
//!
//! [`encode`] looks at an object, decides the record [`Tag`] and gives an [`Encoded`]: its exact
//! length, so that the binding reserves just that much, and [`Encoded::write_into`], which puts the
//! payload there. Bytes and arrays are copied once, from their own memory into the record;
//! everything else is written to a scratch buffer that is used again and again.
//!
//! | object | tag |
//! |---|---|
//! | bytes, bytearray, memoryview and other buffers | raw (bytes come back) |
//! | numpy array | array (a copy comes back; [`decode_array_view`] lends) |
//! | everything else that msgpack and the extensions can say | msgpack |
//! | the rest, with `pickle=True` | pickle |
//!
//! With `exact=True` bytearray and memoryview go as extensions, so that they come back as such.
//! [`decode`] reads what any mode wrote; only a pickle needs the reader's own `pickle=True`.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::buffer::copy;
use super::convert_array as array;
use super::convert_buffer::ByteBuffer;
use super::convert_read::{self as read, Place};
use super::convert_types::{Kind, Types};
use super::convert_write::{Walk, codec_error, exactly};
use crate::codec::{ARRAY_ALIGN, ArrayMeta, Tag, pad_array};

/// Version of pickles: known to every Python that we run on.
const PICKLE_PROTOCOL: u8 = 5;

/// How objects are written and read; per handle.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Every type comes back as it was.
    pub(crate) exact: bool,
    /// What msgpack cannot say goes as a pickle, and pickles are read.
    pub(crate) pickle: bool,
}

/// An object made ready for a record: it owns what it needs, so it may wait for room.
#[derive(Debug)]
pub(crate) struct Encoded {
    tag: Tag,
    head: Vec<u8>,
    body: Body,
}

/// What follows the head, still in its owner's memory.
#[derive(Debug)]
enum Body {
    None,
    Bytes(Py<PyBytes>),
    Buffer(ByteBuffer),
}

impl Encoded {
    /// The tag for the record header.
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// Length of the payload in bytes.
    pub(crate) fn len(&self, py: Python<'_>) -> usize {
        self.head.len()
            + match &self.body {
                Body::None => 0,
                Body::Bytes(bytes) => bytes.bind(py).as_bytes().len(),
                Body::Buffer(buffer) => buffer.len(),
            }
    }

    /// Copies the payload into `out`, which is exactly [`Encoded::len`] long.
    pub(crate) fn write_into(&self, py: Python<'_>, out: &mut [u8]) -> PyResult<()> {
        let len = self.len(py);
        if out.len() != len {
            return Err(PyValueError::new_err(format!(
                "payload of {len} bytes for a record of {}",
                out.len()
            )));
        }
        let (head, rest) = out.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        match &self.body {
            Body::None => {}
            Body::Bytes(bytes) => copy(py, rest, bytes.bind(py).as_bytes()),
            Body::Buffer(buffer) => buffer.copy_to(py, rest)?,
        }
        Ok(())
    }

    /// The payload as two pieces, one behind the other. `spare` takes a copy of what others may write to
    /// meanwhile.
    pub(crate) fn pieces<'a>(
        &'a self,
        py: Python<'a>,
        spare: &'a mut Vec<u8>,
    ) -> PyResult<[&'a [u8]; 2]> {
        let body = match &self.body {
            Body::None => &[],
            Body::Bytes(bytes) => bytes.bind(py).as_bytes(),
            Body::Buffer(buffer) => {
                spare.resize(buffer.len(), 0);
                buffer.copy_to(py, spare)?;
                spare
            }
        };
        Ok([&self.head, body])
    }

    /// Gives the scratch buffer back for the next [`encode`].
    pub(crate) fn recycle(self, scratch: &mut Vec<u8>) {
        if scratch.capacity() < self.head.capacity() {
            *scratch = self.head;
        }
    }
}

/// Makes `obj` ready for a record. `scratch` is emptied and taken; [`Encoded::recycle`] gives it
/// back.
///
/// # Errors
/// `TypeError` that names a type that cannot travel and says what to do; `ValueError` for values
/// nested too deep.
pub(crate) fn encode(
    obj: &Bound<'_, PyAny>,
    opts: Options,
    scratch: &mut Vec<u8>,
) -> PyResult<Encoded> {
    scratch.clear();
    if let Some(bytes) = exactly::<PyBytes>(obj) {
        return Ok(raw(Body::Bytes(bytes.clone().unbind())));
    }
    let plain = obj.is_none()
        || obj.is_exact_instance_of::<PyTuple>()
        || obj.is_exact_instance_of::<PyDict>()
        || obj.is_exact_instance_of::<PyString>()
        || obj.is_exact_instance_of::<PyInt>()
        || obj.is_exact_instance_of::<PyFloat>()
        || obj.is_exact_instance_of::<PyList>();
    let made = if plain { Ok(None) } else { one_piece(obj, opts, scratch) };
    let made = match made {
        Ok(None) => Walk { out: scratch, exact: opts.exact }.value(obj, 0).map(|()| None),
        other => other,
    };
    match made {
        Ok(Some(encoded)) => Ok(encoded),
        Ok(None) => {
            Ok(Encoded { tag: Tag::MSGPACK, head: std::mem::take(scratch), body: Body::None })
        }
        Err(err) if opts.pickle && err.is_instance_of::<PyTypeError>(obj.py()) => pickled(obj),
        Err(err) => Err(err),
    }
}

fn raw(body: Body) -> Encoded {
    Encoded { tag: Tag::RAW, head: Vec::new(), body }
}

/// Arrays and buffers, whose bytes are not to be copied twice; `None` for every other object.
fn one_piece(
    obj: &Bound<'_, PyAny>,
    opts: Options,
    scratch: &mut Vec<u8>,
) -> PyResult<Option<Encoded>> {
    if array::is_array(obj)? {
        let (meta, buffer) = array::export(obj)?;
        meta.write(scratch).map_err(codec_error)?;
        pad_array(scratch, 0);
        let head = std::mem::take(scratch);
        return Ok(Some(Encoded { tag: Tag::ARRAY, head, body: Body::Buffer(buffer) }));
    }
    if opts.exact || array::is_scalar(obj)? {
        return Ok(None);
    }
    match Types::get(obj.py())?.exact_kind(obj) {
        Some(Kind::ByteArray | Kind::MemoryView) => {}
        Some(_) => return Ok(None),
        // Subclasses of the plain types are values; any other exporter is bytes.
        None if obj.is_instance_of::<PyString>() || obj.is_instance_of::<PyInt>() => {
            return Ok(None);
        }
        None => {
            return Ok(ByteBuffer::any(obj).ok().map(|buffer| raw(Body::Buffer(buffer))));
        }
    }
    ByteBuffer::any(obj).map(|buffer| Some(raw(Body::Buffer(buffer))))
}

fn pickled(obj: &Bound<'_, PyAny>) -> PyResult<Encoded> {
    let py = obj.py();
    let bytes = py.import("pickle")?.call_method1("dumps", (obj, PICKLE_PROTOCOL))?;
    let body = Body::Bytes(bytes.cast_into::<PyBytes>()?.unbind());
    Ok(Encoded { tag: Tag::PICKLE, head: Vec::new(), body })
}

/// The object of a record. Nothing of `payload` is kept: the object owns all it holds.
///
/// # Errors
/// `ValueError` for bytes that no peer of ours writes, for unknown tags and extensions, and for a
/// pickle where the reader did not ask for them.
pub(crate) fn decode<'py>(
    py: Python<'py>,
    tag: u8,
    payload: &[u8],
    opts: Options,
) -> PyResult<Bound<'py, PyAny>> {
    match Tag::from_byte(tag).map_err(codec_error)? {
        Tag::MSGPACK => read::whole(py, payload, 0, Place::Plain),
        Tag::ARRAY => {
            let (meta, data) = ArrayMeta::split(payload).map_err(codec_error)?;
            array::copied(py, &meta, data)
        }
        Tag::PICKLE if opts.pickle => {
            py.import("pickle")?.call_method1("loads", (PyBytes::new(py, payload),))
        }
        Tag::PICKLE => Err(PyValueError::new_err(
            "the message is a pickle and this end was opened without pickle=True: a pickle runs \
             code of its writer, so open with pickle=True only if you trust every process that \
             can write here",
        )),
        _ => Ok(PyBytes::new(py, payload).into_any()),
    }
}

/// A read-only array over an array record that stays where it is: `exporter` exports exactly the
/// bytes of `payload` and keeps them there as long as somebody looks at them.
///
/// # Errors
/// `ValueError` if the meta is damaged.
pub(crate) fn decode_array_view<'py>(
    payload: &[u8],
    exporter: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (meta, data) = ArrayMeta::split(payload).map_err(codec_error)?;
    let offset = payload.len() - data.len();
    debug_assert!(offset.is_multiple_of(ARRAY_ALIGN));
    array::lent(exporter, &meta, offset)
}

/// `_encode(obj, exact=False, pickle=False) -> (tag, bytes)`: the codec alone, for the tests.
#[pyfunction]
#[pyo3(name = "_encode", signature = (obj, exact = false, pickle = false))]
fn encode_hook<'py>(
    obj: &Bound<'py, PyAny>,
    exact: bool,
    pickle: bool,
) -> PyResult<(u8, Bound<'py, PyBytes>)> {
    let py = obj.py();
    let encoded = encode(obj, Options { exact, pickle }, &mut Vec::new())?;
    let bytes =
        PyBytes::new_with(py, encoded.len(py), |out: &mut [u8]| encoded.write_into(py, out))?;
    Ok((encoded.tag().byte(), bytes))
}

/// `_decode(tag, data, exact=False, pickle=False)`: the other way.
#[pyfunction]
#[pyo3(name = "_decode", signature = (tag, data, exact = false, pickle = false))]
fn decode_hook<'py>(
    py: Python<'py>,
    tag: u8,
    data: &[u8],
    exact: bool,
    pickle: bool,
) -> PyResult<Bound<'py, PyAny>> {
    decode(py, tag, data, Options { exact, pickle })
}

/// `_decode_array_view(data)`: an array over the memory of `data`, which is `bytes`.
#[pyfunction]
#[pyo3(name = "_decode_array_view")]
fn decode_array_view_hook<'py>(data: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    decode_array_view(data.as_bytes(), data.as_any())
}

/// Adds the private hooks to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(encode_hook, m)?)?;
    m.add_function(wrap_pyfunction!(decode_hook, m)?)?;
    m.add_function(wrap_pyfunction!(array::meta_hook, m)?)?;
    m.add_function(wrap_pyfunction!(array::over_hook, m)?)?;
    m.add_function(wrap_pyfunction!(decode_array_view_hook, m)?)
}
