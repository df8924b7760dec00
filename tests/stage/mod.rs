//! What the tests of rings share, over `common`: one test at a time, a ring's name and a door
//! directory of their own, and a look at what was left behind.
//!
//! A test file has `#[test] fn child_entry()` that asks [`role`] whether it is a child and plays the
//! part; everything else starts with [`Test::new`].

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unsafe_code, reason = "plain system calls, and a step before main")]

use crate::common::{
    ARGS, PATIENCE, Peer, ROLE, Watchdog, end_with_the_parent, path_of, unique_name,
};
use ringspan::{Ring, RingOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

// ---- a door directory of our own ----------------------------------------------------------------

extern "C" fn before_main() {
    if std::env::var_os(ROLE).is_none() {
        let dir = format!("/dev/shm/.ringspan-test-{}", std::process::id());
        // That of an aborted run, whose number came round again.
        let _ = std::fs::remove_dir_all(&dir);
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

/// One test: nobody else's turn in this binary, a name, a watchdog. Dropped, it removes the name and
/// looks for leftovers.
pub(crate) struct Test {
    pub(crate) name: String,
    _watchdog: Watchdog,
    _turn: MutexGuard<'static, ()>,
}

impl Test {
    /// A test that hangs after a minute.
    pub(crate) fn new(what: &str) -> Test {
        Test::lasting(what, PATIENCE)
    }

    /// A test that may take longer.
    pub(crate) fn lasting(what: &str, limit: Duration) -> Test {
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let watchdog = Watchdog::with_patience(what, limit);
        Test { name: unique_name("ring"), _watchdog: watchdog, _turn: turn }
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
        path_of(&self.name)
    }

    /// A process that plays `role` on the test's name.
    pub(crate) fn spawn(&self, role: &str, argument: &str) -> Peer {
        Peer::spawn(role, &[&self.name, argument])
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

/// What a child is to do.
pub(crate) struct Role {
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) argument: String,
}

/// The part this process plays, if it is a child. It dies with the test that started it.
pub(crate) fn role() -> Option<Role> {
    let role = std::env::var(ROLE).ok()?;
    end_with_the_parent();
    let words = std::env::var(ARGS).unwrap();
    let (name, argument) = words.split_once('\n').unwrap();
    Some(Role { role, name: name.to_owned(), argument: argument.to_owned() })
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

/// Nanoseconds on a processor and times that it was switched to, over all threads of a process.
fn used(pid: u32) -> (u64, u64) {
    let mut sum = (0, 0);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        let mut words = text.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        sum.0 += words.next().unwrap();
        sum.1 += words.nth(1).unwrap();
    }
    sum
}

/// Those processes use no processor time and are not switched to once, for a second.
pub(crate) fn use_nothing(pids: &[u32]) {
    // Until they have settled: equal looks for half a second, since on a busy machine a thread that
    // wants to run may have to wait for its turn.
    let look = || pids.iter().map(|&pid| used(pid)).collect::<Vec<_>>();
    let (mut before, mut equal) = (look(), 0);
    until(|| {
        std::thread::sleep(Duration::from_millis(20));
        let now = look();
        equal = if std::mem::replace(&mut before, now.clone()) == now { equal + 1 } else { 0 };
        equal == 25
    });
    std::thread::sleep(Duration::from_secs(1));
    for (before, after) in before.into_iter().zip(look()) {
        assert!(after.0 - before.0 < 1_000_000, "{} ns on a processor", after.0 - before.0);
        assert_eq!(after.1, before.1, "switched to while there was nothing to do");
    }
}

/// Handles of the object in that file that may be asleep: the mask in its header (`docs/format.md`).
pub(crate) fn parked(path: &Path) -> u32 {
    use std::os::unix::fs::FileExt;
    let mut mask = [0; 8];
    let file = std::fs::File::open(path).unwrap();
    file.read_exact_at(&mut mask, 272).unwrap();
    u64::from_le_bytes(mask).count_ones()
}

/// The state of a process as the kernel has it, `T` for stopped.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
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

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `amount`, times `RINGSPAN_SCALE` (the longer forms: `make soak`, `make fuzz`). Children inherit it.
pub(crate) fn scaled(amount: u64) -> u64 {
    amount * from_environment("RINGSPAN_SCALE").unwrap_or(1).max(1)
}

/// xorshift64* (S. Vigna): the same numbers on both sides. `RINGSPAN_SEED` makes them others.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        let seed = seed.wrapping_add(from_environment("RINGSPAN_SEED").unwrap_or(0) << 16);
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
