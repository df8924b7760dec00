//! Reading msgpack from bytes that nobody vouches for: one head at a time, every length checked
//! against what is there before anything is taken, and [`scan`], which checks a whole value.

use rmp::Marker;

use super::MAX_DEPTH;
use super::error::CodecError;
use super::ext::{self, Body};

/// One msgpack head; strings, bytes and extensions come with their bodies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Head<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    /// Only above `i64::MAX`.
    UInt(u64),
    Float(f64),
    Str(&'a [u8]),
    Bin(&'a [u8]),
    /// So many values follow.
    Array(usize),
    /// So many pairs follow.
    Map(usize),
    Ext(i8, &'a [u8]),
}

/// A cursor over msgpack bytes.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, pos: 0 }
    }

    /// Byte offset of the next head.
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// Bytes not yet read.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.pos
    }

    /// Error unless everything was read.
    pub(crate) fn end(&self) -> Result<(), CodecError> {
        match self.left() {
            0 => Ok(()),
            extra => Err(CodecError::Trailing { extra }),
        }
    }

    #[inline(always)]
    fn take(&mut self, n: usize, at: usize) -> Result<&'a [u8], CodecError> {
        match self.bytes[self.pos..].split_at_checked(n) {
            Some((body, _)) => {
                self.pos += n;
                Ok(body)
            }
            None => Err(CodecError::Truncated { at }),
        }
    }

    #[inline(always)]
    fn fixed<const N: usize>(&mut self, at: usize) -> Result<[u8; N], CodecError> {
        match self.bytes[self.pos..].first_chunk::<N>() {
            Some(body) => {
                self.pos += N;
                Ok(*body)
            }
            None => Err(CodecError::Truncated { at }),
        }
    }

    #[inline(always)]
    fn len8(&mut self, at: usize) -> Result<usize, CodecError> {
        Ok(usize::from(self.fixed::<1>(at)?[0]))
    }

    #[inline(always)]
    fn len16(&mut self, at: usize) -> Result<usize, CodecError> {
        Ok(usize::from(u16::from_be_bytes(self.fixed(at)?)))
    }

    #[inline(always)]
    fn len32(&mut self, at: usize) -> Result<usize, CodecError> {
        let n = u32::from_be_bytes(self.fixed(at)?);
        usize::try_from(n).map_err(|_| CodecError::Truncated { at })
    }

    #[inline(always)]
    fn ext(&mut self, len: usize, at: usize) -> Result<Head<'a>, CodecError> {
        let [id] = self.fixed::<1>(at)?;
        Ok(Head::Ext(i8::from_be_bytes([id]), self.take(len, at)?))
    }

    /// The next head. `owed` is how many values the open containers still need behind this one:
    /// each takes a byte at least, so a container that declares more is refused before anybody
    /// allocates for it.
    #[inline(always)]
    pub(crate) fn head(&mut self, owed: usize) -> Result<Head<'a>, CodecError> {
        // Small integers and short strings are most of what travels.
        if let Some((&first, rest)) = self.bytes[self.pos..].split_first() {
            let len = usize::from(first & 0x1f);
            if first < 0x80 && rest.len() >= owed {
                self.pos += 1;
                return Ok(Head::Int(i64::from(first)));
            }
            if first & 0xe0 == 0xa0 && rest.len() >= len.saturating_add(owed) {
                self.pos += 1 + len;
                return Ok(Head::Str(&rest[..len]));
            }
        }
        self.any_head(owed)
    }

    /// Every form of head, and every refusal.
    #[inline(always)]
    fn any_head(&mut self, owed: usize) -> Result<Head<'a>, CodecError> {
        let at = self.pos;
        let marker = Marker::from_u8(self.fixed::<1>(at)?[0]);
        let head = match marker {
            Marker::FixPos(v) => Head::Int(i64::from(v)),
            Marker::FixNeg(v) => Head::Int(i64::from(v)),
            Marker::FixStr(n) => Head::Str(self.take(usize::from(n), at)?),
            Marker::FixArray(n) => Head::Array(usize::from(n)),
            Marker::FixMap(n) => Head::Map(usize::from(n)),
            Marker::Null => Head::Nil,
            Marker::False => Head::Bool(false),
            Marker::True => Head::Bool(true),
            Marker::U8 => Head::Int(i64::from(u8::from_be_bytes(self.fixed(at)?))),
            Marker::U16 => Head::Int(i64::from(u16::from_be_bytes(self.fixed(at)?))),
            Marker::U32 => Head::Int(i64::from(u32::from_be_bytes(self.fixed(at)?))),
            Marker::U64 => {
                let v = u64::from_be_bytes(self.fixed(at)?);
                i64::try_from(v).map_or(Head::UInt(v), Head::Int)
            }
            Marker::I8 => Head::Int(i64::from(i8::from_be_bytes(self.fixed(at)?))),
            Marker::I16 => Head::Int(i64::from(i16::from_be_bytes(self.fixed(at)?))),
            Marker::I32 => Head::Int(i64::from(i32::from_be_bytes(self.fixed(at)?))),
            Marker::I64 => Head::Int(i64::from_be_bytes(self.fixed(at)?)),
            Marker::F32 => Head::Float(f64::from(f32::from_be_bytes(self.fixed(at)?))),
            Marker::F64 => Head::Float(f64::from_be_bytes(self.fixed(at)?)),
            Marker::Str8 => self.len8(at).and_then(|n| self.take(n, at)).map(Head::Str)?,
            Marker::Str16 => self.len16(at).and_then(|n| self.take(n, at)).map(Head::Str)?,
            Marker::Str32 => self.len32(at).and_then(|n| self.take(n, at)).map(Head::Str)?,
            Marker::Bin8 => self.len8(at).and_then(|n| self.take(n, at)).map(Head::Bin)?,
            Marker::Bin16 => self.len16(at).and_then(|n| self.take(n, at)).map(Head::Bin)?,
            Marker::Bin32 => self.len32(at).and_then(|n| self.take(n, at)).map(Head::Bin)?,
            Marker::Array16 => Head::Array(self.len16(at)?),
            Marker::Array32 => Head::Array(self.len32(at)?),
            Marker::Map16 => Head::Map(self.len16(at)?),
            Marker::Map32 => Head::Map(self.len32(at)?),
            Marker::FixExt1 => self.ext(1, at)?,
            Marker::FixExt2 => self.ext(2, at)?,
            Marker::FixExt4 => self.ext(4, at)?,
            Marker::FixExt8 => self.ext(8, at)?,
            Marker::FixExt16 => self.ext(16, at)?,
            Marker::Ext8 => self.len8(at).and_then(|n| self.ext(n, at))?,
            Marker::Ext16 => self.len16(at).and_then(|n| self.ext(n, at))?,
            Marker::Ext32 => self.len32(at).and_then(|n| self.ext(n, at))?,
            Marker::Reserved => return Err(CodecError::BadMarker { at }),
        };
        // Values still owed need a byte each, also behind a string or an extension: so all that
        // open containers make anybody allocate is bounded by the length of the message.
        let needs = match head {
            Head::Array(n) => n,
            Head::Map(n) => n.saturating_mul(2),
            _ => 0,
        };
        if needs.saturating_add(owed) > self.left() {
            return Err(CodecError::Truncated { at });
        }
        Ok(head)
    }
}

