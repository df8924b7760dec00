//! The handle: opening and reading.

use super::core::Core;
use super::error::TryGetError;
use super::options::ValueOptions;
use super::raw::Read;
use crate::codec::{self, Tag, with_scratch};
use crate::error::{Fault, FaultKind, OpenError};
use crate::region::Region;
use crate::rwlock::HandleStat;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// The latest value of a `T` that processes share, and can await.
///
/// What is set replaces what was there; nothing is queued, and a reader that comes late sees the latest
/// only. Any serde type will do, of any size: it travels as msgpack (structs as maps), as in Python,
/// where the same name gives any Python value. Bytes go as they are by [`set_bytes`](Value::set_bytes).
///
/// Readers copy without a lock: they keep no writer waiting, and never see half a value. Only where it is
/// set faster than it can be copied does a reader keep the writers out, for one copy. Writers take turns.
///
/// Cloning is cheap; clones are one handle and share its place among the 48 that can be attached.
///
/// # What a crash leaves behind
///
/// A writer killed at any instruction leaves the value that was there, or has set the new one: then all
/// who wait for a change are woken, be it by its death.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let name = &format!("/doc-value-{}", std::process::id());
/// use ringspan::Value;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// struct Config {
///     workers: u32,
///     log: String,
/// }
///
/// let value = Value::<Config>::open_or_create(name)?;
/// assert_eq!(value.get()?, None); // never set
/// value.set(&Config { workers: 4, log: "info".into() }).await?;
///
/// // Any other process that names it:
/// let other = Value::<Config>::open(name)?;
/// assert_eq!(other.get()?.map(|config| config.workers), Some(4));
/// # ringspan::remove(name)?;
/// # Ok(())
/// # }
/// ```
pub struct Value<T> {
    pub(super) core: Arc<Core>,
    of: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Value { core: Arc::clone(&self.core), of: PhantomData }
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("name", &self.name())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl<T> Value<T> {
    /// Options with their defaults.
    pub fn options() -> ValueOptions<T> {
        ValueOptions::default()
    }

    /// Makes a new value; see [`ValueOptions::create`].
    ///
    /// # Errors
    ///
    /// As [`ValueOptions::create`].
    pub fn create(name: &str) -> Result<Value<T>, OpenError> {
        Self::options().create(name)
    }

    /// Opens a value that exists; see [`ValueOptions::open`].
    ///
    /// # Errors
    ///
    /// As [`ValueOptions::open`].
    pub fn open(name: &str) -> Result<Value<T>, OpenError> {
        Self::options().open(name)
    }

    /// Opens the value, or makes it; see [`ValueOptions::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`ValueOptions::open_or_create`].
    pub fn open_or_create(name: &str) -> Result<Value<T>, OpenError> {
        Self::options().open_or_create(name)
    }

    pub(super) fn of(core: Arc<Core>) -> Value<T> {
        Value { core, of: PhantomData }
    }

    /// How often the value was set, by anybody; 0: never. Take it before you read, and wait for
    /// [`changed`](Value::changed) since then.
    pub fn version(&self) -> u64 {
        self.core.version()
    }

    /// The bytes that [`set_bytes`](Value::set_bytes) set (or Python, from a `bytes`).
    ///
    /// # Errors
    ///
    /// As [`Value::get`]; [`Decode`](FaultKind::Decode) when the value is not bytes.
    pub fn get_bytes(&self) -> Result<Option<Vec<u8>>, Fault> {
        let mut bytes = Vec::new();
        Ok(self.get_bytes_into(&mut bytes)?.then_some(bytes))
    }

    /// The same into memory that is there already, whose length is made to fit. False: never set.
    ///
    /// # Errors
    ///
    /// As [`Value::get_bytes`].
    pub fn get_bytes_into(&self, bytes: &mut Vec<u8>) -> Result<bool, Fault> {
        let read = self.core.read(bytes)?;
        match read.tag {
            None => Ok(false),
            Some(tag) => expect(self.core.region(), tag, Tag::RAW, "get").map(|()| true),
        }
    }

    /// Whether the name was removed. Then whoever opens it gets another value, or none; this one is as it
    /// was, for those who have it open.
    pub fn is_removed(&self) -> bool {
        self.core.region().is_nameless()
    }

    /// Bytes in its file, which grows with the values and never shrinks.
    pub fn file_size(&self) -> u64 {
        self.core.region().length()
    }

    /// What this handle holds and has done.
    ///
    /// # Errors
    ///
    /// [`Forked`](FaultKind::Forked) in a forked child.
    pub fn stat(&self) -> Result<HandleStat, Fault> {
        HandleStat::of(self.core.shared())
    }

    /// The name, with its slash.
    pub fn name(&self) -> String {
        self.core.region().name().to_string()
    }

    /// Whether the last one out removes it.
    pub fn is_ephemeral(&self) -> bool {
        self.core.region().is_ephemeral()
    }
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    /// The latest value; `None` if it was never set.
    ///
    /// # Errors
    ///
    /// Faults: [`Decode`](FaultKind::Decode) when what was set is not a `T`;
    /// [`Damaged`](FaultKind::Damaged) when something wrote over it; [`Forked`](FaultKind::Forked) in a
    /// forked child.
    ///
    /// # Blocking
    ///
    /// It never waits, but where others set the value faster than it can be copied: after eight attempts
    /// it takes its turn among the writers, parking the thread, for one copy (then it can fail as
    /// [`set`](Value::set) does). A process that is stopped in that copy holds up those who set.
    pub fn get(&self) -> Result<Option<T>, Fault> {
        self.get_versioned().map(|(_, value)| value)
    }

    /// The latest value, with the version for [`changed`](Value::changed).
    ///
    /// # Errors
    ///
    /// As [`Value::get`].
    pub fn get_versioned(&self) -> Result<(u64, Option<T>), Fault> {
        with_scratch(|copy| {
            let read = self.core.read(copy)?;
            Ok((read.version, self.decode(read, copy)?))
        })
    }

    /// The latest value. Never waits.
    ///
    /// # Errors
    ///
    /// [`TryGetError::Empty`] if it was never set; [`TryGetError::WouldBlock`] while others set it
    /// faster than it can be copied; else as [`Value::get`].
    pub fn try_get(&self) -> Result<T, TryGetError> {
        with_scratch(|copy| match self.core.try_read(copy)? {
            None => Err(TryGetError::WouldBlock),
            Some(read) => self.decode(read, copy)?.ok_or(TryGetError::Empty),
        })
    }

    pub(super) fn decode(&self, read: Read, bytes: &[u8]) -> Result<Option<T>, Fault> {
        decode(self.core.region(), read, bytes)
    }

    pub(super) fn encode(&self, value: &T) -> Result<Vec<u8>, Fault> {
        codec::to_vec(value).map_err(|err| self.core.region().fault(FaultKind::Encode, err))
    }
}

fn expect(region: &Region, tag: u8, wanted: Tag, instead: &str) -> Result<(), Fault> {
    let found = Tag::from_byte(tag).and_then(|tag| tag.expect(wanted));
    found.map_err(|err| region.fault(FaultKind::Decode, format!("{err}; read it by `{instead}`")))
}

/// What was read, as a `T`.
pub(super) fn decode<T: DeserializeOwned>(
    region: &Region,
    read: Read,
    bytes: &[u8],
) -> Result<Option<T>, Fault> {
    let Some(tag) = read.tag else { return Ok(None) };
    expect(region, tag, Tag::MSGPACK, "get_bytes")?;
    codec::from_slice(bytes).map(Some).map_err(|err| region.fault(FaultKind::Decode, err))
}
