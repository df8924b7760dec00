//! Typed items, one after another, in a piece of memory.
//!
//! | file | job |
//! |---|---|
//! | `mod` | the cursor: [`View`] |
//! | `item` | the Rust types that are read and written |
//! | `tag`, `mixed` | types known at run time only, and rows of items |
//! | `wire` | bytes to items, out of memory that is not trusted |
//! | `error` | what can be wrong |

mod error;
mod item;
mod mixed;
mod tag;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{Deref, DerefMut};

pub use error::ViewError;
pub use item::{ReadItem, WriteItem};
pub use mixed::ViewItem;
pub use tag::ViewTag;

#[cfg(feature = "python")]
pub(crate) use mixed::read_all;
#[cfg(feature = "python")]
pub(crate) use wire::{Source, body, end_of};

/// A cursor over bytes that reads and writes typed items, as one does with a file.
///
/// The bytes are those of a lock's guard ([`View::new`] for writing, [`View::read_only`] for reading),
/// or any others: a `&mut guard` becomes the `&mut [u8]` that `new` takes by itself. The view borrows
/// them, so it ends before the lock is given back.
///
/// Items lie without gaps, little-endian, wherever they fall: `bool` as one byte, numbers as they are,
/// strings and bytes behind a length of 4 bytes. docs/format.md has it, and Python's `ringspan.View`
/// is the same. Types are not stored: read what was written. What makes no item (a bool of 7, a length
/// past the end, bad UTF-8) is an error and no panic, so the bytes may be anything.
///
/// There is one cursor for reads and writes. The `_at` and `_range` forms take an offset and leave the
/// cursor alone. What fails changes nothing, neither bytes nor cursor.
///
/// # What a crash leaves behind
///
/// A process that dies between two writes leaves the first one. The lock is poisoned then, which tells
/// the next one.
///
/// ```
/// use ringspan::View;
///
/// let mut memory = vec![0; 64]; // or the guard of a lock
/// let mut view = View::new(&mut memory);
/// view.write(7_i64)?;
/// view.write("seven")?;
/// view.write(true)?;
/// assert_eq!(view.tell(), 8 + 4 + 5 + 1);
///
/// let mut view = View::read_only(&memory);
/// assert_eq!(view.read::<i64>()?, 7);
/// assert_eq!(view.read::<String>()?, "seven");
/// assert!(view.read::<bool>()?);
/// # Ok::<(), ringspan::ViewError>(())
/// ```
pub struct View<B> {
    bytes: B,
    at: usize,
}

impl<'b> View<&'b mut [u8]> {
    /// A view that reads and writes, with its cursor at the start.
    ///
    /// ```
    /// use std::sync::Mutex;
    /// use ringspan::View;
    ///
    /// let lock = Mutex::new(vec![0; 8]); // a guard of any lock will do
    /// let mut guard = lock.lock().unwrap();
    /// View::new(&mut guard).write(1_i64)?;
    /// assert_eq!(*guard, 1_i64.to_le_bytes());
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    #[must_use]
    pub fn new(bytes: &'b mut [u8]) -> Self {
        View { bytes, at: 0 }
    }
}

impl<'b> View<&'b [u8]> {
    /// A view that reads, with its cursor at the start. It has no verbs that write.
    ///
    /// ```
    /// let mut view = ringspan::View::read_only(&[1, 0, 0, 0]);
    /// assert_eq!(view.read::<u32>()?, 1);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    ///
    /// ```compile_fail,E0599
    /// ringspan::View::read_only(&[0; 4]).write(1_u32);
    /// ```
    #[must_use]
    pub fn read_only(bytes: &'b [u8]) -> Self {
        View { bytes, at: 0 }
    }
}

impl<B: Deref<Target = [u8]>> View<B> {
    /// The same view with its cursor at `position`, which may be the end.
    ///
    /// # Errors
    ///
    /// As [`View::seek`].
    ///
    /// ```
    /// let mut view = ringspan::View::read_only(&[0, 0, 1]).with_position(2)?;
    /// assert!(view.read::<bool>()?);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn with_position(mut self, position: usize) -> Result<Self, ViewError> {
        self.seek(position)?;
        Ok(self)
    }

    /// Moves the cursor to `position`, which may be the end.
    ///
    /// # Errors
    ///
    /// [`ViewError::OutOfBounds`] beyond the end; the cursor stays.
    ///
    /// ```
    /// let mut view = ringspan::View::read_only(&[0; 8]);
    /// view.seek(8)?;
    /// assert!(view.seek(9).is_err());
    /// assert_eq!(view.tell(), 8);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn seek(&mut self, position: usize) -> Result<(), ViewError> {
        self.at = wire::end_of(position, 0, self.bytes.len())?;
        Ok(())
    }

    /// Where the cursor is, in bytes from the start.
    #[must_use]
    pub fn tell(&self) -> usize {
        self.at
    }

    /// Bytes in the view.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the view has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes from the cursor to the end.
    ///
    /// ```
    /// let view = ringspan::View::read_only(&[0; 8]).with_position(3)?;
    /// assert_eq!((view.tell(), view.remaining(), view.len()), (3, 5, 8));
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Reads the item at the cursor, and moves the cursor behind it.
    ///
    /// `&str` and `&[u8]` borrow from the view and copy nothing.
    ///
    /// # Errors
    ///
    /// [`ViewError::OutOfBounds`] when the view ends before the item does;
    /// [`ViewError::BadBool`], [`ViewError::BadLength`], [`ViewError::BadUtf8`] when what is there is
    /// no `T`. The cursor stays then.
    ///
    /// ```
    /// use ringspan::{View, ViewError};
    ///
    /// let mut view = View::read_only(b"\x02");
    /// assert_eq!(view.read::<bool>(), Err(ViewError::BadBool { offset: 0, found: 2 }));
    /// assert_eq!(view.tell(), 0);
    /// ```
    pub fn read<'s, T: ReadItem<'s>>(&'s mut self) -> Result<T, ViewError> {
        let (item, next) = T::get(&self.bytes, self.at)?;
        self.at = next;
        Ok(item)
    }

    /// Reads the item at `offset`; the cursor stays.
    ///
    /// # Errors
    ///
    /// Those of [`View::read`].
    ///
    /// ```
    /// let view = ringspan::View::read_only(b"..\x02\0\0\0hi");
    /// assert_eq!(view.read_at::<&str>(2)?, "hi");
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn read_at<'s, T: ReadItem<'s>>(&'s self, offset: usize) -> Result<T, ViewError> {
        Ok(T::get(&self.bytes, offset)?.0)
    }

    /// The `len` bytes at `offset`, as they are, without a length before them; the cursor stays.
    ///
    /// # Errors
    ///
    /// [`ViewError::OutOfBounds`] when they do not all lie in the view.
    ///
    /// ```
    /// let view = ringspan::View::read_only(b"abcdef");
    /// assert_eq!(view.read_range(2, 3)?, b"cde");
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn read_range(&self, offset: usize, len: usize) -> Result<&[u8], ViewError> {
        let end = wire::end_of(offset, len, self.bytes.len())?;
        Ok(&self.bytes[offset..end])
    }
}

