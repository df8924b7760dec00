//! A lock between processes that are killed or stopped while they hold it or wait for it.

mod common;
mod held;
mod stage;

use common::{Peer, say};
use held::*;
use ringspan::{LockError, LockMode, RwLock, TryLockError};
use rustix::process::Signal;
use stage::{Test, role, runtime, until, use_nothing};

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    match role.role.as_str() {
        "busy" => {
            say("ready");
            loop {
                std::hint::spin_loop();
            }
        }
        _ => act(&role),
    }
    std::process::exit(0);
}

/// The ways of waiting.
const WAYS: [&str; 3] = ["blocking", "tokio", "try"];

/// Takes the lock for a moment; whether it was poisoned, and the number in it.
fn take(lock: &RwLock, mode: LockMode, way: &str) -> (bool, Option<u64>) {
    let rt = runtime();
    match (mode, way) {
        (LockMode::Read, "blocking") => seen(lock.blocking_read(None)),
        (LockMode::Write, "blocking") => seen(lock.blocking_write(None)),
        (LockMode::Read, "tokio") => seen(rt.block_on(lock.read())),
        (LockMode::Write, "tokio") => seen(rt.block_on(lock.write())),
        (LockMode::Read, _) => seen(tried(|| lock.try_read())),
        (LockMode::Write, _) => seen(tried(|| lock.try_write())),
    }
}

fn seen<G: std::ops::Deref<Target = [u8]>>(taken: Result<G, LockError<G>>) -> (bool, Option<u64>) {
    match taken {
        Ok(guard) => (false, whole(&guard)),
        Err(LockError::Poisoned(poisoned)) => (true, whole(poisoned.get_ref())),
        Err(err) => panic!("{err}"),
    }
}

/// Again and again. (What `try_` is not meant for; here it shows that it finds a death, too.)
fn tried<G>(mut attempt: impl FnMut() -> Result<G, TryLockError<G>>) -> Result<G, LockError<G>> {
    loop {
        match attempt() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(TryLockError::Poisoned(poisoned)) => return Err(LockError::Poisoned(poisoned)),
            Err(TryLockError::Fault(fault)) => return Err(LockError::Fault(fault)),
            Err(_) => unreachable!(),
        }
    }
}

/// Whether that handle waits: parked, or trying.
fn waits(lock: &RwLock, way: &str, before: u64) -> bool {
    way == "try" || parks_of(lock) > before
}

fn is_parked(test: &Test, actor: &Peer) {
    let file = test.file();
    until(|| parks(&file, actor.pid()) && state(actor.pid()) == Some('S'));
}

/// One holds it in `held` and is killed while another one waits for it in `wanted`.
fn holder_killed(held: LockMode, wanted: LockMode, way: &str) {
    let test = Test::new(&format!("{held:?} killed, {wanted:?} {way}"));
    let lock = test.lock();
    write_all(&mut lock.try_write().unwrap(), 5);
    let mut actor = test.actor();
    let writes = held == LockMode::Write;
    assert_eq!(actor.does(if writes { "write" } else { "read" }), "got it");
    if writes {
        assert_eq!(actor.does("tear"), "torn");
    }
    let before = parks_of(&lock);
    let (poisoned, number) = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| take(&lock, wanted, way));
        until(|| waits(&lock, way, before));
        actor.kill9();
        waiter.join().unwrap()
    });
    assert_eq!((poisoned, number), (writes, (!writes).then_some(5)));
    assert_eq!(lock.is_poisoned(), writes);
    if writes {
        // It stays so for everybody, until somebody mends it.
        assert!(take(&test.handle(), LockMode::Read, way).0);
        let mut guard = anyhow(lock.blocking_write(None));
        write_all(&mut guard, 6);
        lock.clear_poison().unwrap();
        drop(guard);
        assert_eq!(take(&test.handle(), LockMode::Read, way), (false, Some(6)));
    }
    assert_eq!(lock.stat().unwrap().attached, 1, "the dead one is taken out");
}

#[test]
fn a_killed_reader_vanishes() {
    for way in WAYS {
        holder_killed(LockMode::Read, LockMode::Write, way);
    }
}

#[test]
fn a_killed_writer_poisons() {
    for way in WAYS {
        holder_killed(LockMode::Write, LockMode::Write, way);
        holder_killed(LockMode::Write, LockMode::Read, way);
    }
}

