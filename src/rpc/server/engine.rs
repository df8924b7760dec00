//! What a server's driver, its clients and its handlers share.

use crate::codec;
use crate::error::{Fault, FaultKind};
use crate::notify::awake::{NEVER, Scale};
use crate::ring::PairGeometry;
use crate::rpc::answer::HandlerError;
use crate::rpc::claim::Claim;
use crate::rpc::core::session::Reply;
use crate::rpc::error::Reason;
use crate::rpc::hello::MAX_TABLE;
use crate::rpc::hello::{Entry, Hello};
use crate::rpc::limits::{Grant, Limits};
use crate::rpc::link::{FRONT, OWNER};
use crate::rpc::stats::Counters;
use crate::sync::{AtomicBool, Event, Mutex, Ordering, lock};
use crate::sys::poll::{Interest, PollSet};
use crate::sys::{fd, process};
use std::task::Waker;
use std::time::Duration;

/// How a server is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// No new clients; what was called is finished, within this time.
    Drain(Duration),
    /// Now.
    Stop,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    /// `None` once the name was given back.
    claim: Mutex<Option<Claim>>,
    /// Everything that the driver watches.
    pub(crate) set: PollSet,
    /// "function /add", for messages.
    pub(crate) object: String,
    forks: u64,
    pub(crate) limits: Limits,
    /// How long calls under way have when the name is removed.
    pub(crate) grace: Duration,
    pub(crate) geometry: PairGeometry,
    pub(crate) hello: Vec<u8>,
    pub(crate) methods: Vec<Entry>,
    /// How long the driver may stay awake before it sleeps.
    pub(crate) awake: Scale,
    /// Some method works in place.
    pub(crate) in_place: bool,
    pub(crate) counters: Counters,
    /// A client went wrong outside of the driver.
    broken: AtomicBool,
    /// Calls, or the end of the server, wait for a handler to finish.
    backlog: AtomicBool,
    driver: Mutex<Option<Waker>>,
    ending: Mutex<Option<Ending>>,
    ended: AtomicBool,
    pub(crate) end: Event,
}

impl Engine {
    pub(crate) fn new(
        object: String,
        limits: Limits,
        grace: Duration,
        methods: Vec<Entry>,
    ) -> Result<Engine, Fault> {
        let set = PollSet::new().map_err(|err| Fault::os(&object, "epoll_create1", &err))?;
        let (limits, geometry) = limits.checked(&object)?;
        let refuse = |cause: String| Fault::new(FaultKind::InvalidOption, &object, cause);
        for (at, entry) in methods.iter().enumerate() {
            if methods[..at].iter().any(|other| other.name == entry.name) {
                return Err(refuse(format!("two methods are called {:?}", entry.name)));
            }
        }
        let table = codec::to_vec(&methods).map_err(|err| refuse(err.to_string()))?;
        if methods.is_empty() || table.len() > MAX_TABLE {
            let cause = format!("{} methods, {} bytes of names", methods.len(), table.len());
            return Err(refuse(format!(
                "{cause}; a service has 1 to 65535, and at most {MAX_TABLE} bytes"
            )));
        }
        let hello = Hello {
            pid: process::pid(),
            geometry,
            grant: Grant::from(&limits),
            table: methods.clone(),
        };
        Ok(Engine {
            claim: Mutex::new(None),
            set,
            hello: hello.to_bytes(&table),
            object,
            forks: fd::fork_count(),
            limits,
            grace,
            geometry,
            awake: NEVER,
            in_place: methods.iter().any(|method| method.in_place),
            methods,
            counters: Counters::default(),
            broken: AtomicBool::new(false),
            backlog: AtomicBool::new(false),
            driver: Mutex::new(None),
            ending: Mutex::new(None),
            ended: AtomicBool::new(false),
            end: Event::new(),
        })
    }

    /// The name is ours from now on; whoever calls is heard.
    pub(crate) fn set_claim(&self, mut claim: Claim) -> Result<(), Fault> {
        let os = |err| Fault::os(&self.object, "epoll_ctl", &err);
        self.set.add(claim.door.fd(), FRONT, Interest::Level).map_err(os)?;
        self.set.add(claim.endpoint.poll_fd()?, OWNER, Interest::Level).map_err(os)?;
        *lock(&self.claim) = Some(claim);
        Ok(())
    }

