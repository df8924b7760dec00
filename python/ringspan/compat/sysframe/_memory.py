"""The half of `membridge` that is about values in named memory: each is a `ringspan.Value`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import ringspan
from ringspan._ringspan import _seconds
from ringspan.compat.sysframe._words import (
    ArgumentError,
    encoded_size,
    flag,
    native_name,
    old_errors,
)

_R = TypeVar("_R")


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
        _remove(native_name(name))
    except (ringspan.InvalidName, OSError):
        if throw_error:
            raise
        return False
    return True


def _remove(native: str) -> None:
    with contextlib.ExitStack() as stack:
        held = None
        with contextlib.suppress(ringspan.RingspanError):  # what cannot be opened goes as well
            held = stack.enter_context(ringspan.Value(native, create=False))
        ringspan.remove(native)
        if held is not None and held.stat().attached > 1:
            _wake(held)


def _wake(removed: ringspan.Value) -> None:
    """Wakes who waits for a change of a memory that was removed; they look for its name then."""
    try:
        removed.try_set(removed.get(None))  # the same, for who reads it at this moment
    except ringspan.RingspanError:
        removed.try_set(None)


def read_memory(name: str, /) -> Any:
    """The latest value that was written, of exactly its type; None if none was.

    Raises MemoryError where there is no such memory, or it is damaged.
    """
    with ringspan.Value(native_name(name), create=False) as held:
        return held.get(None)


def write_memory(
    name: str, value: Any, create: bool = True, *, timeout: float | None = None
) -> bool:
    """Writes a value, of any size; returns True. Readers see the old one or the new one.

    Writers take turns; `timeout` is the time, in seconds, to wait for one.

    Raises ValueError for a value that cannot be written, and then nothing was made or changed;
    MemoryError where there is no such memory and `create` is False, and where there is no room;
    TimeoutError when the time is over.
    """
    with _to_write(name, value, create) as held:
        held.blocking_set(value, timeout)
    return True


def _to_write(name: str, value: Any, create: bool) -> ringspan.Value:
    flag(create, "create")
    native, size = native_name(name), encoded_size(value)
    try:
        return ringspan.Value(native, create=False)
    except ringspan.NotFound:
        if not create:
            raise
    return ringspan.Value(native, capacity=size)


def changed(name: str, since: int | None = None, *, timeout: float | None = None) -> int:
    """Waits until a memory is written, and returns how often it was.

    `since` is what an earlier call returned: what was written after that ends the wait at once.
    With 0, anything that was ever written does. None waits for the next time.

    Raises MemoryError where there is no such memory, or it is removed; TimeoutError when `timeout`,
    in seconds, is over.
    """
    native = native_name(name)
    # Before the one that waits is attached: then the end, which wakes it, cannot go unnoticed.
    since = _version(native) if since is None else since
    with ringspan.Value(native, create=False) as held:
        held.blocking_changed(since, timeout)
    return _version(native)  # by its name: is it still there?


def _version(native: str) -> int:
    with ringspan.Value(native, create=False) as held:
        return held.version


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
    with _to_write(name, value, create) as held:
        await _within(timeout, held.set(value), f"memory {name}: others wrote for too long")
    return True


async def achanged(name: str, since: int | None = None, *, timeout: float | None = None) -> int:
    """As `changed`, awaited."""
    timeout = _seconds(timeout)
    native = native_name(name)
    since = _version(native) if since is None else since
    with ringspan.Value(native, create=False) as held:
        text = f"memory {name}: it was not written within the time-out"
        await _within(timeout, held.changed(since), text)
    return _version(native)


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
