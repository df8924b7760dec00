//! numpy arrays: their meta, and arrays made again from it. numpy is never imported to *write*: an
//! object can only be an array if its program has imported it; to read one it is imported then.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use super::convert_buffer::{ByteBuffer, fill};
use super::convert_write::{Walk, codec_error};
use super::once;
use crate::codec::{ArrayMeta, Descr, Field, ext, write as w};

/// What we need of numpy.
#[derive(Debug)]
struct Numpy {
    module: Py<PyAny>,
    ndarray: Py<PyType>,
    generic: Py<PyType>,
    empty: Py<PyAny>,
    dtype: Py<PyAny>,
    /// `numpy.dtype` objects by type string.
    dtypes: Py<PyDict>,
}

/// How many type strings are kept.
const DTYPES: usize = 64;

static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();

impl Numpy {
    /// numpy if the program has imported it.
    fn loaded(py: Python<'_>) -> PyResult<Option<&'static Numpy>> {
        if let Some(np) = NUMPY.get(py) {
            return Ok(Some(np));
        }
        let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
        match modules.get_item("numpy")? {
            // A module that is still being imported has no ndarray yet.
            Some(module) if module.hasattr("ndarray")? && module.hasattr("generic")? => {
                Numpy::import(py).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn import(py: Python<'_>) -> PyResult<&'static Numpy> {
        once::get_or_make(&NUMPY, py, || {
            let module = py.import("numpy").map_err(|err| {
                let text = "the value holds a numpy array, and numpy cannot be imported: \
                            pip install numpy";
                let new = pyo3::exceptions::PyImportError::new_err(text);
                new.set_cause(py, Some(err));
                new
            })?;
            Ok(Numpy {
                ndarray: module.getattr("ndarray")?.cast_into::<PyType>()?.unbind(),
                generic: module.getattr("generic")?.cast_into::<PyType>()?.unbind(),
                empty: module.getattr("empty")?.unbind(),
                dtype: module.getattr("dtype")?.unbind(),
                dtypes: PyDict::new(py).unbind(),
                module: module.into_any().unbind(),
            })
        })
    }
}

/// True for numpy arrays, subclasses included.
#[inline]
pub(super) fn is_array(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    match Numpy::loaded(obj.py())? {
        Some(np) if np.ndarray.as_ptr() == obj.get_type_ptr().cast() => Ok(true),
        Some(np) => obj.is_instance(np.ndarray.bind(obj.py())),
        None => Ok(false),
    }
}

/// True for single elements with a numpy type.
pub(super) fn is_scalar(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    match Numpy::loaded(obj.py())? {
        Some(np) => obj.is_instance(np.generic.bind(obj.py())),
        None => Ok(false),
    }
}

/// Meta and memory of an array; one that does not lie in one piece is copied into one first.
pub(super) fn export(obj: &Bound<'_, PyAny>) -> PyResult<(ArrayMeta, ByteBuffer)> {
    let py = obj.py();
    let exactly = Numpy::import(py)?.ndarray.as_ptr() == obj.get_type_ptr().cast();
    if !exactly && obj.hasattr("mask")? && obj.hasattr("filled")? {
        return Err(PyTypeError::new_err(
            "cannot encode a masked array, its mask would be lost: send x.filled(value), or data \
             and mask as two arrays",
        ));
    }
    let dtype = obj.getattr(intern!(py, "dtype"))?;
    let descr = describe(&dtype)?;
    let buffer = match ByteBuffer::contiguous(obj) {
        Ok(buffer) => buffer,
        Err(_) => {
            let np = Numpy::import(py)?;
            let copy = np.module.bind(py).call_method1("ascontiguousarray", (obj,))?;
            ByteBuffer::contiguous(&copy)?
        }
    };
    let fortran = !buffer.is_c_order(py);
    let meta = ArrayMeta::new(descr, buffer.shape(), fortran).map_err(type_error)?;
    if meta.byte_len() != buffer.len() {
        return Err(PyValueError::new_err("array changed while it was encoded"));
    }
    Ok((meta, buffer))
}

/// What cannot be described cannot be sent: a matter of type, in Python's words.
fn type_error(err: crate::codec::CodecError) -> PyErr {
    PyTypeError::new_err(format!("cannot encode {err}; or open both ends with pickle=True"))
}

fn describe(dtype: &Bound<'_, PyAny>) -> PyResult<Descr> {
    let py = dtype.py();
    if dtype.getattr(intern!(py, "hasobject"))?.is_truthy()? {
        return Err(PyTypeError::new_err(
            "cannot encode an array of objects: convert it to a list or to an array of numbers; or \
             open both ends with pickle=True",
        ));
    }
    if dtype.getattr(intern!(py, "names"))?.is_none() {
        return Ok(Descr::Item(dtype.getattr(intern!(py, "str"))?.extract()?));
    }
    let list = dtype.getattr("descr").map_err(|err| {
        let text = "cannot encode an array whose fields overlap or are out of order: send \
                    numpy.lib.recfunctions.repack_fields(x)";
        let new = PyTypeError::new_err(text);
        new.set_cause(py, Some(err));
        new
    })?;
    fields(&list.cast_into::<PyList>()?)
}

/// numpy's list of tuples: (name or (title, name), type[, shape]).
fn fields(list: &Bound<'_, PyList>) -> PyResult<Descr> {
    let mut all = Vec::with_capacity(list.len());
    for field in list.iter() {
        let field = field.cast_into::<PyTuple>()?;
        let name = field.get_item(0)?;
        let (title, name) = match name.cast::<PyTuple>() {
            Ok(pair) => pair.extract::<(Option<String>, String)>()?,
            Err(_) => (None, name.extract()?),
        };
        let item = field.get_item(1)?;
        let descr = match item.cast::<PyList>() {
            Ok(nested) => fields(nested)?,
            Err(_) => Descr::Item(item.extract()?),
        };
        let shape = match field.len() {
            3 => field.get_item(2)?.extract()?,
            _ => Vec::new(),
        };
        all.push(Field { name, title, descr, shape });
    }
    Ok(Descr::Fields(all))
}

/// An array inside a value: one extension, meta and data.
pub(super) fn write_nested(walk: &mut Walk<'_>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
    write_ext(walk, obj, ext::NDARRAY)
}

/// Exact mode: a numpy scalar as an array without dimensions.
pub(super) fn write_scalar(walk: &mut Walk<'_>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
    let np = Numpy::import(obj.py())?;
    let array = np.module.bind(obj.py()).call_method1("asarray", (obj,))?;
    write_ext(walk, &array, ext::NUMPY_SCALAR)
}

fn write_ext(walk: &mut Walk<'_>, array: &Bound<'_, PyAny>, id: i8) -> PyResult<()> {
    let (meta, buffer) = export(array)?;
    let mut head = Vec::new();
    meta.write(&mut head).map_err(codec_error)?;
    w::ext_head(walk.out, id, head.len() + buffer.len()).map_err(codec_error)?;
    walk.out.extend_from_slice(&head);
    let start = walk.out.len();
    walk.out.resize(start + buffer.len(), 0);
    buffer.copy_to(array.py(), &mut walk.out[start..])
}

/// The `numpy.dtype` of an element type that [`ArrayMeta`] has checked: no objects, nothing but
/// plain type strings.
fn dtype<'py>(py: Python<'py>, np: &Numpy, descr: &Descr) -> PyResult<Bound<'py, PyAny>> {
    fn spec<'py>(py: Python<'py>, np: &Numpy, descr: &Descr) -> PyResult<Bound<'py, PyAny>> {
        let Descr::Fields(fields) = descr else { return dtype(py, np, descr) };
        let mut names = Vec::with_capacity(fields.len());
        let mut titles = Vec::with_capacity(fields.len());
        let mut formats = Vec::with_capacity(fields.len());
        let mut offsets = Vec::with_capacity(fields.len());
        let mut offset = 0u64;
        for field in fields {
            let one = field.descr.item_size().map_err(codec_error)?;
            let item = spec(py, np, &field.descr)?;
            // A field without a name is a gap.
            if !(field.name.is_empty() && field.title.is_none()) {
                names.push(field.name.as_str());
                titles.push(field.title.as_deref());
                offsets.push(offset);
                formats.push(match field.shape.is_empty() {
                    true => item,
                    false => (item, PyTuple::new(py, &field.shape)?).into_pyobject(py)?.into_any(),
                });
            }
            offset += field.shape.iter().fold(one, |all, n| all.saturating_mul(*n));
        }
        let kwargs = PyDict::new(py);
        kwargs.set_item("names", names)?;
        kwargs.set_item("formats", formats)?;
        kwargs.set_item("offsets", offsets)?;
        kwargs.set_item("itemsize", offset)?;
        if titles.iter().any(Option::is_some) {
            kwargs.set_item("titles", titles)?;
        }
        np.dtype.bind(py).call1((kwargs,))
    }
    let text = match descr {
        Descr::Item(text) => Some(PyString::new(py, text)),
        Descr::Fields(_) => None,
    };
    let cache = np.dtypes.bind(py);
    if let Some(text) = &text
        && let Some(known) = cache.get_item(text)?
    {
        return Ok(known);
    }
    // What numpy does not know is bad data here, whatever class of error it says so with.
    let made = match &text {
        Some(text) => np.dtype.bind(py).call1((text,)),
        None => spec(py, np, descr),
    };
    let made = made.map_err(|err| {
        if !err.is_instance_of::<PyTypeError>(py) && !err.is_instance_of::<PyValueError>(py) {
            return err;
        }
        PyValueError::new_err(format!("element type of an array: {}", err.value(py)))
    })?;
    let size: u64 = made.getattr("itemsize")?.extract()?;
    let wanted = descr.item_size().map_err(codec_error)?;
    if size != wanted || made.getattr("hasobject")?.is_truthy()? {
        return Err(PyValueError::new_err(format!(
            "numpy takes element type {descr:?} for {size} bytes where {wanted} are meant"
        )));
    }
    if let Some(text) = text {
        if cache.len() >= DTYPES {
            cache.clear();
        }
        cache.set_item(text, &made)?;
    }
    Ok(made)
}

/// A new array of our own with a copy of `data`.
pub(super) fn copied<'py>(
    py: Python<'py>,
    meta: &ArrayMeta,
    data: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    let np = Numpy::import(py)?;
    let dtype = dtype(py, np, meta.descr())?;
    let shape = PyTuple::new(py, meta.shape())?;
    let order = if meta.is_fortran() { intern!(py, "F") } else { intern!(py, "C") };
    let array = np.empty.bind(py).call1((shape, dtype, order))?;
    fill(&array, data)?;
    Ok(array)
}

