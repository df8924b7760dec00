//! Kill -9 at random moments: processes read, write, wait, give up, attach and detach on one lock; again
//! and again one of them is killed, or stopped for a while, and another one takes its place. What is left
//! must go on: a reader sees whole bytes or a poisoned lock, numbers never go back, everybody gets the
//! lock, nothing is left behind.
//!
//! Sixty seconds; `RINGSPAN_SCALE` makes them more, `RINGSPAN_SEED` makes it the run of that seed (as far
//! as the scheduler is in it at all).
#![allow(clippy::print_stderr, reason = "the seed is said")]

mod common;
mod held;
mod stage;

use common::{Peer, say};
use held::*;
use ringspan::{LockError, RwLock, TryLockError};
use rustix::process::Signal;
use stage::{Random, Role, Test, role, scaled, until};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long it runs.
const SECONDS: u64 = 60;
/// Fewer kills than this in that time show nothing.
const KILLS: u64 = 300;
/// How long everybody may stand still.
const STANDSTILL: Duration = Duration::from_secs(20);
/// How often the watch looks. It counts its looks, so that a machine that stood still costs one.
const LOOK: Duration = Duration::from_millis(100);
/// Rounds of one process; then it ends by itself, in good order.
const ROUNDS: u64 = 100_000;

/// Those who are killed: two that read, two that write, on tokio and blocking, two of them attaching anew
/// all the time.
const CAST: [(&str, &str); 4] = [
    ("reader", "tokio stays"),
    ("reader", "blocking comes and goes"),
    ("writer", "tokio comes and goes"),
    ("writer", "blocking stays"),
];

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(Role { role, name, argument }) = role() else { return };
    let writes = role == "writer";
    let comes_and_goes = argument.contains("comes and goes");
    let user = User::new(argument.starts_with("tokio"));
    let mut random = Random::new(u64::from(std::process::id()));
    let mut lock = RwLock::open(&name).unwrap();
    say("ready");
    for round in 0..ROUNDS {
        user.round(&lock, writes, &mut random);
        if comes_and_goes && round % 8 == 7 {
            lock = RwLock::open(&name).unwrap();
        }
    }
    drop(lock);
    std::process::exit(0);
}

// ---- what everybody does ------------------------------------------------------------------------

/// Uses locks on tokio or blocking, and knows the last number that it saw.
struct User {
    runtime: Option<Runtime>,
    last: Cell<u64>,
}

impl User {
    fn new(on_tokio: bool) -> User {
        User { runtime: on_tokio.then(timed_runtime), last: Cell::new(0) }
    }

    /// Numbers never go back, whoever was killed.
    fn sees(&self, number: u64) {
        assert!(number >= self.last.get(), "{} after {}", number, self.last.get());
        self.last.set(number);
    }

    fn looks<G: Deref<Target = [u8]>>(&self, taken: Result<G, LockError<G>>) {
        match taken {
            Ok(guard) => self.sees(read_all(&guard)),
            Err(LockError::Poisoned(_) | LockError::Timeout(_)) => {}
            Err(err) => panic!("{err}"),
        }
    }

    /// Raises the number, or mends what a dead one left.
    fn raises<G: DerefMut<Target = [u8]>>(
        &self,
        lock: &RwLock,
        taken: Result<G, LockError<G>>,
    ) -> Option<G> {
        match taken {
            Ok(mut guard) => {
                self.sees(read_all(&guard));
                self.sees(raise(&mut guard));
                Some(guard)
            }
            Err(LockError::Poisoned(poisoned)) => {
                let mut guard = poisoned.into_inner();
                self.sees(mend(&mut guard));
                lock.clear_poison().unwrap();
                Some(guard)
            }
            Err(LockError::Timeout(_)) => None,
            Err(err) => panic!("{err}"),
        }
    }

    fn read(&self, lock: &RwLock) {
        match &self.runtime {
            Some(rt) => self.looks(rt.block_on(lock.read())),
            None => self.looks(lock.blocking_read(None)),
        }
    }

    fn write(&self, lock: &RwLock) {
        drop(match &self.runtime {
            Some(rt) => self.raises(lock, rt.block_on(lock.write())),
            None => self.raises(lock, lock.blocking_write(None)),
        });
    }

    fn impatient(&self, lock: &RwLock, writes: bool, patience: Duration) {
        match (&self.runtime, writes) {
            (Some(rt), true) => rt.block_on(async {
                if let Ok(taken) = tokio::time::timeout(patience, lock.write()).await {
                    self.raises(lock, taken);
                }
            }),
            (Some(rt), false) => rt.block_on(async {
                if let Ok(taken) = tokio::time::timeout(patience, lock.read()).await {
                    self.looks(taken);
                }
            }),
            (None, true) => drop(self.raises(lock, lock.blocking_write(patience))),
            (None, false) => self.looks(lock.blocking_read(patience)),
        }
    }

