"""What a verb returns and how it waits: the awaitable and its queue."""

from __future__ import annotations

import asyncio
import collections.abc
import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import ringspan
from awaits import Ends, Run, turns

Factory = Callable[[], asyncio.AbstractEventLoop]


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
