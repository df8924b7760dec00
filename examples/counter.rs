//! A number that many processes add to, and one waits for.
//!
//! ```text
//! cargo run --example counter -- wait /jobs 3000
//! cargo run --example counter -- add /jobs 1000      # three times, at once or later
//! ```

use ringspan::SharedInt;
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(verb), Some(name), Some(count)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: counter add|wait NAME COUNT".into());
    };
    let count: i64 = count.parse()?;
    let jobs = SharedInt::open_or_create(&name)?;
    if verb == "add" {
        for _ in 0..count {
            jobs.add(1)?;
        }
    } else {
        println!("{}", jobs.wait_for(|done| done >= count).await?);
    }
    Ok(())
}
