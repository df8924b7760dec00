//! Removal by name, and the sweep of what the dead left behind.

use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::layout::Kind;
use crate::name::Name;
use crate::notify::lifetime;
use crate::region::Region;
use crate::region::raw::{self, RawFile};
use crate::segment::list;
use crate::sync::Ordering;
use crate::sys::door::{self, DoorDir};
use crate::sys::file::{self, FileId};
use crate::sys::process;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often a name may change hands under a remover before it gives up.
const RETRIES: usize = 64;

/// Removes the object of that name, of whatever kind, raw files and damaged ones too.
///
/// The memory lives on for those who have it open. Sleepers are woken: who has no peer left gets
/// [`Removed`](FaultKind::Removed). A new object that somebody makes of the same name meanwhile is
/// never hit.
///
/// # Errors
///
/// [`OpenError::NotFound`]; faults for a bad name, a link, a directory, or a file of another user.
///
/// # What a crash leaves behind
///
/// A remover killed half-way leaves a name that the next opener or remover takes away.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let name = format!("/doc-remove-{}", std::process::id());
/// let seg = ringspan::Segment::create(&name, 4)?;
/// ringspan::remove(&name)?;
/// assert!(matches!(ringspan::remove(&name), Err(ringspan::OpenError::NotFound(_))));
/// seg.write_at(0, b"here")?; // the memory is still ours
/// # Ok(())
/// # }
/// ```
pub fn remove(name: &str) -> Result<(), OpenError> {
    remove_only(name, &Only::default())
}

/// As [`remove`], but only an object of that kind.
///
/// # Errors
///
/// As [`remove`], and [`Mismatch`](FaultKind::Mismatch) for an object of another kind, a raw file or a
/// damaged one: the name stays.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let name = format!("/doc-remove-kind-{}", std::process::id());
/// use ringspan::Kind;
///
/// let value = ringspan::Value::<u32>::create(&name)?;
/// assert!(ringspan::remove_kind(&name, Kind::Function).is_err());
/// ringspan::remove_kind(&name, Kind::Value)?;
/// # Ok(())
/// # }
/// ```
pub fn remove_kind(name: &str, kind: Kind) -> Result<(), OpenError> {
    remove_only(name, &Only { kind: Some(kind), file: None })
}

/// As [`remove`], but only while the name leads to the file of that
/// [`file_id`](crate::Segment::file_id), and not to one that somebody made since. The number of an
/// inode is never given again by tmpfs, which `/dev/shm` is as a rule; by other file systems it may be.
///
/// # Errors
///
/// As [`remove`]; a name that leads to another file is [`OpenError::NotFound`] too.
pub fn remove_file(name: &str, file_id: (u64, u64)) -> Result<(), OpenError> {
    remove_only(name, &Only { kind: None, file: Some(file_id) })
}

/// What must be so for a name to be removed.
#[derive(Debug, Default)]
pub(crate) struct Only {
    pub(crate) kind: Option<Kind>,
    pub(crate) file: Option<(u64, u64)>,
}

impl Only {
    fn check(&self, name: &Name, id: FileId) -> Result<(), OpenError> {
        if self.file.is_none_or(|(dev, ino)| FileId { dev, ino } == id) {
            return Ok(());
        }
        let cause = "the name leads to another file by now";
        let fault = Fault::new(FaultKind::Os, format!("name {name}"), cause);
        Err(OpenError::NotFound(fault.with_errno(errno::ENOENT)))
    }
}

/// Removes what the name leads to, if it is that.
pub(crate) fn remove_only(name: &str, only: &Only) -> Result<(), OpenError> {
    let name = Name::raw(name)?;
    for _ in 0..RETRIES {
        let removed = match RawFile::open(&name) {
            Ok(file) => {
                only.check(&name, file.info.id)?;
                remove_this(file, only.kind)?
            }
            // A mode that keeps its own user out: it can be told by nothing but its owner.
            Err(err) if only.kind.is_none() && err.fault().errno() == Some(errno::EACCES) => {
                let Some(id) = raw::own_file(&name) else { return Err(err) };
                only.check(&name, id)?;
                raw::unlink_file(&name, id)?
            }
            Err(err) => return Err(err),
        };
        if removed {
            return Ok(());
        }
    }
    let subject = format!("name {name}");
    let cause = "the name keeps being removed and made anew";
    Err(Fault::new(FaultKind::Removed, subject, cause).into())
}

/// False: the name leads elsewhere by now.
fn remove_this(file: RawFile, wanted: Option<Kind>) -> Result<bool, OpenError> {
    if file.has_magic() || wanted.is_some() {
        match file.region(wanted) {
            Ok(region) => return Ok(lifetime::remove(&region)?),
            Err(err) if err.fault().kind() == FaultKind::TooManyFiles => return Err(err),
            Err(err) if wanted.is_some() => return Err(untold(err)),
            Err(_) => {}
        }
    }
    // Whatever is wrong with it, it has to be removable; nobody can be rung.
    Ok(file.unlink()?)
}

