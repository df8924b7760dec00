//! Every structure of shared memory, with frozen offsets. Fixed-width integers only, little-endian,
//! hot words of different writers on different 128-byte lines.
//!
//! ```text
//! offset 0     Header     constants (32 words, checksummed, never change) | state line
//!        384   Slots      n x 128 bytes: tag, waiting, hints        (ring 2, function 1, others 48)
//!              Kind       ring indices / lock word / versions       (128-byte lines)
//!              DoorPath   128 bytes: the directory of the doors, for messages
//!              Meta       what an array says of its payload; other kinds have none
//!              Payload    page aligned
//! ```
//!
//! | struct | size | writer | reader |
//! |---|---|---|---|
//! | `Header.words` | 256 | the creator, before the name exists | everybody, once, copied out |
//! | `Header.state` | 8 | a remover | everybody |
//! | `Header.parked` | 8 | each owner of a slot its bit | wakers |
//! | `Slot.tag` | 8 | attacher (0 to tag), owner or reaper (tag to 0) | everybody |
//! | `Slot.waiting` | 8 | owner (n), waker (n to 0) | wakers |
//! | `Slot` hints | 40 | owner, after attaching | everybody, valid while `hints_for` = `tag` |
//! | `RingProducerLine` | 128 | the producer | the consumer |
//! | `RingConsumerLine` | 128 | the consumer | the producer |
//! | `LockLine` | 128 | whoever takes or gives the lock | the same |
//! | `LockSeat` | 128 | the owner of the slot of its number | everybody |
//! | `VersionLine`, `BufferLine` | 128 | who holds the lock | everybody |
//! | `ScalarLine` | 128 | everybody | everybody |
//!
//! A change of any offset or meaning raises [`LAYOUT_VERSION`]; `docs/format.md` has the table.
//! Constants are read once as a snapshot ([`Constants`]); after that nothing but atomics is read.

mod kinds;
mod pair;

#[cfg(all(test, ringspan_loom))]
pub(crate) use kinds::VersionLine;
pub(crate) use kinds::{
    ArrayArea, BufferLine, BytesLine, LockArea, LockSeat, RingIndices, SEATS, ScalarLine, ValueArea,
};

pub(crate) use pair::{PAIR_PAYLOAD, PAIR_VERSION, PairArea};

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// First eight bytes of every segment.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"RINGSPAN");
/// Raised with every change of an offset or a meaning.
pub(crate) const LAYOUT_VERSION: u32 = 2;
/// Reads differently on a machine of the other byte order.
pub(crate) const ORDER_TAG: u32 = 0x0102_0304;
/// Bytes before the first slot.
pub(crate) const HEADER_LEN: usize = 384;
/// Words in the constant part of the header; the last is the checksum.
pub(crate) const WORDS: usize = 32;
/// Words that belong to the kind.
pub(crate) const PARAMS: usize = 8;
/// Payloads start on a page.
pub(crate) const PAGE: usize = 4096;

/// Bytes of meta that an object can have at most.
pub(crate) const MAX_META: u64 = 1 << 20;

/// The last one out removes the segment.
pub(crate) const FLAG_EPHEMERAL: u32 = 1;

/// `Header.state`: the name has been (or is being) removed.
pub(crate) const STATE_REMOVED: u64 = 1;

/// What lives in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Plain bytes that can be awaited.
    Bytes,
    /// A single-producer, single-consumer ring of messages.
    Ring,
    /// A reader-writer lock over bytes.
    Lock,
    /// A latest value.
    Value,
    /// Bytes under a lock that can be awaited and say what they are: an array.
    Array,
    /// A function or service.
    Function,
    /// A shared 64-bit integer.
    Int,
    /// A shared 64-bit float.
    Float,
    /// A shared truth value.
    Bool,
}

impl Kind {
    const ALL: [(Kind, u32, &'static str); 9] = [
        (Kind::Bytes, 1, "segment"),
        (Kind::Ring, 2, "ring"),
        (Kind::Lock, 3, "lock"),
        (Kind::Value, 4, "value"),
        (Kind::Array, 5, "array"),
        (Kind::Function, 6, "function"),
        (Kind::Int, 7, "shared int"),
        (Kind::Float, 8, "shared float"),
        (Kind::Bool, 9, "shared bool"),
    ];

    pub(crate) fn code(self) -> u32 {
        Self::ALL.iter().find(|k| k.0 == self).map_or(0, |k| k.1)
    }

    pub(crate) fn from_code(code: u32) -> Option<Kind> {
        Self::ALL.iter().find(|k| k.1 == code).map(|k| k.0)
    }

    /// The word used in messages: "ring", "segment", ...
    pub fn noun(self) -> &'static str {
        Self::ALL.iter().find(|k| k.0 == self).map_or("object", |k| k.2)
    }

    /// The kind of that word.
    #[cfg(feature = "python")]
    pub(crate) fn from_noun(noun: &str) -> Option<Kind> {
        Self::ALL.iter().find(|k| k.2 == noun).map(|k| k.0)
    }

