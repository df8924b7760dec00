//! The packed items of membridge: native byte order, no gaps, no tags.
//!
//! A bool is a byte, an int an i64, a float an f64, a str its UTF-8 behind a u32 length; bytes and
//! bytearrays stand as they are, without a length. Tags name more numbers to read than are written.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::borrow::Cow;

/// Bytes of the length before a str.
const PREFIX: usize = 4;

/// What an item is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Bool,
    I64(&'static str),
    F64(&'static str),
    F32,
    I32,
    U8,
    U32,
    U64,
    Str,
}

impl Tag {
    /// The tag of that name.
    ///
    /// # Errors
    ///
    /// TypeError for what is no str, ValueError for another name.
    pub(super) fn of(given: &Bound<'_, PyAny>) -> PyResult<Tag> {
        let name = given.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!("a type tag must be a str, not {}", class(given)))
        })?;
        Ok(match &*name.to_cow()? {
            "int" => Tag::I64("int"),
            "i64" => Tag::I64("i64"),
            "float" => Tag::F64("float"),
            "f64" => Tag::F64("f64"),
            "str" => Tag::Str,
            "bool" => Tag::Bool,
            "f32" => Tag::F32,
            "i32" => Tag::I32,
            "u8" => Tag::U8,
            "u32" => Tag::U32,
            "u64" => Tag::U64,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "unknown type tag {}; supported: bool, int, float, f32, f64, i32, i64, u8, u32, \
                     u64, str",
                    name.repr()?
                )));
            }
        })
    }

    fn name(self) -> &'static str {
        match self {
            Tag::Bool => "bool",
            Tag::I64(name) | Tag::F64(name) => name,
            Tag::F32 => "f32",
            Tag::I32 => "i32",
            Tag::U8 => "u8",
            Tag::U32 => "u32",
            Tag::U64 => "u64",
            Tag::Str => "str",
        }
    }

    /// Bytes of one item; None for a str.
    fn size(self) -> Option<usize> {
        match self {
            Tag::Bool | Tag::U8 => Some(1),
            Tag::F32 | Tag::I32 | Tag::U32 => Some(4),
            Tag::I64(_) | Tag::F64(_) | Tag::U64 => Some(8),
            Tag::Str => None,
        }
    }
}

/// One entry of a schema: an item, or a list of so many if that is not 1.
pub(super) type Entry = (Tag, usize);

/// The entries of a schema.
///
/// # Errors
///
/// TypeError for what is no list, ValueError for an entry that is no `(tag, count)`.
pub(super) fn schema(given: &Bound<'_, PyAny>) -> PyResult<Vec<Entry>> {
    let list = given.cast::<PyList>().map_err(|_| {
        PyTypeError::new_err(format!("a schema must be a list, not {}", class(given)))
    })?;
    list.iter().map(|entry| self::entry(&entry)).collect()
}

fn entry(given: &Bound<'_, PyAny>) -> PyResult<Entry> {
    let pair = given.cast::<PyTuple>().ok().filter(|pair| pair.len() >= 2);
    let pair = pair
        .ok_or_else(|| PyValueError::new_err("schema entries must be (type_tag, count) tuples"))?;
    Ok((Tag::of(&pair.get_item(0)?)?, pair.get_item(1)?.extract()?))
}

fn class(given: &Bound<'_, PyAny>) -> String {
    given.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}

/// Values as they are stored.
pub(super) struct Packed<'a> {
    head: [u8; 8],
    /// Bytes of it that count.
    headed: usize,
    body: Cow<'a, [u8]>,
}

impl<'a> Packed<'a> {
    fn head<const N: usize>(bytes: [u8; N]) -> Self {
        let mut head = [0; 8];
        head[..N].copy_from_slice(&bytes);
        Packed { head, headed: N, body: Cow::Borrowed(&[]) }
    }

    fn body(body: Cow<'a, [u8]>) -> Self {
        Packed { head: [0; 8], headed: 0, body }
    }

