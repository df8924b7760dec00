"""Serving in a thread with an event loop of its own, and the end of the program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from types import TracebackType
from typing import Any

from ringspan import _calls, _handlers
from ringspan._ringspan import _seconds
from ringspan._service import Function, ServerStats, Service, Serving, services_of


class Server:
    """Functions that a thread of their own serves, while the caller's thread goes on.

    Use it in `with`, or call `stop`. It also ends with the program.
    """

    def __init__(self, services: list[Service]) -> None:
        #: The services at work.
        self.services = services
        self._serving = Serving(services)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._grace: float | None = None
        self._began = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ringspan server", daemon=True)
        self._thread.start()
        self._began.wait()
        if self._error is not None:
            raise self._error
        _running.add(self)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            for service in self.services:
                service._kill()
            self._began.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        for service in self.services:
            try:
                await service.__aenter__()
            except BaseException:
                await asyncio.gather(*(begun.stop(0.0) for begun in self.services))
                raise
        self._began.set()
        ended = asyncio.ensure_future(self._serving.serve_forever())
        asked = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([ended, asked], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        await asyncio.gather(*(service.stop(self._grace) for service in self.services))
        await ended

    def stop(self, grace: float | None = None) -> None:
        """Ends it, and waits for that: calls under way are finished within `grace` seconds."""
        grace = _seconds(grace, "grace")
        _running.discard(self)
        self._ask_to_stop(grace)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _ask_to_stop(self, grace: float | None) -> None:
        if self._loop is None or self._stop is None:
            return
        self._grace = grace
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)

    def join(self) -> None:
        """Waits until it is over: stopped elsewhere, or its names removed. Ctrl-C is answered.

        Raises what ended it, if a handler raised `SystemExit` or the like.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error

    def stats(self) -> ServerStats:
        """What the first service has done so far."""
        return self.services[0].stats()

    def __enter__(self) -> Server:  # noqa: PYI034 - final enough
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(None if error is None else 0.0)


_running: weakref.WeakSet[Server] = weakref.WeakSet()
#: How long the end of a program waits for a loop that a handler holds up.
_PATIENCE = 2.0
#: How long it waits for the threads of handlers.
_A_MOMENT = 0.2


def _stop_all() -> None:
    """The program ends: names are given back while threads still run."""
    for server in list(_running):
        server._ask_to_stop(0.0)
    until = time.monotonic() + _PATIENCE
    for server in list(_running):
        server._thread.join(max(0.0, until - time.monotonic()))
        for service in server.services:
            service._kill()
    _handlers.join_threads(_A_MOMENT)


def _forget_all() -> None:
    """In a forked child: what is known here is the parent's."""
    _calls.forget()
    _handlers.forget()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


# Before the interpreter waits for its threads; `atexit` would come after daemon threads are frozen.
threading._register_atexit(_stop_all)  # type: ignore[attr-defined]


def serve_in_background(*what: Service | Function[Any, Any]) -> Server:
    """Serves functions and services in a thread with an event loop of its own.

    Returns once they can be called. The caller's thread stays free, and Ctrl-C goes to it.
    """
    return Server(services_of(what))


__all__ = [
    "Server",
    "serve_in_background",
]

for _name in __all__:
    globals()[_name].__module__ = "ringspan"
del _name
