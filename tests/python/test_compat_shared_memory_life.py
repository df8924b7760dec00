"""`ringspan.compat.shared_memory`: forks, foreign code, layouts over ours."""

from __future__ import annotations

import multiprocessing
import signal
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest
import ringspan
from ringspan.compat import shared_memory as shm

Start = Callable[..., Any]


# ---- forks ---------------------------------------------------------------------------------------


def in_a_forked_child(work: Callable[[], None]) -> None:
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(20)
    code = child.exitcode
    child.kill()
    assert code == 0, f"the child ended with {code}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads
def test_a_forked_child_goes_on_with_what_it_was_given(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 8)
    memory = shm.SharedMemory.open(name)
    queue.put("before")

    def work() -> None:
        assert queue.get(timeout=10) == "before"
        queue.put("from the child")
        assert memory.notify() == 3
        queue.close()
        memory.close()

    in_a_forked_child(work)
    assert queue.get(timeout=10) == "before"
    assert queue.get(timeout=10) == "from the child"
    assert memory.version == 3
    shm.unlink(name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_take_another_object_of_that_name(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 100, 8)
    shm.unlink(name)
    other = shm.ShmMessageQueue.create(name, 100, 8)

    def work() -> None:
        with pytest.raises(ringspan.Removed):
            queue.put("astray")

    in_a_forked_child(work)
    assert other.empty()
    shm.unlink(name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_another_thread_loads_hinders_no_child(name: str) -> None:
    loading, go_on = threading.Event(), threading.Event()

    class Slow:
        def dump(self, obj: Any, mem: memoryview) -> None:
            mem[:1] = b"x"

        def load(self, mem: memoryview) -> Any:
            loading.set()
            assert go_on.wait(20)
            return 1

    queue = shm.MessageQueue.create(name, 10, 8, serializer=Slow())
    queue.put(1)
    thread = threading.Thread(target=queue.get)
    thread.start()
    assert loading.wait(20)

    def work() -> None:
        with pytest.raises(ringspan.Empty):  # the item is the thread's
            queue.try_get()

    in_a_forked_child(work)
    with pytest.raises(ringspan.Empty):
        queue.try_get()
    go_on.set()
    thread.join()
    shm.unlink(name)


# ---- foreign code under way ----------------------------------------------------------------------


def test_a_signal_handler_may_use_the_queue_that_is_being_read(name: str) -> None:
    taken = []

    class Ser:
        def dump(self, obj: Any, mem: memoryview) -> None:
            mem[0] = obj

        def load(self, mem: memoryview) -> Any:
            item = mem[0]
            if item == 1:
                signal.raise_signal(signal.SIGUSR1)
            return item

    queue = shm.MessageQueue.create(name, 10, 8, serializer=Ser())
    before = signal.signal(signal.SIGUSR1, lambda *_: taken.append(queue.try_get()))
    try:
        queue.put(1)
        queue.put(2)
        assert queue.get(timeout=10) == 1
        assert taken == [2]
        assert queue.empty()
    finally:
        signal.signal(signal.SIGUSR1, before)
    shm.unlink(name)


class Thing:
    """Nothing that the codec knows."""


def test_a_refused_pickle_can_be_stepped_over(name: str) -> None:
    queue = shm.ShmMessageQueue.create(name, 200, 8)
    queue.put(Thing())
    queue.put("behind")
    for _ in range(2):
        with pytest.raises(shm.PickleRefused):
            queue.get(timeout=10)
    queue.skip()
    assert queue.missed == 1
    assert queue.get(timeout=10) == "behind"
    queue.skip()  # nothing is there
    assert queue.missed == 1
    shm.unlink(name)


def test_a_daemon_object_may_fail_when_the_interpreter_ends(child: Start, name: str) -> None:
    program = child(
        """
        import sys
        import ringspan
        class Late:
            def __init__(self):
                self.segment = ringspan.Segment.create(sys.argv[1], 100)
            def __del__(self):
                self.segment.remove()
                self.segment.remove()  # NotFound, told as "ignored"
        late = Late()
        """,
        name,
    )
    assert program.wait() == 0, program.stderr()


# ---- layouts of one's own ------------------------------------------------------------------------


def test_a_layout_over_one_of_ours_is_made_as_it_is_loaded(name: str) -> None:
    class Pair(shm.StructLayout):
        sign = b"\x01"

        def __init__(self, n: int) -> None:
            super().__init__({"n": shm.PickleLayout(n), "twice": shm.PickleLayout(2 * n)})

        @classmethod
        def load(cls, mem: memoryview) -> Any:
            found = super().load(mem)
            return found["n"], found["twice"]

    assert shm.create(name, Pair(3), allow_pickle=True) == (3, 6)
    assert shm.load(name, allow_pickle=True) == (3, 6)
    shm.unlink(name)


def test_layouts_nested_too_deep_are_damage(name: str) -> None:
    def nested(depth: int) -> bytes:
        inner = struct.pack("<cB6xQ", b"s", 0, 0)
        for _ in range(depth):
            head = struct.pack("<cB6xQ", b"s", 0, 1) + struct.pack("<QQ", 0, 64)
            inner = head.ljust(64, b"\0") + inner
        return inner

    for depth, good in ((99, True), (100, False), (3_000, False)):
        data = nested(depth)
        memory = shm.SharedMemory.create(name, len(data))
        memoryview(memory)[:] = data
        if good:
            found = shm.load(name)
            for _ in range(depth):
                found = found[""]
            assert found == {}
        else:
            with pytest.raises(ringspan.Damaged, match="below 100 others"):
                shm.load(name)
        shm.unlink(name)
