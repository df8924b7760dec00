//! Drives a client's connection on tokio: one task for each runtime that has callers.
//!
//! A runtime that nobody drives must not keep the callers of another one waiting, so each has its own task,
//! its own registration, and all sleep on the same descriptor; `conn` says why that is enough. A task that
//! is dropped with its runtime wakes the callers, and each sees to a driver where it is.

use crate::error::{Fault, FaultKind};
use crate::notify::awake::{Awake, TURNS};
use crate::notify::tokio::{AsyncFd, Pollable, register};
use crate::rpc::conn::{Conn, Driver, Turn};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::{Handle, Id};

/// Polls between two looks at the poll set of a driver that never sleeps.
const HARVEST_EVERY: u32 = 64;

/// Sees to it that somebody drives the connection in this runtime. Call it before a call waits.
pub(crate) fn ensure(conn: &Arc<Conn>) -> Result<(), Fault> {
    let handle = Handle::try_current().map_err(|_| {
        let cause = "an async call was awaited outside a tokio runtime; await it inside one, or use the \
                     `blocking_` form";
        Fault::new(FaultKind::NoRuntime, conn.object(), cause)
    })?;
    let runtime = handle.id();
    let known = conn.with(|state| {
        let known = state.drivers.iter().any(|driver| driver.runtime == runtime);
        if !known {
            state.drivers.push(Driver { runtime, waker: None });
        }
        known
    });
    if known {
        return Ok(());
    }
    let mut driving = Driving {
        face: None,
        asleep: false,
        polls: 0,
        awake: Awake::new(conn.scale(TURNS)),
        conn: Arc::clone(conn),
        runtime,
    };
    let registered = register(Pollable::new(Arc::clone(conn.poll_fd())));
    driving.face = Some(registered.map_err(|err| Fault::os(conn.object(), "epoll_ctl", &err))?);
    handle.spawn(driving);
    Ok(())
}

struct Driving {
    /// Out of the runtime before the descriptor goes.
    face: Option<AsyncFd<Pollable>>,
    asleep: bool,
    polls: u32,
    awake: Awake,
    conn: Arc<Conn>,
    runtime: Id,
}

impl Driving {
    /// Pending while nothing fired.
    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let Some(face) = &self.face else { return Poll::Ready(Turn::Over) };
        match face.poll_read_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(mut guard)) => {
                // The harvest first: what fires after it makes a new edge.
                let turn = self.conn.drive(true, Some(&mut self.awake));
                guard.clear_ready();
                Poll::Ready(turn)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Turn::Over), // the runtime is shutting down
        }
    }

    fn wake_up(&mut self) {
        if std::mem::take(&mut self.asleep) {
            self.conn.awakes();
        }
    }
}

impl Future for Driving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let runtime = this.runtime;
        this.conn.with(|state| {
            let mine = state.drivers.iter_mut().find(|driver| driver.runtime == runtime);
            let Some(mine) = mine else { return };
            if mine.waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
                mine.waker = Some(cx.waker().clone());
            }
        });
        let mut turn = if this.asleep {
            match this.poll_fired(cx) {
                Poll::Ready(turn) => turn,
                // Woken without the descriptor: the connection may be over.
                Poll::Pending if this.conn.why_broken().is_none() => return Poll::Pending,
                Poll::Pending => Turn::Over,
            }
        } else {
            this.polls = this.polls.wrapping_add(1);
            this.conn.drive(this.polls.is_multiple_of(HARVEST_EVERY), Some(&mut this.awake))
        };
        loop {
            match turn {
                Turn::Over => return Poll::Ready(()),
                Turn::Busy => {
                    this.wake_up();
                    this.conn.drives_in(runtime);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Turn::Awake => {
                    this.wake_up();
                    if pin!(tokio::task::yield_now()).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    turn = this.conn.drive(false, Some(&mut this.awake));
                }
                Turn::Quiet => {
                    this.awake.parks();
                    if !std::mem::replace(&mut this.asleep, true) && this.conn.sleeps() {
                        turn = Turn::Busy;
                        continue;
                    }
                    match this.poll_fired(cx) {
                        Poll::Ready(now) => turn = now,
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
        }
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.wake_up();
        self.face = None;
        let runtime = self.runtime;
        self.conn.leave(|driver| driver.runtime == runtime);
    }
}
