//! Many waiters of one process on one endpoint: every one of them must see every change, whoever
//! takes the hint.

use crate::error::Fault;
use crate::layout::{BytesLine, Kind, PARAMS};
use crate::name::Name;
use crate::notify::attach::{Attach, Role};
use crate::notify::shared::{Blocked, Shared};
use crate::notify::{Endpoint, Meeting};
use crate::region::{Region, Spec};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::{file, process};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// A bytes segment that goes away with the test.
struct Bench {
    region: Arc<Region>,
}

impl Bench {
    fn new() -> Bench {
        let text = format!("shared-{}-{:x}", process::pid(), file::random().unwrap());
        let spec = Spec {
            kind: Kind::Bytes,
            kind_len: size_of::<BytesLine>(),
            meta_len: 0,
            payload_len: 64,
            params: [0; PARAMS],
            flags: 0,
            mode: 0o600,
        };
        let name = Name::new(&text).unwrap();
        let (region, ()) = Region::create(&name, &spec, |_| Ok(())).unwrap();
        Bench { region }
    }

    fn attach(&self, index: usize) -> Endpoint {
        match Endpoint::attach(&self.region, Role { index, noun: "a slot" }, true).unwrap() {
            Attach::Done(endpoint) => *endpoint,
            Attach::Stale => panic!("nobody removed it"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let claim = self.region.claim().unwrap();
        self.region.unlink(&claim).unwrap();
    }
}

/// Aborts the test process when the test is not over in time.
fn watchdog() -> mpsc::Sender<()> {
    let (alive, gone) = mpsc::channel::<()>();
    thread::spawn(move || {
        if gone.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("watchdog: a wake was lost");
            std::process::abort();
        }
    });
    alive
}

fn version(endpoint: &Endpoint) -> &AtomicU64 {
    &endpoint.region.kind_area::<BytesLine>().version
}

/// Steps 3 and 4: every other slot owes us a wake.
fn reached(endpoint: &mut Endpoint, wanted: u64) -> Result<Option<u64>, Fault> {
    for index in 0..3 {
        if index != endpoint.index
            && let Meeting::Live { .. } = endpoint.meet(index)?
        {
            endpoint.watch(index)?;
        }
    }
    let now = version(endpoint).load(Ordering::SeqCst);
    Ok((now >= wanted).then_some(now))
}

fn raise(endpoint: &mut Endpoint) {
    version(endpoint).fetch_add(1, Ordering::SeqCst);
    endpoint.wake_all();
}

fn blocking(shared: &Shared, wanted: u64) {
    loop {
        match shared.wait_blocking(None, None, |endpoint| reached(endpoint, wanted)).unwrap() {
            Blocked::Came(_) => return,
            Blocked::Interrupted => {}
            Blocked::TimedOut => panic!("there was no deadline"),
        }
    }
}

/// Until somebody has begun to wait in that slot.
fn asleep(bench: &Bench, index: usize) {
    while bench.region.slot(index).waiting.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
}

#[test]
fn threads_all_see_every_change() {
    let _watchdog = watchdog();
    let bench = Bench::new();
    let shared = Shared::new(bench.attach(0));
    let mut peer = bench.attach(1);
    let sleepers: Vec<_> = (0..4)
        .map(|_| {
            let shared = shared.clone();
            thread::spawn(move || (1..=200).for_each(|wanted| blocking(&shared, wanted)))
        })
        .collect();
    let echo = Shared::new(bench.attach(2));
    for _ in 0..200 {
        raise(&mut peer);
        // Let them sleep now and then, so that rings and looks meet in every order.
        thread::yield_now();
    }
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    assert_eq!(echo.with(|endpoint| version(endpoint).load(Ordering::SeqCst)), Ok(200));
    assert_eq!(bench.region.slot(0).waiting.load(Ordering::SeqCst), 0, "the last one clears it");
}

#[test]
fn a_local_change_wakes_local_threads() {
    let _watchdog = watchdog();
    let bench = Bench::new();
    let shared = Shared::new(bench.attach(0));
    let other = shared.clone();
    let sleeper = thread::spawn(move || blocking(&other, 1));
    asleep(&bench, 0);
    shared.with(raise).unwrap();
    shared.notify_local();
    sleeper.join().unwrap();
}

#[test]
fn a_deadline_ends_the_wait_and_clears_the_number() {
    let _watchdog = watchdog();
    let bench = Bench::new();
    let shared = Shared::new(bench.attach(0));
    let deadline = Instant::now() + Duration::from_millis(20);
    let ended =
        shared.wait_blocking(Some(deadline), None, |endpoint| reached(endpoint, 1)).unwrap();
    assert_eq!(ended, Blocked::TimedOut);
    assert!(Instant::now() >= deadline);
    assert_eq!(bench.region.slot(0).waiting.load(Ordering::SeqCst), 0);
}

#[test]
fn a_panic_in_a_look_leaves_the_endpoint_usable() {
    let _watchdog = watchdog();
    let bench = Bench::new();
    let shared = Shared::new(bench.attach(0));
    let broken = shared.clone();
    let panicked = thread::spawn(move || {
        let _ = broken.wait_blocking::<()>(None, None, |_| panic!("a look that panics"));
    });
    panicked.join().unwrap_err();
    assert_eq!(bench.region.slot(0).waiting.load(Ordering::SeqCst), 0);
    let mut peer = bench.attach(1);
    raise(&mut peer);
    blocking(&shared, 1);
}

#[cfg(feature = "tokio")]
mod tokio_faces {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap()
    }