    /// How many endpoints can be attached at once.
    pub(crate) fn slots(self) -> usize {
        match self {
            Kind::Ring => 2,
            Kind::Function => 1,
            _ => SEATS,
        }
    }
}

/// A type that may be laid over shared memory.
///
/// # Safety
///
/// `repr(C)`, made of atomics (or arrays of them) only: every bit pattern is valid, and a shared
/// reference allows writes by anybody at any time. Size and alignment are at most what the layout
/// gives it, which `region` checks before it makes a reference.
#[allow(unsafe_code, reason = "the marker that the casts in region/map.rs rely on")]
pub(crate) unsafe trait Shared {}

/// Start of every segment. `words` never change once the name exists.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Header {
    /// The constant part; see [`Constants`] for the fields.
    pub(crate) words: [AtomicU64; WORDS],
    /// 0 or [`STATE_REMOVED`].
    pub(crate) state: AtomicU64,
    /// Bytes in the file; only values grow it.
    pub(crate) total: AtomicU64,
    /// One bit for each slot whose owner may be asleep; the owner alone sets and clears it. Kinds
    /// with two slots do without.
    pub(crate) parked: AtomicU64,
    pad: [AtomicU64; 13],
}

/// One attached endpoint. Two states: `tag == 0` free, else taken.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Slot {
    /// The attachment's random name, 0 when free.
    pub(crate) tag: AtomicU64,
    /// The park number of the sleeper, 0 when awake.
    pub(crate) waiting: AtomicU64,
    /// The tag that was last reaped here as dead.
    pub(crate) died: AtomicU64,
    /// The tag for which the following hints were written.
    pub(crate) hints_for: AtomicU64,
    /// Process id as its own namespace counts.
    pub(crate) pid: AtomicU32,
    /// The cpu on which the owner last looked, plus one; 0 unknown.
    pub(crate) last_cpu: AtomicU32,
    /// Start time of the process in clock ticks since boot.
    pub(crate) start: AtomicU64,
    /// Inode of the pid namespace.
    pub(crate) pid_ns: AtomicU64,
    /// The tag, while the owner only keeps its place and wants nothing of the bytes.
    pub(crate) resting: AtomicU64,
    pad: [AtomicU64; 7],
}

/// Where the creator found the directory of the doors, zero padded; for messages only.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct DoorPath {
    /// The bytes, eight to a word.
    pub(crate) words: [AtomicU64; 16],
}

