//! An array with its elements, as a part of other values: what Python sees as an `ndarray`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{self, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::array::ArrayMeta;
use super::descr::{Descr, ItemType};
use super::error::CodecError;
use super::ext;

/// The name by which `rmp-serde` knows a newtype that is a msgpack extension.
const EXTENSION: &str = rmp_serde::MSGPACK_EXT_STRUCT_NAME;

/// Element type, shape and elements of an array. Python reads it as a numpy array and writes one as
/// such, alone or anywhere inside of arguments, results, items and values. Nothing is pickled.
///
/// ```
/// use ringspan::codec::{self, NdArray};
///
/// let array = NdArray::from_slice(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0f64])?;
/// let bytes = codec::to_vec(&("scores", &array))?;
/// let (name, back): (String, NdArray) = codec::from_slice(&bytes)?;
/// assert_eq!((name.as_str(), back.meta().shape()), ("scores", &[2u64, 3][..]));
/// assert_eq!(back.to_vec::<f64>(), Some(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
/// assert_eq!(back.to_vec::<i64>(), None, "they are no integers");
/// # Ok::<(), ringspan::codec::CodecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NdArray {
    meta: ArrayMeta,
    data: Vec<u8>,
}

impl NdArray {
    /// An array of these bytes, which lie as `meta` says.
    ///
    /// # Errors
    /// [`CodecError::Array`] if there are more or fewer of them than that.
    pub fn new(meta: ArrayMeta, data: Vec<u8>) -> Result<NdArray, CodecError> {
        if data.len() != meta.byte_len() {
            return Err(meta.wrong_len(data.len()));
        }
        Ok(NdArray { meta, data })
    }

    /// An array of these elements in C order: the last index moves fastest.
    ///
    /// # Errors
    /// [`CodecError::Array`] if there are more or fewer of them than the shape has places.
    pub fn from_slice<T: ItemType>(shape: &[u64], items: &[T]) -> Result<NdArray, CodecError> {
        let meta = ArrayMeta::new(Descr::Item(T::typestr().to_owned()), shape.to_vec(), false)?;
        let mut data = Vec::with_capacity(size_of_val(items));
        items.iter().for_each(|item| item.write_to(&mut data));
        NdArray::new(meta, data)
    }

    /// Element type, shape and order.
    pub fn meta(&self) -> &ArrayMeta {
        &self.meta
    }

    /// The elements as they lie in memory.
    pub fn as_bytes(&self) -> &[u8] {
        &self.data
    }

    /// The elements as they lie in memory.
    pub fn into_bytes(self) -> Vec<u8> {
        self.data
    }

    /// The elements one after the other as they lie in memory; [`ArrayMeta::is_fortran`] says in which
    /// order. `None`: they are of another type, or have another byte order than this machine's.
    pub fn to_vec<T: ItemType>(&self) -> Option<Vec<T>> {
        let is = self.meta.is_type::<T>();
        is.then(|| self.data.chunks_exact(size_of::<T>()).filter_map(T::read_from).collect())
    }
}

impl Serialize for NdArray {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut body = Vec::with_capacity(64 + self.data.len());
        self.meta.write(&mut body).map_err(ser::Error::custom)?;
        body.extend_from_slice(&self.data);
        s.serialize_newtype_struct(EXTENSION, &(ext::NDARRAY, Bytes::new(&body)))
    }
}

impl<'de> Deserialize<'de> for NdArray {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<NdArray, D::Error> {
        d.deserialize_newtype_struct(EXTENSION, Extension)
    }
}

struct Extension;

impl<'de> Visitor<'de> for Extension {
    type Value = NdArray;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an ndarray")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<NdArray, D::Error> {
        d.deserialize_tuple(2, self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<NdArray, A::Error> {
        let id: i8 = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        if id != ext::NDARRAY {
            return Err(de::Error::custom(format_args!("{} instead of an ndarray", ext::name(id))));
        }
        let body: ByteBuf =
            seq.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
        let mut body = body.into_vec();
        let (meta, used) = ArrayMeta::read(&body).map_err(de::Error::custom)?;
        body.drain(..used);
        NdArray::new(meta, body).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Exact, from_slice, to_vec};

    #[test]
    fn it_goes_and_comes_back_at_any_depth() {
        let array = NdArray::from_slice(&[3], &[1u16, 2, 65535]).unwrap();
        let bytes = to_vec(&vec![(1, Some(&array))]).unwrap();
        assert_eq!(from_slice::<Vec<(u8, Option<NdArray>)>>(&bytes).unwrap(), [(1, Some(array))]);
        let empty = NdArray::from_slice::<f32>(&[0, 4], &[]).unwrap();
        assert_eq!(from_slice::<NdArray>(&to_vec(&empty).unwrap()).unwrap(), empty);
        let scalar = NdArray::from_slice(&[], &[7i64]).unwrap();
        assert_eq!(from_slice::<NdArray>(&to_vec(&scalar).unwrap()).unwrap(), scalar);
    }

    /// The bytes are those that Python writes: tests/golden has them.
    #[test]
    fn the_body_is_meta_and_at_once_the_data() {
        let bytes = to_vec(&NdArray::from_slice(&[2], &[1u8, 2]).unwrap()).unwrap();
        let body = [0x93, 0xa3, b'|', b'u', b'1', 0x91, 2, 0xc2, 1, 2];
        assert_eq!(bytes, [&[0xc7, body.len() as u8, 12][..], &body].concat());
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for items in [vec![1u8], vec![1, 2, 3]] {
            assert!(NdArray::from_slice(&[2], &items).is_err());
        }
        let mut bytes = to_vec(&NdArray::from_slice(&[2], &[1u8, 2]).unwrap()).unwrap();
        assert!(from_slice::<NdArray>(&to_vec(&(1, 2)).unwrap()).is_err());
        assert!(from_slice::<NdArray>(&to_vec(&5).unwrap()).is_err());
        bytes[2] = 10; // a set
        assert!(from_slice::<NdArray>(&bytes).is_err());
        bytes[2] = 12;
        let three = bytes.len() - 4;
        bytes[three] = 3; // the shape lies
        assert!(from_slice::<NdArray>(&bytes).is_err());
    }

    #[test]
    fn an_exact_struct_sees_its_parts() {
        #[derive(serde::Deserialize)]
        struct Parts {
            dtype: String,
            shape: Vec<u64>,
            #[serde(with = "serde_bytes")]
            data: Vec<u8>,
        }
        let bytes = to_vec(&NdArray::from_slice(&[1, 2], &[5u8, 6]).unwrap()).unwrap();
        let Exact(Parts { dtype, shape, data }) = from_slice(&bytes).unwrap();
        assert_eq!((dtype.as_str(), shape, data), ("|u1", vec![1, 2], vec![5, 6]));
    }
}
