//! `async for item in f.stream(...)`: the items of a stream, taken as they are asked for.

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration};
use pyo3::prelude::*;
use std::sync::{Arc, Weak};

use super::rpc_channel::{Channel, Hearer};
use super::rpc_codec::{read_answer, read_outcome};
use super::rpc_future::{Pending, PyCall};
use crate::rpc::core::news::{News, Outcome};
use crate::sync::{Mutex, lock};

/// The part that the channel knows.
pub(crate) struct Items {
    channel: Arc<Channel>,
    id: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    over: bool,
    /// Whoever asked for the next item.
    waiting: Option<Weak<Pending>>,
}

impl Items {
    /// Something came.
    pub(super) fn serve(&self, py: Python<'_>) -> PyResult<()> {
        let waiting = lock(&self.state).waiting.take();
        // Nobody asks, or the one who did was cancelled: the item stays for the next.
        let Some(waiting) = waiting.and_then(|waiting| waiting.upgrade()) else { return Ok(()) };
        if !waiting.is_open() {
            return Ok(());
        }
        match self.next(py) {
            Some(item) => waiting.resolve(py, item),
            None => {
                lock(&self.state).waiting = Some(Arc::downgrade(&waiting));
                Ok(())
            }
        }
    }

    /// The next item, if it is there.
    fn next(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        let news = self.channel.take(self.id);
        self.channel.look_soon(py); // the connection may have broken at that
        let news = news?;
        let item = match news {
            News::Item(item) => read_answer(py, &self.channel.conn, &item).map(Bound::unbind),
            News::Over(outcome) => {
                lock(&self.state).over = true;
                match outcome {
                    Outcome::End => Err(PyStopAsyncIteration::new_err(())),
                    outcome => read_outcome(py, &self.channel.conn, outcome).map(Bound::unbind),
                }
            }
        };
        Some(item)
    }

    fn close(&self) {
        if !std::mem::replace(&mut lock(&self.state).over, true) {
            self.channel.forget(self.id);
        }
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        self.close();
    }
}

/// The items of a call that yields a stream.
#[pyclass(frozen, name = "CallStream", module = "ringspan")]
pub(crate) struct PyCallStream {
    items: Arc<Items>,
}

impl PyCallStream {
    pub(crate) fn new(py: Python<'_>, channel: Arc<Channel>, id: u64) -> PyCallStream {
        let items = Arc::new(Items { channel, id, state: Mutex::default() });
        items.channel.listen(py, id, Hearer::Stream(Arc::downgrade(&items)));
        PyCallStream { items }
    }
}

#[pymethods]
impl PyCallStream {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<PyCall> {
        let channel = Arc::clone(&self.items.channel);
        {
            let state = lock(&self.items.state);
            if state.over {
                let end = Err(PyStopAsyncIteration::new_err(()));
                return Ok(PyCall::ready(channel, end));
            }
            let waiting = state.waiting.as_ref().and_then(Weak::upgrade);
            if waiting.is_some_and(|waiting| waiting.is_open()) {
                return Err(PyRuntimeError::new_err("somebody waits for the next item already"));
            }
        }
        if let Some(item) = self.items.next(py) {
            return Ok(PyCall::ready(channel, item));
        }
        let pending = Pending::new(channel, None);
        lock(&self.items.state).waiting = Some(Arc::downgrade(&pending));
        Ok(PyCall { pending })
    }

    /// Stops the handler; there are no more items.
    fn aclose(&self) -> PyCall {
        self.items.close();
        let channel = Arc::clone(&self.items.channel);
        PyCall::ready(channel, Python::attach(|py| Ok(py.None())))
    }
}
