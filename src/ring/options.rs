//! [`Ring`]: the name and the geometry, without a role; and how to create or open one.

use crate::error::{Fault, FaultKind, OpenError};
use crate::layout::{FLAG_EPHEMERAL, Kind, PARAMS, RingIndices};
use crate::name::Name;
use crate::notify::{Attach, Endpoint, Role, lifetime};
use crate::region::{Region, Spec, Subject};
use crate::ring::consumer::Consumer;
use crate::ring::producer::Producer;
use crate::ring::raw_frame::Geometry;
#[cfg(feature = "python")]
use crate::ring::raw_quota::{Glance, glance};
#[cfg(feature = "python")]
use crate::ring::side;
use crate::ring::stat::RingStat;
use crate::sync::{Mutex, lock};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// Capacity of a ring whose creator names none.
pub(crate) const DEFAULT_CAPACITY: u64 = 1 << 20;
/// How often a name may change under an opener before it gives up.
const REOPENS: usize = 64;
/// How often an onlooker counts what both ends keep moving.
#[cfg(feature = "python")]
const GLANCES: usize = 8;

/// What a ring is to be like; see [`Ring::options`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingOptions {
    capacity: Option<u64>,
    max_message: Option<u64>,
    mode: u32,
    ephemeral: bool,
    spin: Option<Duration>,
    quota: Option<NonZeroU64>,
}

impl Default for RingOptions {
    fn default() -> Self {
        RingOptions {
            capacity: None,
            max_message: None,
            mode: 0o600,
            ephemeral: false,
            spin: None,
            quota: None,
        }
    }
}

/// How a name is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Open,
    Create,
    OpenOrCreate,
}

impl RingOptions {
    /// Bytes of room for messages and their headers; rounded up to a power of two, 4 KiB at least
    /// (default 1 MiB). Large messages move fastest through 4 to 8 MiB. An opener that names more
    /// than there is gets an error with both figures.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Bytes of the largest message (default a quarter of the capacity, at most half of it less 16).
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// Permission bits of the file, whatever the umask (default 0600). Only the owner and root can
    /// attach in any case.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The last one out removes the ring; when all died, the next opener or [`gc`](crate::gc) does.
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// Keeps the thread busy for so long before an end of this handle sleeps. In async code this
    /// holds up every other task of the thread, so nothing is spun unless you ask for it here.
    pub fn spin(mut self, spin: impl Into<Option<Duration>>) -> Self {
        self.spin = spin.into();
        self
    }

    /// Bounds what the messages in the ring count as, each for its payload and 4 bytes; see
    /// `raw_quota.rs`. An opener that names another quota than the creator gets an error.
    #[cfg(feature = "python")]
    pub(crate) fn quota(mut self, quota: NonZeroU64) -> Self {
        self.quota = Some(quota);
        self
    }

    /// Makes a new ring.
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyExists`] when the name is taken; faults for a bad name, a bad option or a
    /// full `/dev/shm`.
    pub fn create(self, name: &str) -> Result<Ring, OpenError> {
        Ring::find(name, self, How::Create)
    }

    /// Opens a ring that exists.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`]; faults for another kind of object, another layout version, a damaged
    /// header, another owner, or less room than the options name.
    pub fn open(self, name: &str) -> Result<Ring, OpenError> {
        Ring::find(name, self, How::Open)
    }

    /// Opens the ring, or makes it when there is none.
    ///
    /// # Errors
    ///
    /// As [`RingOptions::create`] and [`RingOptions::open`], but for the two about existence.
    pub fn open_or_create(self, name: &str) -> Result<Ring, OpenError> {
        Ring::find(name, self, How::OpenOrCreate)
    }

    fn geometry(&self, subject: &Subject) -> Result<Geometry, Fault> {
        let bad = |err: crate::ring::raw_frame::GeometryError| {
            Fault::new(FaultKind::InvalidOption, subject, err)
        };
        let capacity =
            Geometry::capacity_for(self.capacity.unwrap_or(DEFAULT_CAPACITY)).map_err(bad)?;
        Geometry::new(capacity, self.max_message).map_err(bad)
    }
}

