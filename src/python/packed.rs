//! The packed items of `ringspan.compat.membridge`: native byte order, no gaps, no tags. A bool is a
//! byte, an int an i64, a float an f64, a str its UTF-8 behind a u32 length; bytes and bytearrays stand
//! as they are, without a length.
//!
//! Values become bytes before the memory is touched, and bytes become values from a slice whose bounds
//! are checked on every use.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Bytes of the length of a str.
const LENGTH: usize = 4;

/// What was packed.
pub(super) enum Packed<'a> {
    /// The first so many bytes, as they lie in memory. (A word of its own: pieces of it would be moved
    /// about one by one.)
    Number(u64, usize),
    /// Without its length.
    Text(&'a str),
    Raw(&'a [u8]),
    Owned(Vec<u8>),
}

impl<'a> Packed<'a> {
    /// The bytes of one value.
    ///
    /// # Errors
    ///
    /// ValueError for a type that has no form, OverflowError for an int beyond 64 bits.
    #[inline(always)] // else what it returns goes through memory
    pub(super) fn of(value: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_exact_instance_of::<PyInt>() {
            return int(value).map(|number| Packed::Number(number.cast_unsigned(), 8));
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Packed::Raw(bytes.as_bytes()));
        }
        if let Ok(text) = value.cast::<PyString>() {
            let text = text.to_str()?;
            if u32::try_from(text.len()).is_err() {
                return Err(PyValueError::new_err("a str of 4 GiB or more cannot be packed"));
            }
            return Ok(Packed::Text(text));
        }
        if let Ok(float) = value.cast::<PyFloat>() {
            return Ok(Packed::Number(float.value().to_bits(), 8));
        }
        Self::rare(value)
    }

    #[cold]
    #[inline(never)]
    fn rare(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(flag) = value.cast::<PyBool>() {
            let mut byte = [0; 8];
            byte[0] = u8::from(flag.is_true());
            return Ok(Packed::Number(u64::from_ne_bytes(byte), 1));
        }
        if value.is_instance_of::<PyInt>() {
            return int(value).map(|number| Packed::Number(number.cast_unsigned(), 8));
        }
        if let Ok(bytes) = value.cast::<PyByteArray>() {
            return Ok(Packed::Owned(bytes.to_vec())); // it may change under us
        }
        Err(PyValueError::new_err(format!(
            "unsupported type '{}'; supported: bool, int, float, str, bytes, bytearray",
            value.get_type().name()?
        )))
    }

    /// The bytes of values one behind the other; a list among them counts as its elements.
    ///
    /// # Errors
    ///
    /// As [`Packed::of`], and TypeError for what is no list.
    pub(super) fn items(items: &Bound<'_, PyAny>) -> PyResult<Packed<'static>> {
        let Ok(items) = items.cast::<PyList>() else {
            return Err(no_list("items", items));
        };
        let mut out = Vec::with_capacity(64);
        for item in items {
            match item.cast::<PyList>() {
                Ok(inner) => append(inner, &mut out)?,
                Err(_) => Packed::of(&item)?.append(&mut out),
            }
        }
        Ok(Packed::Owned(out))
    }

    /// The payload of a message: one value, or those of a list, which has no lists in it.
    ///
    /// # Errors
    ///
    /// As [`Packed::of`].
    #[inline(always)] // as above
    pub(super) fn message(data: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        match data.cast_exact::<PyList>() {
            Err(_) if !data.is_instance_of::<PyList>() => Packed::of(data),
            _ => {
                let mut out = Vec::with_capacity(64);
                append(data.cast::<PyList>()?, &mut out)?;
                Ok(Packed::Owned(out))
            }
        }
    }

    /// How many bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Packed::Number(_, len) => *len,
            Packed::Text(text) => LENGTH + text.len(),
            Packed::Raw(bytes) => bytes.len(),
            Packed::Owned(bytes) => bytes.len(),
        }
    }

    /// The parts of which it is made.
    #[inline]
    fn parts(&self) -> ([u8; 8], usize, &[u8]) {
        match self {
            Packed::Number(word, len) => (word.to_ne_bytes(), *len, &[]),
            Packed::Text(text) => {
                let mut length = [0; 8];
                // It fits: checked when it was packed.
                length[..LENGTH].copy_from_slice(&(text.len() as u32).to_ne_bytes());
                (length, LENGTH, text.as_bytes())
            }
            Packed::Raw(bytes) => ([0; 8], 0, bytes),
            Packed::Owned(bytes) => ([0; 8], 0, bytes),
        }
    }

    /// Copies it to the beginning of `to`, which is as long at least.
    #[inline]
    pub(super) fn put(&self, to: &mut [u8]) {
        if let Packed::Number(word, 8) = self
            && let Some(to) = to.first_chunk_mut::<8>()
        {
            *to = word.to_ne_bytes();
            return;
        }
        let (head, len, rest) = self.parts();
        to[..len].copy_from_slice(&head[..len]);
        to[len..len + rest.len()].copy_from_slice(rest);
    }

    fn append(&self, to: &mut Vec<u8>) {
        let (head, len, rest) = self.parts();
        to.extend_from_slice(&head[..len]);
        to.extend_from_slice(rest);
    }

    /// The same without what it borrows, for a wait.
    pub(super) fn into_owned(self) -> Packed<'static> {
        match self {
            Packed::Number(word, len) => Packed::Number(word, len),
            Packed::Owned(bytes) => Packed::Owned(bytes),
            borrowed => {
                let mut bytes = Vec::with_capacity(borrowed.len());
                borrowed.append(&mut bytes);
                Packed::Owned(bytes)
            }
        }
    }
}