/// One element, out of an array without dimensions.
pub(super) fn scalar_of<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    array.get_item(PyTuple::empty(array.py()))
}

/// A read-only array over memory that `exporter` lends, `offset` bytes behind its start.
pub(super) fn lent<'py>(
    exporter: &Bound<'py, PyAny>,
    meta: &ArrayMeta,
    offset: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let array = over(exporter, meta, offset)?;
    array.getattr("flags")?.setattr("writeable", false)?;
    Ok(array)
}

/// An array over the memory of `exporter`, which keeps it; as writable as that.
fn over<'py>(
    exporter: &Bound<'py, PyAny>,
    meta: &ArrayMeta,
    offset: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = exporter.py();
    let np = Numpy::import(py)?;
    let dtype = dtype(py, np, meta.descr())?;
    let shape = PyTuple::new(py, meta.shape())?;
    let order = if meta.is_fortran() { intern!(py, "F") } else { intern!(py, "C") };
    let args = (shape, dtype, exporter, offset, py.None(), order);
    np.ndarray.bind(py).call1(args)
}

/// `_array_meta(dtype, shape, fortran=False)`: the meta of such an array, and the bytes that it takes.
#[pyfunction]
#[pyo3(name = "_array_meta", signature = (dtype, shape, fortran = false))]
pub(super) fn meta_hook<'py>(
    dtype: &Bound<'py, PyAny>,
    shape: Vec<u64>,
    fortran: bool,
) -> PyResult<(Bound<'py, PyBytes>, usize)> {
    let descr = describe(dtype)?;
    let meta = ArrayMeta::new(descr, shape, fortran).map_err(codec_error)?;
    let mut out = Vec::new();
    meta.write(&mut out).map_err(codec_error)?;
    Ok((PyBytes::new(dtype.py(), &out), meta.byte_len()))
}

/// `_array_over(meta, exporter, offset=0)`: the array that the meta tells of, over the memory of
/// `exporter` from `offset` on.
#[pyfunction]
#[pyo3(name = "_array_over", signature = (meta, exporter, offset = 0))]
pub(super) fn over_hook<'py>(
    meta: &[u8],
    exporter: &Bound<'py, PyAny>,
    offset: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let (found, used) = ArrayMeta::read(meta).map_err(codec_error)?;
    if used != meta.len() {
        let text = format!("{} bytes behind the meta of an array", meta.len() - used);
        return Err(PyValueError::new_err(text));
    }
    let (len, wanted) = (ByteBuffer::any(exporter)?.len(), found.byte_len());
    if offset.checked_add(wanted).is_none_or(|end| end > len) {
        return Err(PyValueError::new_err(format!(
            "an array of {wanted} bytes at {offset} does not lie in {len} bytes"
        )));
    }
    over(exporter, &found, offset)
}
