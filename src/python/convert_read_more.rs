//! Extensions to the Python objects they stand for.

use std::str;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFrozenSet, PyList, PyMemoryView, PySet, PyString,
};

use super::convert_array as array;
use super::convert_read::{self as read, Place, unhashable};
use super::convert_types::Types;
use super::convert_write::codec_error;
use crate::codec::{ArrayMeta, CodecError, Head, Reader, ext};

/// How many named tuple classes are kept.
const NAMEDTUPLES: usize = 256;

/// The object of one extension. Whatever Python itself refuses in a body (a date with a month 13)
/// is a `ValueError` that names the extension.
pub(super) fn extension<'py>(
    py: Python<'py>,
    id: i8,
    body: &[u8],
    depth: usize,
    place: Place,
) -> PyResult<Bound<'py, PyAny>> {
    let damaged = || codec_error(CodecError::BadExt(id));
    let types = Types::get(py)?;
    match id {
        ext::SET | ext::FROZENSET => {
            let (mut reader, n) = array_of(id, body)?;
            let items = read::tuple(py, &mut reader, n, depth, 0, Place::Hashed)?;
            reader.end().map_err(codec_error)?;
            let class = match id {
                ext::SET if place == Place::Plain => py.get_type::<PySet>(),
                _ => py.get_type::<PyFrozenSet>(),
            };
            class.call1((items,)).map_err(|err| unhashable(py, err))
        }
        ext::TUPLE => {
            let (mut reader, n) = array_of(id, body)?;
            let items = read::tuple(py, &mut reader, n, depth, 0, place)?;
            reader.end().map_err(codec_error)?;
            Ok(items.into_any())
        }
        ext::DEQUE | ext::RANGE | ext::NAMEDTUPLE | ext::CHAIN_MAP | ext::MEMORYVIEW => {
            let (mut reader, n) = array_of(id, body)?;
            let items = read::list(py, &mut reader, n, depth, 0)?;
            reader.end().map_err(codec_error)?;
            explain(py, id, composed(types, id, &items)).and_then(|obj| obj.ok_or_else(damaged))
        }
        ext::COUNTER | ext::ORDERED_DICT => {
            let mut reader = Reader::new(body);
            let Head::Map(n) = reader.head(0).map_err(codec_error)? else {
                return Err(damaged());
            };
            let dict = read::map(py, &mut reader, n, depth, 0)?;
            reader.end().map_err(codec_error)?;
            let class = if id == ext::COUNTER { &types.counter } else { &types.ordered_dict };
            explain(py, id, class.bind(py).call1((dict,)))
        }
        ext::NDARRAY | ext::NUMPY_SCALAR => {
            let (meta, used) = ArrayMeta::read(body).map_err(codec_error)?;
            let data = &body[used..];
            let fits = id == ext::NDARRAY || meta.shape().is_empty();
            if data.len() != meta.byte_len() || !fits {
                return Err(damaged());
            }
            let made = explain(py, id, array::copied(py, &meta, data))?;
            if id == ext::NDARRAY { Ok(made) } else { array::scalar_of(&made) }
        }
        _ if ext::body(id).is_none() => Err(codec_error(CodecError::UnknownExt(id))),
        _ => explain(py, id, flat(py, types, id, body)).and_then(|obj| obj.ok_or_else(damaged)),
    }
}

/// Python's own refusal of a body, as a `ValueError` that names the extension. What is no refusal
/// (no memory, no numpy, Ctrl-C) stays as it is.
fn explain<T>(py: Python<'_>, id: i8, made: PyResult<T>) -> PyResult<T> {
    use pyo3::exceptions::{
        PyArithmeticError, PyAttributeError, PyBufferError, PyLookupError, PyTypeError,
    };
    made.map_err(|err| {
        let refusal = err.is_instance_of::<PyValueError>(py)
            || err.is_instance_of::<PyTypeError>(py)
            || err.is_instance_of::<PyArithmeticError>(py)
            || err.is_instance_of::<PyLookupError>(py)
            || err.is_instance_of::<PyAttributeError>(py)
            || err.is_instance_of::<PyBufferError>(py);
        if !refusal {
            return err;
        }
        let text = format!("{}: {}", CodecError::BadExt(id), err.value(py));
        let new = PyValueError::new_err(text);
        new.set_cause(py, Some(err));
        new
    })
}

