//! An image that one process draws and others look at, under a lock: nobody sees half of a frame, and a
//! painter that is killed in the middle of one tells on it.
//!
//! ```text
//! cargo run --example image -- look /image 50     # in two terminals
//! cargo run --example image -- draw /image 50
//! ```

use ringspan::{LockError, RwLock, SharedInt, View};
use std::error::Error;

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
/// Number of the frame, before the pixels.
const HEADER: usize = 8;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(verb), Some(name), Some(count)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: image draw|look NAME FRAMES".into());
    };
    let count: i64 = count.parse()?;
    let image = RwLock::open_or_create(&name, HEADER + WIDTH * HEIGHT)?;
    // Beside the lock a number that says when to look again.
    let drawn = SharedInt::open_or_create(&format!("{name}-drawn"))?;
    if verb == "draw" {
        for frame in 1..=count {
            let mut bytes = match image.write().await {
                // Somebody was killed while it drew. The whole frame is drawn anew, so that is mended.
                Err(LockError::Poisoned(poisoned)) => {
                    image.clear_poison()?;
                    poisoned.into_inner()
                }
                other => other.map_err(LockError::into_fault)?,
            };
            View::new(&mut bytes).write(frame)?;
            bytes[HEADER..].fill(frame as u8);
            drop(bytes); // the readers' turn
            drawn.store(frame)?;
        }
        return Ok(());
    }
    let (mut seen, mut torn) = (0, 0);
    while seen < count {
        drawn.wait_for(|frame| frame > seen).await?;
        let bytes = image.read().await.map_err(LockError::into_fault)?;
        seen = View::read_only(&bytes).read::<i64>()?;
        torn += usize::from(bytes[HEADER..].iter().any(|&pixel| pixel != seen as u8));
    }
    println!("last frame {seen}, {torn} torn");
    Ok(())
}
