//! Handlers: async functions of one argument (a tuple, as a rule), with or without a [`Context`].

use crate::codec;
use crate::rpc::answer::HandlerError;
use crate::rpc::context::Context;
use crate::rpc::error::Reason;
use crate::rpc::in_place::Reply;
use crate::rpc::server::floor::Call;
use crate::rpc::server::peer::Done;
use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as Cx, Poll};

/// Marks handlers that take only the arguments.
#[derive(Debug)]
pub enum Plain {}
/// Marks handlers that take the [`Context`] first.
#[derive(Debug)]
pub enum WithContext {}

/// What [`ServiceBuilder::method`](super::ServiceBuilder::method) takes: `async fn(A) -> Result<T, E>` or
/// `async fn(Context, A) -> Result<T, E>`, where `E` is [`HandlerError`] or any error that it is made from.
pub trait Handler<A, M>: Send + Sync + 'static {
    /// The value on success.
    type Value;
    /// The error.
    type Error: Into<HandlerError>;
    /// The call under way. Dropped when the caller gives up.
    type Call: Future<Output = Result<Self::Value, Self::Error>> + Send + 'static;

    /// Begins a call.
    fn call(&self, context: Context, args: A) -> Self::Call;
}

impl<F, A, T, E, Fut> Handler<A, Plain> for F
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    E: Into<HandlerError>,
{
    type Value = T;
    type Error = E;
    type Call = Fut;

    fn call(&self, _: Context, args: A) -> Fut {
        self(args)
    }
}

impl<F, A, T, E, Fut> Handler<A, WithContext> for F
where
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    E: Into<HandlerError>,
{
    type Value = T;
    type Error = E;
    type Call = Fut;

    fn call(&self, context: Context, args: A) -> Fut {
        self(context, args)
    }
}

/// What [`ServiceBuilder::method_stream`](super::ServiceBuilder::method_stream) takes: `fn(A) -> impl
/// Stream<Item = Result<T, E>>`, or the same with a [`Context`] first.
pub trait StreamHandler<A, M>: Send + Sync + 'static {
    /// One item.
    type Value;
    /// The error, which ends the stream.
    type Error: Into<HandlerError>;
    /// The stream. Dropped when the caller gives up.
    type Items: Stream<Item = Result<Self::Value, Self::Error>> + Send + 'static;

    /// Begins a stream.
    fn open(&self, context: Context, args: A) -> Self::Items;
}

impl<F, A, T, E, S> StreamHandler<A, Plain> for F
where
    F: Fn(A) -> S + Send + Sync + 'static,
    S: Stream<Item = Result<T, E>> + Send + 'static,
    E: Into<HandlerError>,
{
    type Value = T;
    type Error = E;
    type Items = S;

    fn open(&self, _: Context, args: A) -> S {
        self(args)
    }
}

impl<F, A, T, E, S> StreamHandler<A, WithContext> for F
where
    F: Fn(Context, A) -> S + Send + Sync + 'static,
    S: Stream<Item = Result<T, E>> + Send + 'static,
    E: Into<HandlerError>,
{
    type Value = T;
    type Error = E;
    type Items = S;

    fn open(&self, context: Context, args: A) -> S {
        self(context, args)
    }
}

/// A handler that goes on.
pub(crate) type Going = Pin<Box<dyn Future<Output = Done> + Send>>;
/// The items of a stream, encoded; an error is the last one.
pub(crate) type Items = Pin<Box<dyn Stream<Item = Result<Vec<u8>, HandlerError>> + Send>>;

/// What a handler's first step came to.
pub(crate) enum Step {
    /// Done; the value is encoded in the buffer.
    Value,
    /// Done, with bytes as they are.
    Bytes(Bytes),
    Error(HandlerError),
    Going(Going),
    Items(Items),
}

/// One method, whatever its types.
pub(crate) trait Method: Send + Sync {
    /// Decodes the arguments and runs the handler to its first await.
    fn start(&self, call: &Call<'_>, cx: &mut Cx<'_>, out: &mut Vec<u8>) -> Step;

    /// Runs a handler that works in place.
    fn in_place(&self, call: &Call<'_>, reply: &mut Reply<'_>) -> Result<(), HandlerError> {
        let _ = (call, reply);
        Err(HandlerError::of(Reason::BadArguments, "the method does not work in place"))
    }
}

impl fmt::Debug for dyn Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Method")
    }
}

fn context(call: &Call<'_>) -> Context {
    Context::new(call.peer, call.id, call.deadline)
}

fn arguments<A: DeserializeOwned>(call: &Call<'_>) -> Result<A, HandlerError> {
    if call.raw {
        return Err(HandlerError::of(
            Reason::BadArguments,
            "the method takes values, not raw bytes; call it by call_method",
        ));
    }
    if call.mixed {
        return Err(HandlerError::of(
            Reason::BadArguments,
            "the method takes positional arguments, or keyword arguments, but not both at once",
        ));
    }
    codec::from_slice(call.args).map_err(|err| HandlerError::of(Reason::BadArguments, err))
}

fn encode<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), HandlerError> {
    codec::to_writer(out, value).map_err(|err| HandlerError::of(Reason::BadResult, err))
}

/// A method with values.
pub(crate) struct Typed<H, A, M> {
    handler: H,
    of: PhantomData<fn(A, M)>,
}

