//! Items whose types are known at run time only, and rows of them.

use std::ops::{Deref, DerefMut};

use super::View;
use super::error::ViewError;
use super::item::{WriteItem, sealed};
use super::tag::ViewTag;
use super::wire::{self, Source};

/// One item of a view, of any type: what [`View::read_mixed`] gives and [`View::write_mixed`] takes.
///
/// ```
/// use ringspan::{ViewItem, ViewTag};
///
/// let item = ViewItem::from("seven");
/// assert_eq!(item, ViewItem::Str("seven".into()));
/// assert_eq!(item.tag(), ViewTag::Str);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ViewItem {
    /// A `bool`.
    Bool(bool),
    /// An `i32`.
    I32(i32),
    /// A `u32`.
    U32(u32),
    /// An `i64`.
    I64(i64),
    /// A `u64`.
    U64(u64),
    /// An `f32`.
    F32(f32),
    /// An `f64`.
    F64(f64),
    /// A str.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl ViewItem {
    /// The type of the item.
    #[must_use]
    pub const fn tag(&self) -> ViewTag {
        match self {
            ViewItem::Bool(_) => ViewTag::Bool,
            ViewItem::I32(_) => ViewTag::I32,
            ViewItem::U32(_) => ViewTag::U32,
            ViewItem::I64(_) => ViewTag::I64,
            ViewItem::U64(_) => ViewTag::U64,
            ViewItem::F32(_) => ViewTag::F32,
            ViewItem::F64(_) => ViewTag::F64,
            ViewItem::Str(_) => ViewTag::Str,
            ViewItem::Bytes(_) => ViewTag::Bytes,
        }
    }

    /// What lies at `at` and where it ends.
    pub(crate) fn get<S: Source + ?Sized>(
        from: &S,
        at: usize,
        tag: ViewTag,
    ) -> Result<(ViewItem, usize), ViewError> {
        let item = match tag {
            ViewTag::Bool => ViewItem::Bool(wire::flag(from, at)?),
            ViewTag::I32 => ViewItem::I32(i32::from_le_bytes(wire::array(from, at)?)),
            ViewTag::U32 => ViewItem::U32(u32::from_le_bytes(wire::array(from, at)?)),
            ViewTag::I64 => ViewItem::I64(i64::from_le_bytes(wire::array(from, at)?)),
            ViewTag::U64 => ViewItem::U64(u64::from_le_bytes(wire::array(from, at)?)),
            ViewTag::F32 => ViewItem::F32(f32::from_le_bytes(wire::array(from, at)?)),
            ViewTag::F64 => ViewItem::F64(f64::from_le_bytes(wire::array(from, at)?)),
            ViewTag::Str => ViewItem::Str(wire::text(from, at)?),
            ViewTag::Bytes => ViewItem::Bytes(wire::bytes(from, at)?),
        };
        let end = at + item.size()?;
        Ok((item, end))
    }

    fn inner(&self) -> &dyn WriteItem {
        match self {
            ViewItem::Bool(item) => item,
            ViewItem::I32(item) => item,
            ViewItem::U32(item) => item,
            ViewItem::I64(item) => item,
            ViewItem::U64(item) => item,
            ViewItem::F32(item) => item,
            ViewItem::F64(item) => item,
            ViewItem::Str(item) => item,
            ViewItem::Bytes(item) => item,
        }
    }
}

impl sealed::Sealed for ViewItem {}

impl WriteItem for ViewItem {
    fn size(&self) -> Result<usize, ViewError> {
        self.inner().size()
    }

