//! Opening: owner, size, magic, checksum, version, kind, geometry and door directory, in the order
//! that gives the clearest message. One snapshot of the header is taken; what it says is used from
//! our own memory, never read again.

use crate::error::{Fault, FaultKind, OpenError, errno};
use crate::layout::{
    Constants, HEADER_LEN, Header, Kind, LAYOUT_VERSION, MAGIC, MAX_META, ORDER_TAG, WORDS,
    checksum,
};
use crate::name::Name;
use crate::region::create::door_fault;
use crate::region::spec::Plan;
use crate::region::{Region, Subject};
use crate::sys::door::DoorDir;
use crate::sys::fd::{self, Fd};
use crate::sys::file::{self, FileInfo};
use crate::sys::map::Mapping;
use crate::sys::process;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Region {
    /// Opens the region of that name; `wanted` is the kind it must have.
    pub(crate) fn open(name: &Name, wanted: Option<Kind>) -> Result<Arc<Region>, OpenError> {
        let subject = Subject { kind: wanted.unwrap_or(Kind::Bytes), name: name.clone() };
        let path = file::shm_path(name.file());
        let file = file::open(&path).map_err(|err| not_opened(&subject, &err))?;
        let info = file::info(&file).map_err(|err| Fault::os(&subject, "fstat", &err))?;
        check_owner(&subject, &info)?;
        Self::of_file(name, path, Arc::new(file), &info, wanted)
    }

    /// The region in a file that is open, and that may be ours to use.
    pub(super) fn of_file(
        name: &Name,
        path: PathBuf,
        file: Arc<Fd>,
        info: &FileInfo,
        wanted: Option<Kind>,
    ) -> Result<Arc<Region>, OpenError> {
        let (mapping, constants, kind) = Self::check_file(name, &path, &file, info, wanted)?;
        let subject = Subject { kind, name: name.clone() };
        let doors = DoorDir::open(info.uid).map_err(|err| door_fault(&subject, info.uid, &err))?;
        let region = Arc::new(Region {
            name: name.clone(),
            path,
            file,
            id: info.id,
            owner: info.uid,
            mapping,
            kind,
            constants,
            doors,
            forks: fd::fork_count(),
        });
        region.check_doors()?;
        Ok(region)
    }

    /// What a region is in all but the doors: a whole header over parts that fit.
    pub(super) fn check_file(
        name: &Name,
        path: &Path,
        file: &Fd,
        info: &FileInfo,
        wanted: Option<Kind>,
    ) -> Result<(Mapping, Constants, Kind), OpenError> {
        let subject = Subject { kind: wanted.unwrap_or(Kind::Bytes), name: name.clone() };
        let foreign = |cause: String| Fault::new(FaultKind::Mismatch, &subject, cause);
        if info.size < HEADER_LEN as u64 {
            let cause =
                format!("{} is not a ringspan object ({} bytes)", path.display(), info.size);
            return Err(foreign(cause).into());
        }
        let map = |len: u64| {
            let len = usize::try_from(len).map_err(|_| foreign("larger than memory".into()))?;
            Mapping::new(file, len).map_err(|err| Fault::os(&subject, "mmap", &err))
        };
        // By a system call, which is cheaper than a map: these words never change.
        let mut start = [0; WORDS * 8];
        file::read_at(file, 0, &mut start).map_err(|err| Fault::os(&subject, "pread", &err))?;
        let words = Header::words_of(&start);
        if words[0] != MAGIC {
            let cause = format!(
                "{} is not a ringspan object; to use plain bytes open it as a raw segment",
                path.display()
            );
            return Err(foreign(cause).into());
        }
        let constants = check_constants(&subject, &words, info.size)?;
        // What a value has grown since is not read through the mapping.
        let mapping = map(constants.total)?;
        let kind = check_kind(&subject, &constants, wanted)?;
        let subject = Subject { kind, name: name.clone() };
        check_geometry(&subject, &constants, kind)?;
        Ok((mapping, constants, kind))
    }

    /// Both sides must meet in one door directory, or they could never wake each other.
    fn check_doors(&self) -> Result<(), Fault> {
        let here = self.doors.id();
        if (here.dev, here.ino) == (self.constants.door_dev, self.constants.door_ino) {
            return Ok(());
        }
        let cause = format!(
            "its endpoints meet in door directory {:?}, this process uses {:?}, which is not the same \
             directory; set RINGSPAN_DIR alike in both (or mount the same directory)",
            self.door_path().load(),
            self.doors.path().display().to_string(),
        );
        Err(self.fault(FaultKind::Mismatch, cause))
    }
}

