//! Who publishes what the calls of one turn of a loop put, once for all of them.

/// A driver that has its next turn once those have run who are ready now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publisher {
    thread: usize,
    /// That of a driving task: another runtime may run on the thread, once this one was left.
    #[cfg(feature = "tokio")]
    runtime: Option<tokio::runtime::Id>,
}

impl Publisher {
    /// A task of that runtime, in the middle of its turns.
    #[cfg(feature = "tokio")]
    pub(crate) fn task(runtime: tokio::runtime::Id) -> Publisher {
        Publisher { thread: thread(), runtime: Some(runtime) }
    }

    /// A callback of an event loop.
    #[cfg(feature = "python")]
    pub(crate) fn callback() -> Publisher {
        Publisher {
            thread: thread(),
            #[cfg(feature = "tokio")]
            runtime: None,
        }
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
