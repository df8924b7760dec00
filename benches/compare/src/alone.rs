//! A lock inside one process: what taking and giving it costs when nobody is in the way, and how
//! many reads four threads get from one.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cells::{Cell, Pin, Side, Subject, cell};
use crate::link::{Place, Res};
use crate::measure::Outcome;
use crate::memory::per_call;

/// A reader-writer lock over some bytes.
pub trait ReadWrite: Sync + Sized {
    /// Makes it.
    fn new(place: &Place) -> Res<Self>;
    /// Takes it for reading, reads a byte, gives it back.
    fn read(&self) -> Res<u8>;
    /// Takes it for writing, changes a byte, gives it back.
    fn write(&self) -> Res<()>;
}

const THREADS: u64 = 4;

/// The three cells of such a lock.
pub fn alone<L: ReadWrite + 'static>(cells: &mut Vec<Cell>, who: Subject) {
    let run = |_: &Cell, place: &Place, side: &Side<'_>| {
        let lock = L::new(place)?;
        let value = per_call(seconds(side)?, 1024, || {
            black_box(lock.read()?);
            Ok(())
        })?;
        Ok(Outcome { value, ..Outcome::default() })
    };
    cells.push(cell("lock-read", 64, Pin::One, who, Box::new(run)));
    let run = |_: &Cell, place: &Place, side: &Side<'_>| {
        let lock = L::new(place)?;
        let value = per_call(seconds(side)?, 1024, || lock.write())?;
        Ok(Outcome { value, ..Outcome::default() })
    };
    cells.push(cell("lock-write", 64, Pin::One, who, Box::new(run)));
    let run = |_: &Cell, place: &Place, side: &Side<'_>| threads(&L::new(place)?, seconds(side)?);
    cells.push(cell("lock-threads", 64, Pin::Any, who, Box::new(run)));
}

/// For how long, in a cell of one process.
pub fn seconds(side: &Side<'_>) -> Res<f64> {
    match side {
        Side::Parent(seconds) => Ok(*seconds),
        Side::Child(_) => Err("this cell has one process".into()),
    }
}

/// Reads per second of four threads together, wherever the scheduler puts them.
fn threads<L: ReadWrite>(lock: &L, seconds: f64) -> Res<Outcome> {
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let counts = std::thread::scope(|scope| {
        let work = || {
            let mut n = 0_u64;
            // Relaxed: only says that it is over.
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    black_box(lock.read().map_err(|e| e.to_string())?);
                }
                n += 64;
            }
            Ok::<u64, String>(n)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
        let ended = threads.into_iter().map(|thread| thread.join().map_err(|_| "a panic"));
        ended.collect::<Result<Vec<_>, _>>()
    })?;
    let spent = begin.elapsed().as_secs_f64();
    let counts = counts.into_iter().collect::<Result<Vec<u64>, String>>()?;
    let total = counts.iter().sum::<u64>() as f64;
    let least = counts.iter().copied().min().unwrap_or_default() as f64;
    Ok(Outcome { value: total / spent, more: vec![("share", least / total)] })
}
