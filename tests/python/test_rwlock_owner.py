"""The lock: whose a guard is (who entered its block), and how a block is left."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Factory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def lock(name: str) -> Iterator[ringspan.RwLock]:
    with ringspan.RwLock(name, 64) as made:
        yield made


def test_a_thread_of_a_pool_takes_guards_for_others(lock: ringspan.RwLock, run: Run) -> None:
    """The one thread of the pool took all guards, and none of them is its."""

    async def use(pool: ThreadPoolExecutor, times: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(times):
            guard = await loop.run_in_executor(pool, lock.blocking_write, 20)
            with guard as buf:
                buf[0] += 1
                await asyncio.sleep(0)

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(use(pool, 10))

    run(main())
    assert lock.blocking_read().view[0] == 40


def test_a_guard_that_nobody_entered_is_nobodys(lock: ringspan.RwLock, run: Run) -> None:
    async def main() -> None:
        queue = asyncio.Queue[ringspan.Guard]()

        async def give_back() -> None:
            guard = await queue.get()
            while not lock.stat().parks:  # noqa: ASYNC110 - counted by the lock
                await asyncio.sleep(0)
            guard.release()

        task = asyncio.ensure_future(give_back())
        await queue.put(await lock.write())
        async with lock.write():
            pass
        await task

    run(main())
    guard = lock.blocking_write()
    with pytest.raises(ringspan.Timeout):
        lock.blocking_write(0)
    thread = threading.Timer(0.02, guard.release)
    thread.start()
    with lock.blocking_write(20):
        pass
    thread.join()


def test_whoever_enters_is_the_owner(lock: ringspan.RwLock, run: Run) -> None:
    guard = lock.blocking_write()

    async def main() -> None:
        with guard:
            with pytest.raises(ringspan.WouldDeadlock, match="this task"):
                await lock.write()
            with guard, pytest.raises(ringspan.WouldDeadlock):  # once more, and still one owner
                lock.blocking_read()
        async with lock.write():
            pass
        with (
            await asyncio.wait_for(lock.write(), 20),
            pytest.raises(ringspan.WouldDeadlock, match="this task"),
        ):
            await lock.read()
        # Left by another task: then it is left.
        acquire = lock.write()
        await acquire.__aenter__()
        await asyncio.create_task(leave(acquire))
        async with lock.write():
            pass

    async def leave(acquire: ringspan.Acquire) -> None:
        await acquire.__aexit__(None, None, None)

    run(main())
    with lock.blocking_write():
        pass


def test_the_block_of_the_thread_outlasts_its_loop(lock: ringspan.RwLock, run: Run) -> None:
    async def main() -> None:
        for verb in (lock.read, lock.write):
            with pytest.raises(ringspan.WouldDeadlock, match="this thread"):
                await verb()
            with pytest.raises(ringspan.WouldDeadlock, match="this thread"):
                async with verb():
                    pass
        with pytest.raises(ringspan.WouldDeadlock, match="this thread"):
            lock.blocking_read()

    with lock.blocking_write():
        run(main())
    with lock.blocking_read():
        run(reads_again(lock))


async def reads_again(lock: ringspan.RwLock) -> None:
    async with lock.read():
        pass


async def held(lock: ringspan.RwLock) -> None:
    async with lock.write():
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("end", ["close", "collect"])
def test_the_block_is_left_without_a_loop(
    lock: ringspan.RwLock, loop_factory: Factory, recwarn: pytest.WarningsRecorder, end: str
) -> None:
    for _ in range(20):
        coroutine = held(lock)
        loop = loop_factory()
        loop.run_until_complete(first_step(coroutine))
        loop.close()
        assert len(lock.holders()) == 1
        if end == "close":
            coroutine.close()
        del coroutine
        gc.collect()
        assert lock.holders() == []
    assert [str(warning.message) for warning in recwarn] == []


async def first_step(coroutine: Coroutine[Any, Any, None]) -> None:
    coroutine.send(None)


def test_aexit_needs_no_loop_and_gives_it_no_turn(lock: ringspan.RwLock, run: Run) -> None:
    async def main() -> None:
        for _ in range(600):
            acquire = lock.write()
            await acquire.__aenter__()
            with pytest.raises(StopIteration):
                acquire.__aexit__(None, None, None).send(None)

    run(main())


def test_a_generator_that_was_left_inside_the_block(lock: ringspan.RwLock, run: Run) -> None:
    async def numbers() -> AsyncIterator[int]:
        async with lock.write():
            yield 1
            yield 2

    async def main() -> None:
        for _ in range(300):
            generator = numbers()
            assert await anext(generator) == 1
            await generator.aclose()  # type: ignore[attr-defined]
            assert lock.holders() == []

    run(main())


def test_async_with_the_handle_says_what_was_meant(lock: ringspan.RwLock, run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"lock\.read\(\).*lock\.write\(\)"):
            async with lock:  # type: ignore[attr-defined]
                pytest.fail("entered")
        with pytest.raises(TypeError, match=r"lock\.read\(\)"):
            lock.__aexit__(None, None, None)

    run(main())


def test_a_loop_goes_on_in_another_thread(
    lock: ringspan.RwLock, name: str, loop_factory: Factory
) -> None:
    """Tasks that began to wait while one thread ran the loop are woken in another one."""
    other = ringspan.RwLock(name)
    number = ringspan.SharedInt(f"{name}-n", ephemeral=True)
    loop = loop_factory()
    guard = other.blocking_write()

    async def read() -> str:
        async with lock.read():
            return "got"

    tasks = [loop.create_task(read()), loop.create_task(number.changed(0))]
    while lock.stat().parks == 0:
        loop.run_until_complete(asyncio.sleep(0.001))
    results = list[Any]()

    async def both() -> None:
        tasks.extend([loop.create_task(read()), loop.create_task(number.changed(0))])
        loop.call_later(0.01, guard.release)
        loop.call_later(0.01, number.store, 5)
        results.extend(await asyncio.wait_for(asyncio.gather(*tasks), 20))

    thread = threading.Thread(target=lambda: loop.run_until_complete(both()))
    thread.start()
    thread.join()
    assert results == ["got", 1, "got", 1]
    number.close()
    loop.close()


def test_close_reaches_a_loop_that_another_thread_runs_now(
    lock: ringspan.RwLock, name: str, loop_factory: Factory
) -> None:
    other = ringspan.RwLock(name)
    loop = loop_factory()
    guard = other.blocking_write()

    async def read() -> None:
        with pytest.raises(ringspan.HandleClosed):
            await lock.read()

    task = loop.create_task(read())
    while lock.stat().parks == 0:
        loop.run_until_complete(asyncio.sleep(0.001))
    runs = threading.Event()

    async def wait() -> None:
        runs.set()
        await asyncio.wait_for(task, 20)

    failed = list[BaseException]()

    def go_on() -> None:
        try:
            loop.run_until_complete(wait())
        except BaseException as err:
            failed.append(err)

    thread = threading.Thread(target=go_on)
    thread.start()
    runs.wait()
    time.sleep(0.02)  # now it sleeps
    lock.close()
    thread.join()
    assert failed == []
    guard.release()
    loop.close()
