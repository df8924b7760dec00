//! The Python package: `ringspan._ringspan`.
//!
//! One rule for the interpreter lock: it is held for everything that never waits (a `try_` verb takes
//! less time than giving the lock back) and given back for every wait and for large copies. The
//! Rust handle of a class lies behind a mutex that is only ever tried, never waited for: whoever
//! finds it taken gets a RuntimeError.
//!
//! | file | job |
//! |---|---|
//! | `end` | what both ends of a ring do alike: attach late, one thread at a time, close, wait |
//! | `end_awaits` | what they are awaited for besides messages |
//! | `ring` | Ring, and the options that it and the ends are pickled by |
//! | `producer`, `producer_ops`, `grant` | pushing |
//! | `consumer`, `consumer_ops`, `lent` | popping |
//! | `segment`, `segment_wait`, `segments` | Segment, its waits, the module functions |
//! | `value`, `value_ops` | Value |
//! | `scalar` | SharedInt, SharedFloat, SharedBool |
//! | `changes` | waiting for a change of either; Watch |
//! | `buffer` | memory of a mapping as an object that exports it |
//! | `per_process` | what an object has anew in a child that came by fork |
//! | `cells` | what only one thread at a time can be inside of, told by a flag |
//! | `locking` | what every class has whose bytes lie under a lock |
//! | `rwlock`, `rwlock_take`, `rwlock_ops` | RwLock; how it is taken, at once, blocking, awaited |
//! | `block` | _Block, of which arrays are made |
//! | `packed` | the packed items of membridge |
//! | `packed_block`, `packed_view` | what is done with them in a block; MappedView, a cursor over it |
//! | `packed_ends`, `packed_ring` | what is done with them in a ring; SpscRingBuffer, messages of them |
//! | `exported` | _Exported, for Python classes that lend the bytes of a block |
//! | `rwlock_guard`, `rwlock_hold` | its guards, and what the views of the bytes keep |
//! | `holding` | who holds guards of a handle, so that nobody waits for himself |
//! | `loop_faces` | a face for each event loop, for handles of many threads and loops |
//! | `stat` | Peer, RingStat, EndStat, Holder, HandleStat |
//! | `view`, `view_items` | View over any buffer; tags, schemas and values |
//! | `awaitable*`, `asyncio*` | what the verbs return, and how it waits |
//! | `convert*` | objects to records and back |
//! | `once` | what is looked up once in a process |
//! | `opening` | finding and removing without holding up other threads |
//! | `errors`, `seconds`, `deadline` | exceptions, time-outs |
//! | `signals`, `sleepers` | what ends a blocking verb: Ctrl-C, a `close`, the end of the process |

mod asyncio;
mod asyncio_loop;
mod asyncio_waiters;
mod awaitable;
mod awaitable_slots;
mod block;
mod buffer;
mod cells;
mod changes;
mod consumer;
mod consumer_ops;
mod convert;
mod convert_array;
mod convert_buffer;
mod convert_read;
mod convert_read_more;
mod convert_types;
mod convert_write;
mod convert_write_more;
mod deadline;
mod end;
mod end_awaits;
mod errors;
mod exported;
mod grant;
mod holding;
mod lent;
mod locking;
mod loop_faces;
mod once;
mod opening;
mod packed;
mod packed_block;
mod packed_ends;
mod packed_ring;
mod packed_view;
mod per_process;
mod producer;
mod producer_ops;
mod ring;
mod rpc_blocking;
mod rpc_channel;
mod rpc_client;
mod rpc_codec;
mod rpc_future;
mod rpc_handler;
mod rpc_server;
mod rpc_starter;
mod rpc_stream;
mod rpc_worker;
mod rwlock;
mod rwlock_guard;
mod rwlock_hold;
mod rwlock_ops;
mod rwlock_take;
mod scalar;
mod seconds;
mod segment;
mod segment_wait;
mod segments;
mod signals;
mod sleepers;
mod stat;
mod value;
mod value_ops;
mod value_peek;
mod view;
mod view_items;

use pyo3::prelude::*;
use pyo3::types::PyList;

/// The compiled half of the package `ringspan`.
#[pymodule(gil_used = true)]
#[pyo3(name = "_ringspan")]
fn ringspan_module(m: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::import(m.py());
    awaitable::register_awaitable(m)?;
    convert::register(m)?;
    m.add_class::<ring::PyRing>()?;
    m.add_class::<producer::PyProducer>()?;
    m.add_class::<consumer::PyConsumer>()?;
    m.add_class::<grant::PyGrant>()?;
    m.add_class::<lent::PyLent>()?;
    m.add_class::<stat::PyPeer>()?;
    m.add_class::<stat::PyRingStat>()?;
    m.add_class::<stat::PyEndStat>()?;
    m.add_class::<segment::PySegment>()?;
    m.add_class::<rwlock::PyRwLock>()?;
    m.add_class::<block::PyBlock>()?;
    packed_view::register(m)?;
    packed_ring::register(m)?;
    m.add_class::<exported::Exported>()?;
    m.add_class::<rwlock_ops::PyAcquire>()?;
    m.add_class::<rwlock_guard::PyGuard>()?;
    m.add_class::<stat::PyHolder>()?;
    m.add_class::<stat::PyHandleStat>()?;
    m.add_class::<view::PyView>()?;
    m.add_class::<value::PyValue>()?;
    m.add_class::<changes::PyWatch>()?;
    m.add_class::<rpc_client::PyClient>()?;
    m.add_class::<rpc_client::PyMethod>()?;
    m.add_class::<rpc_client::PyCallOff>()?;
    m.add_class::<rpc_client::PyOpened>()?;
    m.add_class::<rpc_future::PyCall>()?;
    m.add_class::<rpc_stream::PyCallStream>()?;
    m.add_class::<rpc_blocking::PyBlockingClient>()?;
    m.add_class::<rpc_blocking::PyBlockingMethod>()?;
    m.add_class::<rpc_blocking::PyBlockingStream>()?;
    rpc_server::register(m)?;
    value::register(m)?;
    scalar::register(m)?;
    segments::register(m)?;
    ring::register(m)?;
    rwlock::register(m)?;
    block::register(m)?;
    seconds::register(m)?;
    signals::register(m)?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    let public = m.index()?.into_iter().filter(|name| {
        let private = name.extract::<&str>().is_ok_and(|name| name.starts_with('_'));
        !private || name.extract::<&str>().is_ok_and(|name| name == "__version__")
    });
    m.setattr("__all__", PyList::new(m.py(), public.collect::<Vec<_>>())?)
}
