//! The classes `SharedInt`, `SharedFloat`, `SharedBool`.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyTuple};
use std::sync::Arc;

use super::changes::{self, Changing, Source, Until};
use super::errors;
use super::loop_faces::LoopFaces;
use super::opening;
use super::seconds::seconds;
use super::sleepers::{self, Closes};
use super::stat::PyHandleStat;
use super::value::how;
use crate::error::{Fault, FaultKind};
use crate::notify::Endpoint;
use crate::notify::find::How;
use crate::notify::shared::Shared;
use crate::region::Region;
use crate::rwlock::HandleStat;
use crate::scalar::core::{Core, Plain};
use crate::scalar::{Addable, Number};
use crate::sync::{Mutex, lock};
use std::marker::PhantomData;

/// What object and awaitables share.
struct Inner<N> {
    /// First, so that the readers leave their loops before the endpoint closes its descriptor.
    faces: LoopFaces,
    /// None once closed. Taken with the interpreter attached, for plain statements only.
    handle: Mutex<Option<Arc<Core>>>,
    object: Arc<str>,
    name: String,
    ephemeral: bool,
    of: PhantomData<N>,
}

/// A handle whose numbers are of this type.
struct Numbers<N>(Arc<Core>, PhantomData<N>);

/// A number as Python has it.
trait PyNumber: Number {
    fn of(given: &Bound<'_, PyAny>) -> PyResult<Self>;
    fn to_object(self, py: Python<'_>) -> PyResult<Py<PyAny>>;
}

fn refuse(given: &Bound<'_, PyAny>, wanted: &str) -> PyErr {
    let found = given.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{wanted} is wanted, not {found}"))
}

/// Whether it is a truth value, Python's or numpy's; the latter is an index up to numpy 1.26.
fn is_boolean(given: &Bound<'_, PyAny>) -> bool {
    if given.is_instance_of::<PyInt>() {
        return given.is_instance_of::<PyBool>();
    }
    let name = given.get_type().name();
    name.is_ok_and(|name| name.to_str().is_ok_and(|name| matches!(name, "bool" | "bool_")))
}

impl PyNumber for i64 {
    fn of(given: &Bound<'_, PyAny>) -> PyResult<i64> {
        if is_boolean(given) {
            return Err(refuse(given, "an int"));
        }
        given.extract() // OverflowError beyond 64 bits
    }

    fn to_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.into_pyobject(py)?.into_any().unbind())
    }
}

impl PyNumber for f64 {
    fn of(given: &Bound<'_, PyAny>) -> PyResult<f64> {
        if is_boolean(given) {
            return Err(refuse(given, "a float"));
        }
        given.extract()
    }

    fn to_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.into_pyobject(py)?.into_any().unbind())
    }
}

impl PyNumber for bool {
    fn of(given: &Bound<'_, PyAny>) -> PyResult<bool> {
        given.cast::<PyBool>().map(|flag| flag.is_true()).map_err(|_| refuse(given, "a bool"))
    }

    fn to_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.into_pyobject(py)?.to_owned().into_any().unbind())
    }
}

impl<N: PyNumber> Source for Numbers<N> {
    fn region(&self) -> &Arc<Region> {
        self.0.region()
    }

    fn shared(&self) -> &Shared {
        self.0.shared()
    }

    fn version(&self) -> u64 {
        self.0.version()
    }

    fn look(&self, endpoint: &mut Endpoint, since: u64) -> Result<Option<u64>, Fault> {
        self.0.look(endpoint, since)
    }

    fn read(&self, py: Python<'_>) -> PyResult<(u64, Option<Py<PyAny>>)> {
        let version = self.0.version();
        Ok((version, Some(N::from_bits(self.0.load()).to_object(py)?)))
    }
}

impl<N: PyNumber> Closes for Inner<N> {
    fn check_open(&self) -> PyResult<()> {
        self.open().map(drop)
    }
}

impl<N: PyNumber> Changing for Inner<N> {
    fn faces(&self) -> &LoopFaces {
        &self.faces
    }

    fn source(&self) -> PyResult<Arc<dyn Source>> {
        Ok(Arc::new(Numbers::<N>(self.open()?, PhantomData)))
    }
}

impl<N: PyNumber> Inner<N> {
    fn find(name: &str, plain: &Plain, how: How) -> PyResult<Arc<Self>> {
        let core = opening::found(|| plain.find(N::KIND, name, how))?;
        let region = Arc::clone(core.region());
        let object: Arc<str> = region.subject().to_string().into();
        Ok(Arc::new(Inner {
            faces: LoopFaces::new(Arc::clone(&object), core.shared().clone()),
            handle: Mutex::new(Some(core)),
            object,
            name: region.name().to_string(),
            ephemeral: region.is_ephemeral(),
            of: PhantomData,
        }))
    }

