"""The half of `membridge` that is about values in named memory: each is a `ringspan.Value`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import ringspan
from ringspan._ringspan import _seconds
from ringspan.compat.sysframe import _held
from ringspan.compat.sysframe._words import (
    ArgumentError,
    check_value,
    flag,
    native_name,
    old_errors,
)

_R = TypeVar("_R")

#: How often a memory may be removed and made again under a writer before it gives up.
_ATTEMPTS = 64


def create_memory(
    name: str, prealloc_size: int | None = None, error_if_exists: bool = False
) -> bool:
    """Makes a memory, which reads as None. False: the name is taken, or is none.

    `prealloc_size` is the size, in bytes, of the values that room is made for now; larger ones make
    room when they are written.

    Raises MemoryError where the name is taken and `error_if_exists` is True, and where there is no
    room; ValueError for an argument of the wrong type and for a negative size.
    """
    flag(error_if_exists, "error_if_exists")
    if prealloc_size is not None and not isinstance(prealloc_size, int):
        raise ArgumentError(f"prealloc_size is an int, not {type(prealloc_size).__name__}")
    size = prealloc_size or 0
    if not 0 <= size < 1 << 64:
        raise ArgumentError(f"a pre-allocate size of {size} bytes is too large, or negative")
    try:
        made = ringspan.Value(native_name(name), create=True, capacity=size)
    except ringspan.AlreadyExists:
        if error_if_exists:
            raise
        return False
    except (ringspan.InvalidName, ringspan.PermissionDenied):
        return False
    made.close()
    return True


def remove_memory(name: str, throw_error: bool = False) -> bool:
    """Removes a memory: the name is free at once. False: there is none.

    Who waits for it to change gets a MemoryError. A function of that name ends.

    Raises MemoryError where nothing was removed and `throw_error` is True.
    """
    flag(throw_error, "throw_error")
    try:
        ringspan.remove(native_name(name))
    except (ringspan.InvalidName, OSError):
        if throw_error:
            raise
        return False
    _held.sweep()
    return True


def read_memory(name: str, /) -> Any:
    """The latest value that was written, of exactly its type; None if none was.

    Raises MemoryError where there is no such memory, or it is damaged.
    """
    return ringspan.Value.peek(native_name(name), None)


def write_memory(
    name: str, value: Any, create: bool = True, *, timeout: float | None = None
) -> bool:
    """Writes a value, of any size; returns True. Readers see the old one or the new one.

    Writers take turns; `timeout` is the time, in seconds, to wait for one.

    Raises ValueError for a value that cannot be written, and then nothing was made or changed;
    MemoryError where there is no such memory and `create` is False, and where there is no room;
    TimeoutError when the time is over.
    """
    native, held = _to_write(name, value, create)
    if held is not None:
        try:
            held.blocking_set(value, timeout)
        finally:
            _held.keep(native, held)
    return True


def _to_write(name: str, value: Any, create: bool) -> tuple[str, ringspan.Value | None]:
    """The memory of that name, open; None: it did not exist, and was made with that value."""
    flag(create, "create")
    native = native_name(name)
    check_value(value)
    for _ in range(_ATTEMPTS):
        if held := _held.take(native):
            return native, held
        try:
            return native, ringspan.Value(native, create=False)
        except ringspan.NotFound:
            if not create:
                raise
        with contextlib.suppress(ringspan.AlreadyExists):  # somebody made it just now
            _held.keep(native, ringspan.Value(native, create=True, initial=value))
            return native, None
    raise ringspan.Removed(f"memory {native}: it is removed and made again all the time")


def changed(name: str, since: int | None = None, *, timeout: float | None = None) -> int:
    """Waits until a memory is written, and returns how often it was.

    `since` is what an earlier call returned: what was written after that ends the wait at once.
    With 0, anything that was ever written does. None waits for the next time.

    Raises MemoryError where there is no such memory, or it is removed; TimeoutError when `timeout`,
    in seconds, is over.
    """
    with _opened(name) as held:
        return held.blocking_changed(since, timeout)


@contextlib.contextmanager
def memory(name: str, prealloc_size: int | None = None) -> Iterator[ringspan.Value]:
    """A memory that is made here, and removed at the end of the block.

    Raises MemoryError where the name is taken, or is none.
    """
    create_memory(name, prealloc_size, True)
    try:
        with _opened(name) as held:
            yield held
    finally:
        remove_memory(name)


def _opened(name: str) -> ringspan.Value:
    return ringspan.Value(native_name(name), create=False)


async def aread_memory(name: str, /) -> Any:
    """As `read_memory`, which does not wait."""
    return read_memory(name)


async def awrite_memory(
    name: str, value: Any, create: bool = True, *, timeout: float | None = None
) -> bool:
    """As `write_memory`, awaiting the turn. Cancelled, it has written nothing."""
    timeout = _seconds(timeout)  # refused before anything is made
    native, held = _to_write(name, value, create)
    if held is not None:
        try:
            await _within(timeout, held.set(value), f"memory {name}: others wrote for too long")
        finally:
            _held.keep(native, held)
    return True


async def achanged(name: str, since: int | None = None, *, timeout: float | None = None) -> int:
    """As `changed`, awaited."""
    timeout = _seconds(timeout)
    with _opened(name) as held:
        text = f"memory {name}: it was not written within the time-out"
        return await _within(timeout, held.changed(since), text)


async def _within(timeout: float | None, awaited: Awaitable[_R], text: str) -> _R:
    try:
        async with asyncio.timeout(timeout):
            return await awaited
    except TimeoutError:
        raise ringspan.Timeout(text) from None


for _name in (
    "_opened",
    "achanged",
    "aread_memory",
    "awrite_memory",
    "changed",
    "create_memory",
    "read_memory",
    "remove_memory",
    "write_memory",
):
    globals()[_name] = old_errors(globals()[_name])
del _name
