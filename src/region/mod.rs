//! A mapped and validated named file: created whole or not at all, opened with every field checked,
//! unlinked only when the name still means this very file. Knows the header and where the slots
//! are; claims none, and never waits.
//!
//! | file | job |
//! |---|---|
//! | `spec` | what to create; where each part lies |
//! | `create` | anonymous file, header, name last |
//! | `open` | owner, size, magic, checksum, version, kind, geometry, door directory |
//! | `grow` | longer files: reserve, publish the length; their grown part by system calls |
//! | `map` | the only casts from mapped bytes to atomics |
//! | `raw` | a file without our header: bytes only |
//! | `unlink` | removal under the inode's lock |

pub(crate) mod create;
mod grow;
pub(crate) mod map;
mod open;
pub(crate) mod raw;
mod spec;
mod unlink;

pub(crate) use spec::Spec;
pub(crate) use unlink::Claim;

use crate::error::{Fault, FaultKind};
use crate::layout::{Constants, FLAG_EPHEMERAL, Kind, STATE_REMOVED};
use crate::name::Name;
use crate::sync::Ordering;
use crate::sys::door::DoorDir;
use crate::sys::fd::{self, Fd};
use crate::sys::file::{self, FileId};
use crate::sys::map::Mapping;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The mapped file. Shared by every handle of it in this process.
#[derive(Debug)]
pub(crate) struct Region {
    name: Name,
    path: PathBuf,
    file: Arc<Fd>,
    id: FileId,
    owner: u32,
    mapping: Mapping,
    kind: Kind,
    constants: Constants,
    doors: DoorDir,
    forks: u64,
}

/// "ring /frames": how messages name an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) name: Name,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.noun(), self.name)
    }
}

impl Region {
    /// How messages name this object.
    pub(crate) fn subject(&self) -> Subject {
        Subject { kind: self.kind, name: self.name.clone() }
    }

    pub(crate) fn fault(&self, kind: FaultKind, cause: impl fmt::Display) -> Fault {
        Fault::new(kind, self.subject(), cause)
    }

    pub(crate) fn os_fault(&self, call: &str, err: &std::io::Error) -> Fault {
        Fault::os(self.subject(), call, err)
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn constants(&self) -> &Constants {
        &self.constants
    }

    pub(crate) fn file(&self) -> &Fd {
        &self.file
    }

    /// Removes the doors of an endpoint that was attached here.
    pub(crate) fn unlink_doors(&self, tag: u64) {
        match self.kind {
            Kind::Function => self.doors.unlink(tag),
            _ => self.doors.unlink_single(tag),
        }
    }

    /// The user who owns the file; only this user and root may attach.
    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }

    pub(crate) fn doors(&self) -> &DoorDir {
        &self.doors
    }

    pub(crate) fn is_ephemeral(&self) -> bool {
        self.constants.flags & FLAG_EPHEMERAL != 0
    }

    /// True once somebody removed the name, or is about to.
    pub(crate) fn is_removed(&self) -> bool {
        // Acquire: pairs with the Release in `mark_removed`.
        self.header().state.load(Ordering::Acquire) == STATE_REMOVED
    }

    /// True when no name leads to this file any more, whoever removed it.
    pub(crate) fn is_nameless(&self) -> bool {
        self.is_removed() || file::info(&self.file).is_ok_and(|info| info.links == 0)
    }

    /// True while the name leads to this file, and not to another one or nowhere.
    #[cfg(feature = "python")]
    pub(crate) fn has_its_name(&self) -> bool {
        file::info_at(&self.path).is_ok_and(|found| found.is_some_and(|info| info.id == self.id))
    }

    /// A `fork` brought this mapping into this process.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        self.forks != fd::fork_count()
    }

    /// Refuses the use of a mapping that a `fork` brought into this process.
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<(), Fault> {
        if self.is_inherited() { Err(self.inherited()) } else { Ok(()) }
    }

    #[cold]
    fn inherited(&self) -> Fault {
        inherited(self.subject())
    }
}

/// A `fork` brought the handle of `object` into this process.
pub(crate) fn inherited(object: impl fmt::Display) -> Fault {
    let cause =
        "this handle was inherited by fork and belongs to the parent; open or attach anew here";
    Fault::new(FaultKind::Forked, object, cause)
}
