"""membridge: one ring or view in the hands of several threads, and ends that went unseen."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ringspan
from ringspan.compat import membridge

SharedMemory = membridge.SharedMemory
RING = 1024 + 24
PRELUDE = """
import sys
from ringspan.compat import membridge
mem = membridge.SharedMemory.open(sys.argv[1])
"""


@pytest.fixture
def mem(name: str) -> Iterator[Any]:
    with SharedMemory.create(name, RING) as memory:
        yield memory
        memory.spsc().close()
    SharedMemory.remove(name)
    ringspan.gc()  # the doors of those who were killed


class Waiting:
    """A call that waits in a thread."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self.outcome: Any = None

        def body() -> None:
            try:
                self.outcome = wait()
            except Exception as err:
                self.outcome = err

        self.thread = threading.Thread(target=body)
        self.thread.start()

    def end(self) -> Any:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.outcome


def refused(verb: Callable[[], Any]) -> None:
    """Until the other thread is inside."""
    while True:
        try:
            verb()
        except RuntimeError:
            return
        time.sleep(0.001)


def test_how_full_it_is_can_be_asked_while_a_push_waits(mem: Any) -> None:
    ring = mem.spsc()
    assert ring.push(b"x" * 1000)
    waits = Waiting(lambda: ring.push(b"y" * 100, timeout=math.inf))
    refused(lambda: ring.push(b"z" * 100))
    for _ in range(20):
        assert (ring.used(), ring.free()) == (1004, 20)
        assert not ring.is_empty()
        assert repr(ring) == "SpscRingBuffer(capacity=1024, used=1004, free=20)"
    assert ring.pop() == b"x" * 1000
    assert waits.end() is True
    assert ring.used() == 104


def test_a_ring_is_closed_wholly_or_not_at_all(mem: Any) -> None:
    ring = mem.spsc()
    ring.push(1)
    assert ring.pop("int") == 1
    waits = Waiting(lambda: ring.pop("int", timeout=math.inf))
    refused(ring.pop)
    with pytest.raises(RuntimeError):
        ring.close()
    assert mem.spsc() is ring
    assert ring.push(2)
    assert waits.end() == 2
    ring.close()
    again = mem.spsc()
    assert again is not ring
    assert again.push(3)
    assert again.pop("int") == 3
    again.close()


def test_a_second_thread_is_refused_every_time(mem: Any) -> None:
    ring = mem.spsc()
    waits = Waiting(lambda: ring.pop("int", timeout=math.inf))
    refused(ring.pop)
    for _ in range(200):
        with pytest.raises(RuntimeError):
            ring.pop()
    assert ring.push(2)
    assert waits.end() == 2


def test_all_threads_get_one_ring(name: str) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(60):
            with SharedMemory.create(name, RING) as mem:
                start = threading.Barrier(4)
                rings: list[Any] = []

                def get(mem: Any = mem, start: Any = start, rings: list[Any] = rings) -> None:
                    start.wait(60)
                    rings.append(mem.spsc())

                threads = [threading.Thread(target=get) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(60)
                assert len(rings) == 4
                assert len({id(ring) for ring in rings}) == 1
                rings[0].close()
                rings.clear()
            SharedMemory.remove(name)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("how", ["finish", "kill"])
def test_an_end_that_went_unseen_is_told_to_the_next_who_waits(
    mem: Any, name: str, child: Any, how: str
) -> None:
    ring = mem.spsc()
    told = ringspan.Closed if how == "finish" else ringspan.PeerDied
    code = "ring = mem.spsc()\nring.push('a')\nprint('pushed', flush=True)\nsys.stdin.readline()"

    def producer() -> None:
        process = child(PRELUDE + code, name)
        process.expect("pushed")
        getattr(process, how)()

    producer()
    assert ring.pop("str", timeout=60) == "a"
    assert ring.pop("str") is None  # passes it over
    with pytest.raises(told):
        ring.pop("str", timeout=math.inf)
    assert ring.pop("str", timeout=0.01) is None  # once

    async def awaits() -> None:
        assert await ring.apop("str") == "a"
        with pytest.raises(told):
            await ring.apop("str")

    producer()
    asyncio.run(awaits())

    # Nobody is told of it when the next producer has sent something.
    producer()
    producer()
    assert [ring.pop("str", timeout=60) for _ in range(2)] == ["a", "a"]
    with pytest.raises(told):
        ring.pop(timeout=math.inf)


def test_a_consumer_that_went_unseen_is_told_too(mem: Any, name: str, child: Any) -> None:
    ring = mem.spsc()
    code = """
ring = mem.spsc()
print(ring.pop(), flush=True)
print(ring.pop("str", timeout=60), flush=True)
sys.stdin.readline()
ring.close()
"""
    process = child(PRELUDE + code, name)
    process.expect("None")
    ring.push("x")  # sees it
    process.expect("x")
    process.finish()
    while ring.push(b"x" * 300):
        pass
    with pytest.raises(ringspan.PeerClosed):
        ring.push(b"x" * 300, timeout=math.inf)
    assert ring.push(b"x" * 300, timeout=0.01) is False  # once
    assert ring.pop() == b"x" * 300
    assert ring.push(b"x" * 300, timeout=math.inf)


@pytest.mark.parametrize("timeout", [-1, math.nan, "1", True])
def test_a_wrong_time_out_is_refused_though_nobody_has_to_wait(mem: Any, timeout: Any) -> None:
    ring = mem.spsc()
    ring.push(1)
    for verb in (lambda: ring.push(1, timeout=timeout), lambda: ring.pop(timeout=timeout)):
        with pytest.raises((ValueError, TypeError)):
            verb()
    assert ring.used() == 12


@pytest.mark.parametrize("size", [1000, RING])
def test_a_closed_view_refuses_everything(name: str, size: int) -> None:
    with SharedMemory.create(name, size) as mem:
        view = mem.map()
        view.write("kept", 0)
        view.close()
        view.close()

        async def areads() -> None:
            async with view.areading():
                pass

        async def awrites() -> None:
            async with view.awriting():
                pass

        def reads() -> None:
            with view.reading():
                pass

        def writes() -> None:
            with view.writing():
                pass

        verbs: list[Callable[[], Any]] = [
            reads,
            writes,
            lambda: asyncio.run(areads()),
            lambda: asyncio.run(awrites()),
            lambda: view.changed(0, 0.01),
            lambda: view.achanged(0),
            lambda: view.awrite(1),
            view.version,
            view.reader_count,
            view.is_write_locked,
            view.is_poisoned,
            view.clear_poison,
            view.zero,
        ]
        for verb in verbs:
            with pytest.raises(ringspan.HandleClosed):
                verb()
        assert repr(view) == f"MappedView(data_size={size - 4}, closed)"
        again = mem.map()
        again.seek(0)
        assert again.read("str") == "kept"
    SharedMemory.remove(name)
