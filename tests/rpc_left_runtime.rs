//! Runtimes that come and go on one thread, with one client.

mod common;

use common::Watchdog;
use ringspan::rpc::{Client, HandlerError, Service};
use std::time::Duration;

fn builder() -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all();
    builder
}

/// Serves on a thread of its own, so that the clients here can be on other runtimes.
fn serve(name: &str) {
    let (up, wait) = std::sync::mpsc::channel();
    let name = name.to_owned();
    std::thread::spawn(move || {
        builder().build().unwrap().block_on(async move {
            let server = Service::builder(&name)
                .method("later", |(ms, value): (u64, i64)| async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok::<_, HandlerError>(value)
                })
                .serve()
                .await
                .unwrap();
            up.send(()).unwrap();
            server.join().await;
        });
    });
    wait.recv().unwrap();
}

/// A driver is in the middle of its turns when the future of its runtime is over; nobody drives it any more.
#[test]
fn a_runtime_that_is_left_while_its_driver_is_awake() {
    let _dog = Watchdog::new("a runtime that was left");
    let name = format!("/lone-left-{}", std::process::id());
    serve(&name);
    let client = Client::blocking_connect(&name, None).unwrap();
    let first = builder().event_interval(1).build().unwrap();
    let second = builder().build().unwrap();
    for _ in 0..100 {
        first.block_on(async {
            let (a, b) = tokio::join!(
                client.call_method::<_, i64>("later", &(1, 1)),
                client.call_method::<_, i64>("later", &(1, 2))
            );
            assert_eq!((a.unwrap(), b.unwrap()), (1, 2));
        });
        second.block_on(async {
            let both = async {
                tokio::join!(
                    client.call_method::<_, i64>("later", &(5, 3)),
                    client.call_method::<_, i64>("later", &(5, 4))
                )
            };
            let got = tokio::time::timeout(Duration::from_secs(2), both).await;
            let (a, b) = got.expect("nobody drives");
            assert_eq!((a.unwrap(), b.unwrap()), (3, 4));
        });
    }
}
