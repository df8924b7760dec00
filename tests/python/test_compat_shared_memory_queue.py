"""`ShmMessageQueue` of `ringspan.compat.shared_memory`: a broadcast ring that never lies."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import ringspan

ORIGINAL = os.environ.get("RINGSPAN_COMPAT_ORIGINAL") == "1"
PACKAGE = "" if ORIGINAL else "from ringspan.compat "
IMPORT = f"{PACKAGE}import shared_memory as shm"
shm: Any
if ORIGINAL:
    shm = pytest.importorskip("shared_memory")
else:
    from ringspan.compat import shared_memory as shm
    from ringspan.compat.shared_memory import _queue as queue_module

Start = Callable[..., Any]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
SCALE = int(os.environ.get("RINGSPAN_SCALE", "1"))

only_here = pytest.mark.skipif(ORIGINAL, reason="the original has no such thing")


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
        {IMPORT}
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
        {IMPORT}
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


# ---- processes that are slow, stopped, killed ----------------------------------------------------


@only_here
def test_putting_waits_for_no_reader(name: str, child: Start) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 16)
    reader = child(
        f"""
        {IMPORT}
        queue = shm.ShmMessageQueue.open({name!r})
        print("begins")
        got = []
        while not got or got[-1] < 5000:
            got.append(queue.get())
        assert got == sorted(set(got)), got
        print(len(got) + queue.missed, queue.missed > 0)
        """
    )
    reader.expect("begins")
    for number in range(100):
        queue.put(number)
    reader.kill(signal.SIGSTOP)
    for number in range(100, 5001):
        queue.put(number)
    reader.kill(signal.SIGCONT)
    reader.expect("5001 True")
    assert reader.wait() == 0


@only_here
@pytest.mark.parametrize("step", ["locked", "half", "written"])
def test_a_killed_writer_leaves_no_half_item_and_no_lock(
    name: str, child: Start, step: str
) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 4)
    for number in range(6):
        queue.put(number)
    there = shm.ShmMessageQueue.open(name, 0)
    writer = child(
        f"""
        {IMPORT}
        queue = shm.ShmMessageQueue.open({name!r})

        class Block:
            def __getattr__(self, verb):
                return getattr(block, verb)
            def notify(self):
                print("here")
                input()

        class Mem:
            def __setitem__(self, place, data):
                mem[place] = data[: len(data) // 2].ljust(len(data))
                print("here")
                input()

        block, mem = queue._block, queue._mem
        if {step!r} == "locked":
            with block.blocking_write():
                print("here")
                input()
        elif {step!r} == "written":
            queue._block = Block()
        else:
            import struct
            from ringspan.compat.shared_memory import _queue
            class Slot:
                size = _queue._SLOT.size
                pack_into = lambda self, _, *args: real.pack_into(mem, *args)
            real, _queue._SLOT = _queue._SLOT, Slot()
            queue._mem = Mem()
        queue.put("never seen")
        """
    )
    writer.expect("here")
    waiting: list[object] = []
    thread = threading.Thread(target=lambda: waiting.append([there.get() for _ in range(2)]))
    thread.start()
    writer.kill()
    queue.put("after")
    thread.join()
    assert waiting == [[5, "after"]]
    assert not queue._block.is_poisoned
    got = []
    while not queue.empty():
        got.append(queue.get())
    assert got == [5, "after"]  # 2 to 4 are overwritten or kept clear


@only_here
@pytest.mark.parametrize("puts", [1, 2, 3, 7])
def test_a_reader_that_is_overtaken_in_the_middle_of_an_item(
    name: str, monkeypatch: pytest.MonkeyPatch, puts: int
) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 2)
    reader = shm.ShmMessageQueue.open(name, 0)
    queue.put(b"0" * 80)
    mem, slot = reader._mem, queue_module._SLOT
    left = list(range(1, puts + 1))

    class Mem:
        def __getitem__(self, place: slice) -> bytes:
            middle = (place.start + place.stop) // 2
            half = bytes(mem[place.start : middle])
            while left:
                queue.put(b"%d" % left.pop(0) * 80)
            return half + bytes(mem[middle : place.stop])

    class Slot:
        size = slot.size
        pack_into = slot.pack_into

        def unpack_from(self, _: object, at: int) -> tuple[Any, ...]:
            return slot.unpack_from(mem, at)

    monkeypatch.setattr(queue_module, "_SLOT", Slot())
    reader._mem = Mem()
    got = reader.get()
    assert got in [b"%d" % number * 80 for number in range(puts + 1)]
    assert got == b"0" * 80 if puts == 1 else reader.missed > 0


@only_here
def test_items_are_whole_whatever_overtakes(name: str, child: Start) -> None:
    amount = 3000 * SCALE
    queue = shm.ShmMessageQueue.create(name, 3000, 4, 0)
    writers = [
        child(
            f"""
            {IMPORT}
            queue = shm.ShmMessageQueue.open({name!r})
            print("ready")
            input()
            for number in range({amount}):
                queue.put([{who}, number, bytes([number % 251]) * (number % 2900)])
            queue.put([{who}, None, b""])
            print("done")
            """
        )
        for who in range(2)
    ]
    for writer in writers:
        writer.expect("ready")
    for writer in writers:
        writer.say()
    last, got = [-1, -1], 0
    ended: set[int] = set()
    # An end may be missed; then both have said "done".
    waiters = [threading.Thread(target=writer.expect, args=("done",)) for writer in writers]
    for waiter in waiters:
        waiter.start()
    while len(ended) < 2 and (not queue.empty() or any(waiter.is_alive() for waiter in waiters)):
        try:
            who, number, text = queue.get(timeout=0.2)
        except TimeoutError:
            continue
        got += 1
        if number is None:
            ended.add(who)
            continue
        assert last[who] < number < amount
        last[who] = number
        assert text == bytes([number % 251]) * (number % 2900)
    for waiter in waiters:
        waiter.join()
    assert [writer.wait() for writer in writers] == [0, 0]
    while not queue.empty():
        queue.get()
        got += 1
    assert got + queue.missed == 2 * (amount + 1)
    assert got >= 4  # what was in the ring at the end, whatever the speed


@only_here
def test_threads_share_a_reader(name: str) -> None:
    amount = 2000
    queue = shm.ShmMessageQueue.create(name, 100, amount + 8)
    got: list[int] = []

    def work() -> None:
        while (item := queue.get()) >= 0:
            got.append(item)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in [*range(amount), -1, -1, -1, -1]:
        queue.put(number)
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(amount))


# ---- bytes that lie ------------------------------------------------------------------------------


@only_here
@pytest.mark.parametrize(
    ("place", "number"), [(8, 0), (8, 5), (8, 2**63), (16, 0), (16, 109), (16, 2**64 - 1), (1, 9)]
)
def test_a_header_that_lies_is_refused(name: str, place: int, number: int) -> None:
    shm.ShmMessageQueue.create(name, 100, 4)
    mem = memoryview(shm.SharedMemory.open(name))
    struct.pack_into("<Q" if place >= 8 else "B", mem, place, number)
    with pytest.raises((ringspan.Damaged, ringspan.Mismatch), match=name):
        shm.ShmMessageQueue.open(name)


@only_here
def test_any_bytes_at_all(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 40, 4)
    mem = memoryview(shm.SharedMemory.open(name))
    chance = random.Random(int(os.environ.get("RINGSPAN_SEED", "1")))
    whole = refused = 0
    for number in range(1500):
        there = shm.ShmMessageQueue.open(name)
        item = {"n": number}
        queue.put(item)
        for _ in range(chance.randrange(1, 4)):
            mem[chance.randrange(len(mem))] = chance.choice([0, 1, 8, 127, 255])
        try:
            got = there.try_get()
            whole += 1
            assert got in ({"n": number}, {"n": number - 1})
        except (ringspan.Empty, ringspan.Damaged):
            refused += 1
        mem[:64] = (
            bytes(mem[:64]) if chance.random() < 0 else struct.pack("<cB6xQQ40x", b"q", 1, 4, 40)
        )
    assert whole > 100
    assert refused > 30
