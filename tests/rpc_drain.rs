//! How a server ends: by shutdown with a grace, by removal of its name, by being dropped, with its runtime.
//! And how a client outlives the runtimes that call through it.

mod calls;
mod common;
mod stage;

use calls::{Seen, begin, blob, cut_off, one_thread, service, threads, view};
use common::say;
use futures_util::{StreamExt, stream};
use ringspan::rpc::{CallError, Client, Delivered, Limits, Server};
use serde_bytes::ByteBuf;
use stage::{Role, Test, role, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(30);

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(Role { role, name, argument }) = role() else { return };
    match role.as_str() {
        "until-removed" => one_thread().block_on(async {
            let grace = Duration::from_millis(argument.parse().unwrap());
            let builder = service(&name, Limits::default(), &Arc::<Seen>::default());
            let server = builder.grace(grace).serve().await.unwrap();
            say("ready");
            server.join().await;
            say("joined");
        }),
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

fn start(runtime: &Runtime, name: &str) -> (Server, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let server = runtime.block_on(service(name, Limits::default(), &seen).serve()).unwrap();
    (server, seen)
}

/// Starts the next one as soon as the name is free.
fn start_next(runtime: &Runtime, name: &str) -> (Server, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let mut server = None;
    until(|| {
        server = runtime.block_on(service(name, Limits::default(), &seen).serve()).ok();
        server.is_some()
    });
    (server.unwrap(), seen)
}

#[test]
fn a_shutdown_lets_calls_finish_while_the_next_server_takes_over() {
    let test = Test::new("shutdown");
    let name = &*test.name;
    let (below, above) = (threads(1), threads(2));
    let (first, seen) = start(&below, name);
    let client = Client::blocking_connect(name, None).unwrap();
    above.block_on(async {
        let marks = [(0u64,), (1,), (2,), (3,), (4,)];
        let calls = || marks.iter().map(|mark| client.call_method::<_, u64>("gate", mark));
        let mut gates: Vec<_> = calls().map(Box::pin).collect();
        gates.iter_mut().for_each(|call| begin(&mut call.as_mut()));
        let items = client.stream_method::<_, u64>("count", &(1000,)).await.unwrap();
        let mut items = Box::pin(items);
        assert_eq!(items.next().await.unwrap().unwrap(), 0);
        let threaded = client.clone();
        let threaded = tokio::task::spawn_blocking(move || {
            threaded.blocking_call_method::<_, u64>("gate", &(9,), None)
        });
        while view(&first, &seen).begun < 6 {
            tokio::task::yield_now().await;
        }
        let ending = below.spawn(first.shutdown(LONG));
        // It drains; the name is free, and the next call goes there.
        let (second, its) = tokio::task::block_in_place(|| start_next(threads_kept(), name));
        loop {
            client.call_method::<_, u64>("mark", &(1,)).await.unwrap();
            if !its.marks.lock().unwrap().is_empty() {
                break;
            }
        }
        let other = Client::connect(name).await.unwrap();
        other.call_method::<_, u64>("mark", &(2,)).await.unwrap();
        assert!(!ending.is_finished());
        seen.open();
        for (n, gate) in gates.into_iter().enumerate() {
            assert_eq!(gate.await.unwrap(), n as u64);
        }
        assert_eq!(threaded.await.unwrap().unwrap(), 9);
        assert!(!ending.is_finished(), "a stream is under way");
        let rest: Vec<_> = items.map(Result::unwrap).collect().await;
        assert_eq!(rest, (1..1000).collect::<Vec<_>>());
        ending.await.unwrap();
        assert_eq!(client.call_method::<_, i64>("add", &(1, 2)).await.unwrap(), 3);
        second.shutdown(LONG).await;
    });
}

/// A runtime that is there to the end of the process.
fn threads_kept() -> &'static Runtime {
    static KEPT: std::sync::OnceLock<Runtime> = std::sync::OnceLock::new();
    KEPT.get_or_init(|| threads(1))
}

#[test]
fn the_grace_is_a_bound() {
    let test = Test::new("grace");
    let runtime = threads(2);
    for grace in [Duration::ZERO, MOMENT] {
        let (server, seen) = start(&runtime, &test.name);
        let client = Client::blocking_connect(&test.name, None).unwrap();
        let hold = client.clone();
        let hold = runtime.spawn(async move { hold.call_method::<_, ()>("hold", &()).await });
        until(|| view(&server, &seen).begun == 1);
        runtime.block_on(server.shutdown(grace));
        assert_eq!(cut_off(runtime.block_on(hold).unwrap()), Delivered::Yes);
        until(|| seen.now.load(Ordering::SeqCst) == 0);
        let err = client.blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap_err();
        assert!(matches!(err, CallError::Connect(_)), "{err}");
    }
}

#[test]
fn a_removed_name_ends_its_server() {
    let test = Test::new("removed");
    let name = &*test.name;
    let runtime = threads(2);
    for (grace, ms) in [("60000", 100), ("30", 60_000)] {
        let mut server = test.spawn("until-removed", grace);
        server.expect("ready");
        let client = Client::blocking_connect(name, None).unwrap();
        runtime.block_on(async {
            let ms_args = (ms,);
            let mut sleep = Box::pin(client.call_method::<_, u64>("sleep", &ms_args));
            begin(&mut sleep.as_mut());
            ringspan::remove(name).unwrap();
            match sleep.await {
                Ok(slept) => assert_eq!((slept, ms), (100, 100)),
                ended => assert_eq!((cut_off(ended), ms), (Delivered::Yes, 60_000)),
            }
        });
        server.expect("joined");
        server.finish();
    }
}

#[test]
fn a_dropped_server_is_over_at_once() {
    let test = Test::new("dropped server");
    let runtime = threads(2);
    for with_runtime in [false, true] {
        let below = threads(1);
        let (server, seen) = start(&below, &test.name);
        let client = Client::blocking_connect(&test.name, None).unwrap();
        let hold = client.clone();
        let hold = runtime.spawn(async move { hold.call_method::<_, ()>("hold", &()).await });
        let thread = client.clone();
        let thread =
            std::thread::spawn(move || thread.blocking_call_method::<_, ()>("hold", &(), None));
        until(|| view(&server, &seen).begun == 2);
        if with_runtime {
            drop(below);
            runtime.block_on(server.join());
        } else {
            drop(server);
        }
        // The name is free before anything else.
        let (next, _) = start(&runtime, &test.name);
        assert_eq!(cut_off(runtime.block_on(hold).unwrap()), Delivered::Yes);
        assert_eq!(cut_off(thread.join().unwrap()), Delivered::Yes);
        until(|| seen.now.load(Ordering::SeqCst) == 0);
        let sum = client.blocking_call_method::<_, i64>("add", &(1, 2), None);
        assert_eq!(sum.unwrap(), 3);
        drop(next);
    }
}

#[test]
fn a_runtime_that_goes_takes_no_call_of_another_one_along() {
    let test = Test::new("dropped runtime");
    let below = threads(1);
    let (server, seen) = start(&below, &test.name);
    let client = Client::blocking_connect(&test.name, None).unwrap();
    for round in 0..stage::scaled(20) {
        seen.open.store(false, Ordering::SeqCst);
        // Two runtimes and a thread wait; all were driven by any of them.
        let (goes, stays) = (if round % 2 == 0 { threads(2) } else { one_thread() }, threads(1));
        let gate = |n: u64| {
            let client = client.clone();
            async move { client.call_method::<_, u64>("gate", &(n,)).await }
        };
        let (lost, kept) = (goes.spawn(gate(1)), stays.spawn(gate(2)));
        if round % 2 == 1 {
            goes.block_on(tokio::task::yield_now());
        }
        let thread = client.clone();
        let thread =
            std::thread::spawn(move || thread.blocking_call_method::<_, u64>("gate", &(3,), None));
        until(|| seen.now.load(Ordering::SeqCst) == 3);
        drop(goes);
        // Its handler hears of it.
        until(|| seen.now.load(Ordering::SeqCst) == 2);
        seen.open();
        assert_eq!(stays.block_on(kept).unwrap().unwrap(), 2);
        assert_eq!(thread.join().unwrap().unwrap(), 3);
        assert!(stays.block_on(lost).unwrap_err().is_cancelled());
    }
    below.block_on(server.shutdown(LONG));
}

#[test]
fn runtimes_and_threads_share_a_client_under_load() {
    let test = Test::new("shared client");
    let below = threads(1);
    let (server, _) = start(&below, &test.name);
    let client = Client::blocking_connect(&test.name, None).unwrap();
    let count = stage::scaled(3000) as i64;
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for t in 0..6i64 {
            let (client, done) = (client.clone(), &done);
            scope.spawn(move || match t {
                0 | 1 => {
                    let calls = stream::iter(0..count).map(|n| {
                        let client = client.clone();
                        async move {
                            let sum: i64 = client.call_method("add", &(t, n)).await.unwrap();
                            assert_eq!(sum, t + n);
                        }
                    });
                    one_thread().block_on(calls.buffer_unordered(50).for_each(|()| async {
                        done.fetch_add(1, Ordering::SeqCst);
                    }));
                }
                2 => {
                    // Runtimes that come and go.
                    for n in 0..count / 50 {
                        let sum = one_thread()
                            .block_on(client.call_method::<_, i64>("add", &(t, n)))
                            .unwrap();
                        assert_eq!(sum, t + n);
                        done.fetch_add(50, Ordering::SeqCst);
                    }
                }
                _ => {
                    for n in 0..count {
                        let sum = client.blocking_call_method::<_, i64>("add", &(t, n), None);
                        assert_eq!(sum.unwrap(), t + n);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 6 * count as u64);
    below.block_on(server.shutdown(LONG));
}

#[test]
fn servers_relieve_each_other_under_load() {
    let test = Test::new("relief");
    let name = &*test.name;
    let below = threads(2);
    let (mut server, _) = start(&below, name);
    let client = Client::blocking_connect(name, None).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3u64)
        .map(|t| {
            let (client, over) = (client.clone(), Arc::clone(&over));
            std::thread::spawn(move || {
                let (mut right, mut refused) = (0u64, 0u64);
                let one = one_thread();
                while !over.load(Ordering::SeqCst) {
                    let body = (ByteBuf::from(blob(10, t)),);
                    let len = match t {
                        0 => client.blocking_call_method::<_, (u64, u64)>("len", &body, None),
                        _ => one.block_on(client.call_method("len", &body)),
                    };
                    match len {
                        Ok(len) => {
                            assert_eq!(len.0, 10);
                            right += 1;
                        }
                        // Sent at the moment in which it left: it says that nobody took it.
                        Err(CallError::Disconnected { delivered: Delivered::No, .. }) => {
                            refused += 1
                        }
                        // Between two servers.
                        Err(CallError::Connect(_)) => {}
                        Err(err) => panic!("{err}"),
                    }
                }
                (right, refused)
            })
        })
        .collect();
    for _ in 0..stage::scaled(30) {
        let ending = below.spawn(server.shutdown(LONG));
        server = start_next(&below, name).0;
        below.block_on(ending).unwrap();
        // All of them find the next one.
        until(|| server.stats().calls >= 10);
    }
    over.store(true, Ordering::SeqCst);
    let (mut right, mut refused) = (0, 0);
    for caller in callers {
        let counts = caller.join().unwrap();
        (right, refused) = (right + counts.0, refused + counts.1);
    }
    eprintln!("{right} answered, {refused} not delivered");
    assert!(right > 0);
    below.block_on(server.shutdown(LONG));
}
