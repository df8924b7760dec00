//! Frames: what lies in the rings of a connection. Arithmetic only; the bytes come from memory that the
//! other process can write, so every field is checked here, once, on a copy.
//!
//! ```text
//! kind u8 | flags u8 | method u16 | aux u32 | id u64 | body          little-endian
//!
//! client to server   call    aux: deadline      body: arguments     opens the call `id`
//!                    cancel                                         the caller is gone
//!                    credit  aux: items                             so many more items may come
//! server to client   result                     body: the result    ends the call
//!                    error                      body: RemoteError   ends the call
//!                    item                       body: one item
//!                    end                                            ends a stream
//!                    goodbye                                        no new calls, please
//! both               chunk                      body: a part        of the next frame of `id`
//! ```

use std::time::Duration;

/// Bytes before the body.
pub(crate) const HEAD_LEN: usize = 16;

/// The body is bytes as they are, not a msgpack value.
pub(crate) const RAW: u8 = 1;
/// `aux` of a call is its deadline in microseconds.
pub(crate) const DEADLINE: u8 = 2;
/// The deadline is in milliseconds instead.
pub(crate) const MILLIS: u8 = 4;
/// The caller wants a stream.
pub(crate) const STREAM: u8 = 8;
/// The body begins in chunks that came before.
pub(crate) const CHUNKED: u8 = 16;
/// The arguments are two values, `[positional, {name: value}]`, and not the positional ones alone.
pub(crate) const MIXED: u8 = 32;
const FLAGS: u8 = RAW | DEADLINE | MILLIS | STREAM | CHUNKED | MIXED;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Call = 1,
    Result = 2,
    Error = 3,
    Item = 4,
    End = 5,
    Cancel = 6,
    Credit = 7,
    Chunk = 8,
    Goodbye = 9,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        use Kind::{Call, Cancel, Chunk, Credit, End, Error, Goodbye, Item, Result};
        [Call, Result, Error, Item, End, Cancel, Credit, Chunk, Goodbye]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }
}

/// The first sixteen bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) method: u16,
    pub(crate) aux: u32,
    pub(crate) id: u64,
}

impl Head {
    /// A head without flags, method and aux.
    pub(crate) fn new(kind: Kind, id: u64) -> Head {
        Head { kind, flags: 0, method: 0, aux: 0, id }
    }

