//! One cell of the comparison per call; `run.py` interleaves them.
//!
//! ```text
//! compare-cells list                          every cell as one JSON array
//! compare-cells run CELL [--seconds S]        measure one cell, print one JSON object
//! ```
//!
//! A cell is named `kind/size/pinning/subject`. Each subject is one small file that implements
//! [`link::Link`]; the same measuring loops ([`measure`]) drive all of them, always between two
//! processes: the program starts itself again as the other side.

mod bare;
mod cells;
mod child;
mod link;
mod measure;
mod memory;
mod os;
#[cfg(feature = "ringspan")]
mod ours;
#[cfg(feature = "peers")]
mod peers;

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
