//! Sends three values; `consumer.rs` and `examples/python/consumer.py` print them. Start the two in
//! any order, in two terminals:
//!
//! ```text
//! cargo run --example consumer
//! cargo run --example producer
//! ```

use ringspan::Ring;
use serde::Serialize;

#[derive(Serialize)]
struct Hello {
    n: u32,
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    // Opens the ring, or makes it when the consumer has not yet.
    let mut tx = Ring::options().open_or_create("/hello")?.producer()?;
    for n in 0..3 {
        // Waits (asleep) only while the ring is full.
        tx.push_value(&Hello { n, text: "hello".into() }).await?;
    }
    tx.close()?; // the consumer sees the end of the stream
    Ok(())
}
