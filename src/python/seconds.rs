//! Time-outs: seconds, as Python says them.

use pyo3::exceptions::{PyTypeError, PyValueError};
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
    let number = if given.is_instance_of::<PyBool>() { None } else { given.extract::<f64>().ok() };
    let Some(number) = number else {
        let class = given.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{what} must be a number of seconds or None, not {class}"
        )));
    };
    if number.is_nan() || number < 0.0 {
        return Err(PyValueError::new_err(format!(
            "{what} must be a number of seconds from 0 on or None, not {number}"
        )));
    }
    Ok((number < FOR_EVER).then(|| Duration::from_secs_f64(number)))
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
