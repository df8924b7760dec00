//! Nothing in shared memory is trusted: the words of a lock are overwritten while it is held and waited
//! for, and while nobody has it. What comes of it is the lock or an error that names it; never a crash, a
//! hang, or two at once in one handle.
//!
//! The file is written by `write_at`, which on tmpfs is the same memory as the mappings.

mod common;
mod held;
mod stage;

use common::{hear, say};
use held::*;
use ringspan::{FaultKind, LockError, LockMode, RwLock, TryLockError};
use stage::{Random, Role, Test, role, runtime, scaled, until};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

const BRIEF: Duration = Duration::from_millis(1);
const WRITTEN: u64 = 1 << 48;
const OWNERS: u64 = WRITTEN - 1;
const STATE: u64 = 256;

static STOP: AtomicBool = AtomicBool::new(false);

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    match role.role.as_str() {
        "works" => works(&role),
        _ => act(&role),
    }
    std::process::exit(0);
}

// ---- sabotage -----------------------------------------------------------------------------------

/// A word that a lock may find in the place of its own.
fn garbage(old: u64, random: &mut Random) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => old ^ 1 << random.below(51),
        3 => WRITTEN,
        4 => old | WRITTEN,
        5 => old & !OWNERS | random.next() & 0xff,
        6 => 1 << random.below(48) | WRITTEN,
        _ => random.next(),
    }
}

/// One piece of sabotage anywhere behind the constants of the header, but for the payload.
fn scribble(file: &File, random: &mut Random) {
    let at = match random.below(5) {
        0 | 1 => WORD,
        2 => PARKED,
        3 => SLOTS + SLOT * random.below(6) + 8 * random.below(7),
        _ => SEAT + 128 * random.below(6) + 8 * random.below(3),
    };
    store(file, at, garbage(load(file, at), random));
}

fn mode(random: &mut Random) -> LockMode {
    if random.below(2) == 0 { LockMode::Read } else { LockMode::Write }
}

/// Waits for the lock for as long as it takes, has it for a moment, and says what it was told else.
fn wait(lock: &RwLock, mode: LockMode, on_tokio: bool) -> Result<(), String> {
    let rt = runtime();
    match (mode, on_tokio) {
        (LockMode::Read, false) => said(lock.blocking_read(None)),
        (LockMode::Write, false) => said(lock.blocking_write(None)),
        (LockMode::Read, true) => said(rt.block_on(lock.read())),
        (LockMode::Write, true) => said(rt.block_on(lock.write())),
    }
}

fn said<G>(taken: Result<G, LockError<G>>) -> Result<(), String> {
    match taken {
        Ok(_) | Err(LockError::Poisoned(_)) => Ok(()),
        Err(err) => Err(err.to_string()),
    }
}

#[track_caller]
fn names_it(said: Result<(), String>, name: &str) -> bool {
    said.inspect_err(|text| assert!(text.contains(name), "an error without the lock: {text}"))
        .is_ok()
}

// ---- over waiters -------------------------------------------------------------------------------

/// What is overwritten under those who wait.
#[derive(Debug, Clone, Copy)]
enum Target {
    Word(u64),
    Any,
}

/// How the holder goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// It gives the lock back, and stays attached.
    Gives,
    /// It gives the lock back and goes.
    Leaves,
    /// It is killed.
    Dies,
}