fn int(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    value.extract::<i64>().map_err(|err| {
        if !err.is_instance_of::<PyOverflowError>(value.py()) {
            return err;
        }
        let shown = value.call_method1("__format__", ("#x",)).map(|shown| shown.to_string());
        let shown = shown.unwrap_or_default();
        PyOverflowError::new_err(format!("int {shown} does not fit 64 bits"))
    })
}

fn append(items: &Bound<'_, PyList>, out: &mut Vec<u8>) -> PyResult<()> {
    for item in items {
        Packed::of(&item)?.append(out);
    }
    Ok(())
}

fn no_list(what: &str, given: &Bound<'_, PyAny>) -> PyErr {
    match given.get_type().name() {
        Ok(class) => PyTypeError::new_err(format!("{what} must be a list, not {class}")),
        Err(err) => err,
    }
}

/// How an item is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Bool,
    I64,
    F64,
    F32,
    I32,
    U8,
    U32,
    U64,
    Str,
}

impl Tag {
    /// By its name.
    ///
    /// # Errors
    ///
    /// TypeError for what is no str, ValueError for another name.
    #[inline]
    pub(super) fn named(given: &Bound<'_, PyAny>) -> PyResult<Tag> {
        let Ok(name) = given.cast::<PyString>() else {
            let class = given.get_type().name()?;
            return Err(PyTypeError::new_err(format!("a type tag must be a str, not {class}")));
        };
        Ok(match name.to_str()? {
            "int" | "i64" => Tag::I64,
            "str" => Tag::Str,
            "float" | "f64" => Tag::F64,
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
                    given.repr()?
                )));
            }
        })
    }

    /// Bytes of an item; of a str, of its length.
    fn size(self) -> usize {
        match self {
            Tag::Bool | Tag::U8 => 1,
            Tag::F32 | Tag::I32 | Tag::U32 | Tag::Str => 4,
            Tag::I64 | Tag::F64 | Tag::U64 => 8,
        }
    }

    /// For messages.
    fn shown(self) -> &'static str {
        match self {
            Tag::Bool => "'bool'",
            Tag::I64 => "'i64'",
            Tag::F64 => "'f64'",
            Tag::F32 => "'f32'",
            Tag::I32 => "'i32'",
            Tag::U8 => "'u8'",
            Tag::U32 => "'u32'",
            Tag::U64 => "'u64'",
            Tag::Str => "the length of a str",
        }
    }
}

#[cold]
fn too_short(what: impl std::fmt::Display, need: usize, data: &[u8], at: usize) -> PyErr {
    let have = data.len().saturating_sub(at);
    PyValueError::new_err(format!("not enough data to read {what}: need {need}, have {have}"))
}

/// `N` bytes at `at`.
#[inline]
fn chunk<const N: usize>(data: &[u8], at: usize, tag: Tag) -> PyResult<[u8; N]> {
    match data.get(at..).and_then(|rest| rest.first_chunk::<N>()) {
        Some(chunk) => Ok(*chunk),
        None => Err(too_short(tag.shown(), N, data, at)),
    }
}

/// The item at `at`, and where it ends.
///
/// # Errors
///
/// ValueError where the data ends before the item.
#[inline]
pub(super) fn unpack<'py>(
    py: Python<'py>,
    data: &[u8],
    tag: Tag,
    at: usize,
) -> PyResult<(Bound<'py, PyAny>, usize)> {
    macro_rules! number {
        ($type:ty) => {
            <$type>::from_ne_bytes(chunk(data, at, tag)?).into_pyobject(py)?.into_any()
        };
    }
    let item = match tag {
        Tag::Bool => PyBool::new(py, chunk::<1>(data, at, tag)? != [0]).to_owned().into_any(),
        Tag::I64 => number!(i64),
        Tag::F64 => number!(f64),
        Tag::F32 => {
            f64::from(f32::from_ne_bytes(chunk(data, at, tag)?)).into_pyobject(py)?.into_any()
        }
        Tag::I32 => number!(i32),
        Tag::U8 => number!(u8),
        Tag::U32 => number!(u32),
        Tag::U64 => number!(u64),
        Tag::Str => return text(py, data, at),
    };
    Ok((item, at + tag.size()))
}

