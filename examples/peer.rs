//! One side of the pairing tests (`tests/python/test_pairings.py`), the Rust twin of
//! `tests/python/peer.py`. Not a tutorial; `producer.rs` and `consumer.rs` are.
//!
//! ```text
//! peer send NAME async|blocking COUNT SEED   streams messages that follow from the seed (0: no end)
//! peer recv NAME async|blocking              takes them in
//! peer struct NAME                           sends a struct, gets it back changed on NAME-back
//! peer array NAME                            takes an array, sends it back doubled on NAME-back
//! ```
//!
//! A stream is told in lines: `half` after 1000 messages, at its end `closed COUNT CHECKSUM`, or
//! `died PID COUNT CHECKSUM`.

use std::error::Error;

use ringspan::codec::{ArrayMeta, Descr, Tag};
use ringspan::{Consumer, PopError, Producer, PushError, Ring};
use serde::{Deserialize, Serialize};

type Done<T> = Result<T, Box<dyn Error>>;

/// Small, so that a stream wraps around thousands of times.
const CAPACITY: u64 = 1 << 16;
const BLOCK: usize = 1 << 16;
const LONGEST: u64 = 3000;

fn main() -> Done<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["send", name, mode, count, seed] => {
            let (count, messages) = (count.parse()?, Messages::new(seed.parse()?));
            send(open(name)?.producer()?, Waits::new(mode)?, count, messages)
        }
        ["recv", name, mode] => receive(open(name)?.consumer()?, Waits::new(mode)?),
        ["struct", name] => exchange_struct(name),
        ["array", name] => exchange_array(name),
        _ => Err("usage: peer send|recv|struct|array NAME ...".into()),
    }
}

fn open(name: &str) -> Done<Ring> {
    Ok(Ring::options().capacity(CAPACITY).ephemeral(true).open_or_create(name)?)
}

/// How this side waits.
enum Waits {
    Blocking,
    Async(tokio::runtime::Runtime),
}

impl Waits {
    fn new(mode: &str) -> Done<Waits> {
        match mode {
            "blocking" => Ok(Waits::Blocking),
            "async" => {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                Ok(Waits::Async(builder.enable_io().build()?))
            }
            other => Err(format!("{other} is neither async nor blocking").into()),
        }
    }

    fn attached(&self, tx: &mut Producer) -> Result<(), PushError> {
        match self {
            Waits::Blocking => tx.blocking_attached(None),
            Waits::Async(runtime) => runtime.block_on(tx.attached()),
        }
    }
}

/// The pseudo-random messages of a seed: pieces of a block of noise, 0 to 2999 bytes.
struct Messages {
    state: u64,
    block: Vec<u8>,
}

impl Messages {
    fn new(seed: u64) -> Messages {
        let mut messages = Messages { state: seed * 2 + 1, block: Vec::new() };
        messages.block = (0..BLOCK).map(|_| messages.next() as u8).collect();
        messages
    }

    /// xorshift64 (Marsaglia, 2003).
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn message(&mut self) -> &[u8] {
        let random = self.next();
        let size = (random % LONGEST) as usize;
        let start = (random >> 32) as usize % (BLOCK - LONGEST as usize);
        &self.block[start..start + size]
    }
}

/// What went through: messages, and the Adler-32 of every length and content.
struct Tally {
    count: u64,
    sums: (u32, u32),
}

impl Tally {
    fn new() -> Tally {
        Tally { count: 0, sums: (1, 0) }
    }

    fn add(&mut self, message: &[u8]) {
        let length = (message.len() as u32).to_le_bytes();
        for &byte in length.iter().chain(message) {
            self.sums.0 = (self.sums.0 + u32::from(byte)) % 65521;
            self.sums.1 = (self.sums.1 + self.sums.0) % 65521;
        }
        self.count += 1;
        if self.count == 1000 {
            println!("half");
        }
    }

    fn report(&self, how: &str) {
        println!("{how} {} {}", self.count, self.sums.1 << 16 | self.sums.0);
    }
}

fn send(mut tx: Producer, waits: Waits, count: u64, mut messages: Messages) -> Done<()> {
    waits.attached(&mut tx)?;
    let mut tally = Tally::new();
    while count == 0 || tally.count < count {
        let message = messages.message();
        let pushed = match &waits {
            Waits::Blocking => tx.blocking_push(message, None),
            Waits::Async(runtime) => runtime.block_on(tx.push(message)),
        };
        match pushed {
            Ok(()) => tally.add(message),
            Err(PushError::PeerDied { pid, .. }) => {
                tally.report(&format!("died {}", pid.unwrap_or(0)));
                return Ok(());
            }
            Err(other) => return Err(other.into()),
        }
    }
    tx.close()?;
    tally.report("closed");
    Ok(())
}

fn receive(mut rx: Consumer, waits: Waits) -> Done<()> {
    let mut tally = Tally::new();
    loop {
        let popped = match &waits {
            Waits::Blocking => rx.blocking_pop(None),
            Waits::Async(runtime) => runtime.block_on(rx.pop()),
        };
        match popped {
            Ok(Some(message)) => tally.add(&message),
            Ok(None) => {
                tally.report("closed");
                return Ok(());
            }
            Err(PopError::PeerDied { pid, .. }) => {
                tally.report(&format!("died {}", pid.unwrap_or(0)));
                return Ok(());
            }
            Err(other) => return Err(other.into()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Reading {
    id: u64,
    label: String,
    #[serde(with = "serde_bytes")]
    raw: Vec<u8>,
    samples: Vec<f64>,
    parent: Option<i64>,
}

fn exchange_struct(name: &str) -> Done<()> {
    let mut tx = open(name)?.producer()?;
    let mut rx = open(&format!("{name}-back"))?.consumer()?;
    let (id, label, raw) = (u64::MAX, "grün".to_owned(), vec![0, 255, 7]);
    let reading = Reading { id, label, raw, samples: vec![0.5, -1.25], parent: None };
    tx.blocking_push_value(&reading, None)?;
    let back: Reading = rx.blocking_pop_value(None)?.ok_or("no answer")?;
    let Reading { id, label, raw, samples, parent } = back;
    println!("{id} {label} {raw:?} {samples:?} {parent:?}");
    Ok(())
}

fn exchange_array(name: &str) -> Done<()> {
    let mut rx = open(name)?.consumer()?;
    let mut tx = open(&format!("{name}-back"))?.producer()?;
    let message = rx.blocking_pop(None)?.ok_or("no array")?;
    message.tag()?.expect(Tag::ARRAY)?;
    let payload = message.to_vec();
    let (meta, data) = ArrayMeta::split(&payload)?;
    if !meta.is_type::<f64>() {
        return Err(format!("an array of {:?}, not of f64", meta.descr()).into());
    }
    let doubled: Vec<u8> = data
        .chunks_exact(8)
        .map(|item| f64::from_le_bytes(item.try_into().unwrap_or_default()) * 2.0)
        .flat_map(f64::to_le_bytes)
        .collect();
    drop(message);
    println!("{:?} fortran={}", meta.shape(), meta.is_fortran());

    let shape = meta.shape().to_vec();
    let mut record =
        ArrayMeta::new(Descr::Item("<f8".into()), shape, meta.is_fortran())?.encode()?;
    record.extend_from_slice(&doubled);
    let mut room = tx.blocking_reserve(record.len(), None)?;
    room.copy_from_slice(&record);
    room.set_tag(Tag::ARRAY);
    room.commit(record.len());
    tx.blocking_attached(None)?;
    tx.close()?;
    Ok(())
}
