//! Writing what is not one of the plain types: extensions, subclasses, numpy, other buffers; and
//! the errors that say what to do about the rest.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyComplex, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::convert_array as array;
use super::convert_buffer::ByteBuffer;
use super::convert_types::{Kind, Types};
use super::convert_write::{Walk, codec_error};
use crate::codec::{ext, write as w};

/// The name of an object's type as it stands in messages.
pub(super) fn type_name(obj: &Bound<'_, PyAny>) -> String {
    let class = obj.get_type();
    class.fully_qualified_name().map_or_else(|_| "object".into(), |name| name.to_string())
}

/// Writes an object whose exact type is none of the plain ones.
pub(super) fn value(walk: &mut Walk<'_>, obj: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    let types = Types::get(obj.py())?;
    if let Some(kind) = types.exact_kind(obj) {
        return known(walk, types, obj, kind, depth);
    }
    if array::is_array(obj)? {
        return array::write_nested(walk, obj);
    }
    if array::is_scalar(obj)? {
        return match walk.exact {
            true => array::write_scalar(walk, obj),
            false => scalar(walk, obj, depth),
        };
    }
    if walk.exact {
        return exact_subclass(walk, types, obj, depth);
    }
    if let Ok(s) = obj.cast::<PyString>() {
        walk.text(s)
    } else if let Ok(i) = obj.cast::<PyInt>() {
        walk.int(i)
    } else if let Ok(f) = obj.cast::<PyFloat>() {
        w::float(walk.out, f.value());
        Ok(())
    } else if let Ok(b) = obj.cast::<PyBytes>() {
        walk.bytes(b.as_bytes())
    } else if let Ok(t) = obj.cast::<PyTuple>() {
        walk.tuple_items(t, depth)
    } else if let Ok(l) = obj.cast::<PyList>() {
        walk.list(l, depth)
    } else if obj.cast::<PyDict>().is_ok() {
        walk.mapping(obj, depth)
    } else if let Some(kind) = types.inherited_kind(obj)? {
        known(walk, types, obj, kind, depth)
    } else if let Ok(buffer) = ByteBuffer::any(obj) {
        bin(walk, obj, &buffer)
    } else {
        Err(unsupported(types, obj, ""))
    }
}

/// A numpy scalar as the Python number it stands for.
fn scalar(walk: &mut Walk<'_>, obj: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    let item = obj.call_method0("item")?;
    // longdouble gives itself back.
    if item.get_type().is(obj.get_type()) {
        let types = Types::get(obj.py())?;
        return Err(unsupported(types, obj, "convert it with float(x), or use exact=True"));
    }
    walk.value(&item, depth)
}

/// Exact mode: a named tuple, or a type that could not come back as what it is.
fn exact_subclass(
    walk: &mut Walk<'_>,
    types: &Types,
    obj: &Bound<'_, PyAny>,
    depth: usize,
) -> PyResult<()> {
    let fields = obj.getattr_opt("_fields")?.and_then(|f| f.cast_into::<PyTuple>().ok());
    let (Ok(tuple), Some(fields)) = (obj.cast::<PyTuple>(), fields) else {
        return Err(unsupported(
            types,
            obj,
            "exact=True brings back only the types of the documentation's table; convert it \
             to one of them, or use exact=False",
        ));
    };
    let py = obj.py();
    let names = PyString::new(py, " ").call_method1("join", (fields,))?.cast_into::<PyString>()?;
    let name = obj.get_type().getattr("__name__")?.cast_into::<PyString>()?;
    let start = w::ext_begin(walk.out);
    walk.sequence(tuple, depth, 2, |walk| {
        walk.text(&name)?;
        walk.text(&names)
    })?;
    w::ext_end(walk.out, start, ext::NAMEDTUPLE).map_err(codec_error)
}

/// Any buffer as a byte string, copied once.
fn bin(walk: &mut Walk<'_>, obj: &Bound<'_, PyAny>, buffer: &ByteBuffer) -> PyResult<()> {
    w::bin_head(walk.out, buffer.len()).map_err(codec_error)?;
    append(walk, obj, buffer)
}

