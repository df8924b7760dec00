//! What can be wrong with an object: [`Fault`] names the object, the cause and the cure and keeps
//! the errno; [`OpenError`] is what every `open`, `create` and attach returns. The errors of one
//! operation live beside it (`ring/error.rs`).

pub(crate) mod errno;

use std::fmt;
use std::io;

/// The class of a [`Fault`], for programs; the text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// The name is not one that the system or ringspan takes.
    InvalidName,
    /// An option or argument that cannot be met (a size of zero, a capacity above the limit, ...).
    InvalidOption,
    /// `/dev/shm` has no room for the segment.
    NoSpace,
    /// The file belongs to somebody else, or its mode keeps us out.
    PermissionDenied,
    /// Bytes in shared memory that no correct peer writes.
    Damaged,
    /// A healthy object, but not the one asked for: kind, layout version, byte order, geometry.
    Mismatch,
    /// The object was removed from the file system; this handle is attached to a nameless one.
    Removed,
    /// A peer is attached that can be neither reached nor proven dead.
    PeerUnreachable,
    /// The process (or the system) is out of file descriptors.
    TooManyFiles,
    /// The handle was made before a `fork` and is used in the child.
    Forked,
    /// An async verb was used outside a tokio runtime.
    NoRuntime,
    /// A message is larger than the ring takes, or a value cannot be encoded.
    Encode,
    /// A message that is not what the reader asked to read.
    Decode,
    /// All slots of the object are taken by live processes.
    TooManyAttached,
    /// A lock's writer died while it held it: the bytes may be half written.
    Poisoned,
    /// This system lacks the call; the text names it.
    Unsupported,
    /// Any other error of the operating system; see [`Fault::errno`].
    Os,
}

/// What is wrong with which object, why, and what to do about it.
///
/// ```
/// let err = ringspan::Segment::open("/no-such-segment").unwrap_err();
/// assert!(err.to_string().contains("/no-such-segment"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Fault {
    /// One word, so that results with a fault in them stay small on the paths of nanoseconds.
    inner: Box<Inner>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    kind: FaultKind,
    object: String,
    cause: String,
    errno: Option<i32>,
}

impl Fault {
    /// A fault of `object` ("ring /frames") with a cause that says what to do.
    pub(crate) fn new(
        kind: FaultKind,
        object: impl fmt::Display,
        cause: impl fmt::Display,
    ) -> Self {
        Inner { kind, object: object.to_string(), cause: cause.to_string(), errno: None }.into()
    }

    /// A fault that came from a system call: `call` names it, the errno is kept.
    pub(crate) fn os(object: impl fmt::Display, call: &str, err: &io::Error) -> Self {
        let errno = errno::of(err);
        let kind = match errno {
            Some(errno::EMFILE | errno::ENFILE) => FaultKind::TooManyFiles,
            Some(errno::ENOSPC | errno::EDQUOT) => FaultKind::NoSpace,
            Some(errno::EACCES | errno::EPERM) => FaultKind::PermissionDenied,
            _ if err.kind() == io::ErrorKind::Unsupported => FaultKind::Unsupported,
            _ => FaultKind::Os,
        };
        let cure = match kind {
            FaultKind::TooManyFiles => " (raise `ulimit -n`, or close handles)",
            _ => "",
        };
        Inner { kind, object: object.to_string(), cause: format!("{call}: {err}{cure}"), errno }
            .into()
    }

    /// The same fault with an errno attached.
    pub(crate) fn with_errno(mut self, errno: i32) -> Self {
        self.inner.errno = Some(errno);
        self
    }

    /// The class of the fault.
    pub fn kind(&self) -> FaultKind {
        self.inner.kind
    }

    /// Which object: its kind and name.
    pub fn object(&self) -> &str {
        &self.inner.object
    }

    /// The cause and the cure, without the object.
    pub fn cause(&self) -> &str {
        &self.inner.cause
    }

    /// The errno, where the fault came from a system call or has one that fits.
    pub fn errno(&self) -> Option<i32> {
        self.inner.errno.or(match self.inner.kind {
            FaultKind::NoSpace => Some(errno::ENOSPC),
            FaultKind::PermissionDenied => Some(errno::EACCES),
            FaultKind::TooManyFiles => Some(errno::EMFILE),
            FaultKind::TooManyAttached => Some(errno::EUSERS),
            FaultKind::InvalidName | FaultKind::InvalidOption => Some(errno::EINVAL),
            FaultKind::Damaged => Some(errno::EUCLEAN),
            FaultKind::Poisoned => Some(errno::EOWNERDEAD),
            FaultKind::Removed => Some(errno::ESTALE),
            _ => None,
        })
    }
}

impl From<Inner> for Fault {
    fn from(inner: Inner) -> Self {
        Fault { inner: Box::new(inner) }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("kind", &self.inner.kind)
            .field("object", &self.inner.object)
            .field("cause", &self.inner.cause)
            .field("errno", &self.inner.errno)
            .finish()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.object, self.inner.cause)
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        use io::ErrorKind as K;
        let kind = match fault.kind() {
            FaultKind::InvalidName | FaultKind::InvalidOption | FaultKind::Encode => {
                K::InvalidInput
            }
            FaultKind::NoSpace => K::StorageFull,
            FaultKind::PermissionDenied => K::PermissionDenied,
            FaultKind::Damaged | FaultKind::Mismatch | FaultKind::Decode | FaultKind::Poisoned => {
                K::InvalidData
            }
            FaultKind::Removed => K::StaleNetworkFileHandle,
            FaultKind::PeerUnreachable => K::HostUnreachable,
            FaultKind::TooManyFiles | FaultKind::TooManyAttached => K::QuotaExceeded,
            FaultKind::Unsupported => K::Unsupported,
            FaultKind::Forked | FaultKind::NoRuntime | FaultKind::Os => K::Other,
        };
        io::Error::new(kind, fault)
    }
}

/// Why an object could not be opened, created or attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// No object of that name exists.
    NotFound(Fault),
    /// An object of that name exists and `create` was asked to make a new one.
    AlreadyExists(Fault),
    /// The role is held by a live process.
    RoleTaken {
        /// Which object and role, by whom.
        fault: Fault,
        /// The process that holds it.
        pid: u32,
    },
    /// Anything else; [`Fault::kind`] classifies it.
    Fault(Fault),
}

impl OpenError {
    /// The fault inside: object, cause, errno.
    pub fn fault(&self) -> &Fault {
        match self {
            OpenError::NotFound(f) | OpenError::AlreadyExists(f) | OpenError::Fault(f) => f,
            OpenError::RoleTaken { fault, .. } => fault,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl std::error::Error for OpenError {}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        OpenError::Fault(fault)
    }
}

impl From<OpenError> for io::Error {
    fn from(err: OpenError) -> Self {
        match err {
            OpenError::NotFound(f) => io::Error::new(io::ErrorKind::NotFound, f),
            OpenError::AlreadyExists(f) => io::Error::new(io::ErrorKind::AlreadyExists, f),
            OpenError::RoleTaken { fault, .. } => io::Error::new(io::ErrorKind::AddrInUse, fault),
            OpenError::Fault(f) => f.into(),
        }
    }
}
