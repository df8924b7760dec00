//! Fork in a client or a server: what the child inherited is refused and harms nothing, whatever the child
//! does with it; anew it may do everything.

mod calls;
mod common;
mod forked;
mod stage;

use calls::{
    Seen, begin, cut_off, one_thread, serve, service, side, spawn_server, until_seen, view,
};
use common::{hear, say};
use forked::{fork, is_forked, leave_after, wait_for_it};
use ringspan::OpenError;
use ringspan::rpc::{CallError, Client, Limits};
use serde_bytes::ByteBuf;
use stage::{Role, Test, role, until};
use std::sync::Arc;
use std::time::Duration;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(Role { role, name, argument }) = role() else { return };
    match role.as_str() {
        "serve" => serve(&name, &argument),
        "client-forks" => client_forks(&name),
        "server-forks" => server_forks(&name),
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

fn refused<T: std::fmt::Debug>(ended: Result<T, CallError>, name: &str) {
    match ended {
        Err(CallError::Fault(fault)) => is_forked(&fault, name),
        other => panic!("{other:?}"),
    }
}

fn client_forks(name: &str) {
    let runtime = one_thread();
    let client = Client::blocking_connect(name, None).unwrap();
    let (mut drip, gate) = runtime.block_on(async {
        // Asleep once, so that there is a driving task and a registration to inherit.
        assert_eq!(client.call_method::<_, u64>("sleep", &(5,)).await.unwrap(), 5);
        let mut drip = client.stream_method::<_, (u64, ByteBuf)>("drip", &(64,)).await.unwrap();
        drip.next().await.unwrap().unwrap();
        let waits = client.clone();
        let gate = tokio::spawn(async move { waits.call_method::<_, u64>("gate", &(7,)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        (drip, gate)
    });
    if fork() {
        leave_after(move || {
            let add = |client: &Client| client.blocking_call_method::<_, i64>("add", &(1, 2), None);
            refused(add(&client), name);
            refused(add(&client.with_timeout(Duration::from_secs(5))), name);
            let other = one_thread();
            refused(other.block_on(client.call_method::<_, i64>("add", &(1, 2))), name);
            // Whatever it does with what is not its own.
            drop((drip, gate));
            drop(runtime);
            refused(add(&client), name);
            drop(client);
            // Anew, all is well.
            let anew = Client::blocking_connect(name, None).unwrap();
            assert_eq!(add(&anew).unwrap(), 3);
            let sum = other.block_on(anew.call_method::<_, i64>("add", &(3, 4)));
            assert_eq!(sum.unwrap(), 7);
        });
    }
    wait_for_it();
    say("forked");
    hear(); // the gate is open
    runtime.block_on(async {
        assert_eq!(gate.await.unwrap().unwrap(), 7);
        for n in 1..100 {
            assert_eq!(drip.next().await.unwrap().unwrap().0, n);
        }
        drop(drip);
        assert_eq!(client.call_method::<_, i64>("add", &(1, 2)).await.unwrap(), 3);
    });
    assert_eq!(client.blocking_call_method::<_, i64>("add", &(2, 2), None).unwrap(), 4);
    say("done");
    hear();
}

fn server_forks(name: &str) {
    let runtime = one_thread();
    let seen = Arc::<Seen>::default();
    let server = runtime.block_on(service(name, Limits::default(), &seen).serve()).unwrap();
    say("ready");
    // A call, a stream and one that never ends are under way.
    let busy = async {
        while view(&server, &seen).begun < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    runtime.block_on(busy);
    if fork() {
        leave_after(move || {
            // The parent's handlers go with the parent's runtime, and say nothing to anybody.
            drop(runtime);
            drop(server);
            let runtime = one_thread();
            let serve = |name: &str| {
                runtime.block_on(service(name, Limits::default(), &Arc::<Seen>::default()).serve())
            };
            let OpenError::RoleTaken { pid, .. } = serve(name).unwrap_err() else { panic!() };
            assert_eq!(pid, std::os::unix::process::parent_id());
            let other = format!("{name}.child");
            let server = serve(&other).unwrap();
            let sum = runtime.block_on(async {
                let client = Client::connect(&other).await.unwrap();
                client.call_method::<_, i64>("add", &(1, 2)).await
            });
            assert_eq!(sum.unwrap(), 3);
            runtime.block_on(server.shutdown(Duration::ZERO));
        });
    }
    wait_for_it();
    say("forked");
    std::thread::spawn(move || {
        hear();
        seen.open();
    });
    runtime.block_on(server.join());
    say("joined");
}

#[test]
fn a_fork_in_a_client_is_refused_and_harms_nothing() {
    let test = Test::new("fork in a client");
    let name = &*test.name;
    let mut server = spawn_server(name, "side");
    let look = Client::blocking_connect(&side(name), None).unwrap();
    let mut client = test.spawn("client-forks", "");
    client.expect("forked");
    // The parent's alone is left, with everything it had under way.
    let now = until_seen(&look, |view| view.clients == 1);
    assert_eq!((now.violations, now.in_flight), (0, 2));
    server.say("open");
    client.say("open");
    client.expect("done");
    let now = until_seen(&look, |view| view.in_flight == 0);
    assert_eq!((now.clients, now.violations), (1, 0));
    client.say("end");
    client.finish();
    server.say("stop 0");
    server.expect("stopped");
}

#[test]
fn a_fork_in_a_server_is_refused_and_harms_nothing() {
    let test = Test::new("fork in a server");
    let name = &*test.name;
    let mut server = test.spawn("server-forks", "");
    server.expect("ready");
    let client = Client::blocking_connect(name, None).unwrap();
    one_thread().block_on(async {
        let mut drip = client.stream_method::<_, (u64, ByteBuf)>("drip", &(64,)).await.unwrap();
        assert_eq!(drip.next().await.unwrap().unwrap().0, 0);
        let mut gate = Box::pin(client.call_method::<_, u64>("gate", &(7,)));
        begin(&mut gate.as_mut());
        let mut hold = Box::pin(client.call_method::<_, ()>("hold", &()));
        begin(&mut hold.as_mut());
        server.expect("forked");
        // None of them was told anything by the child.
        for n in 1..100 {
            assert_eq!(drip.next().await.unwrap().unwrap().0, n);
        }
        begin(&mut gate.as_mut());
        begin(&mut hold.as_mut());
        server.say("open");
        assert_eq!(gate.await.unwrap(), 7);
        assert_eq!(client.call_method::<_, i64>("add", &(1, 2)).await.unwrap(), 3);
        assert_eq!(client.server_pid(), Some(server.pid()));
        server.kill9();
        cut_off(hold.await);
    });
    until(|| ringspan::gc().is_ok());
}
