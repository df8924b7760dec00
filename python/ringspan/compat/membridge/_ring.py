"""A segment used as a ring of messages: how a process comes to the native class."""

from __future__ import annotations

import os
import threading
import weakref

import ringspan
from ringspan._ringspan import SpscRingBuffer, _Block, _packed_ring, _quota_ring
from ringspan.compat._posix_names import native_name
from ringspan.compat.membridge._memory import SharedMemory
from ringspan.compat.membridge._segment import RING, RING_HEAD, decided, open_again

__all__ = ["SpscRingBuffer"]

#: The rings that this process has, by name and number: one producer and one consumer for each.
_rings: weakref.WeakValueDictionary[tuple[str, int], SpscRingBuffer] = weakref.WeakValueDictionary()
#: So that there is one ring for all threads.
_making = threading.Lock()


def _forget() -> None:
    global _making
    _making = threading.Lock()  # whoever had it in the parent is not here


os.register_at_fork(after_in_child=_forget)


def ring_of(memory: SharedMemory) -> SpscRingBuffer:
    """The ring of this process in a segment."""
    key = native_name(memory.name()), memory._number
    with _making:
        ring = _rings.get(key)
        if ring is None or ring._closed:
            capacity = memory.size() - RING_HEAD
            ring = _rings[key] = _packed_ring(memory.name(), memory._number, capacity)
    memory._ring = ring
    return ring


def _attach(name: str, number: int, capacity: int) -> tuple[ringspan.Ring, _Block]:
    """The ring, and a block that says to others that the segment is in use."""
    block = open_again(name, number)
    with decided(block, name, number, RING) as beside:
        return _quota_ring(beside, capacity), block


def _again(name: str, number: int) -> SpscRingBuffer:
    """What pickles call."""
    memory = SharedMemory.open(name)
    if memory._number != number:
        raise ringspan.Removed(f"shared memory {name}: it was removed and made anew; open it")
    return memory.spsc()
