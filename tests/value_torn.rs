//! No reader ever sees half a value: several processes set one value without pause, of random sizes, and
//! others read it beside them. Each value proves itself: length, writer, number, and every byte of the
//! rest follows from these. Versions and each writer's numbers only rise, and every reader gets on.

mod common;
mod stage;

use common::{Peer, hear, say};
use ringspan::{TryGetError, Value};
use stage::{Random, Test, role, scaled};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const LARGEST: u64 = 300 << 10;
/// Length, writer, number.
const HEAD: usize = 24;

static STOP: AtomicBool = AtomicBool::new(false);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn head(bytes: &[u8]) -> [u64; 3] {
    std::array::from_fn(|i| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap()))
}

fn make(bytes: &mut Vec<u8>, len: usize, writer: u64, number: u64) {
    bytes.resize(len.max(HEAD), 0);
    let words = [bytes.len() as u64, writer, number];
    for (place, word) in bytes.chunks_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Random::new(writer << 40 ^ number).fill(&mut bytes[HEAD..]);
}

/// Writer and number of a value that is whole.
fn check(bytes: &[u8], scratch: &mut Vec<u8>) -> (usize, u64) {
    assert!(bytes.len() >= HEAD, "torn: {} bytes", bytes.len());
    let [len, writer, number] = head(bytes);
    assert_eq!(len, bytes.len() as u64, "torn: another length, writer {writer}, number {number}");
    make(scratch, bytes.len(), writer, number);
    let wrong = bytes.iter().zip(&*scratch).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "torn: writer {writer}, number {number}, {len} bytes");
    (writer as usize, number)
}

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let value = Value::<serde_bytes::ByteBuf>::open(&role.name).unwrap();
    let words: Vec<u64> = role.argument.split(' ').map(|word| word.parse().unwrap()).collect();
    say("ready");
    hear();
    match role.role.as_str() {
        "sets" => set_without_pause(&value, words[0], words[1]),
        "sets typed" => set_typed(&value, words[0], words[1]),
        "sets large" => set_large(&value, words[1]),
        other => panic!("role {other}"),
    }
    drop(value);
    std::process::exit(0);
}

fn set_without_pause(value: &Value<serde_bytes::ByteBuf>, writer: u64, count: u64) {
    let mut random = Random::new(writer);
    let rt = runtime();
    let mut bytes = Vec::new();
    for number in 1..=count {
        // Many small ones, some of each size.
        let most = 1 << random.below(19);
        make(&mut bytes, random.below(LARGEST.min(most)) as usize, writer, number);
        match random.below(3) {
            0 => rt.block_on(value.set_bytes(&bytes)).map(drop).unwrap(),
            1 => while value.try_set_bytes(&bytes).is_err() {},
            _ => value.blocking_set_bytes(&bytes, None).map(drop).unwrap(),
        }
    }
    say(count);
}

fn set_typed(value: &Value<serde_bytes::ByteBuf>, writer: u64, count: u64) {
    let mut random = Random::new(writer);
    let mut bytes = Vec::new();
    let mut scratch = Vec::new();
    for number in 1..=count {
        make(&mut bytes, random.below(LARGEST) as usize, writer, number);
        let new = serde_bytes::ByteBuf::from(bytes.clone());
        let update = |old: Option<serde_bytes::ByteBuf>| {
            check(&old.unwrap(), &mut scratch);
            new
        };
        value.blocking_update(update, None).unwrap();
    }
    say(count);
}

/// In a tight loop until it is told to stop.
fn set_large(value: &Value<serde_bytes::ByteBuf>, len: u64) {
    std::thread::spawn(|| {
        hear();
        STOP.store(true, Ordering::SeqCst);
    });
    let mut values = [Vec::new(), Vec::new()];
    let mut number = 0;
    while !STOP.load(Ordering::SeqCst) {
        number += 1;
        // Two that are ready, so that there is no pause between the sets.
        let bytes = &mut values[(number % 2) as usize];
        if bytes.is_empty() {
            make(bytes, len as usize, 0, number);
        }
        value.blocking_set_bytes(bytes, None).unwrap();
    }
    say("ended");
}

/// What one reader saw.
#[derive(Default)]
struct Seen {
    version: u64,
    numbers: [u64; 8],
    reads: u64,
    scratch: Vec<u8>,
}

impl Seen {
    fn look(&mut self, bytes: &[u8], version: u64) {
        let known = (version == self.version).then_some(self.numbers);
        self.look_beside(bytes, version);
        assert!(known.is_none_or(|known| known == self.numbers), "two values of one version");
    }

    /// As `look`, with a version that may be older than the value.
    fn look_beside(&mut self, bytes: &[u8], version: u64) {
        let (writer, number) = check(bytes, &mut self.scratch);
        assert!(version >= self.version, "the version went back");
        assert!(number >= self.numbers[writer], "writer {writer} went back");
        (self.version, self.numbers[writer]) = (version, number);
        self.reads += 1;
    }
}

fn ready(children: &mut [Peer]) {
    children.iter_mut().for_each(|child| child.expect("ready"));
    children.iter_mut().for_each(|child| child.say("go"));
}