    /// Runs `f` on the claim, while there is one. It must not wait.
    pub(crate) fn with_claim<R>(&self, f: impl FnOnce(&mut Claim) -> R) -> Option<R> {
        lock(&self.claim).as_mut().map(f)
    }

    /// A fork brought it into this process.
    pub(crate) fn is_inherited(&self) -> bool {
        self.forks != fd::fork_count()
    }

    /// Somebody removed the name.
    pub(crate) fn is_removed(&self) -> bool {
        self.with_claim(|claim| claim.endpoint.region.is_removed()) == Some(true)
    }

    /// Gives the name back, so that another server can take it.
    pub(crate) fn give_name_back(&self) {
        let Some(mut claim) = lock(&self.claim).take() else { return };
        if claim.endpoint.is_inherited() {
            return;
        }
        self.set.remove(claim.door.fd());
        if let Ok(fd) = claim.endpoint.poll_fd() {
            self.set.remove(fd);
        }
    }

    /// Whether another handler may be started.
    pub(crate) fn may_start(&self) -> bool {
        // SeqCst: pairs with `handler_done`; the backlog is set before this look.
        self.counters.running.load(Ordering::SeqCst) < u64::from(self.limits.max_concurrency)
    }

    /// Calls, or the end, wait for a handler to finish, or do not any more. After setting it, look again.
    pub(crate) fn set_backlog(&self, waiting: bool) {
        self.backlog.store(waiting, Ordering::SeqCst);
    }

    pub(crate) fn handler_done(&self) {
        // SeqCst, both: the driver sets the backlog and then looks at the count.
        self.counters.running.fetch_sub(1, Ordering::SeqCst);
        if self.backlog.load(Ordering::SeqCst) {
            self.kick();
        }
    }

    /// The driver is to be woken by this.
    pub(crate) fn drive_by(&self, waker: &Waker) {
        let mut driver = lock(&self.driver);
        if driver.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *driver = Some(waker.clone());
        }
    }

    /// Wakes the driver.
    pub(crate) fn kick(&self) {
        let driver = lock(&self.driver).clone();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// A client went wrong; the driver looks which.
    pub(crate) fn set_broken(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.kick();
    }

    pub(crate) fn take_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst) && self.broken.swap(false, Ordering::SeqCst)
    }

    /// Asks the server to end. A shorter way replaces a longer one.
    pub(crate) fn ask_to_end(&self, how: Ending) {
        {
            let mut ending = lock(&self.ending);
            match (*ending, how) {
                (Some(Ending::Stop), _) => {}
                (Some(Ending::Drain(before)), Ending::Drain(now)) if before <= now => {}
                _ => *ending = Some(how),
            }
        }
        self.kick();
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        *lock(&self.ending)
    }

    /// The server is over.
    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.end.notify(usize::MAX);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The body of an error that the library raises.
    pub(crate) fn refusal(&self, reason: Reason, text: &str) -> Vec<u8> {
        HandlerError::of(reason, text).to_body()
    }

    /// A reply above `max_message` makes way for an error, which is written into `room`.
    pub(crate) fn bounded<'a>(&self, reply: Reply<'a>, room: &'a mut Vec<u8>) -> Reply<'a> {
        let max = self.limits.max_message;
        *room = match reply {
            Reply::Value { body, .. } if body.len() as u64 > max => self.too_large(body.len()),
            Reply::Error(body) if body.len() as u64 > max => {
                let text = format!("its error of {} bytes is above max_message, {max}", body.len());
                self.refusal(Reason::BadResult, &text)
            }
            reply => return reply,
        };
        Reply::Error(room)
    }

    /// The error that takes the place of a result above `max_message`.
    pub(crate) fn too_large(&self, len: usize) -> Vec<u8> {
        let max = self.limits.max_message;
        let text = format!(
            "the result of {len} bytes is above max_message, {max}; stream it, pass it by a segment, or \
             serve with larger limits"
        );
        self.refusal(Reason::BadResult, &text)
    }
}
