//! `Client`: calls from asyncio. One connection for each event loop that calls, made at the first call.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::asyncio_loop::running_loop;
use super::once;
use super::rpc_channel::{Channel, Hearer};
use super::rpc_codec::{call_error, write_args};
use super::rpc_future::{Pending, PyCall};
use super::rpc_stream::PyCallStream;
use super::seconds::seconds;
use crate::codec::with_scratch;
use crate::rpc::conn::{Ask, Conn};
use crate::rpc::connect;
use crate::rpc::wire::STREAM;
use crate::sync::{Mutex, lock};
use crate::sys::alarm::Alarm;

/// What the clients made by `options` share.
struct Shared {
    name: String,
    channels: Mutex<Vec<Arc<Channel>>>,
}

impl Shared {
    fn new(name: &str) -> Arc<Shared> {
        Arc::new(Shared { name: name.to_owned(), channels: Mutex::default() })
    }
}

/// How calls are made.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Options {
    pub(super) timeout: Option<Duration>,
    pub(super) exact: bool,
}

impl Options {
    pub(super) fn new(timeout: Option<&Bound<'_, PyAny>>, exact: bool) -> PyResult<Options> {
        Ok(Options { timeout: seconds(timeout, "timeout")?, exact })
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// `None` leaves what is; a time-out of None is said by the argument.
    pub(super) fn changed(
        self,
        kwargs: Option<&Bound<'_, PyDict>>,
        owner: &str,
    ) -> PyResult<Options> {
        let mut options = self;
        for (key, value) in kwargs.into_iter().flat_map(|kwargs| kwargs.iter()) {
            match key.extract::<String>()?.as_str() {
                "timeout" => options.timeout = seconds(Some(&value), "timeout")?,
                "exact" => options.exact = value.extract()?,
                other => {
                    return Err(pyo3::exceptions::PyTypeError::new_err(format!(
                        "{owner}.options() has no option {other:?}; it has timeout and exact"
                    )));
                }
            }
        }
        Ok(options)
    }
}

/// A handle to a function or service, for asyncio.
#[pyclass(frozen, weakref, name = "Client", module = "ringspan")]
pub(crate) struct PyClient {
    shared: Arc<Shared>,
    options: Options,
}

/// How a result is wanted.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    One,
    Items,
}

impl PyClient {
    /// The connection of the loop that runs, if it stands.
    fn channel(&self, event_loop: &Bound<'_, PyAny>) -> Option<Arc<Channel>> {
        let channels = lock(&self.shared.channels);
        // One that a fork brought here is the parent's.
        let found = channels.iter().find(|one| {
            one.is_of(event_loop) && !one.conn.is_over() && one.conn.check_fork().is_ok()
        });
        found.map(Arc::clone)
    }

    fn call(
        slf: &Bound<'_, Self>,
        method: Option<&str>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        wanted: Wanted,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let event_loop = running_loop(py, "Client()")?;
        if let Some(call) = this.begin(&event_loop, method, args, kwargs, wanted)? {
            return Ok(call);
        }
        // Not connected, or not any more: a coroutine that connects, then calls.
        let late = |name| helpers(py)?.getattr(name)?.call1((slf, method, args, kwargs));
        match wanted {
            Wanted::Items => Ok(late("late_stream")?.unbind()),
            Wanted::One => {
                let call = PyCall::late(&event_loop, &this.shared.name, late("late_call")?)?;
                Ok(Py::new(py, call)?.into_any())
            }
        }
    }

