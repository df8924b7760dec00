//! Kill -9 at every step of a lock: for each fail point that a process with a lock passes, a child is
//! killed there while it reads, writes, waits for either, gives up, takes out a dead one, attaches or
//! detaches. The survivors must get the lock, alone where they write, and find whole bytes or a poisoned
//! lock; nobody hangs, nothing is left behind.
//!
//! A run in which the point is not reached is a run without a kill and must end in good order too.
//! The test fails when some point was reached in no run.
#![cfg(feature = "failpoints")]

mod common;
mod held;
mod killing;
mod stage;

use common::{Peer, path_of};
use held::*;
use killing::{Job, Plan, Run, in_lanes, table};
use ringspan::{LockError, RwLock, TryLockError};
use stage::{Role, Test, role, until};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Rounds of a child that does all there is to do.
const ROUNDS: u64 = 48;
/// Of a survivor, once the child is gone.
const MORE: u64 = 8;
const BRIEF: Duration = Duration::from_micros(500);

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let user = User::new(killing::on_tokio());
    match role.role.as_str() {
        "churns" => {
            let mut lock = open(&role.name);
            for round in 0..ROUNDS {
                user.round(&lock, round);
                if round % 12 == 11 {
                    lock = open(&role.name);
                }
            }
        }
        "attaches" => (0..6).for_each(|_| user.round(&open(&role.name), 0)),
        "writes" => user.write(&open(&role.name)),
        "reads" => user.read(&open(&role.name)),
        "tries" => tries(&open(&role.name)),
        "gives-up" => {
            let lock = open(&role.name);
            (0..12).for_each(|_| user.give_up(&lock));
        }
        _ => act(&Role { ..role }),
    }
    std::process::exit(0);
}

fn open(name: &str) -> RwLock {
    RwLock::open_or_create(name, LEN).unwrap()
}

// ---- what users do ------------------------------------------------------------------------------

/// Uses locks on tokio or blocking.
struct User {
    runtime: Option<Runtime>,
}

fn raise_or_mend<G>(lock: &RwLock, taken: Result<G, LockError<G>>) -> G
where
    G: std::ops::DerefMut<Target = [u8]>,
{
    match taken {
        Ok(mut guard) => {
            raise(&mut guard);
            guard
        }
        Err(LockError::Poisoned(poisoned)) => {
            let mut guard = poisoned.into_inner();
            mend(&mut guard);
            lock.clear_poison().unwrap();
            guard
        }
        Err(err) => panic!("{err}"),
    }
}

fn look<G: std::ops::Deref<Target = [u8]>>(taken: Result<G, LockError<G>>) {
    match taken {
        Ok(guard) => {
            read_all(&guard);
        }
        Err(LockError::Poisoned(_)) => {}
        Err(err) => panic!("{err}"),
    }
}

fn tries(lock: &RwLock) {
    loop {
        match lock.try_write() {
            Ok(mut guard) => {
                raise(&mut guard);
                return;
            }
            Err(TryLockError::Poisoned(_)) => return,
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            Err(err) => panic!("{err}"),
        }
    }
}

impl User {
    fn new(on_tokio: bool) -> User {
        User { runtime: on_tokio.then(timed_runtime) }
    }

    fn write(&self, lock: &RwLock) {
        drop(match &self.runtime {
            Some(rt) => raise_or_mend(lock, rt.block_on(lock.write())),
            None => raise_or_mend(lock, lock.blocking_write(None)),
        });
    }

    fn read(&self, lock: &RwLock) {
        match &self.runtime {
            Some(rt) => look(rt.block_on(lock.read())),
            None => look(lock.blocking_read(None)),
        }
    }

    /// Waits to write, not for long.
    fn give_up(&self, lock: &RwLock) {
        match &self.runtime {
            Some(rt) => {
                if let Ok(taken) = rt.block_on(async { timeout(BRIEF, lock.write()).await }) {
                    drop(raise_or_mend(lock, taken));
                }
            }
            None => match lock.blocking_write(BRIEF) {
                Err(LockError::Timeout(_)) => {}
                taken => drop(raise_or_mend(lock, taken)),
            },
        }
    }

    fn round(&self, lock: &RwLock, round: u64) {
        match round % 8 {
            0 => self.write(lock),
            1 => self.read(lock),
            2 => {
                let guard = raise_or_mend(lock, lock.blocking_write(None)).downgrade();
                read_all(&guard);
            }
            3 => {
                if let Ok(guard) = lock.blocking_read(None)
                    && let Ok(mut guard) = guard.try_upgrade()
                {
                    raise(&mut guard);
                }
            }
            4 | 5 => self.give_up(lock),
            6 => match lock.try_write() {
                Ok(mut guard) => {
                    raise(&mut guard);
                }
                Err(TryLockError::Poisoned(poisoned)) => {
                    drop(raise_or_mend(lock, Err(LockError::Poisoned(poisoned))));
                }
                Err(TryLockError::WouldBlock) => {}
                Err(err) => panic!("{err}"),
            },
            // Long enough for the others to sleep.
            _ => {
                let _guard = raise_or_mend(lock, lock.blocking_write(None));
                std::thread::sleep(2 * BRIEF);
            }
        }
    }
}

