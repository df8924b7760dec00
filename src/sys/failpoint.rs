//! Crash points for the kill harness: `failpoint!("area.step")` dies there when asked to.
//!
//! Without the feature `failpoints` the macro is empty. With it, `RINGSPAN_FAILPOINT=name` kills the
//! process by SIGKILL at its first pass of that point, `name:3` at the third, `name:1:stop` stops it
//! by SIGSTOP instead and lets it go on after SIGCONT. A line `name` is first written to the file
//! that `RINGSPAN_FAILPOINT_LOG` names, so that the harness knows that the point was reached.

#[cfg(feature = "failpoints")]
#[allow(unsafe_code, reason = "rustix sends no signal to a thread")]
mod armed {
    use crate::sync::{AtomicU64, Ordering};
    use std::io::Write;
    use std::sync::OnceLock;

    struct Plan {
        name: String,
        pass: u64,
        stop: bool,
        log: Option<std::ffi::OsString>,
    }

    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    static PASSES: AtomicU64 = AtomicU64::new(0);

    fn plan() -> Option<Plan> {
        let spec = std::env::var("RINGSPAN_FAILPOINT").ok()?;
        let mut parts = spec.split(':');
        let name = parts.next()?.to_owned();
        let pass = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let stop = parts.next() == Some("stop");
        Some(Plan { name, pass, stop, log: std::env::var_os("RINGSPAN_FAILPOINT_LOG") })
    }

    pub(crate) fn hit(name: &str) {
        let Some(plan) = PLAN.get_or_init(plan) else { return };
        if plan.name != name || PASSES.fetch_add(1, Ordering::SeqCst) + 1 != plan.pass {
            return;
        }
        if let Some(log) = &plan.log {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
            let _ = file.and_then(|mut f| writeln!(f, "{name}"));
        }
        if plan.stop {
            // To this very thread: sent to the process, another one takes it, and we run on a while.
            // SAFETY: a signal that no handler can catch.
            unsafe { libc::raise(libc::SIGSTOP) };
            return;
        }
        let kill = rustix::process::Signal::KILL;
        let _ = rustix::process::kill_process(rustix::process::getpid(), kill);
    }
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::hit;

/// A place where the kill harness may kill or stop this process.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::sys::failpoint::hit($name);
    };
}
pub(crate) use failpoint;
