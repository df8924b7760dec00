//! Who publishes what the calls of one turn of a loop put, once for all of them.

use crate::layout::Slot;
use crate::notify::awake::is_on_our_cpu;

/// Frames that go out together where the other side runs on a cpu of its own: it works on these while the
/// next ones are made.
pub(crate) const BATCH: u32 = 16;

/// How many frames are held back for one publication, towards that peer. Where it runs on our cpu it could
/// not begin before we are done: all of them.
#[inline]
pub(crate) fn batch_for(peer: &Slot) -> u32 {
    if is_on_our_cpu(peer) { u32::MAX } else { BATCH }
}

/// A driver that has its next turn once those have run who are ready now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher {
    thread: usize,
    /// So many puts go out at once; 0: each by itself.
    batch: u32,
    held: u32,
    /// That of a driving task: another runtime may run on the thread, once this one was left.
    #[cfg(feature = "tokio")]
    runtime: Option<tokio::runtime::Id>,
}

impl Publisher {
    /// A task of that runtime, in the middle of its turns. It holds what is put where the peer is on our
    /// cpu, and the first publication would make it run: 1.3 times the calls with 64 under way. Elsewhere
    /// the peer had better begin at once: holding all made it 0.7 times.
    #[cfg(feature = "tokio")]
    pub(crate) fn task(runtime: tokio::runtime::Id, peer: &Slot) -> Publisher {
        let batch = if is_on_our_cpu(peer) { u32::MAX } else { 0 };
        Publisher { thread: thread(), batch, held: 0, runtime: Some(runtime) }
    }

    /// A callback of an event loop.
    #[cfg(feature = "python")]
    pub(crate) fn callback(peer: &Slot) -> Publisher {
        Publisher {
            thread: thread(),
            batch: batch_for(peer),
            held: 0,
            #[cfg(feature = "tokio")]
            runtime: None,
        }
    }

    /// Something was put, here and now. True: it goes out with what others put, in one publication that is
    /// about to come.
    #[inline]
    pub(crate) fn holds(&mut self) -> bool {
        if self.batch == 0 || !self.is_here() {
            return false;
        }
        self.held += 1;
        if self.held < self.batch {
            return true;
        }
        self.held = 0;
        false
    }

    /// Whether it runs before anything else can wait here.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        #[cfg(feature = "tokio")]
        if let Some(runtime) = self.runtime {
            use tokio::runtime::Handle;
            return self.thread == thread()
                && Handle::try_current().is_ok_and(|here| here.id() == runtime);
        }
        self.thread == thread()
    }
}

/// Tells threads apart, cheaply: the address of something that each has.
#[inline]
fn thread() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
