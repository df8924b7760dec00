//! What the classes have in common whose bytes lie under a lock: the handle, its faces, and who holds
//! guards of it. Shared by the object and what it hands out.

use pyo3::prelude::*;
use std::sync::Arc;

use super::cells::{KeptCell, KeptGuard};
use super::changes::{Changing, Source};
use super::errors;
use super::holding::Holding;
use super::loop_faces::LoopFaces;
use super::opening;
use super::sleepers::{self, Closes};
use crate::block::Block;
use crate::error::{Fault, FaultKind};
use crate::notify::Endpoint;
use crate::notify::shared::Shared;
use crate::region::Region;
use crate::rwlock::core::Core;
use crate::rwlock::{LockMode, RwLock};
use crate::sync::{Mutex, lock};

/// The object with the lock.
#[derive(Debug, Clone)]
pub(crate) enum Locked {
    Lock(RwLock),
    /// Attached at the first use of its lock.
    Block(Block),
}

/// See the module.
pub(crate) struct Locking {
    /// First, so that the readers leave their loops before the endpoint closes its descriptor.
    faces: LoopFaces,
    /// None once closed. Taken with the interpreter attached, for plain statements only.
    handle: Mutex<Option<Locked>>,
    /// The attached handle, for verbs that are over soon; from the first of them on.
    core: KeptCell<Arc<Core>>,
    pub(super) holding: Arc<Holding>,
    /// "lock /l".
    pub(super) object: Arc<str>,
    is_block: bool,
}

impl Locking {
    pub(crate) fn new(handle: Locked) -> Self {
        let object: Arc<str> = match &handle {
            Locked::Lock(lock) => format!("lock {}", lock.name()).into(),
            Locked::Block(block) => block.region().subject().to_string().into(),
        };
        let faces = LoopFaces::late(Arc::clone(&object));
        if let Locked::Lock(lock) = &handle {
            faces.attached(lock.core().shared());
        }
        let is_block = matches!(handle, Locked::Block(_));
        let handle = Mutex::new(Some(handle));
        Locking {
            faces,
            handle,
            core: KeptCell::empty(),
            holding: Arc::default(),
            object,
            is_block,
        }
    }

    /// What was opened.
    fn opened(&self) -> PyResult<Locked> {
        let handle = lock(&self.handle).clone();
        handle.ok_or_else(|| errors::closed_handle(&self.object, "handle", "closed"))
    }

    /// The handle of the lock, of this process; attached if need be.
    pub(crate) fn open_handle(&self) -> PyResult<RwLock> {
        let opened = match self.opened()? {
            Locked::Lock(lock) => lock.core().region().check_fork().map(|()| lock),
            Locked::Block(block) => self.attached(&block),
        };
        opened.map_err(|fault| errors::fault(&fault))
    }

    /// The lock of a block, attached at its first use.
    #[inline]
    fn attached(&self, block: &Block) -> Result<RwLock, Fault> {
        let lock = match block.attached_lock() {
            Some(lock) => lock,
            None => opening::apart(|| block.lock())?,
        };
        self.faces.attached(lock.core().shared());
        Ok(lock)
    }

    /// The block; an error for a lock, which no caller has.
    pub(crate) fn block_handle(&self) -> PyResult<Block> {
        match self.opened()? {
            Locked::Block(block) => Ok(block),
            Locked::Lock(lock) => {
                let fault = lock.core().region().fault(FaultKind::Mismatch, "it is not an array");
                Err(errors::fault(&fault))
            }
        }
    }

    /// The attached handle of this process, kept while a verb is inside. In a child that came by fork
    /// it is the parent's: who may be in one asks for that first.
    #[inline]
    pub(crate) fn inside<'a>(&'a self, py: Python<'a>) -> PyResult<KeptGuard<'a, Arc<Core>>> {
        match self.core.enter(py) {
            Some(core) => Ok(core),
            None => self.attach_inside(py),
        }
    }

    #[cold]
    fn attach_inside<'a>(&'a self, py: Python<'a>) -> PyResult<KeptGuard<'a, Arc<Core>>> {
        self.core.put(py, Arc::clone(self.open_handle()?.core()));
        let closed = || errors::closed_handle(&self.object, "handle", "closed");
        self.core.enter(py).ok_or_else(closed)
    }

    pub(crate) fn faces(&self) -> &LoopFaces {
        &self.faces
    }

    pub(crate) fn is_open(&self) -> bool {
        lock(&self.handle).is_some()
    }

    /// Gives the handle up. Guards that are out keep the lock, tasks and threads that wait get an error.
    pub(crate) fn close(&self, py: Python<'_>) {
        self.core.end(py);
        let handle = lock(&self.handle).take();
        self.faces.close(py);
        sleepers::closed(self);
        drop(handle);
    }

    /// The awaited verb, for messages.
    pub(crate) fn verb(&self, mode: LockMode) -> &'static str {
        match (self.is_block, mode) {
            (false, LockMode::Read) => "RwLock.read",
            (false, LockMode::Write) => "RwLock.write",
            (true, LockMode::Read) => "read",
            (true, LockMode::Write) => "write",
        }
    }

    /// The blocking verb, for messages.
    pub(crate) fn blocking_verb(&self, mode: LockMode) -> &'static str {
        match (self.is_block, mode) {
            (false, LockMode::Read) => "RwLock.blocking_read",
            (false, LockMode::Write) => "RwLock.blocking_write",
            (true, LockMode::Read) => "blocking_read",
            (true, LockMode::Write) => "blocking_write",
        }
    }
}

/// A block that is attached.
struct Attached {
    block: Block,
    core: Arc<Core>,
}

impl Source for Attached {
    fn region(&self) -> &Arc<Region> {
        self.block.region()
    }

    fn shared(&self) -> &Shared {
        self.core.shared()
    }

    fn version(&self) -> u64 {
        self.block.version()
    }

    fn look(&self, endpoint: &mut Endpoint, since: u64) -> Result<Option<u64>, Fault> {
        self.block.look(endpoint, since)
    }

    fn read(&self, _py: Python<'_>) -> PyResult<(u64, Option<Py<PyAny>>)> {
        Ok((self.version(), None)) // only its version is ever waited for
    }
}

impl Closes for Locking {
    fn check_open(&self) -> PyResult<()> {
        self.opened().map(drop)
    }
}

impl Changing for Locking {
    fn faces(&self) -> &LoopFaces {
        &self.faces
    }

    fn source(&self) -> PyResult<Arc<dyn Source>> {
        let core = Arc::clone(self.open_handle()?.core());
        Ok(Arc::new(Attached { block: self.block_handle()?, core }))
    }
}
