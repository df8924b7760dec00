//! shaq: an SPSC queue of values; the reader waits by futex or spins, the writer spins.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::time::Duration;

use shaq::spsc::{Consumer, Producer, minimum_file_size};

use crate::link::{Link, Place, Res};

/// Both directions of messages of `N` bytes.
pub struct Shaq<const N: usize, const BUSY: bool> {
    out: Producer<[u8; N]>,
    back: Consumer<[u8; N]>,
}

fn file(place: &Place, way: &str, len: usize) -> Res<File> {
    let path = place.path(way);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    file.set_len(len as u64)?;
    Ok(file)
}

fn join(place: &Place, way: &str) -> Res<File> {
    let path = place.path(way);
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

impl<const N: usize, const BUSY: bool> Link for Shaq<N, BUSY> {
    const LENDS: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        let len = minimum_file_size::<[u8; N]>(place.capacity / N);
        let (down, up) = (file(place, "down", len)?, file(place, "up", len)?);
        // SAFETY: fresh files, initialised here only, joined once each by the child with the same
        // type, which is plain bytes.
        let (out, back) = unsafe { (Producer::create(&down, len)?, Consumer::create(&up, len)?) };
        place.start(&[])?;
        Ok(Self { out, back })
    }

    async fn child(place: &Place) -> Res<Self> {
        let (down, up) = (join(place, "down")?, join(place, "up")?);
        // SAFETY: the parent initialised both before it started this process.
        let (out, back) = unsafe { (Producer::join(&up)?, Consumer::join(&down)?) };
        Ok(Self { out, back })
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        let mut value: [u8; N] = message.try_into()?;
        while let Err(refused) = self.out.try_write(value) {
            value = refused;
            std::hint::spin_loop();
        }
        Ok(())
    }

    async fn recv(&mut self, most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let most = NonZeroUsize::new(most.min(64) as usize).ok_or("asked for nothing")?;
        if BUSY {
            loop {
                if let Some(batch) = self.back.try_reserve_read_batch(most) {
                    return Ok(show(&batch, &mut see));
                }
                std::hint::spin_loop();
            }
        }
        let batch = self.back.reserve_read_batch_timeout(most, Duration::from_secs(20));
        Ok(show(&batch.map_err(|e| format!("{e:?}"))?, &mut see))
    }
}

fn show<const N: usize>(
    batch: &shaq::spsc::ReadBatch<'_, [u8; N]>,
    see: &mut impl FnMut(&[u8]),
) -> u64 {
    for value in batch {
        see(value);
    }
    batch.len() as u64
}
