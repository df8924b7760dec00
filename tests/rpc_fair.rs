//! Whose turn it is: one client cannot hold up the others, the limits govern starting and never reading,
//! streams go as fast as they are read, and full rings in both directions are no deadlock.

mod calls;
mod common;
mod stage;

use calls::{Hook, Seen, begin, blob, limits, one_thread, service, threads, view};
use futures_util::{StreamExt, stream};
use ringspan::rpc::{CallError, Client, Limits};
use serde_bytes::ByteBuf;
use stage::{Random, Test, until};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Frames of one client in one round.
const ROUND: usize = 64;

type Marked = Pin<Box<dyn Future<Output = Result<u64, CallError>>>>;

/// Calls of a method that marks, all of them sent.
fn sent(
    client: &Client,
    method: &'static str,
    marks: impl IntoIterator<Item = u64>,
) -> Vec<Marked> {
    let call = |mark: u64| -> Marked {
        let client = client.clone();
        Box::pin(async move { client.call_method(method, &(mark,)).await })
    };
    let mut calls: Vec<_> = marks.into_iter().map(call).collect();
    calls.iter_mut().for_each(begin_boxed);
    calls
}

fn begin_boxed(call: &mut Marked) {
    begin(&mut Pin::new(call));
}

#[test]
fn a_thousand_calls_of_one_delay_another_by_one_round() {
    let test = Test::new("fairness");
    // The server runs when we say so; so do its clients.
    let (below, above) = (one_thread(), one_thread());
    let seen = Arc::<Seen>::default();
    let server = below.block_on(service(&test.name, Limits::default(), &seen).serve()).unwrap();
    let connect = || {
        let name = test.name.clone();
        let connecting = std::thread::spawn(move || Client::blocking_connect(&name, None).unwrap());
        while !connecting.is_finished() {
            below.block_on(tokio::task::yield_now());
        }
        connecting.join().unwrap()
    };
    let many: Vec<_> = (0..3).map(|_| connect()).collect();
    let single = connect();
    for floods in 1..=3 {
        for first in [false, true] {
            seen.marks.lock().unwrap().clear();
            let _in = above.enter();
            let mut calls = Vec::new();
            if first {
                calls.extend(sent(&single, "mark", [0]));
            }
            for client in &many[..floods] {
                calls.extend(sent(client, "mark", (0..1000).map(|n| 1000 + n)));
            }
            if !first {
                calls.extend(sent(&single, "mark", [0]));
            }
            while seen.marks.lock().unwrap().len() < floods * 1000 + 1 {
                below.block_on(tokio::task::yield_now());
            }
            above.block_on(futures_util::future::join_all(calls));
            let marks = seen.marks.lock().unwrap().clone();
            let place = marks.iter().position(|mark| *mark == 0).unwrap();
            assert!(place <= floods * ROUND, "{place} calls before it");
        }
    }
    drop(server);
}

