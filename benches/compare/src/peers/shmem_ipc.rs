//! shmem-ipc: a ring of bytes over a memfd, two eventfds, blocking or spinning.
//!
//! The cells send messages of one size and a ring of a multiple of it, so none is ever split.

use std::fs::File;

use shmem_ipc::sharedring::{Receiver, Sender};

use crate::link::{Link, Place, Res};
use crate::os;

/// Both directions.
pub struct ShmemIpc<const BUSY: bool> {
    out: Sender<u8>,
    back: Receiver<u8>,
    size: usize,
}

fn bytes(place: &Place) -> usize {
    place.capacity / place.size * place.size
}

fn pass(files: [&File; 3], extra: &mut Vec<String>) -> Res<()> {
    for file in files {
        extra.push(os::inherit(file)?.to_string());
    }
    Ok(())
}

impl<const BUSY: bool> Link for ShmemIpc<BUSY> {
    const LENDS: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        let (out, back) = (Sender::new(bytes(place))?, Receiver::new(bytes(place))?);
        let mut extra = Vec::new();
        pass([out.memfd().as_file(), out.empty_signal(), out.full_signal()], &mut extra)?;
        pass([back.memfd().as_file(), back.empty_signal(), back.full_signal()], &mut extra)?;
        place.start(&extra)?;
        Ok(Self { out, back, size: place.size })
    }

    async fn child(place: &Place) -> Res<Self> {
        let file = |n| -> Res<File> { Ok(os::inherited(place.extra(n)?)) };
        Ok(Self {
            back: Receiver::open(bytes(place), file(0)?, file(1)?, file(2)?)?,
            out: Sender::open(bytes(place), file(3)?, file(4)?, file(5)?)?,
            size: place.size,
        })
    }

    async fn send(&mut self, message: &[u8]) -> Res<()> {
        let mut done = false;
        loop {
            self.out.send_raw(|at, room| {
                if room < message.len() {
                    return 0;
                }
                // SAFETY: `room` bytes at `at` belong to the sender until it returns.
                unsafe { at.copy_from_nonoverlapping(message.as_ptr(), message.len()) };
                done = true;
                message.len()
            })?;
            if done {
                return Ok(());
            }
            if BUSY {
                std::hint::spin_loop();
            } else {
                self.out.block_until_writable()?;
            }
        }
    }

    async fn recv(&mut self, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let size = self.size;
        let mut got = 0;
        loop {
            self.back.receive_raw(|at, there| {
                got = (there / size).min(64);
                for n in 0..got {
                    // SAFETY: `there` bytes at `at` stay the receiver's until it returns.
                    see(unsafe { std::slice::from_raw_parts(at.add(n * size), size) });
                }
                got * size
            })?;
            if got > 0 {
                return Ok(got as u64);
            }
            if BUSY {
                std::hint::spin_loop();
            } else {
                self.back.block_until_readable()?;
            }
        }
    }
}
