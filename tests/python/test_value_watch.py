"""Value: waiting for a change. Asyncio and blocking, time-outs, Ctrl-C, `async for`."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def value(name: str) -> Iterator[ringspan.Value]:
    with ringspan.Value(name) as value:
        yield value


def test_changed_since(value: ringspan.Value, run: Run) -> None:
    async def changes() -> None:
        assert value.blocking_set("a") == 1
        assert await value.changed(since=0) == value.blocking_changed(0) == 1
        assert await value.changed(since=99) == 1, "any other version"
        latest = asyncio.ensure_future(value.changed())
        since = [asyncio.ensure_future(value.changed(1)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not latest.done() and not any(task.done() for task in since)
        value.try_set("a")
        assert await asyncio.gather(latest, *since) == [2] * 4
        unstarted = value.changed()
        value.try_set("b")
        waiting = asyncio.ensure_future(unstarted)
        await asyncio.sleep(0.01)
        assert not waiting.done(), "it counts from when it is awaited"
        value.try_set("c")
        assert await waiting == 4

    run(changes())
    for bad in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            value.changed(bad)
    with pytest.raises(TypeError):
        value.changed("1")  # type: ignore[arg-type]


def test_wait_for_looks_at_each_change(value: ringspan.Value, run: Run) -> None:
    seen: list[int] = []

    def wanted(n: int) -> bool:
        seen.append(n)
        return n >= 3

    async def wait() -> None:
        waiting = asyncio.ensure_future(value.wait_for(wanted))
        for n in range(1, 6):
            value.try_set(n)
            await asyncio.sleep(0.005)
        assert await waiting == 3
        assert seen == [1, 2, 3]
        assert await value.wait_for(lambda n: n == 5) == 5
        assert value.blocking_wait_for(lambda n: "truthy") == 5

    run(wait())


def test_a_predicate_that_raises_ends_the_wait(value: ringspan.Value, run: Run) -> None:
    async def wait() -> None:
        waiting = asyncio.ensure_future(value.wait_for(lambda n: 1 / n))
        await asyncio.sleep(0.01)
        value.try_set(0)
        with pytest.raises(ZeroDivisionError):
            await waiting
        never = asyncio.ensure_future(value.wait_for(lambda n: n < 0))
        for n in range(5):
            value.try_set(n)
            await asyncio.sleep(0.002)
        assert not never.done()
        never.cancel()
        with pytest.raises(asyncio.CancelledError):
            await never
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await value.wait_for(lambda n: False)

    run(wait())
    with pytest.raises(ZeroDivisionError):
        value.blocking_wait_for(lambda n: 1 / (n - 4))
    assert value.stat().connections == value.stat().pidfds == 0


def test_a_predicate_that_sets_does_not_keep_the_loop(value: ringspan.Value, run: Run) -> None:
    turns: list[int] = []

    async def wait() -> None:
        value.try_set(0)
        waiting = asyncio.ensure_future(value.wait_for(lambda n: not value.try_set(n + 1)))
        while len(turns) < 100:
            await asyncio.sleep(0)
            turns.append(value.version)
        assert turns[-1] > turns[0] + 100
        waiting.cancel()

    run(wait())


def test_time_outs(value: ringspan.Value) -> None:
    for verb in (value.blocking_changed, lambda **o: value.blocking_wait_for(bool, **o)):
        for timeout in (0, 0.01):
            with pytest.raises(ringspan.Timeout, match=value.name) as info:
                verb(timeout=timeout)
            assert isinstance(info.value, TimeoutError)
        for bad in (-1, math.nan):
            with pytest.raises(ValueError, match="timeout"):
                verb(timeout=bad)
        with pytest.raises(TypeError, match="timeout"):
            verb(timeout="1")
    holding, leave = threading.Event(), threading.Event()

    def hold(old: int) -> int:
        holding.set()
        assert leave.wait(20)
        return old + 1

    value.blocking_set(0)
    thread = threading.Thread(target=value.blocking_update, args=(hold,))
    thread.start()
    assert holding.wait(20)
    assert value.get() == 0, "readers do not wait"
    assert value.try_set(5) is False
    with ringspan.Value(value.name) as other:
        for handle in (value, other):
            for block, args in (
                (handle.blocking_set, (5,)),
                (handle.blocking_update, (hold,)),
                (handle.blocking_compare_and_set, (0, 5)),
            ):
                with pytest.raises(ringspan.Timeout, match=str(os.getpid())):
                    block(*args, timeout=0.01)
    leave.set()
    assert value.blocking_set(7, timeout=20) == 3
    thread.join(20)
    assert value.get() == 7


@pytest.mark.parametrize("verb", ["changed(0)", "wait_for(bool)", "set(1)", "update(len)"])
def test_ctrl_c_ends_every_blocking_verb(name: str, child: Callable[..., Any], verb: str) -> None:
    value = ringspan.Value(name)
    process = child(
        f"""
        import sys, ringspan
        value = ringspan.Value(sys.argv[1])
        while True:
            try:
                print("waits", flush=True)
                print(value.blocking_{verb}, flush=True)
                break
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        """,
        name,
    )

    def interrupt(old: str) -> str:
        for n in range(100):
            process.expect("waits")
            time.sleep(n % 10 * 0.0003)  # before, in and after the way to sleep
            process.kill(signal.SIGINT)
            process.expect("interrupted")
        process.expect("waits")
        return "four"

    # Those who set wait for this update; the others for what it sets.
    assert value.blocking_update(interrupt, "") == "four"
    process.expect({"changed(0)": "1", "wait_for(bool)": "four", "set(1)": "2"}.get(verb, "4"))
    process.finish()
    value.close()


def test_ctrl_c_ends_a_wait_that_never_sleeps(name: str, child: Callable[..., Any]) -> None:
    setter = child(
        """
        import sys, threading, ringspan
        stop = threading.Event()
        threading.Thread(target=lambda: (input(), stop.set())).start()
        with ringspan.Value(sys.argv[1]) as value:
            while not stop.is_set():
                value.blocking_set(0)
        """,
        name,
    )
    process = child(
        """
        import operator, sys, ringspan
        value = ringspan.Value(sys.argv[1])
        value.blocking_changed(since=0)
        try:
            print("waits", flush=True)
            value.blocking_wait_for(operator.truth)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        name,
    )
    process.expect("waits")
    process.kill(signal.SIGINT)
    process.expect("interrupted")
    process.finish()
    setter.say()
    setter.finish()


