//! `Value`: opening, setting, reading, changing under the lock; what fits together and what does not.
//! Waits are in `value_wait.rs`, sizes in `value_growth.rs`.

mod common;
mod stage;

use common::say;
use ringspan::codec::Exact;
use ringspan::{
    Fault, FaultKind, OpenError, Ring, SetError, SharedInt, TryGetError, TrySetError, Value, Watch,
};
use serde::{Deserialize, Serialize};
use stage::{Test, role, runtime, scaled};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(30);

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let value = Value::<u64>::open(&role.name).unwrap();
    let updates: u64 = role.argument.parse().unwrap();
    let rt = runtime();
    for at in 0..updates {
        let add = |old: Option<u64>| old.unwrap() + 1;
        match role.role.as_str() {
            "updates" => value.blocking_update(add, None).map(drop).unwrap(),
            "updates-async" => rt.block_on(value.update(add)).map(drop).unwrap(),
            "exchanges" if at % 2 == 0 => loop {
                let old = value.get().unwrap();
                let new = old.unwrap() + 1;
                if value.blocking_compare_and_set(old.as_ref(), &new, None).unwrap() {
                    break;
                }
            },
            "exchanges" => loop {
                let old = value.get().unwrap();
                let new = old.unwrap() + 1;
                if rt.block_on(value.compare_and_set(old.as_ref(), &new)).unwrap() {
                    break;
                }
            },
            other => panic!("role {other}"),
        }
    }
    drop(value);
    say("done");
    std::process::exit(0);
}

