//! Kill -9 at every step of a set, of a wait, and of what lies around them: the survivors find the
//! previous value or the new one, whole; who waits is woken when the new one is there; the next setter
//! gets his turn; nothing is left over.
//!
//! Each job is one kill at one pass of one point. It fails when a point of [`SETTER`] and the other
//! lists was reached in no run.
#![cfg(feature = "failpoints")]

mod common;
mod stage;

use common::{Peer, Watchdog, hear, path_of, say, unique_name};
use ringspan::{OpenError, SharedInt, Value};
use serde::{Deserialize, Serialize};
use stage::{Random, parked, role, standing_doors, state, until};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Sets of a whole series.
const COUNT: u64 = 9;
/// The index of the last message of a run.
const END: u64 = 99;

/// Where who sets is killed.
const SETTER: &str = "\
    attach.door attach.locked attach.claimed attach.rung lock.taken grow.reserved grow.told \
    value.prepared value.half value.written value.published lock.give lock.given wake.seen \
    wake.rung detach.begin detach.freed";
/// Where who waits for a change is killed.
const FOLLOWER: &str = "\
    park.begun meet.knock harvest.begin harvest.end door.accepted door.answered detach.rung \
    attach.rung";
/// Where who waits for his turn is killed.
const CONTENDER: &str = "\
    lock.wait.wanted lock.wait.hinted lock.wait.armed lock.wait.left lock.wait.rung \
    park.begun harvest.begin";
/// Where who finds a dead setter is killed.
const REAPER: &str = "lock.reap.proven lock.reap.cleared lock.reap.rung reap.proven reap.freed";
const CREATOR: &str = "\
    create.anonymous create.header create.claimed create.named door.bound attach.claimed";
const REMOVER: &str = "remove.marked remove.unlink";
const SCALAR: &str = "scalar.changed scalar.raised wake.seen wake.rung";

// ---- messages -----------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Message {
    index: u64,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

impl Message {
    /// Small ones, and such that take more room than any before.
    fn new(index: u64) -> Message {
        let len = match index {
            1 | 4 | 7 => 40,
            END => 100,
            _ => 300 << index,
        };
        let mut body = vec![0; len];
        Random::new(index).fill(&mut body);
        Message { index, body }
    }

    /// Its index; it must be whole.
    fn check(&self) -> u64 {
        assert!(*self == Message::new(self.index), "a torn value, index {}", self.index);
        self.index
    }
}

// ---- the children -------------------------------------------------------------------------------

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn set(value: &Value<Message>, index: u64, on_tokio: bool) {
    let message = Message::new(index);
    let update = |old: Option<Message>| {
        let _ = old.map(|old| old.check());
        message.clone()
    };
    match (index % 3, on_tokio) {
        (0, true) => runtime().block_on(value.update(update)).map(drop).unwrap(),
        (0, false) => value.blocking_update(update, None).map(drop).unwrap(),
        (_, true) => runtime().block_on(value.set(&message)).map(drop).unwrap(),
        (_, false) => value.blocking_set(&message, None).map(drop).unwrap(),
    }
}

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    let on_tokio = role.argument == "async";
    let open = || Value::<Message>::open(&role.name).unwrap();
    match role.role.as_str() {
        "sets" => {
            let value = open();
            say("ready");
            hear();
            for index in 1..=COUNT {
                set(&value, index, on_tokio);
                say(index);
            }
        }
        "follows" => follow(&open(), on_tokio, say),
        "contends" => {
            let (value, message) = (open(), Message::new(2));
            let brief = Duration::from_millis(5);
            match on_tokio {
                true => drop(runtime().block_on(async {
                    tokio::time::timeout(brief, value.set(&message)).await.unwrap_err()
                })),
                false => drop(value.blocking_set(&message, brief).unwrap_err()),
            }
            say("gave up");
            set(&value, 2, on_tokio);
        }
        "creates" => set(&Value::open_or_create(&role.name).unwrap(), 1, on_tokio),
        "removes" => match ringspan::remove(&role.name) {
            Ok(()) | Err(OpenError::NotFound(_)) => {}
            Err(err) => panic!("{err}"),
        },
        "adds" => {
            let int = SharedInt::open(&role.name).unwrap();
            say("ready");
            hear();
            for sum in 1..=COUNT {
                int.add(1).unwrap();
                say(sum);
            }
        }
        "follows int" => follow_int(&SharedInt::open(&role.name).unwrap(), on_tokio),
        other => panic!("role {other}"),
    }
    std::process::exit(0);
}