    fn put(&self, out: &mut [u8]) {
        self.inner().put(out);
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {$(
        impl From<$type> for ViewItem {
            fn from(item: $type) -> Self {
                ViewItem::$variant(item.into())
            }
        }
    )*};
}

from! {
    bool => Bool,
    i32 => I32,
    u32 => U32,
    i64 => I64,
    u64 => U64,
    f32 => F32,
    f64 => F64,
    &str => Str,
    String => Str,
    &[u8] => Bytes,
    Vec<u8> => Bytes,
}

/// The items of a schema from `at` on, and where they end.
pub(crate) fn read_all<S: Source + ?Sized>(
    from: &S,
    at: usize,
    schema: &[(ViewTag, usize)],
) -> Result<(Vec<ViewItem>, usize), ViewError> {
    // Counts may be anything, so that they fit is known before room is made.
    let least = schema.iter().try_fold(0_usize, |sum, (tag, count)| {
        count.checked_mul(tag.min_size()).and_then(|size| sum.checked_add(size))
    });
    wire::end_of(at, least.unwrap_or(usize::MAX), from.size())?;
    let mut items = Vec::new();
    let count = schema.iter().map(|(_, count)| count).sum();
    // An item takes more memory here than there.
    items.try_reserve_exact(count).map_err(|_| ViewError::TooLong { len: count })?;
    let mut at = at;
    for &(tag, count) in schema {
        for _ in 0..count {
            let (item, next) = ViewItem::get(from, at, tag)?;
            items.push(item);
            at = next;
        }
    }
    Ok((items, at))
}

impl<B: Deref<Target = [u8]>> View<B> {
    /// Reads the items that a schema names, `(type, how many)` after each other, and moves the cursor
    /// behind them.
    ///
    /// # Errors
    ///
    /// Those of [`View::read`], for the first item that cannot be read. The cursor stays then.
    ///
    /// ```
    /// use ringspan::{View, ViewItem, ViewTag};
    ///
    /// let bytes = b"\x01\x02\0\0\0\x03\0\0\0";
    /// let items = View::read_only(bytes).read_mixed(&[(ViewTag::Bool, 1), (ViewTag::U32, 2)])?;
    /// assert_eq!(items, [ViewItem::Bool(true), ViewItem::U32(2), ViewItem::U32(3)]);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn read_mixed(&mut self, schema: &[(ViewTag, usize)]) -> Result<Vec<ViewItem>, ViewError> {
        let (items, next) = read_all(&*self.bytes, self.at, schema)?;
        self.at = next;
        Ok(items)
    }

    /// As [`View::read_mixed`], at `offset`; the cursor stays.
    ///
    /// # Errors
    ///
    /// Those of [`View::read_mixed`].
    ///
    /// ```
    /// use ringspan::{View, ViewItem, ViewTag};
    ///
    /// let items = View::read_only(b"..\x07\0\0\0").read_mixed_at(2, &[(ViewTag::I32, 1)])?;
    /// assert_eq!(items, [ViewItem::I32(7)]);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn read_mixed_at(
        &self,
        offset: usize,
        schema: &[(ViewTag, usize)],
    ) -> Result<Vec<ViewItem>, ViewError> {
        Ok(read_all(&*self.bytes, offset, schema)?.0)
    }
}

impl<B: DerefMut<Target = [u8]>> View<B> {
    /// Writes items after each other, all or none, and moves the cursor behind them.
    ///
    /// # Errors
    ///
    /// Those of [`View::write`], when they do not all fit. Nothing is written then and the cursor
    /// stays.
    ///
    /// ```
    /// use ringspan::{View, ViewTag};
    ///
    /// let mut bytes = [0; 64];
    /// let mut view = View::new(&mut bytes);
    /// view.write_mixed(&["speed".into(), 3.5_f64.into(), true.into()])?;
    ///
    /// view.seek(0)?;
    /// let schema = [(ViewTag::Str, 1), (ViewTag::F64, 1), (ViewTag::Bool, 1)];
    /// assert_eq!(view.read_mixed(&schema)?, ["speed".into(), 3.5_f64.into(), true.into()]);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn write_mixed(&mut self, items: &[ViewItem]) -> Result<(), ViewError> {
        self.at = self.put_all(self.at, items)?;
        Ok(())
    }

    /// As [`View::write_mixed`], at `offset`; the cursor stays.
    ///
    /// # Errors
    ///
    /// Those of [`View::write_mixed`].
    ///
    /// ```
    /// use ringspan::View;
    ///
    /// let mut bytes = [9; 6];
    /// View::new(&mut bytes).write_mixed_at(1, &[7.into()])?;
    /// assert_eq!(bytes, [9, 7, 0, 0, 0, 9]);
    /// # Ok::<(), ringspan::ViewError>(())
    /// ```
    pub fn write_mixed_at(&mut self, offset: usize, items: &[ViewItem]) -> Result<(), ViewError> {
        self.put_all(offset, items).map(|_| ())
    }
}
