//! What a `View` is told in Python: tags, schemas and values; and what it gives back.
//!
//! Values become bytes before the memory is touched. Turning them may run Python code (`__index__`,
//! `__float__`, iterators), which may do anything, the view itself included.

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple, PyType,
};
use std::borrow::Cow;

use super::convert_buffer::Piece;
use super::errors;
use crate::view::{ViewItem, ViewTag, encode};

/// One entry of a schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) tag: ViewTag,
    pub(super) count: usize,
}

impl Entry {
    /// Whether it stands for the item itself, not for a list of them.
    fn is_scalar(self) -> bool {
        self.count == 1
    }
}

fn type_name(obj: &Bound<'_, PyAny>) -> String {
    obj.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}

/// A number of bytes or items; what no memory can have is told as what it is.
pub(super) fn number(given: &Bound<'_, PyAny>, what: &str) -> PyResult<usize> {
    given.extract::<usize>().map_err(|err| {
        if err.is_instance_of::<PyOverflowError>(given.py()) {
            let shown = given.str().map_or_else(|_| "the int".to_owned(), |s| s.to_string());
            errors::option(format!("view: {shown} is no {what}: it is negative or too large"))
        } else {
            err
        }
    })
}

/// The tag that a string or a type names.
pub(super) fn tag(given: &Bound<'_, PyAny>) -> PyResult<ViewTag> {
    if let Ok(name) = given.cast::<PyString>() {
        return name.to_cow()?.parse().map_err(|err| errors::view(&err));
    }
    let py = given.py();
    let types = [
        (py.get_type::<PyBool>(), ViewTag::Bool),
        (py.get_type::<PyInt>(), ViewTag::I64),
        (py.get_type::<PyFloat>(), ViewTag::F64),
        (py.get_type::<PyString>(), ViewTag::Str),
        (py.get_type::<PyBytes>(), ViewTag::Bytes),
    ];
    if let Some((_, tag)) = types.iter().find(|(class, _)| given.is(class)) {
        return Ok(*tag);
    }
    let shown = match given.cast::<PyType>() {
        Ok(class) => format!("the type {}", class.name()?),
        Err(_) => type_name(given),
    };
    let names = ViewTag::ALL.iter().map(|tag| tag.name()).collect::<Vec<_>>().join(", ");
    Err(PyTypeError::new_err(format!(
        "view: a tag is one of the strings {names} or one of the types bool, int (i64), float (f64), \
         str, bytes; not {shown}"
    )))
}

/// The members of a list, tuple or other iterable; a string is none here.
fn members<'py>(given: &Bound<'py, PyAny>, what: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let text = given.is_instance_of::<PyString>()
        || given.is_instance_of::<PyBytes>()
        || given.is_instance_of::<PyByteArray>();
    match given.try_iter() {
        Ok(iter) if !text => iter.collect(),
        Err(err) if !err.is_instance_of::<PyTypeError>(given.py()) => Err(err),
        _ => Err(PyTypeError::new_err(format!(
            "view: {what} in a list or another iterable, not {}",
            type_name(given)
        ))),
    }
}

/// The entries of a schema: tags, and tuples of tag and count.
pub(super) fn schema(given: &Bound<'_, PyAny>) -> PyResult<Vec<Entry>> {
    members(given, "a schema has its entries")?.iter().map(entry).collect()
}

fn entry(given: &Bound<'_, PyAny>) -> PyResult<Entry> {
    let Ok(pair) = given.cast::<PyTuple>() else {
        return Ok(Entry { tag: tag(given)?, count: 1 });
    };
    if pair.len() != 2 {
        let text =
            format!("an entry of a schema is a tag or (tag, count), not {} of it", pair.len());
        return Err(errors::option(format!("view: {text}")));
    }
    let (named, count) = (tag(&pair.get_item(0)?)?, pair.get_item(1)?);
    if count.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err("view: a count is an int, not bool"));
    }
    Ok(Entry { tag: named, count: number(&count, "count")? })
}

/// The type that a value has without being told.
fn inferred(value: &Bound<'_, PyAny>) -> PyResult<ViewTag> {
    if value.is_instance_of::<PyBool>() {
        Ok(ViewTag::Bool)
    } else if value.is_instance_of::<PyInt>() {
        Ok(ViewTag::I64)
    } else if value.is_instance_of::<PyFloat>() {
        Ok(ViewTag::F64)
    } else if value.is_instance_of::<PyString>() {
        Ok(ViewTag::Str)
    } else if value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>() {
        Ok(ViewTag::Bytes)
    } else {
        Err(PyTypeError::new_err(format!(
            "view: {} has no tag of its own; write a bool, int, float, str, bytes or bytearray, or \
             name a tag or schema",
            type_name(value)
        )))
    }
}

/// The error of a value that the tag does not take.
fn wrong_type(value: &Bound<'_, PyAny>, tag: ViewTag, takes: &str) -> PyErr {
    PyTypeError::new_err(format!("view: the tag {tag} takes {takes}, not {}", type_name(value)))
}

/// A number as Rust has it. bool, which is an int to Python, is no number here.
fn to_number<'py, T>(value: &Bound<'py, PyAny>, tag: ViewTag, takes: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    if value.is_instance_of::<PyBool>() {
        return Err(wrong_type(value, tag, takes));
    }
    let py = value.py();
    value.extract::<T>().map_err(|err| {
        let told = if err.is_instance_of::<PyOverflowError>(py) {
            PyOverflowError::new_err(format!("view: the value does not fit into the tag {tag}"))
        } else if err.is_instance_of::<PyTypeError>(py) {
            wrong_type(value, tag, takes)
        } else {
            return err;
        };
        told.set_cause(py, Some(err));
        told
    })
}

