//! A configuration that any number of processes watch. Whoever comes late gets the latest; what was
//! replaced meanwhile is not kept.
//!
//! ```text
//! cargo run --example config -- watch /config      # in three terminals
//! cargo run --example config -- set /config 8 debug
//! cargo run --example config -- set /config 0 bye   # no workers: the watchers end
//! ```

use ringspan::Value;
use serde::{Deserialize, Serialize};
use std::error::Error;

#[derive(Debug, Serialize, Deserialize)]
struct Config {
    workers: u32,
    log: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["set", name, workers, log] => {
            let config = Config { workers: workers.parse()?, log: log.into() };
            Value::open_or_create(name)?.set(&config).await?;
        }
        ["watch", name] => {
            let mut watch = Value::<Config>::open_or_create(name)?.watch();
            loop {
                // Sleeps in the kernel until there is another configuration than the last one.
                let Config { workers, log } = watch.next().await?;
                println!("{workers} workers, log {log}");
                if workers == 0 {
                    return Ok(());
                }
            }
        }
        _ => return Err("usage: config watch NAME | set NAME WORKERS LOG".into()),
    }
    Ok(())
}
