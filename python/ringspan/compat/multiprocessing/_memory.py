"""Named blocks of bytes, as `multiprocessing.shared_memory.SharedMemory` makes them."""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import secrets
import sys
from multiprocessing import parent_process, util
from types import TracebackType
from typing import Any, Self

from ringspan._exceptions import AlreadyExists, InvalidName, Mismatch, RingspanError
from ringspan._ringspan import Segment, remove

_PREFIX = "psm_"


class _UnusableNameError(InvalidName, OSError):
    """A name that `shm_open` refuses; the standard class raises an OSError for it."""


class _NoBlockError(Mismatch, ValueError):
    """A file without bytes; the standard class raises a ValueError for it."""


# ---- what goes with the process that made it -----------------------------------------------------

#: Blocks that this process made with `track` and nobody here unlinked: device and inode by name.
_made: dict[str, tuple[int, int]] = {}


def _remove_what_was_made() -> None:
    """Removes what this process made, unless another block has got the name since."""
    while _made:
        file, inode = _made.popitem()
        with contextlib.suppress(RingspanError):
            remove(file, missing_ok=True, file_id=inode)


# At the end of the process, after its children were waited for: they may still attach.
util.Finalize(None, _remove_what_was_made, exitpriority=-1000)
# A forked child made nothing of that.
os.register_at_fork(after_in_child=_made.clear)


# ---- the class -----------------------------------------------------------------------------------


class SharedMemory:
    """A named block of bytes that processes share.

    name: without slash; None (with `create`) makes a new one up.
    create: make a new block; otherwise attach to the one of that name.
    size: bytes of a new block; not looked at when attaching.
    track: the block that this process creates goes when it ends in order, should nobody have
        unlinked it. False: it stays until `unlink`. Attaching never destroys anything, and neither
        do children that `multiprocessing` started.

    Views of `buf` and arrays over it keep the memory, whatever becomes of this object.
    Pickles by name: what comes out is attached to the same block. `with` closes, and does not
    unlink.

    Raises FileExistsError or FileNotFoundError as `create` says, ValueError without a size or a
    name and for a file that has no bytes yet, and another OSError for a name that cannot be used or
    when /dev/shm has no room.
    """

    # Programs reach for it, to call `resource_tracker.unregister`.
    _name: str
    _size: int
    _segment: Segment | None = None
    _buf: memoryview | None = None

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create and size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        if name is None and not create:
            raise ValueError("'name' can only be None if create=True")
        if create:
            self._make(name, operator.index(size), track=track, reserve=False)
        else:
            assert name is not None
            self._name = "/" + name
            self._hold(_native(Segment.open, self._name, raw=True))

    @classmethod
    def _reserved(cls, name: str | None, size: int) -> Self:
        """A new block that has all its memory at once, for who fills all of it at once."""
        block = cls.__new__(cls)
        block._make(name, size, track=True, reserve=True)
        return block

    def _make(self, name: str | None, size: int, *, track: bool, reserve: bool) -> None:
        if size > sys.maxsize:
            raise OverflowError(f"'size' of {size} is more than any block can have")
        self._name, segment = _create(name, size, reserve)
        if track and parent_process() is None:
            _made[_file(self._name)] = segment.file_id
        self._hold(segment)

    def _hold(self, segment: Segment) -> None:
        self._segment = segment
        self._size = len(segment)
        self._buf = memoryview(segment)

    @property
    def buf(self) -> memoryview:
        """The bytes, as a writable memoryview of format "B"; None once closed."""
        # Not `memoryview | None`: the standard library's stubs say it like this too.
        return self._buf  # type: ignore[return-value]

    @property
    def name(self) -> str:
        """The name, without its slash."""
        return self._name.removeprefix("/")

    @property
    def size(self) -> int:
        """Bytes in the block."""
        return self._size

    def close(self) -> None:
        """Gives the block up; it stays for everybody else. Closing again does nothing.

        Raises BufferError while a view of `buf` is out: a slice, or an array made by `frombuffer`.
        Delete it and close again. `np.ndarray(..., buffer=block.buf)` is no hindrance: it keeps the
        memory for itself.
        """
        segment = self._segment
        if segment is None:
            return
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if segment.exports:
            raise BufferError(
                "cannot close exported pointers exist: a slice of the `buf` of shared memory "
                f"{self.name!r}, or an array over it, lives; delete it, then close"
            )
        segment.close()
        self._segment = None

    def unlink(self) -> None:
        """Deletes the name; the bytes go when the last process has closed them.

        Raises FileNotFoundError if it is gone already.
        """
        _native(remove, self._name)
        _made.pop(_file(self._name), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes; does not unlink. An exception under way is not replaced by a BufferError."""
        try:
            self.close()
        except BufferError:
            if exc is None:
                raise

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r}, size={self.size})"


def _create(name: str | None, size: int, reserve: bool) -> tuple[str, Segment]:
    while True:
        slashed = "/" + (_PREFIX + secrets.token_hex(4) if name is None else name)
        try:
            return slashed, _native(Segment.create, slashed, size, raw=True, reserve=reserve)
        except AlreadyExists:
            if name is not None:
                raise


def _file(name: str) -> str:
    # As glibc does.
    return name.lstrip("/")


def _native(verb: Any, name: str, *args: Any, **options: Any) -> Any:
    """Calls a verb of ringspan; its errors tell all that those of `shm_open` would."""
    try:
        return verb("/" + _file(name), *args, **options)
    except InvalidName as err:
        if "\0" in name:
            raise
        too_long = len(os.fsencode(_file(name))) > 250
        number = errno.ENAMETOOLONG if too_long else errno.EINVAL
        raise _told(_UnusableNameError(str(err), number), name) from None
    except Mismatch as err:
        raise _told(_NoBlockError(str(err), err.errno), name) from None
    except OSError as err:
        raise _told(err, name) from None


def _told(err: OSError, name: str) -> OSError:
    err.strerror, err.filename = str(err), name
    return err
