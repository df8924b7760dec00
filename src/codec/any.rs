//! A value of which nothing is known yet, with every extension already turned into what a Rust
//! type would take in its place. [`Exact`](super::Exact) reads through it.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserialize, IntoDeserializer, Visitor};

use super::array::ArrayMeta;
use super::error::CodecError;
use super::ext::{self, Body};
use super::read::{Head, Reader};
use super::{MAX_DEPTH, custom};

/// A msgpack value without extensions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Any {
    Nil,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Wide(i128),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Seq(Vec<Any>),
    Map(Vec<(Any, Any)>),
}

impl Any {
    /// The one value that fills `bytes`, already so deep inside others.
    fn read(bytes: &[u8], depth: usize) -> Result<Any, CodecError> {
        let mut r = Reader::new(bytes);
        let any = Any::next(&mut r, depth, 0)?;
        r.end().map(|()| any)
    }

    /// The next value; `owed` as in [`Reader::head`].
    fn next(r: &mut Reader<'_>, depth: usize, owed: usize) -> Result<Any, CodecError> {
        let at = r.pos();
        let head = r.head(owed)?;
        if matches!(head, Head::Array(_) | Head::Map(_)) && depth >= MAX_DEPTH {
            return Err(CodecError::TooDeep);
        }
        Ok(match head {
            Head::Nil => Any::Nil,
            Head::Bool(v) => Any::Bool(v),
            Head::Int(v) => Any::Int(v),
            Head::UInt(v) => Any::UInt(v),
            Head::Float(v) => Any::Float(v),
            Head::Str(v) => {
                Any::Str(String::from_utf8(v.to_vec()).map_err(|_| CodecError::BadUtf8 { at })?)
            }
            Head::Bin(v) => Any::Bytes(v.to_vec()),
            Head::Ext(id, body) => Any::from_ext(id, body, depth)?,
            Head::Array(n) => Any::Seq(
                (0..n)
                    .map(|i| Any::next(r, depth + 1, owed + (n - i - 1)))
                    .collect::<Result<_, _>>()?,
            ),
            Head::Map(n) => {
                let mut pairs = Vec::new();
                for i in 0..n {
                    let behind = owed + 2 * (n - i - 1);
                    let key = Any::next(r, depth + 1, behind + 1)?;
                    pairs.push((key, Any::next(r, depth + 1, behind)?));
                }
                Any::Map(pairs)
            }
        })
    }

    /// What stands for an extension: sequences and maps for the containers, text for what has a
    /// text form, bytes for the rest.
    fn from_ext(id: i8, body: &[u8], depth: usize) -> Result<Any, CodecError> {
        let damaged = || CodecError::BadExt(id);
        let text = || String::from_utf8(body.to_vec()).map(Any::Str).map_err(|_| damaged());
        Ok(match id {
            ext::BIG_INT => Any::Wide(wide(body).ok_or_else(|| {
                CodecError::Deserialize(
                    format!("integer of {} bytes does not fit in i128", body.len()).into(),
                )
            })?),
            ext::COMPLEX => {
                let (re, im) = body.split_first_chunk::<8>().ok_or_else(damaged)?;
                let im: [u8; 8] = im.try_into().map_err(|_| damaged())?;
                let part = |b| Any::Float(f64::from_be_bytes(b));
                Any::Seq(vec![part(*re), part(im)])
            }
            ext::DECIMAL | ext::DATETIME | ext::DATE | ext::TIME => text()?,
            ext::TIMEDELTA => {
                let (secs, micros) = body.split_first_chunk::<8>().ok_or_else(damaged)?;
                let micros: [u8; 4] = micros.try_into().map_err(|_| damaged())?;
                let micros = i64::from(u32::from_be_bytes(micros));
                Any::Seq(vec![Any::Int(i64::from_be_bytes(*secs)), Any::Int(micros)])
            }
            ext::PATH
            | ext::PURE_POSIX_PATH
            | ext::PURE_WINDOWS_PATH
            | ext::POSIX_PATH
            | ext::WINDOWS_PATH => text().unwrap_or_else(|_| Any::Bytes(body.to_vec())),
            ext::UUID | ext::BYTEARRAY => Any::Bytes(body.to_vec()),
            ext::NDARRAY | ext::NUMPY_SCALAR => array(body)?,
            ext::ELLIPSIS => Any::Nil,
            ext::DEQUE | ext::MEMORYVIEW | ext::NAMEDTUPLE => {
                let Any::Seq(mut items) = Any::read(body, depth)? else { return Err(damaged()) };
                // Without: maxlen | format and shape | name and field names.
                let before = if id == ext::DEQUE { 1 } else { 2 };
                if items.len() < before {
                    return Err(damaged());
                }
                let head: Vec<Any> = items.drain(..before).collect();
                match id {
                    ext::DEQUE => Any::Seq(items),
                    ext::MEMORYVIEW => items.pop().ok_or_else(damaged)?,
                    _ => named(head, items).ok_or_else(damaged)?,
                }
            }
            ext::CHAIN_MAP => {
                let Any::Seq(maps) = Any::read(body, depth)? else { return Err(damaged()) };
                chain(maps).ok_or_else(damaged)?
            }
            _ => {
                let kind = ext::body(id).ok_or(CodecError::UnknownExt(id))?;
                match (kind, Any::read(body, depth)?) {
                    (Body::Array, items @ Any::Seq(_)) => items,
                    (Body::Map, pairs @ Any::Map(_)) => pairs,
                    _ => return Err(damaged()),
                }
            }
        })
    }
}

