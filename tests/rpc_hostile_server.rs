//! Servers that lie: a wrong hello, memory that is not what it should be, doorbells that are none, frames
//! that answer nothing, bytes by chance, in a function that was found by its name. The client gets an error
//! that names the function, and goes on; it never hangs, panics or reads what is not there.

#![allow(unsafe_code, reason = "the memory of a connection by hand")]

mod common;
mod rpc_by_hand;
mod stage;

use common::path_of;
use ringspan::FaultKind;
use ringspan::rpc::{self, CallError, Client, Delivered};
use rpc_by_hand::{
    CHUNK, END, GOODBYE, Hand, ITEM, PAYLOAD, RESULT, frame, front_door, send, tag_of,
};
use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use stage::{Random, Test, doors, scaled};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

const CAPACITY: usize = 4096;
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Does nothing: no test here has children.
#[test]
fn child_entry() {}

/// A name that is served, whose front door is ours.
struct Fake {
    door: UnixListener,
    /// Keeps the name; nobody reaches it.
    _server: rpc::Server,
    runtime: tokio::runtime::Runtime,
}

impl Fake {
    fn new(test: &Test) -> Fake {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let never = |(): ()| std::future::pending::<rpc::Answer<()>>();
        let server = runtime.block_on(rpc::serve(&test.name, never)).unwrap();
        let path = front_door(&doors(), tag_of(&path_of(&test.name)));
        std::fs::remove_file(&path).unwrap();
        let door = UnixListener::bind(&path).unwrap();
        door.set_nonblocking(true).unwrap();
        Fake { door, _server: server, runtime }
    }

    fn try_accept(&self) -> Option<UnixStream> {
        self.door.accept().ok().map(|(socket, _)| socket)
    }

    fn accept(&self) -> UnixStream {
        loop {
            match self.try_accept() {
                Some(socket) => return socket,
                None => std::thread::yield_now(),
            }
        }
    }
}

/// What the server hands over.
struct Parts {
    hello: Vec<u8>,
    fds: Vec<OwnedFd>,
}

fn memory(len: usize, seals: SealFlags, magic: bool) -> OwnedFd {
    let fd = memfd_create("fake", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, len as u64).unwrap();
    if magic {
        let version = 1u64 | 0x0102_0304 << 32;
        let head = [u64::from_le_bytes(*b"RSPANRPC"), version].map(u64::to_le_bytes).concat();
        assert_eq!(rustix::io::pwrite(&fd, &head, 0), Ok(16));
    }
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap()
}

fn hello(table: &[u8], change: &[(usize, u64)]) -> Vec<u8> {
    let third = u64::from(std::process::id()) | (table.len() as u64) << 32;
    let capacity = CAPACITY as u64;
    let magic = u64::from_le_bytes(*b"RSRPCHI\0");
    let mut words = [magic, 1, third, capacity, capacity, 4, 1 << 20, 1 << 20];
    change.iter().for_each(|(at, word)| words[*at] = *word);
    let mut bytes = words.map(u64::to_le_bytes).concat();
    bytes.extend_from_slice(table);
    bytes
}

/// Three methods: "call", "items" (a stream), "bytes" (raw).
fn table() -> Vec<u8> {
    let entry = |name: &str, stream: bool, raw: bool| {
        let mut bytes = vec![0x83, 0xa1, b'n', 0xa0 | name.len() as u8];
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&[
            0xa1,
            b's',
            0xc2 | u8::from(stream),
            0xa1,
            b'r',
            0xc2 | u8::from(raw),
        ]);
        bytes
    };
    [
        vec![0x93],
        entry("call", false, false),
        entry("items", true, false),
        entry("bytes", false, true),
    ]
    .concat()
}

fn parts() -> Parts {
    let whole = PAYLOAD + 2 * CAPACITY;
    Parts {
        hello: hello(&table(), &[]),
        fds: vec![memory(whole, SEALS, true), eventfd(), eventfd()],
    }
}

