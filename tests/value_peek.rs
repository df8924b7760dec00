//! `Value::peek` and `ValueOptions::initial`: reading without a handle, and a first value that is there
//! before anybody sees the name.

mod common;
mod stage;

use common::{hear, say};
use ringspan::{FaultKind, OpenError, Ring, Value};
use serde::{Deserialize, Serialize};
use stage::{Test, role, scaled, standing_doors};

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let filled = |n: u64| vec![n; 1000];
    match role.role.as_str() {
        "sets" => {
            let value = Value::<Vec<u64>>::open(&role.name).unwrap();
            say("ready");
            for n in 1.. {
                value.blocking_set(&filled(n), None).unwrap();
            }
        }
        "makes" => {
            for n in 1.. {
                let options = Value::<Vec<u64>>::options().initial(&filled(n));
                drop(options.create(&role.name).unwrap());
                if n == 1 {
                    say("ready");
                }
                ringspan::remove(&role.name).unwrap();
            }
        }
        "peeks" => {
            let value: Option<u32> = Value::peek(&role.name).unwrap();
            say(format!("{value:?}"));
            hear();
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

#[test]
fn it_reads_what_was_set_last() {
    let test = Test::new("peek");
    let err = Value::<u32>::peek(&test.name).unwrap_err();
    assert!(matches!(&err, OpenError::NotFound(_)), "{err}");
    let value = Value::<u32>::create(&test.name).unwrap();
    assert_eq!(Value::<u32>::peek(&test.name).unwrap(), None);
    for n in 1..5 {
        value.try_set(&n).unwrap();
        assert_eq!(Value::<u32>::peek(&test.name).unwrap(), Some(n));
    }
    let mut peer = test.spawn("peeks", "");
    peer.expect("Some(4)");
    // It took no place, and left no door.
    assert_eq!(value.stat().unwrap().attached, 1);
    assert_eq!(standing_doors().len(), 1);
    peer.say("end");
    peer.finish();

    let err = Value::<String>::peek(&test.name).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Decode, "{err}");
    // Room that it grew into is read as well.
    value.try_set_bytes(&vec![7; 1 << 20]).unwrap();
    assert_eq!(Value::<u32>::peek(&test.name).unwrap_err().fault().kind(), FaultKind::Decode);
    let values = Value::<Vec<u32>>::open(&test.name).unwrap();
    let long: Vec<u32> = (0..100_000).collect();
    values.try_set(&long).unwrap();
    assert_eq!(Value::<Vec<u32>>::peek(&test.name).unwrap(), Some(long));
}

#[test]
fn it_needs_no_place() {
    let test = Test::new("peek 48");
    let all: Vec<_> = (0..48).map(|_| Value::<u32>::open_or_create(&test.name).unwrap()).collect();
    all[0].try_set(&3).unwrap();
    assert_eq!(Value::<u32>::peek(&test.name).unwrap(), Some(3));
}

#[test]
fn it_refuses_what_is_no_value() {
    let test = Test::new("peek other");
    let _ring = Ring::options().create(&test.name).unwrap();
    let err = Value::<u32>::peek(&test.name).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Mismatch, "{err}");
    for bad in ["", "/a/b", "/.hidden"] {
        let err = Value::<u32>::peek(bad).unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::InvalidName, "{err}");
    }
}

/// Whatever the words say: an answer or an error that names the object, no crash.
#[test]
fn every_word_may_be_garbage() {
    let test = Test::new("peek garbage");
    let value = Value::<u64>::create(&test.name).unwrap();
    value.try_set(&1).unwrap();
    drop(value);
    let whole = std::fs::read(test.path()).unwrap();
    for at in (0..16384).step_by(8) {
        for word in [u64::MAX, 1 << 40, 1] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            std::fs::write(test.path(), &bytes).unwrap();
            if let Err(err) = Value::<u64>::peek(&test.name) {
                assert!(err.to_string().contains(&test.name), "{at} {word:x}: {err}");
            }
            if !test.path().exists() {
                std::fs::write(test.path(), &whole).unwrap(); // it said that it was removed
            }
        }
    }
    test.sweep_doors();
}

