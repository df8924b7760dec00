//! A spinning SPSC ring that carries the same framed records as ringspan: an 8-byte header
//! (length, tag, flags) and the payload, 8-byte aligned, contiguous, a filler at the wrap.
//!
//! Both sides keep a copy of the other's index and read the shared one only when the copy runs
//! out; the indices sit on their own 128 bytes; there is no fence and nobody ever sleeps.
//! `EVERY` is how many messages share one store of the tail: 1, or 16 for the batched limit.

use std::fs::File;
use std::hint::spin_loop;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::link::{Link, Place, Res};
use crate::os;

const HEAD: usize = 0;
const TAIL: usize = 128;
const DATA: usize = 256;
const FILLER: u64 = 0xff << 32;

/// One direction, seen from one side.
struct Half {
    base: *mut u8,
    mask: u64,
    /// Our own index, and how far of it the other side was told.
    mine: u64,
    told: u64,
    /// The other side's index as last seen.
    theirs: u64,
}

impl Half {
    fn new(base: *mut u8, capacity: usize) -> Self {
        Self { base, mask: capacity as u64 - 1, mine: 0, told: 0, theirs: 0 }
    }

    #[inline(always)]
    fn index(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the mapping is page aligned, longer than DATA and lives as long as the process.
        unsafe { &*self.base.add(offset).cast() }
    }

    #[inline(always)]
    fn at(&self, position: u64) -> *mut u8 {
        // SAFETY: the mask keeps the offset inside the data that follows the indices.
        unsafe { self.base.add(DATA + (position & self.mask) as usize) }
    }

    #[inline(always)]
    fn tell(&mut self, offset: usize) {
        // Release: pairs with the Acquire of the other side in `push` and `available`.
        self.index(offset).store(self.mine, Ordering::Release);
        self.told = self.mine;
    }

    #[inline(always)]
    fn push(&mut self, message: &[u8]) {
        let need = 8 + (message.len() as u64).next_multiple_of(8);
        let to_end = self.mask + 1 - (self.mine & self.mask);
        let skip = if to_end < need { to_end } else { 0 };
        while self.mask + 1 - (self.mine - self.theirs) < skip + need {
            if self.told != self.mine {
                self.tell(TAIL);
            }
            // Acquire: pairs with the consumer's Release; what it has read may be overwritten.
            self.theirs = self.index(HEAD).load(Ordering::Acquire);
            if self.mask + 1 - (self.mine - self.theirs) >= skip + need {
                break;
            }
            spin_loop();
        }
        // SAFETY: the room checked above belongs to the producer until it moves the tail; records
        // are 8-byte aligned and contiguous.
        unsafe {
            if skip != 0 {
                self.at(self.mine).cast::<u64>().write(FILLER | (skip - 8));
                self.mine += skip;
            }
            let record = self.at(self.mine);
            record.cast::<u64>().write(message.len() as u64);
            std::ptr::copy_nonoverlapping(message.as_ptr(), record.add(8), message.len());
        }
        self.mine += need;
    }

    /// Spins until there is a record.
    #[inline(always)]
    fn available(&mut self) {
        while self.theirs == self.mine {
            // Acquire: pairs with the producer's Release; the records before it are visible.
            self.theirs = self.index(TAIL).load(Ordering::Acquire);
            if self.theirs != self.mine {
                break;
            }
            // Only after a look in vain: a pause costs as much as several messages.
            spin_loop();
        }
    }

    /// Shows the next record; false for a filler.
    #[inline(always)]
    fn pop(&mut self, see: &mut impl FnMut(&[u8])) -> bool {
        // SAFETY: the producer published this record and does not touch it until the head moves.
        let (header, payload) = unsafe {
            let record = self.at(self.mine);
            let header = record.cast::<u64>().read();
            let len = header as u32 as usize;
            (header, std::slice::from_raw_parts(record.add(8), len))
        };
        self.mine += 8 + (payload.len() as u64).next_multiple_of(8);
        let real = header & FILLER == 0;
        if real {
            see(payload);
        }
        real
    }
}

/// Two such rings, one per direction.
pub struct Ring<const EVERY: u64> {
    out: Half,
    back: Half,
    held: u64,
}

impl<const EVERY: u64> Ring<EVERY> {
    fn over(file: &File, place: &Place, parent: bool) -> Res<Self> {
        let len = DATA + place.capacity;
        let base = os::map(file, 2 * len.next_multiple_of(4096))?;
        // SAFETY: the mapping holds both directions.
        let second = unsafe { base.add(len.next_multiple_of(4096)) };
        let (out, back) = if parent { (base, second) } else { (second, base) };
        let half = |base| Half::new(base, place.capacity);
        Ok(Self { out: half(out), back: half(back), held: 0 })
    }
}

impl<const EVERY: u64> Link for Ring<EVERY> {
    const LENDS: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        assert!(place.capacity.is_power_of_two(), "the cells ask for powers of two");
        let file = os::shared_file(2 * (DATA + place.capacity).next_multiple_of(4096))?;
        place.start(&[os::inherit(&file)?.to_string()])?;
        Self::over(&file, place, true)
    }

    async fn child(place: &Place) -> Res<Self> {
        Self::over(&os::inherited(place.extra::<RawFd>(0)?), place, false)
    }

    #[inline(always)]
    async fn send(&mut self, message: &[u8]) -> Res<()> {
        self.out.push(message);
        self.held += 1;
        if EVERY == 1 || self.held == EVERY {
            self.held = 0;
            self.out.tell(TAIL);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Res<()> {
        self.held = 0;
        self.out.tell(TAIL);
        Ok(())
    }

    #[inline(always)]
    async fn recv(&mut self, most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        let mut got = 0;
        self.back.available();
        if EVERY == 1 {
            while !self.back.pop(&mut see) {
                self.back.available();
            }
            got = 1;
        } else {
            let most = most.min(64);
            while got < most && self.back.theirs != self.back.mine {
                got += u64::from(self.back.pop(&mut see));
            }
        }
        self.back.tell(HEAD);
        Ok(got)
    }
}