/// Answers one caller with these parts, as the server's side of what comes of it.
fn welcome(fake: &Fake, parts: Parts) -> Hand {
    let socket = loop {
        let socket = fake.accept();
        let fds: Vec<_> = parts.fds.iter().map(AsFd::as_fd).collect();
        if send(&socket, &parts.hello, &fds) {
            break socket;
        } // or a caller that is gone
    };
    let [memory, mine, theirs] = <[OwnedFd; 3]>::try_from(parts.fds).unwrap();
    // The client rings the first, and is rung by the second.
    Hand::new(socket, memory, theirs, mine, CAPACITY, false)
}

#[test]
fn a_hello_that_is_none_is_an_error_with_the_name() {
    let test = Test::new("wrong hellos");
    let fake = Fake::new(&test);
    let good = table();
    let mut cases: Vec<(&str, Parts)> = Vec::new();
    let mut case = |what, hello: Vec<u8>| cases.push((what, Parts { hello, ..parts() }));
    case("a magic", hello(&good, &[(0, 7)]));
    case("a version", hello(&good, &[(1, 99)]));
    case("a welcome", hello(&good, &[(1, 1 | 77 << 32)]));
    case("a table of 4 GiB", hello(&good, &[(2, 1 | 0xffff_ffff << 32)]));
    case("a table that is none", hello(&[0xc1; 20], &[]));
    case("a table without end", hello(&[0xdd, 0xff, 0xff, 0xff, 0xff], &[]));
    case("a deep table", hello(&[0x91; 60_000], &[]));
    case("a ring of three bytes", hello(&good, &[(3, 3)]));
    case("rings of a tebibyte", hello(&good, &[(3, 1 << 40), (4, 1 << 40)]));
    case("a ring above any", hello(&good, &[(4, 1 << 63)]));
    case("no message at all", hello(&good, &[(7, 0)]));
    case("a message above any", hello(&good, &[(7, u64::MAX)]));
    case("refused: full", hello(&good, &[(1, 1 | 1 << 32)]));
    let whole = PAYLOAD + 2 * CAPACITY;
    let mut fds = |what, fds| cases.push((what, Parts { fds, ..parts() }));
    fds("no descriptors", vec![]);
    fds("two descriptors", vec![memory(whole, SEALS, true), eventfd()]);
    fds("four descriptors", vec![memory(whole, SEALS, true), eventfd(), eventfd(), eventfd()]);
    fds("five descriptors", (0..5).map(|_| eventfd()).collect());
    fds(
        "memory without seals",
        vec![memory(whole, SealFlags::empty(), true), eventfd(), eventfd()],
    );
    let shrinks = SealFlags::GROW | SealFlags::SEAL;
    fds("memory that may shrink", vec![memory(whole, shrinks, true), eventfd(), eventfd()]);
    fds("memory that is short", vec![memory(whole - 1, SEALS, true), eventfd(), eventfd()]);
    fds("no memory", vec![memory(0, SEALS, false), eventfd(), eventfd()]);
    fds("memory without mark", vec![memory(whole, SEALS, false), eventfd(), eventfd()]);
    fds("an eventfd as memory", vec![eventfd(), eventfd(), eventfd()]);
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    fds("a file as memory", vec![file(), eventfd(), eventfd()]);
    fds("a file to ring", vec![memory(whole, SEALS, true), file(), eventfd()]);
    fds("a file to hear", vec![memory(whole, SEALS, true), eventfd(), file()]);
    let mut indices = |what, at: u64, word: u64| {
        let parts = parts();
        rustix::io::pwrite(&parts.fds[0], &word.to_le_bytes(), at).unwrap();
        cases.push((what, parts));
    };
    indices("a tail of requests", 384, 5);
    indices("a head of requests", 512, u64::MAX);
    indices("a tail of answers", 640, 1 << 20);
    for (what, parts) in cases {
        let err = std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                Client::blocking_connect(&test.name, Duration::from_secs(5)).unwrap_err()
            });
            // What looks as if the server had just left is tried again.
            while !caller.is_finished() {
                if let Some(socket) = fake.try_accept() {
                    let fds: Vec<_> = parts.fds.iter().map(AsFd::as_fd).collect();
                    send(&socket, &parts.hello, &fds);
                } else {
                    std::thread::yield_now();
                }
            }
            caller.join().unwrap()
        });
        assert!(matches!(err, CallError::Connect(_)), "{what}: {err:?}");
        assert!(err.to_string().contains(&test.name), "{what}: {err}");
        let kind = err.fault().kind();
        use FaultKind::{Damaged, Mismatch, Os, PeerUnreachable, TooManyAttached};
        assert!(
            matches!(kind, Damaged | Mismatch | Os | PeerUnreachable | TooManyAttached),
            "{what}: {err:?}"
        );
    }
}

