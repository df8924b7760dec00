//! What a handler is told about its call.

use crate::rpc::server::peer::Peer;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who calls, as the kernel said when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Caller {
    /// The process; 0 where our pid namespace cannot see it.
    pub pid: u32,
    /// The user: that of the server, or root.
    pub uid: u32,
}

/// What a handler can know of its call; cheap to clone.
///
/// ```
/// use ringspan::rpc;
///
/// async fn work(call: rpc::Context, (n,): (u64,)) -> rpc::Answer<u64> {
///     // In a thread, which nobody can drop, ask now and then:
///     let done = tokio::task::spawn_blocking(move || {
///         (0..n).take_while(|_| !call.is_cancelled()).sum()
///     });
///     Ok(done.await?)
/// }
/// # let _ = work;
/// ```
#[derive(Clone)]
pub struct Context {
    peer: Arc<Peer>,
    id: u64,
    deadline: Option<Instant>,
}

impl Context {
    pub(crate) fn new(peer: &Arc<Peer>, id: u64, deadline: Option<Instant>) -> Context {
        Context { peer: Arc::clone(peer), id, deadline }
    }

    /// When the caller gives up, by our own clock.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long that is from now.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Who calls.
    pub fn caller(&self) -> Caller {
        Caller { pid: self.peer.pid, uid: self.peer.uid }
    }

    /// Nobody waits for the answer any more: the caller dropped the call, its deadline is over, or it is
    /// gone. The future of a handler is dropped then; this is for what it has left to threads.
    pub fn is_cancelled(&self) -> bool {
        !self.peer.is_wanted(self.id)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("caller", &self.caller())
            .field("deadline", &self.deadline)
            .finish()
    }
}
