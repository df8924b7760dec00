//! What the tests of locks share, over `stage`: bytes that show a torn write, a look at the words of a
//! lock from outside, and a process that takes and gives a lock as it is told.

#![allow(dead_code, reason = "each test file uses a part")]

use crate::common::{Peer, hear, say};
use crate::stage::{Role, Test};
use ringspan::{Fault, LockError, OpenError, RwLock, TryLockError};
use std::fs::File;
use std::future::Future;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

/// Bytes under the locks of these tests.
pub(crate) const LEN: usize = 512;
/// A while in which nothing is to happen, or for an end that has to come by itself.
pub(crate) const MOMENT: Duration = Duration::from_millis(30);

/// Where things lie; `docs/format.md`.
pub(crate) const PARKED: u64 = 272;
pub(crate) const SLOTS: u64 = 384;
pub(crate) const SLOT: u64 = 128;
pub(crate) const SEATS: u64 = 48;
pub(crate) const WORD: u64 = SLOTS + SEATS * SLOT;
pub(crate) const SEAT: u64 = WORD + 128;
pub(crate) const PAYLOAD: u64 = 16384;
/// The bit in the word: somebody waits to write.
pub(crate) const AWAITED: u64 = 1 << 49;

// ---- bytes that show a torn write ---------------------------------------------------------------

/// Writes one number everywhere, in small steps.
pub(crate) fn write_all(bytes: &mut [u8], number: u64) {
    let steps = bytes.len() / 8;
    for step in 0..steps {
        bytes[step * 8..step * 8 + 8].copy_from_slice(&number.to_le_bytes());
        std::hint::black_box(&mut *bytes);
        if step == steps / 2 && number.is_multiple_of(8) {
            std::thread::yield_now();
        }
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap()))
}

/// The number that stands everywhere; none if the bytes are torn.
pub(crate) fn whole(bytes: &[u8]) -> Option<u64> {
    let first = numbers(bytes).next()?;
    numbers(std::hint::black_box(bytes)).all(|number| number == first).then_some(first)
}

/// The number that stands everywhere, looked at twice.
#[track_caller]
pub(crate) fn read_all(bytes: &[u8]) -> u64 {
    let number = whole(bytes).expect("torn bytes under a clean lock");
    std::thread::yield_now();
    assert_eq!(whole(bytes), Some(number), "bytes changed under a reader");
    number
}

/// Raises the number by one.
#[track_caller]
pub(crate) fn raise(bytes: &mut [u8]) -> u64 {
    let number = read_all(bytes) + 1;
    write_all(bytes, number);
    number
}

/// What a dead writer left, made whole: the number that it was about to write, or had written.
pub(crate) fn mend(bytes: &mut [u8]) -> u64 {
    let number = numbers(bytes).max().unwrap_or(0);
    write_all(bytes, number);
    number
}

// ---- the words of a lock, from outside ----------------------------------------------------------

pub(crate) fn file_of(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

pub(crate) fn load(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    u64::from_le_bytes(bytes)
}

pub(crate) fn store(file: &File, at: u64, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at).unwrap();
}

/// How many handles are parked.
pub(crate) fn parked(file: &File) -> u32 {
    load(file, PARKED).count_ones()
}

/// Whether a handle of that process is parked.
pub(crate) fn parks(file: &File, pid: u32) -> bool {
    let mask = load(file, PARKED);
    (0..SEATS).any(|index| {
        let slot = SLOTS + index * SLOT;
        let theirs = load(file, slot + 32) & 0xffff_ffff == u64::from(pid);
        theirs && mask & 1 << index != 0 && load(file, slot) != 0
    })
}

/// Whether somebody waits to write.
pub(crate) fn awaited(file: &File) -> bool {
    load(file, WORD) & AWAITED != 0
}

/// Owners, mode and hint, without the marks that stay.
pub(crate) fn holds(file: &File) -> u64 {
    load(file, WORD) & ((1 << 50) - 1)
}

/// The clock that tells when a lock was got.
pub(crate) fn coarse_now() -> SystemTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    SystemTime::UNIX_EPOCH + Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

// ---- an actor -----------------------------------------------------------------------------------