/// What is damaged has no kind that could be told.
fn untold(err: OpenError) -> OpenError {
    let fault = err.fault();
    if fault.kind() != FaultKind::Damaged {
        return err;
    }
    let cause = format!("its kind cannot be told: {}", fault.cause());
    Fault::new(FaultKind::Mismatch, fault.object(), cause).into()
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Names of the objects that were removed.
    pub removed: Vec<String>,
    /// Files of creators that died half-way.
    pub temporaries: usize,
    /// Doors of endpoints that died. The owner of a function has two.
    pub doors: usize,
}

/// Removes what the dead left behind: ephemeral objects that nobody alive is attached to, files of
/// creators that died half-way, doors of dead endpoints. Whatever a living process may use is left
/// alone, and so are persistent objects and raw files. Never waits: what somebody is busy with is
/// skipped.
///
/// # Errors
///
/// A fault when `/dev/shm` cannot be listed. What cannot be removed is skipped.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let report = ringspan::gc()?;
/// println!("{} objects, {} doors", report.removed.len(), report.doors);
/// # Ok(())
/// # }
/// ```
pub fn gc() -> Result<GcReport, Fault> {
    sweep(None)
}

/// As [`gc`], and removes persistent objects too that were made longer than `age` ago and that
/// nobody alive is attached to. **Their data is lost**, also under processes that only read and write
/// the bytes of a segment and never waited (they are not attached; they keep their memory, without
/// its name). Raw files are left alone.
///
/// # Errors
///
/// As [`gc`].
pub fn gc_persistent_older_than(age: Duration) -> Result<GcReport, Fault> {
    sweep(Some(age))
}

fn sweep(age: Option<Duration>) -> Result<GcReport, Fault> {
    let mut report = GcReport::default();
    let before = age.map(|age| {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        process::wall_clock().saturating_sub(age)
    });
    let entries = list::entries()?;
    for entry in entries.iter().filter(|entry| entry.starts_with(file::TEMP_PREFIX)) {
        report.temporaries += usize::from(file::sweep_temporary(entry).unwrap_or(false));
    }
    let alive = door::listening();
    for region in regions(&entries) {
        let old = before.is_some_and(|before| region.constants().created_at <= before);
        let swept = match old {
            true => lifetime::sweep_if_deserted(&region),
            false => lifetime::sweep_if_dead(&region),
        };
        match swept {
            Ok(true) => report.removed.push(region.name().to_string()),
            _ => lifetime::reap_dead(&region, |tag| alive.contains(&tag)),
        }
    }
    for owner in door_owners(&entries) {
        if let Ok(doors) = DoorDir::open(owner) {
            report.doors += sweep_doors(&doors).unwrap_or(0);
        }
    }
    Ok(report)
}

fn regions(entries: &[String]) -> impl Iterator<Item = Arc<Region>> {
    entries.iter().filter_map(|entry| Region::open(&Name::new(entry).ok()?, None).ok())
}

/// Users whose door directories exist and are ours to sweep.
fn door_owners(entries: &[String]) -> Vec<u32> {
    let me = process::euid();
    let mut owners: BTreeSet<u32> = entries
        .iter()
        .filter_map(|entry| entry.strip_prefix(".ringspan-")?.parse().ok())
        .filter(|&uid| uid == me || me == 0)
        .collect();
    if DoorDir::path_for(me).exists() {
        owners.insert(me);
    }
    owners.into_iter().filter(|&uid| DoorDir::path_for(uid).exists()).collect()
}

/// Removes doors at which nobody listens and which no slot names. A door whose tag stands in a slot
/// is the proof of its owner's death, so it goes with the slot and not before.
fn sweep_doors(doors: &DoorDir) -> Result<usize, Fault> {
    let fault = |err| Fault::os(doors.path().display(), "listing the doors", &err);
    let mut swept = doors.sweep_unfinished().map_err(fault)?;
    swept += doors.sweep_fronts().map_err(fault)?;
    // In this order: who is dead now takes no slot any more, so the slots read afterwards hold all
    // that these tags will ever have.
    let refused = doors.refused(&door::listening()).map_err(fault)?;
    let mut named = BTreeSet::new();
    for entry in list::entries()? {
        let Ok(name) = Name::new(&entry) else { continue };
        match Region::open(&name, None) {
            Ok(region) => named.extend(region.slots().map(|slot| slot.tag.load(Ordering::SeqCst))),
            // Whom it holds cannot be seen for want of descriptors, memory, ...: without its door a
            // dead owner could never be proven dead, so all doors stay.
            Err(OpenError::Fault(fault))
                if matches!(fault.errno(), Some(errno::EMFILE | errno::ENFILE | errno::ENOMEM)) =>
            {
                return Ok(swept);
            }
            Err(_) => {} // nobody attaches to it, or it has no slots
        }
    }
    for tag in refused.into_iter().filter(|tag| !named.contains(tag)) {
        doors.unlink(tag);
        swept += 1;
    }
    Ok(swept)
}
