//! Blocks between real processes: creation with content, meta, lock and version on one handle, deaths,
//! and headers that lie.

mod common;
mod held;
mod stage;

use common::{Peer, hear, path_of, say};
use held::{file_of, load, state, store, timed_runtime};
use ringspan::{Block, FaultKind, Kind, LockError, OpenError, RwLock, Segment};
use stage::{Random, Test, role, until};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Where things lie; `docs/format.md`.
const META: u64 = 13056;
const KIND_AREA: u64 = 6528;
const VERSION: u64 = KIND_AREA + 6272;
const SLOTS: u64 = 384;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let open = || Block::open(&role.name).unwrap();
    match role.role.as_str() {
        "creates" => drop(Block::options().meta(*b"m").create_from(&role.name, 8, b"whole")),
        "waits" => waits(&open(), role.argument == "tokio"),
        "notifies" => {
            say("ready");
            hear();
            open().notify().unwrap();
            say("notified");
            hear();
        }
        "holds" => {
            let (block, tokio) = (open(), timed_runtime());
            let lock = block.lock().unwrap();
            match role.argument.as_str() {
                "write" => lock.blocking_write(None).unwrap()[..4].fill(7),
                "tokio write" => tokio.block_on(lock.write()).unwrap()[..4].fill(7),
                _ => {}
            }
            let read = role.argument.ends_with("read").then(|| lock.blocking_read(None).unwrap());
            let write = read.is_none().then(|| lock.blocking_write(None).unwrap());
            say("held");
            hear();
            drop((read, write));
        }
        "works" => works(&role.name, role.argument.parse().unwrap()),
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

/// Says each version that comes.
fn waits(block: &Block, on_tokio: bool) {
    let (runtime, mut seen) = (timed_runtime(), block.version());
    say("ready");
    loop {
        let changed = match on_tokio {
            true => runtime.block_on(block.changed(seen)),
            false => block.blocking_changed(seen, None),
        };
        match changed {
            Ok(version) => seen = version,
            Err(err) => return say(format!("{:?}", err.fault().kind())),
        }
        say(seen);
    }
}

fn kind_of<T>(opened: Result<T, OpenError>) -> FaultKind {
    match opened {
        Ok(_) => panic!("it is open"),
        Err(err) => err.fault().kind(),
    }
}

// ---- creation and meta --------------------------------------------------------------------------

#[test]
fn bytes_meta_and_version_are_one_object() {
    let test = Test::new("one object");
    let meta: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let options = Block::options().meta(meta.clone());
    let block = options.clone().create_from(&test.name, 100, b"content").unwrap();
    let other = Block::open(&test.name).unwrap();
    assert_eq!((other.meta(), other.len(), other.name()), (&meta[..], 100, test.name.clone()));
    assert!(!other.is_empty() && !other.is_ephemeral());
    let mut bytes = [1; 9];
    other.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"content\0\0");
    block.write_at(98, b"ab").unwrap();
    other.read_at(98, &mut bytes[..2]).unwrap();
    assert_eq!(&bytes[..2], b"ab");
    for (at, len) in [(99, 2), (101, 0), (usize::MAX, 1)] {
        let err = block.read_at(at, &mut vec![0; len]).unwrap_err();
        assert_eq!(err.kind(), FaultKind::InvalidOption);
        assert_eq!(block.write_at(at, &vec![0; len]).unwrap_err().kind(), err.kind());
    }
    assert_eq!(block.as_ptr().addr() % 4096, 0);
    assert!(matches!(options.clone().create(&test.name, 1), Err(OpenError::AlreadyExists(_))));
    let info = ringspan::segments().unwrap().into_iter().find(|info| info.name == test.name);
    let info = info.unwrap();
    assert_eq!((info.kind, info.size, info.attached.len()), (Some(Kind::Array), 100, 0));
    ringspan::remove(&test.name).unwrap();
    let unfit = options.create_from(&test.name, 3, b"four");
    assert_eq!(kind_of(unfit), FaultKind::InvalidOption);
    let long = Block::options().meta(vec![0; (1 << 20) + 1]).create(&test.name, 3);
    assert_eq!(kind_of(long), FaultKind::InvalidOption);
    assert!(!test.path().exists());
}

#[test]
fn other_kinds_are_refused_by_name() {
    let test = Test::new("other kinds");
    let block = Block::create(&test.name, 8).unwrap();
    let err = RwLock::open(&test.name).unwrap_err();
    assert!(err.to_string().contains("array"), "{err}");
    assert_eq!(kind_of(Segment::open(&test.name)), FaultKind::Mismatch);
    drop(block);
    ringspan::remove(&test.name).unwrap();
    drop(Segment::create(&test.name, 8).unwrap());
    assert_eq!(kind_of(Block::open(&test.name)), FaultKind::Mismatch);
    ringspan::remove(&test.name).unwrap();
    assert!(matches!(Block::open(&test.name), Err(OpenError::NotFound(_))));
}

