//! The producer as a [`Sink`] of byte messages.

use crate::ring::error::PushError;
use crate::ring::producer::Producer;
use bytes::Bytes;
use futures_sink::Sink;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A [`Sink`] that holds at most one item which found no room yet.
///
/// # Cancel safety
///
/// `feed` and `send` of a `Sink` take their item; dropped before they are ready, they have published
/// nothing. An item accepted by `start_send` is published by the next `poll_ready` or `poll_flush`, and
/// lost with the sink if neither follows.
#[derive(Debug)]
pub struct RingSink {
    producer: Producer,
    held: Option<Bytes>,
}

/// A sink's error: what went wrong, and the item where it was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkError {
    /// What went wrong.
    pub error: PushError,
    /// The item that was refused.
    pub item: Option<Bytes>,
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SinkError {}

impl From<SinkError> for std::io::Error {
    fn from(err: SinkError) -> Self {
        err.error.into()
    }
}

impl Producer {
    /// Turns the end into a [`Sink`] of [`Bytes`].
    pub fn into_sink(self) -> RingSink {
        RingSink { producer: self, held: None }
    }
}

impl RingSink {
    /// The end back, and the item that found no room yet.
    pub fn into_inner(self) -> (Producer, Option<Bytes>) {
        (self.producer, self.held)
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        let Some(item) = &self.held else { return Poll::Ready(Ok(())) };
        match ready!(self.producer.poll_put(item, cx)) {
            Ok(()) => {
                self.held = None;
                Poll::Ready(Ok(()))
            }
            // The item stays: the next consumer may take it.
            Err(error) => Poll::Ready(Err(SinkError { error, item: None })),
        }
    }
}

impl Sink<Bytes> for RingSink {
    type Error = SinkError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_held(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Bytes) -> Result<(), SinkError> {
        if let Err(error) = self.producer.check_len(item.len()) {
            return Err(SinkError { error, item: Some(item) });
        }
        self.held = Some(item);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_held(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        ready!(self.poll_held(cx))?;
        let closed = self.producer.shut(true);
        Poll::Ready(closed.map_err(|fault| SinkError { error: fault.into(), item: None }))
    }
}