    fn round(&self, lock: &RwLock, writes: bool, random: &mut Random) {
        let patience = Duration::from_micros(random.below(400));
        match (random.below(8), writes) {
            (0..=2, true) => self.write(lock),
            (0..=2, false) => self.read(lock),
            (3 | 4, _) => self.impatient(lock, writes, patience),
            (5, true) => {
                if let Some(guard) = self.raises(lock, lock.blocking_write(None)) {
                    let guard = guard.downgrade();
                    self.sees(read_all(&guard));
                    if let Ok(mut guard) = guard.try_upgrade() {
                        self.sees(raise(&mut guard));
                    }
                }
            }
            (6, true) => match lock.try_write() {
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Poisoned(poisoned)) => {
                    self.raises(lock, Err(LockError::Poisoned(poisoned)));
                }
                taken => drop(self.raises(lock, taken.map_err(|err| panic!("{err}")))),
            },
            (5 | 6, false) => match lock.try_read() {
                Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => {}
                taken => self.looks(taken.map_err(|err| panic!("{err}"))),
            },
            // Held for so long that the others sleep.
            (_, true) => {
                let _guard = self.raises(lock, lock.blocking_write(None));
                std::thread::sleep(patience);
            }
            (_, false) => {
                let _guard = lock.blocking_read(None);
                std::thread::sleep(patience);
            }
        }
    }
}

// ---- the survivors ------------------------------------------------------------------------------

static OVER: AtomicBool = AtomicBool::new(false);

/// Reads and writes all the time, in this process; how often is counted.
fn survive(name: &str, on_tokio: bool, rounds: &AtomicU64) {
    let lock = RwLock::open(name).unwrap();
    let user = User::new(on_tokio);
    while !OVER.load(Ordering::SeqCst) {
        user.write(&lock);
        user.read(&lock);
        rounds.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(50)); // leaves some of it for the others
    }
}

/// Ends the run when a survivor has not come on for long.
fn watch(rounds: &[AtomicU64; 2]) {
    let mut last = [(0, 0); 2];
    while !OVER.load(Ordering::SeqCst) {
        std::thread::sleep(LOOK);
        for (last, rounds) in last.iter_mut().zip(rounds) {
            let now = rounds.load(Ordering::SeqCst);
            if now != last.0 {
                *last = (now, 0);
            } else if last.1 > STANDSTILL.as_millis() / LOOK.as_millis() {
                eprintln!("WATCHDOG: a survivor stands still after {now} rounds");
                std::process::abort();
            } else {
                last.1 += 1;
            }
        }
    }
}

/// What was done to the others.
#[derive(Debug, Default)]
struct Deeds {
    kills: u64,
    stops: u64,
    ends: u64,
}

fn seed() -> u64 {
    let given = std::env::var("RINGSPAN_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| coarse_now().elapsed().map_or(1, |age| u64::from(age.subsec_nanos())))
}

#[test]
fn killed_at_random_moments() {
    let length = Duration::from_secs(scaled(SECONDS));
    let test = Test::lasting("lock soak", length + 2 * STANDSTILL);
    let seed = seed();
    eprintln!("RINGSPAN_SEED={seed}");
    let lock = test.lock();
    let rounds = [AtomicU64::new(0), AtomicU64::new(0)];
    let mut deeds = Deeds::default();
    std::thread::scope(|scope| {
        let survivors = [false, true].map(|on_tokio| {
            let (name, rounds) = (&test.name, &rounds[usize::from(on_tokio)]);
            scope.spawn(move || survive(name, on_tokio, rounds))
        });
        let rounds = &rounds;
        scope.spawn(|| watch(rounds));
        let start = Instant::now();
        let mut random = Random::new(seed);
        let mut cast: Vec<Peer> = CAST.map(|(role, how)| test.spawn(role, how)).into();
        while start.elapsed() < length && survivors.iter().all(|it| !it.is_finished()) {
            deed(&test, &mut cast, &mut random, &mut deeds);
        }
        cast.clear(); // kills them all
        OVER.store(true, Ordering::SeqCst);
        survivors.into_iter().for_each(|survivor| survivor.join().unwrap());
    });
    eprintln!(
        "{deeds:?}, {rounds:?} rounds, number {:?}",
        lock.blocking_read(None).map(|g| whole(&g))
    );
    assert!(deeds.kills >= KILLS * length.as_secs() / SECONDS, "{deeds:?}");
    assert!(deeds.stops > 0);
    // The last ones that were killed.
    User::new(true).write(&lock);
    assert!(!lock.is_poisoned());
    assert_eq!(holds(&test.file()), 0, "{:?}", lock.holders());
    drop(lock);
    ringspan::remove(&test.name).unwrap();
    ringspan::gc().unwrap(); // the doors of those whose death nobody had to notice
}

/// Kills one, or stops it for a while.
fn deed(test: &Test, cast: &mut [Peer], random: &mut Random, deeds: &mut Deeds) {
    std::thread::sleep(Duration::from_micros(random.below(60_000)));
    let at = random.below(cast.len() as u64) as usize;
    let peer = &mut cast[at];
    if peer.has_ended() {
        assert!(peer.wait().success(), "{:?} failed", CAST[at]);
        deeds.ends += 1;
    } else if random.below(8) == 0 {
        peer.signal(Signal::STOP);
        until(|| state(peer.pid()) != Some('R') && state(peer.pid()) != Some('S'));
        std::thread::sleep(Duration::from_micros(random.below(40_000)));
        if random.below(2) == 0 {
            peer.signal(Signal::CONT);
            deeds.stops += 1;
            return;
        }
        peer.kill9(); // stopped as it is
        assert!(peer.was_killed(), "{:?} failed", CAST[at]);
        (deeds.stops, deeds.kills) = (deeds.stops + 1, deeds.kills + 1);
    } else {
        peer.kill9();
        assert!(peer.was_killed(), "{:?} failed", CAST[at]);
        deeds.kills += 1;
    }
    let (role, how) = CAST[at];
    *peer = test.spawn(role, how);
}
