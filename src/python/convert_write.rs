//! Python objects to msgpack in one walk: the plain types here, by exact type; everything else in
//! `convert_write_more.rs`.

use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::convert_write_more as more;
use crate::codec::{CodecError, MAX_DEPTH, ext, write as w};

/// Lists longer than this are copied before they are walked.
const SNAPSHOT: usize = 8;

/// A `CodecError` as the Python exception.
pub(super) fn codec_error(err: CodecError) -> PyErr {
    PyValueError::new_err(err.to_string())
}

/// The error for containers in containers without end.
pub(super) fn too_deep() -> PyErr {
    PyValueError::new_err(format!(
        "value is nested deeper than {MAX_DEPTH} containers, or holds itself"
    ))
}

/// `obj` if its type is exactly `T`. PyO3's cast alone makes an error for each type that it is not.
#[inline(always)]
pub(super) fn exactly<'a, 'py, T: PyTypeInfo>(
    obj: &'a Bound<'py, PyAny>,
) -> Option<&'a Bound<'py, T>> {
    if obj.is_exact_instance_of::<T>() { obj.cast_exact().ok() } else { None }
}

fn changed(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("{what} changed while it was encoded"))
}

/// One walk: where to, and whether every type must come back as it was.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) exact: bool,
}

impl Walk<'_> {
    /// Writes `obj`, which lies inside so many containers.
    pub(super) fn value(&mut self, obj: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
        if let Some(s) = exactly::<PyString>(obj) {
            return self.text(s);
        }
        if let Some(i) = exactly::<PyInt>(obj) {
            return self.int(i);
        }
        if let Some(f) = exactly::<PyFloat>(obj) {
            w::float(self.out, f.value());
            return Ok(());
        }
        if obj.is_none() {
            w::nil(self.out);
            return Ok(());
        }
        if let Some(b) = exactly::<PyBool>(obj) {
            w::boolean(self.out, b.is_true());
            return Ok(());
        }
        if let Some(d) = exactly::<PyDict>(obj) {
            return self.dict(d, depth);
        }
        if let Some(l) = exactly::<PyList>(obj) {
            return self.list(l, depth);
        }
        if let Some(t) = exactly::<PyTuple>(obj) {
            return self.tuple(t, depth);
        }
        if let Some(b) = exactly::<PyBytes>(obj) {
            return self.bytes(b.as_bytes());
        }
        more::value(self, obj, depth)
    }

    #[inline]
    pub(super) fn text(&mut self, s: &Bound<'_, PyString>) -> PyResult<()> {
        w::str(self.out, s.to_str()?).map_err(codec_error)
    }

    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> PyResult<()> {
        w::bin_head(self.out, bytes.len()).map_err(codec_error)?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    pub(super) fn int(&mut self, i: &Bound<'_, PyInt>) -> PyResult<()> {
        match i.extract::<i64>() {
            Ok(v) => {
                w::int(self.out, v);
                Ok(())
            }
            Err(_) => self.wide_int(i),
        }
    }

    #[cold]
    fn wide_int(&mut self, i: &Bound<'_, PyInt>) -> PyResult<()> {
        if let Ok(v) = i.extract::<u64>() {
            w::uint(self.out, v);
            return Ok(());
        }
        // The bits of a negative number in two's complement are those of its inverse.
        let bits = if i.lt(0)? { i.call_method0("__invert__")? } else { i.clone().into_any() };
        let bits: usize = bits.call_method0("bit_length")?.extract()?;
        let kwargs = PyDict::new(i.py());
        kwargs.set_item("signed", true)?;
        let body = i.call_method("to_bytes", (bits / 8 + 1, "big"), Some(&kwargs))?;
        let body = body.cast_into::<PyBytes>()?;
        w::ext(self.out, ext::BIG_INT, body.as_bytes()).map_err(codec_error)
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>, depth: usize) -> PyResult<()> {
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        let pairs = dict.len();
        w::map_head(self.out, pairs).map_err(codec_error)?;
        let mut iter = dict.iter();
        for _ in 0..pairs {
            // Looked at before each step: PyO3's iterator panics over a changed dict.
            if dict.len() != pairs {
                return Err(changed("dict"));
            }
            let (key, value) = iter.next().ok_or_else(|| changed("dict"))?;
            self.value(&key, depth + 1)?;
            self.value(&value, depth + 1)?;
        }
        if dict.len() == pairs { Ok(()) } else { Err(changed("dict")) }
    }

    pub(super) fn list(&mut self, list: &Bound<'_, PyList>, depth: usize) -> PyResult<()> {
        let items = list.len();
        if items > SNAPSHOT {
            // One call copies the list; its items are then at hand without one call each.
            return self.tuple_items(&list.to_tuple(), depth);
        }
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        w::array_head(self.out, items).map_err(codec_error)?;
        let mut written = 0;
        for item in list.iter() {
            written += 1;
            self.value(&item, depth + 1)?;
        }
        // The iterator stops early at a list that shrank, and does not go past its first length.
        if written == items && list.len() == items { Ok(()) } else { Err(changed("list")) }
    }

    fn tuple(&mut self, tuple: &Bound<'_, PyTuple>, depth: usize) -> PyResult<()> {
        if !self.exact {
            return self.tuple_items(tuple, depth);
        }
        let start = w::ext_begin(self.out);
        self.tuple_items(tuple, depth)?;
        w::ext_end(self.out, start, ext::TUPLE).map_err(codec_error)
    }

    /// A tuple as a plain array.
    pub(super) fn tuple_items(&mut self, tuple: &Bound<'_, PyTuple>, depth: usize) -> PyResult<()> {
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        w::array_head(self.out, tuple.len()).map_err(codec_error)?;
        for item in tuple.iter_borrowed() {
            self.value(&item, depth + 1)?;
        }
        Ok(())
    }

    /// The items of anything that can be iterated, as an array; `before` values were promised and
    /// are written by the caller's closure in front of them.
    pub(super) fn sequence(
        &mut self,
        obj: &Bound<'_, PyAny>,
        depth: usize,
        before: usize,
        head: impl FnOnce(&mut Self) -> PyResult<()>,
    ) -> PyResult<()> {
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        let items = obj.len()?;
        w::array_head(self.out, items + before).map_err(codec_error)?;
        head(self)?;
        let mut written = 0;
        for item in obj.try_iter()? {
            written += 1;
            self.value(&item?, depth + 1)?;
        }
        if written == items { Ok(()) } else { Err(changed(&more::type_name(obj))) }
    }

    /// A mapping through its own `items()`, which knows its order.
    pub(super) fn mapping(&mut self, obj: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
        if depth >= MAX_DEPTH {
            return Err(too_deep());
        }
        let pairs = obj.call_method0("items")?;
        let pairs = PyList::new(obj.py(), pairs.try_iter()?.collect::<PyResult<Vec<_>>>()?)?;
        w::map_head(self.out, pairs.len()).map_err(codec_error)?;
        for pair in pairs.iter() {
            let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
            self.value(&key, depth + 1)?;
            self.value(&value, depth + 1)?;
        }
        Ok(())
    }
}
