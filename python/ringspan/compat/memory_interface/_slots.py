"""The circular memory of a MemoryInterface: one native block, however many slots it has.

::

    meta      magic 8s | use_pickle u32 | reserved u32 | slots u64 | bytes of a slot u64
    payload   0     written u64: how many objects were ever written
              64    read u64: how many of them were read, or dropped
              128   slots + 1 areas: length u64, bytes, up to a multiple of 8

Object number p lies in the area p mod (slots + 1). Readable are those from max(read, written -
slots) on: who writes into a full memory drops the oldest. There is one area more than slots, so
what is written never lies where something readable does, and one store of a counter makes it
readable. Therefore a process that is killed at any moment leaves a whole state, and a lock that it
poisoned can be taken without mending anything.

Whoever changes something holds the lock for writing. Just before the counter is stored the version
rises, which wakes who waits; they look under the lock, hence after the store, or find that the one
who woke them died before it.
"""

from __future__ import annotations

import struct

from ringspan._exceptions import Damaged
from ringspan._ringspan import _Block

_META = struct.Struct("<8sIIQQ")
_MAGIC = b"memif\0\0\1"
_HEAD = 128
#: Where the counters are, in words.
_WRITTEN, _READ = 0, 8


def _stride(size: int) -> int:
    return 8 + (size + 7) // 8 * 8


def size_of(slots: int, size: int) -> int:
    """Bytes of a block for so many slots of so many bytes."""
    return _HEAD + (slots + 1) * _stride(size)


def make(name: str, slots: int, size: int, use_pickle: bool) -> _Block:
    """A new block for so many slots of so many bytes."""
    meta = _META.pack(_MAGIC, use_pickle, 0, slots, size)
    return _Block.create(name, size_of(slots, size), meta=meta, ephemeral=True)


class Slots:
    """One process's view of the slots. What starts with `locked_` is called under the lock."""

    def __init__(self, block: _Block) -> None:
        self.block = block
        self.count, self.size, self.use_pickle = self._geometry()
        self._stride = _stride(self.size)
        # They keep the memory, whatever becomes of the block.
        self._bytes = memoryview(block).cast("B")
        self._words = self._bytes.cast("Q")

    def _geometry(self) -> tuple[int, int, bool]:
        meta, size = bytes(self.block.meta), self.block.size
        if len(meta) != _META.size:
            raise self._damaged(f"its description has {len(meta)} bytes")
        magic, use_pickle, _, slots, room = _META.unpack(meta)
        if magic != _MAGIC or use_pickle > 1:
            raise self._damaged("its description is not one of a MemoryInterface")
        if slots < 1 or room < 1 or size != size_of(slots, room):
            raise self._damaged(f"{slots} slots of {room} bytes are not in {size} bytes")
        return slots, room, bool(use_pickle)

    def _damaged(self, cause: str) -> Damaged:
        return Damaged(f"MemoryInterface {self.block.name}: {cause}")

    # ---- looking; without the lock it may be over at once ----------------------------------------

    def ends(self) -> tuple[int, int]:
        """The numbers of the oldest readable object, and of the one to be written next."""
        read = self._words[_READ]
        written = self._words[_WRITTEN]
        # Read at two moments, they need not fit each other.
        return min(max(read, written - self.count), written), written

    @property
    def is_empty(self) -> bool:
        """Nothing can be read."""
        oldest, written = self.ends()
        return oldest == written

    @property
    def is_full(self) -> bool:
        """Writing drops the oldest."""
        oldest, written = self.ends()
        return written - oldest == self.count

    # ---- under the lock --------------------------------------------------------------------------

    def locked_put(self, data: bytes) -> None:
        """Writes an object, which has at most the size of a slot."""
        oldest, written = self._entered()
        size = len(data)
        at = _HEAD + written % (self.count + 1) * self._stride
        self._bytes[at + 8 : at + 8 + size] = data
        self._words[at // 8] = size
        if oldest == written:
            self.block.notify()
        self._words[_WRITTEN] = written + 1

    def locked_peek(self) -> tuple[int, bytes] | None:
        """The oldest object and its number; None if there is none."""
        oldest, written = self._entered()
        if oldest == written:
            return None
        at = _HEAD + oldest % (self.count + 1) * self._stride
        size = self._words[at // 8]
        if size > self.size:
            raise self._damaged(f"an object of {size} bytes is in a slot of {self.size}")
        return oldest, bytes(self._bytes[at + 8 : at + 8 + size])

    def _entered(self) -> tuple[int, int]:
        if self.block.is_poisoned:
            self.block.clear_poison()  # whoever died left a whole state, as said above
        read, written = self._words[_READ], self._words[_WRITTEN]
        if not read <= written < 1 << 63:
            raise self._damaged(f"{read} objects were read, of {written}")
        return max(read, written - self.count), written

    def locked_done(self, number: int) -> bool:
        """Object `number` was read. False: so it was before, by somebody else."""
        self._entered()
        if self._words[_READ] > number:
            return False
        self._drop(number + 1)
        return True

    def locked_reset(self) -> None:
        """All objects were read."""
        self._drop(self._entered()[1])

    def _drop(self, read: int) -> None:
        if self.is_full:
            self.block.notify()
        self._words[_READ] = read
