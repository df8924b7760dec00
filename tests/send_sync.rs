//! Which types may go to, and be shared between, threads: a table that the compiler checks.
//!
//! A type that must *not* have a trait is shown by ambiguity: `lacks` compiles only while the type
//! has a single way to be `Lacks`.

use ringspan::*;
use std::future::Future;
use std::time::Duration;

trait Lacks<Trait> {
    fn lacks() {}
}
struct Any;
struct HasSync;
struct HasClone;
impl<T: ?Sized> Lacks<Any> for T {}
impl<T: ?Sized + Sync> Lacks<HasSync> for T {}
impl<T: Clone> Lacks<HasClone> for T {}

/// Compiles only when `$type` has neither `Sync` nor `Clone`: else the marker is ambiguous.
macro_rules! exclusive {
    ($($type:ty),* $(,)?) => { $( <$type as Lacks<_>>::lacks(); send::<$type>(); )* };
}

fn send<T: Send>() {}
fn shared<T: Send + Sync + Clone + Unpin + 'static>() {}
fn error<T: Send + Sync + Clone + Unpin + std::error::Error + 'static>()
where
    std::io::Error: From<T>,
{
}
fn unpin<T: Unpin>() {}

#[test]
fn table() {
    exclusive!(Producer, Consumer, Grant<'static>, Message<'static>, Batch<'static>);
    send::<RingStream>();
    send::<RingSink>();
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

fn future<F: Future + Send>(_: F) {}

/// Never called: that it compiles is the test.
fn _every_future_is_send(tx: &mut Producer, rx: &mut Consumer) {
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
}

/// Never called: what an end lends may be sent along with the thread that borrows it.
fn _time_outs_take_both_forms(tx: &mut Producer, rx: &mut Consumer) {
    let _ = tx.blocking_push(b"", None);
    let _ = tx.blocking_push(b"", Duration::ZERO);
    let _ = rx.blocking_pop(Some(Duration::ZERO)).map(drop);
}
