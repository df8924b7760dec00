"""The half of `membridge` that is about functions: each is a `ringspan.Function`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar, overload

import ringspan
from ringspan._calls import ATTEMPTS, Known
from ringspan._deadlines import deadline_after, left_until
from ringspan.compat.sysframe._words import (
    ArgumentError,
    native_name,
    old_errors,
    unsupported,
)

_C = TypeVar("_C")

# ---- serving -------------------------------------------------------------------------------------


def _function(name: str, function: Callable[..., Any], inline: bool) -> ringspan.Function[..., Any]:
    if not callable(function):
        raise ArgumentError(f"function is a callable, not {type(function).__name__}")
    native = native_name(name)
    if inline:
        with contextlib.suppress(TypeError):  # an `async def`, or a generator
            return ringspan.function(native, inline=True, exact=True)(function)
    return ringspan.function(native, exact=True)(function)


@overload
def create_function(
    name: str, function: Callable[..., Any], /, *, background: Literal[False] = False
) -> None: ...
@overload
def create_function(
    name: str, function: Callable[..., Any], /, *, background: Literal[True]
) -> ringspan.Server: ...
def create_function(
    name: str, function: Callable[..., Any], /, *, background: bool = False
) -> ringspan.Server | None:
    """Shares a function, and serves its callers until it is removed.

    It runs in this thread, one call after the other; other threads go on meanwhile. Ctrl-C ends it.
    What it raises goes to the caller. An `async def` is run as a task, many at once.

    With `background=True` a thread serves, and this returns at once: use what it returns in `with`,
    or `stop` it.

    Raises MemoryError where the name is taken, by a function that is served or by a memory;
    ValueError for what cannot be called.
    """
    if background:
        return ringspan.serve_in_background(_function(name, function, inline=False))
    shared = _function(name, function, inline=True)
    if _in_a_loop():  # it cannot run another one
        with ringspan.serve_in_background(shared) as server:
            server.join()
        return None
    with _serves(shared.name):
        _serve_here(_until_removed(shared))
    return None


async def acreate_function(name: str, function: Callable[..., Any], /) -> None:
    """As `create_function`, on the loop that runs: returns when the function is removed.

    A plain `def` runs on a worker thread. Cancelling this ends it; calls under way fail.
    """
    await _until_removed(_function(name, function, inline=False))


async def _until_removed(shared: ringspan.Function[..., Any]) -> None:
    async with shared.service() as service:
        await service.serve_forever()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _serve_here(serving: Any) -> None:
    """Runs a loop of its own.

    Unlike `asyncio.run` it leaves Ctrl-C as it is, which so interrupts a function that runs.
    """
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(serving)
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


#: The functions that this thread serves.
_here = threading.local()


@contextlib.contextmanager
def _serves(name: str) -> Iterator[None]:
    _here.name = name
    try:
        yield
    finally:
        del _here.name


def remove_function(name: str, /) -> bool:
    """Ends a function, wherever it is served. False: nobody serves it.

    Its name is free at once; its `create_function` returns when the calls under way are finished.
    """
    try:
        native = native_name(name)
    except ringspan.InvalidName:
        return False
    for info in ringspan.segments():
        if info.name == native and info.kind == "function":
            with contextlib.suppress(ringspan.NotFound):  # its server has just ended
                ringspan.remove(native)
            _clients.drop(native)
            _blocking_clients.drop(native)
            return any(owner.alive is not False for owner in info.attached)
    return False


# ---- calling -------------------------------------------------------------------------------------


class _Clients(Known[_C]):
    """Clients by name, for the next call."""

    def drop(self, name: str) -> None:
        """Calls under way go on; the next one connects anew."""
        with self._lock:
            self._clients.pop(name, None)


_clients = _Clients(lambda name: ringspan.Client(name, exact=True))
_blocking_clients = _Clients(lambda name: ringspan.BlockingClient(name, exact=True))

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clients.forget)
    os.register_at_fork(after_in_child=_blocking_clients.forget)


def _arguments(args: Any, kwargs: Any) -> Mapping[str, Any]:
    if not isinstance(args, tuple):
        raise ArgumentError(f"the arguments of a function are a tuple, not {type(args).__name__}")
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
        raise ArgumentError("the keyword arguments of a function are a dict with keys of str")
    return kwargs


def _again(error: Exception) -> None:
    """Raises what a call raised, unless it may be sent again: its server never took it."""
    if isinstance(error, ringspan.Disconnected) and error.delivered == "no":
        return
    if isinstance(error, TypeError) and not isinstance(error, ringspan.RingspanError):
        raise unsupported(error) from None
    raise error


def call_function(
    name: str,
    args: tuple[Any, ...],
    /,
    kwargs: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
) -> Any:
    """Calls a function of another process, and returns its result, of exactly its type.

    What the function raises is raised here: as the builtin exception that it was, which is a
    `ringspan.RemoteError` with the traceback.

    `kwargs` are keyword arguments.

    Raises MemoryError where nobody serves the function, or its server dies under the call;
    ValueError for arguments that cannot be sent or are too large; TimeoutError when `timeout`, in
    seconds, is over.
    """
    native, named = native_name(name), _arguments(args, kwargs)
    if native == getattr(_here, "name", None):
        raise ringspan.WouldDeadlock(f"function {native}: this thread serves it, so nobody answers")
    client, deadline = _blocking_clients.get(native), deadline_after(timeout)
    for _ in range(ATTEMPTS):
        try:
            if deadline is not None:
                return client.options(timeout=left_until(deadline))(*args, **named)
            return client(*args, **named)
        except (TypeError, ringspan.Disconnected) as error:
            _again(error)
            last = error
    raise last


async def acall_function(
    name: str,
    args: tuple[Any, ...],
    /,
    kwargs: Mapping[str, Any] | None = None,
    *,
    timeout: float | None = None,
) -> Any:
    """As `call_function`, awaited. Cancelled, it gives the call up."""
    native, named = native_name(name), _arguments(args, kwargs)
    client, deadline = _clients.get(native), deadline_after(timeout)
    for _ in range(ATTEMPTS):
        try:
            if deadline is not None:
                return await client.options(timeout=left_until(deadline))(*args, **named)
            return await client(*args, **named)
        except (TypeError, ringspan.Disconnected) as error:
            _again(error)
            last = error
    raise last


for _name in (
    "acall_function",
    "acreate_function",
    "call_function",
    "create_function",
    "remove_function",
):
    globals()[_name] = old_errors(globals()[_name])
del _name
