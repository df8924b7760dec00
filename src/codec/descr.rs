//! Element types of arrays in numpy's notation: a type string such as `<f8`, or the fields of a
//! structured type. Object types are refused: their bytes are addresses of another process.

use super::array::{bad, read_shape};
use super::error::CodecError;
use super::read::{Head, Reader};
use super::write;

/// Structured types inside structured types, at most so deep.
const MAX_NESTING: usize = 16;

/// An element type in numpy's `descr` notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descr {
    /// A type string: byte order (`<`, `>`, `|`), kind, size, unit: `<f8`, `|S5`, `<M8[us]`.
    Item(String),
    /// The fields of a structured type, in order, without gaps (a gap is a field with an empty
    /// name and a `|V` type).
    Fields(Vec<Field>),
}

/// One field of a structured element type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name; empty for a gap.
    pub name: String,
    /// numpy's second name of a field.
    pub title: Option<String>,
    /// Its type.
    pub descr: Descr,
    /// The shape of a field that is an array itself; empty for a plain one.
    pub shape: Vec<u64>,
}

/// A Rust number that is an element type.
pub trait ItemType: Copy + sealed::Sealed + 'static {
    /// The type string in this machine's byte order.
    fn typestr() -> &'static str;

    /// Appends its bytes.
    fn write_to(self, out: &mut Vec<u8>);

    /// Itself out of exactly its bytes.
    fn read_from(bytes: &[u8]) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! item_types {
    ($($ty:ty: $little:literal $big:literal;)*) => {$(
        impl sealed::Sealed for $ty {}
        impl ItemType for $ty {
            fn typestr() -> &'static str {
                if cfg!(target_endian = "little") { $little } else { $big }
            }

            fn write_to(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_ne_bytes());
            }

            fn read_from(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$ty>::from_ne_bytes)
            }
        }
    )*};
}

item_types! {
    u8: "|u1" "|u1"; i8: "|i1" "|i1"; u16: "<u2" ">u2"; i16: "<i2" ">i2";
    u32: "<u4" ">u4"; i32: "<i4" ">i4"; u64: "<u8" ">u8"; i64: "<i8" ">i8";
    f32: "<f4" ">f4"; f64: "<f8" ">f8";
}

