//! Two processes that wait for each other cost nothing: they are not woken once, and use no
//! processor time. (The bound on time is one on processor time used, not on time that passes.)

mod common;
mod stage;

use common::say;
use ringspan::Ring;
use stage::{Test, role, runtime, until};
use std::time::Duration;

/// Does nothing unless it is a child: waits for the other one on a ring, then tells it.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let open = |which| Ring::options().open_or_create(&format!("{}{which}", role.name)).unwrap();
    let (there, back) = (open("-a"), open("-b"));
    match role.role.as_str() {
        "async" => {
            let (mut rx, mut tx) = (there.consumer().unwrap(), back.producer().unwrap());
            say("ready");
            runtime().block_on(async {
                rx.attached().await.unwrap();
                drop(rx.pop().await.unwrap().unwrap());
                tx.push(b"back").await.unwrap();
            });
        }
        "blocking" => {
            let (mut tx, mut rx) = (there.producer().unwrap(), back.consumer().unwrap());
            rx.blocking_attached(None).unwrap();
            say("ready");
            // Until the other one is gone.
            while rx.blocking_pop(None).is_ok_and(|message| message.is_some()) {
                tx.blocking_push(b"never read", None).unwrap();
            }
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

/// Nanoseconds on a processor and times that it was switched to, over all threads of a process.
fn used(pid: u32) -> (u64, u64) {
    let mut sum = (0, 0);
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        let mut words = text.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        sum.0 += words.next().unwrap();
        sum.1 += words.nth(1).unwrap();
    }
    sum
}

#[test]
fn two_parked_processes_use_nothing() {
    let test = Test::new("idle");
    let open = |which| Ring::options().create(&format!("{}{which}", test.name)).unwrap();
    let (there, back) = (open("-a"), open("-b"));
    let mut first = test.spawn("async", "");
    first.expect("ready");
    let mut second = test.spawn("blocking", "");
    second.expect("ready");
    until(|| there.stat().consumer_parked && back.stat().consumer_parked);
    // Until they have settled: equal looks for half a second, since on a busy machine a thread that
    // wants to run may have to wait for its turn.
    let both = || (used(first.pid()), used(second.pid()));
    let (mut before, mut equal) = (both(), 0);
    until(|| {
        std::thread::sleep(Duration::from_millis(20));
        let now = both();
        equal = if std::mem::replace(&mut before, now) == now { equal + 1 } else { 0 };
        equal == 25
    });
    std::thread::sleep(Duration::from_secs(1));
    let after = both();
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        assert!(after.0 - before.0 < 1_000_000, "{} ns on a processor", after.0 - before.0);
        assert_eq!(after.1, before.1, "switched to while there was nothing to do");
    }
    assert!(there.stat().consumer_parked && back.stat().consumer_parked);
    first.kill9();
    second.kill9();
    for which in ["-a", "-b"] {
        std::fs::remove_file(format!("/dev/shm{}{which}", test.name)).unwrap();
    }
    test.sweep_doors();
}
