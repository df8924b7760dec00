//! Items as bytes, out of any memory that can be copied from: every byte is looked at once, on a copy
//! of our own, and every length is checked before room is made for it. The one place that knows the
//! section "Items of a view" of docs/format.md, together with `item.rs`, which writes.

use std::ops::Range;

use super::error::ViewError;

/// Bytes of the length before a str or bytes.
pub(super) const PREFIX: usize = 4;

/// Memory that others may write meanwhile.
pub(crate) trait Source {
    /// Bytes in it.
    fn size(&self) -> usize;

    /// Fills `out` with what lies at `at`; None if that is not all inside.
    fn copy(&self, at: usize, out: &mut [u8]) -> Option<()>;
}

impl Source for [u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn copy(&self, at: usize, out: &mut [u8]) -> Option<()> {
        let end = at.checked_add(out.len())?;
        out.copy_from_slice(self.get(at..end)?);
        Some(())
    }
}

/// The end of `wanted` bytes at `offset`, which all lie in `size`.
pub(crate) fn end_of(offset: usize, wanted: usize, size: usize) -> Result<usize, ViewError> {
    match offset.checked_add(wanted) {
        Some(end) if end <= size => Ok(end),
        _ => Err(ViewError::OutOfBounds { offset, wanted, size }),
    }
}

/// Copies what lies at `at`.
fn copy<S: Source + ?Sized>(from: &S, at: usize, out: &mut [u8]) -> Result<(), ViewError> {
    let outside = ViewError::OutOfBounds { offset: at, wanted: out.len(), size: from.size() };
    from.copy(at, out).ok_or(outside)
}

/// The bytes of an item of fixed size.
pub(super) fn array<const N: usize, S: Source + ?Sized>(
    from: &S,
    at: usize,
) -> Result<[u8; N], ViewError> {
    let mut bytes = [0; N];
    copy(from, at, &mut bytes)?;
    Ok(bytes)
}

/// A bool.
pub(super) fn flag<S: Source + ?Sized>(from: &S, at: usize) -> Result<bool, ViewError> {
    match array(from, at)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [found] => Err(ViewError::BadBool { offset: at, found }),
    }
}

/// Where the content of a str or bytes lies whose length is at `at`.
pub(crate) fn body<S: Source + ?Sized>(from: &S, at: usize) -> Result<Range<usize>, ViewError> {
    let len = u32::from_le_bytes(array::<PREFIX, S>(from, at)?);
    let (wanted, size) = (usize::try_from(len).unwrap_or(usize::MAX), from.size());
    let start = at + PREFIX;
    match end_of(start, wanted, size) {
        Ok(end) => Ok(start..end),
        Err(_) => Err(ViewError::BadLength { offset: at, wanted, size }),
    }
}

/// A copy of the content of bytes.
pub(super) fn bytes<S: Source + ?Sized>(from: &S, at: usize) -> Result<Vec<u8>, ViewError> {
    let body = body(from, at)?;
    let mut bytes = vec![0; body.len()];
    copy(from, body.start, &mut bytes)?;
    Ok(bytes)
}

/// A copy of the content of a str.
pub(super) fn text<S: Source + ?Sized>(from: &S, at: usize) -> Result<String, ViewError> {
    String::from_utf8(bytes(from, at)?).map_err(|err| bad_utf8(at, err.utf8_error()))
}

/// The error of the str at `at`.
pub(super) fn bad_utf8(at: usize, err: std::str::Utf8Error) -> ViewError {
    let byte = at.saturating_add(PREFIX).saturating_add(err.valid_up_to());
    ViewError::BadUtf8 { offset: at, byte }
}
