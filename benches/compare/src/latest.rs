//! A value that is replaced and copied, not queued: what getting and setting it costs, alone and
//! beside a process that sets it as fast as it can.

use std::time::Instant;

use crate::alone::seconds;
use crate::board::{Board, Word};
use crate::cells::{Cell, Pin, Side, Subject, cell};
use crate::link::{Place, Res};
use crate::measure::Outcome;
use crate::memory::per_call;

/// The latest bytes, of the cell's size always.
pub trait Latest: Sized {
    /// Makes it in the parent, before the child is started, or opens it in the child.
    fn open(place: &Place, parent: bool) -> Res<Self>;
    /// Whether a reader never sees half of one and half of another.
    const WHOLE: bool = true;
    /// Replaces them.
    fn set(&mut self, bytes: &[u8]) -> Res<()>;
    /// Copies them into memory that is there already.
    fn get(&mut self, bytes: &mut Vec<u8>) -> Res<()>;
}

/// The three cells of such a value, for 64 B and 1 MiB.
pub fn latest<L: Latest + 'static>(cells: &mut Vec<Cell>, who: Subject) {
    for size in [64, 1 << 20] {
        let run = |_: &Cell, place: &Place, side: &Side<'_>| get::<L>(place, seconds(side)?);
        cells.push(cell("value-get", size, Pin::One, who, Box::new(run)));
        let run = |_: &Cell, place: &Place, side: &Side<'_>| set::<L>(place, seconds(side)?);
        cells.push(cell("value-set", size, Pin::One, who, Box::new(run)));
        let run = |_: &Cell, place: &Place, side: &Side<'_>| match side {
            Side::Parent(seconds) => beside::<L>(place, *seconds),
            Side::Child(place) => set_on::<L>(place).map(|()| Outcome::default()),
        };
        cells.push(cell("value-get", size, Pin::Apart, who, Box::new(run)));
    }
}

/// Calls between two looks at the clock.
fn calls(size: usize) -> u64 {
    if size < 1 << 16 { 1024 } else { 1 }
}

fn number(bytes: &mut [u8], n: u64) {
    let end = bytes.len() - 8;
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes[end..].copy_from_slice(&n.to_le_bytes());
}

/// Where there is no child that would take the name of a file away.
fn alone<L: Latest>(place: &Place) -> Res<L> {
    let value = L::open(place, true);
    let _ = std::fs::remove_file(place.path("value")); // not there: it has another name
    value
}

fn get<L: Latest>(place: &Place, seconds: f64) -> Res<Outcome> {
    let mut value: L = alone(place)?;
    let bytes = vec![0x5a; place.size];
    value.set(&bytes)?;
    let mut copy = vec![0; place.size];
    let spent = per_call(seconds, calls(place.size), || value.get(&mut copy))?;
    if copy != bytes {
        return Err("what was got is not what was set".into());
    }
    Ok(Outcome { value: spent, ..Outcome::default() })
}

fn set<L: Latest>(place: &Place, seconds: f64) -> Res<Outcome> {
    let mut value: L = alone(place)?;
    let bytes = vec![0x5a; place.size];
    let spent = per_call(seconds, calls(place.size), || value.set(&bytes))?;
    Ok(Outcome { value: spent, ..Outcome::default() })
}

/// The child: sets until it is told to stop; the number of the set stands at both ends.
fn set_on<L: Latest>(place: &Place) -> Res<()> {
    let board = Board::open(place, false)?;
    let mut value = L::open(place, false)?;
    let mut bytes = vec![0x5a; place.size];
    let mut n = 0;
    while board.get(Word::Stop) == 0 {
        n += 1;
        number(&mut bytes, n);
        value.set(&bytes)?;
        board.set(Word::Count, n);
    }
    Ok(())
}

fn beside<L: Latest>(place: &Place, seconds: f64) -> Res<Outcome> {
    let board = Board::open(place, true)?;
    let mut value = L::open(place, true)?;
    place.start(&[])?;
    board.wait(Word::Count, 1)?;
    let (mut copy, mut last, mut gets, mut news) = (vec![0; place.size], 0, 0_u64, 0_u64);
    let (begin, sets) = (Instant::now(), board.get(Word::Count));
    let found = per_call(seconds, calls(place.size), || {
        value.get(&mut copy)?;
        let n = copy.first_chunk().copied().map_or(0, u64::from_le_bytes);
        if L::WHOLE && copy.last_chunk().copied().map(u64::from_le_bytes) != Some(n) {
            return Err("half a value was seen".into());
        }
        if L::WHOLE && n < last {
            return Err(format!("value {n} came after value {last}").into());
        }
        gets += 1;
        news += u64::from(n != last);
        last = n;
        Ok(())
    });
    let (spent, sets) = (begin.elapsed().as_secs_f64(), board.get(Word::Count) - sets);
    board.set(Word::Stop, 1);
    place.join()?;
    let more = vec![("sets/s", sets as f64 / spent), ("news/get", news as f64 / gets as f64)];
    Ok(Outcome { value: found?, more })
}
