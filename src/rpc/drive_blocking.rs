//! Drives a client's connection from a thread that waits for one call.

use crate::error::Fault;
use crate::notify::awake::{Awake, SPINS};
use crate::rpc::conn::{Conn, Turn};
use crate::rpc::core::news::{Listener, News};
use crate::sync::{Mutex, lock};
use crate::sys::alarm::Alarm;
use crate::sys::fd::Fd;
use crate::sys::poll::{self, Waited};
use std::sync::Arc;
use std::task::Waker;

/// Alarms of threads that wait no more, and how long to stay awake.
#[derive(Debug)]
pub(crate) struct Threads {
    alarms: Mutex<Vec<Arc<Alarm>>>,
    spins: Mutex<Awake>,
}

/// Looks between two at the poll set, of a thread that stays awake.
const HARVEST_EVERY: u32 = 64;
/// Alarms kept for later.
const KEEP: usize = 8;

/// What ended a wait.
#[derive(Debug)]
pub(crate) enum Blocked {
    News(News),
    /// A signal handler ran; look at it, then wait again.
    Interrupted,
}

impl Default for Threads {
    fn default() -> Threads {
        Threads { alarms: Mutex::default(), spins: Mutex::new(Awake::new(SPINS)) }
    }
}

impl Threads {
    /// Parks the thread until there is news of the call `id`, or `bell` is readable, which is an
    /// interruption. The deadline is the connection's business.
    pub(crate) fn wait(&self, conn: &Conn, id: u64, bell: Option<&Fd>) -> Result<Blocked, Fault> {
        let mut looks: u32 = 0;
        loop {
            if let Ok(news) = conn.take(id, || None) {
                lock(&self.spins).came();
                return Ok(Blocked::News(news));
            }
            // A server that never stops must not keep deadlines from being over.
            looks = looks.wrapping_add(1);
            let harvest = looks.is_multiple_of(HARVEST_EVERY);
            let mut spins = lock(&self.spins);
            let awake = conn.is_awake().then_some(&mut *spins);
            match conn.drive(harvest, awake) {
                Turn::Busy | Turn::Over => {}
                Turn::Awake => std::hint::spin_loop(),
                Turn::Quiet => break,
            }
        }
        lock(&self.spins).parks();
        let alarm = self.take_alarm(conn)?;
        conn.sleeps();
        let ended = Self::sleep(conn, id, &alarm, bell);
        conn.awakes();
        let mut alarms = lock(&self.alarms);
        if alarms.len() < KEEP {
            alarms.push(alarm);
        }
        drop(alarms);
        lock(&self.spins).came();
        ended
    }

    fn sleep(
        conn: &Conn,
        id: u64,
        alarm: &Arc<Alarm>,
        bell: Option<&Fd>,
    ) -> Result<Blocked, Fault> {
        loop {
            let waker = || Some(Listener::Task(Waker::from(Arc::clone(alarm))));
            if let Ok(news) = conn.take(id, waker) {
                return Ok(Blocked::News(news));
            }
            let fds = [Some(&**conn.poll_fd()), Some(alarm.fd()), bell];
            let (waited, [fired, told, rung]) =
                poll::wait_any(fds, None).map_err(|err| Fault::os(conn.object(), "poll", &err))?;
            if rung || waited == Waited::Interrupted {
                return Ok(Blocked::Interrupted);
            }
            if told {
                alarm.silence();
            }
            if fired {
                conn.drive(true, None);
            }
        }
    }

    fn take_alarm(&self, conn: &Conn) -> Result<Arc<Alarm>, Fault> {
        if let Some(alarm) = lock(&self.alarms).pop() {
            alarm.silence(); // a late ring for its last sleeper
            return Ok(alarm);
        }
        let made = Alarm::new().map(Arc::new);
        made.map_err(|err| Fault::os(conn.object(), "making an alarm", &err))
    }
}
