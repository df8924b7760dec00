//! Drives a server on tokio: one task reads, starts and answers; handlers that wait become tasks.

use crate::notify::tokio::{AsyncFd, Pollable, register};
use crate::rpc::answer::HandlerError;
use crate::rpc::core::session::{Reply, Stop};
use crate::rpc::error::Reason;
use crate::rpc::handler::{Going, Items, Method, Step};
use crate::rpc::in_place;
use crate::rpc::server::floor::{Call, First, Floor, Look, Starter};
use crate::rpc::server::peer::{Done, Peer, Running};
use bytes::Bytes;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// Passes between two looks at the poll set of a server that never sleeps.
const HARVEST_EVERY: u32 = 64;

/// Serves on the current runtime. An error where there is none, or where the poll set cannot be registered.
pub(crate) fn spawn(floor: Floor, methods: Vec<Box<dyn Method>>) -> Result<(), String> {
    let handle = Handle::try_current().map_err(|_| "serve it inside a tokio runtime".to_owned())?;
    let face =
        register(Pollable::new(Arc::clone(floor.poll_fd()))).map_err(|err| err.to_string())?;
    let starter = TokioStarter {
        methods,
        out: Vec::new(),
        bytes: Bytes::new(),
        waker: Waker::noop().clone(),
        runtime: handle.clone(),
    };
    handle.spawn(Serving { face, floor, starter, asleep: false, passes: 0 });
    Ok(())
}

struct Serving {
    /// Out of the runtime before the descriptor goes.
    face: AsyncFd<Pollable>,
    floor: Floor,
    starter: TokioStarter,
    asleep: bool,
    passes: u32,
}

impl Serving {
    /// Pending while nothing fired.
    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<Look> {
        match self.face.poll_read_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(mut guard)) => {
                // The harvest first: what fires after it makes a new edge.
                let look = self.floor.look(true, &mut self.starter);
                guard.clear_ready();
                Poll::Ready(look)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Look::Over), // the runtime is shutting down
        }
    }

    fn look(&mut self) -> Look {
        self.passes = self.passes.wrapping_add(1);
        self.floor.look(self.passes.is_multiple_of(HARVEST_EVERY), &mut self.starter)
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.floor.engine.drive_by(cx.waker());
        this.starter.waker.clone_from(cx.waker());
        let mut look = match std::mem::take(&mut this.asleep) {
            // Woken by the descriptor, by a kick, or by both.
            true => match this.poll_fired(cx) {
                Poll::Ready(look) => look,
                Poll::Pending => this.look(),
            },
            false => this.look(),
        };
        loop {
            match look {
                Look::Over => return Poll::Ready(()),
                Look::Busy => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Look::Awake => {
                    if pin!(tokio::task::yield_now()).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    look = this.look();
                }
                Look::Quiet if this.floor.park() => match this.poll_fired(cx) {
                    Poll::Ready(now) => look = now,
                    Poll::Pending => {
                        this.asleep = true;
                        return Poll::Pending;
                    }
                },
                Look::Quiet => look = this.look(),
            }
        }
    }
}

struct TokioStarter {
    methods: Vec<Box<dyn Method>>,
    out: Vec<u8>,
    bytes: Bytes,
    waker: Waker,
    runtime: Handle,
}

/// Buffers above this are not kept.
const KEPT: usize = 1 << 20;

impl Starter for TokioStarter {
    fn start<'s>(&'s mut self, call: Call<'_>) -> First<'s> {
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        self.out.clear();
        let mut cx = Context::from_waker(&self.waker);
        let method = &self.methods[usize::from(call.method)];
        let step = catch_unwind(AssertUnwindSafe(|| method.start(&call, &mut cx, &mut self.out)));
        match step.unwrap_or_else(|payload| Step::Error(panicked(payload.as_ref()))) {
            Step::Value => First::Done(Reply::Value { raw: false, body: &self.out }),
            Step::Bytes(bytes) => {
                self.bytes = bytes;
                First::Done(Reply::Value { raw: true, body: &self.bytes })
            }
            Step::Error(error) => {
                self.out = error.to_body();
                First::Done(Reply::Error(&self.out))
            }
            Step::Going(going) => self.go(&call, going),
            Step::Items(items) => {
                let (peer, id) = (Arc::clone(call.peer), call.id);
                self.go(&call, Box::pin(stream(peer, id, items)))
            }
        }
    }

    fn in_place(&mut self, call: Call<'_>, reply: &mut in_place::Reply<'_>) -> Result<(), Vec<u8>> {
        self.run_in_place(&call, reply).map_err(|error| error.to_body())
    }
}

impl TokioStarter {
    fn run_in_place(
        &self,
        call: &Call<'_>,
        reply: &mut in_place::Reply<'_>,
    ) -> Result<(), HandlerError> {
        let method = &self.methods[usize::from(call.method)];
        catch_unwind(AssertUnwindSafe(|| method.in_place(call, reply)))
            .unwrap_or_else(|payload| Err(panicked(payload.as_ref())))
    }

    fn go<'s>(&'s self, call: &Call<'_>, going: Going) -> First<'s> {
        let mut answering = Answering {
            running: Running::new(&call.peer.engine),
            peer: Arc::clone(call.peer),
            id: call.id,
            since: call.since,
            answered: false,
        };
        let task = self.runtime.spawn(async move {
            let done = going.await;
            answering.answer(done);
        });
        First::Running(Box::new(Abort(task.abort_handle())))
    }
}

#[derive(Debug)]
struct Abort(AbortHandle);

impl Stop for Abort {
    fn stop(self: Box<Self>) {
        self.0.abort();
    }
}

/// Owes the caller an answer, whatever becomes of the handler.
struct Answering {
    peer: Arc<Peer>,
    id: u64,
    since: Instant,
    answered: bool,
    /// Last: the answer goes first, then there is room for another handler.
    #[allow(dead_code, reason = "its drop counts")]
    running: Running,
}

impl Answering {
    fn answer(&mut self, done: Done) {
        self.answered = true;
        self.peer.finish(self.id, self.since, done);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.answered && std::thread::panicking() {
            let error = HandlerError::of(Reason::Panicked, "the handler panicked");
            self.answer(Done::Error(error.to_body()));
        }
        // Dropped otherwise: it was stopped, and its caller has been answered; or the runtime goes, and the
        // server with it, which tells all callers.
    }
}

/// Sends the items of a stream as its client takes them.
async fn stream(peer: Arc<Peer>, id: u64, mut items: Items) -> Done {
    loop {
        poll_fn(|cx| match peer.poll_may_send(id, cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        match poll_fn(|cx| items.as_mut().poll_next(cx)).await {
            None => return Done::End,
            Some(Err(error)) => return Done::Error(error.to_body()),
            Some(Ok(body)) if body.len() as u64 > peer.engine.limits.max_message => {
                return Done::Error(peer.engine.too_large(body.len()));
            }
            Some(Ok(body)) => peer.item(id, false, body),
        }
        // A stream that is always ready must let the others run.
        tokio::task::coop::consume_budget().await;
    }
}

fn panicked(payload: &(dyn Any + Send)) -> HandlerError {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("the handler panicked");
    HandlerError::of(Reason::Panicked, text)
}
