//! What the tests with real processes share: one test at a time, a name of its own, a watchdog that
//! says what hung, children that are this very binary again, and a look at what was left behind.
//!
//! A test file has `#[test] fn child_entry()` that asks [`role`] whether it is a child and plays the
//! part; everything else starts with [`Test::new`].

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unsafe_code, reason = "plain system calls, and a step before main")]

use ringspan::{Ring, RingOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How long a test may take before it is called hung.
const WATCHDOG: Duration = Duration::from_secs(10);
/// Stands before every line between a child and its parent; the test runner prints words of its own.
const MARK: &str = "@@ ";

// ---- a door directory of our own ----------------------------------------------------------------

extern "C" fn before_main() {
    if std::env::var_os("TEST_ROLE").is_none() {
        let dir = format!("/dev/shm/.ringspan-test-{}", std::process::id());
        // SAFETY: before `main`, so there is no other thread that reads the environment.
        unsafe { std::env::set_var("RINGSPAN_DIR", dir) };
        // SAFETY: a plain function that lives as long as the program.
        unsafe { libc::atexit(after_main) };
    }
}

extern "C" fn after_main() {
    let dir = doors();
    if dir.ends_with(format!(".ringspan-test-{}", std::process::id())) {
        let _ = std::fs::remove_dir_all(dir);
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

/// The door directory of this test run.
pub(crate) fn doors() -> PathBuf {
    PathBuf::from(std::env::var_os("RINGSPAN_DIR").expect("set before main"))
}

/// The doors that stand in it.
pub(crate) fn standing_doors() -> Vec<String> {
    names_in(&doors(), |_| true)
}

fn names_in(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| wanted(name)).collect()
}

// ---- a test -------------------------------------------------------------------------------------

static TURN: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// One test: nobody else's turn in this binary, a name, a watchdog. Dropped, it removes the name and
/// looks for leftovers.
pub(crate) struct Test {
    pub(crate) name: String,
    step: Arc<Mutex<String>>,
    done: Option<Sender<()>>,
    _turn: MutexGuard<'static, ()>,
}

impl Test {
    /// A test that hangs after 10 seconds.
    pub(crate) fn new(what: &str) -> Test {
        Test::lasting(what, WATCHDOG)
    }

    /// A test that may take longer.
    pub(crate) fn lasting(what: &str, limit: Duration) -> Test {
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let name = format!("/test-{}-{number}", std::process::id());
        let step = Arc::new(Mutex::new("start".to_owned()));
        let (done, over) = channel::<()>();
        let (what, at) = (what.to_owned(), Arc::clone(&step));
        std::thread::spawn(move || {
            if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // Not `eprintln`, which the test runner catches and loses with the process.
                let at = at.lock().unwrap();
                let _ = writeln!(std::io::stderr(), "WATCHDOG: hung in {what}, at: {at}");
                std::process::abort();
            }
        });
        Test { name, step, done: Some(done), _turn: turn }
    }

    /// Where we are, for the watchdog's words.
    pub(crate) fn at(&self, step: impl Into<String>) {
        *self.step.lock().unwrap() = step.into();
    }

    /// A new ring under the test's name.
    pub(crate) fn ring(&self, capacity: u64) -> Ring {
        self.ring_with(Ring::options().capacity(capacity))
    }

    /// A new ring like that.
    pub(crate) fn ring_with(&self, options: RingOptions) -> Ring {
        options.create(&self.name).unwrap()
    }

    /// The file behind the name.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm{}", self.name))
    }

    /// A process that plays `role` on the test's name.
    pub(crate) fn spawn(&self, role: &str, argument: &str) -> Actor {
        Actor::spawn(role, &self.name, argument)
    }

    /// A killed process nobody looked after leaves its door; `gc` removes it. Here it is removed by
    /// hand, so that the next test starts in order.
    pub(crate) fn sweep_doors(&self) {
        for door in standing_doors() {
            let _ = std::fs::remove_file(doors().join(door));
        }
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        drop(self.done.take());
        let _ = std::fs::remove_file(self.path());
        let prefix = self.name.trim_start_matches('/');
        let left = names_in(Path::new("/dev/shm"), |name| name.starts_with(prefix));
        let doors = standing_doors();
        if std::thread::panicking() {
            self.sweep_doors();
        } else {
            assert!(left.is_empty(), "left in /dev/shm: {left:?}");
            assert!(doors.is_empty(), "doors left behind: {doors:?}");
        }
    }
}

// ---- children -----------------------------------------------------------------------------------

/// A child process and its lines.
pub(crate) struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    role: String,
}

impl Actor {
    fn spawn(role: &str, name: &str, argument: &str) -> Actor {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_entry", "--nocapture", "--test-threads=1"])
            .env("TEST_ROLE", role)
            .env("TEST_NAME", name)
            .env("TEST_ARGUMENT", argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Actor { child, stdin, stdout, role: role.to_owned() }
    }

    /// The next line that the child says.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "{} said no more", self.role);
            if let Some((_, said)) = line.split_once(MARK) {
                return said.trim_end().to_owned();
            }
        }
    }

    /// The next line must be this one.
    pub(crate) fn expect(&mut self, said: &str) {
        assert_eq!(self.hear(), said, "{}", self.role);
    }

    /// Says a line to the child.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: a process that we started and have not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// SIGKILL, and its end awaited.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the child's own end, which must be in good order.
    pub(crate) fn finish(mut self) {
        drop(self.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status: ExitStatus = self.child.wait().unwrap();
        assert!(status.success(), "{} ended with {status}: {rest}", self.role);
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child is to do.
pub(crate) struct Role {
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) argument: String,
}

/// The part this process plays, if it is a child. It dies with the test that started it.
pub(crate) fn role() -> Option<Role> {
    let role = std::env::var("TEST_ROLE").ok()?;
    let var = |name| std::env::var(name).unwrap();
    // SAFETY: plain flags.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    Some(Role { role, name: var("TEST_NAME"), argument: var("TEST_ARGUMENT") })
}

/// Says a line to the parent.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").unwrap();
    out.flush().unwrap();
}

/// The next line of the parent; empty at its end.
pub(crate) fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

// ---- small things -------------------------------------------------------------------------------

/// A runtime of one thread without a timer: whatever wakes here is an event.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap()
}

/// Until the condition holds. For conditions that another process brings about; the watchdog bounds
/// it.
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// The cpus that this thread may use.
pub(crate) fn cpus() -> Vec<usize> {
    // SAFETY: zeroes are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a set of exactly the size passed.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    assert_eq!(done, 0);
    // SAFETY: within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// This thread runs on that cpu only.
pub(crate) fn pin(cpu: usize) {
    // SAFETY: zeroes are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: a set of exactly the size passed.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    assert_eq!(done, 0);
}

/// xorshift64* (S. Vigna): the same numbers on both sides.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}