fn append(walk: &mut Walk<'_>, obj: &Bound<'_, PyAny>, buffer: &ByteBuffer) -> PyResult<()> {
    let start = walk.out.len();
    walk.out.resize(start + buffer.len(), 0);
    buffer.copy_to(obj.py(), &mut walk.out[start..])
}

fn known(
    walk: &mut Walk<'_>,
    types: &Types,
    obj: &Bound<'_, PyAny>,
    kind: Kind,
    depth: usize,
) -> PyResult<()> {
    let exact = walk.exact;
    let mut put = |id: i8, body: &[u8]| w::ext(walk.out, id, body).map_err(codec_error);
    match kind {
        Kind::Complex => {
            let c = obj.cast::<PyComplex>()?;
            let mut body = [0; 16];
            body[..8].copy_from_slice(&c.real().to_be_bytes());
            body[8..].copy_from_slice(&c.imag().to_be_bytes());
            put(ext::COMPLEX, &body)
        }
        Kind::Decimal => put(ext::DECIMAL, obj.str()?.to_str()?.as_bytes()),
        Kind::Moment(id) => put(id, moment(types, obj, exact)?.as_bytes()),
        Kind::Date => {
            put(ext::DATE, obj.call_method0("isoformat")?.extract::<String>()?.as_bytes())
        }
        Kind::TimeDelta => {
            let part = |name: &str| obj.getattr(name)?.extract::<i64>();
            let seconds = part("days")? * 86_400 + part("seconds")?;
            let micros = u32::try_from(part("microseconds")?)?;
            let mut body = [0; 12];
            body[..8].copy_from_slice(&seconds.to_be_bytes());
            body[8..].copy_from_slice(&micros.to_be_bytes());
            put(ext::TIMEDELTA, &body)
        }
        Kind::Uuid => put(ext::UUID, obj.getattr("bytes")?.cast_into::<PyBytes>()?.as_bytes()),
        Kind::Path(id) => {
            let bytes = types.fsencode.bind(obj.py()).call1((obj,))?.cast_into::<PyBytes>()?;
            put(if exact { id } else { ext::PATH }, bytes.as_bytes())
        }
        Kind::Set(id) => {
            let start = w::ext_begin(walk.out);
            walk.sequence(obj, depth, 0, |_| Ok(()))?;
            w::ext_end(walk.out, start, id).map_err(codec_error)
        }
        Kind::ByteArray => {
            let buffer = ByteBuffer::any(obj)?;
            if !exact {
                return bin(walk, obj, &buffer);
            }
            w::ext_head(walk.out, ext::BYTEARRAY, buffer.len()).map_err(codec_error)?;
            append(walk, obj, &buffer)
        }
        Kind::MemoryView => match exact {
            false => bin(walk, obj, &ByteBuffer::any(obj)?),
            true => memoryview(walk, types, obj),
        },
        Kind::Deque if !exact => walk.sequence(obj, depth, 0, |_| Ok(())),
        Kind::Deque => {
            let maxlen = obj.getattr("maxlen")?;
            let start = w::ext_begin(walk.out);
            walk.sequence(obj, depth, 1, |walk| walk.value(&maxlen, depth + 1))?;
            w::ext_end(walk.out, start, ext::DEQUE).map_err(codec_error)
        }
        Kind::Mapping(_) if !exact => walk.mapping(obj, depth),
        Kind::Mapping(id) => {
            let start = w::ext_begin(walk.out);
            walk.mapping(obj, depth)?;
            w::ext_end(walk.out, start, id).map_err(codec_error)
        }
        Kind::Range | Kind::ChainMap | Kind::Ellipsis if !exact => {
            let cure = match kind {
                Kind::Range => "send list(x), or use exact=True",
                Kind::ChainMap => "send dict(x), or use exact=True",
                _ => "use exact=True",
            };
            Err(unsupported(types, obj, cure))
        }
        Kind::Range => {
            let parts = (obj.getattr("start")?, obj.getattr("stop")?, obj.getattr("step")?);
            let parts = parts.into_pyobject(obj.py())?;
            let start = w::ext_begin(walk.out);
            walk.tuple_items(&parts, depth)?;
            w::ext_end(walk.out, start, ext::RANGE).map_err(codec_error)
        }
        Kind::ChainMap => {
            let maps = obj.getattr("maps")?.cast_into::<PyList>()?;
            let start = w::ext_begin(walk.out);
            walk.list(&maps, depth)?;
            w::ext_end(walk.out, start, ext::CHAIN_MAP).map_err(codec_error)
        }
        Kind::Ellipsis => put(ext::ELLIPSIS, &[]),
    }
}