// ---- the harness --------------------------------------------------------------------------------

/// Until the child has ended (true) or the condition holds.
fn ended_or(child: &mut Child, mut condition: impl FnMut() -> bool) -> bool {
    let mut ended = false;
    until(|| {
        ended = child.try_wait().unwrap().is_some();
        ended || condition()
    });
    ended
}

/// Every survivor gets the lock in every way; afterwards nobody holds it and nobody sleeps here.
fn survive(run: &Run, lock: &RwLock) {
    for on_tokio in [false, true] {
        let user = User::new(on_tokio);
        (0..MORE).for_each(|round| user.round(lock, round));
    }
    let mut guard = raise_or_mend(lock, lock.blocking_write(None));
    raise(&mut guard);
    drop(guard);
    assert!(!lock.is_poisoned(), "{}", run.what);
    let file = file_of(&path_of(&run.name));
    assert_eq!(holds(&file), 0, "{}: {:?}", run.what, lock.holders());
}

/// One that does everything is killed among others who do.
fn churner_killed(plan: &Plan, role: &str, made: bool) -> Option<String> {
    let run = Run::new(format!("{role} killed at {plan:?}, lock there {made}"));
    let lock = made.then(|| open(&run.name));
    let mut child = run.spawn(role, "", Some(plan));
    let path = path_of(&run.name);
    ended_or(&mut child, || path.exists());
    if path.exists() {
        RwLock::open(&run.name).expect("a name that exists is whole");
    }
    let lock = lock.unwrap_or_else(|| open(&run.name));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        for on_tokio in [false, true] {
            let lock = open(&run.name);
            scope.spawn(move || {
                let user = User::new(on_tokio);
                let mut round = 0;
                while !over.load(Ordering::SeqCst) {
                    user.round(&lock, round);
                    round += 1;
                }
                (0..MORE).for_each(|round| user.round(&lock, round));
            });
        }
        run.finish(child);
        over.store(true, Ordering::SeqCst);
    });
    survive(&run, &lock);
    run.reached()
}

/// Who takes a dead owner out is killed at it, beside another one who sleeps, or comes later.
fn reaper_killed(plan: &Plan, role: &str, writer: bool, asleep: bool) -> Option<String> {
    let run = Run::new(format!("reaper {role} killed at {plan:?}, {writer} {asleep}"));
    let lock = open(&run.name);
    let mut holder = Peer::spawn("actor", &[&run.name, ""]);
    holder.expect("ready");
    assert_eq!(holder.does(if writer { "write" } else { "read" }), "got it");
    let mut child = run.spawn(role, "", Some(plan));
    let file = file_of(&path_of(&run.name));
    let attached = |n| lock.stat().unwrap().attached >= n;
    ended_or(&mut child, || if role == "tries" { attached(3) } else { parked(&file) == 1 });
    std::thread::scope(|scope| {
        let poisoned = || {
            let taken = lock.blocking_write(None);
            matches!(&taken, Err(LockError::Poisoned(_)))
        };
        let mut waiter = None;
        if asleep {
            let before = parks_of(&lock);
            waiter = Some(scope.spawn(poisoned));
            until(|| parks_of(&lock) > before);
        }
        holder.kill9();
        run.finish(child);
        let poisoned = waiter.map_or_else(poisoned, |waiter| waiter.join().unwrap());
        // The other one mends the bytes if it lives on.
        let early = plan.point.starts_with("lock.reap.") && run.reached().is_some();
        let mended = role == "writes" && !early;
        assert!(poisoned || !writer || mended, "{}: not poisoned", run.what);
    });
    survive(&run, &lock);
    run.reached()
}

/// One reader holds the lock; who waits to write is killed; the second reader comes in beside the first.
fn waiting_writer_killed(plan: &Plan, asleep: bool) -> Option<String> {
    let run = Run::new(format!("waiting writer killed at {plan:?}, {asleep}"));
    let (first, second) = (open(&run.name), open(&run.name));
    let user = User::new(!plan.on_tokio);
    let mut guard = Some(first.blocking_read(None).unwrap());
    let mut child = run.spawn("writes", "", Some(plan));
    let file = file_of(&path_of(&run.name));
    std::thread::scope(|scope| {
        let mut reader = None;
        if asleep && !ended_or(&mut child, || awaited(&file)) {
            reader = Some(scope.spawn(|| user.read(&second)));
        }
        if !ended_or(&mut child, || parked(&file) > 0 && awaited(&file)) {
            guard = None; // it waits for us, and is killed later or not at all
        }
        run.finish(child);
        match reader {
            Some(reader) => reader.join().unwrap(),
            None => user.read(&second),
        }
    });
    drop(guard);
    survive(&run, &second);
    run.reached()
}

