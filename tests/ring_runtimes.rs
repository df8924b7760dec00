//! One handle and many runtimes: made outside of any, moved from one to the next, awaited where one
//! runtime stands still or is gone, where there is none, and where it has no I/O.

mod common;
mod stage;

use common::{hear, say};
use ringspan::{Consumer, FaultKind, PopError, Producer, PushError, Ring};
use stage::{Test, role, runtime, until};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use tokio::runtime::{Builder, Runtime};

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let ring = Ring::options().open(&role.name).unwrap();
    let _tx = (role.role == "producer").then(|| ring.producer().unwrap());
    let _rx = (role.role == "consumer").then(|| ring.consumer().unwrap());
    say("ready");
    hear();
    std::process::exit(0);
}

fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap()
}

/// Pops on `rt` what another thread pushes only when the pop is asleep.
fn pop_asleep(rt: &Runtime, rx: &mut Consumer, tx: &mut Producer, n: u8) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ring = tx.ring().clone();
            until(|| ring.stat().consumer_parked);
            tx.try_push(&[n]).unwrap();
        });
        assert_eq!(rt.block_on(rx.pop()).unwrap().as_deref(), Some(&[n][..]));
    });
}

#[test]
fn made_outside_and_moved_from_runtime_to_runtime() {
    let test = Test::new("moved between runtimes");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let (first, second) = (runtime(), threads());
    for n in 0..10 {
        pop_asleep(&first, &mut rx, &mut tx, n);
        pop_asleep(&second, &mut rx, &mut tx, n + 100);
        pop_asleep(&second, &mut rx, &mut tx, n + 200);
    }
    pop_asleep(&first, &mut rx, &mut tx, 1);
    drop(first);
    pop_asleep(&second, &mut rx, &mut tx, 2);
    drop(second);
    pop_asleep(&runtime(), &mut rx, &mut tx, 3);
    pop_asleep(&runtime(), &mut rx, &mut tx, 4);
}

#[test]
fn a_runtime_that_stands_still_holds_nothing_up() {
    let test = Test::new("a runtime that stands still");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let (still, other) = (runtime(), threads());
    for n in 0..20 {
        // Asleep on the one, registered there, and then nobody drives it any more.
        still.block_on(async {
            let mut pop = pin!(rx.pop());
            std::future::poll_fn(|cx| match pop.as_mut().poll(cx) {
                Poll::Pending if ring.stat().consumer_parked => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
                Poll::Ready(_) => panic!("nothing was pushed"),
            })
            .await;
        });
        pop_asleep(&other, &mut rx, &mut tx, n);
        if n % 5 == 0 {
            pop_asleep(&still, &mut rx, &mut tx, n);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What any executor does, without a runtime of tokio's.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn without_a_runtime_what_would_sleep_is_an_error() {
    let test = Test::new("no runtime");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for _ in 0..50 {
        let Err(PopError::Fault(fault)) = block_on(rx.pop()).map(drop) else { panic!() };
        assert_eq!(fault.kind(), FaultKind::NoRuntime, "{fault}");
        assert!(fault.to_string().contains(&test.name) && fault.to_string().contains("blocking_"));
    }
    // What needs no sleep needs no runtime.
    block_on(tx.push(b"one")).unwrap();
    assert_eq!(block_on(rx.pop()).unwrap().as_deref(), Some(&b"one"[..]));
    while tx.try_push(&[0; 100]).is_ok() {}
    let Err(PushError::Fault(fault)) = block_on(tx.push(&[0; 100])) else { panic!() };
    assert_eq!(fault.kind(), FaultKind::NoRuntime, "{fault}");
    while rx.try_pop().is_ok() {}
    pop_asleep(&runtime(), &mut rx, &mut tx, 9);
}

#[test]
fn without_enable_io_it_panics_and_the_handle_lives_on() {
    let test = Test::new("no enable_io");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let bare = Builder::new_current_thread().build().unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = bare.block_on(rx.pop());
    }));
    assert!(panicked.is_err());
    pop_asleep(&runtime(), &mut rx, &mut tx, 1);
}

#[test]
fn tasks_on_many_threads() {
    const COUNT: u32 = 50_000;
    let test = Test::new("multi-threaded runtime");
    let ring = test.ring(4096);
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let rt = threads();
    let push = rt.spawn(async move {
        for n in 0..COUNT {
            tx.push(&n.to_le_bytes()).await.unwrap();
        }
    });
    let pop = rt.spawn(async move {
        for n in 0..COUNT {
            assert_eq!(*rx.pop().await.unwrap().unwrap(), n.to_le_bytes());
        }
        assert!(rx.pop().await.unwrap().is_none());
    });
    rt.block_on(async { tokio::try_join!(push, pop) }).unwrap();
}

/// No timer exists in these runtimes and the blocking forms have no time-out: what ends the sleep is
/// the death itself.
#[test]
fn parked_peers_notice_by_order_not_by_clock() {
    for (dies, on) in
        [("producer", 0), ("producer", 1), ("producer", 2), ("consumer", 0), ("consumer", 1)]
    {
        let test = Test::new(&format!("{dies} dies, way {on}"));
        let ring = test.ring(4096);
        let mut child = test.spawn(dies, "");
        child.expect("ready");
        let survivor = ring.clone();
        let survivor = std::thread::spawn(move || {
            if dies == "producer" {
                let mut rx = survivor.consumer().unwrap();
                let popped = match on {
                    0 => rx.blocking_pop(None).map(drop),
                    1 => runtime().block_on(rx.pop()).map(drop),
                    _ => threads().block_on(rx.pop_many(4)).map(drop),
                };
                let Err(PopError::PeerDied { pid, .. }) = popped else { panic!("{popped:?}") };
                pid
            } else {
                let mut tx = survivor.producer().unwrap();
                while tx.try_push(&[0; 100]).is_ok() {}
                let pushed = match on {
                    0 => tx.blocking_push(&[0; 100], None),
                    _ => runtime().block_on(tx.push(&[0; 100])),
                };
                let Err(PushError::PeerDied { pid, .. }) = pushed else { panic!("{pushed:?}") };
                tx.detach().unwrap();
                pid
            }
        });
        until(|| ring.stat().consumer_parked || ring.stat().producer_parked);
        let pid = child.pid();
        child.kill9();
        assert_eq!(survivor.join().unwrap(), Some(pid));
    }
}
