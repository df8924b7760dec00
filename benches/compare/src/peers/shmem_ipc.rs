//! shmem-ipc: a ring of bytes over a memfd, two eventfds, blocking or spinning.
//!
//! Its ring is not a multiple of the message, so one that meets the end is sent in two parts.

use std::fs::File;

use shmem_ipc::sharedring::{Receiver, Sender};

use crate::link::{Link, Place, Res};
use crate::os;

/// Both directions.
pub struct ShmemIpc<const BUSY: bool> {
    out: Sender<u8>,
    back: Receiver<u8>,
    size: usize,
    /// The first half of a message that was split.
    part: Vec<u8>,
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
        let (out, back) = (Sender::new(place.capacity)?, Receiver::new(place.capacity)?);
        let mut extra = Vec::new();
        pass([out.memfd().as_file(), out.empty_signal(), out.full_signal()], &mut extra)?;
        pass([back.memfd().as_file(), back.empty_signal(), back.full_signal()], &mut extra)?;
        place.start(&extra)?;
        Ok(Self { out, back, size: place.size, part: Vec::new() })
    }

    async fn child(place: &Place) -> Res<Self> {
        let file = |n| -> Res<File> { Ok(os::inherited(place.extra(n)?)) };
        Ok(Self {
            back: Receiver::open(place.capacity, file(0)?, file(1)?, file(2)?)?,
            out: Sender::open(place.capacity, file(3)?, file(4)?, file(5)?)?,
            size: place.size,
            part: Vec::new(),
        })
    }

    async fn send(&mut self, mut message: &[u8]) -> Res<()> {
        loop {
            self.out.send_raw(|at, room| {
                let (now, later) = message.split_at(room.min(message.len()));
                // SAFETY: `room` bytes at `at` belong to the sender until it returns.
                unsafe { at.copy_from_nonoverlapping(now.as_ptr(), now.len()) };
                message = later;
                now.len()
            })?;
            if message.is_empty() {
                return Ok(());
            }
            if BUSY {
                std::hint::spin_loop();
            } else {
                self.out.block_until_writable()?;
            }
        }
    }

    async fn recv(&mut self, most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let (size, part) = (self.size, &mut self.part);
        loop {
            let mut got = 0;
            self.back.receive_raw(|at, there| {
                // SAFETY: `there` bytes at `at` stay the receiver's until it returns.
                let there = unsafe { std::slice::from_raw_parts(at, there) };
                if !part.is_empty() || there.len() < size {
                    let take = there.len().min(size - part.len());
                    part.extend_from_slice(&there[..take]);
                    if part.len() == size {
                        see(part);
                        part.clear();
                        got = 1;
                    }
                    return take;
                }
                for message in there.chunks_exact(size).take(most.min(64) as usize) {
                    see(message);
                    got += 1;
                }
                got as usize * size
            })?;
            if got > 0 {
                return Ok(got);
            }
            if BUSY {
                std::hint::spin_loop();
            } else {
                self.back.block_until_readable()?;
            }
        }
    }
}
