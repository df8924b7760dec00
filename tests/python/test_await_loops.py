"""How an await waits in its loop: turns, registration, closed loops, other threads, collection."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ringspan
from awaits import Ends, Run, turns

Factory = Callable[[], asyncio.AbstractEventLoop]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_others_get_their_turn(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        tick = 0

        async def ticking() -> None:
            nonlocal tick
            while True:
                tick += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(ticking())
        for _ in range(3000):
            await tx.push(1)
            await rx.pop()
        other.cancel()
        assert tick >= 10

    run(go())


def test_without_a_loop_it_says_so(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    tx, rx = ends
    tx.try_push("stays")
    with pytest.raises(RuntimeError, match=r"Consumer\.pop: .* running asyncio loop"):
        rx.pop().send(None)
    trio = types.SimpleNamespace(lowlevel=types.SimpleNamespace(current_trio_token=object))
    monkeypatch.setitem(sys.modules, "trio", trio)  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(RuntimeError, match=r"this is trio; call the blocking_ verb"):
        rx.pop().send(None)
    assert rx.try_pop() == "stays"


def test_a_loop_without_add_reader_says_so(ends: Ends) -> None:
    _, rx = ends

    class Proactor(asyncio.SelectorEventLoop):
        def add_reader(self, *args: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    async def go() -> None:
        with pytest.raises(NotImplementedError, match="pyo3-async-runtimes"):
            await rx.pop()

    with asyncio.Runner(loop_factory=Proactor) as runner:
        runner.run(go())


def test_one_loop_after_the_other(ends: Ends, loop_factory: Factory) -> None:
    tx, rx = ends

    async def waited(value: object) -> None:
        task = asyncio.create_task(rx.pop())
        await turns(3)
        tx.try_push(value)
        assert await task == value

    before = descriptors()
    for number in range(5):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(waited(number))
            runner.run(waited(-number))
    gc.collect()
    assert descriptors() <= before + 16  # poll sets and doorbells of two ends; not one per loop


def test_a_loop_closed_over_a_waiting_task(ends: Ends, loop_factory: Factory) -> None:
    tx, rx = ends

    async def waited(value: object) -> object:
        asyncio.get_running_loop().call_later(0.01, tx.try_push, value)
        return await rx.pop()

    old = loop_factory()
    abandoned = old.create_task(rx.pop())
    old.run_until_complete(turns(3))
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        with pytest.raises(RuntimeError, match="another event loop"):
            runner.run(waited("not taken"))
        time.sleep(0.02)
        runner.run(turns(3))
        while rx.try_pop(None) is not None:
            pass
        old.close()
        assert runner.run(waited("taken")) == "taken"
    abandoned._log_destroy_pending = False  # type: ignore[attr-defined]
    del abandoned
    gc.collect()


def test_a_waiting_task_keeps_other_threads_out(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        raised: list[BaseException] = []

        def elsewhere() -> None:
            verbs: tuple[Callable[[], Any], ...] = (
                rx.try_pop,
                lambda: rx.blocking_pop(timeout=0),
            )
            for verb in verbs:
                try:
                    verb()
                except BaseException as err:
                    raised.append(err)

        task = asyncio.create_task(rx.pop())
        await turns(3)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert [type(err) for err in raised] == [RuntimeError, RuntimeError]
        assert all(threading.current_thread().name in str(err) for err in raised)
        tx.try_push("mine")
        assert await task == "mine"

    run(go())


def test_closing_wakes_whoever_waits(name: str, run: Run) -> None:
    async def go() -> None:
        rx = ringspan.Consumer(name)
        tasks = [asyncio.create_task(rx.pop()) for _ in range(3)]
        await turns(3)
        rx.close()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, Exception)
            assert "closed" in str(outcome)

    run(go())


def test_the_loop_keeps_nothing_alive(name: str, run: Run) -> None:
    async def once(number: int) -> None:
        ring = ringspan.Ring(f"{name}-{number}")
        with ring.producer() as tx:
            rx = ring.consumer()
            task = asyncio.create_task(rx.pop())
            await turns(3)
            tx.try_push(1)
            await task
            del rx, task
            gc.collect()
            ring.consumer().detach()  # the role is free

    async def go() -> None:
        await once(0)
        before = descriptors()
        for number in range(1, 6):
            await once(number)
        assert descriptors() == before

    run(go())


def test_a_waiting_task_in_a_cycle_is_collected(name: str, run: Run) -> None:
    async def go() -> None:
        async def wait(rx: ringspan.Consumer) -> None:
            await rx.pop()

        def tie() -> None:
            coroutine = wait(ringspan.Consumer(name))
            future = coroutine.send(None)
            # A cycle: future, callback, coroutine, awaitable, future.
            future.add_done_callback(lambda _: coroutine.close())

        tie()
        with pytest.raises(ringspan.RoleTaken):
            ringspan.Consumer(name)
        gc.collect()
        ringspan.Consumer(name).detach()  # the role is free

    run(go())


def test_blocking_beside_waiting_tasks_loses_no_wake(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        task = asyncio.create_task(rx.pop())
        await turns(3)
        tx.try_push(1)
        tx.try_push(2)
        assert rx.blocking_pop(timeout=10) == 1
        assert await task == 2

    run(go())


def test_a_crash_is_told_once_also_when_its_successor_came_and_went(
    name: str, child: Callable[..., Any]
) -> None:
    code = """
        import sys, ringspan
        tx = ringspan.Producer(sys.argv[1])
        tx.try_push("met")
        tx.try_push("unread")
        print("pushed", flush=True)
        input()
        """
    with ringspan.Consumer(name) as rx:
        first = child(code, name)
        assert rx.blocking_pop(timeout=20) == "met"
        first.process.kill()
        first.process.wait()
        with ringspan.Producer(name) as tx:
            tx.try_push("of the successor")
        assert rx.try_pop() == "unread"
        with pytest.raises(ringspan.PeerDied):
            rx.try_pop()
        assert rx.try_pop() == "of the successor"
        with pytest.raises(ringspan.Closed):
            rx.try_pop()
        for _ in range(3):
            with pytest.raises((ringspan.Empty, ringspan.Closed)):
                rx.try_pop()
