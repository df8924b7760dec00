//! One timer that can be watched in a poll set (timerfd_create(2)), for the nearest of many deadlines.

use crate::sys::fd::Fd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::time::{Duration, Instant};

/// Readable once its time has come, until it is set again.
#[derive(Debug)]
pub(crate) struct Timer {
    fd: Fd,
    set_for: Option<Instant>,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = Fd::open(|| timerfd_create(TimerfdClockId::Monotonic, flags))?;
        Ok(Timer { fd, set_for: None })
    }

    pub(crate) fn fd(&self) -> &Fd {
        &self.fd
    }

    /// Makes it fire at `at` or earlier. An earlier time that is set already stays: it costs one spurious
    /// wake at most, and saves a system call for every deadline that is met.
    pub(crate) fn no_later_than(&mut self, at: Option<Instant>) -> io::Result<()> {
        let Some(at) = at else { return Ok(()) };
        if self.set_for.is_some_and(|set| set <= at) {
            return Ok(());
        }
        // A time of zero would stop it.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec)?;
        self.set_for = Some(at);
        Ok(())
    }

    /// It fired: whatever is set next is set anew.
    pub(crate) fn fired(&mut self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.fd, &mut count);
        self.set_for = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll;

    #[test]
    fn fires_once_at_its_time() {
        let mut timer = Timer::new().unwrap();
        timer.no_later_than(Some(Instant::now() + Duration::from_millis(1))).unwrap();
        let (waited, _) = poll::wait_any([Some(timer.fd())], None).unwrap();
        assert_eq!(waited, poll::Waited::Ready);
        timer.fired();
        assert!(!poll::is_readable(timer.fd()));
        timer.no_later_than(Some(Instant::now())).unwrap();
        let (waited, _) = poll::wait_any([Some(timer.fd())], None).unwrap();
        assert_eq!(waited, poll::Waited::Ready);
    }
}
