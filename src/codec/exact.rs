//! Reading what a Python peer wrote in its exact mode.

use std::ops::{Deref, DerefMut};

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::any::Any;
use super::custom;

/// A `T` out of a value that may hold extensions, at any depth.
///
/// Python's plain mode writes sets, dates, big integers and the like as extensions, its exact mode
/// also tuples, bytearrays, deques, named tuples and more. `Exact<T>` takes each for what a Rust
/// type has in its place:
///
/// | extension | taken as |
/// |---|---|
/// | tuple, set, frozenset, deque, range, complex | sequence, tuple |
/// | namedtuple, Counter, OrderedDict, ChainMap | map, struct |
/// | bytearray, memoryview, UUID | bytes |
/// | Decimal, datetime, date, time | text |
/// | paths | text, or bytes where they are not UTF-8 |
/// | timedelta | seconds and microseconds |
/// | big integer | i128, u128 |
/// | ndarray, numpy scalar | map of `dtype`, `shape`, `fortran`, `data` |
/// | Ellipsis | unit |
///
/// Written, an `Exact<T>` is a plain `T`.
///
/// ```
/// use ringspan::codec::{self, Exact};
///
/// // (1, 2) of Python, written with exact=True.
/// let bytes = [0xc7, 3, 32, 0x92, 1, 2];
/// let Exact((a, b)) = codec::from_slice::<Exact<(i32, i32)>>(&bytes)?;
/// assert_eq!((a, b), (1, 2));
/// # Ok::<(), ringspan::codec::CodecError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exact<T>(
    /// The value.
    pub T,
);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Exact<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let any = Any::deserialize(d)?;
        T::deserialize(any).map(Exact).map_err(custom)
    }
}

impl<T: Serialize> Serialize for Exact<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<T> Deref for Exact<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Exact<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
