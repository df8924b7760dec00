"""Shared functions: serving them on the event loop that runs.

::

    # one process                                     # another one
    @ringspan.function("/add")                        f = await ringspan.connect("/add")
    async def add(a, b):                              await f(2, 3)
        return a + b                                  await ringspan.call("/add", 2, 3)
    async with ringspan.serve(add):                   ringspan.blocking_call("/add", 2, 3)
        await asyncio.sleep(3600)

The event loop that serves runs the handlers; what crosses the process border is native.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from ringspan._handlers import Handler, handler_of, starts_eagerly
from ringspan._ringspan import (
    _memory_per_client,
    _Server,
)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_F = TypeVar("_F", bound=Callable[..., Any])


class ServerStats(NamedTuple):
    """What a server has done so far."""

    #: Calls read.
    calls: int
    #: Calls answered with an error, cancelled ones among them.
    errors: int
    #: Calls read and not answered.
    in_flight: int
    #: Handlers at work (those that did not finish at once).
    running: int
    #: Clients connected.
    clients: int
    #: Clients thrown out because they broke the protocol.
    violations: int
    #: Callers turned away.
    refused: int
    #: How long calls took: place `n` counts those below 2**n microseconds.
    latency: tuple[int, ...]

    def percentile(self, share: float) -> float | None:
        """A bound, in seconds, for the latency of that share of the calls; within a factor of 2."""
        wanted = max(1.0, sum(self.latency) * share)
        seen = 0
        for n, count in enumerate(self.latency):
            seen += count
            if count and seen >= wanted:
                return float(2**n) / 1e6
        return None


class Service:
    """A name with methods, served by the event loop that runs.

    ::

        service = ringspan.Service("/calc")

        @service.method
        async def add(a, b):
            return a + b

        async with service:
            await service.serve_forever()

    `async def` handlers are tasks of the loop; they start at once (on CPython 3.11, and on loops
    without eager tasks, with the loop's next turn: a call given up before then never runs), and
    are cancelled when the caller gives up. Plain `def` handlers run on one worker thread, one after
    the other, or on the loop itself with `inline=True`. Generators yield streams. A parameter
    annotated with `ringspan.Context` is given the context of the call.

    `limits`: `max_concurrency` handlers at once (256), `max_pending` calls of one client (1024),
    `max_inflight_bytes` of their arguments (64 MiB), `max_message` (64 MiB), `max_unread_bytes` of
    results (1 MiB), `ring_capacity` (1 MiB), `max_clients` (4096). `exact=True`: tuples, sets,
    bytearrays in results come back as such. `grace`: seconds that calls under way have when the
    service ends or its name is removed. `stay_awake`: after a call the loop keeps turning for up to
    32 turns, if calls of late came that soon, for waking an idle core takes longer than the call;
    without it an idle server costs no cpu at all.
    """

    def __init__(
        self,
        name: str,
        *,
        exact: bool = False,
        grace: float = 5.0,
        stay_awake: bool = True,
        **limits: int,
    ) -> None:
        self.name = name
        self.grace = grace
        self._exact = exact
        self._awake = stay_awake
        self._limits = limits
        self._handlers: list[Handler] = []
        self._server: _Server | None = None
        self._ended: asyncio.Event | None = None
        _memory_per_client(limits)  # refuses unknown limits now

    @property
    def memory_per_client(self) -> int:
        """The most bytes that one client can make this server hold."""
        return _memory_per_client(self._limits)

    @overload
    def method(self, handler: _F, /) -> _F: ...
    @overload
    def method(
        self,
        handler: None = None,
        /,
        *,
        name: str | None = None,
        inline: bool = False,
        raw: bool = False,
    ) -> Callable[[_F], _F]: ...
    def method(
        self,
        handler: Any = None,
        /,
        *,
        name: str | None = None,
        inline: bool = False,
        raw: bool = False,
    ) -> Any:
        """Adds a method; the function is returned as it is.

        `inline`: a `def` that returns at once runs on the loop, which is the fastest way. `raw`:
        one argument and the result are bytes as they are.
        """
        if handler is None:
            return lambda handler: self._add(name, inline, raw, handler)
        return self._add(name, inline, raw, handler)

    def _add(self, name: str | None, inline: bool, raw: bool, handler: _F) -> _F:
        if self._server is not None:
            raise RuntimeError(f"function {self.name}: it is served already; add methods before")
        made = handler_of(handler, name or str(getattr(handler, "__name__", "call")), inline, raw)
        if any(made.name == other.name for other in self._handlers):
            raise ValueError(f"function {self.name}: two methods are called {made.name!r}")
        self._handlers.append(made)
        return handler

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        handlers = [tuple(handler) for handler in self._handlers]
        server = _Server(self.name, handlers, self._limits, self.grace, self._exact, self._awake)
        ended = asyncio.Event()
        server.start(ended.set, starts_eagerly(loop))
        self._server, self._ended = server, ended

    async def __aenter__(self) -> Service:  # noqa: PYI034 - final enough
        if self._server is not None:
            raise RuntimeError(f"function {self.name}: this service was started before")
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop(self.grace if error is None else 0.0)

    async def stop(self, grace: float | None = None) -> None:
        """Ends it: the name is free at once, calls under way have `grace` seconds to finish."""
        if self._server is None or self._ended is None:
            return
        self._server.stop(self.grace if grace is None else grace)
        try:
            await self._ended.wait()
        except asyncio.CancelledError:
            self._kill()
            raise

    def _kill(self) -> None:
        """Hangs up and gives the name back, where no loop will do it any more."""
        if self._server is not None:
            self._server.kill()

    async def serve_forever(self) -> None:
        """Waits until it is over: stopped elsewhere, or its name removed."""
        if self._ended is None:
            raise RuntimeError(f"function {self.name}: start it by `async with`")
        await self._ended.wait()

    def stats(self) -> ServerStats:
        """What it has done so far."""
        if self._server is None:
            return ServerStats(0, 0, 0, 0, 0, 0, 0, ())
        return ServerStats._make(self._server.stats())

    def __repr__(self) -> str:
        names = ", ".join(handler.name for handler in self._handlers)
        return f"<Service {self.name}: {names}>"


class Function(Generic[_P, _R]):
    """A function with a name that it can be served by. Called here, it is the plain function."""

    def __init__(
        self,
        name: str,
        call: Callable[_P, _R],
        *,
        inline: bool = False,
        raw: bool = False,
        exact: bool = False,
        grace: float = 5.0,
        stay_awake: bool = True,
        limits: dict[str, int] | None = None,
    ) -> None:
        self.name = name
        self._call = call
        self._how: dict[str, bool] = {"inline": inline, "raw": raw}
        self._exact = exact
        self._grace = grace
        self._awake = stay_awake
        self._limits = dict(limits or {})
        functools.update_wrapper(self, call)
        self.service()  # refuses what cannot be served now

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self._call(*args, **kwargs)

    def service(self) -> Service:
        """A service of this one function, to be served once."""
        service = Service(
            self.name,
            exact=self._exact,
            grace=self._grace,
            stay_awake=self._awake,
            **self._limits,
        )
        service._add("call", self._how["inline"], self._how["raw"], self._call)
        return service

    def __repr__(self) -> str:
        return f"<Function {self.name}: {self._call!r}>"


def function(
    name: str,
    *,
    inline: bool = False,
    raw: bool = False,
    exact: bool = False,
    grace: float = 5.0,
    stay_awake: bool = True,
    **limits: int,
) -> Callable[[Callable[_P, _R]], Function[_P, _R]]:
    """Names a function, so that `serve` and `serve_in_background` can share it.

    The options are those of `Service` and `Service.method`.
    """

    def named(call: Callable[_P, _R]) -> Function[_P, _R]:
        return Function(
            name,
            call,
            inline=inline,
            raw=raw,
            exact=exact,
            grace=grace,
            stay_awake=stay_awake,
            limits=limits,
        )

    return named


def services_of(what: Iterable[Service | Function[Any, Any]]) -> list[Service]:
    made = [one.service() if isinstance(one, Function) else one for one in what]
    for one in made:
        if not isinstance(one, Service):
            raise TypeError(f"serve takes functions and services, not {type(one).__name__}")
    if not made:
        raise TypeError("serve takes at least one function or service")
    return made


class Serving:
    """`async with ringspan.serve(...)`: all of them, from entering to leaving."""

    def __init__(self, services: list[Service]) -> None:
        #: The services at work.
        self.services = services

    async def __aenter__(self) -> Serving:  # noqa: PYI034 - final enough
        begun: list[Service] = []
        try:
            for service in self.services:
                await service.__aenter__()
                begun.append(service)
        except BaseException:
            for service in begun:
                await service.stop(0.0)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.gather(
            *(service.__aexit__(kind, error, traceback) for service in self.services)
        )

    async def serve_forever(self) -> None:
        """Waits until all are over."""
        await asyncio.gather(*(service.serve_forever() for service in self.services))

    def stats(self) -> ServerStats:
        """What the first of them has done so far."""
        return self.services[0].stats()


def serve(*what: Service | Function[Any, Any]) -> Serving:
    """Serves functions and services on the event loop that runs, inside `async with`."""
    return Serving(services_of(what))


__all__ = [
    "Function",
    "ServerStats",
    "Service",
    "Serving",
    "function",
    "serve",
]

for _name in __all__:
    globals()[_name].__module__ = "ringspan"
del _name
