//! Arrays: what the elements are, how many, in which order; then the bytes as they lie in memory.
//!
//! The payload of a [`Tag::ARRAY`](super::Tag::ARRAY) record is the meta (one msgpack array of
//! three: element type, shape, order), zero bytes up to the next multiple of [`ARRAY_ALIGN`]
//! counted from the start of the payload, and the data. Payloads of a ring begin at multiples of
//! 8, so that is what the data's address can be relied on for; where the payload itself is aligned
//! to 64 (arrays in a segment) the data is as well.

use super::descr::{Descr, ItemType};
use super::error::CodecError;
use super::read::{Head, Reader};
use super::write;

/// The data of an array record begins at a multiple of this, counted from the payload's start.
pub const ARRAY_ALIGN: usize = 64;

/// numpy's own limit on the number of dimensions.
const MAX_DIMS: usize = 64;

/// Element type, shape and order of an array.
///
/// ```
/// use ringspan::codec::{ArrayMeta, Descr};
///
/// let meta = ArrayMeta::new(Descr::Item("<f8".into()), vec![3, 5], false).unwrap();
/// assert_eq!(meta.byte_len(), 3 * 5 * 8);
/// let mut record = meta.encode().unwrap();
/// record.resize(record.len() + meta.byte_len(), 0);
/// let (back, data) = ArrayMeta::split(&record).unwrap();
/// assert_eq!(back, meta);
/// assert_eq!(data.len(), 120);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayMeta {
    descr: Descr,
    shape: Vec<u64>,
    fortran: bool,
    bytes: usize,
}

impl ArrayMeta {
    /// Meta of an array; `fortran` means that the *first* index moves fastest.
    ///
    /// # Errors
    /// [`CodecError::Array`] for an element type that numpy has not or that holds objects, for
    /// elements of no size, for more than 64 dimensions and for a size that overflows.
    pub fn new(descr: Descr, shape: Vec<u64>, fortran: bool) -> Result<Self, CodecError> {
        if shape.len() > MAX_DIMS {
            return Err(bad(format!(
                "{} dimensions, at most {MAX_DIMS} are possible",
                shape.len()
            )));
        }
        let item = descr.item_size()?;
        if item == 0 {
            return Err(bad("elements without a size".into()));
        }
        // Like numpy, the product must fit even where a dimension is 0.
        let wide = shape.iter().filter(|&&n| n != 0).try_fold(item, |all, &n| all.checked_mul(n));
        let all = wide.filter(|&n| i64::try_from(n).is_ok()).and_then(|n| usize::try_from(n).ok());
        let all = all.ok_or_else(|| bad(format!("shape {shape:?} overflows the address space")))?;
        let bytes = if shape.contains(&0) { 0 } else { all };
        Ok(ArrayMeta { descr, shape, fortran, bytes })
    }

    /// The element type.
    pub fn descr(&self) -> &Descr {
        &self.descr
    }

    /// Items in each dimension.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// True if the first index moves fastest (Fortran order), false for C order.
    pub fn is_fortran(&self) -> bool {
        self.fortran
    }

    /// Length of the data in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// True if the elements are `T` in this machine's byte order.
    pub fn is_type<T: ItemType>(&self) -> bool {
        matches!(&self.descr, Descr::Item(text) if text.as_str() == T::typestr())
    }

    /// The refusal of data that is longer or shorter than type and shape ask for.
    pub(super) fn wrong_len(&self, len: usize) -> CodecError {
        bad(format!("{len} bytes of data where type and shape ask for {}", self.bytes))
    }