/// An integer of any width, if i128 holds it.
fn wide(body: &[u8]) -> Option<i128> {
    let first = *body.first()?;
    let fill = if first & 0x80 == 0 { 0 } else { 0xff };
    let mut full = [fill; 16];
    full.get_mut(16usize.checked_sub(body.len())?..)?.copy_from_slice(body);
    Some(i128::from_be_bytes(full))
}

/// A named tuple is a struct in Rust: a map from field name to value.
fn named(head: Vec<Any>, values: Vec<Any>) -> Option<Any> {
    let Some(Any::Str(fields)) = head.into_iter().nth(1) else { return None };
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    if fields.len() != values.len() {
        return None;
    }
    let pairs = fields.iter().map(|f| Any::Str((*f).to_owned())).zip(values);
    Some(Any::Map(pairs.collect()))
}

/// A chain of maps read as one: of a key that several have, the first map's value counts.
fn chain(maps: Vec<Any>) -> Option<Any> {
    let mut all = Vec::new();
    for map in maps.into_iter().rev() {
        let Any::Map(pairs) = map else { return None };
        all.extend(pairs);
    }
    // Types that collect a map keep the last of equal keys, which is the first map's.
    Some(Any::Map(all))
}

/// An array inside a value: a map of `shape`, `fortran` and `data`.
fn array(body: &[u8]) -> Result<Any, CodecError> {
    let (meta, used) = ArrayMeta::read(body)?;
    let data = &body[used..];
    if data.len() != meta.byte_len() {
        return Err(CodecError::BadExt(ext::NDARRAY));
    }
    let dtype = match meta.descr() {
        super::Descr::Item(text) => Any::Str(text.clone()),
        super::Descr::Fields(_) => Any::Nil,
    };
    let shape = meta.shape().iter().map(|&n| Any::UInt(n)).collect();
    let key = |k: &str| Any::Str(k.to_owned());
    Ok(Any::Map(vec![
        (key("dtype"), dtype),
        (key("shape"), Any::Seq(shape)),
        (key("fortran"), Any::Bool(meta.is_fortran())),
        (key("data"), Any::Bytes(data.to_vec())),
    ]))
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a msgpack value")
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Nil)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Any, E> {
        Ok(Any::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Any, E> {
        Ok(Any::Int(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Any, E> {
        Ok(Any::UInt(v))
    }

    fn visit_i128<E>(self, v: i128) -> Result<Any, E> {
        Ok(Any::Wide(v))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Any, E> {
        Ok(Any::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Any, E> {
        Ok(Any::Str(v.to_owned()))
    }

    fn visit_bytes<E>(self, v: &[u8]) -> Result<Any, E> {
        Ok(Any::Bytes(v.to_vec()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Any, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Any::Seq(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Any::Map(pairs))
    }

    /// rmp-serde hands extensions over as a pair of id and body.
    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, d: D) -> Result<Any, D::Error> {
        let (id, body) = <(i8, &serde_bytes::Bytes)>::deserialize(d)?;
        Any::from_ext(id, body, 0).map_err(custom)
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: de::Deserializer<'de>>(d: D) -> Result<Any, D::Error> {
        d.deserialize_any(AnyVisitor)
    }
}

impl<'de> IntoDeserializer<'de, CodecError> for Any {
    type Deserializer = Any;

    fn into_deserializer(self) -> Any {
        self
    }
}

impl<'de> de::Deserializer<'de> for Any {
    type Error = CodecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        match self {
            Any::Nil => visitor.visit_unit(),
            Any::Bool(v) => visitor.visit_bool(v),
            Any::Int(v) => visitor.visit_i64(v),
            Any::UInt(v) => visitor.visit_u64(v),
            Any::Wide(v) => visitor.visit_i128(v),
            Any::Float(v) => visitor.visit_f64(v),
            Any::Str(v) => visitor.visit_string(v),
            Any::Bytes(v) => visitor.visit_byte_buf(v),
            Any::Seq(items) => {
                let mut seq = SeqDeserializer::new(items.into_iter());
                let value = visitor.visit_seq(&mut seq)?;
                seq.end()?;
                Ok(value)
            }
            Any::Map(pairs) => {
                let mut map = MapDeserializer::new(pairs.into_iter());
                let value = visitor.visit_map(&mut map)?;
                map.end()?;
                Ok(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        match self {
            Any::Nil => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        match self {
            // A unit variant is its name, any other a map of one pair, as rmp-serde writes them.
            Any::Str(name) => visitor.visit_enum(name.into_deserializer()),
            Any::Map(pairs) if pairs.len() == 1 => visitor.visit_enum(
                de::value::MapAccessDeserializer::new(MapDeserializer::new(pairs.into_iter())),
            ),
            _ => {
                Err(CodecError::Deserialize("not an enum: neither a name nor a map of one".into()))
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
