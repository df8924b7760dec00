//! The checks, by a Rust client; `tests/python/rpc_peer.py` has the same for a Python client.

use crate::item::Item;
use crate::{Done, lines};
use futures_util::{StreamExt, future};
use ringspan::codec;
use ringspan::rpc::{CallError, Client, Delivered};
use serde::Serialize;
use serde_bytes::ByteBuf;
use std::time::Duration;

/// Sizes around every border: nothing, a frame, a ring, many rings.
const SIZES: [usize; 8] = [0, 1, 4095, 65_536, 1 << 20, (1 << 20) + 1, 5_000_000, 20_000_000];

#[derive(Serialize)]
struct Named {
    a: i64,
    b: i64,
}

fn ensure(it_is: bool, what: impl std::fmt::Debug) -> Done<()> {
    if it_is { Ok(()) } else { Err(format!("unexpected: {what:?}").into()) }
}

fn failed<T>(result: Result<T, CallError>) -> Done<CallError> {
    result.err().ok_or_else(|| "it did not fail".into())
}

/// Does what stdin says.
pub(crate) async fn run(name: &str) -> Done<()> {
    let client = Client::connect(name).await?;
    println!("connected");
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        match check(&client, &line).await {
            Ok(()) => println!("ok"),
            Err(error) => println!("{line}: {error}"),
        }
    }
    Ok(())
}

async fn check(c: &Client, name: &str) -> Done<()> {
    match name {
        "results" => results(c).await,
        "echo" => echo(c).await,
        "sizes" => sizes(c).await,
        "errors" => errors(c).await,
        "refusals" => refusals(c).await,
        "streams" => streams(c).await,
        "deadlines" => deadlines(c).await,
        "cancelling" => cancelling(c).await,
        "many" => many(c).await,
        "caller" => caller(c).await,
        "hang" => hang(c).await,
        "gone" => gone(c).await,
        other => Err(format!("no such check: {other}").into()),
    }
}

async fn results(c: &Client) -> Done<()> {
    let sum: i64 = c.call_method("add", &(2, 3)).await?;
    ensure(sum == 5, sum)?;
    let by_place: i64 = c.call_method("sub", &(7, 3)).await?;
    let by_name: i64 = c.call_method("sub", &Named { b: 3, a: 7 }).await?;
    ensure((by_place, by_name) == (4, 4), (by_place, by_name))?;
    c.call_method::<_, ()>("none", &()).await?;
    let late: i64 = c.call_method("later", &(20, 9)).await?;
    ensure(late == 9, late)?;
    let raw = c.call_bytes("raw", b"\x00as it is\xff").await?;
    ensure(raw == b"\x00as it is\xff", raw)
}

/// Every value of the frozen table.
async fn echo(c: &Client) -> Done<()> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/codec.txt");
    let mut seen = 0;
    for line in std::fs::read_to_string(golden)?.lines() {
        let Some((name, hex)) = line.split_once(' ') else { continue };
        // Not a value; and what Python has another type for: a list as a key, a path of no system.
        if ["#", "array_record", "dict_keys", "path"].contains(&name) {
            continue;
        }
        let digits: Vec<char> = hex.trim().chars().collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16))
            .collect::<Result<_, _>>()?;
        let item: Item = codec::from_slice(&bytes)?;
        let back: Item = c.call_method("echo", &(&item,)).await?;
        ensure(codec::to_vec(&back)? == bytes, (name, &item, &back))?;
        seen += 1;
    }
    ensure(seen > 40, seen)
}

async fn sizes(c: &Client) -> Done<()> {
    for size in SIZES {
        let length: usize = c.call_method("length", &(ByteBuf::from(vec![1; size]),)).await?;
        ensure(length == size, (size, length))?;
        let blob: ByteBuf = c.call_method("blob", &(size,)).await?;
        ensure(blob.len() == size && blob.iter().all(|byte| *byte == 7), (size, blob.len()))?;
        let raw = c.call_bytes("raw", &blob).await?;
        ensure(raw == **blob, (size, raw.len()))?;
    }
    Ok(())
}

async fn errors(c: &Client) -> Done<()> {
    for kind in ["ValueError", "KeyError", "FileNotFoundError", "OutOfCheese"] {
        let error = failed(c.call_method::<_, ()>("fail", &(kind, "because")).await)?;
        let remote = error.remote().ok_or_else(|| error.to_string())?;
        ensure(remote.type_name == kind && remote.message == "because", remote)?;
        ensure(!remote.traceback.is_empty(), remote)?;
    }
    results(c).await
}

