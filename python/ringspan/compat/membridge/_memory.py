"""The handle of a named segment."""

from __future__ import annotations

import contextlib
import operator
import secrets
from typing import TYPE_CHECKING, Any, Self

import ringspan
from ringspan._closing import Closing
from ringspan._ringspan import MappedView, _Block, _mapped_view
from ringspan.compat._posix_names import native_name
from ringspan.compat.membridge import _segment
from ringspan.compat.membridge._segment import RING_HEAD, VIEW_HEAD, ring_capacity

if TYPE_CHECKING:
    from ringspan._ringspan import SpscRingBuffer


class SharedMemory(Closing):
    """A named segment of shared memory, from `create` or `open`.

    It stays until `remove`, also when every process that used it has ended. `with` closes the
    handle. Pickles by name; a handle that came by fork opens the segment anew.
    """

    __slots__ = ("__weakref__", "_block", "_creator", "_name", "_number", "_ring", "_size")

    _block: _Block
    _name: str
    _size: int
    _number: int
    _creator: bool
    _ring: SpscRingBuffer | None  # keeps the roles of this process as long as the handle

    def __new__(cls) -> Self:
        """Refuses: segments are made by `create` and opened by `open`.

        Raises `TypeError`.
        """
        raise TypeError(
            "no constructor: SharedMemory.create(name, size) or SharedMemory.open(name)"
        )

    @classmethod
    def _of(cls, block: _Block, name: str, size: int, number: int, creator: bool) -> Self:
        block.stat()  # attaches it: others see that the name is in use, and it outlives the name
        self = object.__new__(cls)
        self._block, self._name, self._size = block, name, size
        self._number, self._creator, self._ring = number, creator, None
        _segment.inherited.add(self)
        return self

    @staticmethod
    def create(name: str, size: int) -> SharedMemory:
        """Makes a new segment of `size` bytes.

        One of that name and size which no living process has open is taken over with what is in it.

        Raises `ValueError` if `size` is 0 or the name is none, `ringspan.AlreadyExists` (a
        `FileExistsError`) if the name is taken; nothing has happened to it then.
        """
        name, size = _segment.checked_name(name), _segment.checked_size(size)
        number = secrets.randbits(64)
        meta = _segment.META.pack(_segment.MAGIC, size, number)
        holds = _segment.CONTROL_SIZE if ring_capacity(size) else max(size - VIEW_HEAD, 0)
        for last in (False, True):
            try:
                block = _Block.create(native_name(name), holds, meta=meta)
            except ringspan.AlreadyExists:
                found = _take_over(name, size)
                if isinstance(found, SharedMemory):
                    return found
                if last or found is not None:
                    raise ringspan.AlreadyExists(
                        f"shared memory {name} exists{found or ''}: open() it, or remove() it first"
                    ) from None
            else:
                return SharedMemory._of(block, name, size, number, True)
        raise AssertionError("unreachable")

    @staticmethod
    def open(name: str, size: int | None = None) -> SharedMemory:
        """Opens a segment that exists. `size` is looked up and may be left out.

        Raises `ValueError` for a name that is none, `ringspan.NotFound` (a `FileNotFoundError`) if
        there is none.
        """
        name = _segment.checked_name(name)
        if size is not None:
            operator.index(size)
        block, has, number = _segment.open_block(name)
        if _segment.finish_removal(block, has):
            block.close()
            raise ringspan.NotFound(f"shared memory {name}: no such segment")
        return SharedMemory._of(block, name, has, number, False)

    @staticmethod
    def remove(name: str) -> None:
        """Removes the segment with everything in it; who uses it goes on.

        Raises `ValueError` for a name that is none, `ringspan.NotFound` (a `FileNotFoundError`) if
        there is none.
        """
        name = _segment.checked_name(name)
        try:
            block, size, number = _segment.open_block(name)
        except (ringspan.Mismatch, ringspan.Damaged):
            ringspan.remove(native_name(name))  # not ours, or past use
            return
        with block:
            if ring_capacity(size) is not None:
                _segment.remove_beside(block, name, number)
            block.remove()

    def map(self) -> MappedView:
        """Maps the segment.

        Raises `ValueError` for a size of 4 or less, `ringspan.Mismatch` if it is a ring by now.
        """
        if self._size <= VIEW_HEAD:
            raise ringspan.InvalidOption(
                f"shared memory {self._name}: its {self._size} bytes are too few to be mapped; "
                f"more than {VIEW_HEAD} are needed"
            )
        return _mapped_view(self, self._size - VIEW_HEAD)

    def spsc(self) -> SpscRingBuffer:
        """Uses the segment as a ring of messages.

        Raises `ValueError` if `size - 24` is no power of two, `ringspan.Mismatch` if it is mapped
        by now.
        """
        from ringspan.compat.membridge._ring import ring_of

        capacity = ring_capacity(self._size)
        if capacity is None:
            capacity = self._size - RING_HEAD
            below = 1 << max(capacity.bit_length() - 1, 0)
            raise ringspan.InvalidOption(
                f"shared memory {self._name}: the data capacity ({capacity}) must be a power of "
                f"two; a size of {below + RING_HEAD} or {2 * below + RING_HEAD} gives one"
            )
        return ring_of(self)

    def name(self) -> str:
        """The name, with its slash."""
        return self._name

    def size(self) -> int:
        """Bytes in the segment, as asked for."""
        return self._size

    def close(self) -> None:
        """Gives the handle up. Views and rings that came from it may have no lock any more."""
        self._block.close()

    def _mapped(self) -> _Block:
        """The block whose bytes a view shows."""
        if ring_capacity(self._size) is None:
            self._block.stat()  # says so if it was closed
            return self._block
        decided = _segment.decided(self._block, self._name, self._number, _segment.MAPPED)
        with decided as beside:
            try:
                block = _Block.open(beside)
            except ringspan.NotFound:
                block = _Block.create(beside, self._size - VIEW_HEAD)
            block.stat()
            return block

    def _forked(self) -> None:
        with contextlib.suppress(AttributeError):
            del self._block  # the parent's; `__getattr__` opens one of our own

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name != "_block":
                raise AttributeError(f"'SharedMemory' object has no attribute {name!r}")
            self._block = _segment.open_again(self._name, self._number)
            return self._block

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedMemory.open, (self._name,)

    def __repr__(self) -> str:
        role = "creator" if self._creator else "opener"
        return f"SharedMemory(name='{self._name}', size={self._size}, role={role})"


def _take_over(name: str, size: int) -> SharedMemory | str | None:
    """The segment that has the name, if nobody alive does; else why not. None: it is gone."""
    users = _segment.users(name)
    if users:
        return f" and is open in process {', '.join(map(str, users))}"
    try:
        block, has, number = _segment.open_block(name)
    except ringspan.NotFound:
        return None
    except (ringspan.Mismatch, ringspan.Damaged):
        return " and is something else"
    if _segment.finish_removal(block, has):
        block.close()
        return None
    if has != size:
        block.close()
        return f" with {has} bytes"
    return SharedMemory._of(block, name, size, number, True)
