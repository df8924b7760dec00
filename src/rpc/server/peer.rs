//! One client, as the server sees it. Its link and session are *checked out* by the driver while it reads
//! frames and runs handlers, with no lock held; who finishes a call meanwhile leaves it in the mail.

use crate::rpc::core::session::{Reply, Session, Stop};
use crate::rpc::link::Link;
use crate::rpc::server::engine::Engine;
use crate::rpc::stats::count;
use crate::rpc::wire::Violation;
use crate::sync::{Mutex, lock};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// Link and session.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) link: Link,
    pub(crate) session: Session,
}

/// A reply that owns its bytes.
#[derive(Debug)]
pub(crate) enum Done {
    Value { raw: bool, body: Vec<u8> },
    Bytes(bytes::Bytes),
    Error(Vec<u8>),
    End,
}

impl Done {
    pub(crate) fn as_reply(&self) -> Reply<'_> {
        match self {
            Done::Value { raw, body } => Reply::Value { raw: *raw, body },
            Done::Bytes(body) => Reply::Value { raw: true, body },
            Done::Error(body) => Reply::Error(body),
            Done::End => Reply::End,
        }
    }
}

#[derive(Debug)]
enum Mail {
    Finish { id: u64, since: Instant, done: Done },
    Item { id: u64, raw: bool, body: Vec<u8> },
}

#[derive(Debug)]
struct Desk {
    /// `None` while it is checked out, and once the client is gone.
    work: Option<Box<Work>>,
    mail: Vec<Mail>,
    /// Streams that wait for credit.
    gates: Vec<(u64, Waker)>,
    gone: bool,
    /// What went wrong outside of the driver.
    violation: Option<Violation>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    desk: Mutex<Desk>,
}

impl Peer {
    pub(crate) fn new(engine: Arc<Engine>, (pid, uid): (u32, u32), work: Work) -> Arc<Peer> {
        let desk = Desk {
            work: Some(Box::new(work)),
            mail: Vec::new(),
            gates: Vec::new(),
            gone: false,
            violation: None,
        };
        Arc::new(Peer { engine, pid, uid, desk: Mutex::new(desk) })
    }

    /// Takes link and session. `None`: the client is gone.
    pub(crate) fn check_out(&self) -> Option<Box<Work>> {
        lock(&self.desk).work.take()
    }

    /// Gives them back, with the mail of the meantime done. `then` is the last look, under the lock.
    pub(crate) fn check_in<R>(
        &self,
        mut work: Box<Work>,
        then: impl FnOnce(&mut Work) -> Result<R, Violation>,
    ) -> Result<R, (Box<Work>, Violation)> {
        let mut desk = lock(&self.desk);
        let done = self.deliver(&mut desk, &mut work).and_then(|()| then(&mut work));
        let wakers = match &done {
            Ok(_) => open_gates(&mut desk, &work.session),
            Err(_) => Vec::new(),
        };
        let out = match done {
            Ok(out) => {
                desk.work = Some(work);
                Ok(out)
            }
            Err(violation) => Err((work, violation)),
        };
        drop(desk);
        wakers.into_iter().for_each(Waker::wake);
        out
    }

    fn deliver(&self, desk: &mut Desk, work: &mut Work) -> Result<(), Violation> {
        if let Some(violation) = desk.violation.take() {
            return Err(violation);
        }
        for mail in desk.mail.drain(..) {
            match mail {
                Mail::Finish { id, since, done } => self.finish_now(work, id, since, &done)?,
                Mail::Item { id, raw, body } => {
                    work.session.item(&mut work.link, id, raw, &body)?
                }
            }
        }
        work.session.pump(&mut work.link)?;
        work.link.publish();
        Ok(())
    }

    fn finish_now(
        &self,
        work: &mut Work,
        id: u64,
        since: Instant,
        done: &Done,
    ) -> Result<(), Violation> {
        let mut room = Vec::new();
        let reply = self.engine.bounded(done.as_reply(), &mut room);
        let Work { link, session } = work;
        if session.finish(link, id, reply)? {
            let error = matches!(reply, Reply::Error(_));
            self.engine.counters.answered(since.elapsed(), error);
        }
        Ok(())
    }

