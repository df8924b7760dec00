//! The types of a view, by name.

use std::fmt;
use std::str::FromStr;

use super::error::ViewError;

/// A type that a [`View`](crate::View) reads and writes. The tag itself is not stored: who reads says
/// what was written.
///
/// The names are those of [`Display`](fmt::Display) and [`FromStr`], the same as in Python.
///
/// ```
/// use ringspan::ViewTag;
///
/// assert_eq!("u32".parse(), Ok(ViewTag::U32));
/// assert_eq!(ViewTag::Str.to_string(), "str");
/// assert!("u8".parse::<ViewTag>().unwrap_err().to_string().contains("bool, i32, u32"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ViewTag {
    /// `bool`: one byte, 0 or 1.
    Bool,
    /// `i32`: 4 bytes.
    I32,
    /// `u32`: 4 bytes.
    U32,
    /// `i64`: 8 bytes.
    I64,
    /// `u64`: 8 bytes.
    U64,
    /// `f32`: 4 bytes.
    F32,
    /// `f64`: 8 bytes.
    F64,
    /// `str`: 4 bytes of length, then that many of UTF-8.
    Str,
    /// `bytes`: 4 bytes of length, then that many.
    Bytes,
}

impl ViewTag {
    /// All of them.
    pub const ALL: &'static [ViewTag] = &[
        ViewTag::Bool,
        ViewTag::I32,
        ViewTag::U32,
        ViewTag::I64,
        ViewTag::U64,
        ViewTag::F32,
        ViewTag::F64,
        ViewTag::Str,
        ViewTag::Bytes,
    ];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ViewTag::Bool => "bool",
            ViewTag::I32 => "i32",
            ViewTag::U32 => "u32",
            ViewTag::I64 => "i64",
            ViewTag::U64 => "u64",
            ViewTag::F32 => "f32",
            ViewTag::F64 => "f64",
            ViewTag::Str => "str",
            ViewTag::Bytes => "bytes",
        }
    }

    /// Bytes that the shortest item of the type takes.
    pub(super) const fn min_size(self) -> usize {
        match self {
            ViewTag::Bool => 1,
            ViewTag::I32 | ViewTag::U32 | ViewTag::F32 | ViewTag::Str | ViewTag::Bytes => 4,
            ViewTag::I64 | ViewTag::U64 | ViewTag::F64 => 8,
        }
    }
}

impl fmt::Display for ViewTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ViewTag {
    type Err = ViewError;

    fn from_str(name: &str) -> Result<ViewTag, ViewError> {
        let found = ViewTag::ALL.iter().find(|tag| tag.name() == name);
        found.copied().ok_or_else(|| ViewError::UnknownTag(name.into()))
    }
}
