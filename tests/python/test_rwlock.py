"""The lock: opening, its verbs, no wait for oneself, poison, what it tells."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pickle
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
DIES_WRITING = """
import os, sys, ringspan
lock = ringspan.RwLock(sys.argv[1])
guard = lock.blocking_write()
guard.view[:4] = b"half"
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def lock(name: str) -> Iterator[ringspan.RwLock]:
    with ringspan.RwLock(name, 64) as made:
        yield made


def test_opening(name: str) -> None:
    with pytest.raises(ringspan.NotFound, match=name):
        ringspan.RwLock(name)
    with pytest.raises(ringspan.NotFound, match=name):
        ringspan.RwLock(name, 10, create=False)
    with pytest.raises(ringspan.InvalidOption, match="size"):
        ringspan.RwLock(name, create=True)
    lock = ringspan.RwLock(name, 100)
    assert (len(lock), lock.size, lock.name, lock.is_ephemeral) == (100, 100, name, False)
    assert "100 bytes" in repr(lock)
    with pytest.raises(ringspan.AlreadyExists, match=name):
        ringspan.RwLock(name, 100, create=True)
    for create in (None, False):
        assert len(ringspan.RwLock(name, create=create)) == 100
        assert len(ringspan.RwLock(name, 50, create=create)) == 100
        with pytest.raises(ringspan.Mismatch, match=r"101.*100"):
            ringspan.RwLock(name, 101, create=create)
    with pytest.raises(ringspan.Mismatch, match="lock"):
        ringspan.Segment.open(name)
    ringspan.Segment.create(f"{name}-seg", 8).close()
    with pytest.raises(ringspan.Mismatch, match="segment"):
        ringspan.RwLock(f"{name}-seg", 8)
    for size, error in ((-1, OverflowError), ("8", TypeError), (1 << 50, ringspan.NoSpace)):
        with pytest.raises(error):
            ringspan.RwLock(f"{name}-bad", size)  # type: ignore[arg-type]
    with pytest.raises(ringspan.InvalidName):
        ringspan.RwLock("a/b", 8)
    with pytest.raises(ringspan.InvalidOption, match="mode"):
        ringspan.RwLock(f"{name}-bad", 8, mode=0o10000)
    lock.remove()
    with pytest.raises(ringspan.NotFound):
        lock.remove()


def test_a_lock_without_bytes_locks(name: str) -> None:
    lock = ringspan.RwLock(name, 0)
    assert lock
    assert len(lock) == 0
    with lock.blocking_write() as buf:
        assert len(buf) == 0
        assert lock.try_read() is None


def test_ephemeral_and_info(name: str) -> None:
    with ringspan.RwLock(name, 8, ephemeral=True) as lock:
        assert lock.is_ephemeral
        (info,) = (info for info in ringspan.segments() if info.name == name)
        assert (info.kind, info.size, info.fault) == ("lock", 8, None)
        stat = lock.stat()
        assert (stat.attached, stat.parks) == (1, 0)
        other = ringspan.RwLock(name)
        assert lock.stat().attached == 2
        other.close()
    with pytest.raises(ringspan.NotFound):
        ringspan.RwLock(name)


def test_the_forty_ninth_handle_is_refused(name: str) -> None:
    locks = [ringspan.RwLock(name, 8) for _ in range(48)]
    with pytest.raises(ringspan.TooManyAttached):
        ringspan.RwLock(name)
    locks.pop().close()
    ringspan.RwLock(name).close()


def test_readers_share_and_a_writer_is_alone(lock: ringspan.RwLock, name: str) -> None:
    other = ringspan.RwLock(name)
    with lock.blocking_write() as buf:
        assert not buf.readonly
        buf[:5] = b"hello"
        assert other.try_read() is None
        assert other.try_write() is None
        with pytest.raises(ringspan.Timeout, match=f"written by pid {os.getpid()}") as info:
            other.blocking_read(timeout=0.01)
        assert isinstance(info.value, TimeoutError)
        assert info.value.errno == errno.ETIMEDOUT
    with pytest.raises(ValueError, match="released"):
        bytes(buf)
    with other.blocking_read() as one, lock.blocking_read() as two:
        assert one.readonly
        assert bytes(one[:5]) == bytes(two[:5]) == b"hello"
        with pytest.raises(TypeError, match="read-only"):
            one[0] = 1
        assert other.try_write() is None
    guard = other.try_write()
    assert guard is not None
    assert guard.mode == "write"
    guard.release()
    guard.release()
    assert "released" in repr(guard)
    with pytest.raises(ringspan.HandleClosed, match="released"):
        _ = guard.view
    with pytest.raises(ringspan.HandleClosed, match="released"):
        guard.downgrade()


