//! Nothing in shared memory is trusted: every word of a live ring is overwritten while both ends
//! work, and while they sleep. What comes of it is an error that names the ring; never a crash, a
//! panic, a hang or an access out of bounds.
//!
//! The file is written by `write_at`, which on tmpfs is the same memory as the mappings.

mod common;
mod stage;

use common::say;
use ringspan::{Fault, FaultKind, PopError, PushError, Ring};
use stage::{Random, Test, role, runtime, until};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const CAPACITY: u64 = 4096;
/// Where things lie; `docs/format.md`.
const STATE: u64 = 256;
const SLOTS: u64 = 384;
const SLOT: u64 = 128;
const PRODUCER_LINE: u64 = 640;
const CONSUMER_LINE: u64 = 768;
const PAYLOAD: u64 = 4096;

const BRIEF: Duration = Duration::from_millis(1);

static STOP: AtomicBool = AtomicBool::new(false);

/// Does nothing unless it is a child: works on whatever it finds until it is told to stop. A crash
/// or a panic is its bad end.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    std::thread::spawn(|| {
        common::hear();
        STOP.store(true, Ordering::SeqCst);
    });
    let mut random = Random::new(3);
    let (mut done, mut errors) = (0u64, 0u64);
    say("ready");
    while !STOP.load(Ordering::SeqCst) {
        let Ok(ring) = Ring::options().open_or_create(&role.name) else {
            errors += 1; // the header is wrong just now
            continue;
        };
        let result = if role.role == "producer" {
            work_as_producer(&ring, &mut random, &mut done)
        } else {
            work_as_consumer(&ring, &mut random, &mut done)
        };
        if let Err(text) = result {
            assert!(text.contains(&role.name), "an error without the ring: {text}");
            errors += 1;
        }
    }
    say(done);
    say(errors);
    std::process::exit(0);
}

fn work_as_producer(ring: &Ring, random: &mut Random, done: &mut u64) -> Result<(), String> {
    let mut tx = ring.producer().map_err(|err| err.to_string())?;
    let rt = timed_runtime();
    for _ in 0..200 {
        let bytes = vec![1; random.below(1024) as usize];
        let pushed = match random.below(4) {
            0 => tx.try_push(&bytes).or_else(|err| match err {
                ringspan::TryPushError::Full => Ok(()),
                err => Err(err.to_string()),
            }),
            1 => match rt.block_on(async { tokio::time::timeout(BRIEF, tx.push(&bytes)).await }) {
                Ok(pushed) => pushed.map_err(|err| err.to_string()),
                Err(_) => Ok(()),
            },
            2 => match tx.blocking_push_many([&bytes, &bytes, &bytes], BRIEF) {
                Err(PushError::Timeout(_)) | Ok(_) => Ok(()),
                Err(err) => Err(err.to_string()),
            },
            _ => match tx.blocking_push(&bytes, BRIEF) {
                Err(PushError::Timeout(_)) => Ok(()),
                pushed => pushed.map_err(|err| err.to_string()),
            },
        };
        pushed?;
        *done += 1;
    }
    Ok(())
}

fn work_as_consumer(ring: &Ring, random: &mut Random, done: &mut u64) -> Result<(), String> {
    let mut rx = ring.consumer().map_err(|err| err.to_string())?;
    let rt = timed_runtime();
    let mut sum = 0u64;
    for _ in 0..200 {
        let popped = match random.below(3) {
            0 => rx.blocking_pop_many(8, BRIEF).map(|batch| {
                sum += batch
                    .iter()
                    .flat_map(|b| b.iter())
                    .flatten()
                    .map(|&b| u64::from(b))
                    .sum::<u64>();
            }),
            1 => match rt.block_on(async { tokio::time::timeout(BRIEF, rx.pop()).await }) {
                Ok(popped) => popped.map(|message| {
                    let Some(message) = message else { return };
                    let _ = (message.to_vec(), message.tag(), message.value::<Vec<u8>>());
                }),
                Err(_) => Ok(()),
            },
            _ => rx.blocking_pop(BRIEF).map(|message| {
                sum += message.iter().flat_map(|m| m.iter()).map(|&b| u64::from(b)).sum::<u64>();
            }),
        };
        match popped {
            Err(PopError::Timeout(_)) => {}
            other => other.map_err(|err| err.to_string())?,
        }
        *done += 1;
    }
    std::hint::black_box(sum);
    Ok(())
}

