//! `arm`, `disarm` and `fileno` in event loops that are not ours: raw epoll, level- and
//! edge-triggered, and async-io; the same handle is awaited on tokio in between. Callbacks are
//! counted: a loop must sleep, and must not spin.

mod common;
mod stage;

use ringspan::{Consumer, Producer, Ring, TryPopError, TryPushError};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use stage::{Test, role, runtime, until};
use std::os::fd::{AsFd, OwnedFd};

const COUNT: u64 = 2000;
const CAPACITY: u64 = 4096;

/// Does nothing unless it is a child. Both sides let the other sleep before every fourth step.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let ring = Ring::options().open(&role.name).unwrap();
    match role.role.as_str() {
        "producer" => {
            let mut tx = ring.producer().unwrap();
            for n in 0..COUNT {
                if n % 4 == 0 {
                    until(|| ring.stat().consumer_parked);
                }
                tx.blocking_push(&n.to_le_bytes(), None).unwrap();
            }
            tx.close().unwrap();
        }
        "consumer" => {
            let mut rx = ring.consumer().unwrap();
            for n in 0..COUNT {
                if n % 4 == 0 && n < COUNT - 2 * CAPACITY / 100 {
                    until(|| ring.stat().producer_parked);
                }
                let message = rx.blocking_pop(None).unwrap().unwrap();
                assert_eq!(message[..8], n.to_le_bytes());
            }
            assert!(rx.blocking_pop(None).unwrap().is_none());
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

/// Sleeps once on the handle's descriptor; called after `arm` said so.
trait Loop {
    fn sleep(&mut self);
}

struct Epoll {
    set: OwnedFd,
    callbacks: u64,
}

impl Epoll {
    fn new(fd: impl AsFd, flags: EventFlags) -> Epoll {
        let set = epoll::create(CreateFlags::CLOEXEC).unwrap();
        epoll::add(&set, fd, EventData::new_u64(7), EventFlags::IN | flags).unwrap();
        Epoll { set, callbacks: 0 }
    }
}

impl Loop for Epoll {
    fn sleep(&mut self) {
        let mut events = Vec::with_capacity(4);
        while epoll::wait(&self.set, spare_capacity(&mut events), None).is_err() {}
        self.callbacks += events.len() as u64;
    }
}

struct AsyncIo {
    fd: async_io::Async<OwnedFd>,
    callbacks: u64,
}

impl Loop for AsyncIo {
    fn sleep(&mut self) {
        async_io::block_on(self.fd.readable()).unwrap();
        self.callbacks += 1;
    }
}

fn pop_in(rx: &mut Consumer, foreign: &mut impl Loop) -> Option<u64> {
    loop {
        match rx.try_pop() {
            Ok(message) => return Some(u64::from_le_bytes(message[..].try_into().unwrap())),
            Err(TryPopError::Closed) => return None,
            Err(TryPopError::Empty) => {}
            Err(err) => panic!("{err}"),
        }
        if rx.arm().unwrap() {
            foreign.sleep();
        }
        rx.disarm().unwrap();
    }
}

fn push_in(tx: &mut Producer, n: u64, foreign: &mut impl Loop) {
    let mut bytes = [0; 100];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    loop {
        match tx.try_push(&bytes) {
            Ok(()) => return,
            Err(TryPushError::Full) => {}
            Err(err) => panic!("{err}"),
        }
        if tx.arm().unwrap() {
            foreign.sleep();
        }
        tx.disarm().unwrap();
    }
}

/// A consumer in a foreign loop, every seventh block of messages on tokio or blocking.
fn consume(what: &str, make: impl FnOnce(&mut Consumer) -> Box<dyn Counted>) {
    let test = Test::new(what);
    let ring = test.ring(CAPACITY);
    let mut rx = ring.consumer().unwrap();
    let number = rx.fileno().unwrap();
    let mut foreign = make(&mut rx);
    let child = test.spawn("producer", "");
    let rt = runtime();
    let mut by_loop = 0;
    for n in 0..COUNT {
        let got = match n / 16 % 4 {
            2 => rt.block_on(rx.pop_owned()).unwrap(),
            3 if n % 64 < 52 => rx.blocking_pop(None).unwrap().map(|m| m.to_vec()),
            _ => {
                by_loop += 1;
                foreign.pop(&mut rx).map(|n| n.to_le_bytes().to_vec())
            }
        };
        assert_eq!(got.unwrap(), n.to_le_bytes());
    }
    assert_eq!(foreign.pop(&mut rx), None);
    assert_eq!(rx.fileno().unwrap(), number, "one descriptor for the life of the handle");
    slept_and_did_not_spin(foreign.callbacks(), by_loop);
    drop(foreign);
    child.finish();
}

fn produce(what: &str, make: impl FnOnce(&mut Producer) -> Box<dyn Counted>) {
    let test = Test::new(what);
    let ring = test.ring(CAPACITY);
    let mut tx = ring.producer().unwrap();
    tx.fileno().unwrap();
    let mut foreign = make(&mut tx);
    let child = test.spawn("consumer", "");
    let rt = runtime();
    let mut by_loop = 0;
    for n in 0..COUNT {
        let mut bytes = [0; 100];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        match n / 16 % 4 {
            2 => rt.block_on(tx.push(&bytes)).unwrap(),
            3 => tx.blocking_push(&bytes, None).unwrap(),
            _ => {
                by_loop += 1;
                foreign.push(&mut tx, n);
            }
        }
    }
    slept_and_did_not_spin(foreign.callbacks(), by_loop);
    drop(foreign);
    tx.close().unwrap();
    child.finish();
}

fn slept_and_did_not_spin(callbacks: u64, messages: u64) {
    assert!(callbacks >= messages / 8, "{callbacks} callbacks for {messages} messages: no sleep");
    assert!(callbacks <= messages * 3, "{callbacks} callbacks for {messages} messages: a spin");
}

trait Counted {
    fn pop(&mut self, rx: &mut Consumer) -> Option<u64>;
    fn push(&mut self, tx: &mut Producer, n: u64);
    fn callbacks(&self) -> u64;
}

impl Counted for Epoll {
    fn pop(&mut self, rx: &mut Consumer) -> Option<u64> {
        pop_in(rx, self)
    }
    fn push(&mut self, tx: &mut Producer, n: u64) {
        push_in(tx, n, self);
    }
    fn callbacks(&self) -> u64 {
        self.callbacks
    }
}

impl Counted for AsyncIo {
    fn pop(&mut self, rx: &mut Consumer) -> Option<u64> {
        pop_in(rx, self)
    }
    fn push(&mut self, tx: &mut Producer, n: u64) {
        push_in(tx, n, self);
    }
    fn callbacks(&self) -> u64 {
        self.callbacks
    }
}

fn async_io(fd: impl AsFd) -> Box<dyn Counted> {
    let owned = fd.as_fd().try_clone_to_owned().unwrap();
    Box::new(AsyncIo { fd: async_io::Async::new(owned).unwrap(), callbacks: 0 })
}

#[test]
fn level_triggered_epoll() {
    consume("consumer in epoll", |rx| Box::new(Epoll::new(rx, EventFlags::empty())));
    produce("producer in epoll", |tx| Box::new(Epoll::new(tx, EventFlags::empty())));
}

#[test]
fn edge_triggered_epoll() {
    consume("consumer in epoll, edges", |rx| Box::new(Epoll::new(rx, EventFlags::ET)));
    produce("producer in epoll, edges", |tx| Box::new(Epoll::new(tx, EventFlags::ET)));
}

#[test]
fn the_crate_async_io() {
    consume("consumer in async-io", |rx| async_io(rx));
    produce("producer in async-io", |tx| async_io(tx));
}

#[test]
fn a_blocking_handle_moves_between_threads() {
    let test = Test::new("threads");
    let ring = test.ring(CAPACITY);
    let mut rx = ring.consumer().unwrap();
    let child = test.spawn("producer", "");
    for block in 0..COUNT / 50 {
        rx = std::thread::spawn(move || {
            for n in block * 50..block * 50 + 50 {
                assert_eq!(*rx.blocking_pop(None).unwrap().unwrap(), n.to_le_bytes());
            }
            rx
        })
        .join()
        .unwrap();
    }
    assert!(rx.blocking_pop(None).unwrap().is_none());
    child.finish();
}
