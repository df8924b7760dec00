//! One name, one server: claims, takeovers, removal, leftovers.

use super::claim::{Claim, claim, find};
use super::front::{Arrival, Reached, connect};
use super::front_tests::deserted;
use crate::error::{FaultKind, OpenError, errno};
use crate::name::Name;
use crate::segment::{gc, remove, segments};
use crate::sys::poll::Waited;
use crate::sys::{file, process};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CHILD: &str = "RINGSPAN_CLAIM_CHILD";

fn unique() -> String {
    format!("/claim-{}-{:x}", process::pid(), file::random().unwrap())
}

fn exists(name: &str) -> bool {
    file::shm_path(Name::new(name).unwrap().file()).exists()
}

fn doors_of(claim: &Claim) -> [std::path::PathBuf; 2] {
    let doors = claim.endpoint.region.doors();
    [doors.door_path(claim.endpoint.tag), doors.front_path(claim.endpoint.tag)]
}

/// Serves the name in its environment until it is killed.
#[test]
fn child_entry() {
    let Ok(name) = std::env::var(CHILD) else { return };
    let claim = claim(&name).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\ntag {:x}", claim.endpoint.tag).and_then(|()| out.flush()).unwrap();
    loop {
        std::thread::park();
    }
}

/// A server in another process, and its tag.
fn serve(name: &str) -> (Child, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rpc::claim_tests::child_entry", "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let tag = lines
        .map_while(Result::ok)
        .find_map(|line| u64::from_str_radix(line.strip_prefix("tag ")?, 16).ok());
    (child, tag.expect("the child serves"))
}

fn kill(mut child: Child) -> u32 {
    child.kill().unwrap();
    child.wait().unwrap();
    child.id()
}

#[test]
fn a_name_has_one_server() {
    let name = unique();
    let first = claim(&name).unwrap();
    let doors = doors_of(&first);
    assert!(doors.iter().all(|door| door.exists()));
    let OpenError::RoleTaken { fault, pid } = claim(&name).unwrap_err() else { panic!("taken") };
    assert_eq!(pid, process::pid());
    let text = format!(
        "function {name}: it is served by live pid {pid} (this process); stop that server first, or \
         use another name"
    );
    assert_eq!((fault.to_string(), fault.errno()), (text, Some(errno::EBUSY)));
    // The attempt left nothing; other tests have doors of their own.
    assert!(doors.iter().all(|door| door.exists()));
    let found = find(&name).unwrap();
    assert_eq!((found.tag, found.pid_hint), (first.endpoint.tag, process::pid()));
    let reached = connect(found.region.doors(), found.tag).unwrap();
    assert!(matches!(reached, Reached::Conn(_)));
    assert!(matches!(first.door.accept(b"E"), Arrival::Caller { .. }));
    let info = segments().unwrap().into_iter().find(|info| info.name == name).unwrap();
    assert_eq!(info.attached.len(), 1);
    assert_eq!((info.attached[0].role, info.attached[0].alive), ("owner", Some(true)));
    drop(first);
    assert!(!exists(&name) && !doors.iter().any(|door| door.exists()));
    assert!(matches!(connect(found.region.doors(), found.tag).unwrap(), Reached::Missing));
    assert!(matches!(find(&name), Err(OpenError::NotFound(_))));
    let fault = found.lost().unwrap().unwrap();
    assert_eq!(fault.cause(), "nobody serves it; start its server again");
    drop(claim(&name).unwrap());
}

#[test]
fn a_name_of_another_kind_is_refused() {
    let name = unique();
    let value = crate::value::Value::<u32>::options().create(&name).unwrap();
    for err in [claim(&name).map(drop).unwrap_err(), find(&name).map(drop).unwrap_err()] {
        assert_eq!(err.fault().kind(), FaultKind::Mismatch);
        assert!(err.to_string().contains("the name is a value, not a function"), "{err}");
    }
    drop(value);
    remove(&name).unwrap();
    assert_eq!(claim("/no/name").map(drop).unwrap_err().fault().kind(), FaultKind::InvalidName);
}

