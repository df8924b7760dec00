//! What one writes by hand for lack of a library: msgpack in frames, a table of calls in flight.
//! `SPAWN` false: the server calls the function where it reads. True: in a task of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_bytes::ByteBuf;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::calls::{Answer, Rpc};
use crate::link::{Place, Res};
use crate::peers::rpc::frames::{ADD, Body, Head, Reader, put_body, write_all};
use crate::peers::rpc::{connect, inherited};

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>;

/// A client: a queue for the writing task and a table for the reading one.
#[derive(Clone)]
pub struct Hand<const SPAWN: bool> {
    queue: UnboundedSender<(u64, Body<(i64, i64)>)>,
    waiting: Waiting,
    next: Arc<AtomicU64>,
}

impl<const SPAWN: bool> Hand<SPAWN> {
    async fn call(&self, body: Body<(i64, i64)>) -> Answer<Bytes> {
        let id = self.next.fetch_add(1, Ordering::Relaxed); // Relaxed: only unique
        let (tell, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, tell);
        self.queue.send((id, body)).map_err(|_| "the connection is gone")?;
        Ok(answer.await?)
    }
}

/// Hands each answer to who waits for it; at the end of the connection all of them learn it.
async fn answers(socket: OwnedReadHalf, waiting: Waiting) -> Answer<()> {
    let mut reader = Reader::new(socket);
    while reader.more().await? {
        while let Some((head, body)) = reader.next() {
            let tell = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&head.id);
            // A caller that has gone does not want it any more.
            let _ = tell.ok_or("an answer that nobody asked for")?.send(body);
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    Ok(())
}

impl<const SPAWN: bool> Rpc for Hand<SPAWN> {
    type Bytes = ByteBuf;

    async fn connect(place: &Place) -> Res<Self> {
        let (read, write) = connect(place).await?.into_split();
        let (queue, queued) = unbounded_channel();
        let waiting = Waiting::default();
        tokio::spawn(write_all(queued, write));
        tokio::spawn(answers(read, Arc::clone(&waiting)));
        Ok(Self { queue, waiting, next: Arc::default() })
    }

    async fn serve(place: &Place) -> Res<()> {
        let (stream, _) = inherited(place)?.accept().await?;
        let (read, write) = stream.into_split();
        let served = if SPAWN { spawned(read, write).await } else { inline(read, write).await };
        served.map_err(|e| e.to_string().into())
    }

    async fn add(&mut self, a: i64, b: i64) -> Answer<i64> {
        Ok(rmp_serde::from_slice(&self.call(Body::Add((a, b))).await?)?)
    }

    async fn echo(&mut self, data: Bytes) -> Answer<ByteBuf> {
        Ok(rmp_serde::from_slice(&self.call(Body::Echo(data)).await?)?)
    }
}

async fn handle(head: Head, body: Bytes) -> Answer<Body<i64>> {
    if head.method == ADD {
        let (a, b): (i64, i64) = rmp_serde::from_slice(&body)?;
        return Ok(Body::Add(a + b));
    }
    let data: ByteBuf = rmp_serde::from_slice(&body)?;
    Ok(Body::Echo(data.into_vec().into()))
}

/// All frames of a read, then all answers in one write.
async fn inline(read: OwnedReadHalf, mut write: OwnedWriteHalf) -> Answer<()> {
    let (mut reader, mut out) = (Reader::new(read), Vec::new());
    while reader.more().await? {
        while let Some((head, body)) = reader.next() {
            put_body(&mut out, head.id, &handle(head, body).await?)?;
        }
        write.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

/// A task for each frame; another writes what they have answered.
async fn spawned(read: OwnedReadHalf, write: OwnedWriteHalf) -> Answer<()> {
    let (queue, queued) = unbounded_channel();
    tokio::spawn(write_all(queued, write));
    let mut reader = Reader::new(read);
    while reader.more().await? {
        while let Some((head, body)) = reader.next() {
            let queue = queue.clone();
            tokio::spawn(async move {
                // Where the writer has gone the connection has, and nobody waits.
                let _ = queue.send((head.id, handle(head, body).await?));
                Answer::Ok(())
            });
        }
    }
    Ok(())
}
