//! The record tag: one byte that says what a record's payload is.

use std::fmt;

use super::error::CodecError;

/// What the payload of a record is. The byte travels in the record header (`tag u8 | flags u8`).
///
/// ```
/// use ringspan::codec::Tag;
///
/// assert_eq!(Tag::from_byte(1).unwrap(), Tag::MSGPACK);
/// assert_eq!(Tag::from_byte(77).unwrap_err().to_string().split(':').next(), Some("unknown record tag 77"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u8);

impl Tag {
    /// Bytes as they are.
    pub const RAW: Tag = Tag(0);
    /// One msgpack value.
    pub const MSGPACK: Tag = Tag(1);
    /// An array: meta (element type, shape, order), padding, data.
    pub const ARRAY: Tag = Tag(2);
    /// What the application agreed on; ringspan does not look inside.
    pub const APP: Tag = Tag(3);
    /// A Python pickle. Read only where both ends were opened with `pickle=True`.
    pub const PICKLE: Tag = Tag(4);

    /// The tag of a byte from shared memory.
    ///
    /// # Errors
    /// [`CodecError::UnknownTag`] names a byte that is not in the table.
    pub fn from_byte(byte: u8) -> Result<Tag, CodecError> {
        if byte <= Tag::PICKLE.0 { Ok(Tag(byte)) } else { Err(CodecError::UnknownTag(byte)) }
    }

    /// The byte that goes into the record header.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The name used in messages.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "raw",
            1 => "msgpack",
            2 => "array",
            3 => "app",
            _ => "pickle",
        }
    }

    /// Ok if this is `wanted`.
    ///
    /// # Errors
    /// [`CodecError::WrongTag`] names both.
    pub fn expect(self, wanted: Tag) -> Result<(), CodecError> {
        if self == wanted { Ok(()) } else { Err(CodecError::WrongTag { found: self, wanted }) }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({} {})", self.0, self.name())
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
