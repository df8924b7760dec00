//! A function that any process of this user can call: `add_client.rs`, and `add.py` in Python.
//!
//! ```text
//! cargo run --example add_server
//! cargo run --example add_client       # in another terminal
//! python examples/python/add.py call 2 3
//! ```
//!
//! It serves until Ctrl-C, or until somebody removes the name.

use ringspan::rpc;

async fn add((a, b): (i64, i64)) -> rpc::Answer<i64> {
    Ok(a + b)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = rpc::serve("/add", add).await?;
    server.join().await; // until somebody removes the name
    Ok(())
}
