//! Two processes that wait for each other cost nothing: they are not woken once, and use no
//! processor time. (The bound on time is one on processor time used, not on time that passes.)

mod common;
mod stage;

use common::say;
use ringspan::Ring;
use stage::{Test, role, runtime, until, use_nothing};

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
    use_nothing(&[first.pid(), second.pid()]);
    assert!(there.stat().consumer_parked && back.stat().consumer_parked);
    first.kill9();
    second.kill9();
    for which in ["-a", "-b"] {
        std::fs::remove_file(format!("/dev/shm{}{which}", test.name)).unwrap();
    }
    test.sweep_doors();
}
