"""SharedBytes, SharedInt, SharedBool and SharedString: one value each, shared by processes."""

from __future__ import annotations

import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, SupportsIndex, TypeAlias, TypeVar

from ringspan import _ringspan as native
from ringspan._deadlines import deadline_after, left_until
from ringspan._exceptions import Damaged, InvalidOption
from ringspan.compat.memory_interface._errors import (
    TooLargeError,
    check_size,
    nothing_loaded,
    too_large,
    wrong_type,
)
from ringspan.compat.memory_interface._memory import (
    Holder,
    Memory,
    made,
    memory_of,
    opened_value,
    slept,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: What goes to other processes: {"size": bytes, "memory": what carries the name}.
Memblk: TypeAlias = dict[str, Any]

_T = TypeVar("_T")
_N = TypeVar("_N", native.Value, native.SharedInt, native.SharedBool)

#: Up to this size room is made when an object is created, so that it cannot be wanting later.
_MADE_AT_ONCE = 1 << 20
#: In place of a value that was never set.
_NEVER: Any = object()


class _Shared(Holder[_N], ABC, Generic[_T, _N]):
    """One value in shared memory; the state that `create_sharedobject` returns goes to others.

    memblk: the state to load at once.

    `with` cleans up at the end. Pickles by its state, into an object that has loaded it. A copy
    that came by fork works as one that has loaded it.
    """

    #: Bytes of the block.
    size_in_bytes: int = 0
    #: What `create_sharedobject` returned.
    memblk: Memblk

    def __init__(self, memblk: Memblk | None = None) -> None:
        if memblk is not None:
            self.load_sharedobject(memblk)

    def _created(self, size: int, make: Callable[[str], _N]) -> Memblk:
        memory = made(self._kind(), size, make)
        self._have(memory, size, loaded=False)
        self.memblk = {"size": size, "memory": memory}
        return self.memblk

    def load_sharedobject(self, memblk: Memblk) -> None:
        """Loads the state that `create_sharedobject` returned, here or in another process.

        Raises ValueError for a state of another class, FileNotFoundError where the creator has
        cleaned up.
        """
        memory = memory_of(memblk, self._kind())
        memory.native  # noqa: B018 - it is opened now, or refused
        self._have(memory, memory.size, loaded=True)
        self.memblk = memblk

    @classmethod
    def _kind(cls) -> str:
        return next(of.__name__ for of in cls.__mro__ if of in _CLASSES)

    def _have(self, memory: Memory[_N], size: int, *, loaded: bool) -> None:
        self._hold(memory, loaded=loaded)
        self.size_in_bytes = size

    def _native(self) -> _N:
        if self._memory is None:
            raise nothing_loaded(type(self).__name__)
        return self._memory.native

    def _damaged(self, found: object) -> Damaged:
        name = self._memory.name if self._memory is not None else ""
        return Damaged(f"{type(self).__name__} {name}: {found!r:.60} is nothing that it holds")

    @abstractmethod
    def read(self) -> _T:
        """The value that was written last, by anybody."""

    def cleanup(self) -> None:
        """Gives the value up; called by its creator, nobody can load it any more.

        Nor any that this object created before. Who has loaded it goes on. Does nothing the second
        time.
        """
        self._let_go()

    # ---- waiting ---------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """How often it was written, by anybody.

        Take it before you read, then wait for `achanged(since=)`.
        """
        return self._native().version

    async def achanged(self, since: int | None = None) -> int:
        """Waits until it is written, by anybody, and returns the new version.

        A process that is killed while it has it ends the wait too: it may have written.

        since: the version that is known; None for the present one.

        Raises Removed when the creator has cleaned up and nobody else has it.
        """
        return await self._native().changed(since)

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `achanged`, parking the thread. Raises TimeoutError after `timeout` seconds."""
        return slept(self._native(), since, timeout)

    async def await_for(self, wanted: Callable[[_T], object]) -> _T:
        """Waits until `wanted` says true of the value, and returns that."""
        while True:
            shared = self._native()
            seen = shared.version
            value = self.read()
            if wanted(value):
                return value
            await shared.changed(seen)

    def blocking_wait_for(self, wanted: Callable[[_T], object], timeout: float | None = None) -> _T:
        """As `await_for`, parking the thread. Raises TimeoutError after `timeout` seconds."""
        until = deadline_after(timeout)
        while True:
            shared = self._native()
            seen = shared.version
            value = self.read()
            if wanted(value):
                return value
            slept(shared, seen, left_until(until))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.memblk if self._memory is not None else None,)


