//! One side of the pairing tests of shared functions (`tests/python/test_rpc_pairings.py`), the Rust twin of
//! `tests/python/rpc_peer.py`. Not a tutorial.
//!
//! ```text
//! rpc_peer serve NAME    serves the methods of `service.rs` until stdin ends; says `serving`, `ended`
//! rpc_peer call NAME     does the checks that come on stdin, one name a line; says `ok` or what is wrong
//! ```

mod calls;
mod item;
mod service;

use std::error::Error;
use std::io::{BufRead, stdin};

/// What every step here returns.
pub(crate) type Done<T> = Result<T, Box<dyn Error>>;

fn main() -> Done<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args[..] {
        ["serve", name] => runtime.block_on(service::serve(name)),
        ["call", name] => runtime.block_on(calls::run(name)),
        _ => Err("usage: rpc_peer serve|call NAME".into()),
    }
}

/// The lines of stdin, read by a thread.
pub(crate) fn lines() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (tell, lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
