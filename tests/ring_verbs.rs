//! What each verb of a ring does when all goes well, and what bad input gets: nothing changes and the
//! error says what and how much.

mod common;
mod stage;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use ringspan::codec::Tag;
use ringspan::{FaultKind, OpenError, PopError, PushError, Ring, TryPopError, TryPushError};
use serde::{Deserialize, Serialize};
use stage::{Test, runtime};
use std::io;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(2);

#[test]
fn full_and_empty() {
    let test = Test::new("full and empty");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for round in 0..100u8 {
        assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Empty);
        let mut pushed = 0;
        while tx.try_push(&[round; 100]).is_ok() {
            pushed += 1;
        }
        assert!((30..=36).contains(&pushed), "{pushed} messages of 108 bytes in 4096");
        assert_eq!(tx.try_push(&[round; 100]).unwrap_err(), TryPushError::Full);
        assert!(matches!(tx.blocking_push(&[0; 100], SOON), Err(PushError::Timeout(_))));
        assert_eq!(tx.len(), rx.len());
        for _ in 0..pushed {
            assert_eq!(&*rx.try_pop().unwrap(), &[round; 100]);
        }
        assert!(tx.is_empty() && rx.is_empty());
    }
    assert!(matches!(rx.blocking_pop(SOON), Err(PopError::Timeout(_))));
}

#[test]
fn a_message_of_max_message_fits_at_any_offset() {
    let test = Test::new("any offset");
    let ring = test.ring_with(Ring::options().capacity(4096).max_message(4096 / 2 - 16));
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let most = vec![7; usize::try_from(ring.max_message()).unwrap()];
    for small in 0..1024 {
        // Steps of every multiple of eight bring the large one to every offset.
        tx.try_push(&vec![1; small % 64]).unwrap();
        drop(rx.try_pop().unwrap());
        tx.try_push(&most).unwrap();
        assert_eq!(&*rx.try_pop().unwrap(), &most[..]);
    }
}

#[test]
fn too_large_names_both_sizes_and_changes_nothing() {
    let test = Test::new("too large");
    let ring = test.ring_with(Ring::options().capacity(4096).max_message(100));
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    tx.try_push(b"before").unwrap();
    let before = ring.stat();
    let big = [0; 101];
    let check = |err: PushError| {
        let PushError::TooLarge { fault, len, max } = &err else { panic!("{err}") };
        assert_eq!((*len, *max), (101, 100));
        let text = fault.to_string();
        assert!(
            text.contains("101") && text.contains("100") && text.contains(&test.name),
            "{text}"
        );
        assert_eq!(io::Error::from(err).kind(), io::ErrorKind::InvalidInput);
    };
    check(tx.blocking_push(&big, None).unwrap_err());
    check(tx.blocking_reserve(101, None).map(drop).unwrap_err());
    check(runtime().block_on(tx.push(&big)).unwrap_err());
    check(runtime().block_on(tx.reserve(101)).map(drop).unwrap_err());
    check(tx.blocking_push_many([&big], None).unwrap_err());
    assert!(matches!(tx.try_push(&big), Err(TryPushError::TooLarge { len: 101, max: 100, .. })));
    assert!(matches!(tx.try_reserve(101), Err(TryPushError::TooLarge { .. })));
    assert!(matches!(tx.try_push(&vec![0; 1 << 20]), Err(TryPushError::TooLarge { .. })));
    assert_eq!(ring.stat(), before);
    assert_eq!(&*rx.try_pop().unwrap(), b"before");
    // What a batch published before the offender stays.
    assert!(tx.blocking_push_many([&big[..1], &big[..2], &big], None).is_err());
    assert_eq!(tx.published(), 2);
    let batch = rx.try_pop_many(9).unwrap();
    assert_eq!(batch.iter().map(<[u8]>::len).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_grant_publishes_a_prefix_or_nothing() {
    let test = Test::new("grant");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for used in [0, 1, 500, 1000] {
        let mut grant = tx.try_reserve(1000).unwrap();
        assert_eq!(grant.len(), 1000);
        grant[..used].fill(9);
        grant.commit(used);
        assert_eq!(&*rx.try_pop().unwrap(), &vec![9; used][..]);
    }
    for _ in 0..3 {
        // Given up without a commit; a grant has nothing to run when it goes.
        assert_eq!(tx.try_reserve(1000).unwrap().len(), 1000);
    }
    assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Empty);
    let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tx.try_reserve(8).unwrap().commit(9);
    }));
    assert!(over.is_err(), "more committed than reserved");
    runtime().block_on(async {
        let mut grant = tx.reserve(3).await.unwrap();
        grant.copy_from_slice(b"abc");
        grant.set_tag(Tag::APP);
        grant.commit(2);
        let message = rx.pop().await.unwrap().unwrap();
        assert_eq!((&*message, message.tag().unwrap()), (&b"ab"[..], Tag::APP));
    });
}

