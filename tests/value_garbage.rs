//! Nothing that stands in a value's memory is trusted: words of it are overwritten by chance while
//! processes read, set and wait. What comes of it is a value or an error that names the object; never a
//! crash, a panic or a hang. `value_hostile.rs` does it by choice.
//!
//! The file is written by `write_at`, which on tmpfs is the same memory as the mappings.

mod common;
mod stage;

use common::{hear, say};
use ringspan::{ChangedError, Fault, SetError, TryGetError, TrySetError, Value};
use stage::{Random, Test, role, scaled};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where things lie; `docs/format.md`.
const TOTAL: u64 = 264;
const PARKED: u64 = 272;
const SLOTS: u64 = 384;
const LOCK: u64 = 6528;
const SEATS: u64 = 6656;
const VERSION: u64 = 12800;
const BUFFERS: u64 = 12928;
const PAYLOAD: u64 = 16384;

const BRIEF: Duration = Duration::from_millis(1);

static STOP: AtomicBool = AtomicBool::new(false);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Does nothing unless it is a child. A crash or a panic is its bad end.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    works(&role.name, role.argument.parse().unwrap());
    std::process::exit(0);
}

/// Works on whatever it finds until it is told to stop.
fn works(name: &str, seed: u64) {
    std::thread::spawn(|| {
        hear();
        STOP.store(true, Ordering::SeqCst);
    });
    let mut random = Random::new(seed);
    let (mut done, mut errors) = (0u64, 0u64);
    say("ready");
    while !STOP.load(Ordering::SeqCst) {
        let Ok(value) = Value::<BTreeMap<String, u64>>::open_or_create(name) else {
            errors += 1; // no slot is free, or so it seems
            continue;
        };
        if let Err(text) = work(&value, &mut random, &mut done) {
            assert!(text.contains(name), "an error without the value: {text}");
            errors += 1;
        }
    }
    say(done);
    say(errors);
}

type Map = BTreeMap<String, u64>;

fn work(value: &Value<Map>, random: &mut Random, done: &mut u64) -> Result<(), String> {
    let rt = runtime();
    let fault = |err: Fault| err.to_string();
    let set = |done: Result<u64, SetError>| match done {
        Ok(_) | Err(SetError::Timeout(_)) => Ok(()),
        Err(err) => Err(err.to_string()),
    };
    let waited = |done: Result<(), ChangedError>| match done {
        Ok(()) | Err(ChangedError::Timeout(_)) => Ok(()),
        Err(err) => Err(err.to_string()),
    };
    for _ in 0..100 {
        let map: Map = (0..random.below(400)).map(|at| (at.to_string(), random.next())).collect();
        match random.below(9) {
            0 => value.get().map(drop).map_err(fault)?,
            1 => {
                if let Err(TryGetError::Fault(err)) = value.try_get() {
                    return Err(err.to_string());
                }
            }
            2 => value.get_bytes().map(drop).map_err(fault)?,
            3 => {
                if let Err(TrySetError::Fault(err)) =
                    value.try_set_bytes(&vec![7; random.below(20_000) as usize])
                {
                    return Err(err.to_string());
                }
            }
            4 => set(value.blocking_set(&map, BRIEF))?,
            5 => set(value.blocking_update(|old| old.unwrap_or(map), BRIEF).map(|_| 0))?,
            6 => {
                if let Ok(done) =
                    rt.block_on(async { tokio::time::timeout(BRIEF, value.set(&map)).await })
                {
                    set(done)?
                }
            }
            7 => waited(value.watch().blocking_next(BRIEF).map(drop))?,
            _ => {
                if let Ok(done) =
                    rt.block_on(async { tokio::time::timeout(BRIEF, value.changed(None)).await })
                {
                    waited(done.map(drop))?
                }
            }
        }
        *done += 1;
    }
    Ok(())
}

fn word_at(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    u64::from_le_bytes(bytes)
}

fn put(file: &File, at: u64, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at).unwrap();
}

/// One piece of sabotage.
fn scribble(file: &File, random: &mut Random) {
    let at = match random.below(10) {
        0 => LOCK,
        1 => SEATS + 128 * random.below(48) + 8 * random.below(3),
        2 => VERSION,
        3..=5 => BUFFERS + 128 * random.below(2) + 8 * random.below(4),
        6 => SLOTS + 128 * random.below(6) + 8 * random.below(7),
        7 => PARKED,
        8 => TOTAL,
        _ => PAYLOAD + 8 * random.below(1024),
    };
    let old = word_at(file, at);
    let page = 4096 * random.below(16);
    put(
        file,
        at,
        match random.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => old.wrapping_add(4096),
            3 => old.wrapping_sub(random.below(8192)),
            4 => old ^ (1 << random.below(64)),
            5 | 6 => page,
            _ => random.next(),
        },
    );
}

#[test]
fn garbage_while_others_work() {
    for seed in 1..=scaled(3) {
        let test = Test::new(&format!("garbage, seed {seed}"));
        let value = Value::<Map>::create(&test.name).unwrap();
        let mut children: Vec<_> =
            (0..2).map(|at| test.spawn("works", &(seed * 10 + at).to_string())).collect();
        children.iter_mut().for_each(|child| child.expect("ready"));
        let file = File::options().read(true).write(true).open(test.path()).unwrap();
        // As it was at first: free slots, a free lock, never set.
        let mut whole = vec![0; PAYLOAD as usize];
        file.read_exact_at(&mut whole, 0).unwrap();
        whole[SLOTS as usize..VERSION as usize].fill(0);
        whole[VERSION as usize..BUFFERS as usize].fill(0);
        let mut random = Random::new(seed);
        for step in 0..1500 {
            scribble(&file, &mut random);
            if step % 4 == 0 {
                std::thread::sleep(Duration::from_micros(random.below(500)));
            }
            if step % 20 == 0 {
                // Mended from time to time, so that work goes on and is disturbed anew.
                file.write_all_at(&whole, 0).unwrap();
                std::thread::sleep(3 * BRIEF);
            }
        }
        for mut child in children {
            child.say("stop");
            let [done, errors] = [(); 2].map(|()| child.hear().parse::<u64>().unwrap());
            assert!(done > 0 && errors > 0, "{done} done, {errors} errors");
            child.finish();
        }
        drop(value);
        test.sweep_doors();
    }
}