fn timed_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One piece of sabotage.
fn scribble(file: &File, random: &mut Random) {
    let mut noise = [0; 64];
    random.fill(&mut noise);
    let word = |at: u64, random: &mut Random| {
        let mut old = [0; 8];
        file.read_at(&mut old, at).unwrap();
        let old = u64::from_le_bytes(old);
        let new = match random.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => old.wrapping_add(8),
            3 => old.wrapping_sub(random.below(2 * CAPACITY)),
            4 => old ^ (1 << random.below(64)),
            _ => random.next(),
        };
        file.write_at(&new.to_le_bytes(), at).unwrap();
    };
    match random.below(8) {
        0 => {
            let at = PRODUCER_LINE + 8 * random.below(3);
            word(at, random);
        }
        1 => {
            let at = CONSUMER_LINE + 8 * random.below(3);
            word(at, random);
        }
        2 => {
            let at = SLOTS + SLOT * random.below(2) + 8 * random.below(7);
            word(at, random);
        }
        3 => {
            let at = STATE + 8 * random.below(2);
            word(at, random);
        }
        4 => {
            let mut payload = vec![0; CAPACITY as usize];
            random.fill(&mut payload);
            file.write_at(&payload, PAYLOAD).unwrap();
        }
        5 => drop(file.write_at(&noise[..8], 8 * random.below(SLOTS / 8)).unwrap()),
        _ => {
            // Record headers: likely ones, at any place.
            for _ in 0..16 {
                let header = random.below(5000) | random.below(4) << 40 | random.below(6) << 32;
                let at = PAYLOAD + 8 * random.below(CAPACITY / 8);
                file.write_at(&header.to_le_bytes(), at).unwrap();
            }
        }
    }
}

#[test]
fn garbage_while_both_ends_work() {
    for seed in 1..=3 {
        let test = Test::new(&format!("garbage, seed {seed}"));
        let ring = test.ring(CAPACITY);
        let mut producer = test.spawn("producer", "");
        let mut consumer = test.spawn("consumer", "");
        producer.expect("ready");
        consumer.expect("ready");
        let file = File::options().read(true).write(true).open(test.path()).unwrap();
        // As it was at first: the header, free slots, an empty ring.
        let mut whole = vec![0; PAYLOAD as usize];
        file.read_at(&mut whole[..SLOTS as usize], 0).unwrap();
        let mut random = Random::new(seed);
        for step in 0..1500 {
            scribble(&file, &mut random);
            if step % 4 == 0 {
                std::thread::sleep(Duration::from_micros(random.below(500)));
            }
            if step % 20 == 0 {
                // Mended from time to time, so that work goes on and is disturbed anew.
                file.write_at(&whole, 0).unwrap();
                std::thread::sleep(3 * BRIEF);
            }
        }
        let (mut work, mut errors) = (Vec::new(), Vec::new());
        for mut child in [producer, consumer] {
            child.say("stop");
            work.push(child.hear().parse::<u64>().unwrap());
            errors.push(child.hear().parse::<u64>().unwrap());
            child.finish();
        }
        assert!(work.iter().all(|&n| n > 0), "{work:?}");
        assert!(errors.iter().all(|&n| n > 0), "{errors:?}");
        drop(ring);
        test.sweep_doors();
    }
}

fn names(fault: &Fault, test: &Test, kind: FaultKind) {
    assert_eq!(fault.kind(), kind, "{fault}");
    assert!(fault.to_string().contains(&test.name), "{fault}");
}