/// A named ring: its name and geometry, without a role. [`Ring::producer`] and [`Ring::consumer`]
/// attach an end.
///
/// A ring outlives the processes that use it (as POSIX shared memory does) until it is
/// [removed](crate::remove), unless it was made [ephemeral](RingOptions::ephemeral). Cloning is
/// cheap; clones share one mapping.
///
/// # What a crash leaves behind
///
/// The ring, whole, with every message that was published and not released. The next producer or
/// consumer takes the dead one's place at once.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let name = format!("/doc-ring-{}", std::process::id());
/// let ring = ringspan::Ring::options().capacity(1 << 16).create(&name)?;
/// let mut tx = ring.producer()?;
/// let mut rx = ring.consumer()?;
/// tx.try_push(b"hello")?;
/// assert_eq!(&*rx.try_pop()?, b"hello");
/// ringspan::remove(&name)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Ring {
    shared: Arc<Shared>,
    forks: u64,
}

#[derive(Debug)]
struct Shared {
    name: Name,
    options: RingOptions,
    how: How,
    /// Replaced when the name turns out to lead to another file by now.
    region: Mutex<Arc<Region>>,
}

impl Shared {
    /// A creator whose ring was removed since may make it again, but opens another's first.
    fn reopen(&self) -> How {
        match self.how {
            How::Open => How::Open,
            How::Create | How::OpenOrCreate => How::OpenOrCreate,
        }
    }
}

const PRODUCER: Role = Role { index: 0, noun: "producer end" };
const CONSUMER: Role = Role { index: 1, noun: "consumer end" };

impl Ring {
    /// Options with their defaults.
    pub fn options() -> RingOptions {
        RingOptions::default()
    }

    fn find(name: &str, options: RingOptions, how: How) -> Result<Ring, OpenError> {
        let name = Name::new(name)?;
        let region = Self::region_for(&name, &options, how)?;
        let shared = Arc::new(Shared { name, options, how, region: Mutex::new(region) });
        Ok(Ring { shared, forks: crate::sys::fd::fork_count() })
    }

