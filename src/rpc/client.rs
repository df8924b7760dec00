//! The client: calls, from tasks and from threads.

use crate::codec;
use crate::error::{Fault, FaultKind, errno};
use crate::rpc::conn::{Ask, Conn};
use crate::rpc::connect;
use crate::rpc::core::news::{Answer, News, Outcome};
use crate::rpc::drive_blocking::{Blocked, Threads};
use crate::rpc::error::{CallError, Delivered, Reason, RemoteError};
use crate::rpc::wire::{RAW, STREAM};
use crate::sync::{AtomicBool, Event, EventListener, Mutex, Ordering, lock};
use crate::sys::alarm::Alarm;
use crate::sys::fd::Fd;
use crate::sys::poll::{self, Waited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// A handle to a function or service of another process. Clones are cheap and share one connection, on
/// which thousands of calls can be under way, from tasks of any runtime and from threads.
///
/// It connects anew by itself: a call after the server was restarted goes to the new one. A call that was
/// under way when the connection broke is never sent again; it fails with
/// [`CallError::Disconnected`], which tells whether the request had been delivered.
///
/// # What a crash leaves behind
///
/// Nothing: the memory of the connection has no name. The handlers of a killed client are cancelled.
///
/// # Blocking
///
/// The `blocking_` forms park the thread; called inside an async task they hold up every other task of
/// that thread.
///
/// ```
/// use ringspan::rpc::{self, Client};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("/doc-client-{}", std::process::id()); let name = name.as_str();
/// async fn add((a, b): (i64, i64)) -> rpc::Answer<i64> {
///     Ok(a + b)
/// }
/// let server = rpc::serve(name, add).await?; // in another process, as a rule
///
/// let client = Client::connect(name).await?;
/// let sum: i64 = client.call(&(2, 3)).await?;
/// assert_eq!(sum, 5);
/// # server.shutdown(std::time::Duration::ZERO).await; Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) timeout: Option<Duration>,
}

/// What the clones share.
#[derive(Debug)]
pub(crate) struct Shared {
    name: String,
    conn: Mutex<Option<Arc<Conn>>>,
    /// Somebody connects; the others wait for him.
    connecting: Mutex<bool>,
    connected: Event,
    pub(crate) threads: Threads,
    /// Stay awake for a while before sleeping.
    awake: AtomicBool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(conn) = lock(&self.conn).take() {
            conn.close();
        }
    }
}

/// The turn of whoever connects; given back also when its task is dropped.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.connecting) = false;
        self.0.connected.notify(usize::MAX);
    }
}

impl Shared {
    fn new(name: &str) -> Arc<Shared> {
        Arc::new(Shared {
            name: name.to_owned(),
            conn: Mutex::new(None),
            connecting: Mutex::new(false),
            connected: Event::new(),
            threads: Threads::default(),
            awake: AtomicBool::new(true),
        })
    }

    /// The connection, if it takes calls.
    pub(crate) fn current(&self) -> Option<Arc<Conn>> {
        lock(&self.conn).as_ref().filter(|conn| !conn.is_over()).map(Arc::clone)
    }

    fn turn(&self) -> Option<Turn<'_>> {
        let taken = std::mem::replace(&mut *lock(&self.connecting), true);
        (!taken).then(|| Turn(self))
    }

    fn keep(&self, conn: Conn) -> Arc<Conn> {
        let awake = self.awake.load(Ordering::Relaxed); // Relaxed: set before the first call
        let conn = Arc::new(if awake { conn } else { conn.never_awake() });
        // The old one goes when the last call on it is over.
        *lock(&self.conn) = Some(Arc::clone(&conn));
        conn
    }

    /// The connection, made anew if need be, by a thread that may wait.
    pub(crate) fn conn_blocking(
        &self,
        deadline: Option<Instant>,
        cancel: Option<&Fd>,
    ) -> Result<Arc<Conn>, CallError> {
        loop {
            if let Some(conn) = self.current() {
                conn.check_fork()?;
                return Ok(conn);
            }
            let listener = self.connected.listen();
            let Some(_turn) = self.turn() else {
                self.wait_for_turn(listener, deadline, cancel)?;
                continue;
            };
            let own;
            let cancel = match cancel {
                Some(cancel) => cancel,
                None => {
                    own = self.alarm()?;
                    own.fd()
                }
            };
            return connect::connect(&self.name, deadline, cancel).map(|conn| self.keep(conn));
        }
    }

    /// Somebody connects. Waits until that is over, one way or another.
    fn wait_for_turn(
        &self,
        mut listener: EventListener,
        deadline: Option<Instant>,
        cancel: Option<&Fd>,
    ) -> Result<(), CallError> {
        let object = || format!("function {}", self.name);
        let alarm = Arc::new(self.alarm()?);
        let waker = Waker::from(Arc::clone(&alarm));
        loop {
            if Pin::new(&mut listener).poll(&mut Context::from_waker(&waker)).is_ready() {
                return Ok(());
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let (waited, [_, off]) = poll::wait_any([Some(alarm.fd()), cancel], left)
                .map_err(|err| Fault::os(object(), "poll", &err))?;
            if off {
                let fault = Fault::new(FaultKind::Os, object(), "connecting was called off");
                return Err(CallError::Disconnected { fault, delivered: Delivered::No });
            }
            if waited == Waited::TimedOut {
                let fault = Fault::new(FaultKind::Os, object(), "connecting took too long");
                return Err(CallError::Timeout(fault.with_errno(errno::ETIMEDOUT)));
            }
        }
    }

    fn alarm(&self) -> Result<Alarm, CallError> {
        Alarm::new().map_err(|err| Fault::os(&self.name, "making an alarm", &err).into())
    }
}