/// Half a hello, and nothing more: the client's own time is what ends that.
#[test]
fn a_hello_that_stops_half_way_ends_with_the_time() {
    let test = Test::new("half a hello");
    let fake = Fake::new(&test);
    for len in [1, 63, 64, 80] {
        let err = std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                Client::blocking_connect(&test.name, Duration::from_millis(50)).unwrap_err()
            });
            let parts = parts();
            let socket = fake.accept();
            let fds: Vec<_> = parts.fds.iter().map(AsFd::as_fd).collect();
            send(&socket, &parts.hello[..len], &fds);
            caller.join().unwrap()
        });
        assert!(matches!(err, CallError::Timeout(_)), "{len}: {err:?}");
        assert!(err.to_string().contains(&test.name), "{err}");
    }
}

/// The frames, and what becomes of the call that they come for.
#[test]
fn frames_that_answer_nothing_break_the_connection_and_the_next_call_makes_another() {
    let test = Test::new("wrong answers");
    let fake = Fake::new(&test);
    let client = Client::lazy(&test.name);
    type Lie = fn(u64) -> Vec<Vec<u8>>;
    let lies: &[(&str, Lie)] = &[
        ("unknown id", |_| vec![frame(RESULT, 0, 0, 0, 77, &[0xc0])]),
        ("id of another time", |id| vec![frame(RESULT, 0, 0, 0, id + (1 << 32), &[0xc0])]),
        ("call", |id| vec![frame(1, 0, 0, 0, id, &[])]),
        ("kind", |id| vec![frame(200, 0, 0, 0, id, &[])]),
        ("flags", |id| vec![frame(RESULT, 0x80, 0, 0, id, &[])]),
        ("short", |_| vec![vec![2; 15]]),
        ("item of no stream", |id| vec![frame(ITEM, 0, 0, 0, id, &[0xc0])]),
        ("chunks for nobody", |_| vec![frame(CHUNK, 0, 0, 0, 9, &[1; 100])]),
        ("empty chunk", |id| vec![frame(CHUNK, 0, 0, 0, id, &[])]),
        ("chunks left over", |id| {
            vec![frame(CHUNK, 0, 0, 0, id, &[1; 100]), frame(RESULT, 0, 0, 0, id, &[0xc0])]
        }),
        ("chunks without end", |id| {
            (0..1100).map(|_| frame(CHUNK, 0, 0, 0, id, &[1; 1000])).collect()
        }),
        ("goodbyes without end", |_| (0..5000).map(|_| frame(GOODBYE, 0, 0, 0, 0, &[])).collect()),
    ];
    for (what, lie) in lies {
        let err = std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                client
                    .blocking_call_method::<_, ()>("call", &(), Duration::from_secs(20))
                    .unwrap_err()
            });
            let mut hand = welcome(&fake, parts());
            let asked = hand.must_take().expect("a call");
            let id = u64::from_le_bytes(asked[8..16].try_into().unwrap());
            for bytes in lie(id) {
                if !hand.must_put(&bytes) {
                    break;
                }
            }
            hand.until_hung_up();
            caller.join().unwrap()
        });
        let CallError::Disconnected { delivered, .. } = &err else { panic!("{what}: {err:?}") };
        assert_eq!(*delivered, Delivered::Yes, "{what}");
        assert!(err.to_string().contains(&test.name), "{what}: {err}");
    }
    // And a server that answers is understood, by the same client.
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| client.blocking_call_method::<_, u8>("call", &(), None));
        let mut hand = welcome(&fake, parts());
        let asked = hand.must_take().expect("a call");
        let id = u64::from_le_bytes(asked[8..16].try_into().unwrap());
        hand.must_put(&frame(RESULT, 0, 0, 0, id, &[7]));
        assert_eq!(caller.join().unwrap().unwrap(), 7);
    });
}

