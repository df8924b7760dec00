//! What the memory itself gives, in one process: the roof over the 1 MiB cells.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::link::Res;
use crate::measure::Outcome;

/// Runs `work` for `seconds` and returns calls per second of the median of twenty slices.
fn rate(seconds: f64, mut work: impl FnMut()) -> f64 {
    let slice = Duration::from_secs_f64(seconds / 20.0);
    let mut rates: Vec<f64> = (0..21)
        .map(|_| {
            let (begin, mut n) = (Instant::now(), 0u64);
            while begin.elapsed() < slice {
                work();
                n += 1;
            }
            n as f64 / begin.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Seconds of one call: the median of twenty slices of `seconds`. The clock is read after every
/// `batch` calls.
pub fn per_call(seconds: f64, batch: u64, mut work: impl FnMut() -> Res<()>) -> Res<f64> {
    let mut failed = Ok(());
    let rate = rate(seconds, || {
        for _ in 0..batch {
            if let Err(e) = work() {
                failed = Err(e);
            }
        }
    });
    failed.map(|()| 1.0 / (rate * batch as f64))
}

/// The step from one word of a filled message to the next.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Fills a message with words that climb from `first`.
#[inline(never)]
pub fn fill(message: &mut [u8], first: u64) {
    let mut value = first;
    for word in message.as_chunks_mut::<8>().0 {
        *word = value.to_le_bytes();
        value = value.wrapping_add(STEP);
    }
}

/// The sum of the words that the reader makes of it.
#[inline(never)]
pub fn sum(message: &[u8]) -> u64 {
    let words = message.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    words.fold(0, u64::wrapping_add)
}

/// What [`sum`] finds in `len` bytes that were [filled](fill) from `first`.
#[cfg(feature = "ringspan")]
pub fn sum_of_fill(len: usize, first: u64) -> u64 {
    let n = len as u64 / 8;
    n.wrapping_mul(first).wrapping_add((n * (n - 1) / 2).wrapping_mul(STEP))
}

/// How much memory a ring of the large cells has; the loops here walk through as much.
pub const FOOTPRINT: usize = 8 << 20;

/// memcpy from a private block through an area of the ring's size, bytes per second.
pub fn copy(size: usize, seconds: f64) -> Res<Outcome> {
    let from = vec![0x5a_u8; size];
    let mut area = vec![0_u8; FOOTPRINT];
    let mut turns = (0..FOOTPRINT / size).cycle();
    let value = size as f64
        * rate(seconds, || {
            let at = turns.next().unwrap_or_default() * size;
            black_box(&mut area[at..at + size]).copy_from_slice(black_box(&from));
        });
    Ok(Outcome { value, ..Outcome::default() })
}

/// The two loops of the in-place cells, one after the other in one thread, over an area of the
/// ring's size: bytes per second, and what each loop reaches alone.
pub fn fill_and_sum(size: usize, seconds: f64) -> Res<Outcome> {
    let mut area = vec![0_u8; FOOTPRINT];
    let mut turns = (0..FOOTPRINT / size).cycle();
    let mut seed = 0;
    let mut turn = |fills: bool, sums: bool| {
        let at = turns.next().unwrap_or_default() * size;
        let block = black_box(&mut area[at..at + size]);
        if fills {
            seed += 1;
            fill(block, seed);
        }
        if sums {
            black_box(sum(block));
        }
    };
    let both = rate(seconds / 2.0, || turn(true, true));
    let fills = rate(seconds / 4.0, || turn(true, false));
    let sums = rate(seconds / 4.0, || turn(false, true));
    let gb = |rate: f64| rate * size as f64 / 1e9;
    let more = vec![("fill alone GB/s", gb(fills)), ("sum alone GB/s", gb(sums))];
    Ok(Outcome { value: both * size as f64, more })
}