#[test]
fn deaths_are_seen_on_a_machine_without_rest() {
    let busy = Test::new("a loaded machine");
    let count = 2 * std::thread::available_parallelism().unwrap().get();
    let mut children: Vec<Peer> = (0..count).map(|_| busy.spawn("busy", "")).collect();
    children.iter_mut().for_each(|child| child.expect("ready"));
    drop(busy); // the children stay
    for way in WAYS {
        holder_killed(LockMode::Read, LockMode::Write, way);
        holder_killed(LockMode::Write, LockMode::Read, way);
        waiting_writer_killed(way, way == "tokio", true);
    }
}

/// It was never parked, and the death is found by those that come later.
#[test]
fn a_death_that_nobody_waits_for_is_found_by_the_next_one() {
    for way in WAYS {
        let test = Test::new(&format!("found later, {way}"));
        let lock = test.lock();
        let mut actor = test.actor();
        assert_eq!(actor.does("tokio write"), "got it");
        actor.kill9();
        assert!(!lock.is_poisoned(), "nobody has looked");
        assert_eq!(take(&lock, LockMode::Read, way), (true, Some(0)));
    }
}

#[test]
fn all_that_wait_for_a_killed_writer_get_in() {
    let test = Test::new("many waiters of a killed writer");
    let lock = test.lock();
    let mut actors: Vec<Peer> = (0..5).map(|_| test.actor()).collect();
    assert_eq!(actors[4].does("write"), "got it");
    assert_eq!(actors[4].does("tear"), "torn");
    for (actor, order) in actors.iter_mut().zip(["read", "tokio read", "read", "tokio read"]) {
        actor.say(order);
    }
    actors[..4].iter().for_each(|actor| is_parked(&test, actor));
    actors[4].kill9();
    for actor in &mut actors[..4] {
        actor.expect("poisoned");
    }
    assert_eq!(lock.holders().len(), 4);
    // And of readers that are killed, all but one, while a writer waits.
    let mut last = actors.remove(3);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| mend(&mut anyhow(lock.blocking_write(None))));
        until(|| parks_of(&lock) > 0);
        actors[..3].iter_mut().for_each(Peer::kill9);
        until(|| lock.holders().len() == 1);
        assert!(!writer.is_finished());
        assert_eq!(last.does("give"), "given");
        writer.join().unwrap();
    });
    last.say("end");
    last.finish();
}

// ---- waiters ------------------------------------------------------------------------------------

/// R1 holds it all the while, W waits to write and is killed, R2 comes in: asleep before the kill, or
/// asking after it.
fn waiting_writer_killed(way: &str, on_tokio: bool, asleep: bool) {
    let what = format!("waiting writer killed; {way} {on_tokio} {asleep}");
    let test = Test::new(&what);
    let lock = test.lock();
    let first = lock.blocking_read(None).unwrap();
    let mut writer = test.actor();
    writer.say(if on_tokio { "tokio write" } else { "write" });
    is_parked(&test, &writer);
    until(|| awaited(&test.file()));
    let second = test.handle();
    assert!(would_block(second.try_read()));
    std::thread::scope(|scope| {
        if !asleep {
            writer.kill9();
        }
        let before = parks_of(&second);
        let reader = scope.spawn(|| take(&second, LockMode::Read, way));
        if asleep {
            until(|| waits(&second, way, before));
            writer.kill9();
        }
        assert_eq!(reader.join().unwrap(), (false, Some(0)));
    });
    assert!(!awaited(&test.file()));
    drop(first);
    test.sweep_doors(); // `try_read` may have got in before anybody proved the death
}

#[test]
fn a_killed_waiting_writer_delays_nobody() {
    for way in WAYS {
        for on_tokio in [false, true] {
            for asleep in [false, true] {
                waiting_writer_killed(way, on_tokio, asleep);
            }
        }
    }
}

#[test]
fn one_of_two_waiting_writers_is_killed() {
    let test = Test::new("one of two waiting writers is killed");
    let lock = test.lock();
    let guard = lock.blocking_read(None).unwrap();
    let (mut one, mut two) = (test.actor(), test.actor());
    one.say("write");
    two.say("tokio write");
    is_parked(&test, &one);
    is_parked(&test, &two);
    one.kill9();
    // The other one still keeps readers out, and gets it.
    assert!(matches!(test.handle().blocking_read(MOMENT), Err(LockError::Timeout(_))));
    assert_eq!(two.has_said(), None);
    drop(guard);
    two.expect("got it");
    two.say("end");
    two.finish();
    assert!(!lock.is_poisoned());
    test.sweep_doors();
}

