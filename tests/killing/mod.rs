//! What the kill harnesses share: runs in which a child process is killed at a fail point, several at
//! once, and the table of those points.

use crate::common::{Watchdog, as_child};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const ON_TOKIO: &str = "RINGSPAN_CHILD_TOKIO";

/// In a child: whether it is to wait on tokio.
pub(crate) fn on_tokio() -> bool {
    std::env::var_os(ON_TOKIO).is_some()
}

static RUN: AtomicU64 = AtomicU64::new(0);

/// Where and when a child is to be killed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) point: String,
    /// The how many-th time that it comes there.
    pub(crate) pass: u32,
    /// For the child: it waits on tokio, not blocking.
    pub(crate) on_tokio: bool,
}

/// One run: a name, a watchdog, a log of the fail point that was reached.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) log: PathBuf,
    pub(crate) what: String,
    _watchdog: Watchdog,
}

impl Run {
    pub(crate) fn new(what: String) -> Run {
        let id = RUN.fetch_add(1, Ordering::SeqCst);
        let name = format!("/kill-{}-{id}", std::process::id());
        let log = std::env::temp_dir().join(format!("ringspan-kill-{}-{id}", std::process::id()));
        let watchdog = Watchdog::new(what.clone());
        Run { name, log, what, _watchdog: watchdog }
    }

    /// A child that plays `role`; with a plan it is killed.
    pub(crate) fn spawn(&self, role: &str, argument: &str, plan: Option<&Plan>) -> Child {
        let mut command = as_child(role, &format!("{}\n{argument}", self.name));
        command.env("RINGSPAN_FAILPOINT_LOG", &self.log).stdout(Stdio::piped());
        if let Some(plan) = plan {
            command.env("RINGSPAN_FAILPOINT", format!("{}:{}", plan.point, plan.pass));
            if plan.on_tokio {
                command.env(ON_TOKIO, "1");
            }
        }
        command.spawn().unwrap()
    }

    /// Waits for the child's exit; the numbers it printed.
    pub(crate) fn finish(&self, mut child: Child) -> (ExitStatus, Vec<u64>) {
        let mut text = String::new();
        let reader = BufReader::new(child.stdout.take().unwrap());
        let mut numbers = Vec::new();
        for line in reader.lines() {
            let line = line.unwrap();
            // The test runner prints its own words before the first number.
            if let Some(number) = line.split(' ').next_back().and_then(|n| n.parse().ok()) {
                numbers.push(number);
            }
            text.push_str(&line);
        }
        let status = child.wait().unwrap();
        let fine = status.success() || status.signal() == Some(9);
        assert!(fine, "{}: child ended with {status}: {text}", self.what);
        (status, numbers)
    }

    /// The point at which a child was killed.
    pub(crate) fn reached(&self) -> Option<String> {
        let mut text = String::new();
        std::fs::File::open(&self.log).ok()?.read_to_string(&mut text).ok()?;
        text.lines().next().map(str::to_owned)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
        let _ = ringspan::remove(&self.name);
        if !std::thread::panicking() {
            assert!(!PathBuf::from(format!("/dev/shm{}", self.name)).exists());
        }
    }
}

/// The points of `failpoints.txt` that are wanted.
pub(crate) fn table(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    include_str!("../failpoints.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('\t').next().unwrap())
        .filter(|point| wanted(point))
        .map(str::to_owned)
        .collect()
}

/// One run; the point that it reached.
pub(crate) type Job = Box<dyn FnOnce() -> Option<String> + Send>;

/// How many runs go on at once.
const LANES: usize = 3;

/// All of them; the points that were reached.
pub(crate) fn in_lanes(mut jobs: Vec<Job>) -> BTreeSet<String> {
    let total = jobs.len();
    jobs.reverse();
    let jobs = Mutex::new(jobs);
    let reached = Mutex::new(BTreeSet::new());
    let kills = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let Some(job) = jobs.lock().unwrap().pop() else { return };
                    if let Some(point) = job() {
                        kills.fetch_add(1, Ordering::SeqCst);
                        reached.lock().unwrap().insert(point);
                    }
                }
            });
        }
    });
    let reached = reached.into_inner().unwrap();
    eprintln!("{} kills in {total} runs, {} points", kills.into_inner(), reached.len());
    reached
}
