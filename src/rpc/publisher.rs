//! Who publishes what the calls of one turn of a loop put, once for all of them.

/// A driver that has its next turn once those have run who are ready now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher {
    thread: usize,
    /// What is put waits for it.
    holds: bool,
    /// That of a driving task: another runtime may run on the thread, once this one was left.
    #[cfg(feature = "tokio")]
    runtime: Option<tokio::runtime::Id>,
}

impl Publisher {
    /// A task of that runtime, in the middle of its turns. It holds what is put where the peer is on our
    /// cpu, and the first publication would make it run: 1.3 times the calls with 64 under way. Elsewhere
    /// the peer had better begin at once: 0.7 times.
    #[cfg(feature = "tokio")]
    pub(crate) fn task(runtime: tokio::runtime::Id, peer: &crate::layout::Slot) -> Publisher {
        let holds = crate::notify::awake::is_on_our_cpu(peer);
        Publisher { thread: thread(), holds, runtime: Some(runtime) }
    }

    /// A callback of an event loop.
    #[cfg(feature = "python")]
    pub(crate) fn callback() -> Publisher {
        Publisher {
            thread: thread(),
            holds: true,
            #[cfg(feature = "tokio")]
            runtime: None,
        }
    }

    /// What is put here and now goes out with what others put, in one publication that is about to come.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        self.holds && self.is_here()
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