#[test]
fn plain_use_takes_no_place_and_the_lock_one() {
    let test = Test::new("places");
    let block = Block::create(&test.name, 8).unwrap();
    let more: Vec<Block> = (0..60).map(|_| Block::open(&test.name).unwrap()).collect();
    let locks: Vec<RwLock> = more[..48].iter().map(|block| block.lock().unwrap()).collect();
    assert!(more[..48].iter().all(|block| block.lock().is_ok()), "they have it already");
    assert_eq!(block.lock().unwrap_err().kind(), FaultKind::TooManyAttached);
    assert_eq!(block.notify().unwrap_err().kind(), FaultKind::TooManyAttached);
    let guard = locks[3].blocking_write(None).unwrap();
    assert_eq!(block.holders()[0].pid, std::process::id(), "seen without a place");
    drop(guard);
    drop((locks, more));
    assert_eq!(block.notify().unwrap(), 1);
}

#[test]
fn an_ephemeral_block_goes_with_the_last_one() {
    let test = Test::new("ephemeral");
    let block = Block::options().ephemeral(true).create(&test.name, 8).unwrap();
    let mut other = test.spawn("holds", "write");
    other.expect("held");
    assert!(block.is_ephemeral());
    drop(block);
    assert!(test.path().exists());
    other.kill9();
    assert!(matches!(Block::open(&test.name), Err(OpenError::NotFound(_))));
    assert!(!test.path().exists());
    test.sweep_doors();
}

#[cfg(feature = "failpoints")]
#[test]
fn a_killed_creator_leaves_all_of_it_or_nothing() {
    let test = Test::new("killed creator");
    for (point, there) in [
        ("create.anonymous", false),
        ("create.header", false),
        ("create.claimed", false),
        ("create.named", true),
    ] {
        let mut creator = Peer::spawn_with("creates", &[&test.name, ""], |command| {
            command.env("RINGSPAN_FAILPOINT", point);
        });
        assert!(creator.was_killed(), "{point}");
        assert_eq!(path_of(&test.name).exists(), there, "{point}");
    }
    let block = Block::open(&test.name).unwrap();
    let mut bytes = [0; 8];
    block.read_at(0, &mut bytes).unwrap();
    assert_eq!((&bytes, block.meta()), (b"whole\0\0\0", &b"m"[..]));
}

// ---- deaths -------------------------------------------------------------------------------------

#[test]
fn a_killed_writer_poisons_and_a_killed_reader_does_not() {
    for how in ["write", "tokio write", "read"] {
        let test = Test::new(how);
        let block = Block::create(&test.name, 8).unwrap();
        let mut holder = test.spawn("holds", how);
        holder.expect("held");
        let lock = block.lock().unwrap();
        let holders = block.holders();
        assert_eq!(holders.iter().map(|one| one.pid).collect::<Vec<_>>(), [holder.pid()]);
        let waiter = std::thread::spawn({
            let lock = lock.clone();
            move || match lock.blocking_write(None) {
                Err(LockError::Poisoned(_)) => true,
                Ok(_) => false,
                Err(err) => panic!("{err}"),
            }
        });
        until(|| lock.stat().unwrap().parks > 0);
        holder.kill9();
        assert_eq!(waiter.join().unwrap(), how != "read", "{how}");
        assert_eq!(block.is_poisoned(), how != "read", "{how}");
        lock.clear_poison().unwrap();
        assert!(!Block::open(&test.name).unwrap().is_poisoned());
    }
}

#[test]
fn changed_wakes_tokio_and_threads_in_other_processes() {
    for way in ["tokio", "blocking"] {
        let test = Test::new(way);
        let block = Block::create(&test.name, 8).unwrap();
        let mut waiter = test.spawn("waits", way);
        waiter.expect("ready");
        for version in 1..20 {
            if version % 2 == 0 {
                until(|| state(waiter.pid()) == Some('S'));
            }
            assert_eq!(block.notify().unwrap(), version);
            // What was not waited for yet is not told one by one.
            while waiter.hear() != version.to_string() {}
        }
        // The last one out of reach: nobody can notify any more.
        let file = held::file_of(&test.path());
        drop(block);
        until(|| held::parked(&file) == 1);
        ringspan::remove(&test.name).unwrap();
        waiter.expect("Removed");
        waiter.finish();
    }
}

