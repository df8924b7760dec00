//! The faces of the fan-out: tasks of any tokio runtime and threads wait on one attached endpoint.
//!
//! The endpoint's lock is never held by a sleeper: who releases a lock or raises a version goes
//! through the same endpoint to ring its peers.

use crate::error::Fault;
use crate::notify::Endpoint;
use crate::notify::local::{Keep, Local, Sleeper, Waiter};
use crate::region::Region;
use crate::sync::{Mutex, lock};
use crate::sys::alarm::Alarm;
use crate::sys::fd::{self, Fd};
use crate::sys::poll::{self, Waited};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

impl Sleeper for Endpoint {
    type Fault = Fault;

    fn begin(&mut self) -> Result<(), Fault> {
        Endpoint::begin(self)
    }

    fn parks(&mut self) {
        self.counters.parks += 1;
    }

    fn end(&mut self) {
        Endpoint::end(self);
    }

    fn let_go(&mut self) {
        Endpoint::let_go(self);
    }

    fn harvest(&mut self) -> Result<(), Fault> {
        Endpoint::harvest(self)
    }

    fn forks() -> u64 {
        fd::fork_count()
    }
}

/// What ended a blocking wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Blocked<T> {
    /// What was waited for.
    Came(T),
    /// The deadline is over.
    TimedOut,
    /// A signal handler ran; look at it, then wait again.
    Interrupted,
}

/// An attached endpoint that many waiters of this process share. Clones are the same endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    local: Arc<Local<Endpoint>>,
    region: Arc<Region>,
    /// Alarms of threads that wait no more, for those that will.
    alarms: Arc<Mutex<Vec<Arc<Alarm>>>>,
    #[cfg(feature = "tokio")]
    runtimes: Arc<Mutex<crate::notify::tokio::Registrations>>,
}

/// Alarms kept for later.
const KEEP: usize = 8;

impl Shared {
    pub(crate) fn new(endpoint: Endpoint) -> Shared {
        Shared {
            region: Arc::clone(&endpoint.region),
            local: Arc::new(Local::new(endpoint)),
            alarms: Arc::default(),
            #[cfg(feature = "tokio")]
            runtimes: Arc::default(),
        }
    }

