//! Raw shared mappings. Never a `&[u8]`: whoever maps a file shares it with processes that write.

use crate::sys::fd::Fd;
use memmap2::{MmapOptions, MmapRaw};
use std::io;

/// A shared, writable mapping of the first `len` bytes of a file. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
}

impl Mapping {
    /// Maps `len` bytes of `fd`; the file must be at least that long (the caller has looked).
    pub(crate) fn new(fd: &Fd, len: usize) -> io::Result<Mapping> {
        let map = MmapOptions::new().len(len).map_raw(fd)?;
        Ok(Mapping { map })
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }
}
