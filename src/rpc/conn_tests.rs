//! A lone call takes the number of the sleepers down; the calls that come after it put it up again.

use super::*;
use crate::notify::awake::SPINS;
use crate::rpc::{Client, HandlerError, Service};
use futures_util::StreamExt;

/// Who waits awake does so for a peer on another cpu only.
fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    let _ = rustix::thread::sched_setaffinity(None, &set); // else it is as likely as not
}

/// Serves on a thread of its own.
fn serve(name: &str) {
    let (up, wait) = std::sync::mpsc::channel();
    let name = name.to_owned();
    pin(0);
    std::thread::spawn(move || {
        pin(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let server = Service::builder(&name)
                .method("add", |(a, b): (i64, i64)| async move { Ok::<_, HandlerError>(a + b) })
                .method("later", |(ms, value): (u64, i64)| async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok::<_, HandlerError>(value)
                })
                .method_stream("slow", |(n,): (u64,)| {
                    futures_util::stream::iter(0..n).then(|n| async move {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        Ok::<_, HandlerError>(n)
                    })
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

/// A client whose driver sleeps, and whose last call was alone and got its answer awake.
async fn lulled(name: &str) -> Client {
    let client = Client::connect(name).await.unwrap();
    let (a, b) = tokio::join!(
        client.call_method::<_, i64>("later", &(30, 1)),
        client.call_method::<_, i64>("later", &(30, 2))
    );
    assert_eq!((a.unwrap(), b.unwrap()), (1, 2));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let conn = client.shared.current().unwrap();
    for n in 0..10_000 {
        conn.with(|state| state.patience = Awake::new(SPINS));
        assert_eq!(client.call_method::<_, i64>("add", &(n, 1)).await.unwrap(), n + 1);
        let bare =
            |state: &mut State| state.sleepers == 1 && !state.link.as_ref().unwrap().is_parked();
        if conn.with(bare) {
            return client;
        }
    }
    panic!("no call was alone");
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3), what).await.expect("nobody was woken")
}

#[tokio::test]
async fn two_streams_are_begun_before_either_is_looked_at() {
    let name = format!("/conn-streams-{}", std::process::id());
    serve(&name);
    let client = lulled(&name).await;
    let mut one = client.stream_method::<_, u64>("slow", &(2,)).await.unwrap();
    let mut two = client.stream_method::<_, u64>("slow", &(2,)).await.unwrap();
    assert_eq!(soon(one.next()).await.unwrap().unwrap(), 0);
    assert_eq!(soon(two.next()).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_stream_is_dropped_before_it_was_looked_at() {
    let name = format!("/conn-dropped-{}", std::process::id());
    serve(&name);
    let client = lulled(&name).await;
    drop(client.stream_method::<_, u64>("slow", &(2,)).await.unwrap());
    let call = client.call_method::<_, i64>("later", &(30, 7));
    assert_eq!(soon(call).await.unwrap(), 7);
}