#[test]
fn a_live_server_elsewhere_keeps_its_name() {
    let name = unique();
    let (child, tag) = serve(&name);
    let OpenError::RoleTaken { fault, pid } = claim(&name).unwrap_err() else { panic!("taken") };
    assert_eq!(pid, child.id());
    assert!(
        fault.to_string().contains(&format!("it is served by live pid {pid}; stop")),
        "{fault}"
    );
    let found = find(&name).unwrap();
    assert_eq!((found.tag, found.pid_hint), (tag, pid));
    assert!(found.lost().unwrap().is_none());
    kill(child);
    remove(&name).unwrap();
}

#[test]
fn a_dead_server_is_told_and_taken_over() {
    let name = unique();
    let (child, tag) = serve(&name);
    let before = find(&name).unwrap();
    let pid = kill(child);
    for _ in 0..2 {
        let err = find(&name).map(drop).unwrap_err();
        let text = format!("function {name}: its server (pid {pid}) died; start it again");
        assert_eq!((err.to_string(), err.fault().errno()), (text, Some(errno::ECONNREFUSED)));
    }
    let reached = connect(before.region.doors(), before.tag).unwrap();
    assert!(matches!(reached, Reached::Refused));
    let next = claim(&name).unwrap();
    assert_ne!(next.endpoint.tag, tag);
    let found = find(&name).unwrap();
    assert_eq!((found.tag, found.pid_hint), (next.endpoint.tag, process::pid()));
    let doors = next.endpoint.region.doors();
    assert!(!doors.front_path(tag).exists() && !doors.door_path(tag).exists());
}

#[test]
fn a_sweep_takes_away_what_a_dead_server_left() {
    let (swept, removed) = (unique(), unique());
    let (child, tag) = serve(&swept);
    let doors = find(&swept).unwrap().region.doors().clone();
    let (other, lone) = serve(&removed);
    // Its name is gone, its doors stay until the sweep.
    kill(other);
    remove(&removed).unwrap();
    gc().unwrap();
    assert!(exists(&swept) && doors.front_path(tag).exists(), "a live server is left alone");
    kill(child);
    let unfinished = doors.path().join(format!(".new-{:016x}.call", file::random().unwrap()));
    deserted(&unfinished);
    gc().unwrap();
    assert!(!exists(&swept));
    let left = [doors.front_path(tag), doors.door_path(tag), unfinished];
    assert!(!left.iter().any(|path| path.exists()), "{left:?}");
    assert!(!doors.front_path(lone).exists() && !doors.door_path(lone).exists());
}

#[test]
fn removing_the_name_wakes_the_server() {
    let name = unique();
    let mut first = claim(&name).unwrap();
    first.endpoint.begin().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| remove(&name).unwrap());
        let waited = first.endpoint.harvest_within(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(waited, Waited::Ready);
    });
    first.endpoint.end();
    assert!(first.endpoint.region.is_removed());
    // The name is free, and the old server has no part in it.
    let second = claim(&name).unwrap();
    let doors = doors_of(&second);
    drop(first);
    assert!(exists(&name) && doors.iter().all(|door: &std::path::PathBuf| Path::exists(door)));
    assert_eq!(find(&name).unwrap().tag, second.endpoint.tag);
}

#[test]
fn many_claims_at_once_have_one_winner() {
    let name = unique();
    let won: Vec<Claim> = std::thread::scope(|scope| {
        let rivals: Vec<_> = (0..8).map(|_| scope.spawn(|| claim(&name))).collect();
        let outcomes = rivals.into_iter().map(|rival| rival.join().unwrap());
        outcomes
            .filter_map(|outcome| match outcome {
                Ok(claim) => Some(claim),
                Err(OpenError::RoleTaken { .. }) => None,
                Err(other) => panic!("{other}"),
            })
            .collect()
    });
    assert_eq!(won.len(), 1);
    assert_eq!(find(&name).unwrap().tag, won[0].endpoint.tag);
}
