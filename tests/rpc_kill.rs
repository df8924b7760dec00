//! Kill -9 of servers and clients with calls under way: what each call is told, what is freed, who may
//! come next. `rpc_kill_points.rs` does the same at every single step.

mod calls;
mod common;
mod forked;
mod stage;

use calls::{Seen, begin, blob, cut_off, one_thread, serve, service, side, spawn_server, sum};
use calls::{threads, until_seen, view};
use common::{hear, say};
use ringspan::OpenError;
use ringspan::rpc::{CallError, Client, Delivered, Limits};
use rustix::process::Signal;
use serde_bytes::ByteBuf;
use stage::{Role, Test, role, state, until};
use std::sync::Arc;
use std::time::Duration;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(Role { role, name, argument }) = role() else { return };
    match role.as_str() {
        "serve" => serve(&name, &argument),
        "serve-and-fork" => serve_and_fork(&name, &argument),
        "call" => call_all_kinds(&name),
        "call-and-fork" => {
            let runtime = threads(1);
            let client = Client::blocking_connect(&name, None).unwrap();
            runtime.spawn(async move { client.call_method::<_, ()>("hold", &()).await });
            forked::leave_a_child(&argument);
        }
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

/// A server whose child lives on, with its descriptors if it was made behind the back of the library.
fn serve_and_fork(name: &str, how: &str) {
    let runtime = threads(1);
    let seen = Arc::default();
    let _server = runtime.block_on(service(name, Limits::default(), &seen).serve()).unwrap();
    forked::leave_a_child(how);
}

/// A client with calls of each kind under way, more than the server starts at once.
fn call_all_kinds(name: &str) {
    one_thread().block_on(async {
        let client = Client::connect(name).await.unwrap();
        let mut drip = client.stream_method::<_, (u64, ByteBuf)>("drip", &(64,)).await.unwrap();
        drip.next().await.unwrap().unwrap();
        let mut holds: Vec<_> = (0..6)
            .map(|_| {
                let client = client.clone();
                Box::pin(async move { client.call_method::<_, ()>("hold", &()).await })
            })
            .collect();
        holds.iter_mut().for_each(|hold| begin(&mut hold.as_mut()));
        hear(); // the server is stopped here, for what follows to be half sent
        let big = (ByteBuf::from(blob(5 << 20, 1)),);
        let mut len = Box::pin(client.call_method::<_, (u64, u64)>("len", &big));
        begin(&mut len.as_mut());
        say("called");
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_killed_server_fails_what_is_under_way_and_says_whether_it_was_delivered() {
    let test = Test::new("killed server");
    let name = &*test.name;
    let mut server = spawn_server(name, "concurrency=3 side");
    let runtime = threads(2);
    let look = Client::blocking_connect(&side(name), None).unwrap();
    let client = Client::blocking_connect(name, None).unwrap();
    runtime.block_on(async {
        // Running: a stream that is not read, two others. Pending: two.
        let mut drip = client.stream_method::<_, (u64, ByteBuf)>("drip", &(64,)).await.unwrap();
        drip.next().await.unwrap().unwrap();
        let hold = |client: &Client| {
            let client = client.clone();
            tokio::spawn(async move { client.call_method::<_, ()>("hold", &()).await })
        };
        let holds: Vec<_> = (0..4).map(|_| hold(&client)).collect();
        tokio::task::spawn_blocking(move || {
            until_seen(&look, |view| view.begun == 3 && view.in_flight == 5);
        })
        .await
        .unwrap();
        // In the ring, behind the head; then one that fits only in part, and one that waits behind it.
        server.signal(Signal::STOP);
        until(|| state(server.pid()) == Some('T'));
        let adds = || (0..3).map(|_| client.call_method::<_, i64>("add", &(1, 2)));
        let mut laid: Vec<_> = adds().map(Box::pin).collect();
        laid.iter_mut().for_each(|add| begin(&mut add.as_mut()));
        let body = (ByteBuf::from(blob(5 << 20, 1)),);
        let mut big = Box::pin(client.call_method::<_, (u64, u64)>("len", &body));
        begin(&mut big.as_mut());
        let mut behind: Vec<_> = adds().map(Box::pin).collect();
        behind.iter_mut().for_each(|add| begin(&mut add.as_mut()));
        let blocked = client.clone();
        let blocked = tokio::task::spawn_blocking(move || {
            blocked.blocking_call_method::<_, i64>("add", &(1, 2), None)
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.kill9();
        for hold in holds {
            assert_eq!(cut_off(hold.await.unwrap()), Delivered::Yes);
        }
        for call in laid.into_iter().chain(behind) {
            assert_eq!(cut_off(call.await), Delivered::No);
        }
        assert_eq!(cut_off(big.await), Delivered::No);
        assert_eq!(cut_off(blocked.await.unwrap()), Delivered::No);
        // The items that had come are there; then it is told, once.
        let mut items = 1;
        let told = loop {
            match drip.next().await {
                Some(Ok(item)) => {
                    assert_eq!(item, (items, ByteBuf::from(blob(64, items))));
                    items += 1;
                }
                end => break end,
            }
        };
        assert_eq!(cut_off(told.unwrap()), Delivered::Yes);
        assert!(items <= 17 && drip.next().await.is_none());
        // Nobody serves now, and that is said; then somebody does, and nothing need be done for it.
        let err = client.call_method::<_, i64>("add", &(1, 2)).await.unwrap_err();
        let CallError::Connect(connect) = &err else { panic!("{err}") };
        assert!(connect.to_string().contains("died; start it again"), "{err}");
        let mut server = tokio::task::block_in_place(|| spawn_server(name, ""));
        assert_eq!(client.call_method::<_, i64>("add", &(1, 2)).await.unwrap(), 3);
        assert_eq!(client.server_pid(), Some(server.pid()));
        let (client, again) = (client.clone(), client);
        tokio::task::block_in_place(|| {
            assert_eq!(again.blocking_call_method::<_, i64>("add", &(2, 2), None).unwrap(), 4);
            server.say("stop 1000");
            server.expect("stopped");
        });
        assert!(client.call_method::<_, i64>("add", &(1, 2)).await.is_err());
    });
    ringspan::gc().unwrap(); // the name at which the dead one was looked at
}

#[test]
fn a_killed_client_leaves_nothing_behind() {
    let test = Test::new("killed client");
    let name = &*test.name;
    let mut server = spawn_server(name, "concurrency=4 side");
    let look = Client::blocking_connect(&side(name), None).unwrap();
    let before = until_seen(&look, |view| view.clients == 0);
    for round in 1..=stage::scaled(5) {
        let mut client = test.spawn("call", "");
        // The stream and three others run; three wait for their turn.
        let busy = until_seen(&look, |view| view.in_flight == 7);
        assert_eq!(busy.begun - busy.gone, 4);
        assert!(busy.fds > before.fds && busy.maps == before.maps + 1, "{before:?} {busy:?}");
        server.signal(Signal::STOP);
        until(|| state(server.pid()) == Some('T'));
        client.say("go on");
        client.expect("called");
        if round % 2 == 0 {
            // It takes chunks of the big one before it hears of the death.
            server.signal(Signal::CONT);
        }
        client.kill9();
        server.signal(Signal::CONT);
        let after = until_seen(&look, |view| {
            view.clients == 0 && view.running == 0 && view.begun == view.gone
        });
        // Those that waited were never begun.
        assert_eq!((after.begun, after.in_flight, after.violations), (4 * round, 0, 0));
        let freed = until_seen(&look, |view| view.fds == before.fds);
        assert_eq!(freed.maps, before.maps);
    }
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn the_name_of_the_dead_is_free_and_that_of_the_living_is_not() {
    let test = Test::new("names");
    let name = &*test.name;
    let mut first = spawn_server(name, "one");
    let runtime = one_thread();
    let seen = Arc::<Seen>::default();
    let serve = || runtime.block_on(service(name, Limits::default(), &seen).serve());
    for stopped in [false, true] {
        if stopped {
            first.signal(Signal::STOP);
            until(|| state(first.pid()) == Some('T'));
        }
        let OpenError::RoleTaken { pid, .. } = serve().unwrap_err() else { panic!() };
        assert_eq!(pid, first.pid());
    }
    first.kill9();
    let server = serve().unwrap();
    let client = Client::lazy(name);
    assert_eq!(runtime.block_on(client.call_method::<_, i64>("add", &(1, 2))).unwrap(), 3);
    assert_eq!(client.server_pid(), Some(std::process::id()));
    assert_eq!(view(&server, &seen).clients, 1);
    let text = serve().unwrap_err().to_string();
    assert!(text.contains(&format!("live pid {} (this process)", std::process::id())), "{text}");
    drop(server);
    drop(runtime);
}

#[test]
fn a_server_killed_while_its_child_lives_is_noticed_at_once() {
    for how in ["fork", "clone"] {
        let test = Test::new(&format!("death of a server that left a child, {how}"));
        let name = &*test.name;
        let runtime = threads(2);
        let mut server = test.spawn("serve-and-fork", how);
        let grandchild: u32 = server.hear().parse().unwrap();
        let client = Client::blocking_connect(name, None).unwrap();
        let hold = client.clone();
        let hold = runtime.spawn(async move { hold.call_method::<_, ()>("hold", &()).await });
        let block = client.clone();
        let block =
            std::thread::spawn(move || block.blocking_call_method::<_, ()>("hold", &(), None));
        // One that calls while it is stopped, and is not let in before it dies.
        server.signal(Signal::STOP);
        until(|| state(server.pid()) == Some('T'));
        let late = name.to_owned();
        let late = runtime.spawn(async move { Client::connect(&late).await.map(drop) });
        std::thread::sleep(Duration::from_millis(20));
        server.signal(Signal::KILL); // and its standard input stays open for the other
        let _ = (runtime.block_on(hold).unwrap().map(|()| panic!()), block.join().unwrap());
        let err = runtime.block_on(late).unwrap().unwrap_err();
        assert!(err.to_string().contains("died"), "{err}");
        let err = client.blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap_err();
        assert!(err.to_string().contains("died"), "{err}");
        assert!(forked::lives(grandchild), "the forked child is there all the while");
        let mut next = spawn_server(name, "");
        assert_eq!(client.blocking_call_method::<_, i64>("add", &(1, 2), None).unwrap(), 3);
        next.say("stop 0");
        next.expect("stopped");
        drop(server);
    }
}

#[test]
fn a_client_killed_while_its_child_lives_is_noticed_at_once() {
    let test = Test::new("death of a client that left a child");
    let name = &*test.name;
    let mut server = spawn_server(name, "side");
    let look = Client::blocking_connect(&side(name), None).unwrap();
    for (n, how) in ["fork", "clone"].into_iter().enumerate() {
        let mut client = test.spawn("call-and-fork", how);
        let grandchild: u32 = client.hear().parse().unwrap();
        until_seen(&look, |view| view.begun == n as u64 + 1);
        client.signal(Signal::KILL);
        until_seen(&look, |view| view.clients == 0 && view.begun == view.gone && view.running == 0);
        assert!(forked::lives(grandchild), "the forked child is there all the while");
    }
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn a_handler_that_blocks_is_not_dead() {
    let test = Test::new("blocking handler");
    let name = &*test.name;
    let mut server = spawn_server(name, "one");
    let runtime = threads(2);
    let client = Client::blocking_connect(name, None).unwrap();
    let blocks = client.clone();
    let blocks = runtime.spawn(async move { blocks.call_method::<_, u64>("block", &(400,)).await });
    let other = Client::lazy(name);
    let sums = runtime.block_on(async {
        tokio::join!(
            client.call_method::<_, i64>("add", &(1, 2)),
            other.call_method("add", &(3, 4))
        )
    });
    assert_eq!((sums.0.unwrap(), sums.1.unwrap()), (3, 7));
    assert_eq!(runtime.block_on(blocks).unwrap().unwrap(), 400);
    let len =
        other.blocking_call_method::<_, (u64, u64)>("len", &(ByteBuf::from(blob(9, 1)),), None);
    assert_eq!(len.unwrap(), (9, sum(&blob(9, 1))));
    server.say("stop 0");
    server.expect("stopped");
}
