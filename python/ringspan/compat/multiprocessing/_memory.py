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

from ringspan._exceptions import (
    AlreadyExists,
    InvalidName,
    Mismatch,
    RingspanError,
)
from ringspan._ringspan import Segment, _unlink_any, _unlink_file

_PREFIX = "psm_"


class _UnusableNameError(InvalidName, OSError):
    """A name that `shm_open` refuses; the standard class raises an OSError for it."""


class _NoBlockError(Mismatch, ValueError):
    """A file without bytes; the standard class raises a ValueError for it."""


class _NoFileError(Mismatch, OSError):
    """A link, a pipe, ...; the standard class raises an OSError for it."""


# ---- what goes with the process that made it -----------------------------------------------------

#: Blocks that this process made with `track` and nobody here unlinked: device and inode by name.
_made: dict[str, tuple[int, int]] = {}
#: Names of those that the end of the process has removed: what the program does then is too late.
_ended: set[str] = set()


def _remove_what_was_made() -> None:
    """Removes what this process made, unless another block has got the name since."""
    while _made:
        file, inode = _made.popitem()
        with contextlib.suppress(RingspanError):
            if _unlink_file(file, inode):
                _ended.add(file)


def _at_the_end() -> None:
    # After its children were waited for: they may still attach.
    util.Finalize(None, _remove_what_was_made, exitpriority=-1000)


def _forked() -> None:
    # The child made nothing of that; what it makes goes with it.
    _made.clear()
    _at_the_end()


_at_the_end()
os.register_at_fork(after_in_child=_forked)


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
            size = operator.index(size)
            if size > sys.maxsize:
                raise OverflowError(f"'size' of {size} is more than any block can have")
            self._make(name, size, track)
        else:
            assert name is not None
            self._name = "/" + name
            try:
                self._take(Segment.open(_file(self._name), raw=True))
            except (InvalidName, OSError) as err:
                raise _of_shm(err, self._name) from None

    def _make(
        self, name: str | None, size: int, track: bool = True, data: bytes | None = None
    ) -> None:
        while True:
            self._name = "/" + (_PREFIX + secrets.token_hex(4) if name is None else name)
            file = _file(self._name)
            try:
                segment = Segment.create(file, size, raw=True, reserve=False, data=data)
                break
            except (InvalidName, OSError) as err:
                if name is not None or not isinstance(err, AlreadyExists):
                    raise _of_shm(err, self._name) from None
        if track and parent_process() is None:
            _made[file] = segment.file_id
        _ended.discard(file)
        self._take(segment)

    def _take(self, segment: Segment) -> None:
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

        Raises FileNotFoundError if it is gone already, unless that was the end of this process.
        """
        file = _file(self._name)
        try:
            _unlink_any(file)
        except (InvalidName, OSError) as err:
            if not isinstance(err, FileNotFoundError) or file not in _ended:
                raise _of_shm(err, self._name) from None
            _ended.remove(file)
        _made.pop(file, None)

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


def filled(name: str | None, data: bytes) -> SharedMemory:
    """A new block with these bytes, which are there before its name is."""
    made = SharedMemory.__new__(SharedMemory)
    made._make(name, len(data), data=data)
    return made


def _file(name: str) -> str:
    # As glibc does.
    return name.lstrip("/")


def _of_shm(err: InvalidName | OSError, name: str) -> InvalidName | OSError:
    """An error of ringspan as one of `shm_open`, which tells all that those do."""
    if isinstance(err, InvalidName):
        if "\0" in name:
            return err
        number = errno.ENAMETOOLONG if len(os.fsencode(_file(name))) > 250 else errno.EINVAL
        err = _UnusableNameError(str(err), number)
    elif isinstance(err, Mismatch):
        err = (_NoBlockError if err.errno is None else _NoFileError)(str(err), err.errno)
    assert isinstance(err, OSError)
    err.strerror, err.filename = str(err), name
    return err
