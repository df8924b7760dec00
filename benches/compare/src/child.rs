//! The other process, and the watchdog that ends a cell that hangs.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::link::Res;
use crate::os;

/// The name of the environment variable that carries the unique name to the child.
pub const NAME: &str = "RINGSPAN_COMPARE_NAME";

/// The same for the processor the child binds itself to.
pub const CPU: &str = "RINGSPAN_COMPARE_CPU";

/// A running child; killed when dropped, so that no cell leaves a process behind.
#[derive(Debug)]
pub struct Child(std::process::Child);

impl Child {
    /// Starts this program again for the other side of `cell`.
    pub fn start(cell: &str, name: &str, cpu: usize, extra: &[String]) -> Res<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("child").arg(cell).args(extra).stdin(Stdio::null());
        command.env(NAME, name).env(CPU, cpu.to_string());
        // SAFETY: the closure runs between fork and exec and makes one system call, which is
        // async-signal-safe; it touches no memory of the parent.
        unsafe { command.pre_exec(os::die_with_parent) };
        let child = command.spawn()?;
        let id = child.id();
        // A parent that waits for a lock or a value would not notice that the child has failed.
        std::thread::spawn(move || {
            if os::failed(id) {
                os::exit_now(3); // the child has said why
            }
        });
        Ok(Self(child))
    }

    /// Its process id.
    #[cfg(feature = "ringspan")]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for an orderly end.
    pub fn join(mut self) -> Res<()> {
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the child ended with {status}").into()) }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // After `join` both are errors that mean "already gone".
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends this process with status 124 after `limit`; the child dies with its parent.
pub fn watchdog(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("compare-cells: nothing came for {} s, giving up", limit.as_secs());
        os::exit_now(124);
    });
}
