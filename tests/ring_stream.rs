//! Streams between two real processes, in every pairing of async and blocking ends, both on one core
//! and on two: order, number and every byte of messages of all sizes, around the wrap, with the ring
//! full and empty again and again.

mod common;
mod stage;

use common::{hear, say};
use ringspan::{Consumer, Producer, Ring};
use stage::{Random, Test, role};
use std::time::Duration;

const CAPACITY: u64 = 64 << 10;
/// The most that such a ring allows.
const MAX_MESSAGE: u64 = CAPACITY / 2 - 16;
/// Eight runs make more than a million.
const COUNT: u64 = 130_000;
const BATCH: usize = 16;

/// The messages of a run, one after the other: sizes from nothing to `max_message`, mostly small.
struct Messages {
    random: Random,
    bytes: Vec<u8>,
}

impl Messages {
    fn new(seed: u64) -> Messages {
        Messages { random: Random::new(seed), bytes: Vec::new() }
    }

    fn next(&mut self) -> &[u8] {
        let len = match self.random.below(256) {
            0 => self.random.below(MAX_MESSAGE + 1),
            1 => MAX_MESSAGE,
            2..=9 => 0,
            _ => self.random.below(160),
        };
        self.bytes.resize(len as usize, 0);
        self.random.fill(&mut self.bytes);
        &self.bytes
    }
}

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let mut words = role.argument.split(' ');
    let mut word = || words.next().unwrap();
    stage::pin(word().parse().unwrap());
    let (how, seed) = (word().to_owned(), word().parse().unwrap());
    let ring = Ring::options().open(&role.name).unwrap();
    let mut messages = Messages::new(seed);
    match role.role.as_str() {
        "producer" => {
            let tx = ring.producer().unwrap();
            say("ready");
            hear();
            produce(tx, &how, &mut messages);
        }
        "consumer" => {
            let rx = ring.consumer().unwrap();
            say("ready");
            hear();
            consume(rx, &how, &mut messages);
        }
        other => panic!("role {other}"),
    }
    say("done");
    std::process::exit(0);
}

fn produce(mut tx: Producer, how: &str, messages: &mut Messages) {
    match how {
        "async" => stage::runtime().block_on(async {
            for _ in 0..stage::scaled(COUNT) {
                tx.push(messages.next()).await.unwrap();
            }
        }),
        "blocking" => {
            for _ in 0..stage::scaled(COUNT) {
                tx.blocking_push(messages.next(), None).unwrap();
            }
        }
        "async-many" => stage::runtime().block_on(async {
            let items = (0..stage::scaled(COUNT)).map(|_| messages.next().to_vec());
            assert_eq!(tx.push_many(items).await.unwrap() as u64, stage::scaled(COUNT));
        }),
        "blocking-many" => {
            let items = (0..stage::scaled(COUNT)).map(|_| messages.next().to_vec());
            assert_eq!(tx.blocking_push_many(items, None).unwrap() as u64, stage::scaled(COUNT));
        }
        other => panic!("{other}"),
    }
    assert!(tx.stat().parks > 0, "the ring was never full");
    tx.close().unwrap();
}

fn consume(mut rx: Consumer, how: &str, messages: &mut Messages) {
    let mut count = 0;
    let mut check = |bytes: &[u8]| {
        assert!(bytes == messages.next(), "message {count} is not the one that was sent");
        count += 1;
    };
    match how {
        "async" => stage::runtime().block_on(async {
            while let Some(message) = rx.pop().await.unwrap() {
                check(&message);
            }
        }),
        "blocking" => {
            while let Some(message) = rx.blocking_pop(None).unwrap() {
                check(&message);
            }
        }
        "async-many" => stage::runtime().block_on(async {
            while let Some(batch) = rx.pop_many(BATCH).await.unwrap() {
                assert!(batch.len() <= BATCH);
                batch.iter().for_each(&mut check);
            }
        }),
        "blocking-many" => {
            while let Some(batch) = rx.blocking_pop_many(BATCH, None).unwrap() {
                assert!(batch.len() <= BATCH);
                batch.iter().for_each(&mut check);
            }
        }
        other => panic!("{other}"),
    }
    assert_eq!(count, stage::scaled(COUNT));
}

fn stream(push: &str, pop: &str) {
    let cpus = stage::cpus();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    for (seed, (ours, theirs)) in [(first, first), (first, last)].into_iter().enumerate() {
        let what = format!("{push} to {pop} on cpus {ours}, {theirs}");
        let test = Test::lasting(&what, Duration::from_secs(stage::scaled(60)));
        let ring = test.ring_with(Ring::options().capacity(CAPACITY).max_message(MAX_MESSAGE));
        let mut consumer = test.spawn("consumer", &format!("{theirs} {pop} {seed}"));
        let mut producer = test.spawn("producer", &format!("{ours} {push} {seed}"));
        consumer.expect("ready");
        producer.expect("ready");
        producer.say("go");
        // So that the producer waits for room at least once, whoever is the faster one.
        stage::until(|| ring.stat().producer_parked);
        consumer.say("go");
        producer.expect("done");
        consumer.expect("done");
        producer.finish();
        consumer.finish();
        let stat = ring.stat();
        assert!(stat.pushed > 100 * CAPACITY, "went round the ring");
        assert_eq!((stat.len, stat.producer, stat.consumer), (0, None, None));
    }
}

#[test]
fn async_to_async() {
    stream("async", "async");
}

#[test]
fn async_to_blocking() {
    stream("async", "blocking");
}

#[test]
fn blocking_to_async() {
    stream("blocking", "async");
}

#[test]
fn blocking_to_blocking() {
    stream("blocking", "blocking");
}

#[test]
fn many_async_to_many_blocking() {
    stream("async-many", "blocking-many");
}

#[test]
fn many_blocking_to_many_async() {
    stream("blocking-many", "async-many");
}