/// Polls once.
async fn is_pending<F: Future>(mut future: Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[test]
fn one_handle_waits_for_the_lock_and_for_a_change_at_once() {
    let test = Test::new("at once");
    let block = Block::create(&test.name, 8).unwrap();
    let mut holder = test.spawn("holds", "read");
    holder.expect("held");
    timed_runtime().block_on(async {
        let (lock, seen) = (block.lock().unwrap(), block.version());
        let mut writes = std::pin::pin!(lock.write());
        let mut changes = std::pin::pin!(block.changed(seen));
        assert!(is_pending(writes.as_mut()).await);
        assert!(is_pending(changes.as_mut()).await);
        block.notify().unwrap();
        assert_eq!(changes.await.unwrap(), seen + 1);
        assert!(is_pending(writes.as_mut()).await);
        holder.say("give");
        drop(writes.await.unwrap());
    });
    holder.finish();
}

#[cfg(feature = "failpoints")]
#[test]
fn a_notifier_killed_before_it_rings_wakes_by_its_death() {
    for way in ["tokio", "blocking"] {
        let test = Test::new(way);
        let block = Block::create(&test.name, 8).unwrap();
        let mut waiter = test.spawn("waits", way);
        waiter.expect("ready");
        let mut notifier = Peer::spawn_with("notifies", &[&test.name, ""], |command| {
            command.env("RINGSPAN_FAILPOINT", "notify.raised");
        });
        notifier.expect("ready");
        let file = file_of(&test.path());
        until(|| held::parked(&file) == 1);
        notifier.say("go");
        assert!(notifier.was_killed());
        waiter.expect("1");
        assert_eq!(block.version(), 1);
        waiter.kill9();
        test.sweep_doors();
    }
}

// ---- lies ---------------------------------------------------------------------------------------

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Writes a word of the header, and the checksum that makes it look right.
fn tell(file: &File, at: u64, word: u64) {
    store(file, at, word);
    let mut header = [0; 248];
    file.read_exact_at(&mut header, 0).unwrap();
    store(file, 248, fnv1a(&header));
}

#[test]
fn headers_that_lie_about_the_meta_are_refused() {
    let test = Test::new("lies");
    let block = Block::options().meta(vec![5; 100]).create(&test.name, 8192).unwrap();
    let file = file_of(&test.path());
    let (offset, length) = (load(&file, 96), load(&file, 104));
    assert_eq!((offset, length), (META, 100));
    let lies = [0, 1, 99, 101, META + 8, 16384, 1 << 20, 1 << 32, 1 << 62, u64::MAX];
    for (at, was) in [(96, offset), (104, length)] {
        for lie in lies {
            tell(&file, at, lie);
            let err = Block::open(&test.name).unwrap_err();
            assert_eq!(err.fault().kind(), FaultKind::Damaged, "{at}: {lie}: {err}");
            assert!(err.to_string().contains(&test.name), "{err}");
        }
        tell(&file, at, was);
    }
    assert_eq!(Block::open(&test.name).unwrap().meta(), [5; 100]);
    store(&file, META + 48, 0);
    assert_eq!(kind_of(Block::open(&test.name)), FaultKind::Damaged);
    assert_eq!(block.meta(), [5; 100], "copied");
    drop(Segment::create(&format!("{}-bytes", test.name), 8).unwrap());
    let bytes = file_of(&path_of(&format!("{}-bytes", test.name)));
    tell(&bytes, 104, 8); // a kind that has none
    let opened = Segment::open(&format!("{}-bytes", test.name));
    assert_eq!(kind_of(opened), FaultKind::Damaged);
    ringspan::remove(&format!("{}-bytes", test.name)).unwrap();
}

/// Waits and works on a block that somebody scribbles on, until it has gone round so often.
fn works(name: &str, rounds: u64) {
    let (brief, mut well) = (Duration::from_millis(1), 0);
    for round in 0..rounds {
        let Ok(block) = Block::open(name) else { continue };
        let told = match round % 4 {
            0 => block.blocking_changed(None, brief).map_err(|err| err.to_string()).map(drop),
            1 => block.notify().map_err(|err| err.to_string()).map(drop),
            2 => block.lock().map_err(|err| err.to_string()).and_then(|lock| {
                let taken = lock.blocking_write(brief);
                taken.map(|mut bytes| bytes.fill(1)).map_err(|err| err.to_string())
            }),
            _ => block.lock().map_err(|err| err.to_string()).and_then(|lock| {
                lock.blocking_read(brief).map(drop).map_err(|err| err.to_string())
            }),
        };
        match told {
            Ok(()) => well += 1,
            Err(text) => assert!(text.contains(name), "an error without the array: {text}"),
        }
    }
    say(well);
    hear();
}

#[test]
fn words_that_are_overwritten_harm_nobody() {
    let test = Test::new("garbage");
    let block = Block::options().meta(*b"meta").create(&test.name, 64).unwrap();
    let mut workers: Vec<Peer> = (0..2).map(|_| test.spawn("works", "3000")).collect();
    let (file, mut random) = (file_of(&test.path()), Random::new(5));
    let mut done = 0;
    while done < workers.len() {
        let at = match random.below(4) {
            0 => VERSION,
            1 => KIND_AREA,
            2 => SLOTS + 128 * random.below(4) + 8 * random.below(7),
            _ => KIND_AREA + 128 + 128 * random.below(4) + 8 * random.below(3),
        };
        let word = match random.below(3) {
            0 => 0,
            1 => random.next(),
            _ => load(&file, at) ^ 1 << random.below(64),
        };
        store(&file, at, word);
        std::thread::sleep(Duration::from_micros(300));
        for well in workers.iter().filter_map(Peer::has_said) {
            assert_ne!(well, "0", "nothing ever worked");
            done += 1;
        }
        assert!(!workers.iter_mut().any(Peer::has_ended), "a worker broke");
    }
    drop((workers, block));
    ringspan::remove(&test.name).unwrap();
    test.sweep_doors();
}
