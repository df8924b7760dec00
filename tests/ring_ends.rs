//! How streams end: close, drop, detach and death of either side, who is told and how often, and who
//! may come next.

mod common;
mod stage;

use common::{hear, say};
use ringspan::{FaultKind, OpenError, PopError, PushError, Ring, TryPopError, TryPushError};
use stage::{Test, role, runtime, until};
use std::time::Duration;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let ring = Ring::options().open(&role.name).unwrap();
    match role.role.as_str() {
        "producer" => {
            let mut tx = ring.producer().unwrap();
            for n in 0..role.argument.parse().unwrap() {
                tx.try_push(&[n]).unwrap();
            }
            say("ready");
            if hear() == "close" {
                tx.close().unwrap();
            }
        }
        "consumer" => {
            let mut rx = ring.consumer().unwrap();
            say("ready");
            while let Some(message) = rx.blocking_pop(None).unwrap() {
                say(message.len());
                hear();
            }
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

#[test]
fn drained_then_none_then_the_next_producer() {
    let test = Test::new("close and drain");
    let ring = test.ring(4096);
    let mut rx = ring.consumer().unwrap();
    for round in 0..20u8 {
        let mut tx = ring.producer().unwrap();
        tx.try_push_many([[round, 1], [round, 2]]).unwrap();
        if round % 2 == 0 {
            tx.close().unwrap()
        } else {
            drop(tx)
        }
        assert_eq!(&*rx.blocking_pop(None).unwrap().unwrap(), &[round, 1]);
        assert!(!rx.is_closed());
        assert_eq!(rx.try_pop_many(9).unwrap().len(), 1);
        match round % 3 {
            0 => assert!(rx.blocking_pop(None).unwrap().is_none()),
            1 => assert!(runtime().block_on(rx.pop()).unwrap().is_none()),
            _ => assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Closed),
        }
        assert!(rx.is_closed() && rx.peer().is_none());
        assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Empty, "each end is told once");
    }
}

#[test]
fn two_ends_in_the_ring_are_two_ends() {
    let test = Test::new("two ends");
    let ring = test.ring(4096);
    for n in 0..3u8 {
        let mut tx = ring.producer().unwrap();
        tx.try_push(&[n]).unwrap();
    }
    let mut rx = ring.consumer().unwrap();
    for n in 0..3u8 {
        assert_eq!(&*rx.try_pop().unwrap(), &[n]);
        assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Closed);
    }
    assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Empty);
}

#[test]
fn an_end_fits_into_a_full_ring() {
    let test = Test::new("end in a full ring");
    let ring = test.ring(4096);
    let mut rx = ring.consumer().unwrap();
    for len in 0..300 {
        let mut tx = ring.producer().unwrap();
        while tx.try_push(&vec![1; len]).is_ok() {}
        while tx.try_push(&[]).is_ok() {}
        tx.close().unwrap();
        while rx.try_pop().map(drop) != Err(TryPopError::Closed) {}
    }
}

#[test]
fn detach_does_not_end_the_stream() {
    let test = Test::new("detach");
    let ring = test.ring(4096);
    let mut rx = ring.consumer().unwrap();
    let mut tx = ring.producer().unwrap();
    tx.try_push(b"first").unwrap();
    tx.detach().unwrap();
    assert_eq!(&*rx.try_pop().unwrap(), b"first");
    for _ in 0..200 {
        assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Empty);
    }
    let sleeper = std::thread::spawn(move || {
        assert_eq!(&*rx.blocking_pop(None).unwrap().unwrap(), b"second");
        rx.detach().unwrap();
    });
    until(|| ring.stat().consumer_parked);
    let mut tx = ring.producer().unwrap();
    tx.try_push(b"second").unwrap();
    sleeper.join().unwrap();
    // Nor does a consumer that detached make a push fail.
    for _ in 0..200 {
        let pushed = tx.try_push(&[0; 100]);
        assert!(matches!(pushed, Ok(()) | Err(TryPushError::Full)), "{pushed:?}");
    }
    assert!(!tx.is_closed());
}

#[test]
fn a_second_live_end_is_refused_with_the_pid() {
    let test = Test::new("second end");
    let ring = test.ring(4096);
    let mut child = test.spawn("producer", "0");
    child.expect("ready");
    let OpenError::RoleTaken { fault, pid } = ring.producer().unwrap_err() else { panic!() };
    assert_eq!(pid, child.pid());
    assert!(fault.to_string().contains(&pid.to_string()) && fault.to_string().contains(&test.name));
    assert_eq!(std::io::Error::from(fault).kind(), std::io::ErrorKind::Other);
    let rx = ring.consumer().unwrap();
    assert_eq!(rx.peer().unwrap().pid, child.pid());
    let OpenError::RoleTaken { pid, .. } = ring.consumer().unwrap_err() else { panic!() };
    assert_eq!(pid, std::process::id());
    child.say("close");
    child.finish();
    drop(ring.producer().unwrap());
}