/// Checks one whole value: lengths, depth, extension ids (UTF-8 is left to the decoder). Gives the
/// first extension id met, if any.
pub(crate) fn scan(bytes: &[u8]) -> Result<Option<i8>, CodecError> {
    let mut reader = Reader::new(bytes);
    let mut first_ext = None;
    value(&mut reader, 0, 0, &mut first_ext)?;
    reader.end()?;
    Ok(first_ext)
}

/// Recursion is bounded by `MAX_DEPTH`: every level is a container or the extension around one.
fn value(
    reader: &mut Reader<'_>,
    depth: usize,
    owed: usize,
    first_ext: &mut Option<i8>,
) -> Result<(), CodecError> {
    let items = match reader.head(owed)? {
        Head::Array(n) => n,
        Head::Map(n) => n * 2,
        Head::Ext(id, body) => {
            first_ext.get_or_insert(id);
            return ext_body(id, body, depth, first_ext);
        }
        _ => return Ok(()),
    };
    if depth >= MAX_DEPTH {
        return Err(CodecError::TooDeep);
    }
    for i in 0..items {
        value(reader, depth + 1, owed + (items - i - 1), first_ext)?;
    }
    Ok(())
}

fn ext_body(
    id: i8,
    body: &[u8],
    depth: usize,
    first_ext: &mut Option<i8>,
) -> Result<(), CodecError> {
    let kind = ext::body(id).ok_or(CodecError::UnknownExt(id))?;
    let head = match kind {
        Body::Flat => return Ok(()),
        Body::Array | Body::Map => Reader::new(body).head(0)?,
    };
    match (kind, head) {
        (Body::Array, Head::Array(_)) | (Body::Map, Head::Map(_)) => {
            let mut inner = Reader::new(body);
            value(&mut inner, depth, 0, first_ext)?;
            inner.end()
        }
        _ => Err(CodecError::BadExt(id)),
    }
}