    /// `None`: there is no connection, or it takes no calls any more.
    fn begin(
        &self,
        event_loop: &Bound<'_, PyAny>,
        method: Option<&str>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        wanted: Wanted,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = event_loop.py();
        let Some(channel) = self.channel(event_loop) else { return Ok(None) };
        let raw = channel.conn.method(method).is_ok_and(|method| method.raw);
        let begun = with_scratch(|bytes| {
            bytes.clear();
            let flags = write_args(bytes, args, kwargs, (raw, self.options.exact))?;
            let flags = if wanted == Wanted::Items { flags | STREAM } else { flags };
            let ask = Ask { method, flags, deadline: self.options.deadline() };
            channel.conn.begin(ask, bytes).map_err(|err| call_error(py, &err))
        });
        let Some(id) = begun? else {
            channel.look_soon(py); // the calls under way on it are over too
            return Ok(None);
        };
        if wanted == Wanted::Items {
            let stream = PyCallStream::new(py, channel, id);
            return Ok(Some(Py::new(py, stream)?.into_any()));
        }
        let pending = Pending::new(Arc::clone(&channel), Some(id));
        channel.listen(py, id, Hearer::Call(Arc::downgrade(&pending)));
        Ok(Some(Py::new(py, PyCall { pending })?.into_any()))
    }
}

static HELPERS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// `ringspan._calls`.
fn helpers(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let module = once::get_or_make(&HELPERS, py, || {
        py.import("ringspan._calls").map(|module| module.into_any().unbind())
    });
    Ok(module?.bind(py))
}

#[pymethods]
impl PyClient {
    #[new]
    #[pyo3(signature = (name, *, timeout = None, exact = false))]
    fn new(name: &str, timeout: Option<&Bound<'_, PyAny>>, exact: bool) -> PyResult<PyClient> {
        Ok(PyClient { shared: Shared::new(name), options: Options::new(timeout, exact)? })
    }

