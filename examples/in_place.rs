//! Large messages without copies: filled where they lie in the ring, read where they lie.
//!
//! ```text
//! cargo run --example in_place -- recv /frames
//! cargo run --example in_place -- send /frames 100
//! ```

use ringspan::Ring;
use std::error::Error;

const FRAME: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(verb), Some(name)) = (args.next(), args.next()) else {
        return Err("usage: in_place send|recv NAME [FRAMES]".into());
    };
    // Large messages move fastest through 4 to 8 MiB. A message is at most a quarter of the ring
    // unless `max_message` says more.
    let ring = Ring::options().capacity(8 << 20).ephemeral(true).open_or_create(&name)?;
    if verb == "send" {
        let frames = args.next().map_or(Ok(10), |text| text.parse::<u64>())?;
        let mut tx = ring.producer()?;
        tx.attached().await?;
        for n in 0..frames {
            let mut frame = tx.reserve(FRAME).await?;
            frame.fill(n as u8); // this writes into the ring
            let used = FRAME - n as usize; // less than reserved is fine
            frame.commit(used); // a grant that is dropped instead publishes nothing
        }
        tx.close()?;
        return Ok(());
    }
    let mut rx = ring.consumer()?;
    let (mut frames, mut bytes, mut sum) = (0_u64, 0_usize, 0_u64);
    while let Some(frame) = rx.pop().await? {
        // `frame` borrows the ring; the room is given back when it is dropped.
        sum += frame.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        bytes += frame.len();
        frames += 1;
    }
    println!("{frames} frames, {bytes} bytes, sum {sum}");
    Ok(())
}
