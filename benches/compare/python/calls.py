"""Calls of functions in another process: one at a time, and 64 in flight.

The parent is the client and holds the clock; the child is the server and is killed when the client
has enough. The functions are `add`, of two numbers, and `echo`, of bytes that come back. A wrong
sum, or bytes that are not those that were sent, fail the cell.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from harness import Loop, Subject, sleeps

#: The second number of each `add`.
B = 1 << 40
IN_FLIGHT = 64


class Rpc(Subject):
    """A server of the two functions, and a client of it."""

    rpc_pins: ClassVar[tuple[str, ...]] = ("apart", "same")

    def path(self) -> str:
        """A socket in memory, for those that need one."""
        return f"/dev/shm/{self.unique}-sock"

    def serve(self, ready: Callable[[], None]) -> None:
        """The child's side: say that one may connect, then serve until it is killed."""
        raise NotImplementedError

    def connect(self) -> None:
        """The parent's side; tried again while it raises `OSError`."""
        raise NotImplementedError

    def adds(self, n: int) -> list[float]:
        """The seconds of each of n calls of `add`, one at a time."""
        raise NotImplementedError

    def echoes(self, n: int, payloads: list[bytes]) -> list[float]:
        """The same of `echo`, with the payloads in turn."""
        raise NotImplementedError

    def flight(self, n: int) -> None:
        """Call `add` n times, 64 of them in flight."""
        raise NotImplementedError

    def close(self, parent: bool) -> None:
        if parent:
            Path(self.path()).unlink(missing_ok=True)


def check(right: bool) -> None:
    """Fail the cell where an answer is wrong."""
    if not right:
        raise RuntimeError("an answer is wrong")


class BlockingRpc(Rpc):
    """The client blocks: `connect` sets `call_add` and `call_echo`."""

    waits = "parks"
    call_add: Callable[[int, int], int]
    call_echo: Callable[[bytes], bytes]

    def adds(self, n: int) -> list[float]:
        add, clock = self.call_add, time.perf_counter
        times = []
        for i in range(n):
            begin = clock()
            found = add(i, B)
            times.append(clock() - begin)
            check(found == i + B)
        return times

    def echoes(self, n: int, payloads: list[bytes]) -> list[float]:
        echo, clock = self.call_echo, time.perf_counter
        times = []
        for i in range(n):
            payload = payloads[i % len(payloads)]
            begin = clock()
            found = echo(payload)
            times.append(clock() - begin)
            check(found == payload)
        return times


class AsyncRpc(Rpc):
    """Both sides live in an event loop: `start` sets both."""

    in_flight: ClassVar[bool] = True
    call_add: Callable[[int, int], Awaitable[int]]
    call_echo: Callable[[bytes], Awaitable[bytes]]

    async def start(self) -> None:
        """Connect."""
        raise NotImplementedError

    async def stay(self, ready: Callable[[], None]) -> None:
        """Serve."""
        raise NotImplementedError

    def serve(self, ready: Callable[[], None]) -> None:
        Loop(self.waits).run(self.stay(ready))

    def connect(self) -> None:
        if not hasattr(self, "loop"):
            self.loop = Loop(self.waits)
        self.loop.run(self.start())

    def close(self, parent: bool) -> None:
        super().close(parent)
        if hasattr(self, "loop"):
            self.loop.runner.close()  # with what still waits for answers

    def adds(self, n: int) -> list[float]:
        async def all_adds() -> list[float]:
            add, clock = self.call_add, time.perf_counter
            times = []
            for i in range(n):
                begin = clock()
                found = await add(i, B)
                times.append(clock() - begin)
                check(found == i + B)
            return times

        return self.loop.run(all_adds())

    def echoes(self, n: int, payloads: list[bytes]) -> list[float]:
        async def all_echoes() -> list[float]:
            echo, clock = self.call_echo, time.perf_counter
            times = []
            for i in range(n):
                payload = payloads[i % len(payloads)]
                begin = clock()
                found = await echo(payload)
                times.append(clock() - begin)
                check(found == payload)
            return times

        return self.loop.run(all_echoes())

    def flight(self, n: int) -> None:
        numbers = iter(range(n))

        async def one_after_the_other() -> None:
            add = self.call_add
            for i in numbers:
                check(await add(i, B) == i + B)

        async def all_of_them() -> None:
            await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT)))

        self.loop.run(all_of_them())


def play(subject: Rpc, kind: str, seconds: float) -> tuple[float, dict[str, float]]:
    """The client's side of a cell: its figure, and named extra figures."""
    until_there(subject.connect)
    if kind == "py-rpc-add-64":
        return _rate(subject, seconds)
    if kind == "py-rpc-add":
        return _trips(subject.adds, seconds)
    payloads = [os.urandom(subject.size) for _ in range(16)]
    return _trips(lambda n: subject.echoes(n, payloads), seconds)


def until_there(attempt: Callable[[], Any]) -> None:
    """Try until it works: some servers cannot say when they listen."""
    begin = time.monotonic()
    while True:
        try:
            attempt()
        except OSError:
            if time.monotonic() > begin + 5:
                raise
            time.sleep(0.01)
        else:
            return


def _trips(calls: Callable[[int], list[float]], seconds: float) -> tuple[float, dict[str, float]]:
    times: list[float] = []
    warm, slept = False, 0
    while True:
        times += calls(50)
        if not warm and sum(times) > 0.2 * seconds:
            warm, times, slept = True, [], sleeps()
        elif warm and sum(times) > seconds:
            break
    more = {"sleeps/call": (sleeps() - slept) / len(times)}
    times.sort()
    return statistics.median(times), {"p99 us": times[int(len(times) * 0.99)] * 1e6, **more}


def _rate(subject: Rpc, seconds: float) -> tuple[float, dict[str, float]]:
    n = 2 * IN_FLIGHT
    while True:
        slept, begin = sleeps(), time.perf_counter()
        subject.flight(n)
        spent = time.perf_counter() - begin
        # The rounds before the last one warm up and find how many calls fill the time.
        if spent >= 0.6 * seconds:
            return n / spent, {"sleeps/call": (sleeps() - slept) / n}
        n = max(n + 1, min(int(n * seconds / max(spent, 1e-6)), n * 50))
