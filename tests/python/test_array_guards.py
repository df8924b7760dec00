"""The lock and the version of shared arrays: what the guards hand out, and how it is taken back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import ringspan
import ringspan.array as shared

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_the_guards_hand_the_array_out(name: str, run: Run) -> None:
    arr, other = shared.create(name, "f8", (3, 4), order="F"), shared.open(name)

    async def use() -> None:
        async with arr.write() as a:
            assert type(a) is np.ndarray
            assert a.flags.f_contiguous
            a += 1
            assert other.try_read() is None
            waiting = asyncio.ensure_future(take(other))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            with pytest.raises(ringspan.WouldDeadlock, match=name):
                await arr.write()
        assert await asyncio.wait_for(waiting, 10) == 12.0
        guard = await arr.read()
        with guard as a:
            assert (guard.mode, guard.value is a) == ("read", True)
            with pytest.raises(ValueError, match="read-only"):
                a[0, 0] = 1
            with pytest.raises(ringspan.Timeout, match="read by pid"):
                other.blocking_write(timeout=0)
        assert other.holders() == []
        with pytest.raises(ringspan.HandleClosed):
            _ = (await arr.read()).release() or guard.value

    async def take(arr: Any) -> float:
        async with arr.read() as a:
            return float(a.sum())

    run(use())


def test_a_cancelled_wait_takes_nothing(name: str, run: Run) -> None:
    arr, other = shared.create(name, "f8", 3), shared.open(name)

    async def use() -> None:
        with other.blocking_read():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(arr.write(), 0.01)
            task = asyncio.ensure_future(enter(arr))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with arr.blocking_read():
                pass
        guard = arr.try_write()
        assert guard is not None
        guard.release()
        guard.release()
        assert "released" in repr(guard)

    async def enter(arr: Any) -> None:
        async with arr.write():
            raise AssertionError("it was not free")

    run(use())


def test_what_was_handed_out_is_read_only_behind_the_block(name: str) -> None:
    arr = shared.create(name, "f8", 3)
    with arr.blocking_write() as a:
        a[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 2
    assert arr.tolist() == [1.0, 0.0, 0.0]


def test_views_of_what_was_handed_out_keep_the_lock(name: str) -> None:
    arr, other = shared.create(name, "f8", 8), shared.open(name)
    with pytest.raises(BufferError, match=f"{name}.*1 view") as raised, arr.blocking_write() as a:
        part = a[2:]
    assert other.try_write() is None
    part[0] = 9  # still ours
    del a, part
    del raised  # its traceback has the frames
    gc.collect()
    assert other.try_write() is not None
    with pytest.raises(LookupError), arr.blocking_read() as b:
        kept = b.reshape(2, 4)
        raise LookupError
    assert other.try_write() is None
    del b, kept
    gc.collect()
    assert other.try_write() is not None
    with arr.blocking_read() as b:
        del b
    assert other.try_write() is not None


def test_a_lock_for_several_arrays(name: str) -> None:
    lock = ringspan.RwLock(f"{name}-lock", 0)
    arrays = [shared.create(f"{name}-{n}", "i8", 3, lock=lock) for n in range(2)]
    other = shared.open(f"{name}-1", lock=lock)
    with arrays[0].blocking_write() as a:
        a[0] = 1
        assert [one.mode for one in lock.holders()] == ["write"]
        with pytest.raises(ringspan.WouldDeadlock):
            other.blocking_read()
    with other.blocking_read():
        assert lock.try_write() is None
    lock.remove()


def test_a_killed_writer_poisons(name: str, child: Any) -> None:
    arr = shared.create(name, "i8", 3)
    code = """
        import sys, ringspan
        arr = ringspan.array.open(sys.argv[1])
        with arr.blocking_write() as a:
            a[0] = 1
            print("held")
            input()
        """
    holder = child(code, name)
    holder.expect("held")
    assert [one.pid for one in arr.holders()] == [holder.pid]
    holder.kill()
    with pytest.raises(ringspan.Poisoned, match=name):
        arr.blocking_write(timeout=20)
    assert arr.is_poisoned
    with arr.blocking_write(allow_poisoned=True) as a:
        a[...] = 0
        arr.clear_poison()
    assert not arr.is_poisoned


def test_changed_is_awaited_across_processes(name: str, child: Any, run: Run) -> None:
    arr = shared.create(name, "i8", 3)
    code = """
        import sys, ringspan
        arr = ringspan.array.open(sys.argv[1])
        print("ready")
        while (order := input()) != "end":
            arr[0] = int(order)
            print(arr.notify())
        """
    other = child(code, name)
    other.expect("ready")

    async def wait() -> None:
        seen = arr.version
        for number in range(1, 4):
            waiting = asyncio.ensure_future(arr.changed(seen))
            await asyncio.sleep(0)
            other.say(number * 11)
            seen = await asyncio.wait_for(waiting, 20)
            assert (seen, arr[0]) == (number, number * 11)
            other.expect(str(number))
        assert arr.blocking_changed(0) == seen
        with pytest.raises(ringspan.Timeout):
            arr.blocking_changed(timeout=0)

    run(wait())
    other.say("end")
    other.finish()


def test_the_array_of_a_dropped_guard_keeps_the_lock(name: str, run: Run) -> None:
    arr, other = shared.create(name, "f8", 3), shared.open(name)
    held = arr.blocking_write().value
    gc.collect()
    assert other.try_write() is None
    held[0] = 9
    del held
    gc.collect()
    with other.blocking_write(timeout=0):
        pass

    async def wait() -> Any:
        return (await arr.read()).value

    held = run(wait())
    assert other.try_write() is None
    with pytest.raises(ValueError, match=r"WRITEABLE|writeable|read-only"):
        held.flags.writeable = True
    del held
    gc.collect()
    assert other.try_write() is not None


def test_rows_of_a_structured_array_keep_the_lock(name: str) -> None:
    arr, other = shared.create(name, [("x", "i4"), ("y", "f8")], 3), shared.open(name)
    for derive in (
        lambda a: a[0],
        lambda a: a.view(np.recarray),
        lambda a: memoryview(a),
        lambda a: np.lib.stride_tricks.as_strided(a, (2,), (16,)),
    ):
        with pytest.raises(BufferError, match="1 view") as raised, arr.blocking_write() as a:
            part = derive(a)
        assert other.try_read() is None
        del a, part, raised
        gc.collect()
        with other.blocking_write(timeout=0):
            pass
    with arr.blocking_write() as a:
        a[0] = (1, 2.0)
    assert other.try_read() is not None


def test_a_guard_that_failed_hands_nothing_out(name: str) -> None:
    arr, other = shared.create(name, "f8", 5), shared.open(name)
    guard = arr.blocking_write()
    with pytest.raises(BufferError), guard as a:
        part = a[1:]
    with pytest.raises(ringspan.HandleClosed):
        _ = guard.value
    assert (guard.mode, part[0]) == ("write", 0)
    guard.release()
    assert other.try_read() is None
