//! Serving: one function, or a service of many methods.

use crate::error::{Fault, FaultKind, OpenError};
use crate::notify::awake::{NEVER, TURNS};
use crate::rpc::answer::HandlerError;
use crate::rpc::claim;
use crate::rpc::drive_server;
use crate::rpc::handler::{Handler, InPlace, Method, Raw, StreamHandler, Streamed, Typed};
use crate::rpc::hello::Entry;
use crate::rpc::in_place::Reply;
use crate::rpc::limits::Limits;
use crate::rpc::server::engine::{Ending, Engine};
use crate::rpc::server::floor::Floor;
use crate::rpc::stats::ServerStats;
use crate::sys::failpoint::failpoint;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Serves one function under a name, on the current tokio runtime. `args` of the caller is a tuple with
/// one value for each argument.
///
/// # Errors
///
/// [`OpenError::RoleTaken`]: a live process serves the name. A name whose server died is taken over.
///
/// # Panics
///
/// Outside of a tokio runtime, and in one built without `enable_io`.
///
/// ```no_run
/// use ringspan::rpc;
///
/// async fn add((a, b): (i64, i64)) -> rpc::Answer<i64> {
///     Ok(a + b)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = rpc::serve("/add", add).await?;
/// server.join().await; // until somebody stops it, or removes the name
/// # Ok(()) }
/// ```
pub async fn serve<A, M, H>(name: &str, handler: H) -> Result<Server, OpenError>
where
    A: DeserializeOwned + 'static,
    M: 'static,
    H: Handler<A, M>,
    H::Value: Serialize,
{
    Service::builder(name).method("call", handler).serve().await
}

/// A service: a name with methods.
///
/// ```
/// use ringspan::rpc::{self, Client, HandlerError, Limits, Service};
/// # use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("/doc-service-{}", std::process::id()); let name = name.as_str();
/// let server = Service::builder(name)
///     .method("div", |(a, b): (i64, i64)| async move {
///         a.checked_div(b).ok_or_else(|| HandlerError::new("ZeroDivisionError", "division by zero"))
///     })
///     .method("whoami", |call: rpc::Context, (): ()| async move { Ok::<_, HandlerError>(call.caller().pid) })
///     .limits(Limits::default().max_concurrency(16))
///     .serve()
///     .await?;
///
/// let client = Client::connect(name).await?;
/// let pid: u32 = client.call_method("whoami", &()).await?;
/// assert_eq!(pid, std::process::id());
/// let error = client.call_method::<_, i64>("div", &(1, 0)).await.unwrap_err();
/// assert_eq!(error.remote().unwrap().type_name, "ZeroDivisionError");
/// server.shutdown(Duration::from_secs(5)).await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Service;

impl Service {
    /// A service of that name, without methods yet.
    pub fn builder(name: &str) -> ServiceBuilder {
        ServiceBuilder {
            name: name.to_owned(),
            limits: Limits::default(),
            grace: Duration::from_secs(5),
            awake: true,
            entries: Vec::new(),
            methods: Vec::new(),
        }
    }
}

/// What [`Service::builder`] gives.
#[derive(Debug)]
pub struct ServiceBuilder {
    name: String,
    limits: Limits,
    grace: Duration,
    awake: bool,
    entries: Vec<Entry>,
    methods: Vec<Box<dyn Method>>,
}

/// What a method takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Value,
    Bytes,
    InPlace,
    Stream,
}

impl ServiceBuilder {
    fn add(mut self, name: &str, kind: Shape, method: impl Method + 'static) -> Self {
        self.entries.push(Entry {
            name: name.to_owned(),
            stream: kind == Shape::Stream,
            raw: matches!(kind, Shape::Bytes | Shape::InPlace),
            in_place: kind == Shape::InPlace,
        });
        self.methods.push(Box::new(method));
        self
    }

    /// A method with one result.
    ///
    /// A handler that is ready at once costs no task. One that has to wait becomes a task of the runtime;
    /// it is dropped when its caller gives up. Code that blocks belongs into `spawn_blocking`: it holds up
    /// the other calls, though nobody takes that for death.
    #[must_use]
    pub fn method<A, M, H>(self, name: &str, handler: H) -> Self
    where
        A: DeserializeOwned + 'static,
        M: 'static,
        H: Handler<A, M>,
        H::Value: Serialize,
    {
        self.add(name, Shape::Value, Typed::<H, A, M>::new(handler))
    }

    /// A method that takes bytes as they are and returns such: nothing is encoded or decoded.
    #[must_use]
    pub fn method_bytes<M, H>(self, name: &str, handler: H) -> Self
    where
        M: 'static,
        H: Handler<Bytes, M>,
        H::Value: Into<Bytes>,
    {
        self.add(name, Shape::Bytes, Raw::<H, M>::new(handler))
    }

