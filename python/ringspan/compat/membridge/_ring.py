"""A segment used as a ring of messages: what is packed into one, and the public class."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from ringspan.compat.membridge import _packed
from ringspan.compat.membridge._ends import Ends
from ringspan.compat.membridge._memory import SharedMemory
from ringspan.compat.membridge._segment import RING_HEAD

_T = TypeVar("_T")

#: The ends that this process has, by the name of the ring.
_ends: weakref.WeakValueDictionary[tuple[str, int], Ends] = weakref.WeakValueDictionary()


class SpscRingBuffer:
    """A ring of messages from one producer to one consumer, from `SharedMemory.spsc`.

    The first `push` makes this process the producer, the first `pop` the consumer, until the handle
    and its rings are gone, or `close`; a second live process in the same role gets
    `ringspan.RoleTaken`. A killed one leaves whole messages, and its role free.

    A message is one value, or a list of values packed without gaps: `bool` (1 byte), `int` (`i64`),
    `float` (`f64`), `str` (`u32` length and UTF-8), `bytes` and `bytearray` as they are. It counts
    as 4 bytes and its own.

    With `timeout` (seconds, `math.inf` for ever), `push` and `pop` park the thread while there is
    no room or no message; `apush` and `apop` await that. Should the other end go meanwhile, those
    who wait are told: `ringspan.PeerDied`, `ringspan.Closed` or `ringspan.PeerClosed`.
    """

    __slots__ = ("__weakref__", "_ends", "_memory")

    _ends: Ends
    _memory: SharedMemory

    def __new__(cls) -> Self:
        """Refuses: rings come from `SharedMemory.spsc`.

        Raises `TypeError`.
        """
        raise TypeError("no constructor: SharedMemory.spsc() gives a ring")

    @classmethod
    def _of(cls, memory: SharedMemory) -> Self:
        self = object.__new__(cls)
        self._memory, key = memory, (memory.name(), memory._number)
        ends = _ends.get(key)
        if ends is not None and ends.closed:
            del _ends[key]
            ends = None
        if ends is None:
            ends = _ends.setdefault(key, Ends(*key, memory.size() - RING_HEAD))
        self._ends = memory._ends = ends
        return self

    def push(
        self,
        data: _packed.Value | list[Any],
        *,
        timeout: float | None = None,
    ) -> bool:
        """Publishes one message. False: there is no room for it (within `timeout`).

        Raises `ringspan.TooLarge` (a `ValueError`) if it can never have room, `ValueError` for a
        type that cannot be packed.
        """
        payload = self._ends.check(_packed.pack_message(data))
        if timeout is None:
            return self._ends.push(payload)
        return self._ends.push_within(payload, timeout)

    def pop(self, tag: str | None = None, *, timeout: float | None = None) -> Any:
        """Takes the oldest message: its bytes, or the value that `tag` says. None: there is none.

        Raises `ValueError` for an unknown tag, or one that needs more bytes; the message stays.
        """
        if tag is not None:
            _packed.check_tag(tag)
        elif timeout is None:
            return self._ends.pop()
        return self._take(_by_tag(tag), timeout)

    def pop_mixed(
        self, schema: list[tuple[str, int]], *, timeout: float | None = None
    ) -> list[Any] | None:
        """Takes the oldest message, by a schema as of `MappedView.read_mixed`; None: there is none.

        Raises `ValueError` if the message is no such thing; it stays.
        """
        _packed.check_schema(schema)
        return self._take(_by_schema(schema), timeout)

    def _take(self, decode: Callable[[bytes], _T], timeout: float | None) -> _T | None:
        ends = self._ends
        lent = ends.lend() if timeout is None else ends.lend_within(timeout)
        return None if lent is None else ends.take(lent, decode)

    async def apush(self, data: _packed.Value | list[Any]) -> bool:
        """As `push`, waiting for room. Cancelled, it has published nothing."""
        await self._ends.apush(self._ends.check(_packed.pack_message(data)))
        return True

    async def apop(self, tag: str | None = None) -> Any:
        """As `pop`, waiting for a message. Cancelled, it has taken nothing."""
        if tag is not None:
            _packed.check_tag(tag)
        return self._ends.take(await self._ends.alend(), _by_tag(tag))

    async def apop_mixed(self, schema: list[tuple[str, int]]) -> list[Any]:
        """As `pop_mixed`, waiting for a message. Cancelled, it has taken nothing."""
        _packed.check_schema(schema)
        return self._ends.take(await self._ends.alend(), _by_schema(schema))

    def used(self) -> int:
        """Bytes that the messages in the ring count as."""
        return self._ends.used()

    def free(self) -> int:
        """Bytes that are left."""
        return max(self._ends.capacity - self._ends.used(), 0)

    def capacity(self) -> int:
        """Bytes of room: the size of the segment less 24."""
        return self._ends.capacity

    def is_empty(self) -> bool:
        """Whether there is no message."""
        return self._ends.used() == 0

    def is_full(self) -> bool:
        """Whether no byte is left."""
        return self._ends.used() >= self._ends.capacity

    def close(self) -> None:
        """Gives up the roles that this process has in the ring; the other end is told."""
        self._ends.close()

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
        return SharedMemory.spsc, (self._memory,)

    def __repr__(self) -> str:
        used = self.used()
        capacity = self._ends.capacity
        return f"SpscRingBuffer(capacity={capacity}, used={used}, free={max(capacity - used, 0)})"


def _by_tag(tag: str | None) -> Callable[[bytes], Any]:
    return bytes if tag is None else lambda data: _packed.unpack(data, tag)[0]


def _by_schema(schema: list[tuple[str, int]]) -> Callable[[bytes], list[Any]]:
    return lambda data: _packed.unpack_items(data, schema)[0]