#[test]
fn a_killed_waiting_reader_delays_nobody() {
    for order in ["read", "tokio read"] {
        let test = Test::new("waiting reader killed");
        let lock = test.lock();
        let mut guard = lock.blocking_write(None).unwrap();
        let (mut dies, mut lives) = (test.actor(), test.actor());
        dies.say(order);
        lives.say(order);
        is_parked(&test, &dies);
        is_parked(&test, &lives);
        dies.kill9();
        raise(&mut guard);
        drop(guard);
        lives.expect("got it");
        assert_eq!(lives.does("give"), "given");
        raise(&mut lock.blocking_write(None).unwrap());
        lives.say("end");
        lives.finish();
        assert!(!lock.is_poisoned() && lock.holders().is_empty());
        test.sweep_doors(); // it had nothing that anybody missed
    }
}

// ---- stopped ------------------------------------------------------------------------------------

fn stop(actor: &Peer) {
    actor.signal(Signal::STOP);
    until(|| state(actor.pid()) == Some('T'));
}

#[test]
fn a_stopped_holder_is_not_dead() {
    for (order, wanted) in [("write", LockMode::Read), ("tokio read", LockMode::Write)] {
        let test = Test::new(&format!("stopped holder, {order}"));
        let lock = test.lock();
        let mut actor = test.actor();
        assert_eq!(actor.does(order), "got it");
        stop(&actor);
        let err = match wanted {
            LockMode::Read => lock.blocking_read(MOMENT).map(drop).unwrap_err().to_string(),
            LockMode::Write => lock.blocking_write(MOMENT).map(drop).unwrap_err().to_string(),
        };
        assert!(err.contains("time-out") && err.contains(&format!("pid {}", actor.pid())), "{err}");
        (0..300).for_each(|_| assert!(would_block(lock.try_write())));
        let given_up = timed_runtime()
            .block_on(async { tokio::time::timeout(MOMENT, lock.write()).await.is_err() });
        assert!(given_up);
        assert_eq!(lock.holders()[0].pid, actor.pid());
        std::thread::scope(|scope| {
            let before = parks_of(&lock);
            let waiter = scope.spawn(|| take(&lock, wanted, "blocking"));
            until(|| parks_of(&lock) > before);
            actor.say("give");
            actor.signal(Signal::CONT);
            actor.expect("given");
            assert_eq!(waiter.join().unwrap(), (false, Some(0)));
        });
        assert!(!lock.is_poisoned());
        actor.say("end");
        actor.finish();
    }
}

#[test]
fn a_stopped_waiter_holds_nobody_up() {
    for order in ["read", "write", "tokio read", "tokio write"] {
        let test = Test::new(&format!("stopped waiter, {order}"));
        let lock = test.lock();
        let other = test.handle();
        let guard = lock.blocking_write(None).unwrap();
        let mut actor = test.actor();
        actor.say(order);
        is_parked(&test, &actor);
        stop(&actor);
        drop(guard);
        for _ in 0..50 {
            raise(&mut other.blocking_write(None).unwrap());
            let _first = lock.blocking_read(None).unwrap();
            read_all(&other.blocking_read(None).unwrap());
        }
        let guard = lock.blocking_write(None).unwrap();
        actor.signal(Signal::CONT);
        std::thread::sleep(MOMENT); // it looks, and sleeps again
        assert_eq!(actor.has_said(), None);
        drop(guard);
        actor.expect("got it");
        assert_eq!(actor.does("give"), "given");
        actor.say("end");
        actor.finish();
        drop(lock.try_write().unwrap());
    }
}

#[test]
fn a_parked_waiter_uses_nothing() {
    let test = Test::new("idle waiters");
    let lock = test.lock();
    let guard = lock.blocking_write(None).unwrap();
    let mut actors = [test.actor(), test.actor(), test.actor(), test.actor()];
    for (actor, order) in actors.iter_mut().zip(["read", "tokio read", "write", "tokio write"]) {
        actor.say(order);
    }
    actors.iter().for_each(|actor| is_parked(&test, actor));
    use_nothing(&actors.each_ref().map(Peer::pid));
    assert!(actors.iter().all(|actor| actor.has_said().is_none()));
    drop(guard);
    // Whoever is first gives it on.
    let mut left: Vec<Peer> = actors.into_iter().collect();
    until(|| {
        left.retain_mut(|actor| match actor.has_said() {
            Some(said) => {
                assert_eq!(said, "got it");
                assert_eq!(actor.does("give"), "given");
                actor.say("end");
                actor.wait();
                false
            }
            None => true,
        });
        left.is_empty()
    });
    assert!(!lock.is_poisoned());
}
