"""The lock: what is made of its bytes keeps it; its guards change their mode."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def lock(name: str) -> Iterator[ringspan.RwLock]:
    with ringspan.RwLock(name, 64) as made:
        yield made


DERIVE = pytest.mark.parametrize(
    "derive",
    [
        lambda view: view[1:],
        lambda view: view.cast("I"),
        lambda view: np.frombuffer(view, "u1"),
        lambda view: np.ndarray(4, "u1", view),
        lambda view: memoryview(view),
    ],
    ids=["slice", "cast", "frombuffer", "ndarray", "memoryview"],
)


@DERIVE
@pytest.mark.parametrize("how", ["blocking", "async with"])
def test_derived_views_keep_the_lock(
    lock: ringspan.RwLock, name: str, run: Run, derive: Callable[[memoryview], Any], how: str
) -> None:
    kept: list[Any] = []

    def block() -> None:
        with lock.blocking_write() as buf:
            buf[:4] = b"kept"
            kept.append(derive(buf))

    async def entered() -> None:
        async with lock.write() as buf:
            buf[:4] = b"kept"
            kept.append(derive(buf))

    with pytest.raises(
        BufferError, match=rf"lock {name}: at least 1 view\(s\) of the guard.*drop them"
    ):
        block() if how == "blocking" else run(entered())
    gc.collect()
    other = ringspan.RwLock(name)
    assert other.try_read() is None
    assert [(h.mode, h.kept_by_views) for h in lock.holders()] == [("write", 1)]
    with pytest.raises(ringspan.Timeout, match="kept by views"):
        other.blocking_read(0)
    if how == "blocking":
        with pytest.raises(ringspan.WouldDeadlock):
            lock.blocking_read()
    assert bytes(memoryview(kept[0]).cast("B"))[-1:] in (b"t", b"\0")
    kept.clear()
    gc.collect()
    assert lock.holders() == []
    with other.blocking_read() as buf:
        assert bytes(buf[:4]) == b"kept"


def test_an_exception_under_way_is_not_hidden(lock: ringspan.RwLock) -> None:
    kept: list[memoryview] = []
    with pytest.raises(LookupError, match="mine"), lock.blocking_write() as buf:
        kept.append(buf[1:])
        raise LookupError("mine")
    assert lock.holders()[0].kept_by_views == 1
    kept.clear()
    assert lock.holders() == []


def test_a_view_outlives_guard_handle_and_name(name: str) -> None:
    lock = ringspan.RwLock(name, 4096)
    other = ringspan.RwLock(name)
    buf = lock.blocking_write().view  # the guard is gone at once
    gc.collect()
    array = np.frombuffer(buf, "u1")
    lock.close()
    ringspan.remove(name)
    del lock
    gc.collect()
    assert other.holders()[0].kept_by_views == 1
    array2 = array[10:]
    del buf, array
    array2[:] = 7
    assert array2.sum() == 7 * 4086
    assert other.try_read() is None
    del array2
    gc.collect()
    with other.blocking_read() as view:
        assert view[10] == 7


def test_the_last_view_may_die_in_another_thread(lock: ringspan.RwLock, name: str) -> None:
    other = ringspan.RwLock(name)
    kept: list[memoryview] = []
    with pytest.raises(BufferError), lock.blocking_write() as buf:
        kept.append(buf[1:])
    thread = threading.Timer(0.02, kept.clear)
    thread.start()
    with other.blocking_write(timeout=20):
        assert not kept
    thread.join()


def test_a_dropped_guard_gives_the_lock_back(lock: ringspan.RwLock) -> None:
    lock.blocking_write()
    with lock.blocking_write():
        pass
    guard = lock.blocking_write()
    assert len(guard.view) == 64
    del guard
    assert lock.holders() == []


def test_a_guard_that_is_dropped_under_its_slices(lock: ringspan.RwLock) -> None:
    guard = lock.blocking_write()
    part = guard.view[:4]
    del guard
    assert lock.holders()[0].kept_by_views == 1
    part[0] = 1
    del part
    assert lock.holders() == []
    guard = lock.blocking_read()
    guard.view  # noqa: B018 - made, and nobody has it
    del guard
    assert lock.holders() == []
    assert lock.try_write() is not None


def test_the_text_names_the_view_of_the_block(lock: ringspan.RwLock) -> None:
    with pytest.raises(BufferError) as info, lock.blocking_write() as buf:
        parts = [buf[n:] for n in range(3)]
    assert "at least 1 view(s)" in str(info.value)
    assert "block's own variable" not in str(info.value)
    parts.clear()
    with pytest.raises(BufferError, match="the block's own variable"), lock.blocking_write() as buf:
        export = pickle.PickleBuffer(buf)
    del export, buf
    assert lock.holders() == []


class Bytes(bytearray):
    """Can be part of a cycle, and be watched."""

    view: ringspan.View
    mark: Mark


class Mark:
    pass


def test_a_cycle_through_a_view_is_collected() -> None:
    data, mark = Bytes(8), Mark()
    data.view, data.mark = ringspan.View(data), mark
    gone = weakref.ref(mark)
    del data, mark
    gc.collect()
    assert gone() is None


def test_a_cycle_through_an_acquire_is_collected(lock: ringspan.RwLock, run: Run) -> None:
    async def main() -> None:
        mark, acquire = Mark(), lock.write()
        await acquire.__aenter__()
        mark.acquire, mark.me = acquire, mark  # type: ignore[attr-defined]

    run(main())
    gc.collect()
    assert lock.holders() == []


def test_downgrade_and_upgrade(lock: ringspan.RwLock, name: str) -> None:
    other = ringspan.RwLock(name)
    guard = lock.blocking_write()
    with guard as buf:
        buf[0] = 1
        part = buf[1:]
        with pytest.raises(BufferError, match="mode of the lock was not changed"):
            guard.downgrade()
        assert guard.mode == "write"
        part[0] = 2
        del part
        array = pickle.PickleBuffer(guard.view)  # an export of the view itself
        view = guard.view
        with pytest.raises(BufferError, match="mode of the lock was not changed"):
            guard.downgrade()
        assert guard.view is view  # not released, so that it is taken back later
        del array
        guard.view[2] = 3
        guard.downgrade()
        assert guard.mode == lock.holders()[0].mode == "read"
        with pytest.raises(ValueError, match="released"):
            bytes(buf)
        guard.downgrade()
        assert guard.view.readonly
        assert bytes(guard.view[:3]) == b"\1\2\3"
        with other.blocking_read():
            view = guard.view
            assert not guard.try_upgrade()
            assert view[0] == 1  # nothing has changed
        part = guard.view[1:]
        with pytest.raises(BufferError, match="mode of the lock was not changed"):
            guard.try_upgrade()
        assert guard.mode == lock.holders()[0].mode == "read"
        del part, view
        assert guard.try_upgrade()
        assert guard.try_upgrade()
        assert guard.mode == lock.holders()[0].mode == "write"
        guard.view[0] = 9
        assert other.try_read() is None
    assert lock.holders() == []
    with other.blocking_read() as buf:
        assert buf[0] == 9
