//! Reading without a handle: no door, no place among those who are attached.

use super::core::{Core, raw_in};
use super::handle::{Value, decode};
use super::options::Plain;
use super::raw::{Read, Sink};
use crate::codec::with_scratch;
use crate::error::{Fault, OpenError};
use crate::layout::{Kind, ValueArea};
use crate::name::Name;
use crate::notify::find::{How, restless};
use crate::region::Region;
use crate::sync::{Ordering, fence};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Attempts to read beside the writers before a place is taken, to keep them out.
const ATTEMPTS: usize = 64;
/// How often the name may be removed and made again under a reader before it gives up.
const REOPENS: usize = 64;

/// A value that is looked at.
#[derive(Debug)]
pub(crate) struct Peek {
    region: Arc<Region>,
}

impl Peek {
    #[cfg(feature = "python")]
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The value of that name, copied beside whoever sets it; `None`: it is set faster than it can be copied.
    pub(crate) fn read(
        name: &str,
        sink: &mut impl Sink,
    ) -> Result<(Peek, Option<Read>), OpenError> {
        for _ in 0..REOPENS {
            let region = Plain::opened().look(name)?;
            let peek = Peek { region };
            let read = peek.try_read(sink);
            // What was removed meanwhile may have given its bytes back: the name leads elsewhere by now.
            fence(Ordering::Acquire);
            if !peek.region.is_removed() {
                return Ok((peek, read?));
            }
        }
        Err(restless(Kind::Value, &Name::new(name)?))
    }

    fn try_read(&self, sink: &mut impl Sink) -> Result<Option<Read>, Fault> {
        let raw = raw_in(self.region.kind_area::<ValueArea>(), &self.region);
        for _ in 0..ATTEMPTS {
            if let Some(read) = raw.try_read(sink)? {
                return Ok(Some(read));
            }
        }
        Ok(None)
    }

    /// A handle on the same name.
    pub(crate) fn attach(&self) -> Result<Arc<Core>, OpenError> {
        Plain::opened().find(&self.region.name().to_string(), How::Open)
    }
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    /// The latest value of that name, read once and without a handle; `None` if it was never set. It takes
    /// none of the 48 places, opens no door and wakes nobody, so it costs a small part of
    /// [`open`](Value::open). Who reads again and again keeps a handle and calls [`get`](Value::get).
    ///
    /// As every opener it ends a removal that somebody was killed in: then it wakes those who wait for the
    /// value, deletes the name, and finds nothing.
    ///
    /// # Errors
    ///
    /// As [`open`](Value::open) and [`get`](Value::get); all places taken is none.
    ///
    /// # Blocking
    ///
    /// As [`get`](Value::get): only where others set the value faster than it can be copied, in 64 attempts,
    /// is a handle made, and may it wait.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let name = &format!("/doc-peek-{}", std::process::id());
    /// use ringspan::Value;
    ///
    /// let value = Value::<u32>::create(name)?;
    /// assert_eq!(Value::<u32>::peek(name)?, None);
    /// value.blocking_set(&7, None)?;
    /// assert_eq!(Value::<u32>::peek(name)?, Some(7));
    /// # ringspan::remove(name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn peek(name: &str) -> Result<Option<T>, OpenError> {
        with_scratch(|copy| match Peek::read(name, copy)? {
            (peek, Some(read)) => Ok(decode(&peek.region, read, copy)?),
            (peek, None) => Ok(Value::of(peek.attach()?).get()?),
        })
    }
}
