//! The tests' own machinery: no child of a test lives on without it.

mod common;

use common::{Leftovers, Peer, Watchdog, hear, say};
use ringspan::Segment;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

#[test]
fn child_entry() {
    common::child(|role, args| match role {
        "parent" => {
            let mut sleeper = Peer::spawn("sleeper", &[&args[0]]);
            sleeper.expect("ready");
            say(sleeper.pid());
            hear();
        }
        "sleeper" => {
            let segment = Segment::open(&args[0]).unwrap();
            say("ready");
            let _ = segment.blocking_changed(0, None);
        }
        other => panic!("role {other}"),
    });
}

#[test]
fn a_child_that_sleeps_ends_with_its_parent() {
    let _watchdog = Watchdog::new("a child without a parent");
    let left = Leftovers::new();
    let name = left.name("orphan");
    drop(Segment::create(&name, 8).unwrap());
    let mut parent = Peer::spawn("parent", &[&name]);
    let sleeper = Pid::from_raw(parent.hear().parse().unwrap()).unwrap();
    let sleeper = pidfd_open(sleeper, PidfdFlags::empty()).unwrap();
    parent.kill9();
    poll(&mut [PollFd::new(&sleeper, PollFlags::IN)], None).unwrap();
    ringspan::remove(&name).unwrap();
    ringspan::gc().unwrap();
}