/// Beside a process that sets without a pause, until that one is killed.
#[test]
fn no_half_value_is_read() {
    let test = Test::new("peek torn");
    let value = Value::<Vec<u64>>::options().initial(&vec![0; 1000]).create(&test.name).unwrap();
    let mut peer = test.spawn("sets", "");
    peer.expect("ready");
    let before = value.version();
    let mut seen = 0;
    for _ in 0..scaled(2000) {
        let read = Value::<Vec<u64>>::peek(&test.name).unwrap().unwrap();
        assert!(read.len() == 1000 && read.iter().all(|&n| n == read[0]), "{:?}", &read[..4]);
        assert!(read[0] >= seen, "{} after {seen}", read[0]);
        seen = read[0];
    }
    while value.version() == before {
        value.blocking_changed(before, None).unwrap();
    }
    peer.kill9();
    let read = Value::<Vec<u64>>::peek(&test.name).unwrap().unwrap();
    assert!(read.iter().all(|&n| n == read[0]));
    value.blocking_set(&vec![0; 1000], None).unwrap();
    drop(value);
    test.sweep_doors();
}

// ---- the first value ----------------------------------------------------------------------------

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Config {
    workers: u32,
}

#[test]
fn a_creator_sets_it_and_an_opener_does_not() {
    let test = Test::new("initial");
    let options = Value::<Config>::options().initial(&Config { workers: 4 });
    let value = options.clone().create(&test.name).unwrap();
    assert_eq!((value.version(), value.get().unwrap()), (1, Some(Config { workers: 4 })));
    assert_eq!(value.blocking_changed(0, None).unwrap(), 1);
    value.try_set(&Config { workers: 5 }).unwrap();
    let other = options.clone().open_or_create(&test.name).unwrap();
    assert_eq!(other.get().unwrap(), Some(Config { workers: 5 }));
    let err = options.create(&test.name).unwrap_err();
    assert!(matches!(&err, OpenError::AlreadyExists(_)), "{err}");
    assert_eq!(value.version(), 2);
    ringspan::remove(&test.name).unwrap();

    // There is room for it, for a second one of its size, and for larger ones.
    let long = vec![7_u64; 100_000];
    let value = Value::<Vec<u64>>::options().initial(&long).create(&test.name).unwrap();
    let size = value.file_size();
    value.try_set(&long).unwrap();
    value.try_set(&long).unwrap();
    assert_eq!(value.file_size(), size);
    value.try_set(&vec![u64::MAX; 100_000]).unwrap();
    assert_eq!(value.get().unwrap(), Some(vec![u64::MAX; 100_000]));
}

/// What serde cannot say.
#[derive(Clone)]
struct Unsayable;

impl Serialize for Unsayable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not this one"))
    }
}

#[test]
fn what_cannot_be_encoded_makes_nothing() {
    let test = Test::new("initial unsayable");
    let options = Value::<Unsayable>::options().initial(&Unsayable);
    let err = options.create(&test.name).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Encode, "{err}");
    assert!(err.to_string().contains("not this one"), "{err}");
    assert!(!test.path().exists());
    let room = Value::<Vec<u64>>::options().capacity(1 << 45).initial(&vec![1]);
    assert_eq!(room.create(&test.name).unwrap_err().fault().kind(), FaultKind::NoSpace);
    assert!(!test.path().exists());
}

/// Whoever finds the name finds the value, also when its maker is killed.
#[test]
fn nobody_sees_it_unset() {
    let test = Test::new("initial seen");
    let mut peer = test.spawn("makes", "");
    peer.expect("ready");
    let mut found = 0;
    while found < scaled(100) {
        match Value::<Vec<u64>>::peek(&test.name) {
            Ok(read) => {
                let read = read.expect("set from the start");
                assert!(read.len() == 1000 && read.iter().all(|&n| n == read[0]));
                found += 1;
            }
            Err(OpenError::NotFound(_)) => {}
            Err(err) => panic!("{err}"),
        }
    }
    peer.kill9();
    match Value::<Vec<u64>>::peek(&test.name) {
        Ok(read) => assert!(read.is_some()),
        Err(err) => assert!(matches!(&err, OpenError::NotFound(_)), "{err}"),
    }
    let _ = ringspan::remove(&test.name);
    test.sweep_doors();
}
