//! Growth: only values grow, only under their lock, and nothing ever shrinks. The new part is reserved
//! before its length stands in the header, so who reads the length can touch all of it.

use crate::error::{Fault, FaultKind};
use crate::region::Region;
use crate::region::create::no_room;
use crate::region::map::Bytes;
use crate::sync::Ordering;
use crate::sys::failpoint::failpoint;
use crate::sys::file;
use crate::sys::map::Mapping;
use std::sync::OnceLock;

/// How often a file may grow under one handle. Honest growth doubles.
const MAPPINGS: usize = 1024;

/// A mapping of more of the file than the one before. All of them stay until the region goes, so that
/// nothing is unmapped under anybody.
#[derive(Debug)]
pub(super) struct More {
    mapping: Mapping,
    next: OnceLock<Box<More>>,
}

impl Region {
    /// Bytes `offset..offset + len` of the file, wherever they are mapped; mapped now if they are not.
    ///
    /// # Errors
    ///
    /// `Damaged` when the file is not so long, and what the system says to the mapping.
    pub(crate) fn file_bytes(&self, offset: u64, len: u64) -> Result<Bytes<'_>, Fault> {
        let outside = || {
            let cause = format!(
                "it tells of {len} bytes at {offset}, its file has {}; something wrote over it: remove it \
                 and make it anew",
                self.length()
            );
            self.fault(FaultKind::Damaged, cause)
        };
        let end = offset.checked_add(len).and_then(|end| usize::try_from(end).ok());
        let end = end.ok_or_else(outside)?;
        let part = |mapping| Bytes::new(mapping, offset as usize, len as usize).ok_or_else(outside);
        if end <= self.mapping.len() {
            return part(&self.mapping);
        }
        let mut place = &self.more;
        for _ in 0..MAPPINGS {
            let Some(more) = place.get() else {
                let there =
                    file::info(&self.file).map_err(|err| self.os_fault("fstat", &err))?.size;
                let there = usize::try_from(there.min(self.length())).unwrap_or(usize::MAX);
                if there < end {
                    return Err(outside());
                }
                let mapping =
                    Mapping::new(&self.file, there).map_err(|err| self.os_fault("mmap", &err))?;
                // Refused: another thread was faster, and its mapping is as good.
                let _ = place.set(Box::new(More { mapping, next: OnceLock::new() }));
                continue;
            };
            if end <= more.mapping.len() {
                return part(&more.mapping);
            }
            place = &more.next;
        }
        Err(self.fault(FaultKind::Damaged, "its file grows without end"))
    }

    /// Bytes in the file, as the header has it now.
    pub(crate) fn length(&self) -> u64 {
        // Acquire: pairs with the Release in `grow`.
        self.header().total.load(Ordering::Acquire)
    }

    /// Reserves `len` bytes from `from` on, behind everything that is in use, and makes the file as long as
    /// that takes. The caller holds the lock under which the region grows. Killed anywhere, it leaves a file
    /// that is longer than need be, of which the next growth makes use.
    ///
    /// # Errors
    ///
    /// `NoSpace`; nothing has changed then.
    pub(crate) fn grow(&self, from: u64, len: u64) -> Result<(), Fault> {
        let old = self.length();
        let size = file::info(&self.file).map_err(|err| self.os_fault("fstat", &err))?.size;
        if old < self.constants.total || old > size {
            let cause = format!(
                "its header says that the file has {old} bytes; it has {size}: something wrote over it, \
                 remove it and make it anew"
            );
            return Err(self.fault(FaultKind::Damaged, cause));
        }
        let total = from.checked_add(len).filter(|&total| i64::try_from(total).is_ok());
        let Some(total) = total else {
            let cause = format!("{len} bytes more are more than a file can hold");
            return Err(self.fault(FaultKind::InvalidOption, cause));
        };
        file::reserve(&self.file, from, len).map_err(|err| no_room(self.subject(), len, &err))?;
        failpoint!("grow.reserved");
        // Release: the room is there before its length is.
        self.header().total.store(total.max(old), Ordering::Release);
        failpoint!("grow.told");
        Ok(())
    }

    /// Gives the memory of a part back that nobody reads any more; its bytes read as zeros.
    pub(crate) fn give_back(&self, offset: u64, len: u64) {
        file::give_back(&self.file, offset, len);
    }
}