    fn open(&self) -> PyResult<Arc<Core>> {
        let handle = lock(&self.handle).clone();
        let handle =
            handle.ok_or_else(|| errors::closed_handle(&self.object, "handle", "closed"))?;
        handle.region().check_fork().map_err(|fault| errors::fault(&fault))?;
        Ok(handle)
    }

    fn load(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        N::from_bits(self.open()?.load()).to_object(py)
    }

    /// Sets it; the number before.
    fn swap(&self, number: N) -> PyResult<N> {
        let changed = self.open()?.change(|_| Some(number.to_bits()));
        let (Ok(old) | Err(old)) = changed.map_err(|fault| errors::fault(&fault))?;
        Ok(N::from_bits(old))
    }

    fn compare_exchange(&self, expected: N, new: N) -> PyResult<bool> {
        let equal = |bits| (N::from_bits(bits) == expected).then(|| new.to_bits());
        let changed = self.open()?.change(equal).map_err(|fault| errors::fault(&fault))?;
        Ok(changed.is_ok())
    }

    fn close(&self, py: Python<'_>) {
        let handle = lock(&self.handle).take();
        self.faces.close(py);
        sleepers::closed(self);
        drop(handle);
    }

    fn repr(&self, class: &str) -> String {
        match &*lock(&self.handle) {
            Some(core) => {
                format!("<ringspan.{class} {:?} now {:?}>", self.name, N::from_bits(core.load()))
            }
            None => format!("<ringspan.{class} {:?}, closed>", self.name),
        }
    }

    fn wait(
        self: &Arc<Self>,
        py: Python<'_>,
        name: &'static str,
        until: Until,
    ) -> PyResult<Py<PyAny>> {
        changes::awaited(py, Arc::clone(self) as Arc<_>, name, until)
    }

    fn wait_blocking(
        &self,
        py: Python<'_>,
        until: Until,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let limit = seconds(timeout, "timeout")?;
        changes::blocking(py, self, until, limit)
    }
}

impl<N: PyNumber + Addable> Inner<N> {
    /// Adds; the sum.
    fn add(&self, number: N) -> PyResult<N> {
        let handle = self.open()?;
        let sum = |bits| N::from_bits(bits).plus(number);
        let changed = handle.change(|bits| sum(bits).map(N::to_bits));
        match changed.map_err(|fault| errors::fault(&fault))? {
            Ok(old) => Ok(sum(old).unwrap_or(number)),
            Err(old) => {
                let cause = format!(
                    "{:?} and {number:?} are more than its 64 bits can hold",
                    N::from_bits(old)
                );
                let fault = handle.region().fault(FaultKind::InvalidOption, cause);
                Err(pyo3::exceptions::PyOverflowError::new_err(fault.to_string()))
            }
        }
    }
}

