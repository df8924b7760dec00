//! An alarm: wakes one thread of this process that sleeps in `poll`, from any other thread. It is a
//! [`Waker`], so whatever wakes tasks wakes such a thread too. (A condition variable would not do: a
//! signal does not end its wait, and it cannot be waited for together with a descriptor.)
//!
//! [`Waker`]: std::task::Waker

use crate::sys::doorbell::{self, Doorbell};
use crate::sys::fd::{self, Fd};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::task::Wake;

/// Rung by [`Wake::wake`], heard through [`Alarm::fd`], level-triggered.
#[derive(Debug)]
pub(crate) struct Alarm {
    bell: Doorbell,
    forks: u64,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Alarm> {
        Ok(Alarm { bell: Doorbell::new()?, forks: fd::fork_count() })
    }

    /// Readable from the first ring to the next [`silence`](Alarm::silence).
    pub(crate) fn fd(&self) -> &Fd {
        self.bell.watched()
    }

    /// Takes in every ring so far.
    pub(crate) fn silence(&self) {
        if self.forks != fd::fork_count() {
            return; // as in `wake_by_ref`
        }
        let mut sink = [0; 512];
        loop {
            match rustix::io::read(self.fd(), &mut sink) {
                Ok(n) if n == sink.len() => {}
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In a forked child the number is closed, or somebody else's by now.
        if self.forks == fd::fork_count() {
            let _ = doorbell::ring(self.bell.for_waker());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll;
    use std::task::Waker;

    #[test]
    fn rings_until_silenced() {
        let alarm = Arc::new(Alarm::new().unwrap());
        assert!(!poll::is_readable(alarm.fd()));
        let waker = Waker::from(Arc::clone(&alarm));
        waker.wake_by_ref();
        waker.wake();
        assert!(poll::is_readable(alarm.fd()));
        alarm.silence();
        assert!(!poll::is_readable(alarm.fd()));
    }
}
