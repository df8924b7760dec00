"""The lock: whoever takes it again and again lets the others come: tasks, and loops of threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
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


def in_threads(*jobs: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


def test_two_loops_wake_each_other(lock: ringspan.RwLock, loop_factory: Factory) -> None:
    turns = 200 * SCALE

    async def play(mine: int) -> None:
        done = 0
        while done < turns:
            async with lock.write() as buf:
                # Long enough for the other to park. A loop that never sleeps would keep the other
                # from the GIL: two loops that hand a plain variable over do so once in seconds.
                await asyncio.sleep(0.0005)
                if buf[0] == mine:
                    buf[0] = 1 - mine
                    done += 1

    def loop(mine: int) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(play(mine))

    in_threads(lambda: loop(0), lambda: loop(1))
    assert lock.stat().parks > turns // 2


def test_tasks_of_one_loop_do_not_starve_each_other(lock: ringspan.RwLock, run: Run) -> None:
    turns = 50 * SCALE

    async def main() -> None:
        async def hog() -> None:
            while True:
                async with lock.write():
                    await asyncio.sleep(0)

        async def other() -> None:
            for _ in range(turns):
                async with lock.write():
                    pass

        hogs = [asyncio.create_task(hog()) for _ in range(2)]
        await other()
        for task in hogs:
            task.cancel()
        await asyncio.gather(*hogs, return_exceptions=True)

    run(main())
