//! How a name becomes a handle: open or make the region, take a slot, and begin anew when the name changes
//! hands meanwhile. Where the bytes alone are of use too, the slot is taken late: at the first wait.

use crate::error::{Fault, FaultKind, OpenError};
use crate::layout::Kind;
use crate::name::Name;
use crate::notify::{Attach, Bury, Endpoint, lifetime};
use crate::region::create::taken;
use crate::region::{Region, Spec, Subject};
use std::sync::Arc;

/// How often a name may change under an opener before it gives up.
const REOPENS: usize = 64;

/// What to do with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It must lead to an object.
    Open,
    /// It must be free.
    Create,
    /// Either.
    OpenOrCreate,
}

/// The endpoint of a handle, if it is attached.
type Seat = Option<Box<Endpoint>>;

/// What a handle begins with that attaches late.
pub(crate) type Late = (Arc<Region>, Seat);

/// What is looked for.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a Name,
    pub(crate) how: How,
    /// What a creator makes; an opener needs kind and kind area.
    pub(crate) spec: &'a Spec,
    /// Takes the dead out.
    pub(crate) bury: Bury,
    /// Fills in the kind area and the payload of a new region, before anybody sees it.
    pub(crate) lay_out: fn(&Region),
}

impl Wanted<'_> {
    /// The attached endpoint. `check` looks at the geometry of a region that somebody else made.
    pub(crate) fn attach(
        &self,
        check: impl Fn(&Region) -> Result<(), Fault>,
    ) -> Result<Endpoint, OpenError> {
        self.attach_by(check, |region, born| Endpoint::attach_any(region, born, self.bury))
    }

    /// The same; `seat` takes the slot, and is told whether the region has its name yet.
    pub(crate) fn attach_by(
        &self,
        check: impl Fn(&Region) -> Result<(), Fault>,
        mut seat: impl FnMut(&Arc<Region>, bool) -> Result<Attach, OpenError>,
    ) -> Result<Endpoint, OpenError> {
        for _ in 0..REOPENS {
            if self.how != How::Create {
                match self.open(&check, &mut seat) {
                    Ok(Some(endpoint)) => return Ok(endpoint),
                    Ok(None) => continue,
                    Err(OpenError::NotFound(_)) if self.how == How::OpenOrCreate => {}
                    Err(other) => return Err(other),
                }
            }
            match self.create(&mut seat) {
                Err(OpenError::AlreadyExists(_)) if self.how == How::OpenOrCreate => {}
                Err(OpenError::AlreadyExists(fault)) => match Region::open(self.name, None) {
                    // The name belonged to the dead, and is free now.
                    Ok(region) if lifetime::is_gone(&region)? => {}
                    _ => return Err(OpenError::AlreadyExists(fault)),
                },
                made => return made,
            }
        }
        Err(restless(self.spec.kind, self.name))
    }

    /// Makes a region whose handles attach late; that of an ephemeral one at once. `fill` runs before
    /// anybody sees it, and again should the name be taken meanwhile by somebody who is dead.
    pub(crate) fn create_late(
        &self,
        mut fill: impl FnMut(&Arc<Region>) -> Result<(), OpenError>,
    ) -> Result<Late, OpenError> {
        let subject = || Subject { kind: self.spec.kind, name: self.name.clone() };
        for _ in 0..REOPENS {
            match Region::open(self.name, None) {
                Ok(region) if !lifetime::is_gone(&region)? => return Err(taken(subject())),
                _ => {} // free, or whatever it is: then the name cannot be had
            }
            let ready = |region: &Arc<Region>| {
                fill(region)?;
                self.attach_late(region, false)
            };
            match Region::create(self.name, self.spec, ready) {
                Err(OpenError::AlreadyExists(fault)) => match Region::open(self.name, None) {
                    Ok(region) if lifetime::is_gone(&region)? => {}
                    _ => return Err(OpenError::AlreadyExists(fault)),
                },
                Ok((region, Some(endpoint))) => return Ok((region, endpoint)),
                Ok((_, None)) => break,
                Err(other) => return Err(other),
            }
        }
        Err(restless(self.spec.kind, self.name))
    }

    /// Opens a region whose handles attach late; that of an ephemeral one at once.
    pub(crate) fn open_late(&self) -> Result<Late, OpenError> {
        for _ in 0..REOPENS {
            let Some(region) = self.region()? else { continue };
            if let Some(endpoint) = self.attach_late(&region, true)? {
                return Ok((region, endpoint));
            }
        }
        Err(restless(self.spec.kind, self.name))
    }

    /// The region to be looked at, without a place in it.
    pub(crate) fn look(&self) -> Result<Arc<Region>, OpenError> {
        for _ in 0..REOPENS {
            if let Some(region) = self.region()? {
                return Ok(region);
            }
        }
        Err(restless(self.spec.kind, self.name))
    }

    /// `None`: the name changed hands meanwhile.
    fn attach_late(&self, region: &Arc<Region>, born: bool) -> Result<Option<Seat>, OpenError> {
        if !region.is_ephemeral() {
            return Ok(Some(None));
        }
        match Endpoint::attach_any(region, born, self.bury)? {
            Attach::Done(endpoint) => Ok(Some(Some(endpoint))),
            Attach::Stale => Ok(None),
        }
    }

    /// The region of that name. `None`: the name changed hands meanwhile, look again.
    fn region(&self) -> Result<Option<Arc<Region>>, OpenError> {
        let region = Region::open(self.name, Some(self.spec.kind))?;
        if region.constants().kind_len < self.spec.kind_len as u64 {
            let cause = "its header leaves out words that it must have; remove it and start again";
            return Err(region.fault(FaultKind::Damaged, cause).into());
        }
        Ok((!lifetime::is_gone(&region)?).then_some(region))
    }

    /// `None`: the name changed hands meanwhile, look again.
    fn open(
        &self,
        check: impl Fn(&Region) -> Result<(), Fault>,
        mut seat: impl FnMut(&Arc<Region>, bool) -> Result<Attach, OpenError>,
    ) -> Result<Option<Endpoint>, OpenError> {
        let Some(region) = self.region()? else { return Ok(None) };
        check(&region)?;
        match seat(&region, true)? {
            Attach::Done(endpoint) => Ok(Some(*endpoint)),
            Attach::Stale => Ok(None),
        }
    }

    fn create(
        &self,
        mut seat: impl FnMut(&Arc<Region>, bool) -> Result<Attach, OpenError>,
    ) -> Result<Endpoint, OpenError> {
        let attach = |region: &Arc<Region>| {
            (self.lay_out)(region);
            match seat(region, false)? {
                Attach::Done(endpoint) => Ok(*endpoint),
                Attach::Stale => Err(restless(self.spec.kind, self.name)),
            }
        };
        Region::create(self.name, self.spec, attach).map(|(_, endpoint)| endpoint)
    }
}

/// The name changed hands too often.
pub(crate) fn restless(kind: Kind, name: &Name) -> OpenError {
    let subject = Subject { kind, name: name.clone() };
    let cause = "the name keeps being removed and made anew";
    Fault::new(FaultKind::Removed, subject, cause).into()
}

/// A creator's figure for an opener who asked for more.
pub(crate) fn too_small(region: &Region, what: &str, wanted: u64, has: u64) -> Fault {
    let cause = format!(
        "{what} {wanted} was asked for, its creator gave it {has}; ask for no more, or remove it and \
         make it anew"
    );
    region.fault(FaultKind::Mismatch, cause)
}
