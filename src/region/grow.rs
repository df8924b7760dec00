//! Growth: only values grow, only under their lock, and nothing ever shrinks. The new part is reserved
//! before its length stands in the header, so who reads the length can use all of it.
//!
//! What lies behind the creator's part is read and written by system calls, never through a mapping: its
//! places are given back to the system when they are left, and a touch of such a hole takes memory anew,
//! which in a full tmpfs is a SIGBUS. A read of a hole by `pread` takes none, and a write by `pwrite` that
//! finds none is an error.

use crate::error::{Fault, FaultKind};
use crate::region::Region;
use crate::region::create::no_room;
use crate::sync::Ordering;
use crate::sys::failpoint::failpoint;
use crate::sys::file;
use std::io;

impl Region {
    /// Bytes in the file, as the header has it now.
    pub(crate) fn length(&self) -> u64 {
        // Acquire: pairs with the Release in `grow`.
        self.header().total.load(Ordering::Acquire)
    }

    /// Whether `len` bytes at `offset` are in the file, whatever the header says.
    pub(crate) fn is_there(&self, offset: u64, len: u64) -> Result<(), Fault> {
        let end = offset.checked_add(len);
        if end.is_some_and(|end| end <= self.constants.total) {
            return Ok(());
        }
        let there = file::info(&self.file).map_err(|err| self.os_fault("fstat", &err))?.size;
        match end {
            Some(end) if end <= there => Ok(()),
            _ => Err(self.outside(offset, len)),
        }
    }

    /// Copies from `offset` of the file on into `out`.
    pub(crate) fn read_file(&self, offset: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.check_fork()?; // the file's number may be another file's
        if let Some(at) = self.in_payload(offset, out.len()) {
            return self
                .bytes()
                .read(at, out)
                .ok_or_else(|| self.outside(offset, out.len() as u64));
        }
        file::read_at(&self.file, offset, out).map_err(|err| match err.kind() {
            io::ErrorKind::UnexpectedEof => self.outside(offset, out.len() as u64),
            _ => self.os_fault("pread", &err),
        })
    }

    /// Copies `bytes` to `offset` of the file.
    pub(crate) fn write_file(&self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.check_fork()?; // the file's number may be another file's
        if let Some(at) = self.in_payload(offset, bytes.len()) {
            let written = self.bytes().write(at, bytes);
            return written.ok_or_else(|| self.outside(offset, bytes.len() as u64));
        }
        file::write_at(&self.file, offset, bytes).map_err(|err| match err.kind() {
            io::ErrorKind::StorageFull => no_room(self.subject(), bytes.len() as u64, &err),
            _ => self.os_fault("pwrite", &err),
        })
    }

    /// Where in the payload that the creator made, if all of it lies there.
    fn in_payload(&self, offset: u64, len: usize) -> Option<usize> {
        let at = usize::try_from(offset.checked_sub(self.constants.payload_off)?).ok()?;
        (at.checked_add(len)? <= self.bytes().len()).then_some(at)
    }

    fn outside(&self, offset: u64, len: u64) -> Fault {
        let there = file::info(&self.file).map_or(0, |info| info.size);
        let cause = format!(
            "it tells of {len} bytes at {offset}, its file has {there}; something wrote over it: remove it \
             and make it anew"
        );
        self.fault(FaultKind::Damaged, cause)
    }

    /// Reserves `len` bytes from `from` on, behind everything that is in use, and makes the file as long as
    /// that takes. The caller holds the lock under which the region grows. Killed anywhere, it leaves a file
    /// that is longer than need be, of which the next growth makes use.
    ///
    /// # Errors
    ///
    /// `NoSpace`; nothing has changed then.
    pub(crate) fn grow(&self, from: u64, len: u64) -> Result<(), Fault> {
        self.check_fork()?; // the file's number may be another file's
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

    /// Whether the header tells of more than the creator made.
    pub(crate) fn has_grown(&self) -> bool {
        self.length() > self.constants.total
    }

    /// Gives the memory of all that it grew by back, for good: the name is gone, and nobody reads it.
    pub(crate) fn give_back_grown(&self) {
        let there = file::info(&self.file).map_or(0, |info| info.size);
        if let Some(grown) = there.checked_sub(self.constants.total).filter(|&grown| grown > 0) {
            self.give_back(self.constants.total, grown);
        }
    }

    /// Gives the memory of a grown part back that nobody reads any more; its bytes read as zeros. The
    /// creator's part is kept: it is read through mappings.
    pub(crate) fn give_back(&self, offset: u64, len: u64) {
        if offset >= self.constants.total && !self.is_inherited() {
            file::give_back(&self.file, offset, len);
        }
    }
}