    /// Runs `f` on the endpoint; it must not wait. An error in a forked child.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Endpoint) -> R) -> Result<R, Fault> {
        self.region.check_fork()?;
        Ok(self.local.with(f))
    }

    #[cfg(feature = "python")]
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Wakes the waiters of this process that share this endpoint (its peers are woken by
    /// `with(|endpoint| endpoint.wake_all())`). Call both after every change of the shared word.
    pub(crate) fn notify_local(&self) {
        self.local.notify();
    }

    /// A waiter for a loop that polls by itself: `attempt`; when it returns `None`, sleep on
    /// [`poll_notified`] and the endpoint's descriptor, call `fired` when that is readable, and
    /// attempt again.
    pub(crate) fn waiter(&self) -> Result<Waiter<Endpoint>, Fault> {
        self.region.check_fork()?;
        Ok(self.local.waiter())
    }

    /// As long as it lives, connections and watches that one wait has made stay for the next one.
    pub(crate) fn keep(&self) -> Result<Keep<Endpoint>, Fault> {
        self.region.check_fork()?;
        Ok(self.local.keep())
    }

    /// Parks the thread until `look` finds what it looks for. It runs after step 1 and 2 with the
    /// endpoint locked: name and watch the debtors (`meet`, `watch`), then look; it must not wait.
    /// A readable `bell` ends the wait too, as an interruption; it is not read.
    pub(crate) fn wait_blocking<T>(
        &self,
        deadline: Option<Instant>,
        bell: Option<&Fd>,
        look: impl FnMut(&mut Endpoint) -> Result<Option<T>, Fault>,
    ) -> Result<Blocked<T>, Fault> {
        let mut waiter = self.waiter()?;
        let mut look = counted(look);
        if let Some(came) = waiter.attempt(&mut look)? {
            return Ok(Blocked::Came(came));
        }
        let alarm = self.take_alarm()?;
        let ended = self.sleep_blocking(&mut waiter, &alarm, (deadline, bell), &mut look);
        drop(waiter); // and its hold on the alarm
        let mut alarms = lock(&self.alarms);
        if alarms.len() < KEEP {
            alarms.push(alarm);
        }
        ended
    }

    fn sleep_blocking<T>(
        &self,
        waiter: &mut Waiter<Endpoint>,
        alarm: &Arc<Alarm>,
        (deadline, bell): (Option<Instant>, Option<&Fd>),
        look: &mut impl FnMut(&mut Endpoint) -> Result<Option<T>, Fault>,
    ) -> Result<Blocked<T>, Fault> {
        let waker = Waker::from(Arc::clone(alarm));
        let fd = self.with(|endpoint| endpoint.poll_fd().map(Arc::clone))??;
        loop {
            let mut cx = Context::from_waker(&waker);
            if poll_notified(waiter, &mut cx).is_pending() {
                let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                let (waited, [fired, notified, rung]) =
                    poll::wait_any([Some(&*fd), Some(alarm.fd()), bell], left)
                        .map_err(|err| self.region.os_fault("poll", &err))?;
                match waited {
                    _ if rung => return Ok(Blocked::Interrupted),
                    Waited::TimedOut => return Ok(Blocked::TimedOut),
                    Waited::Interrupted => return Ok(Blocked::Interrupted),
                    Waited::Ready => {}
                }
                if notified {
                    alarm.silence();
                }
                if fired {
                    waiter.fired()?;
                }
            }
            if let Some(came) = waiter.attempt(&mut *look)? {
                return Ok(Blocked::Came(came));
            }
        }
    }

    fn take_alarm(&self) -> Result<Arc<Alarm>, Fault> {
        if let Some(alarm) = lock(&self.alarms).pop() {
            alarm.silence(); // a late ring for its last sleeper
            return Ok(alarm);
        }
        Alarm::new().map(Arc::new).map_err(|err| self.region.os_fault("making an alarm", &err))
    }

    /// The awaited form of [`wait_blocking`](Shared::wait_blocking), on whatever tokio runtime
    /// polls it. Dropped at any point it leaves, and nobody else misses a wake for it.
    #[cfg(feature = "tokio")]
    pub(crate) async fn wait_async<T>(
        &self,
        look: impl FnMut(&mut Endpoint) -> Result<Option<T>, Fault>,
    ) -> Result<T, Fault> {
        let mut waiter = self.waiter()?;
        let mut look = counted(look);
        loop {
            if let Some(came) = waiter.attempt(&mut look)? {
                return Ok(came);
            }
            self.sleep_async(&mut waiter).await?;
        }
    }

    #[cfg(feature = "tokio")]
    async fn sleep_async(&self, waiter: &mut Waiter<Endpoint>) -> Result<(), Fault> {
        let fd = self.with(|endpoint| endpoint.poll_fd().map(Arc::clone))??;
        let registered = lock(&self.runtimes).here(&self.region, &fd)?;
        let mut readable = std::pin::pin!(registered.readable());
        let woken = std::future::poll_fn(|cx| match poll_notified(waiter, cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => readable.as_mut().poll(cx).map(Some),
        });
        match woken.await {
            None => Ok(()),
            Some(Ok(mut guard)) => {
                // In this order: what fires after the harvest makes a new edge, which is not the
                // one that the guard clears.
                let harvested = waiter.fired();
                if harvested.is_ok() {
                    guard.clear_ready(); // else something is left that makes no new edge
                }
                harvested
            }
            // The runtime of the registration is shutting down; the next attempt registers anew,
            // or is told that there is none.
            Some(Err(_)) => lock(&self.runtimes).shut_down(&self.region, &registered),
        }
    }
}

/// A look that finds nothing is followed by a park.
fn counted<T>(
    mut look: impl FnMut(&mut Endpoint) -> Result<Option<T>, Fault>,
) -> impl FnMut(&mut Endpoint) -> Result<Option<T>, Fault> {
    move |endpoint| {
        let found = look(endpoint)?;
        endpoint.counters.parks += u64::from(found.is_none());
        Ok(found)
    }
}

/// Ready once somebody notified after the waiter's last attempt began.
pub(crate) fn poll_notified(waiter: &mut Waiter<Endpoint>, cx: &mut Context<'_>) -> Poll<()> {
    match waiter.listener() {
        Some(listener) => Pin::new(listener).poll(cx),
        None => Poll::Ready(()),
    }
}
