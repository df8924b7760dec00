//! Kill -9 at every step of a call: for each fail point of RPC a server, or a client, is killed there while
//! calls of all kinds run. The survivor goes on: each call is answered rightly or fails, none hangs, and
//! with the next server, or the next client, all of them are answered.
#![cfg(feature = "failpoints")]

mod calls;
mod common;
mod killing;
mod stage;

use calls::{Seen, blob, limits, one_thread, service, sum, threads};
use futures_util::StreamExt;
use killing::{Job, Plan, Run, in_lanes, table};
use ringspan::OpenError;
use ringspan::rpc::{CallError, Client, Limits};
use serde_bytes::ByteBuf;
use stage::{Random, Role, Test, role, until};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rounds of calls before a process that was not killed ends.
const ROUNDS: u64 = 5;

fn small() -> Limits {
    // So small that nearly everything goes in chunks, and waits for room.
    limits(|limits| {
        limits.ring_capacity = 8192;
        limits.max_concurrency = 8;
    })
}

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(Role { role, name, .. }) = role() else { return };
    let runtime = if killing::on_tokio() { threads(2) } else { one_thread() };
    match role.as_str() {
        "server" => runtime.block_on(async {
            let server = service(&name, small(), &Arc::<Seen>::default()).serve().await.unwrap();
            server.join().await; // until the name is removed
        }),
        "client" => {
            let client = Client::lazy(&name);
            for round in 0..ROUNDS {
                let tally = Tally::default();
                work(&runtime, &client, round, &tally);
                assert_eq!(tally.failed(), 0, "the server lives");
            }
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// The right answer, or a server that is not there any more.
    fn count<T: PartialEq + std::fmt::Debug>(&self, ended: Result<T, CallError>, right: &T) {
        match ended {
            Ok(answer) => {
                assert!(answer == *right, "a wrong answer");
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(CallError::Disconnected { .. }) => {
                self.failed.fetch_add(1, Ordering::SeqCst);
            }
            Err(CallError::Connect(OpenError::NotFound(_))) => {
                self.failed.fetch_add(1, Ordering::SeqCst);
            }
            Err(CallError::Connect(OpenError::Fault(fault))) => {
                let text = fault.to_string();
                assert!(text.contains("died") || text.contains("nobody serves"), "{text}");
                self.failed.fetch_add(1, Ordering::SeqCst);
            }
            Err(err) => panic!("{err:?}"),
        }
    }
}

/// Calls of all kinds, in tasks and from a thread.
fn work(runtime: &tokio::runtime::Runtime, client: &Client, round: u64, tally: &Tally) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..10 {
                tally.count(client.blocking_call_method("add", &(n, round), None), &(n + round));
            }
        });
        runtime.block_on(async {
            let adds = futures_util::stream::iter(0..30u64).map(|n| async move {
                tally.count(client.call_method("add", &(n, round)).await, &(n + round));
            });
            let long = futures_util::stream::iter(1..4u64).map(|n| async move {
                let body = ByteBuf::from(blob(n * 20_000, round));
                let right = (body.len() as u64, sum(&body));
                tally.count(client.call_method("len", &(body,)).await, &right);
                let right = ByteBuf::from(blob(n * 10_000, n));
                tally.count(client.call_method("blob", &(n * 10_000, n)).await, &right);
            });
            let streams = futures_util::stream::iter(1..3u64).map(|n| async move {
                let items = client.stream_method::<_, u64>("count", &(n * 30,)).await;
                let Ok(items) = items.map_err(|err| tally.count(Err(err), &0)) else { return };
                let items: Vec<_> = items.collect().await;
                let whole = items.iter().all(Result::is_ok);
                assert!(!whole || items.len() as u64 == n * 30, "a stream that lost its end");
                for (right, item) in items.into_iter().enumerate() {
                    tally.count(item, &(right as u64));
                }
            });
            let dropped = futures_util::stream::iter(0..4u64).map(|n| async move {
                let call = client.call_method::<_, ()>("hold", &());
                let _ = tokio::time::timeout(Duration::from_millis(n), call).await;
            });
            tokio::join!(
                adds.buffer_unordered(10).for_each(|()| async {}),
                long.buffer_unordered(3).for_each(|()| async {}),
                streams.buffer_unordered(2).for_each(|()| async {}),
                dropped.buffer_unordered(4).for_each(|()| async {}),
            );
        });
    });
}