impl<H, A, M> Typed<H, A, M> {
    pub(crate) fn new(handler: H) -> Self {
        Typed { handler, of: PhantomData }
    }
}

impl<H, A, M> Method for Typed<H, A, M>
where
    H: Handler<A, M>,
    H::Value: Serialize,
    A: DeserializeOwned,
{
    fn start(&self, call: &Call<'_>, cx: &mut Cx<'_>, out: &mut Vec<u8>) -> Step {
        let args = match arguments(call) {
            Ok(args) => args,
            Err(error) => return Step::Error(error),
        };
        let mut going = Box::pin(self.handler.call(context(call), args));
        match going.as_mut().poll(cx) {
            Poll::Ready(Ok(value)) => match encode(out, &value) {
                Ok(()) => Step::Value,
                Err(error) => Step::Error(error),
            },
            Poll::Ready(Err(error)) => Step::Error(error.into()),
            Poll::Pending => Step::Going(Box::pin(async move {
                let mut body = Vec::new();
                let encoded = match going.await {
                    Ok(value) => encode(&mut body, &value),
                    Err(error) => Err(error.into()),
                };
                match encoded {
                    Ok(()) => Done::Value { raw: false, body },
                    Err(error) => Done::Error(error.to_body()),
                }
            })),
        }
    }
}

/// A method with bytes as they are.
pub(crate) struct Raw<H, M> {
    handler: H,
    of: PhantomData<fn(M)>,
}

impl<H, M> Raw<H, M> {
    pub(crate) fn new(handler: H) -> Self {
        Raw { handler, of: PhantomData }
    }
}

impl<H, M> Method for Raw<H, M>
where
    H: Handler<Bytes, M>,
    H::Value: Into<Bytes>,
{
    fn start(&self, call: &Call<'_>, cx: &mut Cx<'_>, _: &mut Vec<u8>) -> Step {
        if let Err(error) = raw_only(call) {
            return Step::Error(error);
        }
        let args = Bytes::copy_from_slice(call.args);
        let mut going = Box::pin(self.handler.call(context(call), args));
        match going.as_mut().poll(cx) {
            Poll::Ready(Ok(value)) => Step::Bytes(value.into()),
            Poll::Ready(Err(error)) => Step::Error(error.into()),
            Poll::Pending => Step::Going(Box::pin(async move {
                match going.await {
                    Ok(value) => Done::Bytes(value.into()),
                    Err(error) => Done::Error(error.into().to_body()),
                }
            })),
        }
    }
}

/// A method that works in place.
pub(crate) struct InPlace<H> {
    handler: H,
}

impl<H> InPlace<H> {
    pub(crate) fn new(handler: H) -> Self {
        InPlace { handler }
    }
}

impl<H, E> Method for InPlace<H>
where
    H: Fn(&[u8], &mut Reply<'_>) -> Result<(), E> + Send + Sync + 'static,
    E: Into<HandlerError>,
{
    /// Where it cannot be done in place: the call came in chunks, or had to wait for its turn.
    fn start(&self, call: &Call<'_>, _: &mut Cx<'_>, _: &mut Vec<u8>) -> Step {
        let mut aside = Vec::new();
        let done = raw_only(call).and_then(|()| {
            let mut reply = Reply::aside(&mut aside, call.peer.engine.limits.max_message);
            (self.handler)(call.args, &mut reply).map_err(Into::into)
        });
        match done {
            Ok(()) => Step::Bytes(aside.into()),
            Err(error) => Step::Error(error),
        }
    }

    fn in_place(&self, call: &Call<'_>, reply: &mut Reply<'_>) -> Result<(), HandlerError> {
        raw_only(call)?;
        (self.handler)(call.args, reply).map_err(Into::into)
    }
}

fn raw_only(call: &Call<'_>) -> Result<(), HandlerError> {
    if call.raw {
        return Ok(());
    }
    let text = "the method takes raw bytes; call it by call_bytes";
    Err(HandlerError::of(Reason::BadArguments, text))
}

/// A method that yields a stream.
pub(crate) struct Streamed<H, A, M> {
    handler: H,
    of: PhantomData<fn(A, M)>,
}

impl<H, A, M> Streamed<H, A, M> {
    pub(crate) fn new(handler: H) -> Self {
        Streamed { handler, of: PhantomData }
    }
}

impl<H, A, M> Method for Streamed<H, A, M>
where
    H: StreamHandler<A, M>,
    H::Value: Serialize,
    A: DeserializeOwned,
{
    fn start(&self, call: &Call<'_>, _: &mut Cx<'_>, _: &mut Vec<u8>) -> Step {
        match arguments(call) {
            Ok(args) => {
                let items = self.handler.open(context(call), args);
                Step::Items(Box::pin(Encoded { items: Box::pin(items) }))
            }
            Err(error) => Step::Error(error),
        }
    }
}

struct Encoded<S> {
    items: Pin<Box<S>>,
}

impl<S, T, E> Stream for Encoded<S>
where
    S: Stream<Item = Result<T, E>>,
    T: Serialize,
    E: Into<HandlerError>,
{
    type Item = Result<Vec<u8>, HandlerError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Self::Item>> {
        self.items.as_mut().poll_next(cx).map(|item| {
            item.map(|item| {
                let value = item.map_err(Into::into)?;
                let mut body = Vec::new();
                encode(&mut body, &value).map(|()| body)
            })
        })
    }
}