@pytest.mark.parametrize("timeout", ["1", True, object()])
def test_bad_time_outs(lock: ringspan.RwLock, timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout"):
        lock.blocking_read(timeout)
    with pytest.raises(ValueError, match="timeout"):
        lock.blocking_write(-1)
    assert lock.holders() == []


def test_async_with_and_await(lock: ringspan.RwLock, run: Run) -> None:
    async def use() -> None:
        async with lock.write() as buf:
            assert isinstance(buf, memoryview)
            assert not buf.readonly
            buf[:3] = b"abc"
            assert lock.holders()[0].mode == "write"
        with pytest.raises(ValueError, match="released"):
            bytes(buf)
        assert lock.holders() == []
        guard = await lock.read()
        assert isinstance(guard, ringspan.Guard)
        with guard as view:
            assert bytes(view[:3]) == b"abc"
        with await lock.write() as view:
            view[:1] = b"x"
        task = asyncio.create_task(lock.read())
        with await task as view:
            assert bytes(view[:3]) == b"xbc"
        once = lock.read()
        (await once).release()
        with pytest.raises(RuntimeError, match="awaited already"):
            await once
        for _ in range(2000):  # more than the turns that the loop is given
            async with lock.write():
                pass

    run(use())
    assert lock.holders() == []


def test_an_exception_goes_through_and_does_not_poison(lock: ringspan.RwLock, run: Run) -> None:
    async def fail() -> None:
        async with lock.write():
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"), lock.blocking_write():
        raise LookupError("mine")
    with pytest.raises(LookupError, match="mine"):
        run(fail())
    assert not lock.is_poisoned
    assert lock.holders() == []


def test_what_was_never_awaited_says_so(lock: ringspan.RwLock) -> None:
    with pytest.warns(RuntimeWarning, match=r"RwLock\.write"):
        lock.write()
    acquire = lock.read()
    acquire.close()
    with pytest.raises(RuntimeError, match="running asyncio loop"):
        lock.read().send(None)


def test_holders(lock: ringspan.RwLock, name: str) -> None:
    before = time.time()
    with lock.blocking_read():
        (holder,) = ringspan.RwLock(name).holders()
        assert (holder.pid, holder.mode, holder.kept_by_views) == (os.getpid(), "read", 0)
        assert holder.since is not None
        assert before - 1 < holder.since
        assert holder == lock.holders()[0]
        assert f"pid={os.getpid()}" in repr(holder)


def test_a_thread_never_waits_for_itself(lock: ringspan.RwLock, name: str) -> None:
    with lock.blocking_write():
        for verb in (lock.blocking_read, lock.blocking_write):
            with pytest.raises(ringspan.WouldDeadlock, match=f"lock {name}.*this thread") as info:
                verb()
        assert isinstance(info.value, RuntimeError)
        assert info.value.errno == errno.EDEADLK
        assert lock.try_read() is None
        assert lock.try_write() is None
    with lock.blocking_read(), lock.blocking_read(), lock.blocking_read(timeout=1):
        with pytest.raises(ringspan.WouldDeadlock, match="downgrade"):
            lock.blocking_write(timeout=5)
        assert lock.try_write() is None
    with lock.blocking_write():
        pass


def test_a_read_in_a_read_does_not_wait_for_a_writer(lock: ringspan.RwLock, name: str) -> None:
    other = ringspan.RwLock(name)
    with lock.blocking_read():
        writer = threading.Thread(target=lambda: other.blocking_write(20).release())
        writer.start()
        while other.stat().parks == 0:
            time.sleep(0)
        assert lock.try_read() is None
        with pytest.raises(ringspan.WouldDeadlock):
            lock.blocking_read()
    with lock.blocking_read(20):
        pass
    writer.join()


def test_a_task_never_waits_for_itself(lock: ringspan.RwLock, run: Run) -> None:
    async def use() -> None:
        async with lock.write():
            for verb in (lock.read, lock.write):
                with pytest.raises(ringspan.WouldDeadlock, match="this task"):
                    await verb()
                with pytest.raises(ringspan.WouldDeadlock, match="this task"):
                    async with verb():
                        pass
            with pytest.raises(ringspan.WouldDeadlock, match="this task"):
                lock.blocking_write()
            assert lock.try_read() is None
        async with lock.read(), lock.read():
            with pytest.raises(ringspan.WouldDeadlock):
                await lock.write()
        # Another task may hand its guard on: then it is nobody's error to wait.
        guard = await asyncio.create_task(lock.write())
        waiting = asyncio.ensure_future(lock.write())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        guard.release()
        (await waiting).release()
        # Given back by somebody else, it is given back.
        guard = await lock.write()
        await asyncio.to_thread(guard.release)
        async with lock.write():
            pass
        await asyncio.gather(*(once() for _ in range(50)))

    async def once() -> None:
        async with lock.write():
            await asyncio.sleep(0)

    run(use())


def test_poison(lock: ringspan.RwLock, name: str, child: Callable[..., Any], run: Run) -> None:
    assert not lock.is_poisoned
    assert child(DIES_WRITING, name).wait() == -9

    async def awaited() -> None:
        with pytest.raises(ringspan.Poisoned):
            await lock.read()
        with pytest.raises(ringspan.Poisoned):
            async with lock.write():
                pass
        async with lock.read(allow_poisoned=True) as buf:
            assert bytes(buf[:4]) == b"half"

    with pytest.raises(ringspan.Poisoned, match=f"lock {name}.*allow_poisoned=True") as info:
        lock.blocking_write()
    assert isinstance(info.value, OSError)
    assert info.value.errno == errno.EOWNERDEAD
    assert lock.is_poisoned
    assert lock.holders() == []
    for verb in (lock.try_read, lock.try_write, lock.blocking_read, lock.blocking_write):
        with pytest.raises(ringspan.Poisoned):
            verb()
    run(awaited())
    assert lock.holders() == []
    with lock.blocking_write(allow_poisoned=True) as buf:
        buf[:4] = bytes(4)
        lock.clear_poison()
    assert not lock.is_poisoned
    guard = lock.try_read()
    assert guard is not None
    guard.release()


def test_a_closed_handle_says_so(lock: ringspan.RwLock, name: str, run: Run) -> None:
    guard = lock.blocking_read()
    with lock as same:
        assert same is lock
    lock.close()
    verbs: tuple[Callable[[], Any], ...] = (
        lock.try_read,
        lock.try_write,
        lock.blocking_read,
        lock.blocking_write,
        lock.holders,
        lock.stat,
        lock.clear_poison,
        lambda: lock.is_poisoned,
        lambda: run(asyncio.wait_for(lock.read(), 5)),
    )
    for verb in verbs:
        with pytest.raises(ringspan.HandleClosed, match=name):
            verb()
    assert "closed" in repr(lock)
    assert (len(lock), lock.name) == (64, name)
    other = ringspan.RwLock(name)
    assert other.try_write() is None  # the guard is still out
    guard.release()
    with other.blocking_write():
        assert other.stat().attached == 1
    again = pickle.loads(pickle.dumps(lock))
    with again.blocking_write():
        assert other.try_read() is None
    lock.remove()
    with pytest.raises(ringspan.NotFound):
        pickle.loads(pickle.dumps(lock))


def test_a_closed_loop_keeps_nothing_attached(name: str) -> None:
    other = ringspan.RwLock(name, 8)
    guard = other.blocking_write()
    task = leave_waiting(ringspan.RwLock(name))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    gc.collect()
    assert other.stat().attached == 1
    guard.release()
    with other.blocking_read(5):
        pass


def leave_waiting(lock: ringspan.RwLock) -> asyncio.Task[None]:
    """Closes a loop while a task in it waits for the lock."""

    async def wait() -> None:
        async with lock.write():
            pass

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(main())
    loop.close()
    return task