impl<B: DerefMut<Target = [u8]>> View<B> {
    /// Writes an item at the cursor, and moves the cursor behind it.
    ///
    /// # Errors
    ///
    /// [`ViewError::OutOfBounds`] when it does not fit before the end, [`ViewError::TooLong`] for a
    /// string of 4 GiB or more. Nothing is written then and the cursor stays.
    ///
    /// ```
    /// let mut bytes = [0; 8];
    /// let mut view = ringspan::View::new(&mut bytes);
    /// view.write(1_u32)?;
    /// assert!(view.write("too long").is_err());
    /// assert_eq!(view.tell(), 4);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn write<T: WriteItem>(&mut self, item: T) -> Result<(), ViewError> {
        self.at = self.put_all(self.at, &[item])?;
        Ok(())
    }

    /// Writes an item at `offset`; the cursor stays.
    ///
    /// # Errors
    ///
    /// Those of [`View::write`].
    ///
    /// ```
    /// let mut bytes = [0; 4];
    /// ringspan::View::new(&mut bytes).write_at(3, true)?;
    /// assert_eq!(bytes, [0, 0, 0, 1]);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn write_at<T: WriteItem>(&mut self, offset: usize, item: T) -> Result<(), ViewError> {
        self.put_all(offset, &[item]).map(|_| ())
    }

    /// Writes bytes at `offset` as they are, without a length before them; the cursor stays.
    ///
    /// # Errors
    ///
    /// [`ViewError::OutOfBounds`] when they do not all fit; nothing is written then.
    ///
    /// ```
    /// let mut bytes = *b"abcdef";
    /// ringspan::View::new(&mut bytes).write_range(2, b"..")?;
    /// assert_eq!(&bytes, b"ab..ef");
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn write_range(&mut self, offset: usize, bytes: &[u8]) -> Result<(), ViewError> {
        let end = wire::end_of(offset, bytes.len(), self.bytes.len())?;
        self.bytes[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    /// Fills the whole view with zeros; the cursor stays.
    ///
    /// ```
    /// let mut bytes = *b"abc";
    /// ringspan::View::new(&mut bytes).zero();
    /// assert_eq!(bytes, [0; 3]);
    /// ```
    pub fn zero(&mut self) {
        self.bytes.fill(0);
    }

    /// Fills `len` bytes at `offset` with zeros; the cursor stays.
    ///
    /// # Errors
    ///
    /// [`ViewError::OutOfBounds`] when they do not all lie in the view; nothing is written then.
    ///
    /// ```
    /// let mut bytes = *b"abcd";
    /// ringspan::View::new(&mut bytes).zero_range(1, 2)?;
    /// assert_eq!(bytes, *b"a\0\0d");
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn zero_range(&mut self, offset: usize, len: usize) -> Result<(), ViewError> {
        let end = wire::end_of(offset, len, self.bytes.len())?;
        self.bytes[offset..end].fill(0);
        Ok(())
    }

    /// Writes items from `offset` on, all or none; where they end.
    fn put_all<T: WriteItem>(&mut self, offset: usize, items: &[T]) -> Result<usize, ViewError> {
        let mut wanted = 0_usize;
        for item in items {
            let size = item.size()?;
            wanted = wanted.checked_add(size).ok_or(ViewError::TooLong { len: usize::MAX })?;
        }
        let end = wire::end_of(offset, wanted, self.bytes.len())?;
        let mut rest = &mut self.bytes[offset..end];
        for item in items {
            // The size is that of the first time: nobody else has the item meanwhile.
            let (room, behind) = rest.split_at_mut(item.size()?);
            item.put(room);
            rest = behind;
        }
        Ok(end)
    }
}

impl<B: Deref<Target = [u8]>> fmt::Debug for View<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} bytes, at {})", self.bytes.len(), self.at)
    }
}

/// Puts an item behind what `out` holds already.
#[cfg(feature = "python")]
pub(crate) fn encode<T: WriteItem + ?Sized>(item: &T, out: &mut Vec<u8>) -> Result<(), ViewError> {
    let start = out.len();
    let size = item.size()?;
    out.resize(start + size, 0);
    item.put(&mut out[start..]);
    Ok(())
}
