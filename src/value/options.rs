//! What a value is to be like, and how its name is found.

use super::core::{Core, lay_out, set_first};
use super::handle::Value;
use super::raw::LEAST;
use crate::codec::{self, Tag};
use crate::error::{Fault, FaultKind, OpenError};
use crate::layout::{FLAG_EPHEMERAL, Kind, PARAMS, ValueArea};
use crate::name::Name;
use crate::notify::Endpoint;
use crate::notify::find::{How, Wanted};
use crate::region::{Region, Spec, Subject};
use crate::rwlock::core::bury;
use serde::Serialize;
use std::marker::PhantomData;
use std::sync::Arc;

/// What a value is to be like; see [`Value::options`].
#[derive(Debug)]
pub struct ValueOptions<T> {
    options: Plain,
    of: PhantomData<fn(T) -> T>,
}

/// The same without the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) capacity: u64,
    pub(crate) mode: u32,
    pub(crate) ephemeral: bool,
    /// What a creator sets; a fault: it could not be encoded.
    pub(crate) initial: Option<Result<Initial, String>>,
}

/// The first value, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Initial {
    pub(crate) bytes: Vec<u8>,
    pub(crate) tag: u8,
}

impl<T> Clone for ValueOptions<T> {
    fn clone(&self) -> Self {
        ValueOptions { options: self.options.clone(), of: PhantomData }
    }
}

impl<T> Default for ValueOptions<T> {
    fn default() -> Self {
        let options = Plain { capacity: LEAST, mode: 0o600, ephemeral: false, initial: None };
        ValueOptions { options, of: PhantomData }
    }
}

impl<T> ValueOptions<T> {
    /// Bytes of an encoded value for which room is made from the start, twice (default 4096; rounded up
    /// to pages). For larger ones room is made when they are set, for each of the two buffers once; that
    /// takes longer and can fail for want of memory. Room is never given back while the value lives. For
    /// an opener it has no meaning.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.options.capacity = bytes;
        self
    }

    /// Permission bits of the file, whatever the umask (default 0600). Only the owner and root can
    /// attach in any case.
    pub fn mode(mut self, mode: u32) -> Self {
        self.options.mode = mode;
        self
    }

    /// The last one out removes the value; when all died, the next opener or [`gc`](crate::gc) does.
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.options.ephemeral = ephemeral;
        self
    }

    /// Makes a new value, which is not set yet but to what [`initial`](ValueOptions::initial) says.
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyExists`] when the name is taken; faults for a bad name, a bad mode or a full
    /// `/dev/shm`.
    pub fn create(self, name: &str) -> Result<Value<T>, OpenError> {
        self.options.find(name, How::Create).map(Value::of)
    }

    /// Opens a value that exists. Mode and ephemeral are what its creator chose.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`]; faults for another kind of object, another layout version, damage,
    /// another owner, and [`TooManyAttached`](crate::FaultKind::TooManyAttached) for the 49th handle.
    pub fn open(self, name: &str) -> Result<Value<T>, OpenError> {
        self.options.find(name, How::Open).map(Value::of)
    }

    /// Opens the value, or makes it when there is none.
    ///
    /// # Errors
    ///
    /// As [`ValueOptions::create`] and [`ValueOptions::open`], but for the two about existence.
    pub fn open_or_create(self, name: &str) -> Result<Value<T>, OpenError> {
        self.options.find(name, How::OpenOrCreate).map(Value::of)
    }
}

impl<T: Serialize> ValueOptions<T> {
    /// What a creator sets before anybody sees the value: who opens it finds it set, with version 1. For an
    /// opener it has no meaning. What cannot be encoded is a fault when the value is made or opened.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let name = &format!("/doc-initial-{}", std::process::id());
    /// let value = ringspan::Value::<u32>::options().initial(&7).create(name)?;
    /// assert_eq!(value.get()?, Some(7));
    /// # ringspan::remove(name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn initial(mut self, value: &T) -> Self {
        let encoded = codec::to_vec(value).map_err(|err| err.to_string());
        let tag = Tag::MSGPACK.byte();
        self.options.initial = Some(encoded.map(|bytes| Initial { bytes, tag }));
        self
    }
}

impl Plain {
    /// For one that is there.
    pub(crate) fn opened() -> Plain {
        Plain { capacity: 0, mode: 0o600, ephemeral: false, initial: None }
    }

    pub(crate) fn find(&self, name: &str, how: How) -> Result<Arc<Core>, OpenError> {
        let name = Name::new(name)?;
        let spec = self.spec(&name)?;
        let wanted = Wanted { name: &name, how, spec: &spec, bury, lay_out };
        let endpoint = wanted.attach_by(
            |_| Ok(()),
            |region, born| {
                if let (false, Some(Ok(first))) = (born, &self.initial) {
                    set_first(region, first)?;
                }
                Endpoint::attach_any(region, born, bury)
            },
        )?;
        Ok(Arc::new(Core::new(endpoint)?))
    }

    fn spec(&self, name: &Name) -> Result<Spec, Fault> {
        let fault = |kind, cause: String| {
            Fault::new(kind, Subject { kind: Kind::Value, name: name.clone() }, cause)
        };
        let least = match &self.initial {
            Some(Ok(first)) => first.bytes.len() as u64,
            Some(Err(cause)) => return Err(fault(FaultKind::Encode, cause.clone())),
            None => 1,
        };
        let pages = self.capacity.max(least).max(1).checked_next_multiple_of(LEAST);
        let Some(payload_len) = pages.and_then(|bytes| bytes.checked_mul(2)) else {
            let cause = format!("a capacity of {} bytes is more than there can be", self.capacity);
            return Err(fault(FaultKind::InvalidOption, cause));
        };
        Ok(Spec {
            kind: Kind::Value,
            kind_len: size_of::<ValueArea>(),
            meta_len: 0,
            payload_len,
            params: [0; PARAMS],
            flags: if self.ephemeral { FLAG_EPHEMERAL } else { 0 },
            mode: self.mode,
        })
    }

    /// The region of a value, to be looked at without a place in it.
    pub(super) fn look(&self, name: &str) -> Result<Arc<Region>, OpenError> {
        let name = Name::new(name)?;
        let spec = self.spec(&name)?;
        Wanted { name: &name, how: How::Open, spec: &spec, bury, lay_out }.look()
    }
}