#[test]
fn a_dead_producer_is_drained_told_once_and_replaced() {
    let test = Test::new("dead producer");
    let ring = test.ring(4096);
    let mut rx = ring.consumer().unwrap();
    for round in 0..8 {
        let mut child = test.spawn("producer", "3");
        child.expect("ready");
        let pid = child.pid();
        child.kill9();
        // In half of the rounds a successor is there before the consumer looks.
        let next = (round % 2 == 0).then(|| ring.producer().unwrap());
        for n in 0..3 {
            assert_eq!(&*rx.blocking_pop(None).unwrap().unwrap(), &[n]);
        }
        let told = match round / 2 % 2 {
            0 => rx.blocking_pop(None).map(drop).unwrap_err(),
            _ => runtime().block_on(rx.pop()).map(drop).unwrap_err(),
        };
        let PopError::PeerDied { fault, pid: dead } = told else { panic!("{told}") };
        // A successor that wrote the end knows no pid of ours to tell.
        assert!(dead == Some(pid) || next.is_some(), "{fault}");
        assert!(fault.to_string().contains(&test.name));
        for _ in 0..200 {
            assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Empty, "told once");
        }
        let mut tx = next.unwrap_or_else(|| ring.producer().unwrap());
        tx.try_push(b"next").unwrap();
        assert_eq!(&*rx.try_pop().unwrap(), b"next");
        tx.close().unwrap();
        assert_eq!(rx.try_pop().unwrap_err(), TryPopError::Closed);
    }
}

#[test]
fn a_consumer_that_left_fails_one_push() {
    let test = Test::new("consumer left");
    let ring = test.ring(4096);
    let mut tx = ring.producer().unwrap();
    for dies in [false, true, false, true] {
        let mut child = test.spawn("consumer", "");
        child.expect("ready");
        tx.blocking_attached(None).unwrap();
        tx.try_push(&[1; 10]).unwrap();
        child.expect("10");
        let pid = child.pid();
        if dies {
            child.kill9();
        } else {
            drop(child);
            drop(ring.consumer().unwrap()); // takes the place and closes it
        }
        let mut told = Vec::new();
        let full = loop {
            match tx.try_push(&[2; 100]) {
                Ok(()) => {}
                Err(TryPushError::Full) => break tx.try_push(&[2; 100]).unwrap_err(),
                Err(err) => told.push(err),
            }
        };
        assert_eq!(full, TryPushError::Full, "then pushes fill the ring and wait");
        assert_eq!(told.len(), 1, "{told:?}");
        match &told[0] {
            TryPushError::PeerDied { pid: dead, .. } if dies => assert_eq!(*dead, Some(pid)),
            TryPushError::Closed(_) | TryPushError::PeerDied { .. } if !dies => {}
            other => panic!("{other}"),
        }
        assert!(tx.is_closed());
        // A push that waits goes on with the next consumer, and the unreleased message comes again.
        let name = test.name.clone();
        let next = std::thread::spawn(move || {
            let mut rx = Ring::options().open(&name).unwrap().consumer().unwrap();
            let first = rx.blocking_pop(None).unwrap().unwrap().len();
            let mut count = 1;
            while rx.blocking_pop(None).unwrap().unwrap().len() != 3 {
                count += 1;
            }
            rx.detach().unwrap();
            (first, count)
        });
        tx.blocking_push(&[3; 3], None).unwrap();
        let (first, count) = next.join().unwrap();
        assert_eq!(first, 10, "at least once");
        assert!(count > 30);
    }
}

#[test]
fn a_waiting_push_is_told_of_a_closed_consumer() {
    let test = Test::new("waiting push");
    let ring = test.ring(4096);
    let mut tx = ring.producer().unwrap();
    let rx = ring.consumer().unwrap();
    while tx.try_push(&[2; 100]).is_ok() {}
    let waiting = std::thread::spawn(move || {
        let err = runtime().block_on(tx.push(&[2; 100])).unwrap_err();
        (tx, err)
    });
    until(|| ring.stat().producer_parked);
    rx.close().unwrap();
    let (tx, err) = waiting.join().unwrap();
    assert!(matches!(err, PushError::Closed(_)), "{err}");
    tx.detach().unwrap();
}

#[test]
fn a_sleeper_without_a_peer_learns_that_its_name_is_gone() {
    for way in 0..8 {
        let [producer, on_tokio, by_us] = [1, 2, 4].map(|bit| way & bit != 0);
        let test = Test::new(&format!("removed, way {way}"));
        let ring = test.ring(4096);
        let asleep = ring.clone();
        let sleeper = std::thread::spawn(move || match (producer, on_tokio) {
            (false, false) => fault(asleep.consumer().unwrap().blocking_pop(None)),
            (false, true) => fault(runtime().block_on(asleep.consumer().unwrap().pop())),
            (true, tokio) => {
                let mut tx = asleep.producer().unwrap();
                let err = match tokio {
                    true => runtime().block_on(tx.attached()),
                    false => tx.blocking_attached(None),
                };
                let Err(PushError::Fault(fault)) = err else { panic!("{err:?}") };
                fault.kind()
            }
        });
        until(|| ring.stat().consumer_parked || ring.stat().producer_parked);
        std::thread::sleep(Duration::from_millis(5)); // mostly asleep by now; either is right
        if by_us {
            ringspan::remove(&test.name).unwrap();
        } else {
            std::fs::remove_file(test.path()).unwrap();
        }
        assert_eq!(sleeper.join().unwrap(), FaultKind::Removed);
    }
}

fn fault<T: std::fmt::Debug>(popped: Result<T, PopError>) -> FaultKind {
    let Err(PopError::Fault(fault)) = popped else { panic!("{popped:?}") };
    fault.kind()
}
