"""Running the handlers of a service: what they are, in which thread or task, and how they end."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
import typing
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from ringspan._ringspan import (
    Context,
    _Job,
    _Jobs,
)


class Handler(NamedTuple):
    name: str
    call: Callable[..., Any]
    kind: str
    #: The parameter that takes the context, and its place among the positional ones.
    context: tuple[str, int | None] | None
    raw: bool


def handler_of(call: Callable[..., Any], name: str, inline: bool, raw: bool) -> Handler:
    """How a handler is to be run, by what it is."""
    plain: Any = call
    while isinstance(plain, functools.partial):
        plain = plain.func
    if not inspect.isroutine(plain) and not inspect.isclass(plain):
        plain = type(plain).__call__  # an object that can be called
    if inspect.isasyncgenfunction(plain):
        kind = "async items"
    elif inspect.isgeneratorfunction(plain):
        kind = "items"
    elif inspect.iscoroutinefunction(plain):
        kind = "async"
    else:
        kind = "inline" if inline else "thread"
    if inline and kind != "inline":
        raise TypeError(f"{name}: inline=True is for a plain def, which returns at once")
    return Handler(name, call, kind, _context_parameter(call, plain), raw)


#: How a hint is spelled that cannot be evaluated, for it stands beside one that is imported for
#: type checkers only.
_SPELLED = {"Context", "ringspan.Context"}


def _context_parameter(
    call: Callable[..., Any], plain: Callable[..., Any]
) -> tuple[str, int | None] | None:
    hints: dict[str, Any]
    try:
        hints = typing.get_type_hints(plain)
    except Exception:  # a hint that cannot be read here; perhaps it is not of ours
        hints = getattr(plain, "__annotations__", {})
    named = [name for name, hint in hints.items() if hint is Context or hint in _SPELLED]
    try:
        parameters = inspect.signature(call).parameters
    except (TypeError, ValueError):
        return None
    for place, (name, parameter) in enumerate(parameters.items()):
        if name in named:
            by_name = parameter.kind is inspect.Parameter.KEYWORD_ONLY
            return name, None if by_name else place
    return None


async def drain(items: Any, send: Any) -> None:
    """Sends the items of an async generator as its client takes them."""
    try:
        while True:
            while (room := send.room()) is not None:
                await room
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            send(item)
    finally:
        await items.aclose()


#: Threads that run handlers; the end of the program waits a moment for those that end.
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def start_thread(function: str, job: _Jobs | _Job, name: str) -> None:
    """Starts a thread in `work` or `work_items`."""
    thread = threading.Thread(target=globals()[function], args=(job,), name=name, daemon=True)
    _threads.add(thread)
    thread.start()


def work(jobs: _Jobs) -> None:
    """Runs plain handlers one after another."""
    while (job := jobs.take()) is not None:
        if (begun := job.begin()) is not None:
            call, args, kwargs = begun
            try:
                result = call(*args, **(kwargs or {}))
            except BaseException as error:
                job.fail(_from_handler(error))
            else:
                job.result(result)
                del result
            del begun, call, args, kwargs
        del job


def work_items(job: _Job) -> None:
    """Runs a generator as its client takes the items."""
    if (begun := job.begin()) is None:
        return
    call, args, kwargs = begun
    try:
        items = iter(call(*args, **(kwargs or {})))
        try:
            while job.room():
                try:
                    item = next(items)
                except StopIteration:
                    job.finish()
                    return
                if not job.item(item):
                    return
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
    except BaseException as error:
        job.fail(_from_handler(error))
    finally:
        job.finish()  # unless it was answered


def _from_handler(error: BaseException) -> BaseException:
    """The exception without our own frame at the head of its traceback."""
    trace = error.__traceback__
    return error.with_traceback(trace.tb_next if trace and trace.tb_next else trace)


#: Kinds of loops that were tried.
_eager_loops: dict[type, bool] = {}


def starts_eagerly(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether tasks of the loop that runs start eagerly: from CPython 3.12 on, where it can."""
    known = _eager_loops.get(type(loop))
    if known is not None:
        return known
    done = []

    async def probe() -> None:
        done.append(True)

    coroutine = probe()
    try:
        make: Any = asyncio.Task  # mypy checks for 3.11
        task = make(coroutine, loop=loop, eager_start=True)
        can = bool(done) and task.done()
    except (TypeError, RuntimeError):
        coroutine.close()
        can = False
    _eager_loops[type(loop)] = can
    return can


def join_threads(seconds: float) -> None:
    """Waits for those without work to end. One that is busy is left behind, wherever it stands."""
    until = time.monotonic() + seconds
    for thread in list(_threads):
        thread.join(max(0.0, until - time.monotonic()))


def forget() -> None:
    """In a forked child: what is known here is the parent's."""
    _threads.clear()