/// A task that looks after each change; how often it did.
async fn follow(value: Value<()>, total: u64) -> u64 {
    let mut seen = Seen::default();
    let mut bytes = Vec::new();
    while seen.version < total {
        let version = value.changed(seen.version).await.unwrap();
        value.get_bytes_into(&mut bytes).unwrap();
        assert!(version > seen.version);
        seen.look_beside(&bytes, version); // of that version, or a later one
    }
    seen.reads
}

/// Raw bytes: three processes set, threads and tasks here read in every way.
#[test]
fn nobody_sees_half_a_value() {
    let test = Test::lasting("torn", Duration::from_secs(120));
    let value = Value::<()>::create(&test.name).unwrap();
    let count = scaled(20_000);
    let mut children: Vec<_> =
        (1..=3).map(|writer| test.spawn("sets", &format!("{writer} {count}"))).collect();
    let done = AtomicBool::new(false);
    let total = 3 * count;
    let rt = runtime();
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let value = Value::<()>::open(&test.name).unwrap();
                rt.spawn(follow(value, total))
            })
            .collect();
        for at in 0..2 {
            let value = if at == 0 { value.clone() } else { Value::open(&test.name).unwrap() };
            let (done, reads) = (&done, &reads);
            scope.spawn(move || {
                let mut bytes = Vec::new();
                let mut seen = Seen::default();
                loop {
                    let last = done.load(Ordering::SeqCst);
                    let before = value.version();
                    if value.get_bytes_into(&mut bytes).unwrap() {
                        seen.look_beside(&bytes, before);
                    }
                    if last {
                        break;
                    }
                }
                assert!(seen.numbers.contains(&count), "the last one: {:?}", seen.numbers);
                reads.fetch_add(seen.reads, Ordering::SeqCst);
            });
        }
        ready(&mut children);
        children.iter_mut().for_each(|child| child.expect(&count.to_string()));
        done.store(true, Ordering::SeqCst);
        for task in tasks {
            assert!(rt.block_on(task).unwrap() >= 5);
        }
    });
    assert!(reads.into_inner() > 100);
    assert_eq!(value.version(), total);
    children.into_iter().for_each(Peer::finish);
}

/// Typed, with updates and exact versions.
#[test]
fn a_version_belongs_to_one_value() {
    let test = Test::lasting("torn, typed", Duration::from_secs(120));
    let value = Value::<serde_bytes::ByteBuf>::create(&test.name).unwrap();
    let mut first = Vec::new();
    make(&mut first, 100, 0, 0);
    value.try_set(&serde_bytes::ByteBuf::from(first)).unwrap();
    let count = scaled(1000);
    let mut children: Vec<_> =
        (1..=2).map(|writer| test.spawn("sets typed", &format!("{writer} {count}"))).collect();
    std::thread::scope(|scope| {
        for at in 0..3 {
            let value = if at < 2 { value.clone() } else { Value::open(&test.name).unwrap() };
            scope.spawn(move || {
                let mut seen = Seen::default();
                while seen.version < 2 * count + 1 {
                    let (version, read) = value.get_versioned().unwrap();
                    seen.look(&read.unwrap(), version);
                    match at {
                        0 => {}
                        1 => drop(value.blocking_changed(version, Duration::from_millis(5))),
                        _ => match value.try_get() {
                            Ok(read) => drop(check(&read, &mut seen.scratch)),
                            Err(TryGetError::WouldBlock) => {}
                            Err(err) => panic!("{err}"),
                        },
                    }
                }
                assert!(seen.reads > 10, "{} reads", seen.reads);
            });
        }
        ready(&mut children);
        children.iter_mut().for_each(|child| child.expect(&count.to_string()));
    });
    children.into_iter().for_each(Peer::finish);
}

/// Large values are set without pause, faster than they can be copied: readers get on all the same,
/// keeping the writers out for a copy each time.
#[test]
fn a_slow_reader_gets_on() {
    for writers in [1, 3] {
        let test = Test::new("slow reader");
        let value = Value::<serde_bytes::ByteBuf>::create(&test.name).unwrap();
        let mut children: Vec<_> =
            (0..writers).map(|_| test.spawn("sets large", &format!("0 {}", 2 << 20))).collect();
        ready(&mut children);
        value.blocking_changed(0, None).unwrap();
        let wanted = scaled(30);
        let rt = runtime();
        let reading = |value: &Value<serde_bytes::ByteBuf>| {
            let (mut bytes, mut scratch) = (Vec::new(), Vec::new());
            for _ in 0..wanted {
                assert!(value.get_bytes_into(&mut bytes).unwrap());
                assert_eq!(check(&bytes, &mut scratch).0, 0);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| reading(&value));
            scope.spawn(|| reading(&Value::open(&test.name).unwrap()));
            let in_task = value.clone();
            let task = rt.spawn(async move {
                let mut version = 0;
                for _ in 0..wanted {
                    version = in_task.changed(version).await.unwrap();
                    check(&in_task.get_bytes().unwrap().unwrap(), &mut Vec::new());
                }
            });
            rt.block_on(task).unwrap();
        });
        let before = value.version();
        value.blocking_changed(before, None).unwrap(); // and the writers get on, too
        children.iter_mut().for_each(|child| child.say("end"));
        children.iter_mut().for_each(|child| child.expect("ended"));
        children.into_iter().for_each(Peer::finish);
    }
}
