//! Clients that harm only themselves, or should: each sort of harm by its name, played by a process of its
//! own, over and over, until it is told to stop or killed. And the server and the honest client beside it.

#![allow(dead_code, reason = "each test file uses a part")]

use crate::common::{Peer, hear, say};
use crate::rpc_by_hand::{
    CALL, CANCEL, CHUNK, CHUNKED, CREDIT, DEADLINE, Hand, MILLIS, RAW, STREAM, frame, front_door,
    tag_of,
};
use crate::stage::{Random, Role, doors};
use ringspan::rpc::{Client, HandlerError, Limits, Service};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Numbers of the methods, as the server below has them.
const ECHO: u16 = 0;
const FOREVER: u16 = 1;
const COUNT: u16 = 2;
const TREE: u16 = 3;

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_concurrency = 1000;
    limits.max_pending = 64;
    limits.max_inflight_bytes = 1 << 20;
    limits.max_message = 1 << 20;
    limits.max_unread_bytes = 256 << 10;
    limits.ring_capacity = 256 << 10;
    limits.max_clients = 16;
    limits
}

static STOP: AtomicBool = AtomicBool::new(false);

fn is_over() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Plays the part of a child.
pub(crate) fn play(role: &Role, segment: PathBuf) {
    match role.role.as_str() {
        "server" => serves(&role.name),
        "good" => behaves(&role.name, &role.argument),
        _ => {
            std::thread::spawn(|| {
                hear();
                STOP.store(true, Ordering::SeqCst);
            });
            say("ready");
            let rounds = attacks(&role.argument, &front_door(&doors(), tag_of(&segment)));
            say(rounds);
        }
    }
}

// ---- the server ---------------------------------------------------------------------------------

fn serves(name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(
        Service::builder(name)
            .method_bytes("echo", |data: bytes::Bytes| async move { Ok::<_, HandlerError>(data) })
            .method("forever", |(): ()| async {
                std::future::pending::<()>().await;
                Ok::<(), HandlerError>(())
            })
            .method_stream("count", |(n, len): (u64, usize)| {
                let item = move |_| Ok::<_, HandlerError>(serde_bytes::ByteBuf::from(vec![7; len]));
                futures_util::stream::iter((0..n).map(item))
            })
            .method("tree", |tree: (Vec<Vec<String>>,)| async move {
                Ok::<_, HandlerError>(tree.0.len())
            })
            .limits(limits())
            .serve(),
    );
    let server = Arc::new(server.unwrap());
    say("ready");
    let asked = Arc::clone(&server);
    std::thread::spawn(move || {
        loop {
            hear();
            let stats = asked.stats();
            say(format_args!(
                "{} {} {} {} {}",
                stats.clients, stats.running, stats.in_flight, stats.violations, stats.refused
            ));
        }
    });
    runtime.block_on(server.join());
}

/// What the server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) clients: u64,
    pub(crate) running: u64,
    pub(crate) in_flight: u64,
    pub(crate) violations: u64,
    pub(crate) refused: u64,
}

pub(crate) fn ask(server: &mut Peer) -> Said {
    server.say("stats");
    let line = server.hear();
    let words: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    let [clients, running, in_flight, violations, refused] = words[..] else { panic!("{line}") };
    Said { clients, running, in_flight, violations, refused }
}

/// Bytes of memory of a process: resident ones.
pub(crate) fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

// ---- the honest client --------------------------------------------------------------------------