/// One holds the lock; two threads with handles of their own, one with the holder's (if that is a thread)
/// and a process sleep for it. Words are overwritten, the holder goes, and all of them must return.
fn over_waiters(held: LockMode, end: End, target: Target, seed: u64) -> u32 {
    let what = format!("{held:?} {end:?} {target:?} seed {seed}");
    let test = Test::lasting(&what, Duration::from_secs(20));
    let mut random = Random::new(seed);
    let holder = test.lock();
    let file = test.file();
    let mut actor = test.actor();
    let order = if held == LockMode::Read { "read" } else { "write" };
    let mut dying = (end == End::Dies).then(|| {
        let mut dying = test.actor();
        assert_eq!(dying.does(order), "got it");
        dying
    });
    let (mut read, mut written) = (None, None);
    match held {
        _ if dying.is_some() => {}
        LockMode::Read => read = Some(runtime().block_on(holder.read_owned()).unwrap()),
        LockMode::Write => written = Some(runtime().block_on(holder.write_owned()).unwrap()),
    }
    // Readers wait only beside a writer.
    let wants = |random: &mut Random| match held {
        LockMode::Read => LockMode::Write,
        LockMode::Write => mode(random),
    };
    let got = std::thread::scope(|scope| {
        let mut waiters = Vec::new();
        for n in 0..3u32 {
            let mode = wants(&mut random);
            let lock = match n {
                0 if end == End::Gives => holder.clone(),
                _ => test.handle(),
            };
            let before = parks_of(&lock);
            let waits = lock.clone();
            waiters.push(scope.spawn(move || wait(&waits, mode, n % 2 == 0)));
            until(|| parks_of(&lock) > before);
        }
        let wanted = if wants(&mut random) == LockMode::Read { "tokio read" } else { "write" };
        actor.say(wanted);
        until(|| parks(&file, actor.pid()));
        actor.say("end"); // when it has returned
        match target {
            Target::Word(word) => store(&file, WORD, word),
            Target::Any => (0..1 + random.below(3)).for_each(|_| scribble(&file, &mut random)),
        }
        drop((read.take(), written.take()));
        let stays = (end == End::Gives).then_some(holder); // else it is gone
        if stays.is_none() {
            dying.iter_mut().for_each(common::Peer::kill9);
        }
        let got = waiters
            .into_iter()
            .map(|waiter| u32::from(names_it(waiter.join().unwrap(), &test.name)))
            .sum();
        let said = actor.hear();
        assert!(said == "got it" || said == "poisoned" || said.contains(&test.name), "{said}");
        actor.finish();
        got
    });
    test.sweep_doors();
    got
}

/// Words that the one who gives the lock back can tell to be none of its lock's.
#[test]
fn a_wrong_word_is_cried_out_by_who_gives_it_back() {
    // The holder is in slot 0, the process in 1, the others in 2 and 3; 9 and 40 are free.
    let ours = 1;
    for word in [0, WRITTEN, 2, 2 | WRITTEN, 1 << 40, 1 << 9 | WRITTEN, u64::MAX, AWAITED] {
        over_waiters(LockMode::Write, End::Gives, Target::Word(word), word % 97);
        over_waiters(LockMode::Read, End::Gives, Target::Word(word), word % 97);
    }
    for word in [ours, ours | AWAITED] {
        over_waiters(LockMode::Write, End::Gives, Target::Word(word), word % 97);
    }
    // Who reads is no witness of other readers: but they must be somebody, and not asleep for the lock.
    for others in [2, 1 << 40, 1 << 9 | 1 << 40, 1 << 40 | 2, OWNERS & !ours] {
        over_waiters(LockMode::Read, End::Gives, Target::Word(ours | others), others % 97);
    }
    for others in [2, 1 << 2, 1 << 40, OWNERS & !ours, 6] {
        let word = ours | others | WRITTEN;
        over_waiters(LockMode::Write, End::Gives, Target::Word(word), others % 97);
        over_waiters(LockMode::Read, End::Gives, Target::Word(word), others % 97);
    }
}

#[test]
fn garbage_in_the_word_under_waiters() {
    let mut random = Random::new(5);
    let mut got = 0;
    for seed in 0..scaled(30) {
        let old = if seed % 2 == 0 { 1 | WRITTEN } else { 1 };
        let held = if seed % 2 == 0 { LockMode::Write } else { LockMode::Read };
        let end = if seed % 3 == 0 { End::Dies } else { End::Leaves };
        got += over_waiters(held, end, Target::Word(garbage(old, &mut random)), seed);
    }
    assert!(got > 0);
}

#[test]
fn garbage_anywhere_under_waiters() {
    let mut got = 0;
    for seed in 100..100 + scaled(60) {
        let held = if seed % 2 == 0 { LockMode::Write } else { LockMode::Read };
        let end = if seed % 3 == 0 { End::Dies } else { End::Leaves };
        got += over_waiters(held, end, Target::Any, seed);
    }
    assert!(got > 0);
}

// ---- over everybody -----------------------------------------------------------------------------

