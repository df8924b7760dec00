"""A mapped segment: typed items under the reader-writer lock of its block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import ringspan
from ringspan._ringspan import Guard, _Block
from ringspan.compat.membridge import _packed
from ringspan.compat.membridge._segment import VIEW_HEAD, inherited

if TYPE_CHECKING:
    from ringspan.compat.membridge._memory import SharedMemory


class MappedView:
    """A view of a segment, from `SharedMemory.map`, with a cursor of its own.

    Every call reads or writes under the lock of the segment: many may read at once, one writes
    alone. Waiting parks the thread, for `timeout` seconds at most, else `ringspan.Timeout`. A
    killed reader vanishes from the lock. A writer that is killed inside a write leaves
    `ringspan.Poisoned` to all who come later, until `zero` or `clear_poison`.

    | Python               | stored as                    | bytes          |
    |----------------------|------------------------------|----------------|
    | `bool`               | `u8`, 0 or 1                 | 1              |
    | `int`                | `i64`                        | 8              |
    | `float`              | `f64`                        | 8              |
    | `str`                | `u32` length, then UTF-8     | 4 and the text |
    | `bytes`, `bytearray` | as they are, without length  | all of them    |

    Tags to read by: "bool", "int" or "i64", "float" or "f64", "f32", "i32", "u8", "u32", "u64",
    "str". Items lie without gaps, in native byte order. Without `offset` a call works at the
    cursor and moves it; with it the cursor stays. What fails changes nothing.
    """

    __slots__ = ("__weakref__", "_block", "_buf", "_cursor", "_memory", "_moves", "_size")

    _memory: SharedMemory
    _block: _Block
    _buf: memoryview
    _size: int
    _cursor: int
    _moves: threading.Lock

    def __new__(cls) -> Self:
        """Refuses: views come from `SharedMemory.map`.

        Raises `TypeError`.
        """
        raise TypeError("no constructor: SharedMemory.map() gives a view")

    @classmethod
    def _of(cls, memory: SharedMemory) -> Self:
        self = object.__new__(cls)
        self._memory, self._size = memory, memory.size() - VIEW_HEAD
        self._cursor, self._moves = 0, threading.Lock()
        self._attach()
        inherited.add(self)
        return self

    def _attach(self) -> None:
        block = self._memory._mapped()
        buf = memoryview(block)
        if len(buf) != self._size:
            raise ringspan.Damaged(f"shared memory {self._memory.name()}: {len(buf)} bytes mapped")
        self._block, self._buf = block, buf

    def write(
        self,
        data: _packed.Value,
        offset: int | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Writes one value.

        Raises `ValueError` if it would end beyond the view, or has no bytes; `OverflowError` for an
        int beyond 64 bits.
        """
        self._put(_packed.pack(data), offset, self._block.blocking_write(timeout))

    def write_mixed(
        self, items: list[Any], offset: int | None = None, *, timeout: float | None = None
    ) -> None:
        """Writes values one behind the other; a list among them counts as its elements.

        Raises as `write`.
        """
        self._put(_packed.pack_items(items), offset, self._block.blocking_write(timeout))

    def read(self, tag: str, *, timeout: float | None = None) -> Any:
        """Reads one item at the cursor, by the tag of what was written there.

        Raises `ValueError` for an unknown tag, and if the view ends before the item.
        """
        return self._take(tag, self._block.blocking_read(timeout))

    def read_mixed(
        self,
        schema: list[tuple[str, int]],
        offset: int | None = None,
        *,
        timeout: float | None = None,
    ) -> list[Any]:
        """Reads items one behind the other: for each `(tag, count)` a list, or one item if 1.

        Raises `ValueError` as `read`, and for entries that are no tuples.
        """
        return self._take_items(schema, offset, self._block.blocking_read(timeout))

    def read_range(self, offset: int, length: int, *, timeout: float | None = None) -> bytes:
        """Copies `length` bytes from `offset` on.

        Raises `ValueError` if `length` is 0 or they do not all lie in the view.
        """
        self._check(offset, length)
        return self._copy(offset, length, self._block.blocking_read(timeout))

    def read_all(self, *, timeout: float | None = None) -> bytes:
        """Copies all bytes."""
        return self._copy(0, self._size, self._block.blocking_read(timeout))

    def zero(self, *, timeout: float | None = None) -> None:
        """Fills the view with zeros; the cursor stays. Poison is gone then."""
        self._clear(self._block.blocking_write(timeout, allow_poisoned=True))

    def seek(self, pos: int = 0) -> None:
        """Moves the cursor to `pos`, which may be the end.

        Raises `ValueError` beyond it; the cursor stays.
        """
        if pos < 0:
            raise OverflowError(f"seek position {pos} is negative")
        if pos > self._size:
            raise ringspan.InvalidOption(f"seek position {pos} exceeds data_size {self._size}")
        with self._moves:
            self._cursor = pos

    def tell(self) -> int:
        """Where the cursor is."""
        return self._cursor

    def size(self) -> int:
        """Bytes in the view, 4 less than in the segment."""
        return self._size

    def reader_count(self) -> int:
        """How many read now; 0 if somebody writes. Threads of one process count as one."""
        return sum(holder.mode == "read" for holder in self._block.holders())

    def is_write_locked(self) -> bool:
        """Whether somebody writes now."""
        return any(holder.mode == "write" for holder in self._block.holders())

    # ---- awaited ---------------------------------------------------------------------------------

    async def awrite(self, data: _packed.Value, offset: int | None = None) -> None:
        """As `write`, awaiting the lock. Cancelled, it has written nothing."""
        self._put(_packed.pack(data), offset, await self._block.write())

    async def awrite_mixed(self, items: list[Any], offset: int | None = None) -> None:
        """As `write_mixed`, awaiting the lock. Cancelled, it has written nothing."""
        self._put(_packed.pack_items(items), offset, await self._block.write())

    async def aread(self, tag: str) -> Any:
        """As `read`, awaiting the lock. Cancelled, it has not moved the cursor."""
        return self._take(tag, await self._block.read())

    async def aread_mixed(
        self, schema: list[tuple[str, int]], offset: int | None = None
    ) -> list[Any]:
        """As `read_mixed`, awaiting the lock. Cancelled, it has not moved the cursor."""
        return self._take_items(schema, offset, await self._block.read())

    async def aread_range(self, offset: int, length: int) -> bytes:
        """As `read_range`, awaiting the lock."""
        self._check(offset, length)
        return self._copy(offset, length, await self._block.read())

    async def aread_all(self) -> bytes:
        """As `read_all`, awaiting the lock."""
        return self._copy(0, self._size, await self._block.read())

    async def azero(self) -> None:
        """As `zero`, awaiting the lock."""
        self._clear(await self._block.write(allow_poisoned=True))

    def version(self) -> int:
        """How often the view was written, by anybody."""
        return self._block.version

    def achanged(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is at the start)."""
        return self._block.changed(since)

    def changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `achanged`, parking the thread; `ringspan.Timeout` when the time is over."""
        return self._block.blocking_changed(since, timeout)

    # ---- several steps under one lock ------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, timeout: float | None = None) -> Iterator[memoryview]:
        """The bytes, read-only, while nobody writes: `with view.reading() as buf:`."""
        with self._block.blocking_read(timeout) as buf:
            yield buf

    @contextlib.contextmanager
    def writing(self, timeout: float | None = None) -> Iterator[memoryview]:
        """The bytes, while nobody else reads or writes: `with view.writing() as buf:`."""
        with self._block.blocking_write(timeout) as buf:
            try:
                yield buf
            finally:
                self._block.notify()

    @contextlib.asynccontextmanager
    async def areading(self) -> AsyncIterator[memoryview]:
        """As `reading`: `async with view.areading() as buf:`."""
        async with self._block.read() as buf:
            yield buf

    @contextlib.asynccontextmanager
    async def awriting(self) -> AsyncIterator[memoryview]:
        """As `writing`: `async with view.awriting() as buf:`."""
        async with self._block.write() as buf:
            try:
                yield buf
            finally:
                self._block.notify()

    def is_poisoned(self) -> bool:
        """Whether a writer was killed inside a write, and nobody said since that all is well."""
        return self._block.is_poisoned

    def clear_poison(self) -> None:
        """Says that the bytes are in order, whatever a killed writer left."""
        self._block.clear_poison()

    def close(self) -> None:
        """Gives the view up; the segment stays open. What is asked of it later is `ValueError`."""
        self._buf.release()
        if self._block is not self._memory._block:
            self._block.close()

    # ---- under the lock --------------------------------------------------------------------------

    def _check(self, offset: int, length: int) -> None:
        if length <= 0:
            if length < 0:
                raise OverflowError(f"a length of {length}")
            raise ringspan.InvalidOption("length cannot be zero")
        if offset < 0:
            raise OverflowError(f"an offset of {offset}")
        if offset + length > self._size:
            raise ringspan.InvalidOption(
                f"out of bounds: offset={offset} + length={length} > data_size={self._size}"
            )

    def _put(self, packed: bytes | bytearray, offset: int | None, guard: Guard) -> None:
        try:
            length = len(packed)
            start = self._cursor if offset is None else offset
            self._check(start, length)
            self._buf[start : start + length] = packed
            if offset is None:
                self._cursor = start + length
            self._block.notify()
        finally:
            guard.release()

    def _take(self, tag: str, guard: Guard) -> Any:
        try:
            with self._moves:
                value, self._cursor = _packed.unpack(self._buf, tag, self._cursor)
        finally:
            guard.release()
        return value

    def _take_items(
        self, schema: list[tuple[str, int]], offset: int | None, guard: Guard
    ) -> list[Any]:
        try:
            if offset is not None:
                self._check(offset, 1)
                return _packed.unpack_items(self._buf, schema, offset)[0]
            with self._moves:
                self._check(self._cursor, 1)
                found, self._cursor = _packed.unpack_items(self._buf, schema, self._cursor)
        finally:
            guard.release()
        return found

    def _copy(self, offset: int, length: int, guard: Guard) -> bytes:
        try:
            return self._buf[offset : offset + length].tobytes()
        finally:
            guard.release()

    def _clear(self, guard: Guard) -> None:
        try:
            self._buf[:] = bytes(self._size)
            if self._block.is_poisoned:
                self._block.clear_poison()
            self._block.notify()
        finally:
            guard.release()

    # ---- the handle ------------------------------------------------------------------------------

    def _forked(self) -> None:
        for name in ("_block", "_buf"):
            with contextlib.suppress(AttributeError):
                delattr(self, name)
        self._moves = threading.Lock()  # a thread of the parent may have held it

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in ("_block", "_buf"):
                raise AttributeError(f"'MappedView' object has no attribute {name!r}")
            self._attach()
            return object.__getattribute__(self, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._memory, self._cursor)

    def __repr__(self) -> str:
        return (
            f"MappedView(data_size={self._size}, readers={self.reader_count()}, "
            f"write_locked={str(self.is_write_locked()).lower()})"
        )


def _again(memory: SharedMemory, cursor: int) -> MappedView:
    view = memory.map()
    view.seek(cursor)
    return view
