//! One cell of the comparison per call; `run.py` interleaves them.
//!
//! ```text
//! compare-cells list                          every cell as one JSON array
//! compare-cells run CELL [--seconds S]        measure one cell, print one JSON object
//! ```
//!
//! A cell is named `kind/size/pinning/subject`. Each subject is one small file that implements
//! [`link::Link`], [`turns::Lock`], [`alone::ReadWrite`], [`latest::Latest`] or [`calls::Rpc`]; the
//! same measuring loops ([`measure`], or beside the trait) drive all of them. Where there are two
//! processes the program starts itself again as the other side.

#![cfg_attr(
    not(all(feature = "ringspan", feature = "peers")),
    allow(dead_code, reason = "some loops have subjects in one of them only")
)]

mod alone;
mod bare;
mod board;
mod calls;
mod cells;
mod child;
mod latest;
mod link;
mod measure;
mod memory;
mod os;
#[cfg(feature = "ringspan")]
mod ours;
#[cfg(feature = "peers")]
mod peers;
mod tally;
mod turns;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list"] => {
            println!("{}", cells::list());
            Ok(())
        }
        ["run", cell] => cells::run(cell, 0.5),
        ["run", cell, "--seconds", seconds] => match seconds.parse() {
            Ok(seconds) => cells::run(cell, seconds),
            Err(e) => Err(format!("--seconds {seconds}: {e}").into()),
        },
        ["child", cell, extra @ ..] => {
            cells::child(cell, extra.iter().map(|s| (*s).to_owned()).collect())
        }
        _ => Err("usage: compare-cells list | run CELL [--seconds S]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("compare-cells {}: {e}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}
