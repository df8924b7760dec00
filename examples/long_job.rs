//! A job of some seconds that tells how far it is, and stops when nobody listens any more.
//!
//! ```text
//! cargo run --release --example long_job -- serve /job
//! cargo run --release --example long_job -- run /job 2000000    # Ctrl-C stops the job, too
//! ```
//!
//! `examples/python/long_job.py` does the same; either side may be either language.

use futures_util::{Stream, stream};
use ringspan::rpc::{Client, HandlerError, Service};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{IsTerminal, Write};
use tokio::task::spawn_blocking;

/// Pieces of a job.
const STEPS: u64 = 50;

/// What the job says after each of them.
#[derive(Serialize, Deserialize)]
struct Progress {
    done: u64,
    of: u64,
    found: u64,
}

/// Counts the primes below `limit`. A stream is polled only as fast as its caller takes the items, and
/// dropped when the caller is gone: the job ends at the next step.
fn count_primes((limit,): (u64,)) -> impl Stream<Item = Result<Progress, HandlerError>> {
    stream::unfold((0, 0), move |(done, found)| async move {
        if done == STEPS {
            return None;
        }
        let piece = limit * done / STEPS..limit * (done + 1) / STEPS;
        let found = match spawn_blocking(move || piece.filter(|n| is_prime(*n)).count()).await {
            Ok(count) => found + count as u64,
            Err(err) => return Some((Err(err.into()), (STEPS, found))),
        };
        Some((Ok(Progress { done: done + 1, of: STEPS, found }), (done + 1, found)))
    })
}

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

async fn run(name: &str, limit: u64) -> Result<u64, Box<dyn Error>> {
    let client = Client::connect(name).await?;
    let mut items = client.stream_method::<_, Progress>("count_primes", &(limit,)).await?;
    let mut last = 0;
    while let Some(progress) = items.next().await {
        let Progress { done, of, found } = progress?;
        let mut out = std::io::stderr();
        if out.is_terminal() {
            let bar = "#".repeat((40 * done / of.max(1)) as usize);
            write!(out, "\r[{bar:.<40}] {found} primes ")?;
        }
        last = found;
    }
    Ok(last)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", name] => {
            let job = Service::builder(name).method_stream("count_primes", count_primes);
            let server = job.serve().await?;
            println!("serving");
            server.join().await;
        }
        ["run", name, limit] => {
            let limit = limit.parse()?;
            println!("{} primes below {limit}", run(name, limit).await?);
        }
        _ => return Err("usage: long_job serve NAME | run NAME LIMIT".into()),
    }
    Ok(())
}