    /// A method that takes bytes where they lie in the ring, and writes its result where it goes: nothing is
    /// copied or allocated. The handler is no `async fn`: while it runs, nothing else of this server does,
    /// so it should take microseconds.
    ///
    /// The bytes are in memory that the caller's process can write. As with every message that is read in
    /// place, this is for callers that keep to the protocol: one that writes there while the handler reads
    /// shows it bytes that change. [`method_bytes`](Self::method_bytes) copies first.
    ///
    /// Whether such a call had run when its server died cannot be told from the ring, so
    /// [`Delivered`](super::Delivered) is `Unknown` rather than `No` then.
    ///
    /// ```
    /// # use ringspan::rpc::{Client, HandlerError, Service};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let name = format!("/doc-in-place-{}", std::process::id()); let name = name.as_str();
    /// let server = Service::builder(name)
    ///     .method_in_place("upper", |text, reply| {
    ///         reply.write(&text.to_ascii_uppercase());
    ///         Ok::<(), HandlerError>(())
    ///     })
    ///     .serve()
    ///     .await?;
    /// let client = Client::connect(name).await?;
    /// assert_eq!(client.call_bytes("upper", b"loud").await?, b"LOUD");
    /// # drop(server); Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn method_in_place<H, E>(self, name: &str, handler: H) -> Self
    where
        H: Fn(&[u8], &mut Reply<'_>) -> Result<(), E> + Send + Sync + 'static,
        E: Into<HandlerError>,
    {
        self.add(name, Shape::InPlace, InPlace::new(handler))
    }

    /// A method that yields a stream. It is polled only as fast as its caller takes the items.
    #[must_use]
    pub fn method_stream<A, M, H>(self, name: &str, handler: H) -> Self
    where
        A: DeserializeOwned + 'static,
        M: 'static,
        H: StreamHandler<A, M>,
        H::Value: Serialize,
    {
        self.add(name, Shape::Stream, Streamed::<H, A, M>::new(handler))
    }

    /// What clients are granted.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long calls under way have when the name is removed by another process. Default 5 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Whether the server may stay awake for some microseconds after a call before it sleeps, where that
    /// has paid of late. Default true.
    #[must_use]
    pub fn stay_awake(mut self, awake: bool) -> Self {
        self.awake = awake;
        self
    }

    /// Takes the name and serves, on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError::RoleTaken`]: a live process serves the name. A name whose server died is taken over.
    /// [`FaultKind::InvalidOption`]: limits that cannot be, no methods, two of one name.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and in one built without `enable_io`.
    pub async fn serve(self) -> Result<Server, OpenError> {
        let object = format!("function /{}", self.name.trim_start_matches('/'));
        let mut engine = Engine::new(object, self.limits, self.grace, self.entries)?;
        engine.awake = if self.awake { TURNS } else { NEVER };
        let engine = Arc::new(engine);
        let floor = Floor::new(Arc::clone(&engine))?;
        engine.set_claim(claim::claim(&self.name)?)?;
        failpoint!("rpc.claimed");
        drive_server::spawn(floor, self.methods)
            .map_err(|err| Fault::new(FaultKind::NoRuntime, &engine.object, err))?;
        Ok(Server { engine, name: self.name })
    }
}

/// A server at work. Dropping it stops it at once: handlers are dropped, their callers get
/// [`CallError::Disconnected`](super::CallError::Disconnected). [`shutdown`](Server::shutdown) lets them
/// finish.
#[derive(Debug)]
pub struct Server {
    engine: Arc<Engine>,
    name: String,
}

impl Server {
    /// The name it serves.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has done so far.
    pub fn stats(&self) -> ServerStats {
        self.engine.counters.snapshot()
    }

    /// Gives the name back at once (a successor can take it), lets the calls under way finish, for `grace`
    /// at most, and ends. Clients are told, and connect anew for their next call.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has stopped the server at once, since the server is dropped with it.
    pub async fn shutdown(self, grace: Duration) {
        self.engine.ask_to_end(Ending::Drain(grace));
        self.join().await;
    }

    /// Waits until it is over: by `shutdown`, by removal of its name, or with its runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn join(&self) {
        loop {
            let listener = self.engine.end.listen();
            if self.engine.has_ended() {
                return;
            }
            listener.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.engine.is_inherited() {
            return; // the parent serves on
        }
        self.engine.give_name_back();
        self.engine.ask_to_end(Ending::Stop);
    }
}
