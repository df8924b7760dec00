//! The one shape every subject has: an end of a two-way connection between two processes.

use std::cell::Cell;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::child::Child;

/// Everything that can go wrong in a cell ends the cell.
pub type Res<T> = Result<T, Box<dyn Error>>;

/// What drives the futures of a subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runtime {
    /// A tokio current-thread runtime.
    Tokio,
    /// Nothing: the subject blocks or spins, its futures are ready at once.
    None,
}

/// Where a connection is made: names that nobody else uses, and the figures of the cell.
pub struct Place {
    /// A name without separators, unique to this run of the cell.
    pub name: String,
    /// The name of the cell, for the child.
    pub cell: String,
    /// The size of a message in bytes.
    pub size: usize,
    /// The bytes one direction may hold.
    pub capacity: usize,
    /// What the parent passed to the child: numbers of inherited descriptors, paths, names.
    pub extra: Vec<String>,
    /// The processor for the child; `None` in the child.
    pub child_cpu: Option<usize>,
    /// The child once it runs.
    pub child: Cell<Option<Child>>,
}

impl Place {
    /// Starts the other process and hands it `extra`. Called once by [`Link::parent`].
    pub fn start(&self, extra: &[String]) -> Res<()> {
        let cpu = self.child_cpu.ok_or("only the parent starts a child")?;
        self.child.set(Some(Child::start(&self.cell, &self.name, cpu, extra)?));
        Ok(())
    }

    /// A path in memory for sockets and files, removed after the cell.
    pub fn path(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("/dev/shm/{}-{suffix}", self.name))
    }

    /// A file in memory for both sides: the parent makes it, before it starts the child; the child
    /// opens it and takes its name away.
    pub fn shared(&self, suffix: &str, len: usize, parent: bool) -> Res<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(parent).open(self.path(suffix))?;
        if parent {
            file.set_len(len as u64)?;
        } else {
            std::fs::remove_file(self.path(suffix))?;
        }
        Ok(file)
    }

    /// Waits for the orderly end of the child.
    pub fn join(&self) -> Res<()> {
        self.child.take().ok_or("the child was never started")?.join()
    }

    /// The `n`th thing the parent passed, parsed.
    pub fn extra<T: std::str::FromStr>(&self, n: usize) -> Res<T> {
        let text = self.extra.get(n).ok_or("the parent passed too little")?;
        text.parse().map_err(|_| format!("cannot read what the parent passed: {text}").into())
    }
}

/// One end of a two-way connection; `send` and `recv` must move whole messages.
pub trait Link: Sized {
    /// What drives it.
    const RUNTIME: Runtime = Runtime::None;
    /// True where `recv` shows memory of the other side; the measuring loop then copies large
    /// messages out, so that every subject delivers into private memory.
    const LENDS: bool = false;
    /// True where nothing but the wake travels: content cannot be checked.
    const SIGNAL_ONLY: bool = false;

    /// Creates the connection, calls [`Place::start`], waits for the child where it must.
    fn parent(place: &Place) -> impl Future<Output = Res<Self>>;
    /// The other end, made by the child.
    fn child(place: &Place) -> impl Future<Output = Res<Self>>;
    /// Sends one message; waits while there is no room. May hold it back until [`Link::flush`].
    fn send(&mut self, message: &[u8]) -> impl Future<Output = Res<()>>;
    /// Makes everything sent visible.
    fn flush(&mut self) -> impl Future<Output = Res<()>> {
        std::future::ready(Ok(()))
    }
    /// Waits for at least one message, shows each one, `most` at most; returns how many there were.
    fn recv(&mut self, most: u64, see: impl FnMut(&[u8])) -> impl Future<Output = Res<u64>>;
    /// How often this end went to sleep so far, where the subject counts it itself.
    fn parks(&self) -> Option<u64> {
        None
    }
}

/// Tries until it works, for peers whose second direction exists only after the child has run.
/// Set-up only, never inside a measurement.
pub fn until_there<T, E: Error + 'static>(mut attempt: impl FnMut() -> Result<T, E>) -> Res<T> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(made) => return Ok(made),
            Err(e) if begin.elapsed() > Duration::from_secs(5) => return Err(Box::new(e)),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Runs a future to its end on what the subject asks for.
pub fn drive<T>(runtime: Runtime, work: impl Future<Output = Res<T>>) -> Res<T> {
    match runtime {
        Runtime::Tokio => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
        }
        Runtime::None => {
            let mut work = std::pin::pin!(work);
            let waker = std::task::Waker::noop();
            match work.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
                std::task::Poll::Ready(done) => done,
                std::task::Poll::Pending => Err("a blocking subject returned Pending".into()),
            }
        }
    }
}
