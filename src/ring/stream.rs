//! The consumer as a [`Stream`] of owned messages.

use crate::ring::consumer::Consumer;
use crate::ring::error::PopError;
use bytes::Bytes;
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Owned messages (one copy each) until the end of the stream; a death is an error, after which the
/// stream goes on with the next producer.
///
/// # Cancel safety
///
/// Cancel safe: dropping the future of `next()` takes nothing.
#[derive(Debug)]
pub struct RingStream {
    consumer: Consumer,
}

impl Consumer {
    /// Turns the end into a [`Stream`] of `Result<Bytes, PopError>`.
    pub fn into_stream(self) -> RingStream {
        RingStream { consumer: self }
    }
}

impl RingStream {
    /// The end back.
    pub fn into_inner(self) -> Consumer {
        self.consumer
    }
}

impl Stream for RingStream {
    type Item = Result<Bytes, PopError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let consumer = &mut self.consumer;
        consumer.poll_next_record(cx).map(|found| match found {
            Ok(None) => None,
            Err(err) => Some(Err(err)),
            Ok(Some(record)) => {
                let mut copy = Vec::new();
                consumer.raw.append_to(&record, &mut copy);
                consumer.release(record.next());
                Some(Ok(Bytes::from(copy)))
            }
        })
    }
}
