//! Prints what `producer.rs` or `examples/python/producer.py` sends, until it closes the stream.
//! Start the two in any order, in two terminals:
//!
//! ```text
//! cargo run --example consumer
//! cargo run --example producer
//! ```

use ringspan::Ring;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Hello {
    n: u32,
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut rx = Ring::options().open_or_create("/hello")?.consumer()?;
    // Sleeps in the kernel while the ring is empty; `None` is the end of the stream.
    while let Some(Hello { n, text }) = rx.pop_value().await? {
        println!("{n} {text}");
    }
    Ok(())
}