/// Encodes `args` and hands the bytes to `f`.
pub(crate) fn with_encoded<A: Serialize + ?Sized, R>(
    object: &str,
    args: &A,
    f: impl FnOnce(&[u8]) -> Result<R, CallError>,
) -> Result<R, CallError> {
    codec::with_scratch(|bytes| {
        bytes.clear();
        match codec::to_writer(bytes, args) {
            Ok(()) => f(bytes),
            Err(err) => Err(CallError::Codec(Fault::new(FaultKind::Encode, object, err))),
        }
    })
}

impl Client {
    /// A client that connects at its first call.
    pub fn lazy(name: &str) -> Client {
        Client { shared: Shared::new(name), timeout: None }
    }

    /// The name it calls.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether its calls may stay awake for some microseconds before they sleep, where that has paid of late
    /// (the default). Without it an idle client costs no cpu at all, and each answer the price of a wake.
    /// For the connections that this client and its clones make from now on.
    #[must_use]
    pub fn stay_awake(self, awake: bool) -> Client {
        self.shared.awake.store(awake, Ordering::Relaxed); // Relaxed: see `keep`
        self
    }

    /// The same client, whose calls have at most `timeout` each, connecting included. The handler sees the
    /// deadline and is cancelled when it is over.
    #[must_use]
    pub fn with_timeout(&self, timeout: impl Into<Option<Duration>>) -> Client {
        Client { shared: Arc::clone(&self.shared), timeout: timeout.into() }
    }

    /// The process that serves, if a connection stands.
    pub fn server_pid(&self) -> Option<u32> {
        self.shared.current().map(|conn| conn.pid())
    }

    /// The methods of the service, if a connection stands.
    pub fn methods(&self) -> Vec<String> {
        self.shared.current().map_or_else(Vec::new, |conn| conn.methods())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    /// Connects from a thread, within `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn blocking_connect(
        name: &str,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Client, CallError> {
        let client = Client::lazy(name);
        let deadline = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        client.shared.conn_blocking(deadline, None)?;
        Ok(client)
    }

    /// As [`Client::call`], parking the thread, for `timeout` at most (`None`: that of
    /// [`with_timeout`](Client::with_timeout), if any).
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn blocking_call<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        args: &A,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<R, CallError> {
        self.blocking(None, args, timeout.into())
    }

    /// As [`Client::call_method`], parking the thread.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub fn blocking_call_method<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: &str,
        args: &A,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<R, CallError> {
        self.blocking(Some(method), args, timeout.into())
    }

    fn blocking<A: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        method: Option<&str>,
        args: &A,
        timeout: Option<Duration>,
    ) -> Result<R, CallError> {
        let timed = Client { timeout: timeout.or(self.timeout), shared: Arc::clone(&self.shared) };
        let ask = Ask { method, flags: VALUE, deadline: timed.deadline() };
        let ended = with_encoded(self.name(), args, |body| self.run_blocking(ask, body));
        let (conn, outcome) = ended?;
        decoded(&conn, outcome)
    }

