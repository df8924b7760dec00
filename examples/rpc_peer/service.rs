//! What is served; `tests/python/rpc_peer.py` serves the same.

use crate::item::Item;
use crate::{Done, lines};
use futures_util::stream;
use ringspan::rpc::{self, Context, HandlerError, Service};
use serde::Deserialize;
use serde_bytes::ByteBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Takes its arguments by place and by name.
#[derive(Deserialize)]
struct Sub {
    a: i64,
    b: i64,
}

/// Counts the handlers that were stopped before their end.
#[derive(Clone, Default)]
struct Stopped(Arc<AtomicU64>);

struct Guard(Stopped);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn add((a, b): (i64, i64)) -> rpc::Answer<i64> {
    Ok(a + b)
}

async fn later((ms, value): (u64, Item)) -> rpc::Answer<Item> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(value)
}

async fn fail((kind, text): (String, String)) -> rpc::Answer<()> {
    Err(HandlerError::new(kind, text).with_traceback("here, and there"))
}

async fn left(call: Context, (): ()) -> rpc::Answer<Option<f64>> {
    Ok(call.remaining().map(|left| left.as_secs_f64()))
}

fn built(name: &str) -> rpc::ServiceBuilder {
    let stopped = Stopped::default();
    let (of_forever, of_ticks) = (stopped.clone(), stopped.clone());
    Service::builder(name)
        .method("add", add)
        .method("sub", |Sub { a, b }| async move { Ok::<_, HandlerError>(a - b) })
        .method("none", |(): ()| async { Ok::<_, HandlerError>(()) })
        .method("echo", |(item,): (Item,)| async move { Ok::<_, HandlerError>(item) })
        .method("later", later)
        .method("fail", fail)
        .method("left", left)
        .method("caller", |call: Context, (): ()| async move {
            Ok::<_, HandlerError>((call.caller().pid, call.caller().uid))
        })
        .method("length", |(data,): (ByteBuf,)| async move { Ok::<_, HandlerError>(data.len()) })
        .method("blob", |(size,): (usize,)| async move {
            Ok::<_, HandlerError>(ByteBuf::from(vec![7; size]))
        })
        .method_bytes("raw", |data: bytes::Bytes| async move { Ok::<_, HandlerError>(data) })
        .method("forever", move |(): ()| {
            let guard = Guard(of_forever.clone());
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok::<_, HandlerError>(())
            }
        })
        .method("stopped", move |(): ()| {
            let count = stopped.0.load(Ordering::SeqCst);
            async move { Ok::<_, HandlerError>(count) }
        })
        .method_stream("count", |(n,): (u64,)| stream::iter((0..n).map(Ok::<_, HandlerError>)))
        .method_stream("ticks", move |(): ()| {
            let guard = Guard(of_ticks.clone());
            stream::iter((0u64..).map(move |n| {
                let _ = &guard;
                Ok::<_, HandlerError>(n)
            }))
        })
        .method_stream("breaks", |(n,): (u64,)| {
            let fault = || Err(HandlerError::new("LookupError", "no more"));
            stream::iter((0..=n).map(move |at| if at < n { Ok(at) } else { fault() }))
        })
}

/// Serves until stdin ends, or the name is removed.
pub(crate) async fn serve(name: &str) -> Done<()> {
    let server = built(name).serve().await?;
    println!("serving");
    let mut lines = lines();
    loop {
        tokio::select! {
            line = lines.recv() => match line.as_deref() {
                Some("stats") => {
                    let stats = server.stats();
                    println!("{} {} {}", stats.clients, stats.in_flight, stats.running);
                }
                Some(other) => return Err(format!("no such command: {other}").into()),
                None => break server.shutdown(Duration::from_secs(5)).await,
            },
            () = server.join() => break,
        }
    }
    println!("ended");
    Ok(())
}