    /// The head of an array record: meta and padding. The data follows at once.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] if a name in the element type is longer than msgpack can say.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let mut out = Vec::with_capacity(ARRAY_ALIGN);
        self.write(&mut out)?;
        pad(&mut out, 0);
        Ok(out)
    }

    /// The meta alone, without padding.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        write::array_head(out, 3)?;
        self.descr.write(out)?;
        write::array_head(out, self.shape.len())?;
        self.shape.iter().for_each(|&n| write::uint(out, n));
        write::boolean(out, self.fortran);
        Ok(())
    }

    /// Meta from the start of `bytes`, and its encoded length.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, usize), CodecError> {
        let mut r = Reader::new(bytes);
        let Head::Array(3) = r.head(0)? else {
            return Err(bad("meta is not a msgpack array of three".into()));
        };
        let descr = Descr::read(&mut r)?;
        let shape = read_shape(&mut r)?;
        let Head::Bool(fortran) = r.head(0)? else {
            return Err(bad("order is not a bool".into()));
        };
        Ok((ArrayMeta::new(descr, shape, fortran)?, r.pos()))
    }

    /// Meta and data of the payload of an array record.
    ///
    /// # Errors
    /// [`CodecError::Array`] or [`CodecError::Truncated`] if meta and length do not agree.
    pub fn split(payload: &[u8]) -> Result<(Self, &[u8]), CodecError> {
        let (meta, used) = ArrayMeta::read(payload)?;
        match payload.get(used.next_multiple_of(ARRAY_ALIGN)..) {
            Some(data) if data.len() == meta.bytes => Ok((meta, data)),
            data => Err(meta.wrong_len(data.map_or(0, <[u8]>::len))),
        }
    }
}

/// Zero bytes up to the next multiple of [`ARRAY_ALIGN`] after `start`.
pub(crate) fn pad(out: &mut Vec<u8>, start: usize) {
    let used = out.len() - start;
    out.resize(start + used.next_multiple_of(ARRAY_ALIGN), 0);
}

/// A shape: an array of not negative integers.
pub(crate) fn read_shape(r: &mut Reader<'_>) -> Result<Vec<u64>, CodecError> {
    let Head::Array(dims) = r.head(0)? else {
        return Err(bad("shape is not a msgpack array".into()));
    };
    if dims > MAX_DIMS {
        return Err(bad(format!("{dims} dimensions, at most {MAX_DIMS} are possible")));
    }
    let mut shape = Vec::with_capacity(dims);
    for _ in 0..dims {
        shape.push(match r.head(0)? {
            Head::Int(n) if n >= 0 => n.unsigned_abs(),
            other => return Err(bad(format!("{other:?} in the shape"))),
        });
    }
    Ok(shape)
}

pub(crate) fn bad(why: String) -> CodecError {
    CodecError::Array(why.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(descr: &str, shape: &[u64]) -> Result<ArrayMeta, CodecError> {
        ArrayMeta::new(Descr::Item(descr.into()), shape.to_vec(), false)
    }

    #[test]
    fn sizes_are_checked_for_overflow() {
        assert_eq!(meta("<f8", &[]).unwrap().byte_len(), 8);
        assert_eq!(meta("<U3", &[2, 2]).unwrap().byte_len(), 48);
        assert_eq!(meta("<f8", &[1 << 40, 0]).unwrap().byte_len(), 0);
        assert!(meta("<f8", &[1 << 60, 2]).is_err());
        assert!(meta("<f8", &[u64::MAX, 0]).is_err());
        assert!(meta("|u1", &[1; 65]).is_err());
    }

    #[test]
    fn a_record_must_be_as_long_as_its_meta_says() {
        let m = meta("<i4", &[3]).unwrap();
        let mut record = m.encode().unwrap();
        assert_eq!(record.len() % ARRAY_ALIGN, 0);
        assert!(ArrayMeta::split(&record).is_err());
        record.extend_from_slice(&[1; 12]);
        assert_eq!(ArrayMeta::split(&record).unwrap(), (m.clone(), &[1u8; 12][..]));
        record.push(0);
        assert!(ArrayMeta::split(&record).is_err());
        let mut short = Vec::new();
        meta("<i4", &[0]).unwrap().write(&mut short).unwrap();
        assert!(ArrayMeta::split(&short).is_err(), "padding is missing");
    }

    #[test]
    fn types_are_compared_with_their_byte_order() {
        assert!(meta(f64::typestr(), &[1]).unwrap().is_type::<f64>());
        assert!(!meta(f64::typestr(), &[1]).unwrap().is_type::<i64>());
        assert!(
            !meta(if cfg!(target_endian = "little") { ">f8" } else { "<f8" }, &[1])
                .unwrap()
                .is_type::<f64>()
        );
    }
}