    /// One call from a thread; the outcome as it came.
    fn run_blocking(&self, ask: Ask<'_>, body: &[u8]) -> Result<(Arc<Conn>, Outcome), CallError> {
        for _ in 0..ATTEMPTS {
            let conn = self.shared.conn_blocking(ask.deadline, None)?;
            if let Some(id) = conn.begin(ask, body)? {
                let outcome = loop {
                    match self.shared.threads.wait(&conn, id, None) {
                        Ok(Blocked::News(News::Over(outcome))) => break Ok(outcome),
                        Ok(Blocked::Interrupted) => {} // a handler ran; there is nobody to ask
                        Ok(Blocked::News(News::Item(_))) => {
                            let cause = "the method yields a stream";
                            break Err(Fault::new(FaultKind::Mismatch, conn.object(), cause));
                        }
                        Err(fault) => break Err(fault),
                    }
                };
                return match outcome {
                    Ok(outcome) => Ok((conn, outcome)),
                    Err(fault) => {
                        conn.abandon(id);
                        Err(fault.into())
                    }
                };
            }
        }
        Err(self.restless())
    }

    /// Connections break faster than they are made.
    pub(crate) fn restless(&self) -> CallError {
        let cause = "its server hangs up on every new connection; is it crashing at start?";
        let fault = Fault::new(FaultKind::PeerUnreachable, self.name(), cause);
        CallError::Disconnected { fault, delivered: Delivered::No }
    }
}

/// The result of an outcome, or the error that it is.
pub(crate) fn value(conn: &Conn, outcome: Outcome) -> Result<Answer, CallError> {
    match outcome {
        Outcome::Value(answer) => Ok(answer),
        Outcome::End => {
            let cause = "the method yields a stream; call it by stream_method";
            Err(Fault::new(FaultKind::Mismatch, conn.object(), cause).into())
        }
        Outcome::TimedOut => Err(timed_out(conn)),
        Outcome::Disconnected(delivered) => {
            Err(conn.disconnected(conn.why_broken().as_deref(), delivered))
        }
        Outcome::Remote(body) => Err(remote(conn, &body)),
    }
}

fn timed_out(conn: &Conn) -> CallError {
    let fault =
        Fault::new(FaultKind::Os, conn.object(), "the deadline is over; the handler was told");
    CallError::Timeout(fault.with_errno(errno::ETIMEDOUT))
}

/// The error in an error frame.
fn remote(conn: &Conn, body: &[u8]) -> CallError {
    let error: RemoteError = match codec::from_slice(body) {
        Ok(error) => error,
        Err(err) => {
            let cause = format!("its error cannot be read: {err}");
            return CallError::Codec(Fault::new(FaultKind::Decode, conn.object(), cause));
        }
    };
    let fault = Fault::new(FaultKind::Os, conn.object(), &error);
    match error.reason {
        Some(Reason::Deadline) => timed_out(conn),
        Some(Reason::UnknownMethod) => CallError::UnknownMethod(fault.with_errno(errno::ENOENT)),
        Some(Reason::Draining) => CallError::Disconnected {
            fault: fault.with_errno(errno::ECONNRESET),
            delivered: Delivered::No,
        },
        _ => CallError::Remote { fault, error },
    }
}

/// The result of an outcome as a value of its type.
pub(crate) fn decoded<R: DeserializeOwned>(conn: &Conn, outcome: Outcome) -> Result<R, CallError> {
    decode(conn, &value(conn, outcome)?)
}

/// One answer as a value of its type.
pub(crate) fn decode<R: DeserializeOwned>(conn: &Conn, answer: &Answer) -> Result<R, CallError> {
    let fault =
        |cause: String| CallError::Codec(Fault::new(FaultKind::Decode, conn.object(), cause));
    if answer.raw {
        return Err(fault("the result is raw bytes; call it by call_bytes".to_owned()));
    }
    codec::from_slice(&answer.body).map_err(|err| fault(format!("its result: {err}")))
}

/// The result of an outcome as bytes.
pub(crate) fn bytes(conn: &Conn, outcome: Outcome) -> Result<Vec<u8>, CallError> {
    let answer = value(conn, outcome)?;
    if answer.raw {
        return Ok(answer.body);
    }
    let cause = "the result is a value, not raw bytes; call it by call_method".to_owned();
    Err(CallError::Codec(Fault::new(FaultKind::Decode, conn.object(), cause)))
}

/// How often a call finds that the connection just made is over before it gives up.
pub(crate) const ATTEMPTS: usize = 4;
/// Flags of a call.
pub(crate) const VALUE: u8 = 0;
pub(crate) const BYTES: u8 = RAW;
pub(crate) const ITEMS: u8 = STREAM;
