//! What a block is to be like, and how its name is found.

use super::handle::Block;
use crate::error::{FaultKind, OpenError};
use crate::layout::{ArrayArea, FLAG_EPHEMERAL, Kind, PARAMS, fnv1a};
use crate::name::Name;
use crate::notify::find::{How, Late, Wanted};
use crate::region::{Region, Spec};
use crate::rwlock::core::bury;
use std::sync::Arc;

/// What a block is to be like; see [`Block::options`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOptions {
    meta: Vec<u8>,
    mode: u32,
    ephemeral: bool,
}

impl Default for BlockOptions {
    fn default() -> Self {
        BlockOptions { meta: Vec::new(), mode: 0o600, ephemeral: false }
    }
}

impl BlockOptions {
    /// Bytes that say what the payload is, for whoever opens it; at most 1 MiB, and never changed. For an
    /// opener they have no meaning.
    pub fn meta(mut self, meta: impl Into<Vec<u8>>) -> Self {
        self.meta = meta.into();
        self
    }

    /// Permission bits of the file, whatever the umask (default 0600). Only the owner and root can
    /// open it in any case.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The last one out removes the block; when all died, the next opener or [`gc`](crate::gc) does.
    /// Handles of an ephemeral block are attached from the start, so there can be 48.
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// Makes a new block of `len` zero bytes, all of them reserved.
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyExists`] when the name is taken; faults for a bad name, a bad mode, a meta
    /// that is too long, or a full `/dev/shm`.
    pub fn create(self, name: &str, len: usize) -> Result<Block, OpenError> {
        self.create_filled(name, len, |_| Ok(()))
    }

    /// Makes a new block that begins with `bytes`, and zeros up to `len`. Nobody ever sees it without
    /// them: the name comes last.
    ///
    /// # Errors
    ///
    /// As [`BlockOptions::create`]; [`InvalidOption`](FaultKind::InvalidOption) for more bytes than `len`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let name = &format!("/doc-block-from-{}", std::process::id());
    /// let block = ringspan::Block::options().meta(*b"u8").create_from(name, 8, b"whole")?;
    /// assert_eq!((block.meta(), block.len()), (&b"u8"[..], 8));
    /// # ringspan::remove(name)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_from(self, name: &str, len: usize, bytes: &[u8]) -> Result<Block, OpenError> {
        self.create_filled(name, len, |region| {
            region.bytes().write(0, bytes).ok_or_else(|| {
                let cause = format!("{} bytes do not fit into its {len}", bytes.len());
                region.fault(FaultKind::InvalidOption, cause).into()
            })
        })
    }

    /// The same; `fill` writes the payload while nobody can see it. It may run twice.
    pub(crate) fn create_filled(
        self,
        name: &str,
        len: usize,
        mut fill: impl FnMut(&Arc<Region>) -> Result<(), OpenError>,
    ) -> Result<Block, OpenError> {
        let lay_out = |region: &Arc<Region>| {
            region.meta().write(0, &self.meta).expect("the area is made for this meta");
            fill(region)
        };
        let late = self.wanted(name, len, How::Create, |wanted| wanted.create_late(lay_out))?;
        Block::of(late)
    }

    /// Opens a block that exists. Mode and ephemeral are what its creator chose.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`]; faults for another kind of object, another layout version, a damaged
    /// header or meta, or another owner.
    pub fn open(self, name: &str) -> Result<Block, OpenError> {
        Block::of(self.wanted(name, 0, How::Open, |wanted| wanted.open_late())?)
    }

    fn wanted(
        &self,
        name: &str,
        len: usize,
        how: How,
        find: impl FnOnce(&Wanted<'_>) -> Result<Late, OpenError>,
    ) -> Result<Late, OpenError> {
        let name = Name::new(name)?;
        let mut params = [0; PARAMS];
        params[0] = fnv1a(self.meta.iter().copied());
        let spec = Spec {
            kind: Kind::Array,
            kind_len: size_of::<ArrayArea>(),
            meta_len: self.meta.len() as u64,
            payload_len: len as u64,
            params,
            flags: if self.ephemeral { FLAG_EPHEMERAL } else { 0 },
            mode: self.mode,
        };
        find(&Wanted { name: &name, how, spec: &spec, bury, lay_out: |_| () })
    }
}
