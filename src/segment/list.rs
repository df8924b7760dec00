//! What there is: every named object of this user (or of all, for root).

use crate::error::{Fault, FaultKind, OpenError};
use crate::layout::Kind;
use crate::name::Name;
use crate::notify::link::{self, Proof};
use crate::notify::slots;
use crate::region::Region;
use crate::region::raw::{RawFile, RawRegion};
use crate::sync::Ordering;
use crate::sys::{door, file};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An endpoint that is attached to an object, as it described itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// Its process, as that process's own pid namespace counts; 0 in the moment before it said so.
    pub pid: u32,
    /// The random name of this attachment.
    pub tag: u64,
    /// "producer", "consumer", "owner"; "user" where all are alike.
    pub role: &'static str,
    /// False: proven dead and not taken out yet. `None`: it can be neither reached nor proven dead.
    pub alive: Option<bool>,
}

/// What can be seen of a named object without using it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// The name, with its slash.
    pub name: String,
    /// What lives in it; `None` for raw files and for objects with a [`fault`](SegmentInfo::fault).
    pub kind: Option<Kind>,
    /// Bytes for its user: the payload, of a raw file all of it.
    pub size: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// When it was made; unknown for raw files.
    pub created: Option<SystemTime>,
    /// The process that made it; unknown for raw files.
    pub creator_pid: Option<u32>,
    /// User id of its owner.
    pub owner: u32,
    /// Permission bits of the file.
    pub mode: u32,
    /// Whether the last one out removes it.
    pub ephemeral: bool,
    /// A file without our header.
    pub raw: bool,
    /// Who is attached. Handles that only read and write the bytes are not.
    pub attached: Vec<Attached>,
    /// Why it cannot be used: damaged, of another version, with another door directory.
    pub fault: Option<Fault>,
}

/// Lists every ringspan object that this user may open. Files of others and files without our
/// header are left out; damaged objects are listed with their fault.
///
/// # Errors
///
/// A fault when `/dev/shm` cannot be listed.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let name = format!("/doc-list-{}", std::process::id());
/// let seg = ringspan::Segment::create(&name, 100)?;
/// let list = ringspan::segments()?;
/// let info = list.iter().find(|info| info.name == name).expect("just made");
/// assert_eq!((info.kind, info.size), (Some(ringspan::Kind::Bytes), 100));
/// ringspan::remove(&name)?;
/// # Ok(())
/// # }
/// ```
pub fn segments() -> Result<Vec<SegmentInfo>, Fault> {
    Ok(listed()?.into_iter().filter(|info| !info.raw).collect())
}

/// As [`segments`], with raw files too.
///
/// # Errors
///
/// As [`segments`].
pub fn segments_including_raw() -> Result<Vec<SegmentInfo>, Fault> {
    listed()
}

/// The entries of `/dev/shm`.
pub(super) fn entries() -> Result<Vec<String>, Fault> {
    file::list(Path::new(file::SHM_DIR))
        .map_err(|err| Fault::os(file::SHM_DIR, "listing the directory", &err))
}

fn listed() -> Result<Vec<SegmentInfo>, Fault> {
    let alive = door::listening();
    let own = |entry: &String| !entry.starts_with(".ringspan-") && !entry.starts_with("sem.");
    Ok(entries()?.iter().filter(|entry| own(entry)).filter_map(|e| info_of(e, &alive)).collect())
}

/// `None`: gone meanwhile, not a file, or not ours to open.
fn info_of(entry: &str, alive: &BTreeSet<u64>) -> Option<SegmentInfo> {
    let name = Name::raw(entry).ok()?;
    let stat = RawFile::open(&name).ok()?.info;
    let mut info = SegmentInfo {
        name: name.to_string(),
        kind: None,
        size: stat.size,
        file_size: stat.size,
        created: None,
        creator_pid: None,
        owner: stat.uid,
        mode: stat.mode,
        ephemeral: false,
        raw: false,
        attached: Vec::new(),
        fault: None,
    };
    match Region::open(&name, None) {
        Ok(region) => {
            let constants = region.constants();
            info.kind = Some(region.kind());
            info.size = constants.payload_len;
            info.created = UNIX_EPOCH.checked_add(Duration::from_nanos(constants.created_at));
            info.creator_pid = Some(constants.creator_pid);
            info.ephemeral = region.is_ephemeral();
            info.attached = attached_to(&region, alive);
        }
        Err(OpenError::NotFound(_)) => return None,
        Err(err) => {
            info.raw = err.fault().kind() == FaultKind::Mismatch
                && !RawRegion::open(&name).is_ok_and(|raw| raw.has_magic());
            info.fault = (!info.raw).then(|| err.fault().clone());
        }
    }
    Some(info)
}

fn attached_to(region: &Region, alive: &BTreeSet<u64>) -> Vec<Attached> {
    let mut found = Vec::new();
    for (index, slot) in region.slots().enumerate() {
        let tag = slot.tag.load(Ordering::SeqCst);
        if tag == 0 {
            continue;
        }
        let role = match (region.kind(), index) {
            (Kind::Ring, 0) => "producer",
            (Kind::Ring, _) => "consumer",
            (Kind::Function, _) => "owner",
            _ => "user",
        };
        let pid = slots::read_hints(slot, tag).map_or(0, |hints| hints.pid);
        // Only those that the kernel does not list are knocked at, which wakes them.
        let alive = match alive.contains(&tag) {
            true => Some(true),
            false => match link::prove(region, tag) {
                Proof::Alive { .. } => Some(true),
                Proof::Dead { .. } => Some(false),
                Proof::Unknown(_) => None,
            },
        };
        if slot.tag.load(Ordering::SeqCst) == tag {
            found.push(Attached { pid, tag, role, alive });
        }
    }
    found
}
