//! The one codec: what travels in rings, values and calls, the same bytes from both languages.
//!
//! A record says by its [`Tag`] what its payload is: bytes as they are, one msgpack value, an array
//! (see [`ArrayMeta`]), or what the application agreed on. Values are msgpack as `rmp-serde` writes
//! it in its *named* form: structs are maps with the field names as keys, so fields can be added and
//! left out; byte strings need `serde_bytes`. What msgpack lacks (sets, big integers, dates, ...)
//! goes by extension ids, the table of [`ext`], frozen in `docs/format.md`.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, PartialEq, Debug)]
//! struct Frame {
//!     id: u64,
//!     label: String,
//!     #[serde(with = "serde_bytes")]
//!     pixels: Vec<u8>,
//! }
//!
//! let frame = Frame { id: 7, label: "cat".into(), pixels: vec![1, 2, 3] };
//! let bytes = ringspan::codec::to_vec(&frame)?;
//! assert_eq!(ringspan::codec::from_slice::<Frame>(&bytes)?, frame);
//! # Ok::<(), ringspan::codec::CodecError>(())
//! ```
//!
//! Bytes from shared memory are not trusted: depth, every declared length, every extension id and
//! the end of the value are checked before a type sees them, and nothing is allocated for a length
//! that the bytes cannot hold.

mod any;
mod array;
mod descr;
mod error;
mod exact;
pub mod ext;
mod ndarray;
mod read;
mod scratch;
mod tag;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use serde::de::Deserialize;
use serde::ser::Serialize;

pub use array::{ARRAY_ALIGN, ArrayMeta};
pub use descr::{Descr, Field, ItemType};
pub use error::CodecError;
pub use exact::Exact;
pub use ndarray::NdArray;
pub(crate) use scratch::with_scratch;
pub use tag::Tag;

#[cfg(feature = "python")]
pub(crate) use array::pad as pad_array;
#[cfg(feature = "python")]
pub(crate) use read::{Head, Reader};

/// How many containers may lie in one another.
pub const MAX_DEPTH: usize = 128;

/// Bound for the recursion inside rmp-serde. [`MAX_DEPTH`] is checked before; some types take more
/// than one of its steps for one container.
const SERDE_DEPTH: usize = 4 * MAX_DEPTH;

/// Encodes a value: structs as maps, bytes by `serde_bytes`.
///
/// # Errors
/// [`CodecError::Serialize`] with the words of the type's own `Serialize`;
/// [`CodecError::TooDeep`] above [`MAX_DEPTH`].
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    to_writer(&mut out, value)?;
    Ok(out)
}

/// Encodes a value behind what `out` holds already; on an error `out` is as before.
///
/// # Errors
/// Those of [`to_vec`].
pub fn to_writer<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), CodecError> {
    let start = out.len();
    let mut ser = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    let written = value
        .serialize(&mut ser)
        .map_err(|err| CodecError::Serialize(err.to_string().into_boxed_str()))
        // Each level takes a byte, so shorter values cannot be too deep.
        .and_then(|()| match out.len() - start {
            0..=MAX_DEPTH => Ok(()),
            _ => read::scan(&out[start..]).map(|_| ()),
        });
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Decodes a value that fills `bytes` exactly. `T` may borrow strings and bytes from them.
///
/// # Errors
/// [`CodecError`] says at which byte the value is damaged, or in serde's words why it is not a `T`.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    let first_ext = read::scan(bytes)?;
    let mut de = rmp_serde::Deserializer::from_read_ref(bytes);
    de.set_max_depth(SERDE_DEPTH);
    T::deserialize(&mut de).map_err(|err| {
        let mut why = err.to_string();
        if let Some(id) = first_ext {
            let name = ext::name(id);
            why = format!(
                "{why} (the value holds a {name}, extension {id}: read it as codec::Exact<T>)"
            );
        }
        CodecError::Deserialize(why.into_boxed_str())
    })
}

/// An error of `E` with the text of a [`CodecError`].
fn custom<E: serde::de::Error>(err: CodecError) -> E {
    E::custom(err)
}

impl serde::de::Error for CodecError {
    fn custom<T: std::fmt::Display>(msg: T) -> Self {
        CodecError::Deserialize(msg.to_string().into_boxed_str())
    }
}
