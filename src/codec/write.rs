//! Writing msgpack into a `Vec<u8>`: rmp's smallest forms without a `Result` that cannot
//! fail; the shortest of them, which are nearly all that is ever written, in place.

#![cfg_attr(
    not(feature = "python"),
    allow(dead_code, reason = "only Python's direct walk writes every kind")
)]

use rmp::encode;

use super::error::CodecError;

/// Longest head of an extension: marker, u32 length, id.
const EXT_HEAD: usize = 6;

/// A `Vec` takes every write; rmp's `Result` is there for other writers.
#[inline(always)]
fn infallible<T, E>(written: Result<T, E>) {
    debug_assert!(written.is_ok());
}

/// The u32 that msgpack has for a length.
pub(crate) fn length(n: usize) -> Result<u32, CodecError> {
    u32::try_from(n).map_err(|_| CodecError::TooLong)
}

#[inline]
pub(crate) fn nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

#[inline]
pub(crate) fn boolean(out: &mut Vec<u8>, v: bool) {
    out.push(if v { 0xc3 } else { 0xc2 });
}

#[inline]
pub(crate) fn int(out: &mut Vec<u8>, v: i64) {
    match v {
        -32..=127 => out.push(v.to_le_bytes()[0]),
        128..=0xff => out.extend_from_slice(&[0xcc, v.to_le_bytes()[0]]),
        0x100..=0xffff => {
            let [low, high, ..] = v.to_le_bytes();
            out.extend_from_slice(&[0xcd, high, low]);
        }
        0x1_0000.. => infallible(encode::write_uint(out, v.unsigned_abs())),
        _ => infallible(encode::write_sint(out, v)),
    }
}

#[inline]
pub(crate) fn uint(out: &mut Vec<u8>, v: u64) {
    infallible(encode::write_uint(out, v));
}

#[inline]
pub(crate) fn float(out: &mut Vec<u8>, v: f64) {
    let mut bytes = [0xcb; 9];
    bytes[1..].copy_from_slice(&v.to_be_bytes());
    out.extend_from_slice(&bytes);
}

#[inline]
pub(crate) fn str(out: &mut Vec<u8>, v: &str) -> Result<(), CodecError> {
    if let Ok(len @ 0..32) = u8::try_from(v.len()) {
        out.reserve(1 + v.len());
        out.push(0xa0 | len);
        out.extend_from_slice(v.as_bytes());
        return Ok(());
    }
    infallible(encode::write_str_len(out, length(v.len())?));
    out.extend_from_slice(v.as_bytes());
    Ok(())
}

#[inline]
pub(crate) fn bin_head(out: &mut Vec<u8>, len: usize) -> Result<(), CodecError> {
    infallible(encode::write_bin_len(out, length(len)?));
    Ok(())
}

#[inline]
pub(crate) fn array_head(out: &mut Vec<u8>, items: usize) -> Result<(), CodecError> {
    match u8::try_from(items) {
        Ok(small @ 0..16) => out.push(0x90 | small),
        _ => infallible(encode::write_array_len(out, length(items)?)),
    }
    Ok(())
}

#[inline]
pub(crate) fn map_head(out: &mut Vec<u8>, pairs: usize) -> Result<(), CodecError> {
    match u8::try_from(pairs) {
        Ok(small @ 0..16) => out.push(0x80 | small),
        _ => infallible(encode::write_map_len(out, length(pairs)?)),
    }
    Ok(())
}

#[inline]
pub(crate) fn ext_head(out: &mut Vec<u8>, id: i8, len: usize) -> Result<(), CodecError> {
    infallible(encode::write_ext_meta(out, length(len)?, id));
    Ok(())
}

/// An extension whose body is at hand.
pub(crate) fn ext(out: &mut Vec<u8>, id: i8, body: &[u8]) -> Result<(), CodecError> {
    ext_head(out, id, body.len())?;
    out.extend_from_slice(body);
    Ok(())
}

/// Begins an extension whose body is written next; hand the result to [`ext_end`].
pub(crate) fn ext_begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; EXT_HEAD]);
    start
}

/// Ends what [`ext_begin`] began: writes the smallest head and moves the body up to it.
pub(crate) fn ext_end(out: &mut Vec<u8>, start: usize, id: i8) -> Result<(), CodecError> {
    let body = out.len() - start - EXT_HEAD;
    let mut head = [0u8; EXT_HEAD];
    let mut rest = &mut head[..];
    infallible(encode::write_ext_meta(&mut rest, length(body)?, id));
    let used = EXT_HEAD - rest.len();
    out[start..start + used].copy_from_slice(&head[..used]);
    if used < EXT_HEAD {
        out.copy_within(start + EXT_HEAD.., start + used);
        out.truncate(start + used + body);
    }
    Ok(())
}
