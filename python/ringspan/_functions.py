"""Shared functions: serving them, and calling those of other processes.

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
import contextlib
import functools
import inspect
import os
import threading
import time
import typing
import weakref
from collections.abc import AsyncGenerator, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from ringspan._exceptions import Timeout
from ringspan._ringspan import (
    BlockingClient,
    Call,
    CallStream,
    Client,
    Context,
    _CallOff,
    _Job,
    _Jobs,
    _memory_per_client,
    _Server,
)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_F = TypeVar("_F", bound=Callable[..., Any])

# ---- calling -------------------------------------------------------------------------------------


async def connect(name: str, *, timeout: float | None = None, exact: bool = False) -> Client:
    """Connects to whoever serves `name`, and returns a client that calls it.

    `timeout` is the time, in seconds, that connecting and later each call may take. A client
    connects anew by itself when its server was restarted.

    Raises `NotFound` or `NotServed` where nobody serves the name.
    """
    client = Client(name, timeout=timeout, exact=exact)
    await _connected(client, _deadline(timeout))
    return client


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


#: Attempts to connect that are under way: by client and loop.
_connecting: dict[tuple[int, int], asyncio.Future[None]] = {}
_connecting_lock = threading.Lock()


async def _connected(client: Client, deadline: float | None) -> None:
    """Sees to it that `client` has a connection on this loop; one attempt serves all who wait."""
    while not client._connected():
        loop = asyncio.get_running_loop()
        key = (client._key(), id(loop))
        with _connecting_lock:
            under_way = _connecting.get(key)
            if under_way is None or under_way.get_loop() is not loop:
                mine = _connecting[key] = loop.create_future()
                under_way = None
        if under_way is not None:
            await asyncio.wait([under_way], timeout=_left(deadline))
            if not under_way.done():
                raise Timeout(f"function {client.name}: connecting took too long")
            continue
        off = _CallOff()
        try:
            opened = await loop.run_in_executor(None, client._open, off, _left(deadline))
            client._adopt(opened)
        finally:
            off()  # if we were cancelled, the thread must not wait on
            with _connecting_lock:
                _connecting.pop(key, None)
            mine.set_result(None)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


#: How often a connection may be over before the call on it began.
_ATTEMPTS = 4


def late_call(
    client: Client, method: str | None, args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> asyncio.Task[Any]:
    """A call on a client that is not connected: connects first. It begins at once, as any call."""
    return asyncio.ensure_future(_late_call(client, method, args, kwargs or {}))


async def _late_call(
    client: Client, method: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    deadline = _deadline(client.timeout)
    for _ in range(_ATTEMPTS):
        await _connected(client, deadline)
        made = client.options(timeout=_left(deadline))._begin(method, args, kwargs, False)
        if isinstance(made, Call):
            return await made
    raise ConnectionError(f"function {client.name}: its server hangs up on every connection")


async def late_stream(
    client: Client, method: str | None, args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> AsyncGenerator[Any, None]:
    """The same for a stream."""
    deadline = _deadline(client.timeout)
    for _ in range(_ATTEMPTS):
        await _connected(client, deadline)
        stream = client.options(timeout=_left(deadline))._begin(method, args, kwargs, True)
        if isinstance(stream, CallStream):
            try:
                async for item in stream:
                    yield item
            finally:
                await stream.aclose()
            return
    raise ConnectionError(f"function {client.name}: its server hangs up on every connection")


class _Known(Generic[_R]):
    """Clients that `call` and `blocking_call` use again, by name; those used last are kept."""

    KEPT = 256

    def __init__(self, make: Callable[[str], _R]) -> None:
        self._make = make
        self._clients: dict[str, _R] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> _R:
        with self._lock:
            client = self._clients.pop(name, None) or self._make(name)
            self._clients[name] = client
            while len(self._clients) > self.KEPT:
                del self._clients[next(iter(self._clients))]
            return client

    def forget(self) -> None:
        """In a forked child: they are the parent's."""
        self._lock = threading.Lock()
        self._clients = {}


_clients: _Known[Client] = _Known(Client)
_blocking_clients: _Known[BlockingClient] = _Known(BlockingClient)


def call(name: str, /, *args: Any, **kwargs: Any) -> Call[Any]:
    """Calls the function `name` once; all further arguments are the function's.

    The connection stays for the next call of that name. For options, and for services, `connect`.
    """
    return _clients.get(name)(*args, **kwargs)


def blocking_call(name: str, /, *args: Any, **kwargs: Any) -> Any:
    """As `call`, parking the thread. Ctrl-C is answered."""
    return _blocking_clients.get(name)(*args, **kwargs)


def blocking_connect(
    name: str, *, timeout: float | None = None, exact: bool = False
) -> BlockingClient:
    """As `connect`, for plain code: every call parks its thread. Threads may share the client."""
    client = BlockingClient(name, timeout=timeout, exact=exact)
    client.connect()
    return client


def unpickled(name: str, timeout: float | None, exact: bool) -> Client:
    """A client that was pickled: it connects at its first call."""
    return Client(name, timeout=timeout, exact=exact)


def unpickled_blocking(name: str, timeout: float | None, exact: bool) -> BlockingClient:
    """The same for plain code."""
    return BlockingClient(name, timeout=timeout, exact=exact)


# ---- serving -------------------------------------------------------------------------------------


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


class _Handler(NamedTuple):
    name: str
    call: Callable[..., Any]
    kind: str
    #: The parameter that takes the context, and its place among the positional ones.
    context: tuple[str, int | None] | None
    raw: bool


def _handler(call: Callable[..., Any], name: str, inline: bool, raw: bool) -> _Handler:
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
    return _Handler(name, call, kind, _context_parameter(call, plain), raw)


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


def _eager(loop: asyncio.AbstractEventLoop) -> bool:
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
        self._handlers: list[_Handler] = []
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
        made = _handler(handler, name or str(getattr(handler, "__name__", "call")), inline, raw)
        if any(made.name == other.name for other in self._handlers):
            raise ValueError(f"function {self.name}: two methods are called {made.name!r}")
        self._handlers.append(made)
        return handler

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        handlers = [tuple(handler) for handler in self._handlers]
        server = _Server(self.name, handlers, self._limits, self.grace, self._exact, self._awake)
        ended = asyncio.Event()
        server.start(ended.set, _eager(loop))
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


def _services(what: Iterable[Service | Function[Any, Any]]) -> list[Service]:
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
    return Serving(_services(what))


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
    # Threads without work end now. One that is busy is left behind, wherever it stands.
    until = time.monotonic() + _A_MOMENT
    for thread in list(_threads):
        thread.join(max(0.0, until - time.monotonic()))


def _forget_all() -> None:
    """In a forked child: what is known here is the parent's."""
    global _connecting_lock
    _connecting_lock = threading.Lock()
    _connecting.clear()
    _clients.forget()
    _blocking_clients.forget()
    _running.clear()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


# Before the interpreter waits for its threads; `atexit` would come after daemon threads are frozen.
threading._register_atexit(_stop_all)  # type: ignore[attr-defined]


def serve_in_background(*what: Service | Function[Any, Any]) -> Server:
    """Serves functions and services in a thread with an event loop of its own.

    Returns once they can be called. The caller's thread stays free, and Ctrl-C goes to it.
    """
    return Server(_services(what))


__all__ = [
    "Function",
    "Server",
    "ServerStats",
    "Service",
    "Serving",
    "blocking_call",
    "blocking_connect",
    "call",
    "connect",
    "function",
    "serve",
    "serve_in_background",
]

for _name in __all__:
    globals()[_name].__module__ = "ringspan"
del _name
