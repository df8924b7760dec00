"""`ShmMessageQueue` of `ringspan.compat.shared_memory`: a broadcast ring that never lies."""

from __future__ import annotations

import asyncio
import pickle
import signal
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import ringspan
from compat_tools import IMPORT_SHM, ORIGINAL, only_here, shared_memory

shm = shared_memory()

Start = Callable[..., Any]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Thing:
    """Nothing that the codec knows."""


# ---- what it does --------------------------------------------------------------------------------


def test_every_reader_gets_every_item(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 200, 8)
    readers = [queue, shm.ShmMessageQueue.open(name), shm.ShmMessageQueue.open(name)]
    assert all(reader.empty() for reader in readers)
    items = [1, "two", {"three": (3, 3.0)}, None, b"five"]
    for item in items:
        assert queue.put(item) is None
    for reader in readers:
        assert not reader.empty()
        assert [reader.get() for _ in items] == items
        assert reader.empty()


def test_a_reader_begins_with_the_newest_item(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 8)
    for number in range(5):
        queue.put(number)
    there = shm.ShmMessageQueue.open(name)
    assert not there.empty()
    assert there.get() == 4
    assert there.empty()
    queue.put(5)
    assert [there.get(), queue.get(), queue.get()] == [5, 0, 1]


@pytest.mark.parametrize(("safe", "first"), [(0, 12), (2, 14), (7, 19)])
def test_a_slow_reader_skips_ahead(name: str, safe: int, first: int) -> None:
    queue = shm.ShmMessageQueue.create(name, itemsize=100, count=8, safe_buffer=safe)
    for number in range(20):
        queue.put(number)
    got = []
    while not queue.empty():
        got.append(queue.get())
    assert got == list(range(first, 20))
    if not ORIGINAL:
        assert queue.missed == first


@only_here
@pytest.mark.parametrize(("count", "safe"), [(1, 2), (1, 0), (2, 2), (3, 99)])
def test_the_newest_item_is_always_to_be_had(name: str, count: int, safe: int) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, count, safe)
    for number in range(5):
        queue.put(number)
        assert queue.get() == number
    queue.put(5)
    queue.put(6)
    queue.put(7)
    got = []
    while not queue.empty():
        got.append(queue.get())
    assert got[-1] == 7


@only_here
def test_an_item_too_large_is_refused_with_both_sizes(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 4)
    queue.put("before")
    with pytest.raises(ringspan.TooLarge, match="takes 100") as caught:
        queue.put(b"x" * 101)
    assert (caught.value.size, caught.value.limit) == (101, 100)
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, ValueError)
    queue.put(b"x" * 100)
    assert [queue.get(), queue.get(), queue.empty()] == ["before", b"x" * 100, True]


@only_here
def test_pickles_are_read_only_if_asked_for(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 200, 4)
    queue.put(Thing())
    queue.put("after")
    for _ in range(2):
        with pytest.raises(shm.PickleRefused, match="allow_pickle=True"):
            queue.get()
    assert queue.missed == 0
    trusting = pickle.loads(pickle.dumps(shm.ShmMessageQueue.open(name, 0, allow_pickle=True)))
    trusting.put(Thing())
    assert [type(trusting.get()), type(trusting.get())] == [str, Thing]


def test_bad_arguments(name: str) -> None:
    with pytest.raises(TypeError):
        shm.ShmMessageQueue()
    if ORIGINAL:
        return
    for bad in ((0, 5), (5, 0), (-1, 5), (5, -1)):
        with pytest.raises(ringspan.InvalidOption):
            shm.ShmMessageQueue.create(name, *bad)
    with pytest.raises(ringspan.InvalidOption):
        shm.ShmMessageQueue.create(name, 5, 5, -1)
    with pytest.raises(RuntimeError):
        shm.ShmMessageQueue.open(name)
    shm.create(name, shm.PickleLayout(1))
    with pytest.raises(TypeError, match="no message queue"):
        shm.ShmMessageQueue.open(name)
    with pytest.raises(FileExistsError):
        shm.ShmMessageQueue.create(name, 5, 5)


