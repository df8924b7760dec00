"""What ringspan raises.

::

    RingspanError
    ├── Closed (EOFError)               the producer ended the stream
    ├── PeerDied (BrokenPipeError)      the other end died        .pid
    ├── PeerClosed (BrokenPipeError)    the consumer closed its end
    ├── Empty (queue.Empty)             a try_ verb found nothing
    ├── Timeout (TimeoutError)          the time-out of a blocking_ verb is over
    ├── TooLarge (ValueError)           a message above max_message  .size .limit
    ├── CodecError (ValueError)         what cannot be read or written
    ├── HandleClosed (ValueError)       this very handle was closed before
    ├── InvalidName (ValueError)        not a name that the system takes
    ├── InvalidOption (ValueError)      an argument that cannot be met
    ├── NotFound (FileNotFoundError)    no object of that name
    ├── AlreadyExists (FileExistsError) the name is taken
    ├── RoleTaken (FileExistsError)     another end holds the role   .pid
    ├── PermissionDenied (PermissionError)
    ├── PeerUnreachable (ConnectionError)
    ├── Damaged (OSError)               bytes that no correct peer writes
    ├── Mismatch (OSError)              healthy, but another kind, version or size
    ├── Removed (OSError)               the name was removed meanwhile
    ├── NoSpace (OSError)               /dev/shm is full
    ├── TooManyFiles (OSError)          out of file descriptors
    ├── TooManyAttached (OSError)       every slot is held by a live process
    ├── Poisoned (OSError)              a lock whose writer died
    ├── Unsupported (OSError)           this system lacks a call
    ├── SystemFault (OSError)           any other error of the system
    ├── WouldDeadlock (RuntimeError)    a task would wait for itself
    ├── Forked (RuntimeError)           the handle came here by fork
    ├── RemoteError                     what a handler raised        .type_name .traceback
    ├── Disconnected (ConnectionError)  the server is gone           .delivered
    ├── NotServed (ConnectionRefusedError)  nobody serves the name now
    └── UnknownMethod (AttributeError)  the service has no such method

`str()` names the object, the cause and the cure; `errno` is kept where there is one. All of them
can be pickled.
"""

from __future__ import annotations

import queue
from typing import Any


class RingspanError(Exception):
    """The root of everything that ringspan raises on its own account."""

    errno: int | None

    def __init__(self, message: str = "", errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**self.__dict__, "errno": self.errno}


class _OfProcess(RingspanError):
    """An error that tells of one process."""

    pid: int | None

    def __init__(self, message: str = "", errno: int | None = None, pid: int | None = None) -> None:
        super().__init__(message, errno)
        self.pid = pid


class Closed(RingspanError, EOFError):
    """The producer ended the stream and everything in it was popped."""


class PeerDied(_OfProcess, BrokenPipeError):
    """The other end died; `pid` is its process, where that is known."""


class PeerClosed(RingspanError, BrokenPipeError):
    """The consumer closed its end; told once, then pushes wait for another one."""


class Empty(RingspanError, queue.Empty):
    """Nothing is in the ring now."""


class Timeout(RingspanError, TimeoutError):
    """The time-out of a `blocking_` verb is over."""


class TooLarge(RingspanError, ValueError):
    """A message of `size` bytes in a ring that takes `limit`."""

    size: int | None
    limit: int | None

    def __init__(
        self,
        message: str = "",
        errno: int | None = None,
        size: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(message, errno)
        self.size = size
        self.limit = limit


class CodecError(RingspanError, ValueError):
    """A message that cannot be read, or a value that cannot be written."""


class HandleClosed(RingspanError, ValueError):
    """The handle was closed or detached before."""


class InvalidName(RingspanError, ValueError):
    """Not a name that the system and ringspan take."""


class InvalidOption(RingspanError, ValueError):
    """An option or argument that cannot be met."""


class NotFound(RingspanError, FileNotFoundError):
    """No object of that name exists."""


class AlreadyExists(RingspanError, FileExistsError):
    """The name is taken, and `create=True` asked for a new object."""


class RoleTaken(_OfProcess, FileExistsError):
    """Another end, in the process `pid`, holds the role."""


class PermissionDenied(RingspanError, PermissionError):
    """The object belongs to somebody else, or its mode keeps us out."""


class PeerUnreachable(RingspanError, ConnectionError):
    """A peer is attached that can be neither reached nor proven dead."""


class Damaged(RingspanError, OSError):
    """Bytes in shared memory that no correct peer writes."""


class Mismatch(RingspanError, OSError):
    """A healthy object, but not the one asked for: kind, version, size."""


class Removed(RingspanError, OSError):
    """The name was removed; nobody else can come."""


class NoSpace(RingspanError, OSError):
    """The shared memory file system has no room."""


class TooManyFiles(RingspanError, OSError):
    """The process (or the system) is out of file descriptors."""


class TooManyAttached(RingspanError, OSError):
    """All slots of the object are held by live processes."""


class Unsupported(RingspanError, OSError):
    """The system lacks a call; the text names it."""


class SystemFault(RingspanError, OSError):
    """Any other error of the operating system."""


class Poisoned(RingspanError, OSError):
    """A writer died while it held the lock: the bytes may be half written."""


class WouldDeadlock(RingspanError, RuntimeError):
    """A task (or thread) that holds the lock would wait for itself."""


class RemoteError(RingspanError):
    """What the handler of a call raised.

    Where the handler raised a builtin exception, this is one of that type too, so that
    `except ValueError` catches it. Nothing of it was unpickled or executed: it is text.
    """

    #: The name of the exception's type there.
    type_name: str
    #: The traceback there, as text; of a Rust handler the chain of its sources.
    traceback: str
    #: What the exception said there.
    remote_message: str

    def __init__(
        self,
        message: str = "",
        errno: int | None = None,
        type_name: str = "",
        traceback: str = "",
        remote_message: str = "",
    ) -> None:
        super().__init__(message, errno)
        self.type_name = type_name
        self.traceback = traceback
        self.remote_message = remote_message


class Disconnected(RingspanError, ConnectionError):
    """The connection broke under a call.

    `delivered` says whether the request had reached the server: "yes" (whether the handler ran is
    not known), "no" (it is safe to call again) or "unknown".
    """

    delivered: str

    def __init__(
        self, message: str = "", errno: int | None = None, delivered: str = "unknown"
    ) -> None:
        super().__init__(message, errno)
        self.delivered = delivered


class NotServed(RingspanError, ConnectionRefusedError):
    """Nobody serves the name now: its server died, left, or is shutting down."""


class UnknownMethod(RingspanError, AttributeError):
    """The service has no method of that name."""


class Forked(RingspanError, RuntimeError):
    """The handle came into this process by fork: open the object here."""


__all__ = [
    "AlreadyExists",
    "Closed",
    "CodecError",
    "Damaged",
    "Disconnected",
    "Empty",
    "Forked",
    "HandleClosed",
    "InvalidName",
    "InvalidOption",
    "Mismatch",
    "NoSpace",
    "NotFound",
    "NotServed",
    "PeerClosed",
    "PeerDied",
    "PeerUnreachable",
    "PermissionDenied",
    "Poisoned",
    "RemoteError",
    "Removed",
    "RingspanError",
    "RoleTaken",
    "SystemFault",
    "Timeout",
    "TooLarge",
    "TooManyAttached",
    "TooManyFiles",
    "UnknownMethod",
    "Unsupported",
    "WouldDeadlock",
]

for _name in __all__:
    globals()[_name].__module__ = "ringspan"
del _name
