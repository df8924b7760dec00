//! Which types may go to, and be shared between, threads: a table that the compiler checks.
//!
//! A type that must *not* have a trait is shown by ambiguity: `lacks` compiles only while the type
//! has a single way to be `Lacks`.

use ringspan::*;
use std::future::Future;

trait Lacks<Trait> {
    fn lacks() {}
}
enum Any {}
enum HasSync {}
enum HasClone {}
impl<T: ?Sized> Lacks<Any> for T {}
impl<T: ?Sized + Sync> Lacks<HasSync> for T {}
impl<T: Clone> Lacks<HasClone> for T {}

/// Compiles only when `$type` has neither `Sync` nor `Clone`: else the marker is ambiguous.
macro_rules! exclusive {
    ($($type:ty),* $(,)?) => { $( <$type as Lacks<_>>::lacks(); send::<$type>(); )* };
}

trait Unique<Trait> {
    fn unique() {}
}
impl<T: ?Sized> Unique<Any> for T {}
impl<T: Clone> Unique<HasClone> for T {}

/// Compiles only when `$type` can be shared between threads and not cloned.
macro_rules! unique {
    ($($type:ty),* $(,)?) => { $( <$type as Unique<_>>::unique(); sync::<$type>(); )* };
}

fn send<T: Send>() {}
fn shared<T: Send + Sync + Clone + Unpin + 'static>() {}
fn error<T: Send + Sync + Clone + Unpin + std::error::Error + 'static>()
where
    std::io::Error: From<T>,
{
}
fn unpin<T: Unpin>() {}
fn sync<T: Send + Sync + Unpin>() {}
fn lock_error<T: Send + Sync + std::error::Error + 'static>()
where
    std::io::Error: From<T>,
{
}

#[test]
fn table() {
    exclusive!(Producer, Consumer, Grant<'static>, Message<'static>, Batch<'static>);
    send::<RingStream>();
    send::<RingSink>();
    shared::<Block>();
    shared::<BlockOptions>();
    shared::<RwLock>();
    shared::<RwLockOptions>();
    shared::<LockMode>();
    shared::<HandleStat>();
    sync::<Holder>();
    unique!(ReadGuard<'static>, WriteGuard<'static>, OwnedReadGuard, OwnedWriteGuard);
    unique!(Poisoned<ReadGuard<'static>>, LockError<WriteGuard<'static>>);
    lock_error::<LockError<OwnedReadGuard>>();
    lock_error::<TryLockError<OwnedWriteGuard>>();
    shared::<Ring>();
    shared::<RingOptions>();
    shared::<RingStat>();
    shared::<EndStat>();
    shared::<Peer>();
    shared::<Kind>();
    shared::<FaultKind>();
    error::<Fault>();
    error::<OpenError>();
    error::<PushError>();
    error::<TryPushError>();
    error::<PopError>();
    error::<TryPopError>();
    error::<SinkError>();
    unpin::<Producer>();
    unpin::<Consumer>();
    unpin::<Grant<'static>>();
    unpin::<Message<'static>>();
    unpin::<Batch<'static>>();
    unpin::<RingStream>();
    unpin::<RingSink>();
}

/// Does what a spawn asks for, and never polls.
fn future<F: Future + Send>(future: F) {
    drop(future);
}

#[test]
fn every_future_is_send() {
    let name = format!("/test-send-{}", std::process::id());
    let ring = Ring::options().ephemeral(true).create(&name).unwrap();
    let (mut tx, mut rx) = (ring.producer().unwrap(), ring.consumer().unwrap());
    future(tx.push(b""));
    future(tx.push_value("x"));
    future(tx.reserve(1));
    future(tx.push_many([b"a"]));
    future(tx.push_many(vec![vec![0u8]]));
    future(tx.attached());
    future(rx.pop());
    future(rx.pop_owned());
    future(rx.pop_many(2));
    future(rx.pop_value::<String>());
    future(rx.attached());
    drop((tx, rx));
    let lock = RwLock::options().ephemeral(true).create(&format!("{name}-lock"), 8).unwrap();
    future(lock.read());
    future(lock.write());
    future(lock.read_owned());
    future(lock.write_owned());
    let _ = std::fs::remove_file(format!("/dev/shm{name}"));
}
