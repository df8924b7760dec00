//! What a view reads and writes, as traits over the types.

use super::error::ViewError;
use super::wire::{self, PREFIX};

/// A type that [`View::read`](crate::View::read) gives: `bool`, `i32`, `u32`, `i64`, `u64`, `f32`,
/// `f64`, `String` and `Vec<u8>`, which are copies, and `&str` and `&[u8]`, which lie in the view.
///
/// Copies are made first and checked then. So they are right even where the bytes change meanwhile,
/// against the agreement that holds behind every `&[u8]`; the borrowed forms rely on it.
///
/// Sealed: the types are those of docs/format.md.
///
/// ```
/// use ringspan::View;
///
/// let mut view = View::read_only(b"\x02\0\0\0hi\x01");
/// assert_eq!(view.read_at::<&str>(0)?, "hi");
/// assert_eq!(view.read::<String>()?, "hi");
/// assert!(view.read::<bool>()?);
/// # Ok::<(), ringspan::ViewError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "a view does not read `{Self}`",
    note = "it reads bool, i32, u32, i64, u64, f32, f64, String, &str, Vec<u8> and &[u8]"
)]
pub trait ReadItem<'b>: Sized + sealed::Sealed {
    /// The item at `at`, and where it ends.
    #[doc(hidden)]
    fn get(bytes: &'b [u8], at: usize) -> Result<(Self, usize), ViewError>;
}

/// A type that [`View::write`](crate::View::write) takes: `bool`, `i32`, `u32`, `i64`, `u64`, `f32`,
/// `f64`, `str`, `String`, `[u8]`, `[u8; N]`, `Vec<u8>`, a [`ViewItem`](crate::ViewItem), and
/// references to them.
///
/// Sealed: the types are those of docs/format.md.
///
/// ```
/// use ringspan::View;
///
/// let mut bytes = [0; 16];
/// let mut view = View::new(&mut bytes);
/// view.write("hi")?;
/// view.write(b"ho")?;
/// view.write(7_u32)?; // a bare 7 is an i32
/// assert_eq!(bytes, *b"\x02\0\0\0hi\x02\0\0\0ho\x07\0\0\0");
/// # Ok::<(), ringspan::ViewError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "a view does not write `{Self}`",
    note = "it writes bool, i32, u32, i64, u64, f32, f64, str, String, [u8], Vec<u8>, ViewItem"
)]
pub trait WriteItem: sealed::Sealed {
    /// Bytes that it takes in the view.
    #[doc(hidden)]
    fn size(&self) -> Result<usize, ViewError>;

    /// Fills the bytes that it takes, exactly [`size`](WriteItem::size) of them.
    #[doc(hidden)]
    fn put(&self, out: &mut [u8]);
}

pub(super) mod sealed {
    /// What keeps the traits to the types of the format.
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl sealed::Sealed for $number {}

        impl ReadItem<'_> for $number {
            fn get(bytes: &[u8], at: usize) -> Result<(Self, usize), ViewError> {
                let item = wire::array(bytes, at)?;
                Ok((<$number>::from_le_bytes(item), at + item.len()))
            }
        }

        impl WriteItem for $number {
            fn size(&self) -> Result<usize, ViewError> {
                Ok(size_of::<$number>())
            }

            fn put(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

numbers!(i32, u32, i64, u64, f32, f64);

impl sealed::Sealed for bool {}

impl ReadItem<'_> for bool {
    fn get(bytes: &[u8], at: usize) -> Result<(Self, usize), ViewError> {
        Ok((wire::flag(bytes, at)?, at + 1))
    }
}

impl WriteItem for bool {
    fn size(&self) -> Result<usize, ViewError> {
        Ok(1)
    }

    fn put(&self, out: &mut [u8]) {
        out.fill(u8::from(*self));
    }
}

impl sealed::Sealed for [u8] {}
impl sealed::Sealed for str {}
impl sealed::Sealed for String {}
impl sealed::Sealed for Vec<u8> {}
impl<const N: usize> sealed::Sealed for [u8; N] {}
impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {}

impl<'b> ReadItem<'b> for &'b [u8] {
    fn get(bytes: &'b [u8], at: usize) -> Result<(Self, usize), ViewError> {
        let body = wire::body(bytes, at)?;
        let end = body.end;
        Ok((&bytes[body], end))
    }
}

impl<'b> ReadItem<'b> for &'b str {
    fn get(bytes: &'b [u8], at: usize) -> Result<(Self, usize), ViewError> {
        let (body, end) = <&[u8]>::get(bytes, at)?;
        let text = std::str::from_utf8(body).map_err(|err| wire::bad_utf8(at, err))?;
        Ok((text, end))
    }
}

impl ReadItem<'_> for Vec<u8> {
    fn get(bytes: &[u8], at: usize) -> Result<(Self, usize), ViewError> {
        let item = wire::bytes(bytes, at)?;
        let end = at + PREFIX + item.len();
        Ok((item, end))
    }
}

impl ReadItem<'_> for String {
    fn get(bytes: &[u8], at: usize) -> Result<(Self, usize), ViewError> {
        let item = wire::text(bytes, at)?;
        let end = at + PREFIX + item.len();
        Ok((item, end))
    }
}

impl WriteItem for [u8] {
    fn size(&self) -> Result<usize, ViewError> {
        let len = self.len();
        let fits = u32::try_from(len).is_ok();
        len.checked_add(PREFIX).filter(|_| fits).ok_or(ViewError::TooLong { len })
    }

    fn put(&self, out: &mut [u8]) {
        if let Some((len, body)) = out.split_first_chunk_mut::<PREFIX>() {
            // Not more than fits: `size` has said so.
            *len = u32::try_from(self.len()).unwrap_or(u32::MAX).to_le_bytes();
            body.copy_from_slice(self);
        }
    }
}

/// Types that are written as another one.
macro_rules! written_as {
    ($([$($generics:tt)*] $type:ty => |$this:ident| $inner:expr;)*) => {$(
        impl<$($generics)*> WriteItem for $type {
            fn size(&self) -> Result<usize, ViewError> {
                let $this = self;
                $inner.size()
            }

            fn put(&self, out: &mut [u8]) {
                let $this = self;
                $inner.put(out);
            }
        }
    )*};
}

written_as! {
    [] str => |this| this.as_bytes();
    [] String => |this| this.as_bytes();
    [] Vec<u8> => |this| this.as_slice();
    [const N: usize] [u8; N] => |this| this.as_slice();
    [T: WriteItem + ?Sized] &T => |this| (**this);
}