impl DoorPath {
    /// Writes a path of at most 128 bytes.
    pub(crate) fn store(&self, path: &[u8]) {
        for (word, chunk) in self.words.iter().zip(path.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed); // Relaxed: before the name
        }
    }

    /// The path, as far as it is text.
    pub(crate) fn load(&self) -> String {
        let bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()) // Relaxed: for messages
            .take_while(|&byte| byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[allow(unsafe_code, reason = "the marker that the casts in region/map.rs rely on")]
mod shared {
    use super::*;
    // SAFETY: repr(C), atomics and arrays of atomics only.
    unsafe impl Shared for Header {}
    // SAFETY: repr(C), atomics and arrays of atomics only.
    unsafe impl Shared for Slot {}
    // SAFETY: repr(C), atomics and arrays of atomics only.
    unsafe impl Shared for DoorPath {}
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// Zeroed structures on the heap, for tests and models of the algorithms over them.
#[allow(dead_code, reason = "tests and loom models only")]
impl Slot {
    pub(crate) fn new() -> Self {
        let word = || AtomicU64::new(0);
        Slot {
            tag: word(),
            waiting: word(),
            died: word(),
            hints_for: word(),
            pid: AtomicU32::new(0),
            last_cpu: AtomicU32::new(0),
            start: word(),
            pid_ns: word(),
            resting: word(),
            pad: zeros(),
        }
    }
}

/// A snapshot of the constant part of a [`Header`], in our own memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Constants {
    pub(crate) version: u32,
    pub(crate) order: u32,
    pub(crate) kind: u32,
    pub(crate) header_len: u32,
    pub(crate) flags: u32,
    pub(crate) slots: u32,
    /// Nanoseconds since the epoch.
    pub(crate) created_at: u64,
    pub(crate) creator_pid: u32,
    pub(crate) creator_start: u64,
    pub(crate) total: u64,
    pub(crate) kind_off: u64,
    pub(crate) kind_len: u64,
    pub(crate) payload_off: u64,
    pub(crate) payload_len: u64,
    pub(crate) meta_off: u64,
    pub(crate) meta_len: u64,
    pub(crate) door_dev: u64,
    pub(crate) door_ino: u64,
    pub(crate) instance: [u64; 2],
    pub(crate) params: [u64; PARAMS],
}

const fn pack(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

const fn low(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// FNV-1a over the words, 64 bits.
pub(crate) fn checksum(words: &[u64]) -> u64 {
    fnv1a(words.iter().flat_map(|w| w.to_le_bytes()))
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo: draft-eastlake-fnv).
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Constants {
    /// The words as they stand in shared memory, checksum included.
    pub(crate) fn to_words(self) -> [u64; WORDS] {
        let mut w = [0; WORDS];
        w[0] = MAGIC;
        w[1] = pack(self.version, self.order);
        w[2] = pack(self.kind, self.header_len);
        w[3] = pack(self.flags, self.slots);
        w[4] = self.created_at;
        w[5] = pack(self.creator_pid, 0);
        w[6] = self.creator_start;
        w[7] = self.total;
        w[8] = self.kind_off;
        w[9] = self.kind_len;
        w[10] = self.payload_off;
        w[11] = self.payload_len;
        w[12] = self.meta_off;
        w[13] = self.meta_len;
        w[14] = self.door_dev;
        w[15] = self.door_ino;
        w[16..18].copy_from_slice(&self.instance);
        w[18..18 + PARAMS].copy_from_slice(&self.params);
        w[WORDS - 1] = checksum(&w[..WORDS - 1]);
        w
    }

    /// The fields of a snapshot; magic and checksum are looked at by the caller.
    pub(crate) fn from_words(w: &[u64; WORDS]) -> Self {
        let mut params = [0; PARAMS];
        params.copy_from_slice(&w[18..18 + PARAMS]);
        Constants {
            version: low(w[1]),
            order: high(w[1]),
            kind: low(w[2]),
            header_len: high(w[2]),
            flags: low(w[3]),
            slots: high(w[3]),
            created_at: w[4],
            creator_pid: low(w[5]),
            creator_start: w[6],
            total: w[7],
            kind_off: w[8],
            kind_len: w[9],
            payload_off: w[10],
            payload_len: w[11],
            meta_off: w[12],
            meta_len: w[13],
            door_dev: w[14],
            door_ino: w[15],
            instance: [w[16], w[17]],
            params,
        }
    }
}

impl Header {
    /// The constant words, of their bytes in the file.
    pub(crate) fn words_of(start: &[u8; WORDS * 8]) -> [u64; WORDS] {
        let (words, _) = start.as_chunks::<8>();
        std::array::from_fn(|i| u64::from_ne_bytes(words[i]))
    }

    /// Writes the constant part; only the creator, before anybody else can see the file.
    pub(crate) fn store(&self, constants: Constants) {
        for (word, value) in self.words.iter().zip(constants.to_words()) {
            // Relaxed: the link of the name publishes it.
            word.store(value, Ordering::Relaxed);
        }
        self.total.store(constants.total, Ordering::Relaxed); // Relaxed: as above
    }
}

#[cfg(not(ringspan_loom))]
const _: () = {
    use std::mem::{align_of, offset_of, size_of};
    assert!(size_of::<Header>() == HEADER_LEN && align_of::<Header>() == 128);
    assert!(offset_of!(Header, state) == 256 && offset_of!(Header, total) == 264);
    assert!(offset_of!(Header, parked) == 272);
    assert!(size_of::<Slot>() == 128 && offset_of!(Slot, tag) == 0);
    assert!(offset_of!(Slot, waiting) == 8 && offset_of!(Slot, died) == 16);
    assert!(offset_of!(Slot, hints_for) == 24 && offset_of!(Slot, pid) == 32);
    assert!(offset_of!(Slot, last_cpu) == 36 && offset_of!(Slot, start) == 40);
    assert!(offset_of!(Slot, pid_ns) == 48);
    assert!(size_of::<DoorPath>() == 128);
};

#[cfg(all(test, not(ringspan_loom)))]
mod tests {
    use super::*;

    #[test]
    fn constants_survive_the_words() {
        let c = Constants {
            version: 1,
            order: ORDER_TAG,
            kind: 2,
            header_len: 384,
            flags: 1,
            slots: 2,
            created_at: 3,
            creator_pid: 4,
            creator_start: 5,
            total: 6,
            kind_off: 7,
            kind_len: 8,
            payload_off: 9,
            payload_len: 10,
            meta_off: 11,
            meta_len: 12,
            door_dev: 13,
            door_ino: 14,
            instance: [15, 16],
            params: [17, 18, 19, 20, 21, 22, 23, 24],
        };
        let words = c.to_words();
        assert_eq!(&words[0].to_le_bytes(), b"RINGSPAN");
        assert_eq!(words[WORDS - 1], checksum(&words[..WORDS - 1]));
        assert_eq!(Constants::from_words(&words), c);
    }

    #[test]
    fn kinds_have_distinct_codes() {
        for (kind, code, noun) in Kind::ALL {
            assert_eq!(Kind::from_code(code), Some(kind));
            assert_eq!(kind.code(), code);
            assert_eq!(kind.noun(), noun);
        }
        assert_eq!(Kind::from_code(0), None);
    }
}