#[test]
fn who_was_asleep_is_heard_while_others_keep_the_server_busy() {
    let test = Test::new("fairness for sleepers");
    let below = threads(1);
    for floods in 1..=3u64 {
        let seen = Arc::<Seen>::default();
        let server = below.block_on(service(&test.name, Limits::default(), &seen).serve()).unwrap();
        let connect = |_| Client::blocking_connect(&test.name, None).unwrap();
        let many: Vec<_> = (0..floods).map(connect).collect();
        let single = connect(0);
        assert_eq!(single.blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap(), 3);
        std::thread::sleep(Duration::from_millis(5));
        // Its call is sent in the midst of the others', by the handler of one of them.
        let (go, wait) = std::sync::mpsc::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let caller = std::thread::spawn(move || {
            wait.recv().unwrap();
            let runtime = one_thread();
            let mut calls = {
                let _in = runtime.enter();
                sent(&single, "mark", [0])
            };
            tell.send(()).unwrap();
            runtime.block_on(calls.remove(0)).unwrap()
        });
        let hook = move || {
            go.send(()).unwrap();
            told.recv().unwrap();
        };
        *seen.hook.lock().unwrap() = Some(Hook(1100, Box::new(hook)));
        let above = one_thread();
        let calls = {
            let _in = above.enter();
            // So that all of them lie there before the first is read.
            let client = many[0].clone();
            let blocks = async move { client.call_method::<_, u64>("block", &(20,)).await };
            let mut blocks = Box::pin(blocks);
            begin(&mut blocks.as_mut());
            let mut calls = Vec::new();
            for (t, client) in many.iter().enumerate() {
                let marks = (0..1000).map(|n| 1000 + n + 10_000 * t as u64);
                calls.extend(sent(client, "mark", marks));
            }
            calls
        };
        above.block_on(futures_util::future::join_all(calls));
        assert_eq!(caller.join().unwrap(), 0);
        let marks = seen.marks.lock().unwrap().clone();
        let place = |wanted| marks.iter().position(|mark| *mark == wanted).unwrap();
        let between = place(0) - place(1100);
        assert!(between <= floods as usize * ROUND, "{between} calls before it");
        drop(server);
    }
}

#[test]
fn clients_take_turns_when_places_get_free() {
    let test = Test::new("turns");
    let runtime = threads(1);
    let seen = Arc::<Seen>::default();
    let one = limits(|limits| limits.max_concurrency = 1);
    let server = runtime.block_on(service(&test.name, one, &seen).serve()).unwrap();
    let clients: Vec<_> =
        (0..3).map(|_| Client::blocking_connect(&test.name, None).unwrap()).collect();
    let above = one_thread();
    let _in = above.enter();
    let mut calls = sent(&clients[0], "gate", [0]);
    until(|| view(&server, &seen).begun == 1);
    calls.extend(sent(&clients[0], "gate", [1; 500]));
    until(|| view(&server, &seen).calls == 501);
    calls.extend(sent(&clients[1], "gate", [2; 20]));
    until(|| view(&server, &seen).calls == 521);
    calls.extend(sent(&clients[2], "gate", [3; 20]));
    // All are read while none can be started, and one that is given up is heard of.
    until(|| view(&server, &seen).calls == 541);
    assert_eq!(view(&server, &seen).begun, 1);
    drop(calls.pop());
    until(|| view(&server, &seen).in_flight == 540);
    seen.open();
    let ended = above.block_on(futures_util::future::join_all(calls));
    assert!(ended.into_iter().all(|ended| ended.is_ok()));
    let marks = seen.marks.lock().unwrap().clone();
    assert_eq!((marks.len(), marks[0]), (540, 0));
    for turn in marks[1..58].chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(turn, [1, 2, 3], "{marks:?}");
    }
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
    drop(server);
}