/// A stream of which the server sends more than it may, or the end twice.
#[test]
fn a_stream_that_runs_ahead_is_cut() {
    let test = Test::new("a stream ahead");
    let fake = Fake::new(&test);
    let client = Client::lazy(&test.name);
    for twice in [false, true] {
        fake.runtime.block_on(async {
            let asked = client.clone();
            let items = tokio::spawn(async move {
                let mut items = asked.stream_method::<_, u8>("items", &()).await.unwrap();
                let mut got = 0;
                loop {
                    match items.next().await {
                        Some(Ok(_)) => got += 1,
                        Some(Err(err)) => return (got, Some(err)),
                        None => return (got, None),
                    }
                }
            });
            let mut hand = tokio::task::block_in_place(|| welcome(&fake, parts()));
            tokio::task::block_in_place(|| {
                let asked = hand.must_take().expect("a call");
                let id = u64::from_le_bytes(asked[8..16].try_into().unwrap());
                let mut frames = vec![frame(ITEM, 0, 0, 0, id, &[3]); if twice { 2 } else { 17 }];
                if twice {
                    frames.extend([(); 2].map(|()| frame(END, 0, 0, 0, id, &[])));
                }
                // All at once: before the client can have given credit.
                for bytes in frames {
                    hand.stage(bytes.len(), &bytes);
                }
                hand.publish();
                hand.until_hung_up();
            });
            let (got, err) = items.await.unwrap();
            if twice {
                assert_eq!((got, err), (2, None), "what had come whole counts");
            } else {
                assert!(
                    matches!(err, Some(CallError::Disconnected { .. })),
                    "{got} items, {err:?}"
                );
            }
        });
    }
}

/// Anything at all, in all of the memory, while calls are under way, from threads and tasks.
#[test]
fn garbage_all_over_the_memory_is_only_an_error() {
    let test = Test::lasting("garbage from a server", Duration::from_secs(120));
    let fake = Fake::new(&test);
    let client = Client::lazy(&test.name);
    let limit = Duration::from_millis(300);
    let mut random = Random::new(5);
    for round in 0..scaled(150) {
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| client.blocking_call_method::<_, u8>("call", &(), limit)))
                .collect();
            let timed = client.with_timeout(limit);
            let task =
                fake.runtime.spawn(async move { timed.call_bytes("bytes", &[1; 5000]).await });
            let mut hand = welcome(&fake, parts());
            hand.must_take();
            let mut noise = [0; 64];
            for n in 0..400 {
                if hand.has_hung_up() {
                    break;
                }
                random.fill(&mut noise);
                match random.below(4) {
                    0 => hand.write(8 * random.below(hand.len() as u64 / 8 - 8) as usize, &noise),
                    1 => hand.write(128 + 8 * random.below(96) as usize, &noise[..8]),
                    2 => {
                        let header = random.below(100) | random.below(3) << 40;
                        let at =
                            PAYLOAD + CAPACITY + 8 * random.below(CAPACITY as u64 / 8) as usize;
                        hand.word(at).store(header, Ordering::SeqCst);
                        hand.word(640).fetch_add(8 * random.below(20), Ordering::SeqCst);
                    }
                    _ if round % 3 == 0 && n > 200 => {
                        rustix::net::shutdown(&hand.socket, rustix::net::Shutdown::Both)
                            .unwrap_or(())
                    }
                    _ => {}
                }
                hand.ring();
            }
            let _ = hand.socket.shutdown(std::net::Shutdown::Both);
            // One that comes for another try finds the door as it is.
            let task = fake.runtime.block_on(async {
                let mut task = task;
                loop {
                    while fake.try_accept().is_some() {}
                    tokio::select! {
                        done = &mut task => break done.unwrap(),
                        () = tokio::time::sleep(Duration::from_millis(1)) => {}
                    }
                }
            });
            results.push(task.map(drop));
            while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                while fake.try_accept().is_some() {}
                std::thread::sleep(Duration::from_millis(1));
            }
            results.extend(threads.into_iter().map(|thread| thread.join().unwrap().map(drop)));
        });
        for err in results.into_iter().filter_map(Result::err) {
            assert!(err.to_string().contains(&test.name), "{err}");
        }
    }
}
