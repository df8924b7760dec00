"""Serving from asyncio: every kind of handler, how many run, how it ends."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ringspan

Run = Callable[[Any], Any]


class Calculator:
    """Methods, and an object that can be called."""

    def __init__(self, base: int) -> None:
        self.base = base

    def add(self, n: int) -> int:
        return self.base + n

    async def add_late(self, n: int) -> int:
        await asyncio.sleep(0)
        return self.base + n

    async def with_context(self, n: int, ctx: ringspan.Context, more: int = 0) -> list[Any]:
        return [self.base + n + more, ctx.caller_uid >= 0]

    async def __call__(self, n: int) -> int:
        return self.base * n


async def first(ctx: ringspan.Context, a: int, *, b: int = 0) -> list[Any]:
    return [ctx.remaining, ctx.cancelled, a, b]


async def last(a: int, b: int = 2, *, ctx: ringspan.Context) -> list[int]:
    assert ctx.caller_pid > 0 and "Context" in repr(ctx)
    return [a, b]


async def items(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


def plain_items(n: int) -> Iterator[int]:
    yield from range(n)


def test_every_kind_of_handler(run: Run, name: str) -> None:
    service, calculator = ringspan.Service(name), Calculator(10)
    for kind, handler in {
        "bound": calculator.add,
        "bound_late": calculator.add_late,
        "object": calculator,
        "context": calculator.with_context,
        "partial": functools.partial(pow, 2),
        "partial_late": functools.partial(calculator.add_late),
        "builtin": len,
        "a_class": complex,
        "first": first,
        "last": last,
        "items": items,
        "plain_items": plain_items,
        "partial_items": functools.partial(plain_items, 3),
    }.items():
        service.method(name=kind)(handler)
    service.method(name="inline", inline=True)(calculator.add)

    @service.method
    def thread() -> str:
        return threading.current_thread().name

    async def main() -> None:
        async with service:
            f = await ringspan.connect(name)
            assert await f.bound(1) == await f.bound_late(1) == await f.inline(1) == 11
            assert await f.partial_late(2) == 12
            assert await f.object(3) == 30
            assert await f.context(1) == [11, True]
            assert await f.context(1, 5) == await f.context(1, more=5) == [16, True]
            assert await f.context(n=1, more=5) == [16, True]
            assert await f.partial(5) == 32
            assert await f.builtin("four") == 4
            assert await f.a_class(1, 2) == 1 + 2j
            assert await f.first(7) == [None, False, 7, 0]
            assert await f.first(7, b=1) == await f.first(a=7, b=1) == [None, False, 7, 1]
            assert await f.last(1) == [1, 2]
            assert await f.last(1, b=3, ctx="mine") == [1, 3]
            for stream in (f.items, f.plain_items):
                assert [i async for i in stream.stream(50)] == list(range(50))
            assert [i async for i in f.partial_items.stream()] == [0, 1, 2]
            assert await f.thread() == await f.thread() == "ringspan worker"
            with pytest.raises(TypeError, match="missing"):
                await f.first()
            with pytest.raises(TypeError):
                await f.items(3)
            with pytest.raises(TypeError):
                [i async for i in f.bound.stream(3)]

    run(main())


def test_what_cannot_be_served() -> None:
    service = ringspan.Service("/x")
    service.method(abs)
    with pytest.raises(ValueError, match="abs"):
        service.method(abs)
    with pytest.raises(TypeError, match="inline"):
        service.method(inline=True, name="late")(first)
    with pytest.raises(ringspan.InvalidOption, match="no such limit"):
        ringspan.Service("/x", max_conurrency=3)
    with pytest.raises(TypeError):
        ringspan.serve()
    with pytest.raises(TypeError, match="int"):
        ringspan.serve(3)  # type: ignore[arg-type]
    assert service.memory_per_client > 64 << 20
    assert ringspan.Service("/y", max_message=1 << 20, max_inflight_bytes=1 << 20)
    assert service.stats().calls == 0 and "abs" in repr(service)


def test_a_function_stays_what_it_is(run: Run, name: str) -> None:
    @ringspan.function(name, inline=True)
    def double(n: int) -> int:
        """Doubles."""
        return 2 * n

    assert double(4) == 8 and double.__doc__ == "Doubles." and name in repr(double)

    async def main() -> None:
        for _ in range(2):
            async with ringspan.serve(double) as serving:
                assert await ringspan.call(name, 5) == 10
                with pytest.raises(ringspan.RoleTaken, match=name):
                    await ringspan.serve(double).__aenter__()
                assert serving.stats().calls == 1

    run(main())


def test_concurrency_is_bounded_and_the_queue_has_deadlines(run: Run, name: str) -> None:
    service, ran, most = ringspan.Service(name, max_concurrency=1), list[Any](), [0, 0]

    @service.method
    async def work(what: Any, seconds: float = 0.0) -> Any:
        most[0] += 1
        most[1] = max(most)
        ran.append(what)
        await asyncio.sleep(seconds)
        most[0] -= 1
        return what

    async def main() -> None:
        async with service:
            f = await ringspan.connect(name)
            long = f.work("long", 0.15)
            queued = f.work("cancelled")
            with pytest.raises(ringspan.Timeout):
                await f.work.options(timeout=0.03)("expired")
            queued.cancel()
            assert await asyncio.gather(long, *(f.work(n) for n in range(20))) == [
                "long",
                *range(20),
            ]
            assert ran == ["long", *range(20)] and most[1] == 1

    run(main())


def test_threads_run_one_after_another_and_hear_of_cancelling(run: Run, name: str) -> None:
    service, at_once, heard = ringspan.Service(name), [0, 0], list[Any]()

    @service.method
    def work(n: int) -> int:
        at_once[0] += 1
        at_once[1] = max(at_once)
        time.sleep(0.001)
        at_once[0] -= 1
        return n

    @service.method
    def long(ctx: ringspan.Context) -> None:
        heard.append("began")
        while not ctx.cancelled:
            time.sleep(0.001)
        heard.append("ended")

    @service.method
    def endless(ctx: ringspan.Context) -> Iterator[int]:
        try:
            n = 0
            while True:
                yield n
                n += 1
        finally:
            heard.append("closed")

    async def main() -> None:
        async with service:
            f = await ringspan.connect(name)
            assert await asyncio.gather(*map(f.work, range(50))) == list(range(50))
            assert at_once[1] == 1
            with pytest.raises(ringspan.Timeout):
                await f.long.options(timeout=0.03)()
            assert await f.work(1) == 1
            assert heard == ["began", "ended"]
            stream = f.endless.stream()
            assert [await anext(stream) for _ in range(40)] == list(range(40))
            await stream.aclose()
            while "closed" not in heard:  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0.001)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(main())


def test_a_slow_reader_slows_the_handler(run: Run, name: str) -> None:
    made, closed = [0], list[str]()
    service = ringspan.Service(name)

    @service.method
    async def ticks() -> AsyncIterator[bytes]:
        try:
            while True:
                made[0] += 1
                yield bytes(1000)
        finally:
            closed.append("yes")

    async def main() -> None:
        async with service:
            f = await ringspan.connect(name)
            stream = f.ticks.stream()
            await anext(stream)
            await asyncio.sleep(0.1)
            before = made[0]
            await asyncio.sleep(0.1)
            assert made[0] == before < 5000
            waiting = anext(stream)
            await waiting
            del stream, waiting
            gc.collect()
            while not closed:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    run(main())


def test_it_drains_and_frees_its_name_at_once(run: Run, name: str) -> None:
    def made(answer: str) -> ringspan.Service:
        service = ringspan.Service(name)

        @service.method
        async def who(seconds: float = 0) -> str:
            await asyncio.sleep(seconds)
            return answer

        return service

    async def main() -> None:
        one, two = made("one"), made("two")
        await one.__aenter__()
        f = await ringspan.connect(name)
        kept, lost = f.who(0.1), f.who(100)
        assert await f.who() == "one"
        stopping = asyncio.create_task(one.stop(0.4))
        await asyncio.sleep(0.02)
        async with two:
            assert await f.who() == "two"
            assert await kept == "one"
            with pytest.raises((ringspan.Disconnected, ringspan.RemoteError)):
                await lost
            await stopping
            assert await f.who() == "two"
            assert one.stats().in_flight == 0
            with pytest.raises(RuntimeError, match="before"):
                await one.__aenter__()

    run(main())


def test_it_calls_itself_and_another_in_one_process(run: Run, name: str) -> None:
    one, two = ringspan.Service(name), ringspan.Service(f"{name}-2")

    @one.method
    async def fib(n: int) -> int:
        f = ringspan.Client(name) if n > 8 else client[0]
        return n if n < 2 else sum(await asyncio.gather(f.fib(n - 1), f.fib(n - 2)))

    @two.method
    async def double(n: int) -> int:
        return 2 * await client[0].fib(n)

    client: list[Any] = []

    async def main() -> None:
        async with ringspan.serve(one, two) as serving:
            client.append(await ringspan.connect(name))
            assert await ringspan.Client(f"{name}-2").double(10) == 110
            assert {info.name for info in ringspan.segments() if info.kind == "function"} >= {
                name,
                f"{name}-2",
            }
            ringspan.remove(name)
            ringspan.remove(f"{name}-2")
            await serving.serve_forever()

    run(main())


def test_nothing_is_kept_after_many_calls(run: Run, name: str) -> None:
    service = ringspan.Service(name)

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    @service.method
    async def later(a: int) -> int:
        await asyncio.sleep(0)
        return a

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def objects() -> int:
        gc.collect()
        kinds = (ringspan.Call, asyncio.Task)
        return sum(isinstance(one, kinds) for one in gc.get_objects())

    async def main() -> None:
        async with service:
            f = await ringspan.connect(name)
            await asyncio.gather(*(f.later(n) for n in range(300)))
            before, fds, blocks = objects(), descriptors(), sys.getallocatedblocks()
            for n in range(4000):
                assert await f.add(n, 1) == n + 1
            for n in range(0, 6000, 300):
                await asyncio.gather(*(f.later(n) for n in range(n, n + 300)))
            del n
            assert (objects(), descriptors()) == (before, fds)
            assert sys.getallocatedblocks() - blocks < 2000
            kept = weakref.ref(f.add(1, 2))
            assert kept() is None
            call = f.later(3)
            kept = weakref.ref(call)
            assert await call == 3
            del call
            await asyncio.sleep(0)  # so far it was its own callback that went on here
            gc.collect()
            assert kept() is None

    run(main())


@pytest.mark.parametrize("awake", [True, False])
def test_an_idle_server_sleeps(run: Run, name: str, awake: bool) -> None:
    service = ringspan.Service(name, stay_awake=awake)

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    def call() -> None:
        f = ringspan.blocking_connect(name)
        assert [f.add(n, 1) for n in range(500)] == [*range(1, 501)]

    async def main() -> None:
        loop, turns = asyncio.get_running_loop(), 0
        async with service:
            await loop.run_in_executor(None, call)
            while True:  # until nothing turns the loop for a while but ourselves
                before = time.thread_time()
                await asyncio.sleep(0.2)
                turns += 1
                if time.thread_time() - before < 0.005:
                    break
        assert turns < 50

    run(main())


def test_a_closed_loop_holds_no_server_alive(loop_factory: Any, name: str) -> None:
    service = ringspan.Service(name)
    service.method(abs)
    loop = loop_factory()
    loop.run_until_complete(service.__aenter__())

    async def use() -> ringspan.Client:
        client = await ringspan.connect(name)
        assert await client.abs(-3) == 3
        return client

    client = loop.run_until_complete(use())
    loop.close()
    native = weakref.ref(service._server)
    del service, client
    gc.collect()
    assert native() is None
    with pytest.raises((ringspan.NotFound, ringspan.NotServed)):
        ringspan.blocking_call(name)