class SharedBytes(_Shared[bytearray, native.Value]):
    """A block of bytes. Nobody sees half of what another one writes.

    memblk: the state to load at once.
    """

    def create_sharedobject(self, size: int) -> Memblk:
        """Makes a block of `size` zero bytes; returns the state for other processes.

        Raises ValueError for a size below 1, or of more bytes than there can be (an OverflowError
        too), OSError for one that /dev/shm cannot hold.
        """
        size = operator.index(size)
        if size < 1:
            raise InvalidOption(f"SharedBytes: a size of {size} bytes; it has to be 1 or more")
        check_size("SharedBytes", size)
        there = os.statvfs("/dev/shm")
        # What can never be written is not made either: it is asked for as a whole, and refused.
        fits = size <= there.f_blocks * there.f_frsize
        room = min(size, _MADE_AT_ONCE) if fits else size
        return self._created(size, lambda name: opened_value(name, room))

    def read(self) -> bytearray:
        """The whole block, as a bytearray of the caller's own."""
        found = self._native().get(_NEVER)
        if found is _NEVER:
            return bytearray(self.size_in_bytes)
        self._check(found)
        return bytearray(found)

    def _check(self, found: Any) -> None:
        if not isinstance(found, bytes) or len(found) != self.size_in_bytes:
            raise self._damaged(found)

    def write(self, rsp_stream: Buffer, *, timeout: float | None = None) -> bool:
        """Writes from the start of the block on; what is behind stays. Returns True.

        Others who write take turns; `timeout` is how many seconds to wait for one.

        Raises ValueError for more than the block takes, and for None (a TypeError too),
        TimeoutError when the time is over; the old bytes stand.
        """
        shared, new = self._native(), self._bytes(rsp_stream)
        if len(new) == self.size_in_bytes:
            shared.blocking_set(new, timeout)
        elif new:
            shared.blocking_update(self._over(new), _NEVER, timeout=timeout)
        return True

    async def awrite(self, rsp_stream: Buffer) -> bool:
        """As `write`, awaiting the turn. Cancelled, it has written nothing."""
        shared, new = self._native(), self._bytes(rsp_stream)
        if len(new) == self.size_in_bytes:
            await shared.set(new)
        elif new:
            await shared.update(self._over(new), _NEVER)
        return True

    def _over(self, new: bytes) -> Callable[[Any], bytes]:
        def over(old: Any) -> bytes:
            if old is _NEVER:
                return new.ljust(self.size_in_bytes, b"\0")
            self._check(old)
            return b"".join((new, memoryview(old)[len(new) :]))

        return over

    def _bytes(self, data: Buffer) -> bytes:
        try:
            view = memoryview(data)
        except TypeError:
            raise wrong_type("SharedBytes", "a bytes-like object", data) from None
        if view.nbytes > self.size_in_bytes:
            raise too_large("SharedBytes", view.nbytes, self.size_in_bytes)
        return data if isinstance(data, bytes) else view.tobytes()