/// Tells of everything that it sees, until the last.
fn follow(value: &Value<Message>, on_tokio: bool, mut tell: impl FnMut(u64)) {
    let rt = runtime();
    let (mut version, mut last) = (0, None);
    while last != Some(END) {
        let next = match on_tokio {
            true => rt.block_on(value.changed(version)),
            false => value.blocking_changed(version, None),
        };
        assert!(next.unwrap() > version, "the version went back");
        let (read, message) = value.get_versioned().unwrap();
        let index = message.unwrap().check();
        assert!(read > version && Some(index) > last, "{index} after {last:?}");
        (version, last) = (read, Some(index));
        tell(index);
    }
}

fn follow_int(int: &SharedInt, on_tokio: bool) {
    let mut last = -1;
    while last != END as i64 {
        let more = |now| now > last;
        last = match on_tokio {
            true => runtime().block_on(int.wait_for(more)).unwrap(),
            false => int.blocking_wait_for(more, None).unwrap(),
        };
        say(last);
    }
}

// ---- the harness --------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy)]
struct Plan {
    point: &'static str,
    pass: u32,
    on_tokio: bool,
}

/// One run: a name, and a watchdog that tells of the plan.
struct Run {
    name: String,
    plan: Plan,
    _watchdog: Watchdog,
}

impl Run {
    fn new(who: &str, plan: Plan) -> Run {
        let watchdog = Watchdog::new(format!("{who} killed at {plan:?}"));
        Run { name: unique_name("kill"), plan, _watchdog: watchdog }
    }

    fn value(&self) -> Value<Message> {
        let value = Value::create(&self.name).unwrap();
        value.try_set(&Message::new(0)).unwrap();
        value
    }

    fn how(&self) -> &'static str {
        if self.plan.on_tokio { "async" } else { "blocking" }
    }

    /// A child that nobody kills.
    fn spawn(&self, role: &str) -> Peer {
        Peer::spawn(role, &[&self.name, self.how()])
    }

    /// The one that is killed.
    fn victim(&self, role: &str) -> Peer {
        let Plan { point, pass, .. } = self.plan;
        Peer::spawn_with(role, &[&self.name, self.how()], |command| {
            command.env("RINGSPAN_FAILPOINT", format!("{point}:{pass}"));
        })
    }

    fn parked(&self) -> u32 {
        parked(&path_of(&self.name))
    }

    /// The end of the victim: true if it was killed, else it must be a good one.
    fn ended(&self, mut victim: Peer) -> bool {
        let killed = victim.was_killed();
        assert!(killed || victim.wait().success(), "{:?}: {}", self.plan, victim.wait());
        killed
    }

    /// The next setter gets its turn; whoever looks for the dead takes them all out.
    fn ends_well(&self, value: &Value<Message>) {
        set(value, END, self.plan.on_tokio);
        let late = Value::<Message>::open(&self.name).unwrap();
        assert_eq!(late.get().unwrap().unwrap().check(), END);
        drop(late);
        until(|| {
            let _ = value.blocking_changed(None, Duration::ZERO);
            value.stat().unwrap().attached == 1
        });
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = ringspan::remove(&self.name);
        if !std::thread::panicking() {
            assert!(!path_of(&self.name).exists(), "{:?}", self.plan);
        }
    }
}

fn dead(peer: &Peer) -> bool {
    state(peer.pid()) == Some('Z')
}

// ---- who is killed ------------------------------------------------------------------------------

