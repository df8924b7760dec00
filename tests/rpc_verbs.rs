//! Calls within one process: what each verb does, and how it fails.

mod common;

use common::{Leftovers, Watchdog};
use futures_util::StreamExt;
use ringspan::rpc::{self, CallError, Client, HandlerError, Limits, Reason, Server, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

async fn add((a, b): (i64, i64)) -> rpc::Answer<i64> {
    Ok(a + b)
}

async fn service(name: &str, stopped: Arc<AtomicU32>) -> Server {
    struct Dropped(Arc<AtomicU32>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let blocked = Arc::clone(&stopped);
    Service::builder(name)
        .method("add", add)
        .method("later", |(ms, value): (u64, i64)| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok::<_, HandlerError>(value)
        })
        .method("parse", |(text,): (String,)| async move { text.parse::<i64>() })
        .method("panic", |(): ()| async move {
            if true {
                panic!("on purpose");
            }
            Ok::<(), HandlerError>(())
        })
        .method("panic_later", |(): ()| async move {
            tokio::task::yield_now().await;
            if true {
                panic!("on purpose, later");
            }
            Ok::<(), HandlerError>(())
        })
        .method("forever", move |(): ()| {
            let dropped = Dropped(Arc::clone(&blocked));
            async move {
                std::future::pending::<()>().await;
                drop(dropped);
                Ok::<(), HandlerError>(())
            }
        })
        .method("left", |call: rpc::Context, (): ()| async move {
            Ok::<_, HandlerError>(call.remaining().map(|left| left.as_secs_f64()))
        })
        .method("len", |(blob,): (serde_bytes::ByteBuf,)| async move {
            Ok::<_, HandlerError>(blob.len())
        })
        .method("blob", |(len,): (usize,)| async move {
            Ok::<_, HandlerError>(serde_bytes::ByteBuf::from(vec![7; len]))
        })
        .method_bytes("echo", |data: bytes::Bytes| async move { Ok::<_, HandlerError>(data) })
        .method_in_place("invert", |args, reply| {
            if args.is_empty() {
                return Err(HandlerError::new("ValueError", "nothing to invert"));
            }
            reply.fill(args.len(), |out| {
                out.iter_mut().zip(args).for_each(|(to, from)| *to = !from);
            });
            Ok(())
        })
        .method_stream("count", |(n,): (u64,)| {
            futures_util::stream::iter((0..n).map(Ok::<_, HandlerError>))
        })
        .limits(Limits::default().max_message(8 << 20).max_inflight_bytes(8 << 20))
        .serve()
        .await
        .unwrap()
}

#[tokio::test]
async fn calls_answer() {
    let _dog = Watchdog::new("calls");
    let left = Leftovers::new();
    let name = left.name("rpc");
    let server = service(&name, Arc::default()).await;
    let client = Client::connect(&name).await.unwrap();
    assert_eq!(client.call_method::<_, i64>("add", &(2, 3)).await.unwrap(), 5);
    assert_eq!(client.call_method::<_, i64>("later", &(20, 9)).await.unwrap(), 9);
    assert_eq!(
        client
            .call_method::<_, usize>("len", &(serde_bytes::ByteBuf::from(vec![1; 5 << 20]),))
            .await
            .unwrap(),
        5 << 20
    );
    let blob: serde_bytes::ByteBuf = client.call_method("blob", &(6 << 20,)).await.unwrap();
    assert!(blob.len() == 6 << 20 && blob.iter().all(|byte| *byte == 7));
    assert_eq!(client.call_bytes("echo", b"as it is").await.unwrap(), b"as it is");
    let items: Vec<u64> = client
        .stream_method::<_, u64>("count", &(1000,))
        .await
        .unwrap()
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(items, (0..1000).collect::<Vec<_>>());
    let left: Option<f64> = client.call_method("left", &()).await.unwrap();
    assert_eq!(left, None);
    let timed = client.with_timeout(Duration::from_secs(60));
    let left: Option<f64> = timed.call_method("left", &()).await.unwrap();
    assert!(left.is_some_and(|left| left > 1.0 && left <= 60.0));
    let calls = (0..1000i64).map(|n| {
        let client = client.clone();
        async move { client.call_method::<_, i64>("add", &(n, n)).await.unwrap() }
    });
    let sums = futures_util::future::join_all(calls).await;
    assert_eq!(sums, (0..1000).map(|n| n + n).collect::<Vec<_>>());
    let stats = server.stats();
    assert_eq!((stats.errors, stats.in_flight, stats.clients), (0, 0, 1));
    server.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn errors_come_by_their_names() {
    let _dog = Watchdog::new("calls");
    let left = Leftovers::new();
    let name = left.name("rpc");
    let server = service(&name, Arc::default()).await;
    let client = Client::connect(&name).await.unwrap();
    let err = client.call_method::<_, i64>("parse", &("x",)).await.unwrap_err();
    assert_eq!(err.remote().unwrap().type_name, "ParseIntError");
    for method in ["panic", "panic_later"] {
        let err = client.call_method::<_, ()>(method, &()).await.unwrap_err();
        assert_eq!(err.remote().unwrap().reason, Some(Reason::Panicked), "{err}");
    }
    let err = client.call_method::<_, i64>("add", &("x", 1)).await.unwrap_err();
    assert_eq!(err.remote().unwrap().reason, Some(Reason::BadArguments), "{err}");
    let err = client.call_method::<_, i64>("nothing", &()).await.unwrap_err();
    assert!(matches!(err, CallError::UnknownMethod(_)), "{err}");
    let err = client.call_method::<_, ()>("blob", &(9 << 20,)).await.unwrap_err();
    assert_eq!(err.remote().unwrap().reason, Some(Reason::BadResult), "{err}");
    let blob = serde_bytes::ByteBuf::from(vec![1; 9 << 20]);
    let err = client.call_method::<_, ()>("len", &(blob,)).await.unwrap_err();
    assert!(matches!(err, CallError::TooLarge { .. }), "{err}");
    assert_eq!(client.call_method::<_, i64>("add", &(2, 3)).await.unwrap(), 5);
    drop(server);
}

#[tokio::test]
async fn a_call_given_up_stops_its_handler() {
    let _dog = Watchdog::new("calls");
    let left = Leftovers::new();
    let name = left.name("rpc");
    let dropped = Arc::new(AtomicU32::new(0));
    let server = service(&name, Arc::clone(&dropped)).await;
    let client = Client::connect(&name).await.unwrap();
    let err = client
        .with_timeout(Duration::from_millis(30))
        .call_method::<_, ()>("forever", &())
        .await
        .unwrap_err();
    assert!(matches!(err, CallError::Timeout(_)), "{err}");
    while dropped.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    let call = client.call_method::<_, ()>("forever", &());
    tokio::time::timeout(Duration::from_millis(30), call).await.unwrap_err();
    while dropped.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    while server.stats().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.stats().running, 0);
}

#[test]
fn threads_call_too() {
    let _dog = Watchdog::new("calls");
    let left = Leftovers::new();
    let name = left.name("rpc");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(service(&name, Arc::default()));
    let client = Client::blocking_connect(&name, Duration::from_secs(60)).unwrap();
    let threads: Vec<_> = (0..4i64)
        .map(|t| {
            let client = client.clone();
            std::thread::spawn(move || {
                for n in 0..500 {
                    let sum: i64 = client.blocking_call_method("add", &(t, n), None).unwrap();
                    assert_eq!(sum, t + n);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let err = client
        .blocking_call_method::<_, ()>("forever", &(), Duration::from_millis(20))
        .unwrap_err();
    assert!(matches!(err, CallError::Timeout(_)), "{err}");
    runtime.block_on(server.shutdown(Duration::from_secs(5)));
    let err = client.blocking_call_method::<_, i64>("add", &(1, 1), None).unwrap_err();
    assert!(matches!(err, CallError::Connect(_)), "{err}");
}

#[tokio::test]
async fn a_client_finds_the_next_server() {
    let _dog = Watchdog::new("calls");
    let left = Leftovers::new();
    let name = left.name("rpc");
    let first = service(&name, Arc::default()).await;
    let client = Client::connect(&name).await.unwrap();
    assert_eq!(client.call_method::<_, i64>("add", &(2, 3)).await.unwrap(), 5);
    let taken = rpc::serve(&name, add).await.unwrap_err();
    assert!(taken.to_string().contains(&std::process::id().to_string()), "{taken}");
    first.shutdown(Duration::ZERO).await;
    let second = rpc::serve(&name, add).await.unwrap();
    assert_eq!(client.call::<_, i64>(&(2, 4)).await.unwrap(), 6);
    drop(second);
    let err = client.call::<_, i64>(&(2, 4)).await.unwrap_err();
    assert!(matches!(err, CallError::Connect(_) | CallError::Disconnected { .. }), "{err}");
}

/// Small, larger than a frame of the ring, too many for the ring at once, and failing.
#[tokio::test]
async fn calls_in_place_answer() {
    let _dog = Watchdog::new("calls in place");
    let left = Leftovers::new();
    let name = left.name("rpc");
    let server = service(&name, Arc::default()).await;
    let client = Client::connect(&name).await.unwrap();
    for len in [1, 16, 1000, 100_000, 300_000, 3 << 20] {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7 % 251) as u8).collect();
        let inverted = client.call_bytes("invert", &bytes).await.unwrap();
        assert!(inverted.iter().zip(&bytes).all(|(a, b)| *a == !b), "{len} bytes");
        assert_eq!(inverted.len(), len);
    }
    let calls = (0..200u32).map(|n| {
        let client = client.clone();
        async move {
            let bytes = n.to_le_bytes().repeat(10_000);
            let inverted = client.call_bytes("invert", &bytes).await.unwrap();
            assert_eq!(inverted, (!n).to_le_bytes().repeat(10_000));
        }
    });
    futures_util::future::join_all(calls).await;
    let err = client.call_bytes("invert", b"").await.unwrap_err();
    assert_eq!(err.remote().unwrap().type_name, "ValueError");
    let stats = server.stats();
    assert_eq!((stats.errors, stats.in_flight), (1, 0));
}
