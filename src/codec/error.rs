//! The one error of the codec.

use std::fmt;

use super::tag::Tag;

/// Why a value could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// Nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH) containers.
    TooDeep,
    /// The bytes end inside a value, or a declared length is larger than what is there.
    Truncated {
        /// Byte offset of the value whose body is missing.
        at: usize,
    },
    /// Bytes are left behind the value.
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A byte that begins no msgpack value (`0xc1`).
    BadMarker {
        /// Byte offset.
        at: usize,
    },
    /// A string that is not UTF-8.
    BadUtf8 {
        /// Byte offset of the string.
        at: usize,
    },
    /// An extension id that is not in the table of `docs/format.md`.
    UnknownExt(i8),
    /// A known extension whose body is not what the table says.
    BadExt(i8),
    /// A record tag that is not in the table.
    UnknownTag(u8),
    /// A record of one tag was read as another.
    WrongTag {
        /// The tag of the record.
        found: Tag,
        /// The tag that the reader asked for.
        wanted: Tag,
    },
    /// A value is longer than msgpack can say (2^32 - 1 bytes or items).
    TooLong,
    /// Array meta that cannot be encoded or trusted; the text says why.
    Array(Box<str>),
    /// The `Serialize` implementation refused; the text is its own.
    Serialize(Box<str>),
    /// The value is well formed, but not what the `Deserialize` type takes.
    Deserialize(Box<str>),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::TooDeep => {
                write!(f, "value is nested deeper than {} containers", super::MAX_DEPTH)
            }
            CodecError::Truncated { at } => {
                write!(f, "msgpack value at byte {at} is longer than the bytes that are there")
            }
            CodecError::Trailing { extra } => {
                write!(f, "{extra} bytes left behind the msgpack value")
            }
            CodecError::BadMarker { at } => {
                write!(f, "byte {at} begins no msgpack value (0xc1 is never used)")
            }
            CodecError::BadUtf8 { at } => write!(f, "string at byte {at} is not utf-8"),
            CodecError::UnknownExt(id) => write!(
                f,
                "unknown msgpack extension id {id}: written by a newer ringspan or by another codec"
            ),
            CodecError::BadExt(id) => {
                write!(f, "damaged body of msgpack extension {id} ({})", super::ext::name(*id))
            }
            CodecError::UnknownTag(tag) => write!(
                f,
                "unknown record tag {tag}: written by a newer ringspan or by another program"
            ),
            CodecError::WrongTag { found, wanted } => {
                write!(f, "record is tagged {found}, not {wanted}")
            }
            CodecError::TooLong => f.write_str("longer than 2^32 - 1 bytes or items"),
            CodecError::Array(why) => write!(f, "array: {why}"),
            CodecError::Serialize(why) => write!(f, "cannot encode: {why}"),
            CodecError::Deserialize(why) => write!(f, "cannot decode: {why}"),
        }
    }
}

impl std::error::Error for CodecError {}

impl From<CodecError> for std::io::Error {
    fn from(err: CodecError) -> Self {
        use std::io::ErrorKind as K;
        let kind = match err {
            CodecError::Serialize(_) | CodecError::TooLong => K::InvalidInput,
            _ => K::InvalidData,
        };
        std::io::Error::new(kind, err)
    }
}
