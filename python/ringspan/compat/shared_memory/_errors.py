"""What `ringspan.compat.shared_memory` raises: RuntimeErrors, as ever, that are ringspan's own too.

So `except RuntimeError`, `except FileNotFoundError` and `except ringspan.NotFound` all catch a name
that does not exist. What was no RuntimeError in the old library is none here.
"""

# ruff: noqa: N818 - named for what happened, as in ringspan._exceptions
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ringspan import _exceptions
from ringspan._exceptions import RingspanError


class AlreadyExists(_exceptions.AlreadyExists, RuntimeError):
    """The name is taken."""


class NotFound(_exceptions.NotFound, RuntimeError):
    """No object of that name exists."""


class InvalidName(_exceptions.InvalidName, RuntimeError):
    """Not a name that the system takes."""


class InvalidOption(_exceptions.InvalidOption, RuntimeError):
    """A size or number that cannot be."""


class PermissionDenied(_exceptions.PermissionDenied, RuntimeError):
    """The object belongs to somebody else, or its mode keeps us out."""


class Mismatch(_exceptions.Mismatch, RuntimeError, TypeError):
    """A healthy object, but not of the kind or layout asked for."""


class Damaged(_exceptions.Damaged, RuntimeError):
    """Bytes in shared memory that no correct process writes."""


class NoSpace(_exceptions.NoSpace, RuntimeError):
    """/dev/shm is full."""


class TooLarge(_exceptions.TooLarge, RuntimeError):
    """An item above the queue's `itemsize`: `size` bytes where `limit` go in."""


class Empty(_exceptions.Empty, RuntimeError):
    """Nothing is in the queue now."""


class HandleClosed(_exceptions.HandleClosed, RuntimeError):
    """The very handle was closed before."""


class Removed(_exceptions.Removed, RuntimeError):
    """The name was unlinked, and nobody else has the object."""


class PeerUnreachable(_exceptions.PeerUnreachable, RuntimeError):
    """Somebody has the object who can be neither reached nor proven dead."""


class TooManyAttached(_exceptions.TooManyAttached, RuntimeError):
    """All 48 places of those who wait, notify and put are taken."""


class TooManyFiles(_exceptions.TooManyFiles, RuntimeError):
    """The process is out of file descriptors."""


class Unsupported(_exceptions.Unsupported, RuntimeError):
    """The system, or a version of a library, lacks something."""


class SystemFault(_exceptions.SystemFault, RuntimeError):
    """Any other error of the operating system."""


class PickleRefused(RingspanError, RuntimeError):
    """What is there is a pickle, and nobody asked for pickles to be read."""


__all__ = [
    "AlreadyExists",
    "Damaged",
    "Empty",
    "HandleClosed",
    "InvalidName",
    "InvalidOption",
    "Mismatch",
    "NoSpace",
    "NotFound",
    "PeerUnreachable",
    "PermissionDenied",
    "PickleRefused",
    "Removed",
    "SystemFault",
    "TooLarge",
    "TooManyAttached",
    "TooManyFiles",
    "Unsupported",
]

for _name in __all__:
    globals()[_name].__module__ = "ringspan.compat.shared_memory"
del _name

_TWINS: dict[type[RingspanError], type[RingspanError]] = {
    getattr(_exceptions, name): globals()[name] for name in __all__ if hasattr(_exceptions, name)
}
_OURS: frozenset[type[RingspanError]] = frozenset(globals()[name] for name in __all__)


@contextmanager
def runtime_errors(of: str = "") -> Iterator[None]:
    """What ringspan raises inside is a RuntimeError outside, which begins with `of`."""
    try:
        yield
    except RingspanError as err:
        twin = _TWINS.get(type(err), type(err))
        if twin not in _OURS or (twin is type(err) and not of):
            raise
        told = f"{of}: {err}" if of else str(err)
        raise twin(told, err.errno).with_traceback(err.__traceback__) from None