fn has_ended(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_some()
}

/// Until somebody serves, or the child that was to has ended.
fn is_up(client: &Client, child: &mut Child) -> bool {
    loop {
        if client.blocking_call_method::<_, i64>("add", &(1, 1), None).is_ok() {
            return true;
        }
        if has_ended(child) {
            return false;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// A server is killed: its callers are told, and the next one answers everything.
fn server_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("server killed at {plan:?}"));
    let runtime = one_thread();
    let client = Client::lazy(&run.name);
    let mut first = run.spawn("server", "", Some(plan));
    if is_up(&client, &mut first) {
        for round in 0..ROUNDS {
            let tally = Tally::default();
            work(&runtime, &client, round, &tally);
            assert!(tally.failed() == 0 || client.server_pid().is_none(), "{}", run.what);
            if tally.failed() > 0 {
                break;
            }
        }
        if !has_ended(&mut first) {
            match ringspan::remove(&run.name) {
                Ok(()) | Err(OpenError::NotFound(_)) => {}
                Err(err) => panic!("{}: {err}", run.what),
            }
        }
    }
    run.finish(first);
    let mut second = run.spawn("server", "", None);
    assert!(is_up(&client, &mut second), "{}: nobody can take the name", run.what);
    let tally = Tally::default();
    work(&runtime, &client, 9, &tally);
    assert_eq!(tally.failed(), 0, "{}: a call to the second server failed", run.what);
    ringspan::remove(&run.name).unwrap();
    let (status, _) = run.finish(second);
    assert!(status.success(), "{}: {status}", run.what);
    run.reached()
}

/// A client is killed: its handlers are dropped, and others are served.
fn client_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("client killed at {plan:?}"));
    let (runtime, seen) = (threads(1), Arc::<Seen>::default());
    let server = runtime.block_on(service(&run.name, small(), &seen).serve()).unwrap();
    let child = run.spawn("client", "", Some(plan));
    run.finish(child);
    until(|| {
        let stats = server.stats();
        let held = seen.now.load(Ordering::SeqCst);
        (stats.clients, stats.in_flight, stats.running, held) == (0, 0, 0, 0)
    });
    assert_eq!(server.stats().violations, 0, "{}", run.what);
    let (client, tally) = (Client::lazy(&run.name), Tally::default());
    work(&one_thread(), &client, 9, &tally);
    assert_eq!(tally.failed(), 0, "{}: a call of another client failed", run.what);
    runtime.block_on(server.shutdown(Duration::from_secs(60)));
    run.reached()
}

#[test]
fn killed_at_every_step_of_a_call() {
    let _test = Test::lasting("killed at every step of a call", Duration::from_secs(900));
    let table = table(|point| point.starts_with("rpc."));
    let mut jobs: Vec<Job> = Vec::new();
    let mut random = Random::new(4);
    for point in &table {
        let far: Vec<u32> = (0..stage::scaled(2)).map(|_| random.below(300) as u32).collect();
        for (n, pass) in [1, 2, 3, 5, 9, 20, 50].into_iter().chain(far).enumerate() {
            let plan = Plan { point: point.clone(), pass, on_tokio: n % 2 == 0 };
            let other = plan.clone();
            jobs.push(Box::new(move || server_killed(&plan)));
            jobs.push(Box::new(move || client_killed(&other)));
        }
    }
    // And at those of taking and giving up the name, which `kill.rs` has for rings.
    let areas = ["create.", "door.", "attach.", "detach.", "reap.", "harvest."];
    for point in killing::table(|point| areas.iter().any(|area| point.starts_with(area))) {
        for pass in [1, 2] {
            let plan = Plan { point: point.clone(), pass, on_tokio: pass == 2 };
            jobs.push(Box::new(move || server_killed(&plan)));
        }
    }
    let reached = in_lanes(jobs);
    ringspan::gc().unwrap(); // doors of those killed before they had a slot
    let missed: Vec<_> = table.iter().filter(|point| !reached.contains(*point)).collect();
    assert!(missed.is_empty(), "points that no run reached: {missed:?}");
}
