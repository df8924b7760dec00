//! A lock between two processes: turns as fast as both can take them, and the wake of a waiter.
//!
//! The lock guards 64 bytes. Each turn checks that they are whole and counts in them, so a lock that
//! lets two in at once fails instead of being fast.

use std::future::Future;
use std::time::Duration;

use crate::board::{Board, Word};
use crate::cells::{BOTH, Cell, Side, Subject, cell};
use crate::link::{Place, Res, Runtime, drive};
use crate::measure::Outcome;
use crate::os;
use crate::tally::Tally;

/// Bytes under the lock.
pub const GUARDED: usize = 64;

/// How long the holder sleeps so that the other one parks: longer than anybody spins.
const HOLD: Duration = Duration::from_micros(400);

/// A lock that both processes name, over [`GUARDED`] zero bytes.
pub trait Lock: Sized {
    /// What drives it.
    const RUNTIME: Runtime = Runtime::None;

    /// Makes it in the parent, before the child is started, or opens it in the child.
    fn open(place: &Place, parent: bool) -> Res<Self>;

    /// Waits for the lock, works on the bytes alone, gives it back.
    fn with<R>(&mut self, work: impl FnOnce(&mut [u8]) -> R) -> impl Future<Output = Res<R>>;
}

/// The two cells of a lock, each with both pinnings.
pub fn turns<L: Lock + 'static>(cells: &mut Vec<Cell>, who: Subject) {
    for pin in BOTH {
        let run = |_: &Cell, place: &Place, side: &Side<'_>| contend::<L>(place, side);
        cells.push(cell("handover", GUARDED, pin, who, Box::new(run)));
        let run = |_: &Cell, place: &Place, side: &Side<'_>| wake::<L>(place, side);
        cells.push(cell("handover-wake", GUARDED, pin, who, Box::new(run)));
    }
}

/// Both sides come to the lock, and begin.
fn begin<L: Lock>(place: &Place, side: &Side<'_>) -> Res<(Board, L)> {
    if let Side::Child(_) = side {
        let board = Board::open(place, false)?;
        let lock = L::open(place, false)?;
        board.set(Word::Ready, 1);
        board.wait(Word::Go, 1)?;
        return Ok((board, lock));
    }
    let board = Board::open(place, true)?;
    let lock = L::open(place, true)?;
    place.start(&[])?;
    board.wait(Word::Ready, 1)?;
    board.set(Word::Go, 1);
    Ok((board, lock))
}

/// When the side is to say that it is over.
fn deadline(side: &Side<'_>) -> u64 {
    match side {
        Side::Parent(seconds) => os::now() + (seconds * 1e9) as u64,
        Side::Child(_) => u64::MAX,
    }
}

/// One turn: the bytes hold the count, times one to eight. False: they did not.
#[inline(always)]
fn count(bytes: &mut [u8]) -> bool {
    let words = bytes[..GUARDED].as_chunks_mut::<8>().0;
    let n = u64::from_le_bytes(words[0]);
    let mut whole = true;
    for (times, word) in (1..).zip(words) {
        whole &= u64::from_le_bytes(*word) == n.wrapping_mul(times);
        *word = (n + 1).wrapping_mul(times).to_le_bytes();
    }
    whole
}

/// As many turns as both get: turns per second of both together. The clock is read once a turn,
/// outside the lock; a wait is the time between two turns of one side.
fn contend<L: Lock>(place: &Place, side: &Side<'_>) -> Res<Outcome> {
    drive(L::RUNTIME, async {
        let (board, mut lock) = begin::<L>(place, side)?;
        let mut tally = Tally::new();
        let (sleeps, end) = (os::usage()?.1, deadline(side));
        let first = os::now();
        let mut last = first;
        loop {
            if !lock.with(count).await? {
                return Err("the bytes under the lock are torn: two were in".into());
            }
            let now = os::now();
            tally.add(now - last);
            last = now;
            if now >= end {
                board.set(Word::Stop, 1);
            }
            if board.get(Word::Stop) != 0 {
                break;
            }
        }
        let sleeps = os::usage()?.1 - sleeps;
        if let Side::Child(_) = side {
            board.show(&tally);
            return Ok(Outcome::default());
        }
        place.join()?;
        let theirs = board.shown();
        let (a, b) = (tally.count(), theirs.count());
        let counted = lock.with(|bytes| bytes.first_chunk().copied().map(u64::from_le_bytes));
        if counted.await? != Some(a + b) {
            return Err("the count under the lock is not the count of the turns".into());
        }
        let more = vec![
            ("share", a.min(b) as f64 / (a + b) as f64),
            ("p99 us", tally.at(0.99).max(theirs.at(0.99)) * 1e6),
            ("sleeps/turn", sleeps as f64 / a as f64),
        ];
        Ok(Outcome { value: (a + b) as f64 / ((last - first) as f64 * 1e-9), more })
    })
}

/// What the holder leaves in the bytes.
fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

/// Strictly in turns: the holder sleeps until the other side has parked, writes the time under the
/// lock and gives it back; who was parked reads the clock as soon as it has the lock. Seconds from
/// one to the other, the median of both sides.
fn wake<L: Lock>(place: &Place, side: &Side<'_>) -> Res<Outcome> {
    drive(L::RUNTIME, async {
        let (board, mut lock) = begin::<L>(place, side)?;
        let (mut tally, mut turns, end) = (Tally::new(), 0_u64, deadline(side));
        let sleeps = os::usage()?.1;
        // The parent has the odd turns.
        let mut turn = 1 + u64::from(matches!(side, Side::Child(_)));
        loop {
            board.wait(Word::Held, turn - 1)?;
            let tried = os::now();
            let (before, stamp, now) = lock
                .with(|bytes| {
                    let now = os::now();
                    let found = (get(bytes, 0), get(bytes, 8), now);
                    put(bytes, 0, turn);
                    if now >= end {
                        board.set(Word::Stop, 1);
                    }
                    board.set(Word::Held, turn);
                    std::thread::sleep(HOLD);
                    put(bytes, 8, os::now());
                    found
                })
                .await?;
            if before != turn - 1 {
                return Err(format!("turn {turn} came after turn {before}").into());
            }
            if turn > 1 {
                turns += 1;
                if tried < stamp {
                    tally.add(now.saturating_sub(stamp));
                } // else it was not waiting yet
            }
            // Both see it in turns that follow each other: the other one's is under way.
            if board.get(Word::Stop) != 0 {
                break;
            }
            turn += 2;
        }
        let sleeps = (os::usage()?.1 - sleeps) as f64 / turns as f64;
        if let Side::Child(_) = side {
            board.show(&tally);
            return Ok(Outcome::default());
        }
        place.join()?;
        let both = tally.with(&board.shown());
        if both.count() == 0 {
            return Err("nobody was ever found waiting".into());
        }
        let more = vec![
            ("p99 us", both.at(0.99) * 1e6),
            ("late", 1.0 - tally.count() as f64 / turns as f64),
            ("sleeps/turn", sleeps),
        ];
        Ok(Outcome { value: both.at(0.5), more })
    })
}
