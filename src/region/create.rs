//! Creation: an anonymous file, reserved, mapped and filled in; its name comes last, so nobody ever
//! sees half a segment and a killed creator leaves nothing.

use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::layout::{Constants, HEADER_LEN, LAYOUT_VERSION, ORDER_TAG};
use crate::name::Name;
use crate::region::{Region, Spec, Subject};
use crate::sys::door::DoorDir;
use crate::sys::failpoint::failpoint;
use crate::sys::fd;
use crate::sys::file::{self, Unborn};
use crate::sys::map::Mapping;
use crate::sys::process;
use std::fmt;
use std::io;
use std::sync::Arc;

impl Region {
    /// Makes a region of that name. `before_name` runs on the finished region while no other
    /// process can see it (the creator claims its slot there).
    pub(crate) fn create<T>(
        name: &Name,
        spec: &Spec,
        before_name: impl FnOnce(&Arc<Region>) -> Result<T, OpenError>,
    ) -> Result<(Arc<Region>, T), OpenError> {
        let subject = Subject { kind: spec.kind, name: name.clone() };
        let plan = spec.plan(&subject)?;
        let owner = process::euid();
        let doors = DoorDir::open(owner).map_err(|err| door_fault(&subject, owner, &err))?;
        let unborn = Unborn::new(plan.total, spec.mode)
            .map_err(|err| no_room(&subject, plan.total, &err))?;
        failpoint!("create.anonymous");
        let file = Arc::clone(unborn.fd());
        let total = usize::try_from(plan.total).unwrap_or(usize::MAX);
        let mapping =
            Mapping::new(&file, total).map_err(|err| Fault::os(&subject, "mmap", &err))?;
        let id = unborn.id();
        let random = || file::random().map_err(|err| Fault::os(&subject, "getrandom", &err));
        let constants = Constants {
            version: LAYOUT_VERSION,
            order: ORDER_TAG,
            kind: spec.kind.code(),
            header_len: HEADER_LEN as u32,
            flags: spec.flags,
            slots: spec.kind.slots() as u32,
            created_at: process::wall_clock(),
            creator_pid: process::pid(),
            creator_start: process::own_start_time(),
            total: plan.total,
            kind_off: plan.kind_off,
            kind_len: plan.kind_len,
            payload_off: plan.payload_off,
            payload_len: spec.payload_len,
            meta_off: plan.meta_off,
            meta_len: spec.meta_len,
            door_dev: doors.id().dev,
            door_ino: doors.id().ino,
            instance: [random()?, random()?],
            params: spec.params,
        };
        let path = file::shm_path(name.file());
        let region = Arc::new(Region {
            name: name.clone(),
            path: path.clone(),
            file,
            id,
            owner,
            mapping,
            kind: spec.kind,
            constants,
            doors,
            forks: fd::fork_count(),
        });
        region.header().store(constants);
        region.door_path().store(region.doors.path().as_os_str().as_encoded_bytes());
        failpoint!("create.header");
        let extra = before_name(&region)?;
        failpoint!("create.claimed");
        match unborn.publish(&path) {
            Ok(_) => {
                failpoint!("create.named");
                Ok((region, extra))
            }
            Err(err) => Err(not_named(&subject, &err)),
        }
    }
}

/// The file could not be made.
pub(crate) fn no_room(subject: impl fmt::Display, total: u64, err: &io::Error) -> Fault {
    let fault = Fault::os(&subject, "creating the file in /dev/shm", err);
    let limit = file::size_limit().filter(|&limit| limit < total);
    if let (Some(errno::EFBIG), Some(limit)) = (fault.errno(), limit) {
        let cause = format!(
            "{total} bytes are more than this process may write into a file, {limit} (`ulimit -f`)"
        );
        return Fault::new(FaultKind::Os, subject, cause).with_errno(errno::EFBIG);
    }
    // Beyond the largest file there is no room either (EFBIG).
    if fault.kind() != FaultKind::NoSpace && fault.errno() != Some(errno::EFBIG) {
        return fault;
    }
    let cause = format!(
        "/dev/shm has no room for {total} bytes; remove what is left over (`ls -l /dev/shm`), ask for \
         less, or enlarge it (`docker run --shm-size`, `mount -o remount,size=`)"
    );
    Fault::new(FaultKind::NoSpace, subject, cause).with_errno(errno::ENOSPC)
}

/// The file could not be given its name.
pub(crate) fn not_named(subject: impl fmt::Display, err: &io::Error) -> OpenError {
    if err.kind() != io::ErrorKind::AlreadyExists {
        return Fault::os(subject, "linkat", err).into();
    }
    taken(subject)
}

/// Somebody has the name.
pub(crate) fn taken(subject: impl fmt::Display) -> OpenError {
    let cause = "the name is taken; open it, or remove it first";
    OpenError::AlreadyExists(Fault::new(FaultKind::Os, subject, cause).with_errno(errno::EEXIST))
}

/// The directory of the doors cannot be had.
pub(crate) fn door_fault(subject: &Subject, owner: u32, err: &io::Error) -> Fault {
    let path = DoorDir::path_for(owner);
    Fault::os(subject, &format!("door directory {}", path.display()), err)
}