#[test]
fn wrong_indices_are_damage_to_both_ends() {
    for (line, word) in [(PRODUCER_LINE, 0), (CONSUMER_LINE, 0)] {
        for garbage in [1, CAPACITY + 24, u64::MAX - 7, 1 << 63] {
            let test = Test::new("wrong indices");
            let ring = test.ring(CAPACITY);
            let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
            tx.try_push(b"x").unwrap();
            drop(rx.try_pop().unwrap());
            let file = File::options().write(true).open(test.path()).unwrap();
            file.write_at(&u64::to_le_bytes(garbage), line + word).unwrap();
            if line == PRODUCER_LINE {
                let Err(PopError::Fault(fault)) = rx.blocking_pop(None).map(drop) else { panic!() };
                names(&fault, &test, FaultKind::Damaged);
            } else {
                let err = loop {
                    if let Err(err) = tx.blocking_push(&[0; 100], None) {
                        break err;
                    }
                };
                let PushError::Fault(fault) = err else { panic!("{err}") };
                names(&fault, &test, FaultKind::Damaged);
            }
            drop((tx, rx));
            // The next owner of a role looks, too.
            file.write_at(&u64::to_le_bytes(3), PRODUCER_LINE).unwrap();
            names(ring.producer().unwrap_err().fault(), &test, FaultKind::Damaged);
            names(ring.consumer().unwrap_err().fault(), &test, FaultKind::Damaged);
        }
    }
}

/// The tag of a sleeper is replaced: its peer cannot reach it and says so, instead of sleeping or
/// calling it dead; the sleeper wakes when the peer goes.
#[test]
fn a_tag_replaced_under_a_sleeper() {
    for on_tokio in [false, true] {
        let test = Test::new("replaced tag");
        let ring = test.ring(CAPACITY);
        let mut tx = ring.producer().unwrap();
        let mut rx = ring.consumer().unwrap();
        tx.try_push(b"x").unwrap();
        drop(rx.try_pop().unwrap());
        let asleep = std::thread::spawn(move || match on_tokio {
            true => runtime().block_on(rx.pop_owned()).map(|_| ()),
            false => rx.blocking_pop(None).map(|_| ()),
        });
        until(|| ring.stat().consumer_parked);
        let file = File::options().read(true).write(true).open(test.path()).unwrap();
        let at = SLOTS + SLOT;
        let mut tag = [0; 8];
        file.read_at(&mut tag, at).unwrap();
        file.write_at(&0x1234_5678_9abc_de00u64.to_le_bytes(), at).unwrap();
        for _ in 0..3 {
            let Err(PushError::Fault(fault)) = tx.blocking_push(b"y", None) else { panic!() };
            names(&fault, &test, FaultKind::PeerUnreachable);
        }
        let err = ring.consumer().unwrap_err();
        names(err.fault(), &test, FaultKind::PeerUnreachable);
        file.write_at(&tag, at).unwrap();
        tx.blocking_push(b"y", None).unwrap();
        asleep.join().unwrap().unwrap();
    }
}

/// Every byte of the header, one after the other, while the other side runs.
#[test]
fn every_header_byte() {
    let test = Test::new("every header byte");
    let ring = test.ring(CAPACITY);
    let file = File::options().read(true).write(true).open(test.path()).unwrap();
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let passed = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let mut refused = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let _ = tx.try_push(b"beat");
                let _ = rx.try_pop().map(drop);
                passed.fetch_add(1, Ordering::SeqCst);
            }
        });
        while passed.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now(); // else all may be over before it begins
        }
        let mut random = Random::new(9);
        for at in 0..STATE {
            let mut old = [0];
            file.read_at(&mut old, at).unwrap();
            let new = [old[0] ^ (1 + random.below(255) as u8)];
            file.write_at(&new, at).unwrap();
            let err = Ring::options().open(&test.name).unwrap_err();
            assert!(err.to_string().contains(&test.name), "byte {at}: {err}");
            let kind = err.fault().kind();
            assert!(matches!(kind, FaultKind::Damaged | FaultKind::Mismatch), "byte {at}: {err}");
            refused += 1;
            file.write_at(&old, at).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(refused, STATE);
    assert!(passed.into_inner() > 0);
    Ring::options().open(&test.name).unwrap();
}
