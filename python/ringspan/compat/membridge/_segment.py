"""Blocks that are segments: how they are named and marked, and what a control block says.

A size that no ring has (`size - 24` is no power of two) can only be mapped: the name is a block
whose bytes are those of the view. Any other size can become either. There the name is a small
*control* block, which says under its lock what became of it. The bytes, or the ring, lie in a
second object beside it; its name is that of the segment and a random number that the control block
has, so it never belongs to another segment of the same name.
"""

from __future__ import annotations

import contextlib
import operator
import os
import struct
import weakref
from collections.abc import Iterator
from typing import Final, Protocol

import ringspan
from ringspan._ringspan import _Block
from ringspan.compat._posix_names import native_name

#: What the original keeps before the bytes of a view, and before those of a ring.
VIEW_HEAD: Final = 4
RING_HEAD: Final = 24

#: What is written into a block when it is made: who made it, the size asked for, the random number.
META: Final = struct.Struct("<12sQQ")
MAGIC: Final = b"membridge/1\0"

#: The one word of a control block.
USE: Final = 0
CONTROL_SIZE: Final = 8

#: What a control block says in its first word.
UNDECIDED, MAPPED, RING, REMOVED = range(4)
USES: Final = ("unused", "mapped", "a ring", "removed")


def checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, not {type(name).__name__}")
    if not name.startswith("/"):
        raise ringspan.InvalidName(f"name {name!r}: it must start with '/' (\"/my_segment\")")
    if len(name) < 2:
        raise ringspan.InvalidName("name '/': at least one character must come after '/'")
    native_name(name)  # refuses what no segment can be called
    return name


def checked_size(size: int) -> int:
    size = operator.index(size)
    if not 0 <= size < 1 << 64:
        raise OverflowError(f"size {size}: it must fit an unsigned word")
    if size == 0:
        raise ringspan.InvalidOption("size must be > 0")
    return size


def ring_capacity(size: int) -> int | None:
    """Bytes in the ring of a segment of `size` bytes; None where it can be none."""
    capacity = size - RING_HEAD
    return capacity if capacity > 0 and not capacity & (capacity - 1) else None


def open_block(name: str) -> tuple[_Block, int, int]:
    """The block of a segment, its size and its number."""
    block = _Block.open(native_name(name))
    meta = bytes(block.meta)
    if len(meta) != META.size or not meta.startswith(MAGIC):
        block.close()
        raise ringspan.Mismatch(f"shared memory {name}: something else has this name")
    _, size, number = META.unpack(meta)
    holds = CONTROL_SIZE if ring_capacity(size) else max(size - VIEW_HEAD, 0)
    if block.size != holds:
        block.close()
        raise ringspan.Damaged(f"shared memory {name}: {block.size} bytes cannot be {size} of ours")
    return block, size, number


def open_again(name: str, number: int) -> _Block:
    """Another handle of the block of a segment."""
    block, _, found = open_block(name)
    if found == number:
        block.stat()
        return block
    block.close()
    raise ringspan.Removed(f"shared memory {name}: it was removed and made anew; open it")


@contextlib.contextmanager
def deciding(block: _Block) -> Iterator[memoryview]:
    """The words of a control block, under its lock. One word is never half written."""
    with block.blocking_write(allow_poisoned=True) as bytes_:
        if block.is_poisoned:
            block.clear_poison()
        with bytes_.cast("Q") as words:
            yield words


@contextlib.contextmanager
def decided(block: _Block, name: str, number: int, use: int) -> Iterator[str]:
    """The name of what lies beside a control block, to be opened or made while the block is locked.

    Raises `ringspan.Mismatch` if the segment is used otherwise, `ringspan.Removed`.
    """
    with deciding(block) as words:
        found = words[USE]
        if found not in (UNDECIDED, use):
            _refuse(name, found, use)
        words[USE] = use
        try:
            yield beside(name, number)
        except BaseException:
            words[USE] = found
            raise


def _refuse(name: str, found: int, use: int) -> None:
    if found == REMOVED:
        raise ringspan.Removed(f"shared memory {name}: it was removed; make it anew")
    if found >= len(USES):
        raise ringspan.Damaged(f"shared memory {name}: its use is {found:#x}, which is none")
    raise ringspan.Mismatch(
        f"shared memory {name}: it is {USES[found]} already, so it cannot be {USES[use]}; one "
        "segment is either"
    )


def remove_beside(block: _Block, name: str, number: int) -> None:
    """Removes what lies beside a control block, and sees to it that nothing comes there again."""
    try:
        with deciding(block) as words:
            words[USE] = REMOVED
            ringspan.remove(beside(name, number), missing_ok=True)
    except ringspan.TooManyAttached:
        # No place for us, so not under the lock. All places are held: it was decided long ago.
        with memoryview(block).cast("Q") as words:
            words[USE] = REMOVED
        ringspan.remove(beside(name, number), missing_ok=True)


def finish_removal(block: _Block, size: int) -> bool:
    """Ends a removal whose process was killed half-way; whether there was one."""
    if ring_capacity(size) is None:
        return False
    with deciding(block) as words:
        removed = words[USE] == REMOVED
    if removed:
        with contextlib.suppress(ringspan.NotFound):
            block.remove()
    return removed


def users(name: str) -> list[int]:
    """The processes that have the segment open, as far as it is not sure that they are dead."""
    return [
        one.pid
        for info in ringspan.segments()
        if info.name == native_name(name)
        for one in info.attached
        if one.alive is not False
    ]


def beside(name: str, number: int) -> str:
    return f"{native_name(name)[:180]}.{number:016x}"


class _Forked(Protocol):
    def _forked(self) -> None: ...


#: What has to open its objects anew in a child that came by fork.
inherited: weakref.WeakSet[_Forked] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(inherited):
        one._forked()


os.register_at_fork(after_in_child=_after_fork)