    /// One value.
    ///
    /// # Errors
    ///
    /// ValueError for a type that membridge does not know, OverflowError for an int beyond 64 bits.
    #[inline]
    pub(super) fn value(value: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Packed::body(Cow::Borrowed(bytes.as_bytes())));
        }
        if let Ok(text) = value.cast::<PyString>() {
            let text = text.to_str()?;
            let len = u32::try_from(text.len())
                .map_err(|_| PyValueError::new_err("a str of 4 GiB or more"))?;
            let body = Cow::Borrowed(text.as_bytes());
            return Ok(Packed { body, ..Packed::head(len.to_ne_bytes()) });
        }
        if let Ok(flag) = value.cast::<PyBool>() {
            return Ok(Packed::head([u8::from(flag.is_true())]));
        }
        if value.is_instance_of::<PyInt>() {
            let number = value.extract::<i64>().map_err(|err| beyond(value, err))?;
            return Ok(Packed::head(number.to_ne_bytes()));
        }
        if let Ok(number) = value.cast::<PyFloat>() {
            return Ok(Packed::head(number.value().to_ne_bytes()));
        }
        if let Ok(bytes) = value.cast::<PyByteArray>() {
            return Ok(Packed::body(Cow::Owned(bytes.to_vec())));
        }
        Err(PyValueError::new_err(format!(
            "unsupported type '{}'; supported: bool, int, float, str, bytes, bytearray",
            class(value)
        )))
    }

    /// Values one behind the other; a list among them counts as its elements.
    ///
    /// # Errors
    ///
    /// As [`Packed::value`]; TypeError for what is no list.
    pub(super) fn items(items: &Bound<'_, PyAny>) -> PyResult<Packed<'static>> {
        let items = items.cast::<PyList>().map_err(|_| {
            PyTypeError::new_err(format!("items must be a list, not {}", class(items)))
        })?;
        let mut all = Vec::new();
        for item in items.iter() {
            match item.cast::<PyList>() {
                Ok(list) => add(list, &mut all)?,
                Err(_) => Packed::value(&item)?.append(&mut all),
            }
        }
        Ok(Packed::body(Cow::Owned(all)))
    }

    /// A message: one value, or those of a list, which has no lists in it.
    ///
    /// # Errors
    ///
    /// As [`Packed::value`].
    #[inline]
    pub(super) fn message(data: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(list) = data.cast::<PyList>() else {
            return Packed::value(data);
        };
        let mut all = Vec::new();
        add(list, &mut all)?;
        Ok(Packed::body(Cow::Owned(all)))
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.headed + self.body.len()
    }

    /// Fills `out`, which is as long.
    #[inline]
    pub(super) fn put(&self, out: &mut [u8]) {
        let (head, body) = out.split_at_mut(self.headed);
        head.copy_from_slice(&self.head[..self.headed]);
        body.copy_from_slice(&self.body);
    }

    fn append(&self, all: &mut Vec<u8>) {
        all.extend_from_slice(&self.head[..self.headed]);
        all.extend_from_slice(&self.body);
    }

    /// The same without a hold on the values.
    pub(super) fn into_owned(self) -> Packed<'static> {
        Packed { body: Cow::Owned(self.body.into_owned()), ..self }
    }
}

fn add(list: &Bound<'_, PyList>, all: &mut Vec<u8>) -> PyResult<()> {
    for item in list.iter() {
        Packed::value(&item)?.append(all);
    }
    Ok(())
}

#[cold]
fn beyond(value: &Bound<'_, PyAny>, err: PyErr) -> PyErr {
    if !err.is_instance_of::<PyOverflowError>(value.py()) {
        return err;
    }
    let shown = value.call_method1("__format__", ("#x",));
    let shown = shown.map_or_else(|_| "?".to_owned(), |text| text.to_string());
    PyOverflowError::new_err(format!("int {shown} does not fit 64 bits"))
}

#[cold]
fn too_short(what: &str, need: usize, have: usize) -> PyErr {
    PyValueError::new_err(format!("not enough data to read {what}: need {need}, have {have}"))
}

/// The `len` bytes at `at`, if they are there.
#[inline]
fn part(data: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    data.get(at..at.checked_add(len)?)
}