/// The same with one who gives up again and again; it never gets the lock.
fn impatient_writer_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("impatient writer killed at {plan:?}"));
    let (first, second) = (open(&run.name), open(&run.name));
    let user = User::new(!plan.on_tokio);
    let guard = first.blocking_read(None).unwrap();
    let mut child = run.spawn("gives-up", "", Some(plan));
    loop {
        let ended = child.try_wait().unwrap().is_some();
        user.read(&second);
        if ended {
            break;
        }
    }
    run.finish(child);
    assert_eq!(read_all(&guard), 0, "{}", run.what);
    drop(guard);
    survive(&run, &second);
    run.reached()
}

/// A writer holds the lock; who waits to read is killed.
fn waiting_reader_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("waiting reader killed at {plan:?}"));
    let (first, second) = (open(&run.name), open(&run.name));
    let mut guard = first.blocking_write(None).unwrap();
    raise(&mut guard);
    let mut child = run.spawn("reads", "", Some(plan));
    let file = file_of(&path_of(&run.name));
    ended_or(&mut child, || parked(&file) > 0);
    drop(guard);
    run.finish(child);
    assert!(!second.is_poisoned(), "{}: a reader poisons nothing", run.what);
    survive(&run, &second);
    run.reached()
}

/// A reader holds the lock, a writer that waited is dead, and who finds its hint to be nobody's is killed.
fn heir_of_a_hint_killed(plan: &Plan) -> Option<String> {
    let run = Run::new(format!("killed at {plan:?} over a dead writer's hint"));
    let (first, second) = (open(&run.name), open(&run.name));
    let guard = first.blocking_read(None).unwrap();
    let mut writer = run.spawn("writes", "", None);
    let file = file_of(&path_of(&run.name));
    ended_or(&mut writer, || parked(&file) > 0);
    writer.kill().unwrap();
    run.finish(writer);
    let child = run.spawn("reads", "", Some(plan));
    run.finish(child);
    // The first one still holds it: the hint must not keep this one out.
    User::new(plan.on_tokio).read(&second);
    assert_eq!(read_all(&guard), 0, "{}", run.what);
    drop(guard);
    survive(&run, &second);
    run.reached()
}

/// The points that no process with a lock passes.
const OTHERS: [&str; 12] = [
    "rpc.",
    "producer.",
    "consumer.",
    "push.",
    "pop.",
    "notify.",
    "close.",
    "remove.",
    "value.",
    "grow.",
    "scalar.",
    "park.armed", // rings only; a lock's is lock.wait.armed
];

#[test]
fn killed_at_every_step_of_a_lock() {
    let _test = Test::lasting("killed at every step of a lock", Duration::from_secs(600));
    let table = table(|point| !OTHERS.iter().any(|other| point.starts_with(other)));
    let mut jobs: Vec<Job> = Vec::new();
    for point in &table {
        let locks = point.starts_with("lock.");
        let mut add = |pass: u32, on_tokio: bool, job: fn(&Plan) -> Option<String>| {
            let plan = Plan { point: point.clone(), pass, on_tokio };
            jobs.push(Box::new(move || job(&plan)));
        };
        for on_tokio in [false, true] {
            for pass in if locks { &[1, 2, 3, 4, 5, 8, 12, 17, 23, 30][..] } else { &[1, 2, 4, 9] }
            {
                add(*pass, on_tokio, |plan| churner_killed(plan, "churns", true));
            }
            add(1, on_tokio, |plan| churner_killed(plan, "attaches", false));
            add(3, on_tokio, |plan| churner_killed(plan, "attaches", true));
            for pass in [1, 2] {
                add(pass, on_tokio, |plan| reaper_killed(plan, "writes", true, false));
                add(pass, on_tokio, |plan| reaper_killed(plan, "writes", false, true));
                add(pass, on_tokio, |plan| reaper_killed(plan, "reads", true, true));
                add(pass, on_tokio, |plan| waiting_writer_killed(plan, false));
                add(pass, on_tokio, |plan| waiting_writer_killed(plan, true));
            }
            for pass in [1, 2, 3, 5, 8] {
                add(pass, on_tokio, impatient_writer_killed);
            }
            add(1, on_tokio, waiting_reader_killed);
            add(1, on_tokio, heir_of_a_hint_killed);
        }
        add(1, false, |plan| reaper_killed(plan, "tries", true, false));
        add(1, false, |plan| reaper_killed(plan, "tries", false, false));
    }
    let reached = in_lanes(jobs);
    ringspan::gc().unwrap(); // the doors of those whose death nobody had to notice
    let missed: Vec<_> = table.iter().filter(|point| !reached.contains(*point)).collect();
    assert!(missed.is_empty(), "points that no run reached: {missed:?}");
}
