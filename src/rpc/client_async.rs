//! The client's awaited verbs.

use crate::error::{Fault, FaultKind};
use crate::rpc::client::{
    ATTEMPTS, BYTES, Client, ITEMS, VALUE, bytes, decode, decoded, value, with_encoded,
};
use crate::rpc::conn::{Ask, Conn, Turn};
use crate::rpc::core::news::{Listener, News, Outcome};
use crate::rpc::drive_client;
use crate::rpc::error::CallError;
use crate::sys::alarm::Alarm;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Instant;

impl Client {
    /// Connects to whoever serves `name`.
    ///
    /// # Errors
    ///
    /// [`CallError::Connect`]: nobody has served the name, its server died, is out of descriptors, or takes
    /// no more clients.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the attempt is called off.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and in one built without `enable_io`.
    pub async fn connect(name: &str) -> Result<Client, CallError> {
        let client = Client::lazy(name);
        client.conn(None).await?;
        Ok(client)
    }

    /// The connection, made anew if need be.
    async fn conn(&self, deadline: Option<Instant>) -> Result<Arc<Conn>, CallError> {
        if let Some(conn) = self.shared.current() {
            return Ok(conn);
        }
        let cancel = Alarm::new().map_err(|err| Fault::os(self.name(), "making an alarm", &err))?;
        let cancel = CallOff(Arc::new(cancel));
        let (shared, alarm) = (Arc::clone(&self.shared), Arc::clone(&cancel.0));
        let connecting =
            tokio::task::spawn_blocking(move || shared.conn_blocking(deadline, Some(alarm.fd())));
        match connecting.await {
            Ok(done) => done,
            Err(err) => {
                let cause = format!("the thread that connects is gone: {err}");
                Err(Fault::new(FaultKind::NoRuntime, self.name(), cause).into())
            }
        }
    }

    /// Calls the function: `args` is a tuple with one value for each of its arguments.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call: a handler at work is dropped at its next await. It may have
    /// run by then, or finish before it hears of it.
    ///
    /// # Panics
    ///
    /// In a tokio runtime built without `enable_io`.
    pub async fn call<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        args: &A,
    ) -> Result<R, CallError> {
        self.typed(None, args).await
    }

    /// Calls one method of a service.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::call`].
    ///
    /// # Panics
    ///
    /// As [`Client::call`].
    pub async fn call_method<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: &str,
        args: &A,
    ) -> Result<R, CallError> {
        self.typed(Some(method), args).await
    }

    /// Begins a call on a connection that takes it.
    async fn begin<A: Serialize + ?Sized>(
        &self,
        ask: Ask<'_>,
        args: &A,
    ) -> Result<UnderWay, CallError> {
        self.begin_by(ask.deadline, |conn| {
            with_encoded(self.name(), args, |body| conn.begin(ask, body))
        })
        .await
    }

    /// The same for arguments that `begin` knows.
    async fn begin_by(
        &self,
        deadline: Option<Instant>,
        begin: impl Fn(&Conn) -> Result<Option<u64>, CallError>,
    ) -> Result<UnderWay, CallError> {
        for _ in 0..ATTEMPTS {
            let conn = self.conn(deadline).await?;
            if let Some(id) = begin(&conn)? {
                return Ok(UnderWay::new(conn, id));
            }
        }
        Err(self.restless())
    }

    async fn typed<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: Option<&str>,
        args: &A,
    ) -> Result<R, CallError> {
        let ask = Ask { method, flags: VALUE, deadline: self.deadline() };
        let call = self.begin(ask, args).await?;
        let outcome = call.outcome().await?;
        decoded(&outcome.0, outcome.1)
    }

    /// Calls a method that takes bytes as they are and returns such: nothing is encoded or decoded.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::call`].
    ///
    /// # Panics
    ///
    /// As [`Client::call`].
    pub async fn call_bytes(&self, method: &str, args: &[u8]) -> Result<Vec<u8>, CallError> {
        let ask = Ask { method: Some(method), flags: BYTES, deadline: self.deadline() };
        let call = self.begin_by(ask.deadline, |conn| conn.begin(ask, args)).await?;
        let outcome = call.outcome().await?;
        bytes(&outcome.0, outcome.1)
    }

    /// Calls a method that yields a stream. The items come as fast as they are taken: a slow reader slows
    /// the handler.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; those of the handler come as the last item.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the stream cancels the call.
    ///
    /// # Panics
    ///
    /// As [`Client::call`].
    pub async fn stream_method<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: &str,
        args: &A,
    ) -> Result<CallStream<R>, CallError> {
        self.items(Some(method), args).await
    }

    /// The same for a function.
    ///
    /// # Errors
    ///
    /// As [`Client::stream_method`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::stream_method`].
    ///
    /// # Panics
    ///
    /// As [`Client::call`].
    pub async fn stream<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        args: &A,
    ) -> Result<CallStream<R>, CallError> {
        self.items(None, args).await
    }

    async fn items<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: Option<&str>,
        args: &A,
    ) -> Result<CallStream<R>, CallError> {
        let ask = Ask { method, flags: ITEMS, deadline: self.deadline() };
        let call = self.begin(ask, args).await?;
        // Kept: the connection closes when the last client is gone.
        Ok(CallStream { call: Some(call), client: self.clone(), of: PhantomData })
    }
}