fn to_f32(value: &Bound<'_, PyAny>) -> PyResult<f32> {
    let wide: f64 = to_number(value, ViewTag::F32, "a float")?;
    #[allow(clippy::cast_possible_truncation, reason = "rounding is what f32 means")]
    let narrow = wide as f32;
    if narrow.is_infinite() && wide.is_finite() {
        return Err(PyOverflowError::new_err("view: the value does not fit into the tag f32"));
    }
    Ok(narrow)
}

/// The bytes of a bytes-like object, copied if they may change.
pub(super) fn raw<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Cow::Borrowed(bytes.as_bytes()));
    }
    let piece = Piece::read(value)?;
    let mut copy = vec![0; piece.len()];
    // Cannot fail: it is as long as the piece.
    let _ = piece.copy_out(value.py(), 0, &mut copy);
    Ok(Cow::Owned(copy))
}

/// Puts a value behind what `out` holds: as the tag says, or as its type does.
pub(super) fn put(
    value: &Bound<'_, PyAny>,
    tag: Option<ViewTag>,
    out: &mut Vec<u8>,
) -> PyResult<()> {
    let tag = tag.map_or_else(|| inferred(value), Ok)?;
    let put = match tag {
        ViewTag::Bool => {
            let flag = value.cast::<PyBool>().map_err(|_| wrong_type(value, tag, "a bool"))?;
            encode(&flag.is_true(), out)
        }
        ViewTag::I32 => encode(&to_number::<i32>(value, tag, "an int")?, out),
        ViewTag::U32 => encode(&to_number::<u32>(value, tag, "an int")?, out),
        ViewTag::I64 => encode(&to_number::<i64>(value, tag, "an int")?, out),
        ViewTag::U64 => encode(&to_number::<u64>(value, tag, "an int")?, out),
        ViewTag::F32 => encode(&to_f32(value)?, out),
        ViewTag::F64 => encode(&to_number::<f64>(value, tag, "a float")?, out),
        ViewTag::Str => {
            let text = value.cast::<PyString>().map_err(|_| wrong_type(value, tag, "a str"))?;
            encode(&*text.to_cow()?, out)
        }
        ViewTag::Bytes => {
            if value.is_instance_of::<PyString>() {
                return Err(wrong_type(value, tag, "a bytes-like object"));
            }
            encode(&*raw(value)?, out)
        }
    };
    put.map_err(|err| errors::view(&err))
}

/// The bytes of values after each other.
pub(super) fn put_all(
    values: &Bound<'_, PyAny>,
    schema: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<u8>> {
    let values = members(values, "the values are given")?;
    let mut out = Vec::new();
    let Some(given) = schema else {
        for (i, value) in values.iter().enumerate() {
            put(value, None, &mut out).map_err(|err| located(value.py(), err, i))?;
        }
        return Ok(out);
    };
    let entries = self::schema(given)?;
    if entries.len() != values.len() {
        let (has, wants) = (values.len(), entries.len());
        return Err(errors::option(format!(
            "view: {has} values for a schema of {wants} entries; give one for each, a list where the \
             count is not 1"
        )));
    }
    for (i, (value, entry)) in values.iter().zip(entries).enumerate() {
        put_entry(value, entry, &mut out).map_err(|err| located(value.py(), err, i))?;
    }
    Ok(out)
}

fn put_entry(value: &Bound<'_, PyAny>, entry: Entry, out: &mut Vec<u8>) -> PyResult<()> {
    if entry.is_scalar() {
        return put(value, Some(entry.tag), out);
    }
    let row = members(value, &format!("{} of {} are given", entry.count, entry.tag))?;
    if row.len() != entry.count {
        let (has, wants) = (row.len(), entry.count);
        return Err(errors::option(format!(
            "view: {has} values where the schema has {wants} of {}",
            entry.tag
        )));
    }
    row.iter().try_for_each(|value| put(value, Some(entry.tag), out))
}

/// Notes which of the values it was.
fn located(py: Python<'_>, err: PyErr, at: usize) -> PyErr {
    // An exception that takes no note is told without.
    let _ = err.value(py).call_method1("add_note", (format!("in value {at} of the view's items"),));
    err
}

/// An item as Python has it.
pub(super) fn object<'py>(py: Python<'py>, item: &ViewItem) -> PyResult<Bound<'py, PyAny>> {
    Ok(match item {
        ViewItem::Bool(v) => PyBool::new(py, *v).to_owned().into_any(),
        ViewItem::I32(v) => v.into_pyobject(py)?.into_any(),
        ViewItem::U32(v) => v.into_pyobject(py)?.into_any(),
        ViewItem::I64(v) => v.into_pyobject(py)?.into_any(),
        ViewItem::U64(v) => v.into_pyobject(py)?.into_any(),
        ViewItem::F32(v) => PyFloat::new(py, f64::from(*v)).into_any(),
        ViewItem::F64(v) => PyFloat::new(py, *v).into_any(),
        ViewItem::Str(v) => PyString::new(py, v).into_any(),
        ViewItem::Bytes(v) => super::buffer::bytes(py, v)?,
    })
}

/// Items that were read one after another, as the entries group them.
pub(super) fn grouped<'py>(
    py: Python<'py>,
    entries: &[Entry],
    items: &[ViewItem],
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    let mut rest = items;
    for entry in entries {
        let (row, behind) = rest.split_at_checked(entry.count).unwrap_or((rest, &[]));
        rest = behind;
        match row {
            [item] if entry.is_scalar() => list.append(object(py, item)?)?,
            row => {
                let inner = PyList::empty(py);
                row.iter().try_for_each(|item| inner.append(object(py, item)?))?;
                list.append(inner)?;
            }
        }
    }
    Ok(list)
}