fn array_of(id: i8, body: &[u8]) -> PyResult<(Reader<'_>, usize)> {
    let mut reader = Reader::new(body);
    match reader.head(0).map_err(codec_error)? {
        Head::Array(n) => Ok((reader, n)),
        _ => Err(codec_error(CodecError::BadExt(id))),
    }
}

/// Extensions whose body is an array with a meaning by position; `None` if it is not that.
fn composed<'py>(
    types: &Types,
    id: i8,
    items: &Bound<'py, PyList>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = items.py();
    let n = items.len();
    let obj = match id {
        ext::DEQUE if n >= 1 => {
            let rest = items.get_slice(1, n);
            types.deque.bind(py).call1((rest, items.get_item(0)?))?
        }
        ext::RANGE if n == 3 => types.range.bind(py).call1(items.to_tuple())?,
        ext::NAMEDTUPLE if n >= 2 => {
            let Ok(name) = items.get_item(0)?.cast_into::<PyString>() else { return Ok(None) };
            let Ok(fields) = items.get_item(1)?.cast_into::<PyString>() else { return Ok(None) };
            let class = namedtuple(types, &name, &fields, n - 2)?;
            let Some(class) = class else { return Ok(None) };
            class.call1(items.get_slice(2, n).to_tuple())?
        }
        ext::CHAIN_MAP => {
            let chain_map = types.chain_map.bind(py);
            for map in items.iter() {
                if !map.is_instance_of::<PyDict>() && !map.is_instance(chain_map)? {
                    return Ok(None);
                }
            }
            chain_map.call1(items.to_tuple())?
        }
        ext::MEMORYVIEW if n == 3 => {
            let Ok(bytes) = items.get_item(2)?.cast_into::<PyBytes>() else { return Ok(None) };
            let Ok(format) = items.get_item(0)?.cast_into::<PyString>() else { return Ok(None) };
            let Ok(shape) = items.get_item(1)?.cast_into::<PyList>() else { return Ok(None) };
            let view = PyMemoryView::from(&bytes)?;
            match (shape.len(), format.to_str()?) {
                (1, "B") => view.into_any(),
                (1, _) => view.call_method1("cast", (format,))?,
                _ => view.call_method1("cast", (format, shape))?,
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(obj))
}

/// The class of a named tuple: one per name and fields, so that two messages give one class.
fn namedtuple<'py>(
    types: &Types,
    name: &Bound<'py, PyString>,
    fields: &Bound<'py, PyString>,
    values: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = name.py();
    let cache = types.namedtuples.bind(py);
    // Nobody makes classes with more fields than the message has values.
    if fields.to_str()?.split_ascii_whitespace().count() != values {
        return Ok(None);
    }
    if let Some(class) = cache.get_item((name, fields))? {
        return Ok(Some(class));
    }
    let kwargs = PyDict::new(py);
    kwargs.set_item("module", "ringspan")?;
    let class = types.namedtuple.bind(py).call((name, fields), Some(&kwargs))?;
    if cache.len() >= NAMEDTUPLES {
        cache.clear();
    }
    cache.set_item((name, fields), &class)?;
    Ok(Some(class))
}

