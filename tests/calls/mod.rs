//! What the tests of RPC with real processes share: a service to call, looked at from outside by a second
//! one, and children that serve it.
//!
//! Over `common` and `stage`: `Test` gives the name, its directory of doors, and the look at what is left.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(unsafe_code, reason = "no runtime of a child that is about to leave is taken down")]

use crate::common::{Peer, hear, say};
use crate::stage::until;
use futures_util::StreamExt;
use ringspan::rpc::{self, CallError, Client, Delivered, HandlerError, Limits, Server, Service};
use serde_bytes::ByteBuf;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the service saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Handlers begun, and handlers gone, by whatever end.
    begun: AtomicU64,
    gone: AtomicU64,
    /// Items that streams gave.
    pub(crate) items: AtomicU64,
    /// At work now, and the most at once.
    pub(crate) now: AtomicU64,
    pub(crate) most: AtomicU64,
    /// Whose turn it was: the marks of the calls of `mark`, in order.
    pub(crate) marks: Mutex<Vec<u64>>,
    /// What the handler of one of them does beside that.
    pub(crate) hook: Mutex<Option<Hook>>,
    /// Opens the door of `gate`.
    pub(crate) open: AtomicBool,
    pub(crate) opened: tokio::sync::Notify,
}

/// At which mark, and what.
pub(crate) struct Hook(pub(crate) u64, pub(crate) Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hook({})", self.0)
    }
}

/// A handler at work.
pub(crate) struct AtWork(Arc<Seen>);

impl Seen {
    pub(crate) fn at_work(self: &Arc<Seen>) -> AtWork {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        AtWork(Arc::clone(self))
    }

    /// Lets the calls of `gate` go.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    async fn wait_open(&self) {
        loop {
            let opened = self.opened.notified();
            if self.open.load(Ordering::SeqCst) {
                return;
            }
            opened.await;
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        self.0.gone.fetch_add(1, Ordering::SeqCst);
    }
}

/// Limits like that.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// The service; serve it in a runtime.
pub(crate) fn service(name: &str, limits: Limits, seen: &Arc<Seen>) -> rpc::ServiceBuilder {
    let [held, gated, marked, all, dripping, slept] = std::array::from_fn(|_| Arc::clone(seen));
    Service::builder(name)
        .method("add", |(a, b): (i64, i64)| async move { Ok::<_, HandlerError>(a + b) })
        .method("len", |(blob,): (ByteBuf,)| async move {
            Ok::<_, HandlerError>((blob.len() as u64, sum(&blob)))
        })
        .method("blob", |(len, seed): (u64, u64)| async move {
            Ok::<_, HandlerError>(ByteBuf::from(blob(len, seed)))
        })
        .method("hold", move |(): ()| {
            let at_work = held.at_work();
            async move {
                std::future::pending::<()>().await;
                drop(at_work);
                Ok::<(), HandlerError>(())
            }
        })
        .method("gate", move |(mark,): (u64,)| {
            let (seen, at_work) = (Arc::clone(&gated), gated.at_work());
            async move {
                seen.wait_open().await;
                seen.marks.lock().unwrap().push(mark);
                drop(at_work);
                Ok::<_, HandlerError>(mark)
            }
        })
        .method("mark", move |(mark,): (u64,)| {
            let seen = Arc::clone(&marked);
            async move {
                seen.marks.lock().unwrap().push(mark);
                let hook = seen.hook.lock().unwrap().take_if(|hook| hook.0 == mark);
                if let Some(Hook(_, run)) = hook {
                    run();
                }
                Ok::<_, HandlerError>(mark)
            }
        })
        .method("mark_all", move |(blob,): (ByteBuf,)| {
            let seen = Arc::clone(&all);
            async move {
                seen.marks.lock().unwrap().push(sum(&blob));
                Ok::<_, HandlerError>(sum(&blob))
            }
        })
        .method("sleep", move |(ms,): (u64,)| {
            let at_work = slept.at_work();
            async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                drop(at_work);
                Ok::<_, HandlerError>(ms)
            }
        })
        .method("block", |(ms,): (u64,)| async move {
            std::thread::sleep(Duration::from_millis(ms));
            Ok::<_, HandlerError>(ms)
        })
        .method("spin", |(micros,): (u64,)| async move {
            let until = Instant::now() + Duration::from_micros(micros);
            while Instant::now() < until {}
            Ok::<_, HandlerError>(micros)
        })
        .method("left", |call: rpc::Context, (): ()| async move {
            Ok::<_, HandlerError>(call.remaining().map(|left| left.as_secs_f64()))
        })
        .method_bytes("echo", |data: bytes::Bytes| async move { Ok::<_, HandlerError>(data) })
        .method_stream("drip", move |(len,): (u64,)| {
            let (seen, at_work) = (Arc::clone(&dripping), dripping.at_work());
            futures_util::stream::iter(0u64..).map(move |n| {
                let _with = &at_work;
                seen.items.fetch_add(1, Ordering::SeqCst);
                Ok::<_, HandlerError>((n, ByteBuf::from(blob(len, n))))
            })
        })
        .method_stream("count", |(n,): (u64,)| {
            futures_util::stream::iter((0..n).map(Ok::<_, HandlerError>))
        })
        .limits(limits)
}

/// What can be seen of the service from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct View {
    pub(crate) begun: u64,
    pub(crate) gone: u64,
    pub(crate) items: u64,
    pub(crate) calls: u64,
    pub(crate) in_flight: u64,
    pub(crate) running: u64,
    pub(crate) clients: u64,
    pub(crate) refused: u64,
    pub(crate) violations: u64,
    pub(crate) fds: u64,
    pub(crate) maps: u64,
    /// Marks that were made, for calls that must not have run.
    pub(crate) marks: u64,
    /// Microseconds of processor time of the process.
    pub(crate) cpu: u64,
}