/// The methods that all three have; `$more` those of numbers that can be added to.
macro_rules! scalar_class {
    ($class:ident, $number:ty, $name:literal, $doc:literal, { $($more:tt)* }) => {
        #[doc = $doc]
        #[pyclass(frozen, name = $name, module = "ringspan")]
        pub(crate) struct $class {
            inner: Arc<Inner<$number>>,
        }

        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (name, initial=None, *, mode=0o600, ephemeral=false, create=None))]
            fn py_new(
                name: &str,
                initial: Option<&Bound<'_, PyAny>>,
                mode: u32,
                ephemeral: bool,
                create: Option<bool>,
            ) -> PyResult<Self> {
                let initial = initial.map(<$number as PyNumber>::of).transpose()?;
                let initial = initial.unwrap_or_default().to_bits();
                let flags = if ephemeral { crate::layout::FLAG_EPHEMERAL } else { 0 };
                let plain = Plain { initial, mode, flags };
                Ok($class { inner: Inner::find(name, &plain, how(create))? })
            }

            /// The number now.
            fn load(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
                self.inner.load(py)
            }

            /// Sets the number.
            fn store(&self, number: &Bound<'_, PyAny>) -> PyResult<()> {
                self.inner.swap(PyNumber::of(number)?).map(drop)
            }

            /// As `store`; the number before.
            fn swap(&self, number: &Bound<'_, PyAny>) -> PyResult<$number> {
                self.inner.swap(PyNumber::of(number)?)
            }

            /// Sets `new` if the number is `expected`; whether it did.
            fn compare_exchange(
                &self,
                expected: &Bound<'_, PyAny>,
                new: &Bound<'_, PyAny>,
            ) -> PyResult<bool> {
                self.inner.compare_exchange(PyNumber::of(expected)?, PyNumber::of(new)?)
            }

            /// How often the number was changed, by anybody.
            #[getter]
            fn version(&self) -> PyResult<u64> {
                Ok(self.inner.open()?.version())
            }

            /// Waits until the version differs from `since`, and returns it.
            #[pyo3(signature = (since=None))]
            fn changed(&self, py: Python<'_>, since: Option<u64>) -> PyResult<Py<PyAny>> {
                self.inner.wait(py, concat!($name, ".changed"), Until::Changed(since))
            }

            /// As `changed`, parking the thread.
            #[pyo3(signature = (since=None, timeout=None))]
            fn blocking_changed(
                &self,
                py: Python<'_>,
                since: Option<u64>,
                timeout: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<Py<PyAny>> {
                self.inner.wait_blocking(py, Until::Changed(since), timeout)
            }

            /// Waits until `wanted` says true of the number, and returns it.
            fn wait_for(&self, py: Python<'_>, wanted: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                self.inner.wait(py, concat!($name, ".wait_for"), Until::fits(wanted)?)
            }

            /// As `wait_for`, parking the thread.
            #[pyo3(signature = (wanted, timeout=None))]
            fn blocking_wait_for(
                &self,
                py: Python<'_>,
                wanted: &Bound<'_, PyAny>,
                timeout: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<Py<PyAny>> {
                self.inner.wait_blocking(py, Until::fits(wanted)?, timeout)
            }

            /// What this handle holds and has done.
            fn stat(&self) -> PyResult<PyHandleStat> {
                let stat = HandleStat::of(self.inner.open()?.shared());
                stat.map(PyHandleStat::from).map_err(|fault| errors::fault(&fault))
            }

            /// The name, with its slash.
            #[getter]
            fn name(&self) -> &str {
                &self.inner.name
            }

            /// Whether the last one out removes it.
            #[getter]
            fn is_ephemeral(&self) -> bool {
                self.inner.ephemeral
            }

            /// Deletes the name; who has it open goes on.
            fn remove(&self) -> PyResult<()> {
                opening::remove(&self.inner.name)
            }

            /// Gives the handle up; tasks and threads that wait get an error.
            fn close(&self, py: Python<'_>) {
                self.inner.close(py);
            }

            fn __enter__(slf: Py<Self>) -> Py<Self> {
                slf
            }

            #[pyo3(signature = (exc_type=None, exc=None, traceback=None, /))]
            fn __exit__(
                &self,
                py: Python<'_>,
                exc_type: Option<&Bound<'_, PyAny>>,
                exc: Option<&Bound<'_, PyAny>>,
                traceback: Option<&Bound<'_, PyAny>>,
            ) {
                let _ = (exc_type, exc, traceback);
                self.inner.close(py);
            }

            fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
                let again = py.import("ringspan._ringspan")?.getattr("_scalar_again")?;
                (again, ($name, &self.inner.name)).into_pyobject(py)
            }

            fn __repr__(&self) -> String {
                self.inner.repr($name)
            }

            $($more)*
        }
    };
}

scalar_class!(PySharedInt, i64, "SharedInt", "A 64-bit integer that processes share.", {
    /// Adds; the sum.
    fn add(&self, number: &Bound<'_, PyAny>) -> PyResult<i64> {
        self.inner.add(PyNumber::of(number)?)
    }
});
scalar_class!(PySharedFloat, f64, "SharedFloat", "A 64-bit float that processes share.", {
    /// Adds; the sum.
    fn add(&self, number: &Bound<'_, PyAny>) -> PyResult<f64> {
        self.inner.add(PyNumber::of(number)?)
    }
});
scalar_class!(PySharedBool, bool, "SharedBool", "A truth value that processes share.", {
    /// What it holds now.
    fn __bool__(&self) -> PyResult<bool> {
        Ok(bool::from_bits(self.inner.open()?.load()))
    }
});

/// `_scalar_again(class, name)`: what pickles call.
#[pyfunction]
#[pyo3(name = "_scalar_again", signature = (class, name, /))]
fn again(py: Python<'_>, class: &str, name: &str) -> PyResult<Py<PyAny>> {
    let plain = Plain { initial: 0, mode: 0o600, flags: 0 };
    let object = match class {
        "SharedInt" => {
            let inner = Inner::find(name, &plain, How::Open)?;
            Py::new(py, PySharedInt { inner })?.into_any()
        }
        "SharedFloat" => {
            let inner = Inner::find(name, &plain, How::Open)?;
            Py::new(py, PySharedFloat { inner })?.into_any()
        }
        _ => {
            let inner = Inner::find(name, &plain, How::Open)?;
            Py::new(py, PySharedBool { inner })?.into_any()
        }
    };
    Ok(object)
}

/// Adds the classes and the private function to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PySharedInt>()?;
    m.add_class::<PySharedFloat>()?;
    m.add_class::<PySharedBool>()?;
    m.add_function(wrap_pyfunction!(again, m)?)
}
