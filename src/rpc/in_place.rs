//! Calls without copies at the server: the handler reads the arguments where they lie in the ring of
//! requests, and writes its result where it goes in the ring of responses.

use crate::ring::{RawProducer, Reservation, ReserveError};
use crate::rpc::wire::{HEAD_LEN, Head};

/// Where a handler of [`method_in_place`](super::ServiceBuilder::method_in_place) leaves its result: bytes
/// as they are. The last thing left counts; nothing left is an empty result.
#[derive(Debug)]
pub struct Reply<'a> {
    to: To<'a>,
    max: u64,
    kept: Kept,
}

#[derive(Debug)]
enum To<'a> {
    Ring(&'a mut RawProducer),
    /// For a call that cannot be answered in place.
    Aside(&'a mut Vec<u8>),
}

#[derive(Debug)]
enum Kept {
    Nothing,
    /// In the ring, not staged.
    InPlace(Reservation),
    /// The ring had no room.
    Aside(Vec<u8>),
    /// Above `max_message`.
    TooLarge(usize),
}

/// What [`Reply::finish`] could not stage.
#[derive(Debug)]
pub(crate) enum Left {
    /// To be sent as any other result.
    Aside(Vec<u8>),
    TooLarge(usize),
}

impl<'a> Reply<'a> {
    pub(crate) fn new(tx: &'a mut RawProducer, max: u64) -> Reply<'a> {
        Reply { to: To::Ring(tx), max, kept: Kept::Nothing }
    }

    pub(crate) fn aside(bytes: &'a mut Vec<u8>, max: u64) -> Reply<'a> {
        Reply { to: To::Aside(bytes), max, kept: Kept::Nothing }
    }

    /// Leaves a copy of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) {
        self.fill(bytes.len(), |place| place.copy_from_slice(bytes));
    }

    /// Lets `fill` write a result of `len` bytes; what stands there before is not defined. Above
    /// `max_message` it is not called, and the caller gets an error.
    ///
    /// ```
    /// # fn handler(args: &[u8], reply: &mut ringspan::rpc::Reply<'_>) {
    /// reply.fill(args.len(), |out| {
    ///     for (to, from) in out.iter_mut().zip(args) {
    ///         *to = 255 - from;
    ///     }
    /// });
    /// # }
    /// ```
    pub fn fill(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) {
        if len as u64 > self.max {
            self.kept = Kept::TooLarge(len);
            return;
        }
        let tx = match &mut self.to {
            To::Ring(tx) => tx,
            To::Aside(bytes) => {
                bytes.clear();
                bytes.resize(len, 0);
                return fill(bytes);
            }
        };
        match tx.reserve(HEAD_LEN + len) {
            Ok(room) => {
                fill(&mut tx.slice_mut(&room)[HEAD_LEN..]);
                self.kept = Kept::InPlace(room);
            }
            // No room now, longer than one frame, or damage, which the next use of the ring tells.
            Err(
                ReserveError::Full { .. } | ReserveError::TooLarge { .. } | ReserveError::Damage(_),
            ) => {
                let mut aside = vec![0; len];
                fill(&mut aside);
                self.kept = Kept::Aside(aside);
            }
        }
    }

    /// Puts the head before what is in place, and stages it.
    pub(crate) fn finish(self, head: Head) -> Result<(), Left> {
        let room = match self.kept {
            Kept::InPlace(room) => room,
            Kept::Aside(bytes) => return Err(Left::Aside(bytes)),
            Kept::Nothing => return Err(Left::Aside(Vec::new())),
            Kept::TooLarge(len) => return Err(Left::TooLarge(len)),
        };
        if let To::Ring(tx) = self.to {
            let len = room.len();
            tx.slice_mut(&room)[..HEAD_LEN].copy_from_slice(&head.to_bytes());
            tx.stage(room, len, 0, 0);
        }
        Ok(())
    }
}
