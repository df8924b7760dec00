//! Cancelled at every await point, with a peer that acts in between: nothing is lost, nothing comes
//! twice. A future is polled so many times and dropped, whatever it waits for.

mod common;
mod stage;

use ringspan::{Consumer, Producer, Ring};
use stage::{Random, Test, role, runtime};
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// More polls than any wait takes: the looks before a park and some wakes after it.
const POLLS: usize = 12;
const COUNT: u64 = 20_000;

/// Polls up to `polls` times, letting the runtime turn in between and `act` before one of them; then
/// drops the future. `None`: cancelled.
async fn cancelled<T>(
    future: impl Future<Output = T>,
    polls: usize,
    at: usize,
    mut act: impl FnMut(),
) -> Option<T> {
    let mut future = pin!(future);
    for n in 0..polls {
        if n == at {
            act();
        }
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Every number of polls, every place among them for the peer's act; once with a fresh handle that
/// has never slept, then with one that has.
fn everywhere(mut run: impl FnMut(usize, usize)) {
    for polls in 0..POLLS {
        for at in 0..=polls {
            run(polls, at);
        }
    }
    for at in [90, 99, 100, 101, 102, 110] {
        run(115, at); // behind all the looks that come before a park
        run(at + 1, at);
    }
}

fn rest(rx: &mut Consumer) -> Vec<Vec<u8>> {
    let mut rest = Vec::new();
    while let Ok(message) = rx.try_pop() {
        rest.push(message.to_vec());
    }
    rest
}

fn fill(tx: &mut Producer) -> usize {
    let mut count = 0;
    while tx.try_push(&[0; 100]).is_ok() {
        count += 1;
    }
    count
}

#[test]
fn pop_takes_nothing() {
    let test = Test::new("cancelled pops");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let rt = runtime();
    let mut popped = [0; 4];
    everywhere(|polls, at| {
        for (form, popped) in popped.iter_mut().enumerate() {
            let got: Vec<Vec<u8>> = rt.block_on(async {
                let act = || tx.try_push_many([b"one", b"two"]).map(drop).unwrap();
                match form {
                    0 => cancelled(rx.pop(), polls, at, act)
                        .await
                        .map(|m| vec![m.unwrap().unwrap().to_vec()]),
                    1 => cancelled(rx.pop_owned(), polls, at, act)
                        .await
                        .map(|m| vec![m.unwrap().unwrap()]),
                    2 => cancelled(rx.pop_many(9), polls, at, act)
                        .await
                        .map(|b| b.unwrap().unwrap().iter().map(<[u8]>::to_vec).collect()),
                    _ => {
                        cancelled(rx.attached(), polls, at, act).await;
                        None
                    }
                }
                .unwrap_or_default()
            });
            *popped += got.len();
            let all = [got, rest(&mut rx)].concat();
            let expected: &[&[u8]] = if at < polls { &[b"one", b"two"] } else { &[] };
            // `attached` is ready at once, before the peer acts.
            assert!(
                all == expected || (form == 3 && all.is_empty()),
                "{form} {polls} {at}: {all:?}"
            );
        }
    });
    assert!(popped[..3].iter().all(|&n| n > 20), "both outcomes were seen: {popped:?}");
}

#[test]
fn push_and_reserve_publish_all_or_nothing() {
    let test = Test::new("cancelled pushes");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let rt = runtime();
    let mut pushed = [0; 4];
    everywhere(|polls, at| {
        for (form, pushed) in pushed.iter_mut().enumerate() {
            let full = fill(&mut tx);
            let mut released = 0;
            let done = rt.block_on(async {
                let act = || {
                    released = rx.try_pop_many(2).unwrap().len();
                };
                match form {
                    0 => cancelled(tx.push(&[7; 100]), polls, at, act).await.map(Result::unwrap),
                    1 => {
                        let value = vec![7u8; 60];
                        cancelled(tx.push_value(&value), polls, at, act).await.map(Result::unwrap)
                    }
                    2 => cancelled(tx.reserve(100), polls, at, act).await.map(|grant| {
                        grant.unwrap().commit(90);
                    }),
                    _ => cancelled(tx.reserve(100), polls, at, act).await.map(|grant| {
                        assert_eq!(grant.unwrap().len(), 100);
                    }),
                }
            });
            let rest = rest(&mut rx);
            let published = usize::from(done.is_some() && form != 3);
            assert_eq!(rest.len(), full - released + published, "{form} {polls} {at}");
            assert!(rest[..full - released].iter().all(|m| m == &[0; 100]));
            *pushed += usize::from(done.is_some());
        }
    });
    assert!(pushed.iter().all(|&n| n > 10), "both outcomes were seen: {pushed:?}");
}

#[test]
fn push_many_tells_how_many() {
    let test = Test::new("cancelled batches");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let rt = runtime();
    let items: Vec<[u8; 100]> = (0..60).map(|n| [n; 100]).collect();
    everywhere(|polls, at| {
        let mut got = Vec::new();
        rt.block_on(async {
            let act = || {
                got.extend(
                    rx.try_pop_many(5)
                        .iter()
                        .flat_map(|b| b.iter().map(<[u8]>::to_vec).collect::<Vec<_>>()),
                )
            };
            assert!(cancelled(tx.push_many(&items), polls, at, act).await.is_none());
        });
        got.extend(rest(&mut rx));
        let published = if polls == 0 { 0 } else { tx.published() };
        assert_eq!(got, items[..published], "{polls} {at}");
    });
}

/// Does nothing unless it is a child: a busy producer that cancels its own pushes all the time.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let mut tx = Ring::options().open(&role.name).unwrap().producer().unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut random = Random::new(1);
    rt.block_on(async {
        for n in 0..COUNT {
            while !timely(tx.push(&n.to_le_bytes()), &mut random).await {}
        }
    });
    tx.close().unwrap();
    std::process::exit(0);
}

/// A push against a time-out of 0 to 50 us, or against so many turns of the scheduler.
async fn timely<E: std::fmt::Debug>(
    push: impl Future<Output = Result<(), E>>,
    random: &mut Random,
) -> bool {
    let most = random.below(50);
    if random.below(16) == 0 {
        let done = tokio::time::timeout(Duration::from_micros(most), push).await;
        return done.map(Result::unwrap).is_ok();
    }
    tokio::select! {
        biased;
        done = push => { done.unwrap(); true }
        () = turns(most % 8) => false,
    }
}

async fn turns(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn select_against_a_busy_peer() {
    let test = Test::new("select");
    let ring = test.ring(4096);
    let mut rx = ring.consumer().unwrap();
    let child = test.spawn("producer", "");
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut random = Random::new(2);
    let mut cancels = 0;
    rt.block_on(async {
        let mut next = 0;
        loop {
            let most = random.below(50);
            let popped = if random.below(16) == 0 {
                tokio::time::timeout(Duration::from_micros(most), rx.pop_owned()).await.ok()
            } else {
                tokio::select! {
                    biased;
                    popped = rx.pop_owned() => Some(popped),
                    () = turns(most % 8) => None,
                }
            };
            match popped.map(Result::unwrap) {
                Some(Some(message)) => {
                    assert_eq!(message, u64::to_le_bytes(next), "lost or doubled");
                    next += 1;
                }
                Some(None) => break,
                None => cancels += 1,
            }
        }
        assert_eq!(next, COUNT);
    });
    assert!(cancels > 0, "nothing was cancelled");
    child.finish();
}