impl Descr {
    /// Bytes of one element.
    ///
    /// # Errors
    /// [`CodecError::Array`] for a type that is not one of numpy's, or holds objects.
    pub fn item_size(&self) -> Result<u64, CodecError> {
        match self {
            Descr::Item(text) => typestr_size(text),
            Descr::Fields(fields) => fields.iter().try_fold(0u64, |sum, field| {
                let one = field.descr.item_size()?;
                let all = field.shape.iter().try_fold(one, |all, &n| all.checked_mul(n));
                all.and_then(|all| sum.checked_add(all))
                    .ok_or_else(|| bad(format!("field '{}' overflows", field.name)))
            }),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let fields = match self {
            Descr::Item(text) => return write::str(out, text),
            Descr::Fields(fields) => fields,
        };
        write::array_head(out, fields.len())?;
        for field in fields {
            write::array_head(out, if field.shape.is_empty() { 2 } else { 3 })?;
            if let Some(title) = &field.title {
                write::array_head(out, 2)?;
                write::str(out, title)?;
            }
            write::str(out, &field.name)?;
            field.descr.write(out)?;
            if !field.shape.is_empty() {
                write::array_head(out, field.shape.len())?;
                field.shape.iter().for_each(|&n| write::uint(out, n));
            }
        }
        Ok(())
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Descr, CodecError> {
        Descr::read_nested(r, 0)
    }

    fn read_nested(r: &mut Reader<'_>, depth: usize) -> Result<Descr, CodecError> {
        if depth > MAX_NESTING {
            return Err(bad(format!("element type nested deeper than {MAX_NESTING}")));
        }
        let fields = match r.head(0)? {
            Head::Str(text) => return Ok(Descr::Item(utf8(text)?)),
            Head::Array(n) => n,
            other => return Err(bad(format!("{other:?} where an element type should be"))),
        };
        // Not reserved: a field is larger in memory than the bytes that announce it.
        let mut all = Vec::new();
        for _ in 0..fields {
            let parts = match r.head(0)? {
                Head::Array(n @ 2..=3) => n,
                other => return Err(bad(format!("{other:?} where a field should be"))),
            };
            let (title, name) = match r.head(0)? {
                Head::Str(name) => (None, utf8(name)?),
                Head::Array(2) => (Some(read_str(r)?), read_str(r)?),
                other => return Err(bad(format!("{other:?} where a field name should be"))),
            };
            let descr = Descr::read_nested(r, depth + 1)?;
            let shape = if parts == 3 { read_shape(r)? } else { Vec::new() };
            all.push(Field { name, title, descr, shape });
        }
        Ok(Descr::Fields(all))
    }
}

fn read_str(r: &mut Reader<'_>) -> Result<String, CodecError> {
    match r.head(0)? {
        Head::Str(text) => utf8(text),
        other => Err(bad(format!("{other:?} where a name should be"))),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, CodecError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(bad("a name or type that is not utf-8".into())),
    }
}

/// Size of a numpy type string, which is checked to be one: nothing else may reach `numpy.dtype`.
fn typestr_size(text: &str) -> Result<u64, CodecError> {
    let refuse = || bad(format!("'{text}' is not a numpy type string"));
    let mut chars = text.chars();
    let order = chars.next().ok_or_else(refuse)?;
    let kind = chars.next().ok_or_else(refuse)?;
    if kind == 'O' {
        return Err(bad("object elements cannot leave their process".into()));
    }
    let rest = chars.as_str();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (size, unit) = rest.split_at(digits);
    let size: u64 = size.parse().map_err(|_| refuse())?;
    let fits = match kind {
        'b' => size == 1,
        'i' | 'u' => matches!(size, 1 | 2 | 4 | 8),
        'f' => matches!(size, 2 | 4 | 8 | 12 | 16),
        'c' => matches!(size, 8 | 16 | 24 | 32),
        'M' | 'm' => size == 8,
        'S' | 'U' | 'V' => i32::try_from(size).is_ok(),
        _ => false,
    };
    let unit_fits = match kind {
        'M' | 'm' => {
            unit.is_empty()
                || unit.strip_prefix('[').and_then(|u| u.strip_suffix(']')).is_some_and(|u| {
                    !u.is_empty() && u.len() <= 24 && u.chars().all(|c| c.is_ascii_alphanumeric())
                })
        }
        _ => unit.is_empty(),
    };
    if !matches!(order, '<' | '>' | '|') || !fits || !unit_fits {
        return Err(refuse());
    }
    Ok(if kind == 'U' { size * 4 } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_strings() {
        for (text, size) in
            [("<f8", 8), ("|b1", 1), (">c16", 16), ("<U5", 20), ("|S0", 0), ("<M8[25us]", 8)]
        {
            assert_eq!(Descr::Item(text.into()).item_size().unwrap(), size, "{text}");
        }
        for text in [
            "", "<", "f8", "<f", "<f3", "|O", "|O8", "<f8,<f8", "<M8[us", "<M8[]", "<i8[us]", "<é8",
        ] {
            assert!(Descr::Item(text.into()).item_size().is_err(), "{text}");
        }
    }

    #[test]
    fn structured_types_come_back() {
        let plain = |name: &str, descr: &str| Field {
            name: name.into(),
            title: None,
            descr: Descr::Item(descr.into()),
            shape: vec![],
        };
        let inner = Descr::Fields(vec![plain("x", "<f4"), plain("", "|V4")]);
        let descr = Descr::Fields(vec![
            Field { title: Some("Title".into()), ..plain("a", "<i8") },
            Field { name: "b".into(), title: None, descr: inner, shape: vec![2, 3] },
        ]);
        assert_eq!(descr.item_size().unwrap(), 8 + 8 * 6);
        let mut bytes = Vec::new();
        descr.write(&mut bytes).unwrap();
        assert_eq!(Descr::read(&mut Reader::new(&bytes)).unwrap(), descr);
    }

    #[test]
    fn nested_types_do_not_recurse_for_ever() {
        let mut bytes = Vec::new();
        for _ in 0..10_000 {
            bytes.extend_from_slice(&[0x91, 0x92, 0xa1, b'a']);
        }
        bytes.extend_from_slice(b"\xa3<f8");
        assert!(Descr::read(&mut Reader::new(&bytes)).is_err());
    }
}