fn setter(plan: Plan) -> bool {
    let run = Run::new("setter", plan);
    let value = run.value();
    let seen = AtomicU64::new(0);
    let mut follower = run.spawn("follows");
    std::thread::scope(|scope| {
        scope.spawn(|| follow(&value, !plan.on_tokio, |index| seen.store(index, Ordering::SeqCst)));
        follower.expect("0");
        until(|| run.parked() == 2);
        let mut victim = run.victim("sets");
        let mut told = 0;
        if victim.try_hear().is_some() {
            until(|| run.parked() == 2); // its attach has woken them
            victim.say("go");
            while let Some(line) = victim.try_hear() {
                told = line.parse().unwrap();
            }
        }
        let killed = run.ended(victim);
        let (version, message) = value.get_versioned().unwrap();
        let now = message.unwrap().check();
        assert_eq!(version, now + 1, "{plan:?}");
        let published = match plan.point {
            "value.published" | "lock.give" | "lock.given" => told + 1,
            point if ["value", "grow", "lock"].iter().any(|area| point.starts_with(area)) => told,
            _ => now.clamp(told, told + 1),
        };
        assert!(!killed || now == published, "{plan:?}: {now} is there, {told} was told");
        // Nobody else has set anything: it is the publication, or the death, that wakes them.
        until(|| seen.load(Ordering::SeqCst) == now);
        let mut last = 0;
        while last != now {
            last = follower.hear().parse().unwrap();
        }
        run.ends_well_with(&value, follower);
        killed
    })
}

impl Run {
    fn ends_well_with(&self, value: &Value<Message>, mut follower: Peer) {
        set(value, END, self.plan.on_tokio);
        follower.expect(&END.to_string());
        follower.finish();
        self.ends_well(value);
    }
}

fn follower(plan: Plan) -> bool {
    let run = Run::new("follower", plan);
    let value = run.value();
    let other = Value::<Message>::open(&run.name).unwrap();
    let victim = std::thread::scope(|scope| {
        scope.spawn(|| follow(&other, plan.on_tokio, |_| ()));
        let mut victim = run.victim("follows");
        let hears = |victim: &mut Peer, index: u64| {
            while victim.try_hear().is_some_and(|line| line != index.to_string()) {}
        };
        hears(&mut victim, 0);
        for index in (1..=COUNT).chain([END]) {
            until(|| run.parked() == 2 || dead(&victim));
            set(&value, index, plan.on_tokio);
            hears(&mut victim, index);
        }
        victim
    });
    let killed = run.ended(victim);
    drop(other);
    assert_eq!(value.get().unwrap().unwrap().check(), END);
    run.ends_well(&value);
    killed
}

fn contender(plan: Plan) -> bool {
    let run = Run::new("contender", plan);
    let value = run.value();
    let mut victim = None;
    let held = |_: Option<Message>| {
        let victim = victim.insert(run.victim("contends"));
        until(|| dead(victim) || victim.has_said().is_some());
        until(|| dead(victim) || run.parked() == 1); // it has given up, and waits again
        Message::new(1)
    };
    value.blocking_update(held, None).unwrap();
    let killed = run.ended(victim.unwrap());
    let now = value.get().unwrap().unwrap().check();
    assert!(now == 2 || killed && now == 1, "{plan:?}: {now}");
    run.ends_well(&value);
    killed
}

/// A setter was killed in the middle; so is the one who takes him out.
fn reaper(plan: Plan) -> bool {
    let run = Run::new("reaper", plan);
    let value = run.value();
    let mut first = Peer::spawn_with("sets", &[&run.name, run.how()], |command| {
        command.env("RINGSPAN_FAILPOINT", "value.half:2");
    });
    first.expect("ready");
    first.say("go");
    first.expect("1");
    assert!(first.was_killed());
    let mut victim = run.victim("sets");
    if victim.try_hear().is_some() {
        victim.say("go");
    }
    let killed = run.ended(victim);
    let now = value.get().unwrap().unwrap().check();
    assert!(now == COUNT || killed, "{plan:?}: {now}");
    run.ends_well(&value);
    killed
}

