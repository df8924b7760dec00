"""Calling the functions of other processes, awaited or parked.

Attempts to connect, and the clients that `call` uses again, are shared by all who call here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

from ringspan._deadlines import deadline_after, left_until
from ringspan._exceptions import Timeout
from ringspan._ringspan import (
    BlockingClient,
    Call,
    CallStream,
    Client,
    _CallOff,
)

_R = TypeVar("_R")


async def connect(name: str, *, timeout: float | None = None, exact: bool = False) -> Client:
    """Connects to whoever serves `name`, and returns a client that calls it.

    `timeout` is the time, in seconds, that connecting and later each call may take. A client
    connects anew by itself when its server was restarted.

    Raises `NotFound` or `NotServed` where nobody serves the name.
    """
    client = Client(name, timeout=timeout, exact=exact)
    await _connected(client, deadline_after(timeout))
    return client


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
            await asyncio.wait([under_way], timeout=left_until(deadline))
            if not under_way.done():
                raise Timeout(f"function {client.name}: connecting took too long")
            continue
        off = _CallOff()
        try:
            opened = await loop.run_in_executor(None, client._open, off, left_until(deadline))
            client._adopt(opened)
        finally:
            off()  # if we were cancelled, the thread must not wait on
            with _connecting_lock:
                _connecting.pop(key, None)
            mine.set_result(None)


#: How often a connection may be over before the call on it began.
ATTEMPTS = 4


def late_call(
    client: Client, method: str | None, args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> asyncio.Task[Any]:
    """A call on a client that is not connected: connects first. It begins at once, as any call."""
    return asyncio.ensure_future(_late_call(client, method, args, kwargs or {}))


async def _late_call(
    client: Client, method: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    deadline = deadline_after(client.timeout)
    for _ in range(ATTEMPTS):
        await _connected(client, deadline)
        made = client.options(timeout=left_until(deadline))._begin(method, args, kwargs, False)
        if isinstance(made, Call):
            return await made
    raise ConnectionError(f"function {client.name}: its server hangs up on every connection")


async def late_stream(
    client: Client, method: str | None, args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> AsyncGenerator[Any, None]:
    """The same for a stream."""
    deadline = deadline_after(client.timeout)
    for _ in range(ATTEMPTS):
        await _connected(client, deadline)
        stream = client.options(timeout=left_until(deadline))._begin(method, args, kwargs, True)
        if isinstance(stream, CallStream):
            try:
                async for item in stream:
                    yield item
            finally:
                await stream.aclose()
            return
    raise ConnectionError(f"function {client.name}: its server hangs up on every connection")


class Known(Generic[_R]):
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


_clients: Known[Client] = Known(Client)
_blocking_clients: Known[BlockingClient] = Known(BlockingClient)


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


def forget() -> None:
    """In a forked child: what is known here is the parent's."""
    global _connecting_lock
    _connecting_lock = threading.Lock()
    _connecting.clear()
    _clients.forget()
    _blocking_clients.forget()


__all__ = [
    "blocking_call",
    "blocking_connect",
    "call",
    "connect",
]

for _name in __all__:
    globals()[_name].__module__ = "ringspan"
del _name