pub(crate) fn view(server: &Server, seen: &Seen) -> View {
    let stats = server.stats();
    let count = |dir: &str| std::fs::read_dir(dir).map_or(0, |dir| dir.count() as u64);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    View {
        begun: seen.begun.load(Ordering::SeqCst),
        gone: seen.gone.load(Ordering::SeqCst),
        items: seen.items.load(Ordering::SeqCst),
        calls: stats.calls,
        in_flight: stats.in_flight,
        running: stats.running,
        clients: stats.clients,
        refused: stats.refused,
        violations: stats.violations,
        fds: count("/proc/self/fd"),
        // Of connections: the allocator's come and go.
        maps: maps.lines().filter(|line| line.contains("memfd:")).count() as u64,
        marks: seen.marks.lock().unwrap().len() as u64,
        cpu: cpu(),
    }
}

fn cpu() -> u64 {
    // SAFETY: zeroes are a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    micros(usage.ru_utime) + micros(usage.ru_stime)
}

/// Bytes that tell whose they are.
pub(crate) fn blob(len: u64, seed: u64) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; len as usize];
    for chunk in bytes.chunks_mut(8) {
        word = word.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17) ^ seed;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    bytes
}

pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

pub(crate) fn threads(n: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(n).enable_all().build().unwrap()
}

pub(crate) fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

// ---- children that serve ------------------------------------------------------------------------

/// The name at which a serving child can be looked at while its service is full.
pub(crate) fn side(name: &str) -> String {
    format!("{name}.side")
}

/// Plays a server until the parent says `stop`, with the grace in milliseconds, or goes. `options`: limits
/// (`concurrency=1 ring=4096`), the most descriptors (`files=200`), `side` to be looked at, `one` thread.
pub(crate) fn serve(name: &str, options: &str) {
    let option = |key: &str| {
        options.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).map(|word| {
            let number: u64 = word.parse().unwrap();
            number
        })
    };
    let limits = limits(|limits| {
        if let Some(n) = option("concurrency") {
            limits.max_concurrency = n as u32;
        }
        if let Some(n) = option("ring") {
            limits.ring_capacity = n;
        }
        if let Some(n) = option("files") {
            let limit = libc::rlimit { rlim_cur: n, rlim_max: n };
            // SAFETY: a plain value.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        }
    });
    let runtime = if options.contains("one") { one_thread() } else { threads(2) };
    let seen = Arc::<Seen>::default();
    let server = runtime.block_on(service(name, limits, &seen).serve()).unwrap();
    let server = Arc::new(server);
    let beside = options.contains("side").then(|| {
        let (served, seen) = (Arc::clone(&server), Arc::clone(&seen));
        let look = move |(): ()| {
            let now = view(&served, &seen);
            async move { Ok::<_, HandlerError>(now) }
        };
        // A runtime of its own: the other one may be blocked by a handler.
        let runtime = threads(1);
        let beside = runtime.block_on(rpc::serve(&side(name), look)).unwrap();
        (beside, runtime)
    });
    say("ready");
    std::thread::spawn(move || {
        let mut hoard = Vec::new();
        loop {
            match hear().as_str() {
                "open" => seen.open(),
                "release" => {
                    hoard.clear();
                    say("released");
                }
                line if line.starts_with("hoard ") => {
                    // All descriptors but so many.
                    let leave: usize = line["hoard ".len()..].parse().unwrap();
                    while let Ok(file) = std::fs::File::open("/dev/null") {
                        hoard.push(file);
                    }
                    hoard.truncate(hoard.len() - leave);
                    say("hoarded");
                }
                line => {
                    let Some(ms) = line.strip_prefix("stop ") else { panic!("{line}?") };
                    let grace = Duration::from_millis(ms.parse().unwrap());
                    // The side has it too. It goes with its runtime, which waits for its tasks.
                    drop(beside);
                    let server = Arc::try_unwrap(server).expect("nobody looks at it any more");
                    one_thread().block_on(server.shutdown(grace));
                    say("stopped");
                    break;
                }
            }
        }
        hear();
        std::process::exit(0);
    });
    runtime.block_on(std::future::pending::<()>());
}

/// A child that serves, ready.
pub(crate) fn spawn_server(name: &str, options: &str) -> Peer {
    let mut peer = Peer::spawn("serve", &[name, options]);
    peer.expect("ready");
    peer
}

/// Waits until what is seen of the service is so.
pub(crate) fn until_seen(look: &Client, mut is_so: impl FnMut(&View) -> bool) -> View {
    let mut last = None;
    until(|| {
        let view: View = look.blocking_call(&(), None).unwrap();
        last = Some(view);
        is_so(&view)
    });
    last.unwrap()
}

// ---- calls --------------------------------------------------------------------------------------

/// A disconnection, and whether the request had been delivered.
#[track_caller]
pub(crate) fn cut_off<T: std::fmt::Debug>(ended: Result<T, CallError>) -> Delivered {
    match ended {
        Err(CallError::Disconnected { delivered, .. }) => delivered,
        other => panic!("not disconnected: {other:?}"),
    }
}

/// Polls it once; it must have to wait.
pub(crate) fn begin<F: Future>(future: &mut std::pin::Pin<&mut F>) {
    use futures_util::FutureExt;
    assert!(future.as_mut().now_or_never().is_none(), "it did not have to wait");
}
