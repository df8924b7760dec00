//! Calls the function that `add_server.rs`, or `add.py` in Python, serves.

use ringspan::rpc::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let add = Client::connect("/add").await?;
    let sum: i64 = add.call(&(2, 3)).await?;
    println!("{sum}");
    Ok(())
}