/// Calls with so many tasks, checks every answer, and says how many there were when it is asked.
fn behaves(name: &str, tasks: &str) {
    static DONE: AtomicU64 = AtomicU64::new(0);
    std::thread::spawn(|| {
        loop {
            hear();
            say(DONE.load(Ordering::SeqCst));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(name).await.unwrap();
        // What the server keeps for itself, it has from now on.
        for _ in 0..2 {
            let body = vec![5; limits().max_message as usize];
            assert_eq!(client.call_bytes("echo", &body).await.unwrap(), body);
        }
        let calls = (0..tasks.parse::<u64>().unwrap()).map(|task| {
            let client = client.clone();
            async move {
                let mut random = Random::new(task + 1);
                let mut body = vec![0; 64];
                loop {
                    random.fill(&mut body);
                    let answer = client.call_bytes("echo", &body).await.unwrap();
                    assert_eq!(answer, body, "the answer of somebody else");
                    DONE.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        say("ready");
        futures_util::future::join_all(calls).await
    });
}

pub(crate) fn answers(good: &mut Peer) -> u64 {
    good.say("count");
    good.hear().parse().unwrap()
}

// ---- the hostile ones ---------------------------------------------------------------------------

/// Every sort of harm, and whether the server sees it as a breach of the protocol.
pub(crate) const SORTS: &[(&str, Option<bool>)] = &[
    ("noise", Some(true)),
    ("headers", Some(true)),
    ("indices", Some(true)),
    ("fields", Some(true)),
    ("long records", Some(true)),
    ("chunks", Some(true)),
    ("duplicates", Some(true)),
    ("duplicates that wait", Some(true)),
    ("too many calls", Some(true)),
    ("too many bytes", Some(true)),
    ("socket", Some(false)),
    ("deadlines", Some(false)),
    ("methods", Some(true)),
    ("call and cancel", Some(true)),
    ("credits", Some(false)),
    ("bombs", Some(false)),
    ("flood", Some(true)),
    ("streams", Some(false)),
    ("empty answers", Some(true)),
    ("large answers", Some(false)),
    ("bells", Some(false)),
    ("full bells", Some(false)),
    ("idle", Some(false)),
    ("comes and goes", Some(false)),
    ("half closed", Some(false)),
    ("closed", None),
];

/// How often it connected.
fn attacks(sort: &str, door: &std::path::Path) -> u64 {
    let mut random = Random::new(sort.len() as u64);
    let mut rounds = 0;
    while !is_over() {
        if let Some(hand) = Hand::connect(door) {
            rounds += 1;
            attack(sort, hand, &mut random, rounds);
        }
    }
    rounds
}

fn call(id: u64, method: u16, flags: u8, aux: u32, body: &[u8]) -> Vec<u8> {
    frame(CALL, flags, method, aux, id, body)
}

/// Sends frames without reading until it is thrown out, or told to stop. A full ring is not waited for.
fn send_all(hand: &mut Hand, mut next: impl FnMut(u64) -> Vec<u8>) {
    for n in 1.. {
        if is_over() || hand.has_hung_up() {
            return;
        }
        let frame = next(n);
        if !hand.put(&frame) {
            std::thread::yield_now();
        }
    }
}

/// The same, but as a client that takes what it gets.
fn exchange(hand: &mut Hand, mut next: impl FnMut(u64) -> Vec<u8>) {
    for n in 1.. {
        if is_over() || !hand.must_put(&next(n)) || hand.must_take().is_none() {
            return;
        }
    }
}

/// Stays until it is thrown out, or told to stop.
fn stays(hand: &Hand) {
    while !is_over() && !hand.has_hung_up() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[allow(clippy::too_many_lines, reason = "a list")]
fn attack(sort: &str, mut hand: Hand, random: &mut Random, round: u64) {
    let count = [0x92, 0xcd, 0xff, 0xff, 0xcd, 0x10, 0x00]; // (65535, 4096)
    match sort {
        "noise" => {
            let mut noise = [0; 256];
            while !is_over() && !hand.has_hung_up() {
                random.fill(&mut noise);
                let at = 8 * random.below(hand.len() as u64 / 8 - 32) as usize;
                hand.write(at, &noise);
                hand.write(8 * random.below(112) as usize, &noise[..8]);
                hand.ring();
            }
        }
        "headers" => {
            for _ in 0..64 {
                let len = random.below(64) as usize;
                hand.stage(len, &vec![random.next() as u8; len]);
            }
            let first = hand.tail as usize - 8;
            for at in (0..first).step_by(8) {
                let header = random.below(90) | random.below(4) << 40 | (random.below(9) / 8) << 48;
                hand.word(crate::rpc_by_hand::PAYLOAD + at).store(header, Ordering::SeqCst);
            }
            hand.publish();
            hand.ring();
            hand.put(&frame(9, 0, 0, 0, 0, &[])); // in case all of it made sense
            stays(&hand);
        }
        "indices" => {
            let tails = [1, 8 + (256 << 10), u64::MAX - 7, 1 << 63, 4];
            // The other two are the server's, which never reads them.
            let at = [384, 768][round as usize % 2];
            hand.put(&call(1, ECHO, RAW, 0, b"x"));
            hand.word(at).store(tails[random.below(5) as usize], Ordering::SeqCst);
            for n in 2.. {
                hand.ring();
                // Its own index is looked at when it is needed: when the ring of answers is full.
                hand.word(at).store(tails[random.below(5) as usize], Ordering::SeqCst);
                if is_over() || hand.has_hung_up() {
                    return;
                }
                if at != 384 {
                    hand.put(&call(n, ECHO, RAW, 0, &[0; 200]));
                }
            }
        }
        "fields" => {
            let mut wrong = call(1, ECHO, RAW, 0, b"x");
            // Not the flags that mean something, nor ids, methods and times, all of which may be anything.
            let (at, with) = [
                (0, 0),
                (0, 2),
                (0, 3),
                (0, 4),
                (0, 5),
                (0, 9),
                (0, 10),
                (0, 255),
                (1, 64),
                (1, 128),
            ][round as usize % 10];
            wrong[at] = with;
            wrong.truncate(if round.is_multiple_of(11) { 15 } else { 17 });
            hand.must_put(&wrong);
            stays(&hand);
        }
        "long records" => {
            let len = [8, 200, 70_000, 1 << 20, u32::MAX as usize][round as usize % 5];
            hand.stage(len + 17, &call(1, ECHO, RAW, 0, b"x"));
            hand.publish();
            stays(&hand);
        }
        "chunks" => {
            let (ids, len) = [(1, 60_000), (1000, 8), (20, 60_000), (64, 1)][round as usize % 4];
            send_all(&mut hand, |n| frame(CHUNK, 0, 0, 0, n % ids, &vec![1; len]));
        }
        "duplicates" => send_all(&mut hand, |_| call(7, FOREVER, 0, 0, &[0xc0])),
        "duplicates that wait" => {
            // Answers that are not read keep what comes then from being started.
            let sent = (1..=10).all(|n| hand.must_put(&call(n, ECHO, RAW, 0, &[1; 60_000])))
                && (0..2).all(|_| hand.must_put(&call(77, FOREVER, 0, 0, &[0xc0])));
            while sent && !is_over() && hand.must_take().is_some() {}
        }
        "too many calls" => send_all(&mut hand, |n| call(n, FOREVER, 0, 0, &[0xc0])),
        "too many bytes" => send_all(&mut hand, |n| call(n, FOREVER, 0, 0, &vec![0xc0; 50_000])),
        "socket" => {
            hand.socket.set_nonblocking(true).unwrap();
            let mut noise = [0; 4096];
            random.fill(&mut noise);
            while hand.socket.write(&noise).is_ok() && !is_over() {}
            stays(&hand);
        }
        "deadlines" => {
            let flags = [DEADLINE, DEADLINE | MILLIS];
            for n in 1.. {
                let times = [u32::MAX, 0, 1, u32::MAX - 1];
                let (flags, time) = (flags[n as usize % 2], times[n as usize / 2 % 4]);
                let sent = hand.must_put(&call(n, FOREVER, flags, time, &[0xc0]))
                    && hand.must_put(&frame(CANCEL, 0, 0, 0, n, &[]));
                if is_over() || !sent || hand.must_take().is_none() {
                    return;
                }
            }
        }
        "methods" => send_all(&mut hand, |n| call(n, 4 + n as u16 % 60_000, 0, 0, &[0xc0])),
        "call and cancel" => send_all(&mut hand, |n| match n % 2 {
            0 => frame(CANCEL, 0, 0, 0, n / 2, &[]),
            _ => call(n / 2 + 1, FOREVER, DEADLINE, 1000, &[0xc0]),
        }),
        "credits" => {
            hand.must_put(&call(1, COUNT, STREAM, 0, &count));
            send_all(&mut hand, |n| match n % 3 {
                0 => frame(CANCEL, 0, 0, 0, n + 2, &[]),
                _ => frame(CREDIT, 0, 0, u32::MAX, n % 2 + 1, &[]),
            });
        }
        "bombs" => {
            let nested = [vec![0x91; 60_000], vec![0xc0]].concat();
            let long = [0x91, 0xdd, 0xff, 0xff, 0xff, 0xff].to_vec();
            let deep = [vec![0x91, 0xdd, 0, 0, 0xff, 0xff], vec![0xdd; 50_000]].concat();
            let wide = [0x91, 0x91, 0xdb, 0xff, 0xff, 0xff, 0xff].to_vec();
            let blob = [0x91, 0xc6, 0xff, 0xff, 0xff, 0xff].to_vec();
            let map = [0xdf, 0xff, 0xff, 0xff, 0xff].to_vec();
            let bombs = [nested, long, deep, wide, blob, map, vec![]];
            let mut refused = true;
            exchange(&mut hand, |n| {
                let body = &bombs[n as usize % bombs.len()];
                refused = refused && n > 0;
                call(n, [TREE, FOREVER][n as usize % 2], 0, 0, body)
            });
        }
        "flood" => send_all(&mut hand, |n| call(n, ECHO, RAW, 0, &[1; 1000])),
        "empty answers" => send_all(&mut hand, |n| call(n, ECHO, RAW, 0, &[])),
        "large answers" => {
            let body = vec![3; 60_000];
            for n in 1..=2 {
                // The first is answered, and the answer waits; the second waits for that.
                let sent = (0..15).all(|_| hand.must_put(&frame(CHUNK, 0, 0, 0, n, &body)))
                    && hand.must_put(&call(n, ECHO, RAW | CHUNKED, 0, &body));
                if !sent {
                    return;
                }
            }
            stays(&hand);
        }
        "streams" => {
            for n in 1..=60 {
                hand.must_put(&call(n, COUNT, STREAM, 0, &count));
            }
            stays(&hand);
        }
        "bells" => {
            while !is_over() && !hand.has_hung_up() {
                hand.ring();
            }
        }
        "full bells" => {
            let full = (u64::MAX - 1).to_ne_bytes();
            for n in 1.. {
                let _ = rustix::io::write(&hand.watched, &full);
                let _ = rustix::io::write(&hand.bell, &full);
                hand.word(256 + 8).store(2 * n, Ordering::SeqCst); // asleep, or so it says
                if is_over() || hand.has_hung_up() {
                    return;
                }
                hand.put(&call(n, ECHO, RAW, 0, b"x"));
                while hand.take().is_some() {}
            }
        }
        "waiting bells" => {
            // The flag is of the open file, which both processes share.
            for fd in [&hand.watched, &hand.bell] {
                let flags = rustix::fs::fcntl_getfl(fd).unwrap();
                let _ = rustix::io::write(fd, &(u64::MAX - 1).to_ne_bytes());
                rustix::fs::fcntl_setfl(fd, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
            }
            for n in 1.. {
                hand.word(256 + 8).store(2 * n, Ordering::SeqCst);
                if is_over() || hand.has_hung_up() {
                    return;
                }
                hand.stage(17, &call(n, ECHO, RAW, 0, b"x"));
                hand.word(384).store(hand.tail, Ordering::SeqCst);
                while hand.take().is_some() {}
                std::thread::yield_now();
            }
        }
        "idle" => stays(&hand),
        "comes and goes" => {}
        "half closed" => {
            hand.must_put(&call(1, FOREVER, 0, 0, &[0xc0]));
            hand.socket.shutdown(std::net::Shutdown::Write).unwrap();
            stays(&hand);
        }
        "closed" => {
            hand.must_put(&call(1, FOREVER, 0, 0, &[0xc0]));
            hand.socket.shutdown(std::net::Shutdown::Both).unwrap();
            for n in 2..2000 {
                hand.put(&call(n, ECHO, RAW, 0, b"x"));
                hand.write(random.below(896) as usize, &[random.next() as u8]);
                hand.ring();
            }
        }
        other => panic!("what is {other}?"),
    }
}
