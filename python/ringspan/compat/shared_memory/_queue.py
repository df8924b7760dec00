"""A ring of items that everybody reads: a slow reader loses the oldest, and holds nobody up.

    offset 0   sign "q", format 1, number of slots, bytes of the largest item
          64   slots: number + 1 of the item (0 while it is written), length, CRC-32, tag, item

The version of the block is the number of items ever put. Putting one is: under the lock, at which
only those wait who put, fill the slot, then `notify`, which counts and wakes. So an item is there
for all or for nobody, whenever its writer is killed. Readers take no lock. They copy and then
check number and CRC (of number, tag and item), so that what is overwritten meanwhile is skipped,
never handed out.
"""

from __future__ import annotations

import operator
import struct
import threading
import zlib
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol, Self

from ringspan._deadlines import deadline_after, left_until
from ringspan._exceptions import Timeout
from ringspan._ringspan import _Block
from ringspan.compat.shared_memory._errors import (
    Damaged,
    Empty,
    InvalidOption,
    Mismatch,
    PickleRefused,
    TooLarge,
    runtime_errors,
)
from ringspan.compat.shared_memory._handle import Handle
from ringspan.compat.shared_memory._layouts import align, decode, encode

SIGN: Final = b"q"
_HEAD = struct.Struct("<cB6xQQ")
_SLOT = struct.Struct("<QQIB3x")
_SLOTS_AT = 64
#: Tag of what a serializer of the program's own wrote.
_OWN = 255
_NOTHING: Final = object()
#: No memory has that many bytes.
_BEYOND = 1 << 62


class Serializer(Protocol):
    """How a program writes and reads items itself."""

    def dump(self, obj: Any, mem: memoryview) -> None:
        """Writes an item to the start of `mem`, which has `itemsize` bytes."""

    def load(self, mem: memoryview) -> Any:
        """Reads an item; `mem` is a copy that nobody else writes to."""