#[test]
fn batches() {
    let test = Test::new("batches");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let items: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; 90]).collect();
    let pushed = tx.try_push_many(&items).unwrap();
    assert!(pushed > 30 && pushed < 50 && tx.published() == pushed);
    let first = rx.try_pop_many(10).unwrap();
    assert_eq!(first.iter().collect::<Vec<_>>(), items[..10].iter().collect::<Vec<_>>());
    assert_eq!((first.len(), first.get(10), first.is_empty()), (10, None, false));
    assert_eq!(first.tag(3).unwrap().unwrap(), Tag::RAW);
    std::mem::forget(first);
    let again = rx.try_pop_many(1000).unwrap();
    assert_eq!(again.get(0), Some(&items[0][..]), "a forgotten batch is delivered again");
    assert_eq!(again.len(), pushed);
    drop(again);
    assert_eq!(rx.try_pop_many(4).map(drop).unwrap_err(), TryPopError::Empty);
    assert_eq!(tx.try_push_many(&items[..5]).unwrap(), 5);
    assert_eq!(runtime().block_on(rx.pop_many(3)).unwrap().unwrap().len(), 3);
    assert_eq!(rx.blocking_pop_many(1, None).unwrap().unwrap().len(), 1);
    assert_eq!(rx.len(), 96 + 8);
}