/// ISO text of a `datetime` or `time`, with what ISO cannot say in brackets behind it.
fn moment(types: &Types, obj: &Bound<'_, PyAny>, exact: bool) -> PyResult<String> {
    let py = obj.py();
    let mut text: String = obj.call_method0("isoformat")?.extract()?;
    let zone = obj.getattr("tzinfo")?;
    if !zone.is_none() {
        let key = match zone.is_instance(types.zone_info.bind(py))? {
            true => zone.getattr("key")?.extract::<Option<String>>()?,
            false => None,
        };
        match key {
            Some(key) => text.push_str(&format!("[{key}]")),
            None if exact && !zone.get_type().is(types.timezone.bind(py)) => {
                return Err(unsupported(
                    types,
                    &zone,
                    "use datetime.timezone or zoneinfo.ZoneInfo",
                ));
            }
            None => {}
        }
    }
    if obj.getattr("fold")?.is_truthy()? {
        text.push_str("[_fold=1]");
    }
    Ok(text)
}

/// Exact mode: format, shape and bytes of a memoryview.
fn memoryview(walk: &mut Walk<'_>, types: &Types, obj: &Bound<'_, PyAny>) -> PyResult<()> {
    let format = obj.getattr("format")?.cast_into::<PyString>()?;
    let castable = matches!(format.to_str()?.strip_prefix('@').unwrap_or(format.to_str()?),
        f if f.len() == 1 && "bBhHiIlLqQnNfdc?".contains(f));
    let buffer = ByteBuffer::any(obj)?;
    let shape = buffer.shape();
    if !castable || (shape.len() != 1 && shape.contains(&0)) {
        return Err(unsupported(types, obj, "of this format or shape: send x.tobytes()"));
    }
    // In C order, whatever the strides: that is what the reader casts.
    let bytes = obj.call_method0("tobytes")?.cast_into::<PyBytes>()?;
    let start = w::ext_begin(walk.out);
    w::array_head(walk.out, 3).map_err(codec_error)?;
    walk.text(&format)?;
    w::array_head(walk.out, shape.len()).map_err(codec_error)?;
    shape.iter().for_each(|&n| w::uint(walk.out, n));
    walk.bytes(bytes.as_bytes())?;
    w::ext_end(walk.out, start, ext::MEMORYVIEW).map_err(codec_error)
}

/// The error for a type that cannot travel, with what to do about it.
pub(super) fn unsupported(types: &Types, obj: &Bound<'_, PyAny>, cure: &str) -> PyErr {
    let py = obj.py();
    let has = |name: &str| obj.get_type().hasattr(name).unwrap_or(false);
    let cure = match cure {
        "" if has("__dataclass_fields__") => "send dataclasses.asdict(x)",
        "" if obj.is_instance(types.enumeration.bind(py)).unwrap_or(false) => "send x.value",
        "" if has("to_numpy") => "send x.to_numpy()",
        "" => "convert it to dict, list, str, bytes or numbers",
        cure => cure,
    };
    PyTypeError::new_err(format!(
        "cannot encode {}: {cure}; or open both ends with pickle=True",
        type_name(obj)
    ))
}
