//! `BlockingClient`: calls that park the thread, for plain code. Threads share one connection.

use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::Arc;
use std::time::Instant;

use super::rpc_client::Options;
use super::rpc_codec::{call_error, read_answer, read_outcome, write_args};
use super::signals;
use super::sleepers::Open;
use crate::codec::with_scratch;
use crate::error::Fault;
use crate::notify::shared::Blocked;
use crate::rpc::client::{ATTEMPTS, Client};
use crate::rpc::conn::{Ask, Conn};
use crate::rpc::core::news::{News, Outcome};
use crate::rpc::drive_blocking;
use crate::rpc::error::CallError;
use crate::rpc::wire::STREAM;
use crate::sync::{Mutex, MutexGuard, try_lock};
use crate::sys::fd::Fd;
use crate::sys::poll;

/// A handle to a function or service, for code that blocks.
#[pyclass(frozen, name = "BlockingClient", module = "ringspan")]
pub(crate) struct PyBlockingClient {
    client: Client,
    options: Options,
}

/// The connection, or why there is none.
type Connected = Result<Arc<Conn>, CallError>;

impl PyBlockingClient {
    /// The connection, made anew if need be; Ctrl-C is answered.
    fn conn(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<Arc<Conn>> {
        let connect = |bell: Option<&Fd>| -> Result<Blocked<Connected>, Fault> {
            match self.client.shared.conn_blocking(deadline, bell) {
                Err(_) if bell.is_some_and(poll::is_readable) => Ok(Blocked::Interrupted),
                done => Ok(Blocked::Came(done)),
            }
        };
        if let Some(conn) = self.client.shared.current() {
            return Ok(conn);
        }
        match signals::parked(py, &Open, connect)? {
            Some(done) => done.map_err(|err| call_error(py, &err)),
            None => Err(pyo3::exceptions::PyTimeoutError::new_err(())),
        }
    }

    /// Begins a call on a connection that takes it.
    fn begin(
        &self,
        py: Python<'_>,
        method: Option<&str>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        stream: bool,
    ) -> PyResult<(Arc<Conn>, u64)> {
        let deadline = self.options.deadline();
        for _ in 0..ATTEMPTS {
            let conn = self.conn(py, deadline)?;
            let raw = conn.method(method).is_ok_and(|method| method.raw);
            let begun = with_scratch(|bytes| {
                bytes.clear();
                let flags = write_args(bytes, args, kwargs, (raw, self.options.exact))?;
                let flags = if stream { flags | STREAM } else { flags };
                conn.begin(Ask { method, flags, deadline }, bytes)
                    .map_err(|err| call_error(py, &err))
            });
            if let Some(id) = begun? {
                return Ok((conn, id));
            }
        }
        Err(call_error(py, &self.client.restless()))
    }

    /// Parks the thread until there is news of a call. Gives the call up if a signal says so.
    fn wait(&self, py: Python<'_>, conn: &Conn, id: u64) -> PyResult<News> {
        let threads = &self.client.shared.threads;
        let news = signals::parked(py, &Open, |bell| {
            Ok(match threads.wait(conn, id, bell)? {
                drive_blocking::Blocked::News(news) => Blocked::Came(news),
                drive_blocking::Blocked::Interrupted => Blocked::Interrupted,
            })
        });
        match news {
            Ok(Some(news)) => Ok(news),
            Ok(None) => Err(pyo3::exceptions::PyTimeoutError::new_err(())),
            Err(err) => {
                conn.abandon(id);
                Err(err)
            }
        }
    }

    fn call(
        &self,
        py: Python<'_>,
        method: Option<&str>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let (conn, id) = self.begin(py, method, args, kwargs, false)?;
        match self.wait(py, &conn, id)? {
            News::Over(outcome) => read_outcome(py, &conn, outcome).map(Bound::unbind),
            News::Item(_) => {
                conn.abandon(id);
                read_outcome(py, &conn, Outcome::End).map(Bound::unbind)
            }
        }
    }
}

#[pymethods]
impl PyBlockingClient {
    #[new]
    #[pyo3(signature = (name, *, timeout = None, exact = false))]
    fn new(
        name: &str,
        timeout: Option<&Bound<'_, PyAny>>,
        exact: bool,
    ) -> PyResult<PyBlockingClient> {
        let options = Options::new(timeout, exact)?;
        Ok(PyBlockingClient { client: Client::lazy(name), options })
    }

    /// Calls the function; all arguments are the function's.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        self.call(args.py(), None, args, kwargs)
    }

