//! What tests with real processes share: unique names, children, a watchdog, a look for leftovers.
//!
//! A child is this very test binary, run again with one test only:
//!
//! ```text
//! #[test]
//! fn child_entry() {
//!     common::child(|role, args| match role { "producer" => produce(&args[0]), ... });
//! }
//! ```
//!
//! Parent and child talk in lines: `say` here is `hear` there.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::disallowed_types, clippy::print_stdout, reason = "no model checker runs this")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

pub(crate) const ROLE: &str = "RINGSPAN_CHILD";
pub(crate) const ARGS: &str = "RINGSPAN_CHILD_ARGS";
/// Lines of ours begin so; the test runner prints others.
const MARK: &str = "\u{1}";
/// The parent of a child, for [`end_with_the_parent`].
const PARENT: &str = "RINGSPAN_CHILD_OF";
/// How long a test may stand still.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Children that live, for the watchdog.
static CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn children() -> std::sync::MutexGuard<'static, BTreeSet<u32>> {
    CHILDREN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A name that nobody else uses.
pub(crate) fn unique_name(what: &str) -> String {
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    format!("/test-{}-{number}-{what}", std::process::id())
}

/// Where the file of a name is.
pub(crate) fn path_of(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name.trim_start_matches('/'))
}

/// Where the door of a tag is.
pub(crate) fn door_of(tag: u64) -> PathBuf {
    let dir = match std::env::var_os("RINGSPAN_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(format!("/dev/shm/.ringspan-{}", rustix::process::geteuid().as_raw())),
    };
    dir.join(format!("{tag:016x}"))
}

// ---- in the child -------------------------------------------------------------------------------

/// Runs `dispatch` with role and arguments when this process is a child, and ends it.
pub(crate) fn child(dispatch: impl FnOnce(&str, &[String])) {
    let Ok(role) = std::env::var(ROLE) else { return };
    let args = std::env::var(ARGS).unwrap_or_default();
    let args: Vec<String> = args.split('\n').map(str::to_owned).collect();
    end_with_the_parent();
    dispatch(&role, &args);
    std::process::exit(0);
}

/// Kills this process when the thread that started it has ended, whatever it waits for then: one that
/// sleeps for ever would keep the output of the whole run open.
#[allow(unsafe_code, reason = "prctl takes plain numbers")]
pub(crate) fn end_with_the_parent() {
    // SAFETY: plain flags.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // It may have ended before. In a pid namespace of our own we have no parent that we could see.
    let parent = std::os::unix::process::parent_id();
    let wanted = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok());
    if parent != 0 && wanted.is_some_and(|wanted: u32| wanted != parent) {
        std::process::exit(0);
    }
}

/// Child to parent.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let sent = writeln!(out, "\n{MARK}{line}").and_then(|()| out.flush());
    if sent.is_err() {
        std::process::exit(0); // the parent is gone
    }
}

/// Parent to child. Ends the child when the parent is gone.
pub(crate) fn hear() -> String {
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(n) if n > 0 => line.trim_end().to_owned(),
        _ => std::process::exit(0),
    }
}

// ---- in the parent ------------------------------------------------------------------------------

