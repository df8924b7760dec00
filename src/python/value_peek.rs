//! A `Value` from Python without a handle: reading it once, and what a creator sets.

use pyo3::prelude::*;

use super::convert::{self, Options};
use super::errors;
use super::value_ops::{Handle, decode};
use crate::value::{Initial, Peek};

/// An argument for which any object will do, None as well; left out, there is none in it.
pub(super) struct Maybe<'py>(pub(super) Option<Bound<'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Maybe<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Maybe(Some(given.to_owned())))
    }
}

/// The latest value of that name; `None`: never set.
pub(super) fn peek<'py>(
    py: Python<'py>,
    name: &str,
    codec: Options,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut copy = Vec::new();
    let looked = py.detach(|| Peek::read(name, &mut copy));
    match looked.map_err(|err| errors::open(&err, ""))? {
        (peek, Some(read)) => {
            let tag = read.tag;
            tag.map(|tag| decode(py, peek.region(), tag, &copy, codec)).transpose()
        }
        // Set faster than it can be copied: a handle can keep the writers out.
        (peek, None) => {
            let core = py.detach(|| peek.attach()).map_err(|err| errors::open(&err, ""))?;
            let read = Handle { core, codec }.read(py, true)?;
            Ok(read.and_then(|(_, value)| value))
        }
    }
}

/// What a creator sets, encoded.
pub(super) fn first(value: &Bound<'_, PyAny>, codec: Options) -> PyResult<Initial> {
    let encoded = convert::encode(value, codec, &mut Vec::new())?;
    let mut bytes = vec![0; encoded.len(value.py())];
    encoded.write_into(value.py(), &mut bytes)?;
    Ok(Initial { bytes, tag: encoded.tag().byte() })
}