/// Extensions whose body is bytes or text; `None` if the length or the text is wrong.
fn flat<'py>(
    py: Python<'py>,
    types: &Types,
    id: i8,
    body: &[u8],
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let obj = match id {
        ext::BIG_INT if !body.is_empty() => {
            let kwargs = PyDict::new(py);
            kwargs.set_item("signed", true)?;
            let args = (PyBytes::new(py, body), "big");
            types.int_from_bytes.bind(py).call(args, Some(&kwargs))?
        }
        ext::COMPLEX => {
            let Some((re, im)) = body.split_first_chunk::<8>() else { return Ok(None) };
            let Ok(im) = <[u8; 8]>::try_from(im) else { return Ok(None) };
            PyComplex::from_doubles(py, f64::from_be_bytes(*re), f64::from_be_bytes(im)).into_any()
        }
        ext::TIMEDELTA => {
            let Some((secs, micros)) = body.split_first_chunk::<8>() else { return Ok(None) };
            let Ok(micros) = <[u8; 4]>::try_from(micros) else { return Ok(None) };
            let args = (0, i64::from_be_bytes(*secs), u32::from_be_bytes(micros));
            types.timedelta.bind(py).call1(args)?
        }
        ext::UUID if body.len() == 16 => {
            let kwargs = PyDict::new(py);
            kwargs.set_item("bytes", PyBytes::new(py, body))?;
            types.uuid.bind(py).call((), Some(&kwargs))?
        }
        ext::BYTEARRAY => PyByteArray::new(py, body).into_any(),
        ext::ELLIPSIS if body.is_empty() => py.Ellipsis().into_bound(py),
        ext::DECIMAL | ext::DATE | ext::DATETIME | ext::TIME => {
            let Ok(text) = str::from_utf8(body) else { return Ok(None) };
            match id {
                ext::DECIMAL => types.decimal.bind(py).call1((text,))?,
                ext::DATE => types.date.bind(py).call_method1("fromisoformat", (text,))?,
                ext::DATETIME => moment(types, types.datetime.bind(py), text)?,
                _ => moment(types, types.time.bind(py), text)?,
            }
        }
        ext::PATH
        | ext::POSIX_PATH
        | ext::WINDOWS_PATH
        | ext::PURE_POSIX_PATH
        | ext::PURE_WINDOWS_PATH => {
            let text = types.fsdecode.bind(py).call1((PyBytes::new(py, body),))?;
            // A concrete path of the other kind of system comes back as its pure form.
            let class = match id {
                ext::PATH => &types.path,
                ext::POSIX_PATH if cfg!(unix) => &types.path,
                ext::WINDOWS_PATH if cfg!(windows) => &types.path,
                ext::POSIX_PATH | ext::PURE_POSIX_PATH => &types.pure_posix_path,
                _ => &types.pure_windows_path,
            };
            class.bind(py).call1((text,))?
        }
        _ => return Ok(None),
    };
    Ok(Some(obj))
}

/// ISO text with suffixes in brackets: a zone, `[_fold=1]`.
fn moment<'py>(
    types: &Types,
    class: &Bound<'py, PyAny>,
    text: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let (iso, mut suffixes) = text.split_at(text.find('[').unwrap_or(text.len()));
    let base = class.call_method1("fromisoformat", (iso,))?;
    if suffixes.is_empty() {
        return Ok(base);
    }
    let kwargs = PyDict::new(py);
    while let Some((suffix, rest)) = suffixes.strip_prefix('[').and_then(|s| s.split_once(']')) {
        suffixes = rest;
        if suffix == "_fold=1" {
            kwargs.set_item("fold", 1)?;
        } else {
            let zone = types.zone_info.bind(py).call1((suffix,)).map_err(|err| {
                let text = format!("time zone '{suffix}' is not known here (pip install tzdata)");
                let new = PyValueError::new_err(text);
                new.set_cause(py, Some(err));
                new
            })?;
            kwargs.set_item("tzinfo", zone)?;
        }
    }
    if !suffixes.is_empty() {
        return Err(PyValueError::new_err(format!("'{suffixes}' behind a time")));
    }
    base.call_method("replace", (), Some(&kwargs))
}