fn names(fault: &Fault, test: &Test, kind: FaultKind, words: &[&str]) {
    let text = fault.to_string();
    assert_eq!(fault.kind(), kind, "{text}");
    assert!(text.contains(&format!("value {}", test.name)), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

// ---- opening ------------------------------------------------------------------------------------

#[test]
fn a_name_that_leads_nowhere_or_elsewhere() {
    let test = Test::new("names");
    let err = Value::<u8>::open(&test.name).unwrap_err();
    assert!(matches!(&err, OpenError::NotFound(_)), "{err}");
    assert!(err.to_string().contains(&test.name), "{err}");
    assert_eq!(std::io::Error::from(err).kind(), ErrorKind::NotFound);

    let value = Value::<u8>::create(&test.name).unwrap();
    let err = Value::<u8>::create(&test.name).unwrap_err();
    assert!(matches!(&err, OpenError::AlreadyExists(_)), "{err}");
    assert!(err.to_string().contains(&test.name), "{err}");
    assert_eq!(value.name(), test.name);
    let err = SharedInt::open(&test.name).unwrap_err();
    assert_eq!(err.fault().kind(), FaultKind::Mismatch);
    assert!(err.to_string().contains("is a value, not a shared int"), "{err}");
    drop(value);
    ringspan::remove(&test.name).unwrap();

    let _ring = Ring::options().create(&test.name).unwrap();
    for err in [Value::<u8>::open(&test.name), Value::<u8>::open_or_create(&test.name)] {
        let err = err.unwrap_err();
        names(err.fault(), &test, FaultKind::Mismatch, &["is a ring, not a value"]);
    }
    let err = Value::<u8>::create(&test.name).unwrap_err();
    assert!(matches!(&err, OpenError::AlreadyExists(_)), "{err}");

    for bad in ["", "/", "/a/b", "/.hidden", "/sem.x", "/sp ace", &"x".repeat(300)] {
        let err = Value::<u8>::open_or_create(bad).unwrap_err();
        assert_eq!(err.fault().kind(), FaultKind::InvalidName, "{bad:?}: {err}");
    }
}

#[test]
fn options_are_taken_or_refused() {
    let test = Test::new("options");
    for capacity in [u64::MAX, u64::MAX / 2, 1 << 62, i64::MAX as u64 / 2] {
        let err = Value::<u8>::options().capacity(capacity).create(&test.name).unwrap_err();
        names(err.fault(), &test, FaultKind::InvalidOption, &[]);
        assert!(!test.path().exists(), "{capacity}");
    }
    let err = Value::<u8>::options().capacity(1 << 45).create(&test.name).unwrap_err();
    names(err.fault(), &test, FaultKind::NoSpace, &[]);
    assert!(!test.path().exists());

    let options = Value::<u8>::options().capacity(10_000).mode(0o640);
    let value = options.clone().open_or_create(&test.name).unwrap();
    assert!(!value.is_ephemeral());
    let info = test.path().metadata().unwrap();
    assert_eq!(info.mode() & 0o7777, 0o640);
    assert_eq!(info.len(), 16384 + 2 * 12288);
    for _ in 0..3 {
        value.try_set_bytes(&[7; 12288]).unwrap();
    }
    assert_eq!(test.path().metadata().unwrap().len(), info.len(), "there was room from the start");
    // An opener takes what is there.
    let other = Value::<u8>::options().capacity(1 << 45).mode(0).open(&test.name).unwrap();
    assert_eq!(other.get_bytes().unwrap().unwrap(), [7; 12288]);
    assert_eq!(test.path().metadata().unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn an_ephemeral_value_goes_with_the_last_handle() {
    let test = Test::new("ephemeral");
    let options = Value::<u8>::options().ephemeral(true);
    let first = options.clone().create(&test.name).unwrap();
    let clone = first.clone();
    let second = Value::<u8>::open(&test.name).unwrap();
    assert!(second.is_ephemeral());
    second.try_set(&1).unwrap();
    drop(first);
    assert!(test.path().exists(), "a clone is left");
    assert_eq!(clone.get().unwrap(), Some(1));
    drop(second);
    assert!(test.path().exists());
    drop(clone);
    assert!(!test.path().exists());
    let again = options.open_or_create(&test.name).unwrap();
    assert_eq!(again.get().unwrap(), None);
}

#[test]
fn forty_eight_handles_and_no_more() {
    let test = Test::new("48 handles");
    let mut handles: Vec<_> =
        (0..48).map(|_| Value::<u32>::open_or_create(&test.name).unwrap()).collect();
    for (at, handle) in (0..).zip(&handles) {
        handle.try_set(&at).unwrap();
        assert_eq!(handles[0].get().unwrap(), Some(at));
    }
    assert_eq!(handles[0].stat().unwrap().attached, 48);
    let err = Value::<u32>::open(&test.name).unwrap_err();
    names(err.fault(), &test, FaultKind::TooManyAttached, &["48"]);
    let clone = handles[3].clone(); // no handle of its own
    assert_eq!(clone.get().unwrap(), Some(47));
    drop(handles.swap_remove(20));
    let late = Value::<u32>::open(&test.name).unwrap();
    late.try_set(&99).unwrap();
    assert_eq!(clone.get().unwrap(), Some(99));
    assert_eq!(late.stat().unwrap().attached, 48);
}

// ---- setting and reading ------------------------------------------------------------------------

#[test]
fn before_the_first_set_there_is_nothing() {
    let test = Test::new("never set");
    let value = Value::<String>::create(&test.name).unwrap();
    assert_eq!((value.get().unwrap(), value.version()), (None, 0));
    assert_eq!(value.get_versioned().unwrap(), (0, None));
    assert_eq!(value.get_bytes().unwrap(), None);
    let mut bytes = b"old".to_vec();
    assert!(!value.get_bytes_into(&mut bytes).unwrap());
    let err = value.try_get().unwrap_err();
    assert_eq!(err, TryGetError::Empty);
    assert_eq!(std::io::Error::from(err).kind(), ErrorKind::WouldBlock);
    // An empty one is one.
    value.try_set(&String::new()).unwrap();
    assert_eq!(value.try_get().unwrap(), "");
    value.try_set_bytes(b"").unwrap();
    assert_eq!(value.get_bytes().unwrap().unwrap(), b"");
    assert!(format!("{value:?}").contains("version: 2"), "{value:?}");
}

#[test]
fn every_form_of_set_and_get() {
    let test = Test::new("forms");
    let value = Value::<u32>::create(&test.name).unwrap();
    let other = Value::<u32>::open(&test.name).unwrap();
    let rt = runtime();
    assert_eq!(rt.block_on(value.set(&1)).unwrap(), 1);
    assert_eq!((other.get().unwrap(), other.version()), (Some(1), 1));
    assert_eq!(other.try_set(&2).unwrap(), 2);
    assert_eq!((value.try_get().unwrap(), value.version()), (2, 2));
    assert_eq!(value.blocking_set(&3, None).unwrap(), 3);
    assert_eq!(other.get_versioned().unwrap(), (3, Some(3)));
    assert_eq!(rt.block_on(other.set_bytes(b"four")).unwrap(), 4);
    assert_eq!(value.get_bytes().unwrap().unwrap(), b"four");
    assert_eq!(value.try_set_bytes(b"fifth").unwrap(), 5);
    let mut bytes = vec![0; 100];
    assert!(other.get_bytes_into(&mut bytes).unwrap());
    assert_eq!(bytes, b"fifth");
    assert_eq!(other.blocking_set_bytes(b"6", MOMENT).unwrap(), 6);
    assert_eq!(value.get_bytes().unwrap().unwrap(), b"6");
    assert_eq!(value.blocking_set(&7, MOMENT).unwrap(), 7);
    assert_eq!(value.clone().get().unwrap(), Some(7));
    // Outside a runtime too, as long as nobody has to be waited for.
    let mut set = std::pin::pin!(value.set(&8));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = std::future::Future::poll(set.as_mut(), &mut cx);
    assert!(matches!(polled, std::task::Poll::Ready(Ok(8))));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Path { points: Vec<(i32, i32)>, closed: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scene {
    name: String,
    shapes: Vec<Shape>,
    by_id: BTreeMap<u16, Option<Box<Scene>>>,
    #[serde(with = "serde_bytes")]
    blob: Vec<u8>,
}

#[test]
fn any_serde_type() {
    let test = Test::new("types");
    let value = Value::<Scene>::create(&test.name).unwrap();
    let inner = Scene {
        name: "ünïcode \u{1f980}".into(),
        shapes: vec![],
        by_id: BTreeMap::new(),
        blob: (0..=255).collect(),
    };
    let shapes = vec![
        Shape::Point,
        Shape::Circle(-0.5),
        Shape::Path { points: vec![(i32::MIN, i32::MAX)], closed: true },
    ];
    let by_id = BTreeMap::from([(1, None), (65535, Some(Box::new(inner.clone())))]);
    let scene = Scene { shapes, by_id, ..inner };
    value.try_set(&scene).unwrap();
    assert_eq!(Value::<Scene>::open(&test.name).unwrap().get().unwrap(), Some(scene));

    // A part of the fields is another type that fits, a list is none.
    #[derive(Debug, Deserialize, Serialize)]
    struct Titled {
        name: String,
    }
    let titled = Value::<Titled>::open(&test.name).unwrap();
    assert!(titled.get().unwrap().unwrap().name.starts_with("ünï"));
    let list = Value::<Vec<u8>>::open(&test.name).unwrap();
    names(&list.get().unwrap_err(), &test, FaultKind::Decode, &["cannot decode"]);
    let Err(TryGetError::Fault(fault)) = list.try_get() else { panic!() };
    names(&fault, &test, FaultKind::Decode, &[]);

    let tuples = Value::<(i64, Option<u64>, f64, ())>::open(&test.name).unwrap();
    tuples.try_set(&(i64::MIN, Some(u64::MAX), f64::NEG_INFINITY, ())).unwrap();
    let read = tuples.get().unwrap();
    assert_eq!(read, Some((i64::MIN, Some(u64::MAX), f64::NEG_INFINITY, ())));
    let maybe = Value::<Option<u8>>::open(&test.name).unwrap();
    maybe.try_set(&None).unwrap();
    assert_eq!(maybe.get().unwrap(), Some(None), "set to nothing is not: never set");
}

/// What Python wrote in its exact mode is for `Exact` to read, and the error says so.
#[test]
fn exact_values() {
    let test = Test::new("exact");
    let exact = Value::<Exact<(i32, String)>>::create(&test.name).unwrap();
    exact.try_set(&Exact((5, "five".into()))).unwrap();
    let plain = Value::<(i32, String)>::open(&test.name).unwrap();
    assert_eq!(plain.get().unwrap(), Some((5, "five".into())));
    assert_eq!(exact.get().unwrap().map(|it| it.0), Some((5, "five".into())));
    // (1, "x") of Python, put where the last value lies: fixext tuple.
    let tuple = [0xc7, 4, 32, 0x92, 1, 0xa1, b'x'];
    let file = std::fs::File::options().write(true).open(test.path()).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&tuple, 20480).unwrap(); // buffer 1
    assert_eq!(exact.get().unwrap().map(|it| it.0), Some((1, "x".into())));
    names(&plain.get().unwrap_err(), &test, FaultKind::Decode, &["codec::Exact<T>", "tuple"]);
}

#[test]
fn bytes_beside_typed_values() {
    let test = Test::new("bytes and typed");
    let value = Value::<u32>::create(&test.name).unwrap();
    value.try_set_bytes(b"raw").unwrap();
    names(&value.get().unwrap_err(), &test, FaultKind::Decode, &["raw", "`get_bytes`"]);
    let Err(TryGetError::Fault(fault)) = value.try_get() else { panic!() };
    names(&fault, &test, FaultKind::Decode, &["`get_bytes`"]);
    // What cannot be read cannot be updated, and stands.
    let err = value.blocking_update(|_| 1, None).unwrap_err();
    names(err.fault(), &test, FaultKind::Decode, &["`get_bytes`"]);
    let err = value.blocking_compare_and_set(None, &1, None).unwrap_err();
    names(err.fault(), &test, FaultKind::Decode, &["`get_bytes`"]);
    assert_eq!((value.get_bytes().unwrap().unwrap(), value.version()), (b"raw".to_vec(), 1));
    value.try_set(&5).unwrap();
    names(&value.get_bytes().unwrap_err(), &test, FaultKind::Decode, &["msgpack", "`get`"]);
    let err = value.get_bytes_into(&mut Vec::new()).unwrap_err();
    names(&err, &test, FaultKind::Decode, &["`get`"]);
    assert_eq!(value.get().unwrap(), Some(5));
}

#[derive(Debug)]
struct Stubborn(bool);

impl Serialize for Stubborn {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            true => Err(serde::ser::Error::custom("it will not go")),
            false => s.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        bool::deserialize(d).map(Stubborn)
    }
}

#[test]
fn what_cannot_be_encoded_changes_nothing() {
    let test = Test::new("encode");
    let value = Value::<Stubborn>::create(&test.name).unwrap();
    value.try_set(&Stubborn(false)).unwrap();
    let words = ["it will not go"];
    let Err(TrySetError::Fault(fault)) = value.try_set(&Stubborn(true)) else { panic!() };
    names(&fault, &test, FaultKind::Encode, &words);
    let err = value.blocking_set(&Stubborn(true), None).unwrap_err();
    names(err.fault(), &test, FaultKind::Encode, &words);
    let err = runtime().block_on(value.update(|_| Stubborn(true))).unwrap_err();
    names(err.fault(), &test, FaultKind::Encode, &words);
    assert_eq!(value.version(), 1);
    Value::<bool>::open(&test.name).unwrap().try_set(&true).unwrap(); // the lock is free
}

// ---- changes under the lock ---------------------------------------------------------------------

#[test]
fn an_update_sees_the_latest_and_keeps_others_out() {
    let test = Test::new("update");
    let value = Value::<Vec<u32>>::create(&test.name).unwrap();
    let other = Value::<Vec<u32>>::open(&test.name).unwrap();
    let first =
        value.blocking_update(|old| old.map_or(vec![1], |_| panic!("it was never set")), None);
    assert_eq!((first.unwrap(), value.version()), (vec![1], 1));
    let second = runtime().block_on(value.update(|old| {
        assert_eq!(old, Some(vec![1]));
        // Nobody sets meanwhile, and everybody reads.
        assert_eq!(other.try_set(&vec![9]), Err(TrySetError::WouldBlock));
        let err = other.blocking_set(&vec![9], MOMENT).unwrap_err();
        let SetError::Timeout(fault) = &err else { panic!("{err}") };
        let pid = format!("pid {}", std::process::id());
        names(fault, &test, FaultKind::Os, &["time-out", &pid]);
        assert_eq!(fault.errno(), Some(libc::ETIMEDOUT));
        assert_eq!(std::io::Error::from(err).kind(), ErrorKind::TimedOut);
        assert_eq!(other.get().unwrap(), Some(vec![1]));
        assert_eq!(other.try_get().unwrap(), [1]);
        vec![1, 2]
    }));
    assert_eq!((second.unwrap(), value.version()), (vec![1, 2], 2));
    assert_eq!(other.get().unwrap(), Some(vec![1, 2]));
    other.try_set(&vec![3]).unwrap();
}

#[test]
fn a_panic_in_an_update_leaves_the_old_value() {
    let test = Test::new("panic");
    let value = Value::<u32>::create(&test.name).unwrap();
    let other = Value::<u32>::open(&test.name).unwrap();
    value.try_set(&1).unwrap();
    for on_tokio in [false, true] {
        let outcome = catch_unwind(AssertUnwindSafe(|| match on_tokio {
            true => runtime().block_on(value.update(|_| panic!("on purpose"))),
            false => value.blocking_update(|_| panic!("on purpose"), None),
        }));
        assert!(outcome.is_err());
        assert_eq!((other.get().unwrap(), value.get().unwrap()), (Some(1), Some(1)));
        assert_eq!(other.version(), 1);
        // Free for this handle and for others.
        let (a, b) = (is_free(&value), is_free(&other));
        assert!(a && b, "the lock is still held");
    }
}

/// Whether the lock can be had, by a change that changes nothing.
fn is_free(value: &Value<u32>) -> bool {
    !value.blocking_compare_and_set(Some(&u32::MAX), &0, MOMENT).unwrap()
}

#[test]
fn compare_and_set() {
    let test = Test::new("compare and set");
    let value = Value::<String>::create(&test.name).unwrap();
    let rt = runtime();
    let (a, b) = ("a".to_owned(), "b".to_owned());
    assert!(!rt.block_on(value.compare_and_set(Some(&a), &b)).unwrap());
    assert_eq!((value.get().unwrap(), value.version()), (None, 0));
    assert!(rt.block_on(value.compare_and_set(None, &a)).unwrap());
    assert!(!value.blocking_compare_and_set(None, &b, None).unwrap());
    assert!(!value.blocking_compare_and_set(Some(&b), &b, None).unwrap());
    assert_eq!((value.get().unwrap().as_ref(), value.version()), (Some(&a), 1));
    assert!(value.blocking_compare_and_set(Some(&a), &b, None).unwrap());
    assert_eq!((value.get().unwrap(), value.version()), (Some(b), 2));
}

#[test]
fn updates_of_several_processes_add_up() {
    let test = Test::new("updates add up");
    let value = Value::<u64>::create(&test.name).unwrap();
    value.try_set(&0).unwrap();
    let each = scaled(5000);
    let roles = ["updates", "updates-async", "exchanges", "updates"];
    let children: Vec<_> = roles.iter().map(|role| test.spawn(role, &each.to_string())).collect();
    for mut child in children {
        child.expect("done");
        child.finish();
    }
    assert_eq!(value.get().unwrap(), Some(4 * each));
    assert_eq!(value.version(), 4 * each + 1);
}

#[test]
fn values_go_to_threads() {
    fn shared<T: Send + Sync + Clone + Unpin + 'static>() {}
    fn error<T: Send + Sync + Clone + std::error::Error + 'static>()
    where
        std::io::Error: From<T>,
    {
    }
    fn future<F: std::future::Future + Send>(future: F) {
        drop(future);
    }
    // Also of a type that is not.
    shared::<Value<std::rc::Rc<u8>>>();
    shared::<ringspan::ValueOptions<std::rc::Rc<u8>>>();
    fn send<T: Send + Sync + Unpin>() {}
    send::<Watch<u8>>();
    error::<SetError>();
    error::<TrySetError>();
    error::<TryGetError>();
    let test = Test::new("send");
    let value = Value::<u8>::create(&test.name).unwrap();
    future(value.set(&1));
    future(value.set_bytes(b"x"));
    future(value.update(|_| 1));
    future(value.compare_and_set(None, &1));
    future(value.changed(None));
    future(value.wait_for(|_| true));
    future(value.watch().next());
    assert_eq!(value.version(), 0, "a future that was not polled has set nothing");
}