    fn region_for(name: &Name, options: &RingOptions, how: How) -> Result<Arc<Region>, OpenError> {
        for _ in 0..REOPENS {
            if how != How::Create {
                match Region::open(name, Some(Kind::Ring)) {
                    Ok(region) if lifetime::is_gone(&region)? => {}
                    Ok(region) => {
                        Self::check_room(&region, options)?;
                        return Ok(region);
                    }
                    Err(OpenError::NotFound(fault)) if how == How::Open => {
                        return Err(OpenError::NotFound(fault));
                    }
                    Err(OpenError::NotFound(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            match Self::create_region(name, options) {
                Err(OpenError::AlreadyExists(_)) if how == How::OpenOrCreate => {}
                Err(OpenError::AlreadyExists(fault)) => match Region::open(name, None) {
                    // The name belonged to the dead, and is free now.
                    Ok(region) if lifetime::is_gone(&region)? => {}
                    _ => return Err(OpenError::AlreadyExists(fault)),
                },
                made => return made,
            }
        }
        let subject = Subject { kind: Kind::Ring, name: name.clone() };
        let cause = "the name keeps being removed and made anew";
        Err(Fault::new(FaultKind::Removed, subject, cause).into())
    }

    fn create_region(name: &Name, options: &RingOptions) -> Result<Arc<Region>, OpenError> {
        let subject = Subject { kind: Kind::Ring, name: name.clone() };
        let geometry = options.geometry(&subject)?;
        let mut params = [0; PARAMS];
        params[0] = geometry.capacity();
        params[1] = geometry.max_message();
        params[2] = options.quota.map_or(0, NonZeroU64::get);
        let spec = Spec {
            kind: Kind::Ring,
            kind_len: size_of::<RingIndices>(),
            meta_len: 0,
            payload_len: geometry.capacity(),
            params,
            flags: if options.ephemeral { FLAG_EPHEMERAL } else { 0 },
            mode: options.mode,
        };
        Region::create(name, &spec, |_| Ok(())).map(|(region, ())| region)
    }

    /// The geometry that the creator wrote, checked.
    pub(crate) fn geometry_of(region: &Region) -> Result<Geometry, Fault> {
        let [capacity, max_message, quota, ..] = region.constants().params;
        let geometry = Geometry::new(capacity, Some(max_message));
        match geometry {
            Ok(geometry)
                if region.constants().payload_len == capacity
                    && region.constants().kind_len >= size_of::<RingIndices>() as u64 =>
            {
                Ok(geometry.with_quota(Some(quota).filter(|quota| *quota != 0)))
            }
            _ => {
                let cause = format!(
                    "its header says capacity {capacity} and max_message {max_message}, which no ring \
                     has; remove it and start again"
                );
                Err(region.fault(FaultKind::Damaged, cause))
            }
        }
    }

    fn check_room(region: &Region, options: &RingOptions) -> Result<(), Fault> {
        let there = Self::geometry_of(region)?;
        let wants = [
            ("capacity", options.capacity.map(Geometry::capacity_for), there.capacity()),
            ("max_message", options.max_message.map(Ok), there.max_message()),
        ];
        for (what, wanted, has) in wants {
            let Some(wanted) = wanted.transpose().unwrap_or(Some(u64::MAX)) else { continue };
            if wanted > has {
                let cause = format!(
                    "{what} {wanted} was asked for, its creator gave it {has}; ask for no more, or \
                     remove it and make it anew"
                );
                return Err(region.fault(FaultKind::Mismatch, cause));
            }
        }
        match options.quota.map(NonZeroU64::get) {
            Some(quota) if there.quota() != Some(quota) => {
                let has = there.quota().map_or("none".to_owned(), |quota| quota.to_string());
                let cause = format!("a quota of {quota} was asked for, it has {has}");
                Err(region.fault(FaultKind::Mismatch, cause))
            }
            _ => Ok(()),
        }
    }

    /// Attaches the producer end.
    ///
    /// # Errors
    ///
    /// [`OpenError::RoleTaken`] with the pid while another process (or this one) holds it; the place
    /// of a dead producer is taken over. [`OpenError::NotFound`] when the ring was removed meanwhile
    /// and this handle may not create it; other faults as in [`RingOptions::open`].
    pub fn producer(&self) -> Result<Producer, OpenError> {
        let endpoint = self.attach(PRODUCER)?;
        Producer::new(self.clone(), endpoint, self.shared.options.spin)
    }

    /// Attaches the consumer end.
    ///
    /// # Errors
    ///
    /// As [`Ring::producer`].
    pub fn consumer(&self) -> Result<Consumer, OpenError> {
        let endpoint = self.attach(CONSUMER)?;
        Consumer::new(self.clone(), endpoint, self.shared.options.spin)
    }

    fn attach(&self, role: Role) -> Result<Box<Endpoint>, OpenError> {
        if self.forks != crate::sys::fd::fork_count() {
            // Before the lock, which another thread of the parent may have held: a fresh handle.
            let options = self.shared.options.clone();
            return Ring::find(&self.name(), options, self.shared.reopen())?.attach(role);
        }
        let mut region = Arc::clone(&lock(&self.shared.region));
        for _ in 0..REOPENS {
            if let Attach::Done(endpoint) = Endpoint::attach(&region, role, true)? {
                return Ok(endpoint);
            }
            let how = self.shared.reopen();
            region = Self::region_for(&self.shared.name, &self.shared.options, how)?;
            *lock(&self.shared.region) = Arc::clone(&region);
        }
        let cause = "the name keeps being removed and made anew";
        Err(region.fault(FaultKind::Removed, cause).into())
    }

    pub(crate) fn region(&self) -> Arc<Region> {
        Arc::clone(&lock(&self.shared.region))
    }

    /// The name, with its slash.
    pub fn name(&self) -> String {
        self.shared.name.to_string()
    }

    /// Bytes of room for messages and their headers.
    pub fn capacity(&self) -> u64 {
        self.region().constants().params[0]
    }

    /// Bytes of the largest message.
    pub fn max_message(&self) -> u64 {
        self.region().constants().params[1]
    }

    /// Whether the last one out removes it.
    pub fn is_ephemeral(&self) -> bool {
        self.region().is_ephemeral()
    }

    /// What the messages in the ring count as against its quota, seen from outside. While both ends are
    /// busy it is what was so a moment ago.
    ///
    /// # Errors
    ///
    /// A fault for a damaged ring.
    #[cfg(feature = "python")]
    pub(crate) fn used(&self) -> Result<u64, Fault> {
        let region = self.region();
        let geometry = Self::geometry_of(&region)?;
        let memory = side::memory_of(&region, geometry);
        let mut seen = None;
        for _ in 0..GLANCES {
            match glance(&memory) {
                Glance::Still(sum) => return Ok(sum),
                Glance::Moved(sum) => seen = sum.or(seen),
                Glance::Damaged(damage) => {
                    let cause = format!("{damage}; remove the ring and start again");
                    return Err(region.fault(FaultKind::Damaged, cause));
                }
            }
        }
        Ok(seen.unwrap_or(0).min(geometry.quota().unwrap_or(u64::MAX)))
    }

    /// A look at the ring from outside: who is attached, how full it is.
    pub fn stat(&self) -> RingStat {
        RingStat::of(&self.region())
    }
}
