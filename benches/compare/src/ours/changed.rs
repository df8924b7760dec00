//! The wait for a change: one process sets, the other awaits it and answers through a second value.
//!
//! A set replaces what was there, so nothing but the newest travels and the measuring loop can ask for
//! nothing (`SIGNAL_ONLY`); what comes is checked here: it is the number of the turn.
//!
//! `AWAIT` true is the awaited form, false the blocking one.

use std::future::Future;

use ringspan::{SharedInt, Value, Watch};

use crate::link::{Link, Place, Res, Runtime};

/// What can be set to a number, and awaited.
pub trait Told: Sized {
    /// What drives it.
    const RUNTIME: Runtime;
    /// Opens or makes it.
    fn open(name: &str) -> Res<Self>;
    /// Sets it.
    fn tell(&mut self, number: u64) -> impl Future<Output = Res<()>>;
    /// Waits until it is set again; what it is then.
    fn next(&mut self) -> impl Future<Output = Res<u64>>;
}

const fn runtime(awaits: bool) -> Runtime {
    if awaits { Runtime::Tokio } else { Runtime::None }
}

/// Two of them, one per direction.
pub struct Trip<T> {
    out: T,
    back: T,
    sent: u64,
    turn: u64,
}

impl<T: Told> Trip<T> {
    fn open(place: &Place, out: &str, back: &str) -> Res<Self> {
        let open = |way: &str| T::open(&format!("/{}-{way}", place.name));
        Ok(Self { out: open(out)?, back: open(back)?, sent: 0, turn: 0 })
    }
}

impl<T: Told> Link for Trip<T> {
    const RUNTIME: Runtime = T::RUNTIME;
    const SIGNAL_ONLY: bool = true;

    async fn parent(place: &Place) -> Res<Self> {
        let made = Self::open(place, "down", "up")?;
        place.start(&[])?;
        Ok(made)
    }

    async fn child(place: &Place) -> Res<Self> {
        Self::open(place, "up", "down")
    }

    async fn send(&mut self, _message: &[u8]) -> Res<()> {
        self.sent += 1;
        self.out.tell(self.sent).await
    }

    async fn recv(&mut self, _most: u64, mut see: impl FnMut(&[u8])) -> Res<u64> {
        self.turn += 1;
        let found = self.back.next().await?;
        if found != self.turn {
            return Err(format!("{found} was set in turn {}", self.turn).into());
        }
        see(&[]);
        Ok(1)
    }
}

/// `set_bytes` of 64 bytes; `changed(seen)`, then a copy of them.
pub struct Bytes<const AWAIT: bool> {
    value: Value<()>,
    copy: Vec<u8>,
    seen: u64,
}

impl<const AWAIT: bool> Told for Bytes<AWAIT> {
    const RUNTIME: Runtime = runtime(AWAIT);

    fn open(name: &str) -> Res<Self> {
        let value = Value::options().ephemeral(true).open_or_create(name)?;
        Ok(Self { value, copy: Vec::new(), seen: 0 })
    }

    async fn tell(&mut self, number: u64) -> Res<()> {
        let mut message = [0x5a; 64];
        message[..8].copy_from_slice(&number.to_le_bytes());
        if AWAIT {
            self.value.set_bytes(&message).await?;
        } else {
            self.value.blocking_set_bytes(&message, None)?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Res<u64> {
        self.seen = if AWAIT {
            self.value.changed(self.seen).await?
        } else {
            self.value.blocking_changed(self.seen, None)?
        };
        self.value.get_bytes_into(&mut self.copy)?;
        Ok(self.copy.first_chunk().copied().map_or(0, u64::from_le_bytes))
    }
}

/// `set` of eight numbers; `watch().next()`.
pub struct Watched<const AWAIT: bool> {
    value: Value<[u64; 8]>,
    watch: Watch<[u64; 8]>,
}

impl<const AWAIT: bool> Told for Watched<AWAIT> {
    const RUNTIME: Runtime = runtime(AWAIT);

    fn open(name: &str) -> Res<Self> {
        let value = Value::options().ephemeral(true).open_or_create(name)?;
        let watch = value.watch();
        Ok(Self { value, watch })
    }

    async fn tell(&mut self, number: u64) -> Res<()> {
        let numbers = [number; 8];
        if AWAIT {
            self.value.set(&numbers).await?;
        } else {
            self.value.blocking_set(&numbers, None)?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Res<u64> {
        let found =
            if AWAIT { self.watch.next().await? } else { self.watch.blocking_next(None)? };
        Ok(found[7])
    }
}

/// `store`; `changed(seen)`, then `load`.
pub struct Int<const AWAIT: bool> {
    int: SharedInt,
    seen: u64,
}

impl<const AWAIT: bool> Told for Int<AWAIT> {
    const RUNTIME: Runtime = runtime(AWAIT);

    fn open(name: &str) -> Res<Self> {
        let int = SharedInt::options().ephemeral(true).open_or_create(name)?;
        Ok(Self { int, seen: 0 })
    }

    async fn tell(&mut self, number: u64) -> Res<()> {
        Ok(self.int.store(i64::try_from(number)?)?)
    }

    async fn next(&mut self) -> Res<u64> {
        self.seen = if AWAIT {
            self.int.changed(self.seen).await?
        } else {
            self.int.blocking_changed(self.seen, None)?
        };
        Ok(u64::try_from(self.int.load())?)
    }
}