#[test]
fn a_forgotten_message_comes_again() {
    let test = Test::new("forgotten message");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    tx.try_push_many([b"one", b"two"]).unwrap();
    for _ in 0..3 {
        std::mem::forget(rx.try_pop().unwrap());
    }
    let message = rx.try_pop().unwrap();
    let mut two = [0; 2];
    assert_eq!((message.copy_to(&mut two), &two, message.to_vec()), (2, b"on", b"one".to_vec()));
    // While it is lent the ring keeps its bytes: nothing that is pushed may overwrite them.
    while tx.try_push(&[5; 300]).is_ok() {}
    assert_eq!(&*message, b"one");
    drop(message);
    assert_eq!(&*rx.try_pop().unwrap(), b"two");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Frame {
    id: u64,
    name: String,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
    scale: Option<f64>,
}

#[test]
fn values_by_msgpack() {
    let test = Test::new("values");
    let ring = test.ring(1 << 16);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let frame = |id| Frame { id, name: "ä".into(), data: vec![0xff; 40], scale: Some(0.5) };
    tx.try_push_value(&frame(1)).unwrap();
    tx.blocking_push_value(&frame(2), None).unwrap();
    runtime().block_on(tx.push_value(&frame(3))).unwrap();
    let lent = rx.try_pop().unwrap();
    assert_eq!((lent.tag().unwrap(), lent.value::<Frame>().unwrap()), (Tag::MSGPACK, frame(1)));
    drop(lent);
    assert_eq!(rx.blocking_pop_value::<Frame>(None).unwrap(), Some(frame(2)));
    assert_eq!(runtime().block_on(rx.pop_value::<Frame>()).unwrap(), Some(frame(3)));
    // Not a value at all, not msgpack, and another type: an error, popped all the same.
    tx.try_push(b"raw").unwrap();
    let mut grant = tx.try_reserve(3).unwrap();
    grant.copy_from_slice(&[0xc1, 0xdf, 0xff]);
    grant.set_tag(Tag::MSGPACK);
    grant.commit(3);
    tx.try_push_value("a string").unwrap();
    tx.try_push_value(&frame(4)).unwrap();
    for _ in 0..3 {
        let TryPopError::Fault(fault) = rx.try_pop_value::<Frame>().unwrap_err() else { panic!() };
        assert_eq!(
            (fault.kind(), fault.object()),
            (FaultKind::Decode, &*format!("ring {}", test.name))
        );
    }
    assert_eq!(rx.try_pop_value::<Frame>().unwrap(), frame(4));
}

#[test]
fn stream_and_sink() {
    let test = Test::new("stream and sink");
    let ring = test.ring_with(Ring::options().capacity(4096).max_message(64));
    let mut sink = ring.producer().unwrap().into_sink();
    let mut stream = ring.consumer().unwrap().into_stream();
    runtime().block_on(async {
        let items: Vec<Bytes> = (0..500u16).map(|n| Bytes::from(vec![n as u8; 60])).collect();
        let send = async {
            for item in &items {
                sink.feed(item.clone()).await.unwrap();
            }
            sink.flush().await.unwrap();
            let big = Bytes::from(vec![1; 65]);
            let err = sink.send(big.clone()).await.unwrap_err();
            assert!(matches!(err.error, PushError::TooLarge { len: 65, max: 64, .. }));
            assert_eq!(err.item, Some(big), "the item comes back");
            sink.send(Bytes::from_static(b"last")).await.unwrap();
            sink.close().await.unwrap();
        };
        let receive = async {
            let mut got = Vec::new();
            while let Some(item) = stream.next().await {
                got.push(item.unwrap());
            }
            got
        };
        let ((), mut got) = tokio::join!(send, receive);
        assert_eq!(got.pop().unwrap(), "last");
        assert_eq!(got, items);
    });
    assert!(stream.into_inner().is_empty());
    // A full ring: the sink holds one item, and gives it back with the producer.
    let mut sink = ring.producer().unwrap().into_sink();
    runtime().block_on(async {
        let mut sent = 0;
        while tokio::select! {
            biased;
            done = sink.send(Bytes::from_static(&[3; 60])) => done.is_ok(),
            () = tokio::task::yield_now() => false,
        } {
            sent += 1;
        }
        assert!(sent > 50);
    });
    let (tx, held) = sink.into_inner();
    assert_eq!(held.as_deref(), Some(&[3; 60][..]));
    tx.detach().unwrap();
}

/// A closed sink has no role, so it must not write into the ring that another producer may have.
#[test]
fn a_closed_sink_pushes_nothing() {
    let test = Test::new("closed sink");
    let ring = test.ring(4096);
    let mut sink = ring.producer().unwrap().into_sink();
    let _other = runtime().block_on(async {
        sink.send(Bytes::from_static(b"one")).await.unwrap();
        sink.close().await.unwrap();
        let other = ring.producer().unwrap();
        let err = sink.send(Bytes::from_static(b"two")).await.unwrap_err();
        assert!(err.to_string().contains("was closed"), "{err}");
        other
    });
    let pushed = ring.stat().pushed;
    let (mut tx, _) = sink.into_inner();
    assert!(matches!(tx.try_push(b"three"), Err(TryPushError::Fault(_))));
    assert!(matches!(tx.try_push_many([b"four"]), Err(TryPushError::Fault(_))));
    assert_eq!(ring.stat().pushed, pushed);
}

#[test]
fn geometry_belongs_to_the_creator() {
    let test = Test::new("geometry");
    let ring = test.ring_with(Ring::options().capacity(5000));
    assert_eq!((ring.capacity(), ring.max_message(), ring.name()), (8192, 2048, test.name.clone()));
    let same = Ring::options().open(test.name.trim_start_matches('/')).unwrap();
    assert_eq!((same.capacity(), same.max_message()), (8192, 2048));
    Ring::options().capacity(4096).max_message(1).open_or_create(&test.name).unwrap();
    for (options, asked, has) in [
        (Ring::options().capacity(8193), "16384", "8192"),
        (Ring::options().max_message(2049), "2049", "2048"),
        (Ring::options().capacity(u64::MAX), "", "8192"),
    ] {
        let err = options.open(&test.name).unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::Mismatch);
        let text = err.to_string();
        assert!(text.contains(asked) && text.contains(has) && text.contains(&test.name), "{text}");
    }
    let err = Ring::options().create(&test.name).unwrap_err();
    assert!(
        matches!(&err, OpenError::AlreadyExists(f) if f.to_string().contains(&test.name)),
        "{err}"
    );
}

#[test]
fn bad_options_and_names() {
    let test = Test::new("bad options");
    let bad = [
        Ring::options().capacity(u64::MAX),
        Ring::options().capacity((1 << 40) + 1),
        Ring::options().max_message(0),
        Ring::options().capacity(4096).max_message(4096 / 2 - 15),
        Ring::options().max_message(u64::MAX),
    ];
    for options in bad {
        let err = options.clone().create(&test.name).unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::InvalidOption, "{options:?}: {err}");
        assert!(!test.path().exists());
    }
    assert_eq!(Ring::options().capacity(0).create(&test.name).unwrap().capacity(), 4096);
    let missing = format!("{}-missing", test.name);
    let err = Ring::options().open(&missing).unwrap_err();
    assert!(matches!(&err, OpenError::NotFound(f) if f.object().contains(&missing)), "{err}");
    assert_eq!(io::Error::from(err).kind(), io::ErrorKind::NotFound);
    for name in ["", "/", "a/b", ".x", "sem.x", "a b", &"x".repeat(201)] {
        let err = Ring::options().open_or_create(name).unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::InvalidName, "{name:?}");
    }
}
