//! Calls of functions in another process: one at a time, and many in flight.
//!
//! The parent is the client and holds the clock; the child is the server and is killed when the
//! client has enough. The functions are `add`, of two numbers, and `echo`, of bytes that come back.
//! A wrong sum, or bytes that are not those that were sent, fail the cell.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cells::{BOTH, Cell, Pin, Side, Subject, cell};
use crate::link::{Place, Res, Runtime, drive};
use crate::measure::{Outcome, noise};
use crate::os;

/// What a call gives; its error may cross tasks.
pub type Answer<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A client of the two functions, and their server. Both run in tokio. A clone is one more way to
/// the same connection.
pub trait Rpc: Clone + Send + 'static {
    /// What bytes come back as.
    type Bytes: AsRef<[u8]> + Send;

    /// Calls [`Place::start`] and connects.
    fn connect(place: &Place) -> impl Future<Output = Res<Self>>;
    /// The child's side: serves until it is killed.
    fn serve(place: &Place) -> impl Future<Output = Res<()>>;
    /// The sum of two numbers.
    fn add(&mut self, a: i64, b: i64) -> impl Future<Output = Answer<i64>> + Send;
    /// The bytes that were sent.
    fn echo(&mut self, data: Bytes) -> impl Future<Output = Answer<Self::Bytes>> + Send;
}

/// The second number of each `add`.
const B: i64 = 1 << 40;

/// What is called: `add`, or `echo` with one of several random payloads in turn.
#[derive(Clone)]
enum Work {
    Add,
    Echo(Arc<[Bytes]>),
}

impl Work {
    fn of(cell: &Cell) -> Self {
        if cell.kind.starts_with("rpc-add") {
            return Self::Add;
        }
        let noise = Bytes::from(noise(16 * cell.size));
        Self::Echo((0..16).map(|n| noise.slice(n * cell.size..(n + 1) * cell.size)).collect())
    }

    /// The `n`th call, whose answer is checked. Of bytes both ends and the length are compared each
    /// time, all of them every 64th time: comparing 64 KiB costs as much as moving them.
    #[inline]
    async fn call<R: Rpc>(&self, client: &mut R, n: u64) -> Answer<()> {
        let right = match self {
            Self::Add => client.add(n as i64, B).await? == n as i64 + B,
            Self::Echo(payloads) => {
                let sent = &payloads[n as usize % payloads.len()];
                let came = client.echo(sent.clone()).await?;
                same(sent, came.as_ref(), n.is_multiple_of(64))
            }
        };
        if right { Ok(()) } else { Err(format!("the answer of call {n} is wrong").into()) }
    }
}

fn same(sent: &[u8], came: &[u8], wholly: bool) -> bool {
    let ends = sent.len() == came.len()
        && sent.first_chunk::<8>() == came.first_chunk()
        && sent.last_chunk::<8>() == came.last_chunk();
    ends && (!wholly || sent == came)
}

/// All cells of one subject: one call at a time, and 64 or 1,000 in flight. `block` calls of `add`
/// share a reading of the clock where each process has its own core: 1 where they sleep.
pub fn calls<R: Rpc>(cells: &mut Vec<Cell>, who: Subject, block: u64) {
    sequential::<R>(cells, who, block);
    flights::<R>(cells, who);
    echoes::<R>(cells, who);
}

/// Calls of `add`, one at a time.
pub fn sequential<R: Rpc>(cells: &mut Vec<Cell>, who: Subject, block: u64) {
    one_by_one::<R>("rpc-add", 64, Pin::Apart, block, cells, who);
    one_by_one::<R>("rpc-add", 64, Pin::Same, 1, cells, who);
}

/// Calls of `add`, 64 and 1,000 in flight.
pub fn flights<R: Rpc>(cells: &mut Vec<Cell>, who: Subject) {
    for pin in BOTH {
        in_flight::<R>("rpc-add-64", 64, pin, 64, cells, who);
    }
    in_flight::<R>("rpc-add-1000", 64, Pin::Apart, 1000, cells, who);
}

/// Calls of `echo`: 1 KiB one at a time and 64 in flight, 64 KiB 64 in flight.
pub fn echoes<R: Rpc>(cells: &mut Vec<Cell>, who: Subject) {
    one_by_one::<R>("rpc-echo", 1 << 10, Pin::Apart, 1, cells, who);
    for size in [1 << 10, 64 << 10] {
        in_flight::<R>("rpc-echo-64", size, Pin::Apart, 64, cells, who);
    }
}