def test_async_for_gives_the_newest_only(value: ringspan.Value, run: Run) -> None:
    seen: list[int] = []

    async def watch() -> None:
        async for n in value:
            seen.append(n)
            await asyncio.sleep(0.005)

    async def main() -> None:
        value.try_set("first")
        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0)
        for n in range(100):
            value.try_set(n)
        while seen[-1:] != [99]:  # noqa: ASYNC110 - the other task appends
            await asyncio.sleep(0.001)
        assert seen == ["first", 99]
        await asyncio.sleep(0.02)
        assert not watching.done()
        value.close()
        with pytest.raises(ringspan.HandleClosed, match=value.name):
            await watching

    run(main())


def test_a_watch_tells_once_of_what_it_cannot_read(value: ringspan.Value, run: Run) -> None:
    async def main() -> None:
        watch = aiter(value)
        assert aiter(watch) is watch
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.01)
        with ringspan.Value(value.name, pickle=True) as trusting:
            trusting.blocking_set(int)
            with pytest.raises(ringspan.CodecError):
                await waiting
            again = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0.01)
            assert not again.done()
            trusting.blocking_set(1)
            assert await again == 1

    run(main())


def test_an_idle_handle_holds_no_descriptors(name: str, value: ringspan.Value, run: Run) -> None:
    with ringspan.Value(name) as other:

        async def wait() -> None:
            waiting = asyncio.ensure_future(value.changed())
            watching = asyncio.ensure_future(anext(aiter(value)))
            while value.stat().connections == 0:  # noqa: ASYNC110 - the other tasks park
                await asyncio.sleep(0.001)
            waiting.cancel()
            await asyncio.sleep(0.01)
            assert value.stat().connections == 1, "one still waits"
            other.try_set(1)
            assert await watching == 1

        assert (value.stat().connections, value.stat().pidfds) == (0, 0)
        run(wait())
        gc.collect()
        stat = value.stat()
        assert (stat.attached, stat.connections, stat.pidfds) == (2, 0, 0)
        assert stat.parks >= 1
        assert other.stat().rings >= 1