/// The child's side: takes the lock in every way, never for long, on whatever it finds.
fn works(role: &Role) {
    std::thread::spawn(|| {
        hear();
        STOP.store(true, Ordering::SeqCst);
    });
    let mut random = Random::new(u64::from(std::process::id()));
    let rt = timed_runtime();
    let (mut done, mut errors) = (0u64, 0u64);
    say("ready");
    while !STOP.load(Ordering::SeqCst) {
        let said = match RwLock::open(&role.name) {
            Ok(lock) => (0..100).try_for_each(|_| {
                done += 1;
                once(&lock, &rt, &mut random)
            }),
            Err(err) => Err(err.to_string()),
        };
        errors += u64::from(!names_it(said, &role.name));
    }
    say(done);
    say(errors);
}

/// One attempt, with something done under the lock.
fn once(lock: &RwLock, rt: &tokio::runtime::Runtime, random: &mut Random) -> Result<(), String> {
    let waited = |taken: Result<(), LockError<()>>| match taken {
        Err(LockError::Timeout(_)) => Ok(()),
        taken => taken.map_err(|err| err.to_string()),
    };
    fn unpoisoned<G>(
        taken: Result<G, LockError<G>>,
        then: impl FnOnce(G),
    ) -> Result<(), LockError<()>> {
        match taken.or_else(LockError::into_guard) {
            Ok(guard) => {
                then(guard);
                Ok(())
            }
            Err(LockError::Timeout(fault)) => Err(LockError::Timeout(fault)),
            Err(err) => Err(LockError::Fault(err.fault().clone())),
        }
    }
    fn tried<G>(taken: Result<G, TryLockError<G>>) -> Result<(), String> {
        match taken {
            Ok(_) | Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => Ok(()),
            Err(err) => Err(err.to_string()),
        }
    }
    let _ = (lock.holders(), lock.is_poisoned(), lock.stat().map_err(|err| err.to_string())?);
    match random.below(7) {
        0 => tried(lock.try_read()),
        1 => tried(lock.try_write()),
        2 => waited(unpoisoned(lock.blocking_read(BRIEF), |guard| assert_eq!(guard.len(), LEN))),
        3 => waited(unpoisoned(lock.blocking_write(BRIEF), |mut guard| guard.fill(1))),
        4 => waited(unpoisoned(lock.blocking_write(BRIEF), |guard| {
            drop(guard.downgrade().try_upgrade().map(|mut guard| guard.fill(2)));
            let _ = lock.clear_poison();
        })),
        5 => rt.block_on(async {
            let taken = tokio::time::timeout(BRIEF, lock.read()).await;
            taken.map_or(Ok(()), |taken| waited(unpoisoned(taken, drop)))
        }),
        _ => rt.block_on(async {
            let taken = tokio::time::timeout(BRIEF, lock.write()).await;
            taken.map_or(Ok(()), |taken| waited(unpoisoned(taken, drop)))
        }),
    }
}

#[test]
fn garbage_while_everybody_works() {
    for seed in 1..=scaled(2) {
        let test = Test::new(&format!("garbage, seed {seed}"));
        drop(test.lock());
        let file = test.file();
        let mut children = [test.spawn("works", ""), test.spawn("works", "")];
        children.iter_mut().for_each(|child| child.expect("ready"));
        // As it was at first: the header, free slots, a free lock.
        let mut whole = vec![0; PAYLOAD as usize];
        file.read_exact_at(&mut whole[..SLOTS as usize], 0).unwrap();
        let mut random = Random::new(seed);
        for step in 0..1500 {
            if random.below(8) == 0 {
                let at = 8 * random.below(SLOTS / 8);
                store(&file, at, random.next());
            }
            scribble(&file, &mut random);
            if step % 4 == 0 {
                std::thread::sleep(Duration::from_micros(random.below(500)));
            }
            if step % 10 == 0 {
                // Mended from time to time, so that work goes on and is disturbed anew.
                file.write_all_at(&whole[..(SEAT + 48 * 128) as usize], 0).unwrap();
                std::thread::sleep(3 * BRIEF);
            }
        }
        for mut child in children {
            child.say("stop");
            let (done, errors) = (child.hear(), child.hear());
            assert!(done != "0" && errors != "0", "{done} done, {errors} errors");
            child.finish();
        }
        test.sweep_doors();
    }
}

