//! Many clients: all at once at the front door, coming and dying by the hundred, and more than there are
//! descriptors for.

mod calls;
mod common;
mod stage;

use calls::{serve, side, spawn_server, threads, until_seen};
use common::{Peer, hear, say};
use ringspan::rpc::{CallError, Client};
use ringspan::{FaultKind, OpenError};
use rustix::process::Signal;
use stage::{Role, Test, role, state, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(Role { role, name, argument }) = role() else { return };
    match role.as_str() {
        "serve" => serve(&name, &argument),
        "clients" => clients(&name, argument.parse().unwrap()),
        "callers" => callers(&name, argument.parse().unwrap()),
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

/// So many clients; each has called once, and has a call under way. Ends without a word to the server.
fn clients(name: &str, many: i64) {
    let runtime = threads(1);
    let all: Vec<_> = (0..many)
        .map(|n| {
            let client = Client::blocking_connect(name, None).unwrap();
            assert_eq!(client.blocking_call_method::<_, i64>("add", &(n, 1), None).unwrap(), n + 1);
            let holds = client.clone();
            runtime.spawn(async move { holds.call_method::<_, ()>("hold", &()).await });
            client
        })
        .collect();
    say("up");
    hear();
    drop(all.first().cloned());
    std::process::exit(0);
}

/// Calls from so many threads at once, each as a client of its own; what became of them.
fn callers(name: &str, many: usize) {
    let all: Vec<_> = (0..many)
        .map(|_| {
            let name = name.to_owned();
            std::thread::spawn(move || Client::blocking_connect(&name, None))
        })
        .collect();
    let ended: Vec<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
    let late = |client: &Result<Client, CallError>| match client {
        Ok(_) => false,
        Err(CallError::Connect(OpenError::Fault(fault))) => {
            assert_eq!(fault.kind(), FaultKind::TooManyFiles, "{fault}");
            assert!(fault.to_string().contains("out of descriptors"), "{fault}");
            true
        }
        Err(err) => panic!("{err:?}"),
    };
    say(ended.iter().filter(|client| late(client)).count());
    hear();
    std::process::exit(0);
}

#[test]
fn a_crowd_at_the_door_is_let_in_to_the_last() {
    let test = Test::lasting("crowd", Duration::from_secs(20));
    let name = &*test.name;
    let mut server = spawn_server(name, "one");
    server.signal(Signal::STOP);
    until(|| state(server.pid()) == Some('T'));
    let crowd: Vec<_> = (0..200)
        .map(|_| {
            let name = name.to_owned();
            std::thread::spawn(move || Client::blocking_connect(&name, None).unwrap())
        })
        .collect();
    // All stand at the door: nobody of them says a word before it is let in, and nobody after.
    std::thread::sleep(Duration::from_millis(100));
    server.signal(Signal::CONT);
    let crowd: Vec<_> = crowd.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(crowd[0].blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap(), 3);
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn a_thousand_clients_come_and_die() {
    let test = Test::lasting("a thousand clients", Duration::from_secs(120));
    let name = &*test.name;
    let mut server = spawn_server(name, "concurrency=10000 side");
    let look = Client::blocking_connect(&side(name), None).unwrap();
    // One that stays, and must not be taken for one of those that die.
    let stays = Client::blocking_connect(name, None).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (calls, until_over) = (stays.clone(), Arc::clone(&over));
    let calls = std::thread::spawn(move || {
        let mut n = 0;
        while !until_over.load(Ordering::SeqCst) {
            assert_eq!(calls.blocking_call_method::<_, i64>("add", &(n, n), None).unwrap(), n + n);
            n += 1;
        }
    });
    let before = until_seen(&look, |view| view.clients == 1);
    for wave in 0..stage::scaled(5) {
        let mut peers: Vec<Peer> = (0..8).map(|_| test.spawn("clients", "25")).collect();
        peers.iter_mut().for_each(|peer| peer.expect("up"));
        let up = until_seen(&look, |view| view.begun - view.gone == 200);
        assert_eq!(up.clients, 201);
        for (n, peer) in peers.iter_mut().enumerate() {
            if (n as u64 + wave).is_multiple_of(2) { peer.kill9() } else { peer.say("exit") }
        }
        // The next ones come while these go.
    }
    let after = until_seen(&look, |view| view.clients == 1 && view.begun == view.gone);
    until_seen(&look, |view| view.fds == before.fds && view.maps == before.maps);
    assert_eq!((after.refused, after.violations), (0, 0));
    over.store(true, Ordering::SeqCst);
    calls.join().unwrap();
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn without_descriptors_the_late_ones_are_told_and_the_server_recovers() {
    let test = Test::new("out of descriptors");
    let name = &*test.name;
    let mut server = spawn_server(name, "one side files=520");
    let look = Client::blocking_connect(&side(name), None).unwrap();
    let before = until_seen(&look, |_| true);
    let mut callers = test.spawn("callers", "430");
    let late: u64 = callers.hear().parse().unwrap();
    let full = until_seen(&look, |_| true);
    assert!(late >= 300 && full.clients == 430 - late && full.refused == late, "{full:?}");
    // Nobody runs around while there is nothing to do, and the next ones are told as well.
    rests(&look);
    let mut others = test.spawn("callers", "100");
    assert_eq!(others.hear(), "100");
    rests(&look);
    others.kill9();
    callers.kill9();
    until_seen(&look, |view| view.clients == 0 && view.fds == before.fds);
    let client = Client::blocking_connect(name, None).unwrap();
    assert_eq!(client.blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap(), 3);
    server.say("stop 0");
    server.expect("stopped");
}

/// It uses next to no processor time.
fn rests(look: &Client) {
    let (start, before) = (Instant::now(), until_seen(look, |_| true).cpu);
    std::thread::sleep(Duration::from_millis(300));
    let used = until_seen(look, |_| true).cpu - before;
    let took = start.elapsed().as_micros() as u64;
    assert!(used < took / 4, "{used} us of processor time within {took} us");
}

#[test]
fn the_last_descriptors_may_go_at_any_step() {
    let test = Test::new("the last descriptors");
    let name = &*test.name;
    let mut server = spawn_server(name, "one side files=200");
    let look = Client::blocking_connect(&side(name), None).unwrap();
    let stays = Client::blocking_connect(name, None).unwrap();
    let mut let_in = false;
    for left in 0..16 {
        server.say(format!("hoard {left}"));
        server.expect("hoarded");
        let mut callers = test.spawn("callers", "3");
        let late: u64 = callers.hear().parse().unwrap();
        let_in |= late < 3;
        assert!(late == 3 || left > 3, "{late} of 3 were turned away with {left} descriptors");
        assert_eq!(stays.blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap(), 3);
        server.say("release");
        server.expect("released");
        let client = Client::blocking_connect(name, None).unwrap();
        assert_eq!(client.blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap(), 3);
        drop(client);
        callers.kill9();
        until_seen(&look, |view| view.clients == 1);
    }
    assert!(let_in, "16 descriptors are not enough for one");
    server.say("stop 0");
    server.expect("stopped");
}
