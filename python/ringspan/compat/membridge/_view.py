"""A mapped segment: typed items under the reader-writer lock of its block."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Self

import ringspan
from ringspan._closing import Closing
from ringspan._ringspan import Guard, _Block, _PackedView
from ringspan.compat.membridge._segment import VIEW_HEAD, Value

if TYPE_CHECKING:
    from ringspan.compat.membridge._memory import SharedMemory


class MappedView(_PackedView, Closing):
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

    __slots__ = ("__weakref__", "_memory")

    _memory: SharedMemory

    def __new__(cls) -> Self:
        """Refuses: views come from `SharedMemory.map`.

        Raises `TypeError`.
        """
        raise TypeError("no constructor: SharedMemory.map() gives a view")

    @classmethod
    def _of(cls, memory: SharedMemory) -> Self:
        self = _PackedView.__new__(cls, memory._mapped())
        self._memory = memory
        size = memory.size() - VIEW_HEAD
        if self.size() != size:
            raise ringspan.Damaged(
                f"shared memory {memory.name()}: {self.size()} bytes are mapped, not {size}"
            )
        return self

    def _attach(self) -> _Block:
        return self._memory._mapped()

    def reader_count(self) -> int:
        """How many read now; 0 if somebody writes. Threads of one process count as one."""
        return sum(holder.mode == "read" for holder in self._block.holders())

    def is_write_locked(self) -> bool:
        """Whether somebody writes now."""
        return any(holder.mode == "write" for holder in self._block.holders())

    # ---- awaited ---------------------------------------------------------------------------------

    async def awrite(self, data: Value, offset: int | None = None) -> None:
        """As `write`, awaiting the lock. Cancelled, it has written nothing."""
        with _held(await self._block.write()) as guard:
            self.write(data, offset, _guard=guard)

    async def awrite_mixed(self, items: list[Any], offset: int | None = None) -> None:
        """As `write_mixed`, awaiting the lock. Cancelled, it has written nothing."""
        with _held(await self._block.write()) as guard:
            self.write_mixed(items, offset, _guard=guard)

    async def aread(self, tag: str) -> Any:
        """As `read`, awaiting the lock. Cancelled, it has not moved the cursor."""
        with _held(await self._block.read()) as guard:
            return self.read(tag, _guard=guard)

    async def aread_mixed(
        self, schema: list[tuple[str, int]], offset: int | None = None
    ) -> list[Any]:
        """As `read_mixed`, awaiting the lock. Cancelled, it has not moved the cursor."""
        with _held(await self._block.read()) as guard:
            return self.read_mixed(schema, offset, _guard=guard)

    async def aread_range(self, offset: int, length: int) -> bytes:
        """As `read_range`, awaiting the lock."""
        with _held(await self._block.read()) as guard:
            return self.read_range(offset, length, _guard=guard)

    async def aread_all(self) -> bytes:
        """As `read_all`, awaiting the lock."""
        with _held(await self._block.read()) as guard:
            return self.read_all(_guard=guard)

    async def azero(self) -> None:
        """As `zero`, awaiting the lock."""
        with _held(await self._block.write(allow_poisoned=True)) as guard:
            self.zero(_guard=guard)

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
        block = self._give_up()
        if block is not None and block is not self._memory._block:
            block.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._memory, self.tell())

    def __repr__(self) -> str:
        return (
            f"MappedView(data_size={self.size()}, readers={self.reader_count()}, "
            f"write_locked={str(self.is_write_locked()).lower()})"
        )


@contextlib.contextmanager
def _held(guard: Guard) -> Iterator[Guard]:
    """The guard, released at the end. It is nobody's, as that of a call that does not wait."""
    try:
        yield guard
    finally:
        guard.release()


def _again(memory: SharedMemory, cursor: int) -> MappedView:
    view = memory.map()
    view.seek(cursor)
    return view
