"""What a verb returns and how it waits: the awaitable, its queue, its registration with loops."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import random
import sys
import threading
import time
import types
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Ends = tuple[ringspan.Producer, ringspan.Consumer]
Factory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def ends(name: str) -> Iterator[Ends]:
    ring = ringspan.Ring(name, capacity=1 << 16)
    with ring.producer() as tx, ring.consumer() as rx:
        yield tx, rx


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_is_a_coroutine_that_does_nothing_before_the_await(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        popped: Any = rx.pop()
        assert popped.__name__ == popped.__qualname__ == "Consumer.pop"
        assert isinstance(popped, collections.abc.Coroutine)
        assert asyncio.iscoroutine(popped)
        assert "not awaited yet" in repr(popped)
        pushed = tx.push("late")
        assert rx.try_pop(None) is None
        tx.try_push("early")
        assert await popped == "early"
        assert "finished" in repr(popped)
        await pushed
        assert rx.try_pop() == "late"

    run(go())


def test_a_ready_await_does_not_give_up_the_loop(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        ran: list[int] = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        await tx.push([1, 2])
        assert await rx.pop() == [1, 2]
        assert ran == []

    run(go())


def test_asyncio_takes_it_everywhere(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        first = asyncio.create_task(rx.pop())
        second = asyncio.ensure_future(rx.pop())
        await turns(2)
        assert "Consumer.pop" in repr(first)
        await asyncio.gather(tx.push(1), tx.push(2))
        assert list(await asyncio.gather(first, second)) == [1, 2]
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(rx.pop(), 0.001)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await rx.pop()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(rx.pop()) for _ in range(3)]
            for value in range(3):
                group.create_task(tx.push(value))
        assert [task.result() for task in tasks] == [0, 1, 2]

    run(go())


if sys.version_info >= (3, 12):  # eager tasks came with it

    def test_eager_tasks(ends: Ends, run: Run) -> None:
        tx, rx = ends

        async def go() -> None:
            loop = asyncio.get_running_loop()

            # The task itself: not every loop passes the wish of an eager factory on.
            def eager(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
                return asyncio.Task(coroutine, loop=loop, eager_start=True)  # type: ignore[call-arg, unused-ignore]

            await tx.push("there")
            ready = eager(rx.pop())
            assert ready.done()
            assert ready.result() == "there"
            waiting = eager(rx.pop())
            assert not waiting.done()
            await tx.push("came")
            assert await waiting == "came"

        run(go())


def test_single_use(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        tx.try_push(1)
        popped = rx.pop()
        assert await popped == 1
        with pytest.raises(RuntimeError, match=r"Consumer\.pop\(\) was awaited already"):
            await popped
        with pytest.raises(RuntimeError, match="awaited already"):
            popped.send(None)
        popped = rx.pop()
        task = asyncio.create_task(popped)
        await turns(2)
        with pytest.raises(RuntimeError, match="awaited already"):
            await popped
        tx.try_push(2)
        assert await task == 2

    run(go())


def test_send_throw_and_close_by_hand(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        for value in ([1, "a"], "text", 5, None):
            tx.try_push(value)
            with pytest.raises(StopIteration) as stopped:
                rx.pop().send(None)
            assert stopped.value.value == value
        with pytest.raises(StopIteration) as stopped:
            tx.push("kept").send(None)
        assert stopped.value.value is None
        assert rx.try_pop() == "kept"
        for how in ((ValueError("told"),), (ValueError, "told"), (ValueError, ValueError("told"))):
            for parked in (False, True):
                popped = rx.pop()
                if parked:
                    assert asyncio.isfuture(popped.send(None))
                with pytest.raises(ValueError, match="told"):
                    popped.throw(*how)
                with pytest.raises(RuntimeError, match="awaited already"):
                    await popped
        parked_by_hand: Any = rx.pop()
        parked_by_hand.send(None)
        parked_by_hand.close()
        parked_by_hand.close()
        fresh: Any = rx.pop()
        with pytest.raises(TypeError):
            fresh.throw()
        fresh.close()
        tx.try_push("still there")
        assert await rx.pop() == "still there"

    run(go())


def test_first_come_first_served_also_after_cancels(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go() -> None:
        order: list[tuple[int, Any]] = []

        async def one(number: int) -> None:
            order.append((number, await rx.pop()))

        tasks = [asyncio.create_task(one(number)) for number in range(8)]
        await turns(2)
        for number in (0, 3, 7):
            tasks[number].cancel()
        for value in range(5):
            tx.try_push(value)
        # One that comes later, with messages there, does not overtake those who wait.
        late = asyncio.create_task(one(8))
        await turns(1)
        tx.try_push(5)
        await asyncio.gather(late, *tasks, return_exceptions=True)
        assert order == [(1, 0), (2, 1), (4, 2), (5, 3), (6, 4), (8, 5)]

    run(go())


def test_a_task_cancelled_after_its_wake_hands_it_on(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def go(between: int) -> None:
        first = asyncio.create_task(rx.pop())
        second = asyncio.create_task(rx.pop())
        await turns(2)
        tx.try_push("only one")
        await turns(between)
        if first.cancel():
            assert await second == "only one"
            with pytest.raises(asyncio.CancelledError):
                await first
        else:
            assert first.result() == "only one"
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
        tx.try_push("next")
        assert await rx.pop() == "next"

    for between in range(12):
        run(go(between))


def test_a_cancelled_push_publishes_nothing(name: str, run: Run) -> None:
    ring = ringspan.Ring(name, capacity=4096)

    async def go() -> None:
        with ring.producer() as tx, ring.consumer() as rx:
            sent = 0
            while tx.try_push(b"x" * 500):
                sent += 1
            doomed = asyncio.create_task(tx.push(b"z" * 500))
            behind = asyncio.create_task(tx.push(b"y" * 500))
            await turns(3)
            doomed.cancel()
            assert [await rx.pop() for _ in range(sent)] == [b"x" * 500] * sent
            assert await rx.pop() == b"y" * 500
            await behind
            assert rx.try_pop(None) is None

    run(go())


def test_nothing_is_lost_to_time_outs(name: str, run: Run, child: Callable[..., Any]) -> None:
    count = 3000
    code = """
        import asyncio, sys, ringspan
        async def go():
            async with ringspan.Producer(sys.argv[1]) as tx:
                for number in range(int(sys.argv[2])):
                    await tx.push(number)
        asyncio.run(go())
        """
    dice = random.Random(7)

    async def go() -> None:
        got: list[int] = []

        async def eat(rx: ringspan.Consumer) -> None:
            while len(got) < count:
                try:
                    async with asyncio.timeout(dice.choice([0, 0.0001, 0.001])):
                        got.append(await rx.pop())
                except TimeoutError:
                    continue

        with ringspan.Consumer(name, capacity=4096) as rx:
            other = child(code, name, count)
            eaters = [asyncio.create_task(eat(rx)) for _ in range(4)]
            await asyncio.wait(eaters, return_when=asyncio.FIRST_COMPLETED)
            for eater in eaters:
                eater.cancel()
            await asyncio.gather(*eaters, return_exceptions=True)
            other.process.wait()
        assert got == list(range(count))

    run(go())


def test_two_processes_sleep_and_wake_each_other(
    name: str, run: Run, child: Callable[..., Any]
) -> None:
    code = """
        import asyncio, sys, ringspan
        async def go():
            async with ringspan.Consumer(sys.argv[1] + "-there") as rx:
                async with ringspan.Producer(sys.argv[1] + "-back") as tx:
                    async for number in rx:
                        await tx.push(number + 1)
        asyncio.run(go())
        """

    async def go() -> None:
        with ringspan.Producer(name + "-there") as tx, ringspan.Consumer(name + "-back") as rx:
            other = child(code, name)
            for number in range(300):
                await tx.push(number)
                assert await rx.pop() == number + 1
            before = rx.stat()
            waiting = asyncio.create_task(rx.pop())
            await asyncio.sleep(0.05)
            # It sleeps: it does not look again and again.
            assert rx.stat().parks <= before.parks + 2
            tx.close()
            with pytest.raises(ringspan.Closed):
                await waiting
            other.process.wait()

    run(go())


def test_a_killed_peer_ends_the_wait(name: str, run: Run, child: Callable[..., Any]) -> None:
    code = """
        import sys, time, ringspan
        tx = ringspan.Producer(sys.argv[1])
        tx.try_push("last words")
        print("pushed", flush=True)
        time.sleep(60)
        """

    async def go() -> None:
        with ringspan.Consumer(name) as rx:
            other = child(code, name)
            assert await rx.pop() == "last words"
            tasks = [asyncio.create_task(rx.pop()) for _ in range(2)]
            await turns(3)
            other.process.kill()
            with pytest.raises(ringspan.PeerDied):
                await tasks[0]
            # Told once: the other one goes on waiting, for the next producer.
            with ringspan.Producer(name) as tx:
                tx.try_push("a new one")
                assert await tasks[1] == "a new one"

    run(go())


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