/// The str at `at`, and where it ends. Bytes that are no UTF-8 are replaced.
fn text<'py>(py: Python<'py>, data: &[u8], at: usize) -> PyResult<(Bound<'py, PyAny>, usize)> {
    let length = u32::from_ne_bytes(chunk(data, at, Tag::Str)?) as usize;
    let start = at + LENGTH;
    let Some(bytes) = data[start..].get(..length) else {
        return Err(too_short("a str", LENGTH.saturating_add(length), data, at));
    };
    // Looked at first: for bytes that are no text CPython would make an exception, a new exception may
    // run a collector, and that anything, here under the lock.
    let is_text = std::str::from_utf8(bytes).is_ok();
    let text = match is_text.then(|| PyString::from_bytes(py, bytes)) {
        Some(Ok(text)) => text,
        _ => {
            // Of a copy, since another process may write there between the check and the use.
            let copy = bytes.to_vec();
            PyString::new(py, &String::from_utf8_lossy(&copy))
        }
    };
    Ok((text.into_any(), start + length))
}

/// An entry of a schema.
pub(super) struct Entry {
    tag: Tag,
    count: usize,
}

/// The entries of a schema.
///
/// # Errors
///
/// TypeError for what is no list and for counts that are no ints, ValueError for entries that are no
/// tuples of a tag and a count, OverflowError for a negative count.
pub(super) fn schema(given: &Bound<'_, PyAny>) -> PyResult<Vec<Entry>> {
    let Ok(entries) = given.cast::<PyList>() else {
        return Err(no_list("a schema", given));
    };
    let entry = |entry: Bound<'_, PyAny>| match entry.cast::<PyTuple>() {
        Ok(pair) if pair.len() >= 2 => {
            let tag = Tag::named(&pair.get_item(0)?)?;
            Ok(Entry { tag, count: number(&pair.get_item(1)?, "schema: a count")? })
        }
        _ => Err(PyValueError::new_err("schema entries must be (type_tag, count) tuples")),
    };
    entries.iter().map(entry).collect()
}

/// Where the items end that a schema says begin at `at`.
///
/// # Errors
///
/// As [`unpack`].
pub(super) fn end_of_items(data: &[u8], schema: &[Entry], mut at: usize) -> PyResult<usize> {
    for &Entry { tag, count } in schema {
        if tag == Tag::Str {
            for _ in 0..count {
                let length = u32::from_ne_bytes(chunk(data, at, tag)?) as usize;
                let need = LENGTH.saturating_add(length);
                if need > data.len() - at {
                    return Err(too_short("a str", need, data, at));
                }
                at += need;
            }
            continue;
        }
        let need = tag.size().saturating_mul(count);
        if need > data.len().saturating_sub(at) {
            let what = if count == 1 { String::new() } else { format!("{count} of ") };
            return Err(too_short(format_args!("{what}{}", tag.shown()), need, data, at));
        }
        at += need;
    }
    Ok(at)
}

/// What a schema says of the data from `at` on, and where that ends: for each entry a list of `count`
/// items, for a count of 1 the item itself.
///
/// # Errors
///
/// As [`unpack`].
pub(super) fn unpack_items<'py>(
    py: Python<'py>,
    data: &[u8],
    schema: &[Entry],
    mut at: usize,
) -> PyResult<(Bound<'py, PyList>, usize)> {
    let found = PyList::empty(py);
    for &Entry { tag, count } in schema {
        if count == 1 {
            let (item, next) = unpack(py, data, tag, at)?;
            found.append(item)?;
            at = next;
            continue;
        }
        // Before any of them is made.
        let need = tag.size().saturating_mul(count);
        if need > data.len().saturating_sub(at) {
            return Err(too_short(format_args!("{count} of {}", tag.shown()), need, data, at));
        }
        let row = PyList::empty(py);
        for _ in 0..count {
            let (item, next) = unpack(py, data, tag, at)?;
            row.append(item)?;
            at = next;
        }
        found.append(row)?;
    }
    Ok((found, at))
}

/// A number from 0 on; one beyond what memory has is as good as the largest.
///
/// # Errors
///
/// OverflowError for a negative one, TypeError for what is no int.
#[inline]
pub(super) fn number(given: &Bound<'_, PyAny>, what: &str) -> PyResult<usize> {
    // The quickest of the ways to a number; what is none falls through.
    if let Ok(Ok(number)) = given.extract::<i64>().map(usize::try_from) {
        return Ok(number);
    }
    match given.extract::<usize>() {
        Ok(number) => Ok(number),
        Err(err) if err.is_instance_of::<PyOverflowError>(given.py()) => {
            let how = if given.lt(0)? { "is negative" } else { "does not fit 64 bits" };
            Err(PyOverflowError::new_err(format!("{what} of {given} {how}")))
        }
        Err(err) => Err(err),
    }
}
