"""The ends of a ring: roles, room, waiting.

The messages go through the native ring, which has room for more than the segment says: what counts
as used is counted as the original does, 4 bytes and the payload for each message. The producer
counts what it pushed, the consumer what it popped, each in its own word of the control block. A
process that is killed between its act and its count leaves the count of one message missing; it is
made good when the other end, or the next one, finds the ring empty.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import ringspan
from ringspan._ringspan import Consumer, Lent, Producer, _Block
from ringspan.compat.membridge._segment import (
    POPPED,
    PUSHED,
    RING,
    decided,
    inherited,
    open_again,
)

#: Bytes that the original keeps before each message.
_HEAD = 4
#: A message of one byte takes 16 in the native ring and 5 in the original's; a large one must fit
#: at any offset, with a filler before it.
_ROOM = 4
#: A count that no ring lives to see.
_NEVER = 1 << 62

_T = TypeVar("_T")
_GONE = (ringspan.Closed, ringspan.PeerDied)


class Ends:
    """Both ends of one ring in this process. Each takes its role at its first use."""

    __slots__ = (
        "__weakref__",
        "_block",
        "_kept",
        "_number",
        "_popped",
        "_pushed",
        "_ring",
        "_rx",
        "_tx",
        "_words",
        "capacity",
        "closed",
        "name",
    )

    _block: _Block
    _ring: ringspan.Ring
    _words: memoryview

    def __init__(self, name: str, number: int, capacity: int) -> None:
        self.name, self.capacity, self._number = name, capacity, number
        self._tx: Producer | None = None
        self._rx: Consumer | None = None
        self._kept: Lent | None = None
        self._pushed = self._popped = 0
        self.closed = False
        self._attach()
        inherited.add(self)

    def _attach(self) -> None:
        block = open_again(self.name, self._number)
        with decided(block, self.name, self._number, RING) as beside:
            ringspan.Ring(beside, capacity=self.capacity * _ROOM, max_message=self.capacity)
            self._ring = ringspan.Ring(beside, create=False)  # makes none where it was removed
        self._block, self._words = block, memoryview(block).cast("Q")

    def used(self) -> int:
        """What counts as used."""
        pushed, popped = self._words[PUSHED], self._words[POPPED]
        if pushed <= popped or self._ring.stat().len == 0:
            return 0
        used = pushed - popped
        if used > 2 * self.capacity:
            self._damaged(pushed, popped)
        return used

    def _damaged(self, pushed: int, popped: int) -> None:
        raise ringspan.Damaged(
            f"ring {self.name}: {pushed} bytes pushed and {popped} popped are impossible with "
            f"{self.capacity}"
        )

    def _check_open(self) -> None:
        if self.closed:
            raise ringspan.HandleClosed(f"ring {self.name}: closed here; SharedMemory.spsc() anew")

    # ---- pushing ---------------------------------------------------------------------------------

    def _producer(self) -> Producer:
        """The producing end, which goes on counting where the one before it stopped."""
        if self._tx is None:
            self._check_open()
            self._tx = self._ring.producer()
            pushed, popped = self._words[PUSHED], self._words[POPPED]
            if max(pushed, popped) >= _NEVER:
                self._damaged(pushed, popped)
            self._pushed = self._words[PUSHED] = max(pushed, popped)
        return self._tx

    def push(self, payload: bytes) -> bool:
        """Publishes a message if there is room for it."""
        tx = self._tx or self._producer()
        frame = len(payload) + _HEAD
        used = self._pushed - self._words[POPPED]
        if not 0 <= used <= self.capacity - frame and not self._has_room(frame):
            return False
        try:
            pushed = tx.try_push(payload)
        except (ringspan.PeerDied, ringspan.PeerClosed):
            pushed = tx.try_push(payload)  # said once; it waits for the next consumer
        if pushed:
            self._pushed = self._words[PUSHED] = self._pushed + frame
        return pushed

    def check(self, payload: bytes) -> bytes:
        """Refuses what can never have room."""
        frame = len(payload) + _HEAD
        if frame > self.capacity:
            raise ringspan.TooLarge(
                f"ring {self.name}: message too large: frame_len={frame} > "
                f"capacity={self.capacity}",
                size=frame,
                limit=self.capacity,
            )
        return payload

    def _has_room(self, frame: int) -> bool:
        popped = self._words[POPPED]
        if popped > self._pushed:
            self._pushed = popped  # our predecessor was killed before it counted
        if self._pushed - popped > 2 * self.capacity:
            self._damaged(self._pushed, popped)
        if self._pushed + frame - popped <= self.capacity:
            return True
        return self._ring.stat().len == 0  # else the consumer was killed before it counted

    def push_within(self, payload: bytes, timeout: float) -> bool:
        """Publishes a message, parking the thread while there is no room."""
        deadline = time.monotonic() + timeout
        while True:
            since = self._block.version
            if self.push(payload):
                return True
            self._check_consumer()
            left = _left(deadline)
            if left is not None and left <= 0:
                return False
            with contextlib.suppress(ringspan.Timeout):
                self._block.blocking_changed(since, left)

    async def apush(self, payload: bytes) -> None:
        """Publishes a message, waiting while there is no room."""
        while True:
            since = self._block.version
            if self.push(payload):
                return
            self._check_consumer()
            await self._block.changed(since)

    def _check_consumer(self) -> None:
        if self._producer().is_closed:
            raise ringspan.PeerClosed(f"ring {self.name}: it is full, and its consumer has gone")

    # ---- popping ---------------------------------------------------------------------------------

    def _consumer(self) -> Consumer:
        """The consuming end, which goes on counting where the one before it stopped."""
        if self._rx is None:
            self._check_open()
            self._rx = self._ring.consumer()
            self._popped = self._words[POPPED]
            if self._popped >= _NEVER:
                self._damaged(self._words[PUSHED], self._popped)
        return self._rx

    def pop(self) -> bytes | None:
        """Takes a message if one is there."""
        if self._kept is not None:
            return self.take(self._kept, bytes)
        rx = self._rx or self._consumer()
        while True:
            seen = self._words[PUSHED]
            try:
                data: bytes | None = rx.try_pop(None)
            except _GONE:
                continue  # each end of a stream is told once
            if data is None:
                self._drained(seen)
            else:
                self._count(len(data))
            return data

    def lend(self) -> Lent | None:
        """The oldest message, where it lies, if one is there."""
        rx = self._rx or self._consumer()
        while self._kept is None:
            seen = self._words[PUSHED]
            try:
                lent = rx.try_lend()
            except _GONE:
                continue
            if lent is None:
                self._drained(seen)
            return lent
        return self._kept

    def lend_within(self, timeout: float) -> Lent | None:
        """The oldest message, parking the thread while there is none."""
        lent = self.lend()
        if lent is None and timeout > 0:
            with contextlib.suppress(ringspan.Timeout):
                lent = self._consumer().blocking_lend(None if timeout == math.inf else timeout)
        return lent

    async def alend(self) -> Lent:
        """The oldest message, waiting for one."""
        return self.lend() or await self._consumer().lend()

    def take(self, lent: Lent, decode: Callable[[bytes], _T]) -> _T:
        """What a lent message says, which is taken then. Should `decode` raise, it stays."""
        self._kept = lent
        data = bytes(lent.view)
        value = decode(data)
        self._kept = None
        lent.release()
        self._count(len(data))
        return value

    def _count(self, length: int) -> None:
        self._popped = self._words[POPPED] = self._popped + length + _HEAD
        self._block.notify()

    def _drained(self, seen: int) -> None:
        """Nothing was found, so what was counted before has been popped, by whomever."""
        if self._popped < seen:
            self._popped = self._words[POPPED] = seen
            self._block.notify()

    # ---- the handle ------------------------------------------------------------------------------

    def close(self) -> None:
        """Gives both roles up: the other end is told."""
        self.closed, self._kept = True, None
        for end in (self._tx, self._rx):
            if end is not None:
                end.close()
        self._block.close()

    def _forked(self) -> None:
        self._tx = self._rx = self._kept = None  # the parent's
        for name in ("_block", "_ring", "_words"):
            with contextlib.suppress(AttributeError):
                delattr(self, name)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in ("_block", "_ring", "_words"):
                raise AttributeError(f"'Ends' object has no attribute {name!r}")
            self._attach()
            return object.__getattribute__(self, name)


def _left(deadline: float) -> float | None:
    return None if deadline == math.inf else deadline - time.monotonic()
