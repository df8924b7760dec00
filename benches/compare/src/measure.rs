//! The measuring loops, the same for every subject.
//!
//! The parent receives and holds the clock; the child does what the parent asks: stream `n`
//! messages, or send each one back. The first eight bytes of a message are its number and are
//! checked, so a subject that loses, repeats or reorders fails instead of being fast.

use std::time::{Duration, Instant};

use crate::link::{Link, Place, Res, drive};
use crate::os;

/// What one run of a cell found. `value` is in the unit of the cell.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The figure: messages per second, seconds, bytes per second or a ratio.
    pub value: f64,
    /// Named extra figures for the table's notes.
    pub more: Vec<(&'static str, f64)>,
}

const QUIT: u64 = 0;
const STREAM: u64 = 1;
const ECHO: u64 = 2;

fn word(message: &[u8], n: usize) -> u64 {
    message
        .get(n * 8..n * 8 + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(u64::MAX, u64::from_le_bytes)
}

fn put(message: &mut [u8], n: usize, value: u64) {
    message[n * 8..n * 8 + 8].copy_from_slice(&value.to_le_bytes());
}

/// A buffer filled with bytes that differ from page to page.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..size)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

async fn ask<L: Link>(link: &mut L, buf: &mut [u8], what: u64, n: u64) -> Res<()> {
    put(buf, 0, what);
    put(buf, 1, n);
    link.send(buf).await?;
    link.flush().await
}

/// The child's side of every link cell.
pub fn serve<L: Link>(place: &Place) -> Res<()> {
    drive(L::RUNTIME, async {
        let mut link = L::child(place).await?;
        let mut buf = noise(place.size);
        if L::SIGNAL_ONLY {
            // Ends when the parent, which has no way to say so, kills this process.
            loop {
                link.recv(1, |_| ()).await?;
                link.send(&buf).await?;
            }
        }
        loop {
            let (mut what, mut n) = (QUIT, 0);
            link.recv(1, |m| (what, n) = (word(m, 0), word(m, 1))).await?;
            match what {
                STREAM => {
                    for i in 0..n {
                        put(&mut buf, 0, i);
                        link.send(&buf).await?;
                    }
                    link.flush().await?;
                }
                ECHO => {
                    for _ in 0..n {
                        link.recv(1, |m| put(&mut buf, 0, word(m, 0))).await?;
                        link.send(&buf).await?;
                        link.flush().await?;
                    }
                }
                _ => return Ok(()),
            }
        }
    })
}

async fn quit<L: Link>(mut link: L, place: &Place, buf: &mut [u8]) -> Res<()> {
    let child = place.child.take().ok_or("the child was never started")?;
    if L::SIGNAL_ONLY {
        drop(child);
        return Ok(());
    }
    ask(&mut link, buf, QUIT, 0).await?;
    child.join()
}

/// One way: the child sends, the parent counts messages per second.
pub fn stream<L: Link>(place: &Place, seconds: f64) -> Res<Outcome> {
    drive(L::RUNTIME, async {
        let mut link = L::parent(place).await?;
        let mut buf = noise(place.size);
        let mut sink = vec![0u8; place.size];
        let copy_out = L::LENDS && place.size > 64;
        let mut n = 64;
        loop {
            let (parks, (_, sleeps)) = (link.parks(), os::usage()?);
            let begin = Instant::now();
            ask(&mut link, &mut buf, STREAM, n).await?;
            let (mut got, mut next, mut wrong) = (0, 0, 0u64);
            while got < n {
                got += link
                    .recv(n - got, |m| {
                        wrong += u64::from(word(m, 0) != next);
                        next += 1;
                        if copy_out {
                            sink[..m.len()].copy_from_slice(m);
                        }
                    })
                    .await?;
            }
            let spent = begin.elapsed().as_secs_f64();
            if wrong != 0 || got != n || next != n {
                return Err(format!("{wrong} of {got} messages came wrong, {n} were sent").into());
            }
            // The rounds before the last one warm up and find out how many messages fill the time.
            if spent >= 0.6 * seconds {
                std::hint::black_box(&sink);
                let mut more = vec![("sleeps/msg", (os::usage()?.1 - sleeps) as f64 / n as f64)];
                if let (Some(now), Some(then)) = (link.parks(), parks) {
                    more.push(("parks/msg", (now - then) as f64 / n as f64));
                }
                quit(link, place, &mut buf).await?;
                return Ok(Outcome { value: n as f64 / spent, more });
            }
            let wanted = n as f64 * seconds / spent.max(1e-6);
            n = (wanted as u64).clamp(n + 1, n * 50);
        }
    })
}

/// Round trips: seconds of the median one. `block` trips share one reading of the clock.
pub fn round_trip<L: Link>(place: &Place, seconds: f64, block: u64) -> Res<Outcome> {
    drive(L::RUNTIME, async {
        let mut link = L::parent(place).await?;
        let mut buf = noise(place.size);
        let mut times: Vec<f64> = Vec::with_capacity(1 << 20);
        let (mut begin, mut warm) = (Instant::now(), false);
        let mut usage = os::usage()?;
        loop {
            if !L::SIGNAL_ONLY {
                ask(&mut link, &mut buf, ECHO, block * 16).await?;
            }
            for _ in 0..16 {
                let start = Instant::now();
                let mut wrong = 0u64;
                for i in 0..block {
                    put(&mut buf, 0, i);
                    link.send(&buf).await?;
                    link.flush().await?;
                    link.recv(1, |m| wrong += u64::from(!L::SIGNAL_ONLY && word(m, 0) != i))
                        .await?;
                }
                times.push(start.elapsed().as_secs_f64() / block as f64);
                if wrong != 0 {
                    return Err(format!("{wrong} of {block} answers came wrong").into());
                }
            }
            if !warm && begin.elapsed() > Duration::from_secs_f64(0.2 * seconds) {
                (warm, begin, usage) = (true, Instant::now(), os::usage()?);
                times.clear();
            } else if warm && begin.elapsed() > Duration::from_secs_f64(seconds) {
                break;
            }
        }
        let trips = times.len() as f64 * block as f64;
        let sleeps = (os::usage()?.1 - usage.1) as f64 / trips;
        quit(link, place, &mut buf).await?;
        times.sort_by(f64::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
        Ok(Outcome {
            value: at(0.5),
            more: vec![("p99 us", at(0.99) * 1e6), ("sleeps/trip", sleeps)],
        })
    })
}