class SharedString(_Shared[str, native.Value]):
    """A text. Nobody sees half of what another one writes.

    memblk: the state to load at once.
    """

    #: Bytes that used to hold the length; a text must have room for more.
    intsize: ClassVar[int] = 4
    maxval: ClassVar[int] = 2**32 - 1

    def create_sharedobject(self, maxlength: int) -> Memblk:
        """Makes an empty text of at most `maxlength` bytes of UTF-8; returns the state.

        Raises ValueError for a length that is not above 4, or above 2**32 - 1; OSError where
        /dev/shm has no room.
        """
        maxlength = operator.index(maxlength)
        if not self.intsize < maxlength <= self.maxval:
            raise InvalidOption(
                f"SharedString: a maxlength of {maxlength}; it has to be larger than "
                f"{self.intsize} and at most {self.maxval}"
            )
        room = min(maxlength + 8, _MADE_AT_ONCE)
        return self._created(maxlength + self.intsize, lambda name: opened_value(name, room))

    def read(self) -> str:
        """The text that was written last."""
        found = self._native().get("")
        # A character is at most as many bytes.
        if not isinstance(found, str) or len(found) > self._limit:
            raise self._damaged(found)
        return found

    def write(self, val: str, *, timeout: float | None = None) -> None:
        """Replaces the text.

        Others who write take turns; `timeout` is how many seconds to wait for one.

        Raises ValueError for one that takes more bytes of UTF-8 than there is room for, and for
        None (a TypeError too), TimeoutError when the time is over; the old text stands.
        """
        shared, new = self._native(), self._text(val)
        shared.blocking_set(new, timeout)

    async def awrite(self, val: str) -> None:
        """As `write`, awaiting the turn. Cancelled, it has written nothing."""
        shared, new = self._native(), self._text(val)
        await shared.set(new)

    @property
    def _limit(self) -> int:
        return self.size_in_bytes - self.intsize

    def _text(self, val: str) -> str:
        if not isinstance(val, str):
            raise wrong_type("SharedString", "a str", val)
        size = len(val.encode())
        if size > self._limit:
            raise too_large("SharedString", size, self._limit)
        return val


class SharedInt(_Shared[int, native.SharedInt]):
    """An integer of 64 bits.

    memblk: the state to load at once.
    """

    intsize: ClassVar[int] = 8

    def create_sharedobject(self) -> Memblk:
        """Makes a 0; returns the state for other processes."""
        return self._created(
            self.intsize, lambda name: native.SharedInt(name, 0, create=True, ephemeral=True)
        )

    def read(self) -> int:
        """The number that was written last."""
        return self._native().load()

    def write(self, num: SupportsIndex) -> None:
        """Sets the number.

        Raises ValueError for one beyond 64 bits (an OverflowError too) and for None (a TypeError
        too); the old number stands.
        """
        self._native().store(_number("SharedInt", num, -(2**63), 2**63 - 1))

    async def awrite(self, num: SupportsIndex) -> None:
        """As `write`, which does not wait."""
        self.write(num)


class SharedBool(_Shared[bool, native.SharedBool]):
    """A flag.

    memblk: the state to load at once.
    """

    def create_sharedobject(self) -> Memblk:
        """Makes a False; returns the state for other processes."""
        return self._created(
            1, lambda name: native.SharedBool(name, False, create=True, ephemeral=True)
        )

    def read(self) -> bool:
        """The flag as it was written last."""
        return self._native().load()

    def write(self, isnum: SupportsIndex) -> None:
        """Sets the flag: to a bool, or to whether a number of 0 to 255 is not 0.

        Raises ValueError for other numbers (an OverflowError too) and for None (a TypeError too).
        """
        self._native().store(_number("SharedBool", isnum, 0, 255) != 0)

    async def awrite(self, isnum: SupportsIndex) -> None:
        """As `write`, which does not wait."""
        self.write(isnum)


def _number(what: str, given: SupportsIndex, least: int, most: int) -> int:
    try:
        number = operator.index(given)
    except TypeError:
        raise wrong_type(what, "an int", given) from None
    if not least <= number <= most:
        raise TooLargeError(f"{what}: {number} is not between {least} and {most}")
    return int(number)


_CLASSES = (SharedBytes, SharedString, SharedInt, SharedBool)