async fn refusals(c: &Client) -> Done<()> {
    let error = failed(c.call_method::<_, ()>("nothing", &()).await)?;
    ensure(matches!(error, CallError::UnknownMethod(_)), &error)?;
    let error = failed(c.call_method::<_, ()>("add", &(1,)).await)?;
    ensure(error.remote().is_some(), &error)?;
    let error = failed(c.call_method::<_, ()>("count", &(3,)).await)?;
    ensure(error.remote().is_some_and(|remote| remote.type_name == "TypeError"), &error)?;
    let error =
        failed(c.call_method::<_, ()>("length", &(ByteBuf::from(vec![0; 65 << 20]),)).await)?;
    ensure(matches!(error, CallError::TooLarge { .. }), &error)?;
    let error = failed(c.call_method::<_, ()>("blob", &(65 << 20,)).await)?;
    ensure(error.remote().is_some(), &error)?;
    results(c).await
}

async fn streams(c: &Client) -> Done<()> {
    for n in [0u64, 1, 1000] {
        let items = c.stream_method::<_, u64>("count", &(n,)).await?;
        let items: Vec<_> = items.map(Result::unwrap).collect().await;
        ensure(items == (0..n).collect::<Vec<_>>(), items)?;
    }
    let before = stopped(c).await?;
    let mut ticks = c.stream_method::<_, u64>("ticks", &()).await?;
    for n in 0..500 {
        let item = ticks.next().await.ok_or("it ended")??;
        ensure(item == n, (n, item))?;
    }
    drop(ticks);
    until_stopped(c, before + 1).await?;
    let mut breaks = c.stream_method::<_, u64>("breaks", &(3,)).await?;
    for n in 0..3 {
        ensure(breaks.next().await.ok_or("it ended")?? == n, n)?;
    }
    let error = failed(breaks.next().await.ok_or("it ended")?)?;
    ensure(error.remote().is_some_and(|remote| remote.type_name == "LookupError"), &error)?;
    ensure(breaks.next().await.is_none(), "more items")
}

async fn stopped(c: &Client) -> Result<u64, CallError> {
    c.call_method("stopped", &()).await
}

async fn until_stopped(c: &Client, count: u64) -> Done<()> {
    while stopped(c).await? < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn deadlines(c: &Client) -> Done<()> {
    let left: Option<f64> = c.call_method("left", &()).await?;
    ensure(left.is_none(), left)?;
    let timed = c.with_timeout(Duration::from_secs(60));
    let left: Option<f64> = timed.call_method("left", &()).await?;
    ensure(left.is_some_and(|left| left > 1.0 && left <= 60.0), left)?;
    let before = stopped(c).await?;
    let hasty = c.with_timeout(Duration::from_millis(30));
    let error = failed(hasty.call_method::<_, ()>("forever", &()).await)?;
    ensure(matches!(error, CallError::Timeout(_)), &error)?;
    until_stopped(c, before + 1).await
}

async fn cancelling(c: &Client) -> Done<()> {
    let before = stopped(c).await?;
    let calls = (0..10).map(|_| {
        let call = c.call_method::<_, ()>("forever", &());
        tokio::time::timeout(Duration::from_millis(30), call)
    });
    let ended = future::join_all(calls).await;
    ensure(ended.iter().all(Result::is_err), &ended)?;
    until_stopped(c, before + 10).await
}

async fn many(c: &Client) -> Done<()> {
    let calls = (0..1000i64).map(|n| async move {
        match n % 10 {
            0 => c.call_method::<_, i64>("later", &(n % 7, n)).await,
            _ => c.call_method::<_, i64>("add", &(n, 0)).await,
        }
    });
    for (n, found) in future::join_all(calls).await.into_iter().enumerate() {
        let found = found?;
        ensure(found == n as i64, (n, found))?;
    }
    Ok(())
}

async fn caller(c: &Client) -> Done<()> {
    let (pid, _): (u32, u32) = c.call_method("caller", &()).await?;
    ensure(pid == std::process::id(), pid)?;
    println!("{}", c.server_pid().unwrap_or(0));
    Ok(())
}

/// Calls what never ends; the server is to be killed.
async fn hang(c: &Client) -> Done<()> {
    let calls = (0..10).map(|_| c.call_method::<_, ()>("forever", &()));
    let all = future::join_all(calls);
    let told = async {
        // The calls before it have arrived once this is answered.
        let sum = c.call_method::<_, i64>("add", &(1, 1)).await;
        println!("hanging {}", sum.is_ok());
    };
    let (ended, ()) = future::join(all, told).await;
    let delivered = |found: &Result<(), CallError>| {
        matches!(found, Err(CallError::Disconnected { delivered: Delivered::Yes, .. }))
    };
    ensure(ended.iter().all(delivered), &ended)
}

async fn gone(c: &Client) -> Done<()> {
    let error = failed(c.call_method::<_, i64>("add", &(1, 1)).await)?;
    ensure(matches!(error, CallError::Connect(_)), &error)
}