fn creator(plan: Plan) -> bool {
    let run = Run::new("creator", plan);
    let killed = run.ended(run.victim("creates"));
    let value = Value::<Message>::open_or_create(&run.name).unwrap();
    let there = value.get().unwrap().map(|message| message.check());
    assert!(there.is_none_or(|index| index == 1), "{plan:?}: {there:?}");
    run.ends_well(&value);
    killed
}

fn remover(plan: Plan) -> bool {
    let run = Run::new("remover", plan);
    let value = run.value();
    let killed = run.ended(run.victim("removes"));
    assert_eq!(value.get().unwrap().unwrap().check(), 0);
    match ringspan::remove(&run.name) {
        Ok(()) | Err(OpenError::NotFound(_)) => {}
        Err(err) => panic!("{plan:?}: {err}"),
    }
    let fresh = run.value();
    run.ends_well(&fresh);
    killed
}

fn scalar(plan: Plan) -> bool {
    let run = Run::new("adder", plan);
    let int = SharedInt::create(&run.name).unwrap();
    let mut victim = run.victim("adds");
    victim.expect("ready");
    let mut follower = run.spawn("follows int");
    follower.expect("0");
    until(|| run.parked() == 1);
    victim.say("go");
    let mut told = 0;
    while let Some(line) = victim.try_hear() {
        told = line.parse().unwrap();
    }
    let killed = run.ended(victim);
    let now = int.load();
    // Who had said the last number was killed when it left, which rings too.
    let last = told == COUNT as i64;
    assert_eq!(now, if killed && !last { told + 1 } else { told }, "{plan:?}");
    let mut last = 0;
    while last != now {
        last = follower.hear().parse().unwrap();
    }
    int.store(END as i64).unwrap();
    follower.expect(&END.to_string());
    follower.finish();
    until(|| {
        let _ = int.blocking_changed(None, Duration::ZERO);
        int.stat().unwrap().attached == 1
    });
    killed
}

// ---- all of it ----------------------------------------------------------------------------------

type Job = (fn(Plan) -> bool, Plan);

fn jobs(wanted: &'static str, passes: &[u32], kill: fn(Plan) -> bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    for point in wanted.split(' ') {
        for &pass in passes {
            for on_tokio in [false, true] {
                jobs.push((kill, Plan { point, pass, on_tokio }));
            }
        }
    }
    jobs
}

/// How many runs go on at once.
const LANES: usize = 3;

#[test]
fn killed_at_every_step() {
    let mut left = jobs(SETTER, &[1, 2, 4], setter);
    left.extend(jobs(FOLLOWER, &[1, 2, 5], follower));
    left.extend(jobs(CONTENDER, &[1, 2], contender));
    left.extend(jobs(REAPER, &[1], reaper));
    left.extend(jobs(CREATOR, &[1], creator));
    left.extend(jobs(REMOVER, &[1], remover));
    left.extend(jobs(SCALAR, &[1, 3], scalar));
    let wanted: BTreeSet<_> = left.iter().map(|(_, plan)| plan.point).collect();
    let total = left.len();
    let (left, reached) = (Mutex::new(left), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let Some((kill, plan)) = left.lock().unwrap().pop() else { return };
                    if kill(plan) {
                        reached.lock().unwrap().push(plan.point);
                    }
                }
            });
        }
    });
    ringspan::gc().unwrap(); // the doors of those killed before they had a slot
    assert_eq!(standing_doors(), [""; 0]);
    let reached = reached.into_inner().unwrap();
    let kills = reached.len();
    let reached: BTreeSet<_> = reached.into_iter().collect();
    eprintln!("{kills} kills in {total} runs, {} of {} points", reached.len(), wanted.len());
    let missed: Vec<_> = wanted.difference(&reached).collect();
    assert!(missed.is_empty(), "points that no run reached: {missed:?}");
}
