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
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_millis(60);
const TURNS: u64 = 12;

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

#[test]
fn an_honest_client_keeps_half_of_its_rate() {
    let test = Test::lasting("rates", Duration::from_secs(180));
    let mut server = test.spawn("server", "");
    server.expect("ready");
    let tasks = std::env::var("RINGSPAN_TASKS").unwrap_or_else(|_| "64".into());
    let mut good = test.spawn("good", &tasks);
    good.expect("ready");
    let mut spinner = test.spawn("spinner", "");
    spinner.expect("ready");
    let mut slow = Vec::new();
    let sorts = [
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
    for sort in sorts {
        let mut enemy = test.spawn("enemy", sort);
        enemy.expect("ready");
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..scaled(TURNS) {
            change(&enemy, &spinner);
            alone.push(rate(&mut good));
            change(&spinner, &enemy);
            beside.push(rate(&mut good));
        }
        let kept = alone.iter().zip(&beside).map(|(alone, beside)| beside / alone).collect();
        let (alone, beside, kept) = (middle(alone), middle(beside), middle(kept));
        if std::env::var_os("RINGSPAN_SHOW").is_some() {
            eprintln!("{sort:>16}: {alone:>8.0}/s alone, {beside:>8.0}/s beside: {kept:.2}");
        }
        if kept < 0.5 {
            slow.push(format!("{sort}: {kept:.2}, {beside:.0}/s of {alone:.0}/s"));
        }
        enemy.kill9();
    }
    assert!(slow.is_empty(), "{slow:#?}");
    drop((good, spinner));
    ringspan::remove(&test.name).unwrap();
    server.finish();
    test.sweep_doors();
}
