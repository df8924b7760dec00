"""`ShmMessageQueue` with processes that are slow, stopped or killed, and with bytes that lie."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest
import ringspan
from compat_tools import IMPORT_SHM, ORIGINAL, only_here, seeded, shared_memory

shm = shared_memory()
if not ORIGINAL:
    from ringspan.compat.shared_memory import _queue as queue_module

Start = Callable[..., Any]
SCALE = int(os.environ.get("RINGSPAN_SCALE", "1"))


# ---- processes that are slow, stopped, killed ----------------------------------------------------


@only_here
def test_putting_waits_for_no_reader(name: str, child: Start) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 16)
    reader = child(
        f"""
        {IMPORT_SHM}
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
        {IMPORT_SHM}
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
            queue._opened = Block()
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
            {IMPORT_SHM}
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
    chance = seeded()
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
        mem[:64] = struct.pack("<cB6xQQ40x", b"q", 1, 4, 40)
    assert whole > 100
    assert refused > 30