/// Rings when the future that waits for a connection is dropped.
struct CallOff(Arc<Alarm>);

impl Drop for CallOff {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

/// A call whose end nobody has taken yet; dropped, it is cancelled.
#[derive(Debug)]
struct UnderWay {
    conn: Arc<Conn>,
    id: u64,
    over: bool,
}

impl UnderWay {
    fn new(conn: Arc<Conn>, id: u64) -> UnderWay {
        UnderWay { conn, id, over: false }
    }

    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<Result<News, CallError>> {
        self.conn.check_fork()?;
        loop {
            let listener = || Some(Listener::Task(cx.waker().clone()));
            let nothing = match self.conn.take(self.id, listener) {
                Ok(news) => {
                    self.over = matches!(news, News::Over(_));
                    return Poll::Ready(Ok(news));
                }
                Err(nothing) => nothing,
            };
            let turn = if nothing.alone { self.conn.drive_alone(self.id) } else { Turn::Quiet };
            match turn {
                Turn::Busy | Turn::Over => {}
                // Back to the scheduler: other tasks run, the I/O driver is polled, then we look again.
                Turn::Awake if pin!(tokio::task::yield_now()).poll(cx).is_pending() => {
                    return Poll::Pending;
                }
                Turn::Awake => {}
                Turn::Quiet if nothing.driven => return Poll::Pending,
                Turn::Quiet => break,
            }
        }
        // After the listener was left: a driver that goes away before this tells it.
        match drive_client::ensure(&self.conn) {
            Ok(()) => Poll::Pending,
            Err(fault) => Poll::Ready(Err(fault.into())),
        }
    }

    async fn outcome(mut self) -> Result<(Arc<Conn>, Outcome), CallError> {
        let news = std::future::poll_fn(|cx| self.poll_news(cx)).await?;
        match news {
            News::Over(outcome) => Ok((Arc::clone(&self.conn), outcome)),
            News::Item(_) => {
                let cause = "the method yields a stream; call it by stream_method";
                Err(Fault::new(FaultKind::Mismatch, self.conn.object(), cause).into())
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.over {
            self.conn.abandon(self.id);
        }
    }
}

/// The items of a stream, decoded. After an error, or the end, there is nothing more.
///
/// Dropping it cancels the handler.
#[derive(Debug)]
pub struct CallStream<R> {
    call: Option<UnderWay>,
    client: Client,
    of: PhantomData<fn() -> R>,
}

impl<R> CallStream<R> {
    /// The client that called.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl<R: DeserializeOwned> CallStream<R> {
    /// The next item; `None` at the end.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; it is the last that comes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped `next` takes nothing.
    pub async fn next(&mut self) -> Option<Result<R, CallError>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<R, CallError>>> {
        let Some(call) = &mut self.call else { return Poll::Ready(None) };
        let item = match call.poll_news(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(News::Item(item))) => decode(&call.conn, &item),
            Poll::Ready(Ok(News::Over(Outcome::End))) => {
                self.call = None;
                return Poll::Ready(None);
            }
            Poll::Ready(Ok(News::Over(outcome))) => match value(&call.conn, outcome) {
                Err(err) => Err(err),
                Ok(_) => {
                    let cause = "a result in a stream";
                    Err(Fault::new(FaultKind::Mismatch, call.conn.object(), cause).into())
                }
            },
            Poll::Ready(Err(err)) => Err(err),
        };
        if item.is_err() {
            self.call = None;
        }
        Poll::Ready(Some(item))
    }
}

impl<R: DeserializeOwned> futures_core::Stream for CallStream<R> {
    type Item = Result<R, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

/// Futures that hold a call are `Send`.
#[allow(dead_code, reason = "checked when it compiles")]
fn is_send(client: &Client) -> impl Future<Output = Result<i64, CallError>> + Send {
    client.call::<_, i64>(&(1, 2))
}