    /// As it stands in the ring.
    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; HEAD_LEN] {
        let first = u64::from(self.kind as u8)
            | u64::from(self.flags) << 8
            | u64::from(self.method) << 16
            | u64::from(self.aux) << 32;
        let mut bytes = [0; HEAD_LEN];
        bytes[..8].copy_from_slice(&first.to_le_bytes());
        bytes[8..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// Reads and checks a copy of a head.
    #[inline]
    pub(crate) fn from_bytes(bytes: [u8; HEAD_LEN]) -> Result<Head, Violation> {
        let [kind, flags, m0, m1, a0, a1, a2, a3, id @ ..] = bytes;
        let kind = Kind::from_code(kind).ok_or(Violation::Kind(kind))?;
        if flags & !FLAGS != 0 {
            return Err(Violation::Flags(flags));
        }
        Ok(Head {
            kind,
            flags,
            method: u16::from_le_bytes([m0, m1]),
            aux: u32::from_le_bytes([a0, a1, a2, a3]),
            id: u64::from_le_bytes(id),
        })
    }

    /// Whether all of `flags` are set.
    #[inline]
    pub(crate) fn has(self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The same with a deadline: a duration, for no two processes need share a clock. Rounded up, in
    /// microseconds up to 71 minutes, in milliseconds up to 49 days; beyond that there is none.
    pub(crate) fn with_deadline(mut self, left: Duration) -> Head {
        let micros = left.as_nanos().div_ceil(1000);
        let millis = left.as_nanos().div_ceil(1_000_000);
        if let Ok(aux) = u32::try_from(micros) {
            (self.aux, self.flags) = (aux, self.flags | DEADLINE);
        } else if let Ok(aux) = u32::try_from(millis) {
            (self.aux, self.flags) = (aux, self.flags | DEADLINE | MILLIS);
        }
        self
    }

    /// The deadline of a call, if it has one.
    pub(crate) fn deadline(self) -> Option<Duration> {
        if !self.has(DEADLINE) {
            return None;
        }
        let aux = u64::from(self.aux);
        Some(if self.has(MILLIS) { Duration::from_millis(aux) } else { Duration::from_micros(aux) })
    }
}

/// What no correct peer does. The connection ends by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A frame shorter than its head.
    Short(usize),
    Kind(u8),
    Flags(u8),
    /// A kind that goes in the other direction.
    Direction(Kind),
    /// More calls at once than were granted.
    TooManyCalls(u32),
    /// More bytes of arguments at once than were granted.
    TooManyBytes(u64),
    /// A message longer than `max_message`.
    TooLong(u64),
    /// A call with the id of one that is not over.
    Duplicate(u64),
    /// An answer to a call that is not under way.
    Unasked(u64),
    /// More than one goodbye.
    Goodbye,
    /// A stream ran ahead of its credit.
    NoCredit(u64),
    /// Chunks of a message that cannot be, or a frame that says it has some and has none.
    Chunk(u64),
    /// The ring is damaged; the text says how.
    Ring(String),
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Violation::Short(len) => write!(f, "a frame of {len} bytes"),
            Violation::Kind(code) => write!(f, "a frame of unknown kind {code}"),
            Violation::Flags(flags) => write!(f, "a frame with unknown flags {flags:#04x}"),
            Violation::Direction(kind) => write!(f, "a frame of kind {kind:?} in this direction"),
            Violation::TooManyCalls(limit) => write!(f, "more than the {limit} calls granted"),
            Violation::TooManyBytes(limit) => {
                write!(f, "more than the {limit} bytes of arguments granted")
            }
            Violation::TooLong(limit) => write!(f, "a message above max_message, {limit}"),
            Violation::Duplicate(id) => write!(f, "a second call with the id {id}"),
            Violation::Unasked(id) => write!(f, "an answer to call {id}, which is not under way"),
            Violation::Goodbye => f.write_str("a second goodbye"),
            Violation::NoCredit(id) => write!(f, "items of call {id} beyond its credit"),
            Violation::Chunk(id) => write!(f, "chunks of call {id} that do not fit together"),
            Violation::Ring(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes that both languages must write: name, blank, hex.
    const GOLDEN: &str = include_str!("../../tests/golden/frames.txt");

    fn golden(name: &str) -> Vec<u8> {
        let line = GOLDEN.lines().find_map(|l| l.split_once(' ').filter(|(n, _)| *n == name));
        let (_, hex) = line.unwrap_or_else(|| panic!("no golden bytes named {name}"));
        let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    /// A frame without method and aux.
    fn holds(name: &str, kind: Kind, flags: u8, body: &[u8]) {
        holds_head(name, Head { flags, ..Head::new(kind, 9) }, body);
    }

    fn holds_head(name: &str, head: Head, body: &[u8]) {
        let frame = golden(name);
        let (front, back) = frame.split_first_chunk().unwrap();
        assert_eq!(head.to_bytes(), *front, "{name}");
        assert_eq!(Head::from_bytes(*front), Ok(head), "{name}");
        assert_eq!(body, back, "{name}");
    }

    #[test]
    fn golden_bytes() {
        use crate::codec::to_vec;
        use Kind::{Call, Cancel, Chunk, Credit, End, Error, Goodbye, Item};
        let args = to_vec(&(2, 3)).unwrap();
        holds("call", Call, 0, &args);
        holds("call_nothing", Call, 0, &to_vec(&()).unwrap());
        let keywords = std::collections::BTreeMap::from([("a", 2), ("b", 3)]);
        holds("call_keywords", Call, 0, &to_vec(&keywords).unwrap());
        let keywords = std::collections::BTreeMap::from([("b", 3)]);
        holds("call_mixed", Call, MIXED, &to_vec(&((2,), keywords)).unwrap());
        let call = Head::new(Call, 9);
        holds_head("call_deadline", call.with_deadline(Duration::from_millis(1500)), &args);
        holds_head("call_millis", call.with_deadline(Duration::from_secs(7200)), &args);
        holds_head(
            "call_stream",
            Head { flags: STREAM, method: 1, ..call },
            &to_vec(&(2,)).unwrap(),
        );
        holds_head("call_raw", Head { flags: RAW, method: 0x0203, ..call }, &[0xff, 0]);
        holds("chunk", Chunk, 0, &args[..2]);
        holds("call_chunked", Call, CHUNKED, &args[2..]);
        holds("result", Kind::Result, 0, &to_vec(&5).unwrap());
        holds("result_raw", Kind::Result, RAW, &[0xff, 0]);
        let error = crate::rpc::HandlerError::new("ValueError", "bad").to_body();
        holds("error", Error, 0, &error);
        holds("item", Item, 0, &to_vec("a").unwrap());
        holds("end", End, 0, &[]);
        holds("cancel", Cancel, 0, &[]);
        holds_head("credit", Head { aux: 8, ..Head::new(Credit, 9) }, &[]);
        holds_head("goodbye", Head::new(Goodbye, 0), &[]);
    }

    #[test]
    fn deadlines_round_up_and_end_somewhere() {
        let of = |left| Head::new(Kind::Call, 1).with_deadline(left).deadline();
        assert_eq!(of(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(of(Duration::from_nanos(1)), Some(Duration::from_micros(1)));
        assert_eq!(of(Duration::from_secs(4000)), Some(Duration::from_secs(4000)));
        assert_eq!(of(Duration::from_secs(5000)), Some(Duration::from_secs(5000)));
        assert_eq!(of(Duration::from_secs(60 * 86400)), None);
        assert_eq!(of(Duration::MAX), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_a_violation(bytes: [u8; HEAD_LEN]) {
            if let Ok(head) = Head::from_bytes(bytes) {
                prop_assert_eq!(head.to_bytes(), bytes);
            }
        }
    }
}