    async fn awaited(shared: Shared, wanted: u64) {
        shared.wait_async(|endpoint| reached(endpoint, wanted)).await.unwrap();
    }

    #[test]
    fn tasks_of_two_runtimes_and_a_thread_all_see_every_change() {
        let _watchdog = watchdog();
        let bench = Bench::new();
        let shared = Shared::new(bench.attach(0));
        let mut peer = bench.attach(1);
        let mut threads: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    runtime().block_on(async {
                        for wanted in 1..=200 {
                            tokio::join!(
                                awaited(shared.clone(), wanted),
                                awaited(shared.clone(), wanted)
                            );
                        }
                    });
                })
            })
            .collect();
        let other = shared.clone();
        threads.push(thread::spawn(move || (1..=200).for_each(|wanted| blocking(&other, wanted))));
        for _ in 0..200 {
            raise(&mut peer);
            thread::yield_now();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(bench.region.slot(0).waiting.load(Ordering::SeqCst), 0);
    }

    /// Polled once and then kept: it neither takes a hint nor has to pass one on.
    #[test]
    fn a_future_that_nobody_polls_starves_nobody() {
        let _watchdog = watchdog();
        let bench = Bench::new();
        let shared = Shared::new(bench.attach(0));
        let mut peer = bench.attach(1);
        let idle = runtime();
        let mut frozen = Box::pin(awaited(shared.clone(), 1));
        {
            let _inside = idle.enter();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(matches!(frozen.as_mut().poll(&mut cx), Poll::Pending));
        }
        let (thread, task) = (shared.clone(), shared.clone());
        let thread = thread::spawn(move || blocking(&thread, 1));
        let task = thread::spawn(move || runtime().block_on(awaited(task, 1)));
        asleep(&bench, 0);
        raise(&mut peer);
        thread.join().unwrap();
        task.join().unwrap();
        idle.block_on(frozen);
    }

    #[test]
    fn a_cancelled_or_leaked_waiter_takes_no_wake_with_it() {
        let _watchdog = watchdog();
        let bench = Bench::new();
        let shared = Shared::new(bench.attach(0));
        let mut peer = bench.attach(1);
        runtime().block_on(async {
            let mut cx = Context::from_waker(Waker::noop());
            let mut cancelled = Box::pin(awaited(shared.clone(), 1));
            let mut leaked = Box::pin(awaited(shared.clone(), 1));
            let mut kept = Box::pin(awaited(shared.clone(), 1));
            assert!(cancelled.as_mut().poll(&mut cx).is_pending());
            assert!(leaked.as_mut().poll(&mut cx).is_pending());
            assert!(kept.as_mut().poll(&mut cx).is_pending());
            raise(&mut peer);
            drop(cancelled);
            std::mem::forget(leaked);
            kept.await;
            // The leaked one is still counted; new waits work all the same.
            let later = tokio::spawn(awaited(shared.clone(), 2));
            tokio::task::yield_now().await;
            raise(&mut peer);
            later.await.unwrap();
        });
    }

    #[test]
    fn a_second_runtime_takes_over_from_one_that_was_dropped() {
        let _watchdog = watchdog();
        let bench = Bench::new();
        let shared = Shared::new(bench.attach(0));
        let mut peer = bench.attach(1);
        for wanted in 1..=3 {
            let other = shared.clone();
            let task = thread::spawn(move || runtime().block_on(awaited(other, wanted)));
            asleep(&bench, 0);
            raise(&mut peer);
            task.join().unwrap();
        }
    }

    #[test]
    fn without_a_runtime_the_wait_says_so() {
        let bench = Bench::new();
        let shared = Shared::new(bench.attach(0));
        let mut waiting = Box::pin(shared.wait_async(|endpoint| reached(endpoint, 1)));
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Err(fault)) = waiting.as_mut().poll(&mut cx) else { panic!("no error") };
        assert_eq!(fault.kind(), crate::error::FaultKind::NoRuntime);
    }
}