/// Threads of one handle, while the word is overwritten without end: the handle's own memory keeps them
/// apart.
#[test]
fn one_handle_keeps_its_own_apart() {
    let test = Test::new("own apart");
    let lock = test.lock();
    let file = test.file();
    let (inside, entered, stop) = (AtomicI64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (lock, inside, entered, stop) = (&lock, &inside, &entered, &stop);
            scope.spawn(move || {
                let mut random = Random::new(thread);
                // Readers count up, a writer counts far down.
                let enter = |step: i64| {
                    let before = inside.fetch_add(step, Ordering::SeqCst);
                    let alone = if step > 0 { before >= 0 } else { before == 0 };
                    assert!(alone, "{step} beside {before}");
                    std::thread::yield_now();
                    inside.fetch_sub(step, Ordering::SeqCst);
                    entered.fetch_add(1, Ordering::SeqCst);
                };
                while !stop.load(Ordering::SeqCst) {
                    match random.below(4) {
                        0 => drop(lock.try_read().map(|_guard| enter(1))),
                        1 => drop(lock.try_write().map(|_guard| enter(-1000))),
                        2 => {
                            let taken = lock.blocking_read(BRIEF).or_else(LockError::into_guard);
                            drop(taken.map(|_guard| enter(1)));
                        }
                        _ => {
                            let taken = lock.blocking_write(BRIEF).or_else(LockError::into_guard);
                            drop(taken.map(|_guard| enter(-1000)));
                        }
                    }
                }
            });
        }
        let mut random = Random::new(11);
        for _ in 0..scaled(4000) {
            let old = load(&file, WORD);
            store(&file, WORD, garbage(old, &mut random));
            std::thread::sleep(Duration::from_micros(random.below(100)));
            store(&file, WORD, 0);
            std::thread::sleep(Duration::from_micros(random.below(100)));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(entered.into_inner() > 100);
}

// ---- over nobody --------------------------------------------------------------------------------

#[test]
fn garbage_while_nobody_has_it() {
    let (mut opened, mut refused) = (0, 0);
    let rt = timed_runtime();
    for seed in 0..scaled(150) {
        let test = Test::new(&format!("garbage for nobody, seed {seed}"));
        drop(test.lock());
        let file = test.file();
        let mut random = Random::new(seed);
        if seed % 10 == 9 {
            let mut noise = vec![0; (PAYLOAD - PARKED) as usize];
            random.fill(&mut noise);
            file.write_all_at(&noise, PARKED).unwrap();
        } else {
            (0..1 + random.below(4)).for_each(|_| scribble(&file, &mut random));
        }
        match RwLock::open(&test.name) {
            Ok(lock) => {
                opened += 1;
                for _ in 0..10 {
                    refused += u64::from(!names_it(once(&lock, &rt, &mut random), &test.name));
                }
            }
            Err(err) => {
                assert!(err.to_string().contains(&test.name), "{err}");
                refused += 1;
            }
        }
        test.sweep_doors();
    }
    assert!(opened > 0 && refused > 0);
}

#[test]
fn garbage_in_the_payload_changes_nothing() {
    let test = Test::new("garbage in the payload");
    let lock = test.lock();
    let other = test.handle();
    let file = test.file();
    let mut random = Random::new(3);
    let mut noise = [0; LEN];
    for _ in 0..50 {
        random.fill(&mut noise);
        let guard = lock.blocking_write(None).unwrap();
        std::thread::scope(|scope| {
            let before = parks_of(&other);
            let waiter = scope.spawn(|| other.blocking_read(None).unwrap().to_vec());
            until(|| parks_of(&other) > before);
            file.write_all_at(&noise, PAYLOAD).unwrap();
            drop(guard);
            assert_eq!(waiter.join().unwrap(), noise);
        });
        drop(lock.try_write().unwrap());
    }
    assert!(!lock.is_poisoned());
}

/// Every byte of the header's constants, while the lock is in use.
#[test]
fn every_header_byte() {
    let test = Test::new("every header byte of a lock");
    let lock = test.lock();
    let file = test.file();
    let mut random = Random::new(9);
    for at in 0..STATE {
        let mut old = [0];
        file.read_exact_at(&mut old, at).unwrap();
        file.write_all_at(&[old[0] ^ (1 + random.below(255) as u8)], at).unwrap();
        let err = RwLock::open(&test.name).unwrap_err();
        let kind = err.fault().kind();
        assert!(err.to_string().contains(&test.name), "byte {at}: {err}");
        assert!(matches!(kind, FaultKind::Damaged | FaultKind::Mismatch), "byte {at}: {err}");
        raise(&mut lock.try_write().unwrap());
        file.write_all_at(&old, at).unwrap();
    }
    assert_eq!(read_all(&test.handle().try_read().unwrap()), STATE);
}