fn one_by_one<R: Rpc>(
    kind: &'static str,
    size: usize,
    pin: Pin,
    block: u64,
    cells: &mut Vec<Cell>,
    who: Subject,
) {
    let run = move |cell: &Cell, place: &Place, side: &Side<'_>| match side {
        Side::Parent(seconds) => trips::<R>(place, &Work::of(cell), *seconds, block),
        Side::Child(place) => serve::<R>(place),
    };
    cells.push(cell(kind, size, pin, who, Box::new(run)));
}

fn in_flight<R: Rpc>(
    kind: &'static str,
    size: usize,
    pin: Pin,
    tasks: u64,
    cells: &mut Vec<Cell>,
    who: Subject,
) {
    let run = move |cell: &Cell, place: &Place, side: &Side<'_>| match side {
        Side::Parent(seconds) => rate::<R>(place, &Work::of(cell), *seconds, tasks),
        Side::Child(place) => serve::<R>(place),
    };
    cells.push(cell(kind, size, pin, who, Box::new(run)));
}

fn serve<R: Rpc>(place: &Place) -> Res<Outcome> {
    drive(Runtime::Tokio, R::serve(place)).map(|()| Outcome::default())
}

/// One call at a time: seconds of the median one.
fn trips<R: Rpc>(place: &Place, work: &Work, seconds: f64, block: u64) -> Res<Outcome> {
    drive(Runtime::Tokio, async {
        let mut client = R::connect(place).await?;
        let mut times: Vec<f64> = Vec::with_capacity(1 << 20);
        let (mut begin, mut warm) = (Instant::now(), false);
        let (mut usage, mut n) = (os::usage()?, 0);
        loop {
            for _ in 0..16 {
                let start = Instant::now();
                for _ in 0..block {
                    work.call(&mut client, n).await.map_err(|e| e.to_string())?;
                    n += 1;
                }
                times.push(start.elapsed().as_secs_f64() / block as f64);
            }
            if !warm && begin.elapsed() > Duration::from_secs_f64(0.2 * seconds) {
                (warm, begin, usage) = (true, Instant::now(), os::usage()?);
                times.clear();
            } else if warm && begin.elapsed() > Duration::from_secs_f64(seconds) {
                break;
            }
        }
        let sleeps = (os::usage()?.1 - usage.1) as f64 / (times.len() as f64 * block as f64);
        drop(place.child.take()); // killed: it has no other way to learn that this is the end
        times.sort_by(f64::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
        let more = vec![("p99 us", at(0.99) * 1e6), ("sleeps/call", sleeps)];
        Ok(Outcome { value: at(0.5), more })
    })
}

/// As many tasks, each with one call after the other: calls per second of all together.
fn rate<R: Rpc>(place: &Place, work: &Work, seconds: f64, tasks: u64) -> Res<Outcome> {
    drive(Runtime::Tokio, async {
        let client = R::connect(place).await?;
        let mut n = 2 * tasks;
        loop {
            let (begin, slept) = (Instant::now(), os::usage()?.1);
            let next = Arc::new(AtomicU64::new(0));
            let started: Vec<_> = (0..tasks)
                .map(|_| tokio::spawn(task(client.clone(), work.clone(), Arc::clone(&next), n)))
                .collect();
            for task in started {
                task.await??;
            }
            let spent = begin.elapsed().as_secs_f64();
            // The rounds before the last one warm up and find out how many calls fill the time.
            if spent >= 0.6 * seconds {
                let sleeps = (os::usage()?.1 - slept) as f64 / n as f64;
                drop(place.child.take());
                return Ok(Outcome {
                    value: n as f64 / spent,
                    more: vec![("sleeps/call", sleeps)],
                });
            }
            let wanted = n as f64 * seconds / spent.max(1e-6);
            n = (wanted as u64).clamp(n + 1, n * 50);
        }
    })
}

/// Takes the next number until there are none left: so many calls are in flight up to the end.
async fn task<R: Rpc>(
    mut client: R,
    work: Work,
    next: Arc<AtomicU64>,
    end: u64,
) -> Result<(), String> {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed); // Relaxed: only counts, in one thread
        if n >= end {
            return Ok(());
        }
        work.call(&mut client, n).await.map_err(|e| e.to_string())?;
    }
}