    /// A handler that had been started is done.
    pub(crate) fn finish(&self, id: u64, since: Instant, done: Done) {
        self.post(Mail::Finish { id, since, done });
    }

    /// A stream yields an item; it has asked [`poll_may_send`](Peer::poll_may_send).
    pub(crate) fn item(&self, id: u64, raw: bool, body: Vec<u8>) {
        self.post(Mail::Item { id, raw, body });
    }

    fn post(&self, mail: Mail) {
        if self.engine.is_inherited() {
            return; // of a handler that a forked child dropped; the parent's goes on
        }
        let mut desk = lock(&self.desk);
        if desk.gone {
            return;
        }
        desk.mail.push(mail);
        let Some(mut work) = desk.work.take() else { return }; // the driver comes by
        let waited = work.session.wants_room();
        let mut done = self.deliver(&mut desk, &mut work);
        if done.is_ok() && work.session.wants_room() && !waited {
            // The client must ring for room from now on; the look behind it is the pump.
            work.link.park(true);
            done = work.session.pump(&mut work.link);
            work.link.publish();
        }
        desk.violation = done.err();
        let broken = desk.violation.is_some();
        desk.work = Some(work);
        drop(desk);
        if broken {
            self.engine.set_broken();
        }
    }

    /// Whether a stream may send an item now. Gone clients take everything.
    pub(crate) fn poll_may_send(&self, id: u64, waker: &Waker) -> bool {
        let mut desk = lock(&self.desk);
        if desk.gone {
            return true;
        }
        // Items in the mail are not counted yet.
        let clear = desk.mail.is_empty();
        // One that was stopped need not wait for credit to hear of it.
        let ready = |session: &Session| session.may_send(id) || !session.is_wanted(id);
        if desk.work.as_ref().is_some_and(|work| clear && ready(&work.session)) {
            return true;
        }
        match desk.gates.iter_mut().find(|(gate, _)| *gate == id) {
            Some((_, known)) => known.clone_from(waker),
            None => desk.gates.push((id, waker.clone())),
        }
        false
    }

    /// Whether the client still waits for the answer of a running call.
    pub(crate) fn is_wanted(&self, id: u64) -> bool {
        let desk = lock(&self.desk);
        !desk.gone && desk.work.as_ref().is_none_or(|work| work.session.is_wanted(id))
    }

    /// What went wrong outside of the driver.
    pub(crate) fn is_broken(&self) -> bool {
        lock(&self.desk).violation.is_some()
    }

    /// Runs `f` on link and session, by the driver, while they are not checked out.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Work) -> R) -> Option<R> {
        lock(&self.desk).work.as_mut().map(|work| f(work))
    }

    /// The client is gone: gives link and session up. `work` is what is checked out.
    pub(crate) fn part(&self, work: Option<Box<Work>>) -> (Option<Box<Work>>, Vec<Box<dyn Stop>>) {
        let mut desk = lock(&self.desk);
        desk.gone = true;
        desk.mail.clear();
        let gates = std::mem::take(&mut desk.gates);
        let mut work = work.or_else(|| desk.work.take());
        drop(desk);
        let stops = work.as_mut().map_or_else(Vec::new, |work| {
            for _ in 0..work.session.calls() {
                self.engine.counters.answered(std::time::Duration::ZERO, true);
            }
            work.session.stop_all()
        });
        gates.into_iter().for_each(|(_, waker)| waker.wake());
        (work, stops)
    }
}

/// The streams that may go on.
fn open_gates(desk: &mut Desk, session: &Session) -> Vec<Waker> {
    if desk.gates.is_empty() {
        return Vec::new();
    }
    let (open, shut) = std::mem::take(&mut desk.gates)
        .into_iter()
        .partition::<Vec<_>, _>(|(id, _)| session.may_send(*id) || !session.is_wanted(*id));
    desk.gates = shut;
    open.into_iter().map(|(_, waker)| waker).collect()
}

/// A handler at work; dropped, whatever ended it, it makes room for another one.
#[derive(Debug)]
pub(crate) struct Running {
    engine: Arc<Engine>,
}

impl Running {
    pub(crate) fn new(engine: &Arc<Engine>) -> Running {
        count(&engine.counters.running);
        Running { engine: Arc::clone(engine) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.handler_done();
    }
}