    /// Calls the function; all arguments are the function's.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        Self::call(slf, None, args, kwargs, Wanted::One)
    }

    /// Calls a function that yields a stream.
    #[pyo3(signature = (*args, **kwargs))]
    fn stream(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        Self::call(slf, None, args, kwargs, Wanted::Items)
    }

    /// A method of the service.
    fn method(slf: Py<Self>, name: String) -> PyMethod {
        PyMethod { client: slf, name }
    }

    fn __getattr__(slf: Py<Self>, name: String) -> PyResult<PyMethod> {
        if name.starts_with('_') {
            return Err(PyAttributeError::new_err(format!("Client has no attribute {name:?}")));
        }
        Ok(PyMethod { client: slf, name })
    }

    /// The same client with other options.
    #[pyo3(signature = (**kwargs))]
    fn options(&self, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<PyClient> {
        let options = self.options.changed(kwargs, "Client")?;
        Ok(PyClient { shared: Arc::clone(&self.shared), options })
    }

    /// The name it calls.
    #[getter]
    fn name(&self) -> &str {
        &self.shared.name
    }

    /// Seconds that a call may take, connecting included; None for ever.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.options.timeout.map(|timeout| timeout.as_secs_f64())
    }

    /// The process that serves, if this loop has a connection.
    #[getter]
    fn server_pid(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        let event_loop = running_loop(py, "Client.server_pid")?;
        Ok(self.channel(&event_loop).map(|channel| channel.conn.pid()))
    }

    /// The methods of the service, if this loop has a connection.
    #[getter]
    fn methods(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let event_loop = running_loop(py, "Client.methods")?;
        Ok(self.channel(&event_loop).map_or_else(Vec::new, |channel| channel.conn.methods()))
    }

    /// Closes the connections; calls under way fail. A later call connects anew.
    fn close(&self, py: Python<'_>) {
        let channels = std::mem::take(&mut *lock(&self.shared.channels));
        for channel in channels {
            channel.close(py);
        }
    }

    /// Whether this loop has a connection.
    fn _connected(&self, py: Python<'_>) -> PyResult<bool> {
        let event_loop = running_loop(py, "Client()")?;
        Ok(self.channel(&event_loop).is_some())
    }

    /// A call, or its items, if this loop has a connection that takes it.
    fn _begin(
        &self,
        method: Option<&str>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        stream: bool,
    ) -> PyResult<Option<Py<PyAny>>> {
        let event_loop = running_loop(args.py(), "Client()")?;
        let wanted = if stream { Wanted::Items } else { Wanted::One };
        self.begin(&event_loop, method, args, kwargs, wanted)
    }

    /// What all clients of one `connect` have in common, for the helpers.
    fn _key(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    /// Makes a connection, in a thread that may wait.
    #[pyo3(signature = (off, timeout))]
    fn _open(
        &self,
        py: Python<'_>,
        off: &PyCallOff,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyOpened> {
        let deadline = Options { timeout: seconds(timeout, "timeout")?, exact: false }.deadline();
        let alarm = Arc::clone(&off.alarm);
        let opened = py.detach(|| connect::connect(&self.shared.name, deadline, alarm.fd()));
        let conn = opened.map_err(|err| call_error(py, &err))?;
        Ok(PyOpened { conn: Mutex::new(Some(Arc::new(conn))) })
    }

    /// Registers a connection with the loop that runs.
    fn _adopt(&self, py: Python<'_>, opened: &PyOpened) -> PyResult<()> {
        let event_loop = running_loop(py, "Client()")?;
        let Some(conn) = lock(&opened.conn).take() else { return Ok(()) };
        let channel = Channel::new(py, conn, &event_loop)?;
        // Python is asked outside of the lock, which another thread may want with the GIL in its hands.
        let mut gone = lock(&self.shared.channels).clone();
        gone.retain(|one| one.conn.is_over() || one.conn.check_fork().is_err() || one.is_stale(py));
        let mut channels = lock(&self.shared.channels);
        channels.retain(|one| !gone.iter().any(|other| Arc::ptr_eq(one, other)));
        channels.push(channel);
        drop(channels);
        drop(gone);
        Ok(())
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<PyClient>().is_ok_and(|other| {
            Arc::ptr_eq(&other.get().shared, &self.shared) && other.get().options == self.options
        })
    }

    fn __hash__(&self) -> usize {
        self._key()
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let this = slf.get();
        let args = (&this.shared.name, this.timeout(), this.options.exact).into_pyobject(py)?;
        Ok((helpers(py)?.getattr("unpickled")?, args))
    }

    fn __repr__(&self) -> String {
        format!("<Client of {}>", self.shared.name)
    }
}

/// A method of a service.
#[pyclass(frozen, name = "Method", module = "ringspan")]
pub(crate) struct PyMethod {
    client: Py<PyClient>,
    name: String,
}

#[pymethods]
impl PyMethod {
    /// Calls the method; all arguments are the method's.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let client = self.client.bind(args.py());
        PyClient::call(client, Some(&self.name), args, kwargs, Wanted::One)
    }

    /// Calls a method that yields a stream.
    #[pyo3(signature = (*args, **kwargs))]
    fn stream(
        &self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let client = self.client.bind(args.py());
        PyClient::call(client, Some(&self.name), args, kwargs, Wanted::Items)
    }

    /// The same method with other options.
    #[pyo3(signature = (**kwargs))]
    fn options(&self, py: Python<'_>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<PyMethod> {
        let client = self.client.get().options(kwargs)?;
        Ok(PyMethod { client: Py::new(py, client)?, name: self.name.clone() })
    }

    /// Its name.
    #[getter(__name__)]
    fn name(&self) -> &str {
        &self.name
    }

    fn __repr__(&self) -> String {
        format!("<Method {} of {}>", self.name, self.client.get().shared.name)
    }
}

/// Calls an attempt to connect off.
#[pyclass(frozen, name = "_CallOff", module = "ringspan")]
pub(crate) struct PyCallOff {
    alarm: Arc<Alarm>,
}

#[pymethods]
impl PyCallOff {
    #[new]
    fn new() -> PyResult<PyCallOff> {
        Ok(PyCallOff { alarm: Arc::new(Alarm::new()?) })
    }

    fn __call__(&self) {
        std::task::Wake::wake_by_ref(&self.alarm);
    }
}

/// A connection that no loop has yet.
#[pyclass(frozen, name = "_Opened", module = "ringspan")]
pub(crate) struct PyOpened {
    conn: Mutex<Option<Arc<Conn>>>,
}