#[test]
fn no_more_handlers_run_than_are_allowed() {
    let test = Test::new("concurrency");
    let runtime = threads(2);
    let seen = Arc::<Seen>::default();
    let seven = limits(|limits| limits.max_concurrency = 7);
    let server = runtime.block_on(service(&test.name, seven, &seen).serve()).unwrap();
    let callers: Vec<_> = (0..4)
        .map(|t| {
            let client = Client::blocking_connect(&test.name, None).unwrap();
            std::thread::spawn(move || {
                let mut random = Random::new(t);
                let calls = stream::iter(0..stage::scaled(200)).map(|_| {
                    let (ms, patience) = (random.below(3), random.below(8));
                    let client = &client;
                    async move {
                        let args = (ms,);
                        // Some are given up, while they run or wait.
                        let call = client.call_method::<_, u64>("sleep", &args);
                        match tokio::time::timeout(Duration::from_millis(patience), call).await {
                            Ok(slept) => assert_eq!(slept.unwrap(), ms),
                            Err(_late) => {}
                        }
                    }
                });
                one_thread().block_on(calls.buffer_unordered(50).for_each(|()| async {}));
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    until(|| view(&server, &seen).in_flight == 0 && view(&server, &seen).running == 0);
    assert_eq!(seen.most.load(Ordering::SeqCst), 7);
    drop(server);
}

#[test]
fn a_stream_goes_as_fast_as_it_is_read() {
    let test = Test::new("credit");
    let runtime = threads(1);
    let seen = Arc::<Seen>::default();
    let server = runtime.block_on(service(&test.name, Limits::default(), &seen).serve()).unwrap();
    let client = Client::blocking_connect(&test.name, None).unwrap();
    // 16 items; or as many as fill a window of 1 MiB.
    for (len, ahead) in [(10, 16), (300 << 10, 4)] {
        seen.items.store(0, Ordering::SeqCst);
        threads(1).block_on(async {
            let mut drip =
                client.stream_method::<_, (u64, ByteBuf)>("drip", &(len,)).await.unwrap();
            let items = || seen.items.load(Ordering::SeqCst);
            let settled = || {
                let mut last = u64::MAX;
                until(|| {
                    std::thread::sleep(Duration::from_millis(10));
                    let now = items();
                    std::mem::replace(&mut last, now) == now && now > 0
                });
                last
            };
            assert!(settled() <= ahead, "{} items for a reader that takes nothing", items());
            for read in 1..=50 {
                let (n, body) = drip.next().await.unwrap().unwrap();
                assert!(n == read - 1 && *body == blob(len, n));
                assert!(items() <= read + ahead, "{} items, {read} read", items());
            }
            let ended = settled();
            assert!(ended <= 50 + ahead, "{ended}");
            drop(drip);
            until(|| view(&server, &seen).in_flight == 0);
            assert_eq!(items(), ended, "one more after the end");
        });
    }
    drop(server);
}

#[test]
fn full_rings_in_both_directions_are_no_deadlock() {
    let test = Test::new("both full");
    let runtime = threads(2);
    let seen = Arc::<Seen>::default();
    let tiny = limits(|limits| {
        limits.ring_capacity = 4096;
        limits.max_unread_bytes = 10_000;
        limits.max_inflight_bytes = 8 << 20;
        limits.max_message = 1 << 20;
        limits.max_concurrency = 20;
    });
    let server = runtime.block_on(service(&test.name, tiny, &seen).serve()).unwrap();
    let client = Client::blocking_connect(&test.name, None).unwrap();
    let count = stage::scaled(300);
    std::thread::scope(|scope| {
        for t in 0..3u64 {
            let client = client.clone();
            scope.spawn(move || {
                if t == 0 {
                    for n in 0..count / 4 {
                        let seed = (n * 2311) % 60_000;
                        let body =
                            client.blocking_call_method::<_, ByteBuf>("blob", &(seed, n), None);
                        assert!(*body.unwrap() == blob(seed, n));
                    }
                    return;
                }
                let echoes = stream::iter(0..count).map(|n| {
                    let client = client.clone();
                    async move {
                        let body = blob((n * 7919) % 200_000, n * 10 + t);
                        assert!(client.call_bytes("echo", &body).await.unwrap() == body);
                    }
                });
                let drips = stream::iter(0..count / 60).map(|_| async {
                    let items = client.stream_method::<_, (u64, ByteBuf)>("drip", &(9000,));
                    let mut items = items.await.unwrap().take(40);
                    while let Some(item) = items.next().await {
                        let (n, body) = item.unwrap();
                        assert!(*body == blob(9000, n));
                    }
                });
                one_thread().block_on(async {
                    tokio::join!(
                        echoes.buffer_unordered(40).for_each(|()| async {}),
                        drips.buffer_unordered(3).for_each(|()| async {}),
                    )
                });
            });
        }
    });
    until(|| view(&server, &seen).in_flight == 0);
    assert_eq!(view(&server, &seen).violations, 0);
    drop(server);
}
