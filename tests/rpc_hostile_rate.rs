//! What a hostile client costs the others: an honest client keeps at least half of its undisturbed rate.
//! Both rates are taken in turns, many times, in one run; the enemy is stopped in between.
//!
//! An enemy also takes processor time, as any busy process does, and where there are few processors that
//! alone costs a third or more. It is not what is measured here: while the enemy is stopped, a process that
//! does nothing but spin takes its place.

#![allow(unsafe_code, reason = "the memory of a connection by hand")]

mod common;
mod rpc_by_hand;
mod rpc_enemies;
mod stage;

use common::{Peer, path_of};
use rpc_enemies::{answers, play};
use rustix::process::Signal;
use stage::{Test, role, scaled, until};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_millis(40);
const TURNS: u64 = 8;
const ATTEMPTS: usize = 5;

/// Does nothing unless it is a child.
#[test]
fn child_entry() {
    let Some(role) = role() else { return };
    if role.role == "spinner" {
        common::say("ready");
        loop {
            std::hint::spin_loop();
        }
    }
    play(&role, path_of(&role.name));
    std::process::exit(0);
}

/// One of them takes the other's place.
fn change(out: &Peer, into: &Peer) {
    out.signal(Signal::STOP);
    until(|| stage::state(out.pid()) == Some('T'));
    into.signal(Signal::CONT);
}

/// Answers in a second.
fn rate(good: &mut Peer) -> f64 {
    let (start, before) = (Instant::now(), answers(good));
    std::thread::sleep(WINDOW);
    (answers(good) - before) as f64 / start.elapsed().as_secs_f64()
}

/// The middle one.
fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

const SORTS: [&str; 14] = [
    "noise",
    "headers",
    "long records",
    "chunks",
    "too many bytes",
    "deadlines",
    "call and cancel",
    "credits",
    "bombs",
    "flood",
    "bells",
    "full bells",
    "comes and goes",
    "empty answers",
];

/// The share of its rate that the honest client keeps.
fn kept(good: &mut Peer, enemy: &Peer, spinner: &Peer) -> f64 {
    let share = |_| {
        change(enemy, spinner);
        let alone = rate(good);
        change(spinner, enemy);
        rate(good) / alone
    };
    middle((0..scaled(TURNS)).map(share).collect())
}

/// With one call at a time the delay counts, with 64 the work. One test after the other: they measure.
fn keeps_half(calls: &str) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let test = Test::lasting(&format!("rates with {calls} calls"), Duration::from_secs(180));
    let mut server = test.spawn("server", "");
    server.expect("ready");
    let (mut good, mut spinner) = (test.spawn("good", calls), test.spawn("spinner", ""));
    good.expect("ready");
    spinner.expect("ready");
    for sort in SORTS {
        let mut enemy = test.spawn("enemy", sort);
        enemy.expect("ready");
        let mut seen = Vec::new();
        // Somebody else may have been busy: again, before it counts; then once is not enough.
        let is_well = |seen: &[f64]| match seen {
            [first, ..] if *first >= 0.5 => true,
            others => others.iter().filter(|kept| **kept >= 0.5).count() >= 2,
        };
        while !is_well(&seen) {
            assert!(seen.len() < ATTEMPTS, "{sort}: {seen:.2?} of its undisturbed rate");
            seen.push(kept(&mut good, &enemy, &spinner));
        }
        if std::env::var_os("RINGSPAN_SHOW").is_some() {
            eprintln!("{calls:>2} {sort:>16}: {seen:.2?}");
        }
        enemy.kill9();
    }
    drop((good, spinner));
    ringspan::remove(&test.name).unwrap();
    server.finish();
    test.sweep_doors();
}

#[test]
fn an_honest_client_of_one_call_keeps_half_of_its_rate() {
    keeps_half("1");
}

#[test]
fn an_honest_client_of_many_calls_keeps_half_of_its_rate() {
    keeps_half("64");
}