/// This very program as a child that plays `role`, with one argument a line.
pub(crate) fn as_child(role: &str, args: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command
        .args(["--exact", "child_entry", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ARGS, args)
        .env(PARENT, std::process::id().to_string())
        .env_remove("RINGSPAN_FAILPOINT");
    command
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    role: String,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    status: Option<ExitStatus>,
}

impl Peer {
    /// Starts a child with that role.
    pub(crate) fn spawn(role: &str, args: &[&str]) -> Peer {
        Self::spawn_with(role, args, |_| ())
    }

    /// The same; `adapt` may set variables of the environment and the like.
    pub(crate) fn spawn_with(role: &str, args: &[&str], adapt: impl FnOnce(&mut Command)) -> Peer {
        let mut command = as_child(role, &args.join("\n"));
        adapt(&mut command);
        Self::start(role, command)
    }

    /// Starts any program as a peer; its lines must begin with the byte 1.
    pub(crate) fn start(role: &str, mut command: Command) -> Peer {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a child starts");
        children().insert(child.id());
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix(MARK)
                    && sender.send(line.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Peer { child, role: role.to_owned(), stdin, lines, status: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Parent to child.
    pub(crate) fn say(&mut self, line: impl std::fmt::Display) {
        let stdin = self.stdin.as_mut().expect("the child listens");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the child listens");
    }

    /// The next line of the child; `None` once it has ended. Waits: use a [`Watchdog`].
    pub(crate) fn try_hear(&mut self) -> Option<String> {
        self.lines.recv().ok()
    }

    /// The next line of the child, which must not have ended.
    pub(crate) fn hear(&mut self) -> String {
        if let Some(line) = self.try_hear() {
            return line;
        }
        let status = self.wait();
        panic!("child {} ended: {status}", self.role);
    }

    /// The next line of the child must be this one.
    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line, "child {}", self.role);
    }

    /// Whether the child has said something that was not heard yet.
    pub(crate) fn has_said(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// A signal for the child.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the child is there");
    }

    /// Kill -9, and the funeral.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        self.wait();
    }

    /// Waits for the end of the child.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.stdin = None;
        if let Some(status) = self.status {
            return status;
        }
        let status = self.child.wait().expect("the child can be waited for");
        children().remove(&self.child.id());
        self.status = Some(status);
        status
    }

    /// Whether the child has ended. Does not wait.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("the child can be waited for");
            if self.status.is_some() {
                children().remove(&self.child.id());
            }
        }
        self.status.is_some()
    }

    /// Waits for the end of the child, which must be a good one.
    pub(crate) fn finish(mut self) {
        let status = self.wait();
        assert!(status.success(), "child {} ended: {status}", self.role);
    }

    /// Waits for the end of the child; true when SIGKILL ended it.
    pub(crate) fn was_killed(&mut self) -> bool {
        self.wait().signal() == Some(9)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Ends the whole run, loudly, when its test has not ended within a minute.
///
/// It counts seconds in which it ran itself: a machine that stood still for a while, or a clock that
/// jumped, costs the test one of them.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// `what` is printed when it hangs.
    pub(crate) fn new(what: impl Into<String>) -> Watchdog {
        Self::with_patience(what, PATIENCE)
    }

    /// One for a test that has more to do.
    pub(crate) fn with_patience(what: impl Into<String>, patience: Duration) -> Watchdog {
        let (alive, watched) = mpsc::channel();
        let what = what.into();
        std::thread::spawn(move || {
            for _ in 0..patience.as_secs().max(1) {
                if watched.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
            // Not `eprintln`, which the test runner catches and loses with the process.
            let _ = writeln!(std::io::stderr(), "WATCHDOG: {what} hangs");
            for &pid in &*children() {
                if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            std::process::abort();
        });
        Watchdog { _alive: alive }
    }
}

/// Names for one test, and the check at its end that no file and no door of them is left.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    names: Mutex<Vec<String>>,
    doors: Mutex<BTreeSet<PathBuf>>,
}

impl Leftovers {
    pub(crate) fn new() -> Leftovers {
        Leftovers::default()
    }

    /// A new name, which must lead nowhere when the test ends.
    pub(crate) fn name(&self, what: &str) -> String {
        let name = unique_name(what);
        self.names.lock().unwrap().push(name.clone());
        name
    }

    /// A door that must be gone when the test ends.
    pub(crate) fn door(&self, tag: u64) -> PathBuf {
        let path = door_of(tag);
        self.doors.lock().unwrap().insert(path.clone());
        path
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let names = self.names.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let doors = self.doors.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let files = names.iter().map(|name| path_of(name)).chain(doors.iter().cloned());
        let left: Vec<PathBuf> = files.filter(|path| path.symlink_metadata().is_ok()).collect();
        for path in &left {
            let _ = std::fs::remove_file(path);
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}
