//! The frames of the client and the server by hand, and the two halves that move them: one task
//! writes whatever is queued at once, one reads up to 64 KiB at once.
//!
//! ```text
//! length u32 | method u32 | id u64 | msgpack
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::calls::Answer;

/// Two numbers, or their sum.
pub const ADD: u32 = 0;
/// Bytes there and back.
pub const ECHO: u32 = 1;

const HEADER: usize = 16;
/// What a read asks for at least.
const READ: usize = 64 << 10;

/// The head of a frame.
#[derive(Clone, Copy)]
pub struct Head {
    pub method: u32,
    pub id: u64,
}

/// Appends a frame.
fn put(out: &mut Vec<u8>, head: Head, body: &impl Serialize) -> Answer<()> {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u32_le(head.method);
    out.put_u64_le(head.id);
    rmp_serde::encode::write(out, body)?;
    let length = u32::try_from(out.len() - start - HEADER)?;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// What to call, or what was called, with its arguments or its result.
pub enum Body<T> {
    Add(T),
    Echo(Bytes),
}

/// Appends the frame of a call or of an answer.
pub fn put_body<T: Serialize>(out: &mut Vec<u8>, id: u64, body: &Body<T>) -> Answer<()> {
    match body {
        Body::Add(numbers) => put(out, Head { method: ADD, id }, numbers),
        Body::Echo(data) => put(out, Head { method: ECHO, id }, &serde_bytes::Bytes::new(data)),
    }
}

/// Writes what is queued, all of it in one write, until the queue is closed.
pub async fn write_all<T: Serialize>(
    mut queue: UnboundedReceiver<(u64, Body<T>)>,
    mut socket: OwnedWriteHalf,
) -> Answer<()> {
    let (mut taken, mut out) = (Vec::new(), Vec::new());
    while queue.recv_many(&mut taken, 1024).await > 0 {
        for (id, body) in taken.drain(..) {
            put_body(&mut out, id, &body)?;
        }
        socket.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

/// The reading half.
pub struct Reader {
    socket: OwnedReadHalf,
    buf: BytesMut,
}

impl Reader {
    pub fn new(socket: OwnedReadHalf) -> Self {
        Self { socket, buf: BytesMut::new() }
    }

    /// Waits for more bytes; false at the end of the connection.
    pub async fn more(&mut self) -> Answer<bool> {
        self.buf.reserve(READ);
        Ok(self.socket.read_buf(&mut self.buf).await? > 0)
    }

    /// The next frame that is there as a whole; its body is not copied.
    pub fn next(&mut self) -> Option<(Head, Bytes)> {
        let mut head = self.buf.get(..HEADER)?;
        let length = head.get_u32_le() as usize;
        let head = Head { method: head.get_u32_le(), id: head.get_u64_le() };
        if self.buf.len() < HEADER + length {
            return None;
        }
        self.buf.advance(HEADER);
        Some((head, self.buf.split_to(length).freeze()))
    }
}
