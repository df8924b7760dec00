//! What sleeping costs: a child whose two ends are both parked, watched from outside.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringspan::TryPushError;

use crate::child::Child;
use crate::link::{Place, Res, Runtime, drive};
use crate::measure::Outcome;
use crate::ours::link::Ends;

/// The child: parks in `push` on a full ring and in `pop` on an empty one, for ever.
pub fn park(place: &Place) -> Res<()> {
    drive(Runtime::Tokio, async {
        let Ends { mut tx, mut rx } = Ends::child(place, true)?;
        let message = vec![0; place.size];
        loop {
            match tx.try_push(&message) {
                Ok(()) => {}
                Err(TryPushError::Full) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let (mut push, mut pop) = (pin!(tx.push(&message)), pin!(rx.pop()));
        // Both in one task: neither ever completes.
        poll_fn(|context| {
            let stays =
                push.as_mut().poll(context).is_pending() & pop.as_mut().poll(context).is_pending();
            if stays { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        Err("an end that has nothing to wait for came back".into())
    })
}

/// CPU seconds of every thread of a process, to the nanosecond.
fn cpu(child: u32) -> Res<f64> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{child}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(total as f64 / 1e9)
}

/// The parent: waits until both are parked, then measures two seconds.
pub fn watch(place: &Place) -> Res<Outcome> {
    let Ends { tx, rx } = Ends::parent(place, true)?;
    let begin = Instant::now();
    while !(tx.ring().stat().consumer_parked && rx.ring().stat().producer_parked) {
        if begin.elapsed() > Duration::from_secs(10) {
            return Err("the two ends did not park".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Let the system calls that put them to sleep come to their end.
    std::thread::sleep(Duration::from_millis(100));
    let child: Child = place.child.take().ok_or("the child was never started")?;
    let before = cpu(child.id())?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(Outcome { value: cpu(child.id())? - before, ..Outcome::default() })
}
