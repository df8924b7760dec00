//! What clients and calls cost a server in memory, read from outside: the resident set of its process.

use ringspan::rpc::{Client, HandlerError, Service};
use std::time::{Duration, Instant};

use crate::child::Child;
use crate::link::{Place, Res, Runtime, drive, until_there};
use crate::measure::Outcome;

/// Clients that do nothing.
const IDLE: usize = 128;
/// Clients that call, and calls of each.
const BUSY: usize = 8;
const CALLS: usize = 1000;

fn name(place: &Place) -> String {
    format!("/{}-memory", place.name)
}

/// The child: a handler that never ends.
pub fn serve(place: &Place) -> Res<()> {
    drive(Runtime::Tokio, async {
        let server = Service::builder(&name(place))
            .method("add", |(a, b): (i64, i64)| async move { Ok::<_, HandlerError>(a + b) })
            .method("wait", |(n,): (u64,)| async move {
                std::future::pending::<()>().await;
                Ok::<_, HandlerError>(n)
            })
            .limits(ringspan::rpc::Limits::default().max_concurrency(100_000))
            .serve()
            .await?;
        server.join().await;
        Ok(())
    })
}

/// Resident bytes of a process.
fn resident(pid: u32) -> Res<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Rss:")).ok_or("no Rss")?;
    let kib = line.split_ascii_whitespace().nth(1).ok_or("no figure")?;
    Ok(kib.parse::<f64>()? * 1024.0)
}

fn descriptors(pid: u32) -> Res<f64> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64)
}

/// Bytes of the server for each client that is connected and idle; beside it, for each call that waits.
pub fn watch(place: &Place) -> Res<Outcome> {
    place.start(&[])?;
    let name = name(place);
    let first = until_there(|| Client::blocking_connect(&name, None))?;
    let child: Child = place.child.take().ok_or("the child was never started")?;
    let pid = child.id();
    let sum: i64 = first.blocking_call_method("add", &(1, 2), None)?;
    if sum != 3 {
        return Err("a wrong sum".into());
    }
    let (bytes, fds) = (resident(pid)?, descriptors(pid)?);
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let client = Client::blocking_connect(&name, None)?;
        let _: i64 = client.blocking_call_method("add", &(1, 2), None)?;
        idle.push(client);
    }
    let each = (resident(pid)? - bytes) / IDLE as f64;
    let fds = (descriptors(pid)? - fds) / IDLE as f64;
    let ours = std::process::id();
    let (server, client) = (resident(pid)?, resident(ours)?);
    let (theirs, mine) = drive(Runtime::Tokio, async {
        let tasks: Vec<_> = idle[..BUSY]
            .iter()
            .flat_map(|client| (0..CALLS).map(move |n| (client.clone(), n as u64)))
            .map(|(client, n)| {
                tokio::spawn(async move { client.call_method::<_, u64>("wait", &(n,)).await })
            })
            .collect();
        // Behind them in the rings: once it is answered, they are at the server.
        tokio::task::yield_now().await;
        for client in &idle[..BUSY] {
            let _: i64 = client.call_method("add", &(1, 2)).await?;
        }
        let figures = (resident(pid)?, resident(ours)?);
        tasks.into_iter().for_each(|task| task.abort());
        Ok(figures)
    })?;
    let calls = (BUSY * CALLS) as f64;
    drop((first, idle));
    let begin = Instant::now();
    while descriptors(pid)? > 32.0 && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let more = vec![
        ("descriptors/client", fds),
        ("bytes/call at the server", (theirs - server) / calls),
        ("bytes/call at the client", (mine - client) / calls),
    ];
    Ok(Outcome { value: each, more })
}
