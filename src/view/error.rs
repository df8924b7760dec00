//! The one error of a view.

use std::fmt;
use std::io;

use super::tag::ViewTag;

/// Why a view was not read, written or moved. Neither its bytes nor its cursor have changed.
///
/// All offsets count bytes from the start of the view. [`io::Error`]s made of it are of kind
/// `InvalidInput` where the caller asked for too much, `InvalidData` where the bytes are wrong.
///
/// ```
/// use ringspan::{View, ViewError};
///
/// let err = View::read_only(&[0; 4]).read::<i64>().unwrap_err();
/// assert_eq!(err, ViewError::OutOfBounds { offset: 0, wanted: 8, size: 4 });
/// assert!(err.to_string().contains("8 bytes at offset 0"));
/// assert_eq!(std::io::Error::from(err).kind(), std::io::ErrorKind::InvalidInput);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViewError {
    /// An item, a range or a position that does not lie in the view.
    OutOfBounds {
        /// Where it begins.
        offset: usize,
        /// Bytes that it takes there, at least; 0 for a position.
        wanted: usize,
        /// Bytes in the view.
        size: usize,
    },
    /// A byte that was read as a bool and is neither 0 nor 1.
    BadBool {
        /// Where it lies.
        offset: usize,
        /// What it is.
        found: u8,
    },
    /// A str that is not UTF-8.
    BadUtf8 {
        /// Where the item begins, with its length.
        offset: usize,
        /// The first byte that is wrong.
        byte: usize,
    },
    /// The stored length of a str or bytes runs past the end of the view.
    BadLength {
        /// Where the item begins, with its length.
        offset: usize,
        /// What the length says.
        wanted: usize,
        /// Bytes in the view.
        size: usize,
    },
    /// A str or bytes to be written that is longer than 2^32 - 1 bytes, or items that are together
    /// longer than an address space.
    TooLong {
        /// Bytes in it.
        len: usize,
    },
    /// A name that is no [`ViewTag`].
    UnknownTag(Box<str>),
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ViewError::OutOfBounds { offset, size, .. } if offset > size => write!(
                f,
                "view of {size} bytes: offset {offset} is behind its end; positions go from 0 to \
                 {size}"
            ),
            ViewError::OutOfBounds { offset, wanted, size } => write!(
                f,
                "view of {size} bytes: {wanted} bytes at offset {offset} do not lie in it, {} are \
                 left there; seek back, or take a larger piece of memory",
                size - offset
            ),
            ViewError::BadBool { offset, found } => write!(
                f,
                "view: the byte at offset {offset} is {found} and a bool is 0 or 1; read it as what \
                 was written there"
            ),
            ViewError::BadUtf8 { offset, byte } => write!(
                f,
                "view: the str at offset {offset} is not UTF-8, byte {byte} is wrong; read it as \
                 bytes, or as what was written there"
            ),
            ViewError::BadLength { offset, wanted, size } => write!(
                f,
                "view of {size} bytes: the item at offset {offset} says that it has {wanted} bytes \
                 behind its length, which is past the end; read it as what was written there"
            ),
            ViewError::TooLong { len } => {
                write!(f, "view: {len} bytes are too long for one item, which has at most 2^32 - 1")
            }
            ViewError::UnknownTag(name) => {
                write!(f, "view: {name:?} is no tag; there are")?;
                for (i, tag) in ViewTag::ALL.iter().enumerate() {
                    write!(f, "{} {tag}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ViewError {}

impl From<ViewError> for io::Error {
    fn from(err: ViewError) -> Self {
        use io::ErrorKind as K;
        let kind = match err {
            ViewError::OutOfBounds { .. }
            | ViewError::TooLong { .. }
            | ViewError::UnknownTag(_) => K::InvalidInput,
            ViewError::BadBool { .. } | ViewError::BadUtf8 { .. } | ViewError::BadLength { .. } => {
                K::InvalidData
            }
        };
        io::Error::new(kind, err)
    }
}
