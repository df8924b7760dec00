"""The lock: who waits, who wakes, who gives up; tasks, loops and threads on one handle."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Factory = Callable[[], asyncio.AbstractEventLoop]
SCALE = int(os.environ.get("RINGSPAN_SCALE", "1"))


@pytest.fixture
def lock(name: str) -> Iterator[ringspan.RwLock]:
    with ringspan.RwLock(name, 4096) as made:
        yield made


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads change places all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def parked(lock: ringspan.RwLock, more_than: int = 0) -> None:
    while lock.stat().parks <= more_than:
        time.sleep(0)


async def parks(lock: ringspan.RwLock, more_than: int = 0) -> None:
    while lock.stat().parks <= more_than:  # noqa: ASYNC110 - counted by the lock
        await asyncio.sleep(0)


def count(buf: memoryview) -> None:
    """Adds one, slowly: half of it is there for a while."""
    number = int.from_bytes(buf[:8], "little") + 1
    for at, byte in enumerate(number.to_bytes(8, "little")):
        buf[at] = byte


def counted(lock: ringspan.RwLock) -> int:
    with lock.blocking_read(20) as buf:
        return int.from_bytes(buf[:8], "little")


def test_tasks_of_one_loop(lock: ringspan.RwLock, run: Run) -> None:
    async def work(n: int) -> None:
        for _ in range(n):
            async with lock.write() as buf:
                number = buf[0]
                await asyncio.sleep(0)
                buf[0] = (number + 1) % 256
            async with lock.read() as buf:
                await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(work(12))

    run(main())
    with lock.blocking_read() as buf:
        assert buf[0] == 16 * 12
    stat = lock.stat()
    assert (stat.connections, stat.pidfds) == (0, 0)


def test_a_thread_wakes_a_task_and_a_task_a_thread(lock: ringspan.RwLock, run: Run) -> None:
    async def main() -> None:
        for n in range(100):
            guard = await asyncio.to_thread(lock.blocking_write)
            waiting = asyncio.ensure_future(lock.read() if n % 2 else lock.write())
            await asyncio.sleep(0)
            assert not waiting.done()
            await asyncio.to_thread(guard.release)
            with await asyncio.wait_for(waiting, 20):
                before = lock.stat().parks
                blocked = asyncio.ensure_future(asyncio.to_thread(lock.blocking_write, 20))
                await parks(lock, before)
            (await blocked).release()

    run(main())


def test_another_handle_wakes_tasks_and_threads(lock: ringspan.RwLock, name: str, run: Run) -> None:
    other = ringspan.RwLock(name)

    async def main() -> None:
        for _ in range(50):
            guard = other.blocking_write()
            before = lock.stat().parks
            tasks = [asyncio.ensure_future(lock.read()) for _ in range(5)]
            thread = asyncio.ensure_future(asyncio.to_thread(lock.blocking_read, 20))
            await parks(lock, before + 5)
            guard.release()
            for guard in await asyncio.wait_for(asyncio.gather(*tasks, thread), 20):
                guard.release()

    run(main())


def in_threads(*jobs: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


async def count_often(lock: ringspan.RwLock, times: int, tasks: int) -> None:
    async def work() -> None:
        for _ in range(times):
            async with lock.write() as buf:
                count(buf)

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(work())


@pytest.mark.usefixtures("hasty")
def test_loops_and_threads_share_one_handle(lock: ringspan.RwLock, loop_factory: Factory) -> None:
    times = 40 * SCALE

    def loop() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(count_often(lock, times, 3))

    def thread() -> None:
        for _ in range(times):
            with lock.blocking_write(25) as buf:
                count(buf)

    in_threads(loop, loop, thread, thread)
    assert counted(lock) == 8 * times
    assert lock.holders() == []


def test_a_release_in_one_loop_wakes_the_other(
    lock: ringspan.RwLock, loop_factory: Factory
) -> None:
    guard = lock.blocking_write()

    async def wait() -> None:
        async with lock.read():
            pass

    def loop() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(wait())

    async def give_back() -> None:
        await parks(lock, 2)
        guard.release()

    def giver() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(give_back())

    in_threads(loop, loop, loop, giver)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("handles", ["one handle", "a handle each"])
def test_eight_threads_see_no_half_of_a_write(
    lock: ringspan.RwLock, name: str, handles: str
) -> None:
    """All bytes are always the same: written one by one, read one by one."""
    size, times = 48, 60 * SCALE
    stop = threading.Event()

    def open_it() -> ringspan.RwLock:
        return lock if handles == "one handle" else ringspan.RwLock(name)

    def write(byte: int) -> None:
        mine = open_it()
        for _ in range(times):
            with mine.blocking_write(25) as buf:
                for at in range(size):
                    buf[at] = byte

    def read() -> None:
        mine = open_it()
        while not stop.is_set():
            with mine.blocking_read(25) as buf:
                first = buf[0]
                assert all(buf[at] == first for at in range(size))
            guard = mine.try_read()
            if guard is not None:
                with guard as buf:
                    assert bytes(buf[:size]) == bytes([buf[size - 1]]) * size

    readers = [threading.Thread(target=read) for _ in range(4)]
    for thread in readers:
        thread.start()
    try:
        in_threads(*(lambda byte=byte: write(byte) for byte in range(1, 5)))
    finally:
        stop.set()
        for thread in readers:
            thread.join()
    assert lock.holders() == []


def test_what_is_cancelled_takes_nothing(lock: ringspan.RwLock, name: str, run: Run) -> None:
    other = ringspan.RwLock(name)

    async def main() -> None:
        guard = other.blocking_read()
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lock.write(), 0.001)
            # The hint of the writer that gave up keeps nobody out.
            with other.try_read() or pytest.fail("kept out"):
                pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), lock.write():
                pytest.fail("entered")
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(lock.write())
                group.create_task(lock.write())
                group.create_task(fail())
        assert [holder.mode for holder in lock.holders()] == ["read"]
        guard.release()
        async with lock.write():
            pass
        assert lock.holders() == []

    async def fail() -> None:
        await asyncio.sleep(0.001)
        raise LookupError

    run(main())


def test_a_writer_that_gives_up_lets_waiting_readers_in(
    lock: ringspan.RwLock, name: str, run: Run
) -> None:
    other = ringspan.RwLock(name)

    async def main() -> None:
        for _ in range(50):
            guard = other.blocking_read()
            writer = asyncio.ensure_future(lock.write())
            await asyncio.sleep(0)
            readers = [asyncio.ensure_future(lock.read()) for _ in range(3)]
            thread = asyncio.ensure_future(asyncio.to_thread(lock.blocking_read, 20))
            await asyncio.sleep(0.002)
            assert not any(task.done() for task in (*readers, thread))
            writer.cancel()
            for got in await asyncio.wait_for(asyncio.gather(*readers, thread), 20):
                got.release()
            guard.release()

    run(main())


def test_one_that_was_woken_and_cancelled_wakes_the_next(lock: ringspan.RwLock, run: Run) -> None:
    async def main() -> None:
        for _ in range(100):
            guard = lock.blocking_write()
            first, second = (asyncio.ensure_future(lock.write()) for _ in range(2))
            await asyncio.sleep(0)
            guard.release()
            await asyncio.sleep(0)
            first.cancel()
            (await asyncio.wait_for(second, 20)).release()
            if not first.cancelled() and first.done() and first.exception() is None:
                first.result().release()

    run(main())


def test_overlapping_readers_do_not_starve_a_writer(
    lock: ringspan.RwLock, name: str, run: Run
) -> None:
    other = ringspan.RwLock(name)
    wrote = False

    async def read(mine: ringspan.RwLock) -> None:
        while not wrote:
            async with mine.read():
                await asyncio.sleep(0.001)

    async def main() -> None:
        nonlocal wrote
        readers = [asyncio.ensure_future(read(mine)) for mine in (lock, other) for _ in range(4)]
        await asyncio.sleep(0.01)
        async with lock.write():
            wrote = True
        await asyncio.gather(*readers)

    run(main())


def test_a_task_that_asks_again_and_again_lets_others_in(lock: ringspan.RwLock, run: Run) -> None:
    stop = False

    async def greedy() -> int:
        rounds = 0
        while not stop:
            async with lock.write():
                rounds += 1
        return rounds

    async def main() -> None:
        nonlocal stop
        task = asyncio.ensure_future(greedy())
        for _ in range(20):
            async with lock.write():
                await asyncio.sleep(0)
        await asyncio.to_thread(lambda: lock.blocking_write(25).release())
        stop = True
        assert await task > 0

    run(main())


def test_close_wakes_the_tasks_that_wait(
    lock: ringspan.RwLock, name: str, loop_factory: Factory
) -> None:
    other = ringspan.RwLock(name)
    guard = other.blocking_write()

    async def wait() -> None:
        async with asyncio.TaskGroup() as group:
            for verb in (lock.read, lock.write, lock.read):
                group.create_task(refused(verb()))

    async def refused(acquire: ringspan.Acquire) -> None:
        with pytest.raises(ringspan.HandleClosed, match=name):
            await acquire

    def loop() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(wait())

    def closer() -> None:
        parked(lock, 5)
        lock.close()

    in_threads(loop, loop, closer)
    assert other.stat().attached == 1
    guard.release()
    with other.blocking_write():
        pass


def test_close_in_the_loop_itself(lock: ringspan.RwLock, name: str, run: Run) -> None:
    async def main() -> None:
        guard = lock.blocking_write()
        waiting = asyncio.ensure_future(lock.read())
        await parks(lock)
        lock.close()
        with pytest.raises(ringspan.HandleClosed):
            await asyncio.wait_for(waiting, 20)
        guard.release()

    run(main())
    with ringspan.RwLock(name) as other:
        assert other.stat().attached == 1


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_loop_after_another(lock: ringspan.RwLock, loop_factory: Factory) -> None:
    async def contend() -> None:
        await count_often(lock, 5, 1)
        guard = await lock.read()
        waiting = asyncio.ensure_future(lock.write())
        await asyncio.sleep(0)
        guard.release()
        (await waiting).release()

    def once() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(contend())

    once()
    gc.collect()
    before = descriptors()
    for _ in range(20):
        once()
    gc.collect()
    assert descriptors() <= before + 2
    assert counted(lock) == 105


def test_a_loop_that_was_closed_under_its_waiters(
    lock: ringspan.RwLock, loop_factory: Factory, run: Run
) -> None:
    guard = lock.blocking_write()
    loop = loop_factory()

    async def start() -> asyncio.Task[Any]:
        task = asyncio.ensure_future(lock.write())
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(start())
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def main() -> None:
        waiting = asyncio.ensure_future(lock.read())
        await asyncio.sleep(0.001)
        guard.release()
        (await asyncio.wait_for(waiting, 20)).release()

    run(main())
    del task
    gc.collect()
    with lock.blocking_write(20):
        pass
    run(main_again(lock))


async def main_again(lock: ringspan.RwLock) -> None:
    async with lock.read(), lock.read():
        pass


def test_an_idle_loop_is_left_alone(lock: ringspan.RwLock, run: Run) -> None:
    """Two loops that have waited on the handle do not wake each other for ever."""

    async def idle() -> None:
        guard = lock.blocking_read()
        waiting = asyncio.ensure_future(lock.write())
        await asyncio.sleep(0.01)
        started.wait(20)
        await asyncio.sleep(0.05)
        before = time.thread_time()
        await asyncio.sleep(0.3)
        spent.append(time.thread_time() - before)
        guard.release()
        (await waiting).release()

    async def other() -> None:
        waiting = asyncio.ensure_future(lock.write())
        await asyncio.sleep(0.01)
        started.set()
        (await waiting).release()

    started, spent = threading.Event(), list[float]()
    thread = threading.Thread(target=lambda: asyncio.run(other()))
    thread.start()
    run(idle())
    thread.join()
    assert spent[0] < 0.15  # of processor time, which does not pass while others run
