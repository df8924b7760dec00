"""A segment used as a ring of messages."""

from __future__ import annotations

import weakref
from typing import Any, Self

import ringspan
from ringspan._closing import Closing
from ringspan._ringspan import _PackedRing
from ringspan.compat.membridge._memory import SharedMemory
from ringspan.compat.membridge._segment import RING, RING_HEAD, Value, decided, open_again

#: The rings that this process has, by name and number of the segment.
_rings: weakref.WeakValueDictionary[tuple[str, int], SpscRingBuffer] = weakref.WeakValueDictionary()


class SpscRingBuffer(_PackedRing, Closing):
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

    __slots__ = ("__weakref__", "_name", "_number")

    _name: str
    _number: int

    def __new__(cls) -> Self:
        """Refuses: rings come from `SharedMemory.spsc`.

        Raises `TypeError`.
        """
        raise TypeError("no constructor: SharedMemory.spsc() gives a ring")

    @classmethod
    def _of(cls, memory: SharedMemory) -> SpscRingBuffer:
        key = name, number = memory.name(), memory._number
        self = _rings.get(key)
        if self is None or self._closed:
            with decided(memory._block, name, number, RING) as beside:
                self = _PackedRing.__new__(cls, beside, memory.size() - RING_HEAD)
            self._name, self._number = key
            _rings[key] = self
        memory._ring = self
        return self

    def _attach(self) -> str:
        name, number = self._name, self._number
        with open_again(name, number) as block, decided(block, name, number, RING) as beside:
            return beside

    async def apush(self, data: Value | list[Any]) -> bool:
        """As `push`, waiting for room. Cancelled, it has published nothing."""
        return await self._apush(data)

    async def apop(self, tag: str | None = None) -> Any:
        """As `pop`, waiting for a message. Cancelled, it has taken nothing."""
        return await self._apop(tag)

    async def apop_mixed(self, schema: list[tuple[str, int]]) -> list[Any]:
        """As `pop_mixed`, waiting for a message. Cancelled, it has taken nothing."""
        return await self._apop_mixed(schema)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._name, self._number)

    def __repr__(self) -> str:
        used, capacity = self.used(), self.capacity()
        return f"SpscRingBuffer(capacity={capacity}, used={used}, free={max(capacity - used, 0)})"


def _again(name: str, number: int) -> SpscRingBuffer:
    memory = SharedMemory.open(name)
    if memory._number != number:
        raise ringspan.Removed(f"shared memory {name}: it was removed and made anew; open it")
    return memory.spsc()
