//! The same verbs without a runtime: threads that park in the kernel.
//!
//! ```text
//! cargo run --example blocking -- recv /lines
//! cargo run --example blocking -- send /lines one two three
//! ```
//!
//! The sender waits for a receiver first. Kill the sender before it is done, and the receiver says so
//! and waits for the next one.

use ringspan::{PopError, Ring};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(verb), Some(name)) = (args.next(), args.next()) else {
        return Err("usage: blocking send|recv NAME [WORD]...".into());
    };
    // Ephemeral: the last one out removes the name.
    let ring = Ring::options().capacity(64 << 10).ephemeral(true).open_or_create(&name)?;
    if verb == "send" {
        let mut tx = ring.producer()?;
        tx.blocking_attached(None)?;
        for word in args {
            // A time-out is an error that names the ring; `None` would wait for as long as it takes.
            tx.blocking_push(word.as_bytes(), Duration::from_secs(30))?;
        }
        tx.close()?;
        return Ok(());
    }
    let mut rx = ring.consumer()?;
    loop {
        match rx.blocking_pop(None) {
            // The message lies in the ring until it is dropped; it derefs to its bytes.
            Ok(Some(message)) => println!("{}", String::from_utf8_lossy(&message)),
            Ok(None) => return Ok(()),
            Err(PopError::PeerDied { fault, .. }) => println!("{fault}"),
            Err(other) => return Err(other.into()),
        }
    }
}