impl Test {
    /// A new lock under the test's name.
    pub(crate) fn lock(&self) -> RwLock {
        RwLock::create(&self.name, LEN).unwrap()
    }

    /// One more handle.
    pub(crate) fn handle(&self) -> RwLock {
        RwLock::open(&self.name).unwrap()
    }

    pub(crate) fn file(&self) -> File {
        file_of(&self.path())
    }

    /// A process with a handle that does what it is told; see [`act`].
    pub(crate) fn actor(&self) -> Peer {
        let mut peer = self.spawn("actor", "");
        peer.expect("ready");
        peer
    }
}

impl Peer {
    /// Tells an actor something and hears what came of it.
    pub(crate) fn does(&mut self, what: &str) -> String {
        self.say(what);
        self.hear()
    }
}

pub(crate) fn timed_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

enum Guard<'a> {
    Read(#[allow(dead_code, reason = "held")] ringspan::ReadGuard<'a>),
    Write(ringspan::WriteGuard<'a>),
}

fn told<G>(taken: Result<G, LockError<G>>) -> Result<(String, G), Fault> {
    match taken {
        Ok(guard) => Ok(("got it".to_owned(), guard)),
        Err(LockError::Poisoned(poisoned)) => Ok(("poisoned".to_owned(), poisoned.into_inner())),
        Err(err) => Err(err.fault().clone()),
    }
}

/// The child's side: `[tokio] read|write`, `tear` (half a write), `give`, `end`.
pub(crate) fn act(role: &Role) {
    let lock = RwLock::open(&role.name).unwrap();
    let runtime = timed_runtime();
    let mut guard: Option<Guard<'_>> = None;
    say("ready");
    loop {
        let order = hear();
        let taken = match order.as_str() {
            "read" => told(lock.blocking_read(None)).map(|(said, g)| (said, Guard::Read(g))),
            "write" => told(lock.blocking_write(None)).map(|(said, g)| (said, Guard::Write(g))),
            "tokio read" => {
                told(runtime.block_on(lock.read())).map(|(said, g)| (said, Guard::Read(g)))
            }
            "tokio write" => {
                told(runtime.block_on(lock.write())).map(|(said, g)| (said, Guard::Write(g)))
            }
            "tear" => {
                let Some(Guard::Write(guard)) = &mut guard else { panic!("not written") };
                let half = guard.len() / 2;
                guard[..half].fill(7);
                say("torn");
                continue;
            }
            "give" => {
                guard = None;
                say("given");
                continue;
            }
            "end" => return,
            other => panic!("order {other}"),
        };
        match taken {
            Ok((said, got)) => {
                guard = Some(got);
                say(said);
            }
            Err(fault) => say(fault),
        }
    }
}

// ---- small things -------------------------------------------------------------------------------

/// The fault of what must be one.
#[track_caller]
pub(crate) fn fault_of<G>(taken: Result<G, LockError<G>>) -> Fault {
    match taken {
        Err(LockError::Fault(fault)) => fault,
        Err(err) => panic!("{err}"),
        Ok(_) => panic!("it was got"),
    }
}

pub(crate) fn would_block<G>(taken: Result<G, TryLockError<G>>) -> bool {
    matches!(taken, Err(TryLockError::WouldBlock))
}

/// The guard, whether or not the bytes may be torn.
#[track_caller]
pub(crate) fn anyhow<G: Deref>(taken: Result<G, LockError<G>>) -> G {
    taken.or_else(LockError::into_guard).unwrap_or_else(|err| panic!("{err}"))
}

pub(crate) fn kind_of(opened: Result<RwLock, OpenError>) -> ringspan::FaultKind {
    opened.unwrap_err().fault().kind()
}

/// Polls until it is parked, with its look done. Turns of the scheduler come first.
pub(crate) async fn park<F: Future>(mut future: Pin<&mut F>, lock: &RwLock, before: u64) {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(_) => panic!("it was got"),
        Poll::Pending if lock.stat().unwrap().parks > before => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    })
    .await;
}

pub(crate) fn parks_of(lock: &RwLock) -> u64 {
    lock.stat().unwrap().parks
}
