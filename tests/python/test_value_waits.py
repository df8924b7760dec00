"""Value under many tasks, threads and loops at once: nothing torn, nothing counted twice, nobody
forgotten."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Factory = Callable[[], asyncio.AbstractEventLoop]
SEED = int(os.environ.get("RINGSPAN_SEED", "1"))


@pytest.fixture
def value(name: str) -> Iterator[ringspan.Value]:
    with ringspan.Value(name) as value:
        yield value


@pytest.fixture
def hectic() -> Iterator[None]:
    """Lets threads change places all the time."""
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(old)


class Holder:
    """A thread that holds the turn among those who set, until `leave`."""

    def __init__(self, value: ringspan.Value) -> None:
        self._holds, self._leaves = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=value.blocking_update, args=(self._hold, 0))
        self._thread.start()
        assert self._holds.wait(20)

    def _hold(self, old: Any) -> Any:
        self._holds.set()
        assert self._leaves.wait(20)
        return old

    def leave(self) -> None:
        self._leaves.set()
        self._thread.join(20)


def threads_of(*targets: Callable[[], object]) -> None:
    """Runs all at once, and raises what one of them raised."""
    raised: list[BaseException] = []

    def run(target: Callable[[], object]) -> None:
        try:
            target()
        except BaseException as err:
            raised.append(err)

    threads = [threading.Thread(target=run, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_cancelled_setters_set_nothing(value: ringspan.Value, run: Run) -> None:
    dice = random.Random(SEED)

    async def main() -> None:
        finished = 0
        for _ in range(20):
            holder = Holder(value)
            updates = [asyncio.ensure_future(value.update(lambda n: n + 1)) for _ in range(10)]
            others = [asyncio.ensure_future(value.compare_and_set(-1, 0)) for _ in range(3)]
            watching = asyncio.ensure_future(value.changed())
            await asyncio.sleep(0.002)
            assert not any(task.done() for task in (*updates, *others, watching))
            gone = dice.sample([*updates, *others], 6)
            for task in gone:
                task.cancel()
            if dice.random() < 0.5:
                await asyncio.sleep(0)
            holder.leave()
            results = await asyncio.gather(*updates, *others, return_exceptions=True)
            for task, result in zip([*updates, *others], results, strict=True):
                if task in gone:
                    assert isinstance(result, asyncio.CancelledError)
                elif task in updates:
                    finished += 1
                else:
                    assert result is False
            assert value.get() == finished
            await watching
        assert value.try_set("the lock is free")

    run(main())
    assert value.stat().connections == 0


def test_time_outs_of_asyncio(value: ringspan.Value, run: Run) -> None:
    async def main() -> None:
        holder = Holder(value)
        for verb in (lambda: value.set(1), lambda: value.update(len), value.changed):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(verb(), 0.005)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await verb()
        with pytest.raises(ExceptionGroup, match="unhandled") as info:
            async with asyncio.TaskGroup() as group:
                group.create_task(value.set(1))
                group.create_task(value.changed())
                group.create_task(value.wait_for(lambda n: False))
                await asyncio.sleep(0.005)
                raise LookupError
        assert [type(err) for err in info.value.exceptions] == [LookupError]
        assert value.version == 0
        survivor = asyncio.ensure_future(value.set("survivor"))
        await asyncio.sleep(0.005)
        holder.leave()
        assert await survivor == 2

    run(main())


def test_tasks_take_turns_with_a_watch(value: ringspan.Value, run: Run) -> None:
    async def add(times: int) -> None:
        for _ in range(times):
            await value.update(lambda n: n + 1, 0)

    async def watch(until: int) -> list[int]:
        seen = []
        async for n in value:
            seen.append(n)
            if n == until:
                return seen
        raise AssertionError("it has no end")

    async def main() -> None:
        watching = [asyncio.ensure_future(watch(2000)) for _ in range(3)]
        await asyncio.gather(*(add(200) for _ in range(10)))
        for task in watching:
            seen = await task
            assert seen == sorted(set(seen)), "never backwards, never twice"

    run(main())


def test_two_loops_on_one_handle(value: ringspan.Value, loop_factory: Factory) -> None:
    async def play(me: int) -> None:
        for n in range(me, 600, 2):
            assert await value.wait_for(lambda now, n=n: now == n) == n
            await value.set(n + 1)

    def side(me: int) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(play(me))

    value.blocking_set(0)
    threads_of(lambda: side(0), lambda: side(1))
    assert value.get() == 600


def test_threads_and_loops_count_exactly(
    value: ringspan.Value, loop_factory: Factory, hectic: None
) -> None:
    total = 4 * 300 + 2 * 5 * 60

    async def add(times: int) -> None:
        for _ in range(times):
            await value.update(lambda n: n + 1)

    async def tasks() -> None:
        await asyncio.gather(*(add(60) for _ in range(5)), value.wait_for(lambda n: n == total))

    def loop() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(tasks())

    def block() -> None:
        for _ in range(300):
            value.blocking_update(lambda n: n + 1, timeout=25)

    def wait() -> None:
        assert value.blocking_wait_for(lambda n: n == total) == total

    value.blocking_set(0)
    threads_of(loop, loop, *[block] * 4, wait)
    assert value.get() == total
    assert value.version == total + 1


def test_eight_threads_on_one_handle(value: ringspan.Value, hectic: None) -> None:
    """Each value says how large it is, so that one torn or mixed is noticed."""
    left = [3]

    def grow(old: dict[str, Any]) -> dict[str, Any]:
        whole(old)
        n = old["n"] + 1
        return {"n": n, "fill": [n] * (n * 37 % 600)}

    def whole(got: dict[str, Any]) -> int:
        n: int = got["n"]
        assert got["fill"] == [n] * (n * 37 % 600)
        return n

    def update() -> None:
        for _ in range(400):
            value.blocking_update(grow)
        left[0] -= 1

    def read() -> None:
        last = 0
        while left[0]:
            n = whole(value.get())
            assert n >= last, "backwards"
            last = n

    def same_again() -> None:
        while left[0]:
            got = value.get()
            if value.blocking_compare_and_set(got, got):
                whole(got)

    def watch() -> None:
        value.blocking_wait_for(lambda got: whole(got) == 1200)

    value.blocking_set({"n": 0, "fill": []})
    threads_of(update, update, update, read, read, same_again, same_again, watch)
    assert whole(value.get()) == 1200


def test_large_values_of_changing_size_are_whole(value: ringspan.Value, hectic: None) -> None:
    """Copies beside the setters with the interpreter lock given back."""
    left = [2]
    noise = memoryview(bytes(range(256)) * 8000)

    def set_(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(150):
            size = dice.choice([dice.randrange(90_000, 120_000), dice.randrange(2_000_000)])
            value.blocking_set(noise[size % 256 : size].tobytes() + size.to_bytes(4, "little"))
        left[0] -= 1

    def read() -> None:
        while left[0]:
            for got in (value.get(), value.try_get(None)):
                if got is not None:
                    size = int.from_bytes(got[-4:], "little")
                    assert got[:-4] == noise[size % 256 : size]

    value.blocking_set(bytes(4))
    threads_of(lambda: set_(SEED), lambda: set_(SEED + 1), read, read, read)


def test_a_second_run_on_the_same_handle(value: ringspan.Value, loop_factory: Factory) -> None:
    other = ringspan.Value(value.name)

    async def wait(n: int) -> None:
        waiting = [asyncio.ensure_future(value.changed(n)) for _ in range(2)]
        waiting.append(asyncio.ensure_future(anext(aiter(value))) if n else waiting[0])
        await asyncio.sleep(0.005)
        other.try_set(n)
        await asyncio.gather(*waiting)

    for n in range(5):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(wait(n))
    assert (value.stat().connections, value.stat().attached) == (0, 2)
    other.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_is_closed_while_tasks_wait(value: ringspan.Value, loop_factory: Factory) -> None:
    kept: list[asyncio.Future[Any]] = []

    async def wait() -> None:
        kept.extend(
            asyncio.ensure_future(verb)
            for verb in (value.changed(), value.wait_for(lambda n: False), value.set("never"))
        )
        await asyncio.sleep(0.005)

    for _ in range(3):
        holder = Holder(value)
        loop = loop_factory()
        loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending"
        loop.run_until_complete(wait())
        loop.close()
        holder.leave()
        before = value.version
        assert value.blocking_set(1, timeout=20) == before + 1
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(value_set(value)) == before + 2
        kept.clear()
        del loop
        gc.collect()
        assert value.version == before + 2, "who never ran on has set nothing"
    with ringspan.Value(value.name) as other:
        assert other.try_set("the lock is free")
    assert (value.stat().connections, value.stat().pidfds) == (0, 0)


async def value_set(value: ringspan.Value) -> int:
    waiting = asyncio.ensure_future(value.changed())
    await asyncio.sleep(0)
    version = await value.set("the next loop")
    assert await waiting == version
    return version


def test_close_ends_the_waits_of_every_loop(value: ringspan.Value, loop_factory: Factory) -> None:
    holder = Holder(value)
    started = threading.Barrier(3)

    async def wait() -> None:
        verbs = [value.changed(), value.wait_for(bool), value.set(1), anext(aiter(value))]
        tasks = [asyncio.ensure_future(verb) for verb in verbs]
        await asyncio.sleep(0.01)
        started.wait(20)
        for task in tasks:
            with pytest.raises(ringspan.HandleClosed, match=value.name):
                await task

    def loop() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(wait())

    def close() -> None:
        started.wait(20)
        value.close()

    threads_of(loop, loop, close)
    holder.leave()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with CPython 3.12")
def test_eager_tasks(value: ringspan.Value) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        setting = asyncio.create_task(value.set(1))
        assert setting.done() and await setting == 1, "it never had to wait"
        waiting = asyncio.create_task(value.wait_for(lambda n: n == 3))
        updates = [asyncio.create_task(value.update(lambda n: n + 1)) for _ in range(2)]
        assert [await task for task in updates] == [2, 3]
        assert await waiting == 3

    asyncio.run(main())  # uvloop passes the factory what that of CPython 3.13 does not take
