//! A million calls between two processes, of random sizes, from several clients and many tasks at once:
//! every answer is the right one, for that very caller.

mod common;
mod stage;

use common::{Peer, say};
use ringspan::rpc::{Client, HandlerError, Limits, Service};
use stage::{Random, Test, role};
use std::time::Duration;

const CALLS: u64 = 1_000_000;
const CLIENTS: u64 = 3;
const TASKS: u64 = 48;
/// Bytes before the filling: whose call it is, its number, how long the answer is to be, and their sum.
const HEAD: usize = 32;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    serves(&role.name);
    std::process::exit(0);
}

/// Most are small, some are larger than the ring.
fn size(random: &mut Random) -> usize {
    let most = match random.below(2000) {
        0..10 => 300 << 10,
        10..40 => 20_000,
        40..300 => 1500,
        _ => 100,
    };
    random.below(most + 1) as usize
}

fn filling(caller: u64, number: u64, len: usize) -> impl Iterator<Item = u8> {
    let first = caller.wrapping_mul(31).wrapping_add(number.wrapping_mul(7));
    (0..len).map(move |at| (first as usize).wrapping_add(at * 5) as u8)
}

fn checksum(bytes: &[u8]) -> u64 {
    // FNV-1a.
    let start = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    bytes.iter().fold(start, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn message(caller: u64, number: u64, answer: usize, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + len);
    for word in [caller, number, answer as u64, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend(filling(caller, number, len));
    let sum = checksum(&bytes);
    bytes[24..32].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Caller, number and the wanted length of an answer, of a message that is whole.
fn read(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (caller, number, answer, sum) = (word(0)?, word(8)?, word(16)?, word(24)?);
    let mut copy = bytes.to_vec();
    copy[24..32].fill(0);
    (checksum(&copy) == sum).then_some((caller, number, answer as usize))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn serves(name: &str) {
    runtime().block_on(async {
        let echo = |data: bytes::Bytes| async move {
            let Some((caller, number, answer)) = read(&data) else {
                return Err(HandlerError::new("Damaged", format!("{} bytes", data.len())));
            };
            if number.is_multiple_of(16) {
                tokio::task::yield_now().await; // answered out of turn
            }
            // Nothing is an answer, too.
            let nothing = number % 1000 == 7;
            Ok(if nothing { Vec::new() } else { message(caller, number, 0, answer) })
        };
        let mut limits = Limits::default();
        limits.max_concurrency = 64;
        limits.max_pending = 100;
        limits.max_message = 1 << 20;
        limits.max_inflight_bytes = 4 << 20;
        let server = Service::builder(name).method_bytes("echo", echo).limits(limits).serve();
        let server = server.await.unwrap();
        say("ready");
        server.join().await;
    });
}

/// So many calls of one task.
async fn calls(client: Client, caller: u64, count: u64) -> u64 {
    let mut random = Random::new(caller);
    for number in 0..count {
        let (len, answer) = (size(&mut random), size(&mut random));
        // Nothing at all is refused by the handler.
        if number % 5000 == 4999 {
            let err = client.call_bytes("echo", &[]).await.unwrap_err();
            assert_eq!(err.remote().unwrap().type_name, "Damaged");
            continue;
        }
        let body = message(caller, number, answer, len);
        let got = client.call_bytes("echo", &body).await.unwrap();
        if number % 1000 == 7 {
            assert!(got.is_empty());
            continue;
        }
        assert_eq!(read(&got), Some((caller, number, 0)), "the answer of another call");
        assert_eq!(got.len(), HEAD + answer);
    }
    count
}

#[test]
fn each_of_a_million_calls_gets_its_own_answer() {
    let test = Test::lasting("a million calls", Duration::from_secs(600));
    let mut server: Peer = test.spawn("server", "");
    server.expect("ready");
    let each = stage::scaled(CALLS) / CLIENTS / TASKS + 1;
    let done: u64 = runtime().block_on(async {
        let mut tasks = Vec::new();
        for client in 0..CLIENTS {
            let handle = Client::connect(&test.name).await.unwrap();
            for task in 0..TASKS {
                tasks.push(tokio::spawn(calls(handle.clone(), client * TASKS + task + 1, each)));
            }
        }
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        done
    });
    assert!(done >= stage::scaled(CALLS), "{done}");
    ringspan::remove(&test.name).unwrap();
    server.finish();
    test.sweep_doors();
}