class _Queue(Handle):
    _mem: memoryview
    _count: int
    _itemsize: int
    _safe_buffer: int
    #: Slots behind the oldest that may be read.
    _clear: int
    _allow_pickle: bool
    _serializer: Serializer | None
    #: Number of the next item to read.
    _position: int
    _missed: int
    #: Held by the thread that chooses an item: for our own code only, which a signal may interrupt.
    _turn: threading.RLock

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"{type(self).__name__} has no constructor; use create or open")

    @classmethod
    def _create(cls, name: str, itemsize: int, count: int, safe_buffer: int, *options: Any) -> Self:
        itemsize, count = operator.index(itemsize), operator.index(count)
        if itemsize < 1 or count < 1 or count * _stride(itemsize) >= _BEYOND:
            told = (
                f"a queue of {count} items of {itemsize} bytes: both are at least 1, and fit memory"
            )
            raise InvalidOption(told)
        _check_safe_buffer(safe_buffer)
        head = _HEAD.pack(SIGN, 1, count, itemsize)
        size = _SLOTS_AT + count * _stride(itemsize)
        with runtime_errors():
            return cls._of(_Block.create(name, size, data=head), safe_buffer, *options)

    @classmethod
    def _open(cls, name: str, safe_buffer: int, *options: Any) -> Self:
        _check_safe_buffer(safe_buffer)
        with runtime_errors():
            return cls._of(_Block.open(name), safe_buffer, *options)

    @classmethod
    def _of(
        cls, block: _Block, safe_buffer: int, allow_pickle: bool, serializer: Serializer | None
    ) -> Self:
        self = cls.__new__(cls)
        self._have(block)
        self._mem = memoryview(block)
        self._count, self._itemsize = _checked_head(self._mem, block.name)
        # The newest item can be read whatever they ask to be kept clear.
        self._safe_buffer, self._clear = safe_buffer, min(safe_buffer, self._count - 1)
        self._allow_pickle, self._serializer = allow_pickle, serializer
        self._position = max(block.version - 1, 0)
        self._missed = 0
        self._turn = threading.RLock()
        return self

    def _open_again(self) -> None:
        super()._open_again()
        self._turn = threading.RLock()  # a thread of the parent may have held it

    # ---- putting ---------------------------------------------------------------------------------

    def put(self, obj: Any, *, timeout: float | None = None) -> None:
        """Puts an item, over the oldest one if the ring is full. Waits for no reader.

        Raises TooLarge where the item has more than `itemsize` bytes, and Timeout when somebody
        else was putting for all of `timeout` seconds.
        """
        tag, data = self._packed(obj)
        with runtime_errors(), self._block.blocking_write(timeout, allow_poisoned=True):
            self._publish(tag, data)

    async def aput(self, obj: Any) -> None:
        """As `put`, awaiting the turn among those who put. Cancelled, it has put nothing."""
        tag, data = self._packed(obj)
        with runtime_errors():
            async with self._block.write(allow_poisoned=True):
                self._publish(tag, data)

    def _packed(self, obj: Any) -> tuple[int, bytes]:
        if self._serializer is not None:
            scratch = bytearray(self._itemsize)
            self._serializer.dump(obj, memoryview(scratch))
            return _OWN, bytes(scratch)
        tag, data = encode(obj)
        if len(data) > self._itemsize:
            told = f"an item of {len(data)} bytes; queue {self._block.name} takes {self._itemsize}"
            raise TooLarge(told, None, len(data), self._itemsize)
        return tag, data

    def _publish(self, tag: int, data: bytes) -> None:
        if self._block.is_poisoned:
            # Who was killed here left a slot that he had not published; it is ours now.
            self._block.clear_poison()
        number = self._block.version
        if number >= _BEYOND:
            raise Damaged(f"queue {self._block.name}: {number} items were never put; make it anew")
        at = self._place(number)
        _SLOT.pack_into(self._mem, at, 0, 0, 0, 0)
        start = at + _SLOT.size
        self._mem[start : start + len(data)] = data
        _SLOT.pack_into(self._mem, at, number + 1, len(data), _crc(number, tag, data), tag)
        self._block.notify()

    def _place(self, number: int) -> int:
        return _SLOTS_AT + number % self._count * _stride(self._itemsize)

    # ---- getting ---------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Any:
        """Returns the next item of this reader, waiting for one if there is none.

        Raises Timeout (a TimeoutError) when none came within `timeout` seconds, PickleRefused for a
        pickle without `allow_pickle` (the item stays the next one until `skip`), and Damaged once
        for an item that cannot be read.
        """
        until = deadline_after(timeout)
        with runtime_errors():
            while (item := self._next()) is _NOTHING:
                try:
                    self._block.blocking_changed(self._position, left_until(until))
                except Timeout as err:
                    told = f"queue {self._block.name}: no item within {timeout} seconds"
                    raise Timeout(told, err.errno) from None
        return item

    async def aget(self) -> Any:
        """As `get`, awaiting the item. Cancelled, it has taken none."""
        with runtime_errors():
            while (item := self._next()) is _NOTHING:
                await self._block.changed(self._position)
        return item

    def try_get(self) -> Any:
        """Returns the next item of this reader; raises Empty if there is none now."""
        with runtime_errors():
            item = self._next()
        if item is _NOTHING:
            raise Empty(f"queue {self._block.name}: nothing is in it now")
        return item

    def empty(self) -> bool:
        """Whether there is no item now that this reader has not had."""
        with runtime_errors():
            return self._block.version <= self._position

    def _next(self) -> Any:
        block = self._block  # in a forked child the turn is new with it
        with self._turn:
            found = self._chosen(block)
        return _NOTHING if found is None else self._unpacked(*found)

    def skip(self) -> None:
        """Steps over the next item, if there is one: over a pickle that is refused, say.

        `missed` counts it.
        """
        block = self._block
        with runtime_errors(), self._turn:
            if block.version > self._position:
                self._skip_to(self._position + 1)

    def _chosen(self, block: _Block) -> tuple[int, int, bytes] | None:
        """The next item, which nobody else of this reader gets: its number, tag and bytes."""
        hurry = 0
        while True:
            # Read with acquire: the slots of all that is counted are written.
            put = block.version
            self._position = min(self._position, put)
            if self._position == put:
                return None
            first = put - self._count + self._clear if put > self._count else 0
            if hurry:
                # Overtaken while copying: closer to the newest there is more time.
                first = max(first, put - max(self._count >> hurry, 1))
            self._skip_to(first)
            number = self._position
            found = self._copy(number)
            if self._position != number:
                continue  # a signal handler took it
            if found is not None:
                self._position = number + 1
                return number, *found
            if block.version == put:
                # Nobody overtook us: who should have written it did not.
                self._skip_to(number + 1)
            else:
                hurry = min(hurry + 1, 63)

    def _skip_to(self, number: int) -> None:
        if number > self._position:
            self._missed += number - self._position
            self._position = number

    def _copy(self, number: int) -> tuple[int, bytes] | None:
        """Tag and bytes of an item, if they are whole."""
        at = self._place(number)
        mark, length, crc, tag = _SLOT.unpack_from(self._mem, at)
        if mark != number + 1 or length > self._itemsize:
            return None
        start = at + _SLOT.size
        data = bytes(self._mem[start : start + length])
        after = _SLOT.unpack_from(self._mem, at)
        return (tag, data) if after[0] == mark and crc == _crc(number, tag, data) else None

    def _unpacked(self, number: int, tag: int, data: bytes) -> Any:
        what = f"item {number} of queue {self._block.name}"
        try:
            if tag != _OWN:
                return decode(tag, data, self._allow_pickle, what)
            if self._serializer is not None:
                return self._serializer.load(memoryview(data))
        except PickleRefused:
            with self._turn:
                if self._position == number + 1:
                    self._position = number
            raise
        raise Damaged(f"{what}: its writer has a serializer; open the queue with the same")

    # ---- the rest --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name, with its slash."""
        return self._block.name

    @property
    def itemsize(self) -> int:
        """Bytes of the largest item."""
        return self._itemsize

    @property
    def missed(self) -> int:
        """How many items this reader has lost by being slow."""
        return self._missed

    def close(self) -> None:
        """Gives the queue up; it stays for everybody else. Who waits on it gets HandleClosed."""
        # The view stays: another thread may be copying, and the memory is mapped while we live.
        self._block.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            yield await self.aget()

    def __reduce__(self) -> tuple[Any, ...]:
        options = (self._safe_buffer, self._allow_pickle, self._serializer)
        return self._open, (self._block.name, *options)


