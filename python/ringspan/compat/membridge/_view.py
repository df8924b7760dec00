"""A mapped segment. The class is native; here are the parts of it that are generators."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from ringspan._ringspan import MappedView

if TYPE_CHECKING:
    from ringspan.compat.membridge._memory import SharedMemory

__all__ = ["MappedView"]


@contextlib.contextmanager
def reading(view: MappedView, timeout: float | None) -> Iterator[memoryview]:
    """`MappedView.reading`."""
    with view._block.blocking_read(timeout) as buf:
        yield buf


@contextlib.contextmanager
def writing(view: MappedView, timeout: float | None) -> Iterator[memoryview]:
    """`MappedView.writing`."""
    block = view._block  # also if the view is closed meanwhile
    with block.blocking_write(timeout) as buf:
        try:
            yield buf
        finally:
            block.notify()


@contextlib.asynccontextmanager
async def areading(view: MappedView) -> AsyncIterator[memoryview]:
    """`MappedView.areading`."""
    async with view._block.read() as buf:
        yield buf


@contextlib.asynccontextmanager
async def awriting(view: MappedView) -> AsyncIterator[memoryview]:
    """`MappedView.awriting`."""
    block = view._block
    async with block.write() as buf:
        try:
            yield buf
        finally:
            block.notify()


def _again(memory: SharedMemory, cursor: int) -> MappedView:
    """What pickles call."""
    view = memory.map()
    view.seek(cursor)
    return view
