//! What stands still, and what is given up: SIGSTOP of clients and servers, deadlines on both sides, and
//! calls dropped at every stage.

mod calls;
mod common;
mod stage;

use calls::{Seen, begin, blob, limits, one_thread, serve, service, side, spawn_server, threads};
use calls::{until_seen, view};
use common::{hear, say};
use futures_util::future::Either;
use futures_util::{StreamExt, stream};
use ringspan::rpc::{CallError, Client, Limits};
use rustix::process::Signal;
use serde_bytes::ByteBuf;
use stage::{Role, Test, role, state, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_millis(30);

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(Role { role, name, argument }) = role() else { return };
    match role.as_str() {
        "serve" => serve(&name, &argument),
        "flood" => flood(&name),
        "deadlines" => deadlines(&name),
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

/// As many calls as it may, of large results, and streams that are not read.
fn flood(name: &str) {
    one_thread().block_on(async {
        let client = Client::connect(name).await.unwrap();
        let mut unread = Vec::new();
        for _ in 0..4 {
            unread.push(client.stream_method::<_, (u64, ByteBuf)>("drip", &(4096,)).await.unwrap());
        }
        say("flooding");
        let calls = (0..).map(|n: u64| {
            let client = client.clone();
            async move {
                let body: ByteBuf = client.call_method("blob", &(100_000, n)).await.unwrap();
                assert!(*body == blob(100_000, n));
            }
        });
        stream::iter(calls).buffer_unordered(500).for_each(|()| async {}).await;
    });
}

/// Two calls that never end, with deadlines that only the server can see to: this process is stopped.
fn deadlines(name: &str) {
    one_thread().block_on(async {
        let client = Client::connect(name).await.unwrap().with_timeout(Duration::from_millis(1000));
        let (mut first, mut second) = (
            Box::pin(client.call_method::<_, ()>("hold", &())),
            Box::pin(client.call_method::<_, ()>("hold", &())),
        );
        begin(&mut first.as_mut());
        begin(&mut second.as_mut());
        say("called");
        hear();
        for call in [first, second] {
            let err = call.await.unwrap_err();
            assert!(matches!(err, CallError::Timeout(_)), "{err}");
        }
    });
}

fn stop(child: &common::Peer) {
    child.signal(Signal::STOP);
    until(|| state(child.pid()) == Some('T'));
}

#[test]
fn a_stopped_client_harms_only_itself() {
    let test = Test::new("stopped client");
    let name = &*test.name;
    let mut server = spawn_server(name, "one side");
    let look = Client::blocking_connect(&side(name), None).unwrap();
    let mut stopped = test.spawn("flood", "");
    stopped.expect("flooding");
    let other = Client::blocking_connect(name, None).unwrap();
    for round in 0..stage::scaled(3) {
        stop(&stopped);
        for n in 0..1000 {
            assert_eq!(other.blocking_call_method::<_, i64>("add", &(n, 1), None).unwrap(), n + 1);
        }
        // What it does not read stops what is made for it.
        let mut before = until_seen(&look, |_| true);
        let quiet = until_seen(&look, |now| {
            std::thread::sleep(Duration::from_millis(5));
            std::mem::replace(&mut before, *now).calls == now.calls
        });
        assert!(quiet.items <= 4 * 16 * (round + 1), "{quiet:?}");
        stopped.signal(Signal::CONT);
        until_seen(&look, |view| view.calls > quiet.calls + 500);
    }
    stop(&stopped);
    stopped.kill9();
    let end = until_seen(&look, |view| view.clients == 1 && view.begun == view.gone);
    assert_eq!(end.violations, 0);
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn a_stopped_server_times_calls_out_and_goes_on() {
    let test = Test::new("stopped server");
    let name = &*test.name;
    let mut server = spawn_server(name, "one");
    let runtime = threads(2);
    let client = Client::blocking_connect(name, None).unwrap();
    for _ in 0..stage::scaled(3) {
        stop(&server);
        let timed = client.with_timeout(MOMENT);
        runtime.block_on(async {
            let body = (ByteBuf::from(blob(5 << 20, 3)),);
            let lazy = Client::lazy(name).with_timeout(MOMENT);
            let ended = tokio::join!(
                timed.call_method::<_, i64>("add", &(1, 2)),
                timed.call_method::<_, (u64, u64)>("len", &body),
                timed.stream_method::<_, u64>("count", &(5,)),
                lazy.call_method::<_, i64>("add", &(1, 2)),
            );
            assert!(matches!(ended.0, Err(CallError::Timeout(_))), "{:?}", ended.0);
            assert!(matches!(ended.1, Err(CallError::Timeout(_))), "{:?}", ended.1);
            let item = ended.2.unwrap().next().await.unwrap();
            assert!(matches!(item, Err(CallError::Timeout(_))), "{item:?}");
            let Err(CallError::Timeout(fault)) = ended.3 else { panic!("{:?}", ended.3) };
            assert!(fault.to_string().contains("is it stopped"), "{fault}");
        });
        let err = client.blocking_call_method::<_, i64>("add", &(1, 2), MOMENT).unwrap_err();
        assert!(matches!(err, CallError::Timeout(_)), "{err}");
        let err = Client::blocking_connect(name, MOMENT).unwrap_err();
        assert!(matches!(err, CallError::Timeout(_)), "{err}");
        // One without a deadline waits, and is answered.
        let waits = client.clone();
        let waits = runtime.spawn(async move { waits.call_method::<_, i64>("add", &(3, 4)).await });
        server.signal(Signal::CONT);
        assert_eq!(runtime.block_on(waits).unwrap().unwrap(), 7);
        assert_eq!(client.blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap(), 3);
    }
    server.say("stop 1000");
    server.expect("stopped");
}

#[test]
fn the_server_ends_calls_whose_deadlines_are_over() {
    let test = Test::new("deadlines at the server");
    let name = &*test.name;
    for busy in [false, true] {
        let runtime = threads(2);
        let seen = Arc::<Seen>::default();
        // One runs and one is pending; or both run, and somebody else keeps the server from ever having
        // nothing to do.
        let run = if busy { 2 } else { 1 };
        let few = limits(|limits| limits.max_concurrency = if busy { 3 } else { 1 });
        let server = runtime.block_on(service(name, few, &seen).serve()).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (others, until_over) =
            (Client::blocking_connect(name, None).unwrap(), Arc::clone(&over));
        let load = busy.then(|| {
            std::thread::spawn(move || {
                let calls = stream::repeat(&others)
                    .take_while(|_| std::future::ready(!until_over.load(Ordering::SeqCst)))
                    .map(
                        |client| async move { client.call_method::<_, u64>("spin", &(100,)).await },
                    );
                one_thread().block_on(calls.buffer_unordered(1000).for_each(|_| async {}));
            })
        });
        let mut client = test.spawn("deadlines", "");
        client.expect("called");
        until(|| view(&server, &seen).begun == run);
        stop(&client);
        // They end with nobody there to cancel them.
        until(|| {
            let view = view(&server, &seen);
            view.gone == run && (busy || view.in_flight == 0)
        });
        client.signal(Signal::CONT);
        client.say("look");
        client.finish();
        over.store(true, Ordering::SeqCst);
        load.into_iter().for_each(|load| load.join().unwrap());
        until(|| view(&server, &seen).in_flight == 0);
        let view = view(&server, &seen);
        assert_eq!((view.begun, view.gone, view.running), (run, run, 0));
        drop(server);
        drop(runtime);
    }
}

#[test]
fn a_client_ends_its_calls_in_time_however_busy_it_is() {
    let test = Test::new("deadlines of a busy client");
    let name = &*test.name;
    let mut server = spawn_server(name, "");
    let client = Client::blocking_connect(name, None).unwrap();
    let busy = async move {
        // Slower than the server, so that there is always something to read, and nobody goes to sleep.
        let load = stream::repeat(()).map(|()| async {
            let sum: i64 = client.call_method("add", &(1, 2)).await.unwrap();
            let until = Instant::now() + Duration::from_micros(20);
            while Instant::now() < until {}
            sum
        });
        let mut load = std::pin::pin!(load.buffer_unordered(500));
        let timed = client.with_timeout(MOMENT);
        for _ in 0..stage::scaled(3) {
            for _ in 0..5000 {
                assert_eq!(load.next().await, Some(3));
            }
            let late = std::pin::pin!(timed.call_method::<_, ()>("hold", &()));
            let load = std::pin::pin!(load.by_ref().for_each(|_| async {}));
            match futures_util::future::select(late, load).await {
                Either::Left((ended, _)) => {
                    let err = ended.unwrap_err();
                    assert!(matches!(err, CallError::Timeout(_)), "{err}");
                }
                Either::Right(_) => panic!("the load ended"),
            }
        }
    };
    // As a task: it and the one that drives take turns.
    let runtime = threads(1);
    runtime.block_on(runtime.spawn(busy)).unwrap();
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn a_handler_knows_its_deadline() {
    let test = Test::new("deadline of the context");
    let mut server = spawn_server(&test.name, "one");
    let client = Client::blocking_connect(&test.name, None).unwrap();
    let left = |timeout: Option<Duration>| {
        client.blocking_call_method::<_, Option<f64>>("left", &(), timeout).unwrap()
    };
    assert_eq!(left(None), None);
    assert!(left(Some(Duration::from_secs(100))).is_some_and(|left| left > 1.0 && left <= 100.0));
    let days = left(Some(Duration::from_secs(40 * 86400))).unwrap();
    assert!(days > 39.0 * 86400.0 && days <= 40.0 * 86400.0, "{days}");
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn a_dropped_call_is_heard_of_wherever_it_stands() {
    let test = Test::new("dropped calls");
    let name = &*test.name;
    let mut server = spawn_server(name, "concurrency=2 side");
    let runtime = one_thread();
    let look = Client::blocking_connect(&side(name), None).unwrap();
    for round in 1..=stage::scaled(10) {
        let client = Client::blocking_connect(name, None).unwrap();
        runtime.block_on(async {
            let mut drip = client.stream_method::<_, (u64, ByteBuf)>("drip", &(64,)).await.unwrap();
            drip.next().await.unwrap().unwrap();
            let mut running = Box::pin(client.call_method::<_, ()>("hold", &()));
            begin(&mut running.as_mut());
            until_seen(&look, |view| view.begun == 2 * round);
            // The two that run leave no place for these.
            let mut pending: Vec<_> =
                (0..3).map(|_| Box::pin(client.call_method::<_, u64>("mark", &(7,)))).collect();
            pending.iter_mut().for_each(|call| begin(&mut call.as_mut()));
            until_seen(&look, |view| view.in_flight == 5);
            drop(pending);
            until_seen(&look, |view| view.in_flight == 2);
            stop(&server);
            // Half sent: the rest of its arguments never comes, and nobody must run it without.
            let body = (ByteBuf::from(blob(5 << 20, 1)),);
            let mut half = Box::pin(client.call_method::<_, u64>("mark_all", &body));
            begin(&mut half.as_mut());
            let mut waits = Box::pin(client.call_method::<_, u64>("mark", &(7,)));
            begin(&mut waits.as_mut());
            drop((half, waits));
            server.signal(Signal::CONT);
            if round % 2 == 0 {
                drop(drip);
                until_seen(&look, |view| view.gone == 2 * round - 1);
                drop(running);
            } else {
                drop(running);
                until_seen(&look, |view| view.gone == 2 * round - 1);
                drop(drip);
            }
            let end = until_seen(&look, |view| view.gone == 2 * round && view.in_flight == 0);
            assert_eq!((end.marks, end.violations), (0, 0));
            // In order on the same connection: whatever was cut short is behind us.
            assert_eq!(client.call_method::<_, i64>("add", &(2, 3)).await.unwrap(), 5);
        });
    }
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn a_call_after_one_that_was_dropped_is_answered() {
    let test = Test::new("a call after a dropped one");
    let runtime = threads(1);
    let seen = Arc::<Seen>::default();
    let server = runtime.block_on(service(&test.name, Limits::default(), &seen).serve()).unwrap();
    let client = Client::blocking_connect(&test.name, None).unwrap();
    one_thread().block_on(async {
        for n in 0..stage::scaled(50) as i64 {
            let mut hold = Box::pin(client.call_method::<_, ()>("hold", &()));
            begin(&mut hold.as_mut());
            // The task that drives goes to sleep.
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(hold);
            // The end of the dropped one comes while nobody of this runtime can look.
            until(|| view(&server, &seen).in_flight == 0);
            std::thread::sleep(Duration::from_micros(200));
            assert_eq!(client.call_method::<_, i64>("add", &(n, 1)).await.unwrap(), n + 1);
        }
    });
    drop(server);
}