class ShmMessageQueue(_Queue):
    """A broadcast ring: every reader has its own place, and puts never wait for readers.

    A reader begins with the newest item that is there when it opens the queue. One that is slow
    skips ahead; `missed` counts what it lost. Items that ringspan's codec knows are read by
    anybody; other ones are pickles, and only read with `allow_pickle=True`: say it where you trust
    every process that can write to the queue.
    """

    @classmethod
    def create(
        cls,
        name: str,
        itemsize: int,
        count: int,
        safe_buffer: int = 2,
        *,
        allow_pickle: bool = False,
    ) -> Self:
        """Makes a queue of `count` items of up to `itemsize` bytes, and opens it.

        `safe_buffer` slots before the newest item's are not read: room for those who put.
        """
        return cls._create(name, itemsize, count, safe_buffer, allow_pickle, None)

    @classmethod
    def open(cls, name: str, safe_buffer: int = 2, *, allow_pickle: bool = False) -> Self:
        """Opens a queue that exists."""
        return cls._open(name, safe_buffer, allow_pickle, None)


class MessageQueue(_Queue):
    """The same queue under the names of the Python class, with a serializer of your own if asked.

    A serializer has `dump(obj, mem)` and `load(mem)`; it replaces codec and pickles.
    """

    @classmethod
    def create(
        cls,
        name: str,
        item_size: int,
        count: int,
        safe_buffer: int = 2,
        serializer: Serializer | None = None,
        *,
        allow_pickle: bool = False,
    ) -> Self:
        """Makes a queue of `count` items of up to `item_size` bytes, and opens it."""
        return cls._create(name, item_size, count, safe_buffer, allow_pickle, serializer)

    @classmethod
    def load(
        cls,
        name: str,
        safe_buffer: int = 2,
        serializer: Serializer | None = None,
        *,
        allow_pickle: bool = False,
    ) -> Self:
        """Opens a queue that exists."""
        return cls._open(name, safe_buffer, allow_pickle, serializer)

    @property
    def total_count(self) -> int:
        """How many items the ring holds."""
        return self._count

    @property
    def tail_id(self) -> int:
        """How many items were ever put."""
        return self._block.version

    @property
    def head_id(self) -> int:
        """The number of the next item of this reader."""
        return self._position


def _check_safe_buffer(safe_buffer: int) -> None:
    if safe_buffer < 0:
        raise InvalidOption(f"safe_buffer={safe_buffer} is below 0")


def _stride(itemsize: int) -> int:
    return align(8, _SLOT.size + itemsize)


def _crc(number: int, tag: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(bytes((tag,)), number & 0xFFFFFFFF))


def _checked_head(mem: memoryview, name: str) -> tuple[int, int]:
    sign, form, count, itemsize = (
        _HEAD.unpack_from(mem) if len(mem) >= _HEAD.size else (b"", 0, 0, 0)
    )
    if sign != SIGN:
        raise Mismatch(f"block {name}: unknown data type: it is no message queue")
    if form != 1:
        raise Mismatch(f"block {name}: a message queue of format {form}; this ringspan knows 1")
    if count < 1 or itemsize < 1 or _SLOTS_AT + count * _stride(itemsize) > len(mem):
        cause = f"its header says {count} items of {itemsize} bytes, in {len(mem)} bytes"
        raise Damaged(f"message queue {name}: {cause}")
    return count, itemsize