@only_here
def test_the_names_of_the_python_class(name: str) -> None:
    queue = shm.MessageQueue.create(name, item_size=100, count=4)
    there = shm.MessageQueue.load(name)
    queue.put("x")
    assert (there.itemsize, there.total_count, there.tail_id, there.head_id) == (100, 4, 1, 0)
    assert there.get() == "x"
    assert there.head_id == 1
    found = shm.load(name)
    assert (type(found), found.get()) == (shm.MessageQueue, "x")


class Pairs:
    """A serializer of one's own."""

    @staticmethod
    def dump(obj: tuple[int, int], mem: memoryview) -> None:
        struct.pack_into("<ii", mem, 0, *obj)

    @staticmethod
    def load(mem: memoryview) -> tuple[int, ...]:
        return struct.unpack_from("<ii", mem)


@only_here
def test_a_serializer_of_ones_own(name: str) -> None:
    queue = shm.MessageQueue.create(name, 8, 4, serializer=Pairs)
    queue.put((1, -2))
    with pytest.raises(struct.error):
        queue.put("no pair")
    assert shm.MessageQueue.load(name, serializer=Pairs).get() == (1, -2)
    plain = shm.MessageQueue.load(name)
    with pytest.raises(ringspan.Damaged, match="serializer"):
        plain.get()
    assert plain.empty()


# ---- waiting -------------------------------------------------------------------------------------


@only_here
def test_an_empty_queue(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 4)
    with pytest.raises(TimeoutError, match=name):
        queue.get(timeout=0.02)
    with pytest.raises(ringspan.Empty):
        queue.try_get()
    queue.put(1)
    assert queue.try_get() == 1


@only_here
def test_get_waits_for_an_item_of_another_process(name: str, child: Start) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 4)
    reader = child(
        f"""
        import threading
        {IMPORT_SHM}
        queue = shm.ShmMessageQueue.open({name!r})
        counted = 0
        def count():
            global counted
            while not done:
                counted += 1
        done = False
        other = threading.Thread(target=count)
        other.start()
        print("waiting")
        print(queue.get())
        done = True
        other.join()
        print(counted > 0)
        print(queue.get(timeout=20))
        """
    )
    reader.expect("waiting")
    queue.put("first")
    reader.expect("first")
    reader.expect("True")
    queue.put("second")
    reader.expect("second")
    assert reader.wait() == 0


@only_here
def test_tasks_wait(name: str, run: Run) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 64)
    readers = [shm.ShmMessageQueue.open(name) for _ in range(3)]

    async def read(reader: Any) -> list[int]:
        return [await reader.aget() for _ in range(50)]

    async def main() -> None:
        tasks = [asyncio.create_task(read(reader)) for reader in readers]
        cancelled = asyncio.create_task(queue.aget())
        await asyncio.sleep(0)
        cancelled.cancel()
        for number in range(50):
            await queue.aput(number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [list(range(50))] * 3
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        # Cancelled before it took anything.
        assert await queue.aget() == 0
        async with asyncio.timeout(0.02):
            with pytest.raises(asyncio.CancelledError):
                await readers[0].aget()
            raise TimeoutError

    with pytest.raises(TimeoutError):
        run(main())


@only_here
def test_a_queue_is_iterated_over_and_closed(name: str, run: Run) -> None:
    async def main() -> list[int]:
        async with shm.ShmMessageQueue.create(name, 100, 8) as queue:
            for number in range(3):
                queue.put(number)
            got = []
            async for item in queue:
                got.append(item)
                if item == 2:
                    return got
        raise AssertionError

    assert run(main()) == [0, 1, 2]
    with shm.ShmMessageQueue.open(name) as queue:
        assert queue.get() == 2
    with pytest.raises(ValueError):
        queue.put(1)


@only_here
def test_ctrl_c_ends_a_wait(name: str, child: Start) -> None:
    shm.ShmMessageQueue.create(name, 100, 4)
    reader = child(
        f"""
        {IMPORT_SHM}
        queue = shm.ShmMessageQueue.open({name!r})
        try:
            print("waiting")
            queue.get()
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    reader.expect("waiting")
    reader.kill(signal.SIGINT)
    reader.expect("interrupted")
    assert reader.wait() == 0
