//! Time-outs: seconds, as Python says them.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::time::Duration;

/// Longer than this is for ever.
const FOR_EVER: f64 = 1e9;

/// Seconds from an argument called `what`. None and infinity are `None`.
///
/// # Errors
///
/// TypeError for a bool or no number, ValueError for a negative one or NaN.
#[inline]
pub(crate) fn seconds(given: Option<&Bound<'_, PyAny>>, what: &str) -> PyResult<Option<Duration>> {
    match given {
        None => Ok(None),
        Some(given) => number(given, what),
    }
}

fn number(given: &Bound<'_, PyAny>, what: &str) -> PyResult<Option<Duration>> {
    if given.is_none() {
        return Ok(None);
    }
    let number = match given.extract::<f64>() {
        _ if given.is_instance_of::<PyBool>() => return Err(no_number(given, what)),
        Ok(number) => number,
        Err(err) if err.is_instance_of::<PyTypeError>(given.py()) => {
            return Err(no_number(given, what));
        }
        // An int that no float can be.
        Err(err) if err.is_instance_of::<PyOverflowError>(given.py()) => {
            if given.lt(0)? {
                -1.0
            } else {
                f64::INFINITY
            }
        }
        Err(err) => return Err(err),
    };
    if number.is_nan() || number < 0.0 {
        return Err(PyValueError::new_err(format!(
            "{what} must be a number of seconds from 0 on or None, not {number}"
        )));
    }
    Ok((number < FOR_EVER).then(|| Duration::from_secs_f64(number)))
}

#[cold]
fn no_number(given: &Bound<'_, PyAny>, what: &str) -> PyErr {
    match given.get_type().name() {
        Ok(class) => {
            PyTypeError::new_err(format!("{what} must be a number of seconds or None, not {class}"))
        }
        Err(err) => err,
    }
}

/// `_seconds(given, what="timeout")`: what every verb makes of a time-out, for verbs written in Python.
#[pyfunction]
#[pyo3(name = "_seconds", signature = (given, what="timeout", /))]
fn checked(given: Option<&Bound<'_, PyAny>>, what: &str) -> PyResult<Option<f64>> {
    Ok(seconds(given, what)?.map(|time| time.as_secs_f64()))
}

/// Adds the private function to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(checked, m)?)
}