/// Where the item at `at` ends.
///
/// # Errors
///
/// ValueError where the data ends before the item.
#[inline]
pub(super) fn end(data: &[u8], at: usize, tag: Tag) -> PyResult<usize> {
    let have = data.len().saturating_sub(at);
    let size = match tag.size() {
        Some(size) if size <= have => size,
        Some(size) => return Err(too_short(&format!("'{}'", tag.name()), size, have)),
        None => {
            let prefix = part(data, at, PREFIX).and_then(|prefix| prefix.first_chunk());
            let prefix = prefix.ok_or_else(|| too_short("the length of a str", PREFIX, have))?;
            let size = (u32::from_ne_bytes(*prefix) as usize).saturating_add(PREFIX);
            if size > have {
                return Err(too_short("a str", size, have));
            }
            size
        }
    };
    Ok(at + size)
}

/// Where what a schema says of the data from `at` on ends.
///
/// # Errors
///
/// As [`end`].
pub(super) fn end_of_all(data: &[u8], mut at: usize, schema: &[Entry]) -> PyResult<usize> {
    for &(tag, count) in schema {
        let size = tag.size().map(|size| size.saturating_mul(count));
        match size.filter(|_| count != 1) {
            None => {
                for _ in 0..count {
                    at = end(data, at, tag)?;
                }
            }
            Some(size) => {
                let have = data.len().saturating_sub(at);
                if size > have {
                    return Err(too_short(&format!("{count} of '{}'", tag.name()), size, have));
                }
                at += size;
            }
        }
    }
    Ok(at)
}

/// The bytes of a number, which [`end`] has found to be there.
#[inline]
fn number<const N: usize>(item: &[u8]) -> [u8; N] {
    item.first_chunk().copied().unwrap_or([0; N])
}

/// The item that `item` is, as [`end`] has measured it. A str that is no UTF-8 is mended.
///
/// # Errors
///
/// MemoryError.
#[inline]
pub(super) fn item<'py>(py: Python<'py>, item: &[u8], tag: Tag) -> PyResult<Bound<'py, PyAny>> {
    Ok(match tag {
        Tag::I64(_) => i64::from_ne_bytes(number(item)).into_pyobject(py)?.into_any(),
        Tag::F64(_) => PyFloat::new(py, f64::from_ne_bytes(number(item))).into_any(),
        Tag::Str => text(py, item.get(PREFIX..).unwrap_or_default().to_vec()),
        Tag::Bool => PyBool::new(py, number::<1>(item) != [0]).to_owned().into_any(),
        Tag::F32 => PyFloat::new(py, f32::from_ne_bytes(number(item)).into()).into_any(),
        Tag::I32 => i32::from_ne_bytes(number(item)).into_pyobject(py)?.into_any(),
        Tag::U8 => u8::from_ne_bytes(number(item)).into_pyobject(py)?.into_any(),
        Tag::U32 => u32::from_ne_bytes(number(item)).into_pyobject(py)?.into_any(),
        Tag::U64 => u64::from_ne_bytes(number(item)).into_pyobject(py)?.into_any(),
    })
}

/// A str from a copy of its bytes, which nobody changes while they are looked at.
fn text(py: Python<'_>, bytes: Vec<u8>) -> Bound<'_, PyAny> {
    PyString::new(py, &String::from_utf8_lossy(&bytes)).into_any()
}

/// What a schema says of `data`, as [`end_of_all`] has measured it: an item for each entry, or a list.
///
/// # Errors
///
/// As [`item`] and [`end`].
pub(super) fn items<'py>(
    py: Python<'py>,
    data: &[u8],
    schema: &[Entry],
) -> PyResult<Bound<'py, PyList>> {
    let found = PyList::empty(py);
    let mut at = 0;
    for &(tag, count) in schema {
        let mut next = || {
            let (start, end) = (at, end(data, at, tag)?);
            at = end;
            item(py, part(data, start, end - start).unwrap_or_default(), tag)
        };
        if count == 1 {
            found.append(next()?)?;
        } else {
            let row = PyList::empty(py);
            for _ in 0..count {
                row.append(next()?)?;
            }
            found.append(row)?;
        }
    }
    Ok(found)
}