pub(crate) fn not_opened(subject: impl fmt::Display, err: &io::Error) -> OpenError {
    match errno::of(err) {
        Some(errno::ENOENT) => {
            let cause = "no object of that name exists (create it, or start the side that does)";
            let fault = Fault::new(FaultKind::Os, subject, cause).with_errno(errno::ENOENT);
            OpenError::NotFound(fault)
        }
        Some(errno::ELOOP) => {
            let cause = "the name is a symbolic link; ringspan follows none";
            Fault::new(FaultKind::Mismatch, subject, cause).with_errno(errno::ELOOP).into()
        }
        _ => Fault::os(subject, "open", err).into(),
    }
}

pub(crate) fn check_owner(subject: impl fmt::Display, info: &FileInfo) -> Result<(), Fault> {
    if !info.regular {
        return Err(Fault::new(FaultKind::Mismatch, subject, "the name is not a regular file"));
    }
    let me = process::euid();
    if info.uid != me && me != 0 {
        let cause = format!(
            "the file belongs to uid {}, this process is uid {me}; only the owner and root may attach",
            info.uid
        );
        return Err(Fault::new(FaultKind::PermissionDenied, subject, cause));
    }
    Ok(())
}

fn check_constants(subject: &Subject, words: &[u64; WORDS], size: u64) -> Result<Constants, Fault> {
    let constants = Constants::from_words(words);
    let mismatch = |cause: String| Err(Fault::new(FaultKind::Mismatch, subject, cause));
    if constants.order == ORDER_TAG.swap_bytes() {
        return mismatch("it was made on a machine of the other byte order".into());
    }
    if constants.version != LAYOUT_VERSION {
        return mismatch(format!(
            "it has layout version {}, this ringspan reads {LAYOUT_VERSION}; use one version on both \
             sides, or remove it",
            constants.version
        ));
    }
    let damaged = |cause: String| {
        let cause = format!("{cause}; remove it and start again");
        Err(Fault::new(FaultKind::Damaged, subject, cause))
    };
    if words[WORDS - 1] != checksum(&words[..WORDS - 1]) {
        return damaged("the checksum of its header is wrong".into());
    }
    if constants.order != ORDER_TAG || constants.header_len as usize != HEADER_LEN {
        return damaged("its header is not one that ringspan writes".into());
    }
    if constants.total > size {
        return damaged(format!("it says {} bytes, the file has {size}", constants.total));
    }
    Ok(constants)
}

fn check_kind(
    subject: &Subject,
    constants: &Constants,
    wanted: Option<Kind>,
) -> Result<Kind, Fault> {
    let kind = Kind::from_code(constants.kind).ok_or_else(|| {
        let cause = format!("it is of kind {}, which this ringspan does not know", constants.kind);
        Fault::new(FaultKind::Mismatch, subject, cause)
    })?;
    match wanted {
        Some(wanted) if wanted != kind => {
            let cause = format!("the name is a {}, not a {}", kind.noun(), wanted.noun());
            Err(Fault::new(FaultKind::Mismatch, subject, cause))
        }
        _ => Ok(kind),
    }
}

fn check_geometry(subject: &Subject, c: &Constants, kind: Kind) -> Result<(), Fault> {
    let most = if kind == Kind::Array { MAX_META } else { 0 };
    let plan = Plan::new(kind, c.kind_len, c.meta_len, c.payload_len);
    let fits = plan.filter(|_| c.meta_len <= most).is_some_and(|plan| {
        c.slots as u64 == plan.slots
            && c.kind_off == plan.kind_off
            && c.kind_len == plan.kind_len
            && c.meta_off == plan.meta_off
            && c.payload_off == plan.payload_off
            && c.total == plan.total
    });
    if fits {
        return Ok(());
    }
    let cause = "its header describes parts that do not fit; remove it and start again";
    Err(Fault::new(FaultKind::Damaged, subject, cause))
}