    /// Calls a function that yields a stream.
    #[pyo3(signature = (*args, **kwargs))]
    fn stream(
        slf: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBlockingStream> {
        PyBlockingStream::new(slf, None, args, kwargs)
    }

    /// A method of the service.
    fn method(slf: Py<Self>, name: String) -> PyBlockingMethod {
        PyBlockingMethod { client: slf, name }
    }

    fn __getattr__(slf: Py<Self>, name: String) -> PyResult<PyBlockingMethod> {
        if name.starts_with('_') {
            let text = format!("BlockingClient has no attribute {name:?}");
            return Err(PyAttributeError::new_err(text));
        }
        Ok(PyBlockingMethod { client: slf, name })
    }

    /// The same client with other options.
    #[pyo3(signature = (**kwargs))]
    fn options(&self, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<PyBlockingClient> {
        let options = self.options.changed(kwargs, "BlockingClient")?;
        Ok(PyBlockingClient { client: self.client.clone(), options })
    }

    /// Connects now.
    fn connect(&self, py: Python<'_>) -> PyResult<()> {
        self.conn(py, self.options.deadline()).map(drop)
    }

    /// The name it calls.
    #[getter]
    fn name(&self) -> &str {
        self.client.name()
    }

    /// Seconds that a call may take, connecting included; None for ever.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.options.timeout.map(|timeout| timeout.as_secs_f64())
    }

    /// The process that serves, if a connection stands.
    #[getter]
    fn server_pid(&self) -> Option<u32> {
        self.client.server_pid()
    }

    /// The methods of the service, if a connection stands.
    #[getter]
    fn methods(&self) -> Vec<String> {
        self.client.methods()
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let this = slf.get();
        let helper = py.import("ringspan._calls")?.getattr("unpickled_blocking")?;
        let args = (this.client.name(), this.timeout(), this.options.exact).into_pyobject(py)?;
        Ok((helper, args))
    }

    fn __repr__(&self) -> String {
        format!("<BlockingClient of {}>", self.client.name())
    }
}

/// A method of a service.
#[pyclass(frozen, name = "BlockingMethod", module = "ringspan")]
pub(crate) struct PyBlockingMethod {
    client: Py<PyBlockingClient>,
    name: String,
}

#[pymethods]
impl PyBlockingMethod {
    /// Calls the method; all arguments are the method's.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        self.client.get().call(args.py(), Some(&self.name), args, kwargs)
    }

    /// Calls a method that yields a stream.
    #[pyo3(signature = (*args, **kwargs))]
    fn stream(
        &self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBlockingStream> {
        PyBlockingStream::new(self.client.bind(args.py()), Some(&self.name), args, kwargs)
    }

    /// The same method with other options.
    #[pyo3(signature = (**kwargs))]
    fn options(
        &self,
        py: Python<'_>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBlockingMethod> {
        let client = self.client.get().options(kwargs)?;
        Ok(PyBlockingMethod { client: Py::new(py, client)?, name: self.name.clone() })
    }

    /// Its name.
    #[getter(__name__)]
    fn name(&self) -> &str {
        &self.name
    }

    fn __repr__(&self) -> String {
        format!("<BlockingMethod {} of {}>", self.name, self.client.get().client.name())
    }
}

/// The items of a stream, one for each `next`.
#[pyclass(frozen, name = "BlockingStream", module = "ringspan")]
pub(crate) struct PyBlockingStream {
    client: Py<PyBlockingClient>,
    conn: Arc<Conn>,
    id: u64,
    over: Mutex<bool>,
}

impl PyBlockingStream {
    fn new(
        client: &Bound<'_, PyBlockingClient>,
        method: Option<&str>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyBlockingStream> {
        let (conn, id) = client.get().begin(args.py(), method, args, kwargs, true)?;
        Ok(PyBlockingStream { client: client.clone().unbind(), conn, id, over: Mutex::new(false) })
    }

    /// One thread at a time, as with a generator.
    fn enter(&self) -> PyResult<MutexGuard<'_, bool>> {
        try_lock(&self.over).ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "stream of {}: another call is inside this handle; one thread at a time",
                self.client.get().client.name()
            ))
        })
    }
}

#[pymethods]
impl PyBlockingStream {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut over = self.enter()?;
        if *over {
            return Ok(None);
        }
        let news = self.client.get().wait(py, &self.conn, self.id);
        *over = !matches!(news, Ok(News::Item(_)));
        match news? {
            News::Item(item) => read_answer(py, &self.conn, &item).map(|item| Some(item.unbind())),
            News::Over(Outcome::End) => Ok(None),
            News::Over(outcome) => {
                read_outcome(py, &self.conn, outcome).map(|one| Some(one.unbind()))
            }
        }
    }

    /// Stops the handler; there are no more items.
    fn close(&self) -> PyResult<()> {
        let mut over = self.enter()?;
        if !std::mem::replace(&mut *over, true) {
            self.conn.abandon(self.id);
        }
        Ok(())
    }
}

impl Drop for PyBlockingStream {
    fn drop(&mut self) {
        let _ = self.close(); // nobody else is inside
    }
}
