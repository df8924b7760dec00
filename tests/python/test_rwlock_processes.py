"""The lock between real processes: pickles, fork, kill -9, Ctrl-C, two languages of waiting."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
METHODS = multiprocessing.get_all_start_methods()
# A child by fork beside other threads is what the test is about.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def lock(name: str) -> Iterator[ringspan.RwLock]:
    with ringspan.RwLock(name, 64) as made:
        yield made


async def parks(lock: ringspan.RwLock, more_than: int = 0) -> None:
    while lock.stat().parks <= more_than:  # noqa: ASYNC110 - counted by the lock
        await asyncio.sleep(0)


def _count(lock: ringspan.RwLock, times: int) -> None:
    async def half() -> None:
        for _ in range(times // 2):
            async with lock.write() as buf:
                np.frombuffer(buf, "u8")[0] += np.uint64(1)

    asyncio.run(half())
    for _ in range(times - times // 2):
        with lock.blocking_write(25) as buf:
            np.frombuffer(buf, "u8")[0] += np.uint64(1)


def _count_and_close(lock: ringspan.RwLock, times: int) -> None:
    with lock:  # a child of the forkserver ends without a farewell
        _count(lock, times)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "fork"])
def test_a_lock_goes_to_children(lock: ringspan.RwLock, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    children = [context.Process(target=_count_and_close, args=(lock, 300)) for _ in range(2)]
    for process in children:
        process.start()
    _count(lock, 300)
    for process in children:
        process.join(25)
        assert process.exitcode == 0
    with lock.blocking_read() as buf:
        assert int.from_bytes(buf[:8], "little") == 900


def _inherited(lock: ringspan.RwLock, guard: ringspan.Guard) -> None:
    verbs: tuple[Callable[[], Any], ...] = (
        lock.try_read,
        lock.try_write,
        lock.blocking_read,
        lock.blocking_write,
        lock.holders,
        lock.stat,
        lock.clear_poison,
        lambda: asyncio.run(_await(lock)),
    )
    for verb in verbs:
        try:
            verb()
        except ringspan.Forked as err:
            assert "inherited by fork" in str(err)
            continue
        raise AssertionError(verb)
    with ringspan.RwLock(lock.name) as own:
        assert own.try_write() is None
        assert [holder.mode for holder in own.holders()] == ["read"]
    guard.release()
    lock.close()


async def _await(lock: ringspan.RwLock) -> None:
    async with lock.read():
        pass


@quiet
def test_a_lock_that_came_by_fork_says_so(lock: ringspan.RwLock, name: str) -> None:
    guard = lock.blocking_read()
    process = multiprocessing.get_context("fork").Process(target=_inherited, args=(lock, guard))
    process.start()
    process.join(25)
    assert process.exitcode == 0
    assert [(holder.mode, holder.pid) for holder in lock.holders()] == [("read", os.getpid())]
    with ringspan.RwLock(name) as other:
        assert other.try_write() is None
    guard.release()


@quiet
def test_a_fork_beside_waiting_tasks_leaves_the_parent_alone(
    lock: ringspan.RwLock, name: str, run: Run
) -> None:
    async def both() -> None:
        other = ringspan.RwLock(name)
        guard = other.blocking_write()
        waiting = asyncio.ensure_future(lock.write())
        await parks(lock)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                try:
                    lock.try_read()
                except ringspan.Forked:
                    code = 0
                waiting.cancel()
                del waiting, guard, other
                gc.collect()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0  # noqa: ASYNC222
        assert other.try_read() is None
        guard.release()
        (await asyncio.wait_for(waiting, 20)).release()

    if sys.version_info >= (3, 12):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            run(both())
    else:
        run(both())


HOLDS = """
import sys, ringspan
lock = ringspan.RwLock(sys.argv[1])
guard = getattr(lock, "blocking_" + sys.argv[2])()
if sys.argv[2] == "write":
    guard.view[:4] = b"half"
if "views" in sys.argv:
    view = guard.view[1:]
    try:
        guard.release()
    except BufferError:
        pass
print("holds", flush=True)
input()
"""


@pytest.mark.parametrize("how", ["task", "thread"])
@pytest.mark.parametrize("held", ["guard", "views"])
def test_a_killed_reader_vanishes(
    lock: ringspan.RwLock, name: str, child: Callable[..., Any], run: Run, how: str, held: str
) -> None:
    process = child(HOLDS, name, "read", held)
    process.expect("holds")
    (holder,) = lock.holders()
    assert (holder.pid, holder.mode) == (process.pid, "read")
    assert holder.kept_by_views == int(held == "views")

    async def main() -> None:
        if how == "task":
            waiting = asyncio.ensure_future(lock.write())
        else:
            waiting = asyncio.ensure_future(asyncio.to_thread(lock.blocking_write, 25))
        await parks(lock)
        process.kill()
        (await waiting).release()

    run(main())
    assert not lock.is_poisoned


@pytest.mark.parametrize("how", ["task", "thread"])
@pytest.mark.parametrize("verb", ["read", "write"])
def test_a_killed_writer_poisons(
    lock: ringspan.RwLock, name: str, child: Callable[..., Any], run: Run, how: str, verb: str
) -> None:
    process = child(HOLDS, name, "write")
    process.expect("holds")

    async def main() -> None:
        if how == "task":
            waiting = asyncio.ensure_future(getattr(lock, verb)())
        else:
            blocking = getattr(lock, f"blocking_{verb}")
            waiting = asyncio.ensure_future(asyncio.to_thread(blocking, 25))
        await parks(lock)
        process.kill()
        with pytest.raises(ringspan.Poisoned, match=name):
            await waiting

    run(main())
    assert lock.holders() == []
    with lock.blocking_write(allow_poisoned=True) as buf:
        assert bytes(buf[:4]) == b"half"
        lock.clear_poison()
    with lock.blocking_read():
        pass


def test_a_killed_writer_is_found_by_try(
    lock: ringspan.RwLock, name: str, child: Callable[..., Any]
) -> None:
    process = child(HOLDS, name, "write")
    process.expect("holds")
    assert lock.try_read() is None
    process.kill()
    with pytest.raises(ringspan.Poisoned):
        for _ in range(65):
            assert lock.try_read() is None
    assert lock.is_poisoned


@pytest.mark.parametrize("wait", ["lock.blocking_write()", "asyncio.run(main())"])
def test_a_killed_waiter_delays_nobody(
    lock: ringspan.RwLock, name: str, child: Callable[..., Any], run: Run, wait: str
) -> None:
    process = child(
        f"""
        import asyncio, sys, threading, time, ringspan
        lock = ringspan.RwLock(sys.argv[1])
        async def main():
            async with lock.write():
                pass
        def tell():
            while lock.stat().parks == 0:
                time.sleep(0)
            print("waits", flush=True)
        threading.Thread(target=tell, daemon=True).start()
        {wait}
        """,
        name,
    )
    guard = lock.blocking_read()
    process.expect("waits")

    async def main() -> None:
        with ringspan.RwLock(name) as other:
            assert other.try_read() is None  # a writer waits
            waiting = asyncio.ensure_future(other.read())
            await parks(other)
            assert not waiting.done()
            process.kill()
            (await asyncio.wait_for(waiting, 25)).release()

    run(main())
    guard.release()


CTRL_C = """
import signal, sys, threading, ringspan
lock = ringspan.RwLock(sys.argv[1])
segment = ringspan.Segment.open(sys.argv[1] + "-segment")
verb = {
    "blocking_write": lock.blocking_write,
    "blocking_read": lock.blocking_read,
    "blocking_changed": segment.blocking_changed,
}[sys.argv[2]]
if sys.argv[3] == "another thread":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
while True:
    try:
        print("waits", flush=True)
        verb()
        print("came", flush=True)
        break
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("verb", ["blocking_write", "blocking_read", "blocking_changed"])
@pytest.mark.parametrize("signalled", ["the main thread", "another thread"])
def test_ctrl_c_ends_every_blocking_verb(
    lock: ringspan.RwLock, name: str, child: Callable[..., Any], verb: str, signalled: str
) -> None:
    # The signal comes at any moment around the sleep, the one between the last look and the sleep
    # included; where the main thread blocks it, another thread takes it.
    with ringspan.Segment.create(f"{name}-segment", 8) as segment:
        guard = lock.blocking_write()
        process = child(CTRL_C, name, verb, signalled)
        for n in range(150):
            process.expect("waits")
            for _ in range(n * 40):
                pass
            process.kill(signal.SIGINT)
            process.expect("interrupted")
        process.expect("waits")
        if verb == "blocking_changed":
            for _ in range(2000):  # it may look for the version later than we notify
                segment.notify()
                time.sleep(0.001)
                if process.process.poll() is not None:
                    break
        guard.release()
        process.expect("came")
        process.finish()


@pytest.mark.parametrize("runner", ["asyncio.run", "uvloop.run"])
def test_ctrl_c_ends_an_await(
    lock: ringspan.RwLock, name: str, child: Callable[..., Any], runner: str
) -> None:
    pytest.importorskip(runner.split(".")[0])
    guard = lock.blocking_write()
    process = child(
        f"""
        import sys, asyncio, threading, time, ringspan
        import {runner.split(".")[0]}
        lock = ringspan.RwLock(sys.argv[1])
        async def main():
            async with lock.read():
                pass
        def tell():
            while lock.stat().parks == 0:
                time.sleep(0)
            print("waits", flush=True)
        threading.Thread(target=tell, daemon=True).start()
        try:
            {runner}(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        name,
    )
    process.expect("waits")
    process.kill(signal.SIGINT)
    process.expect("interrupted")
    process.finish()
    guard.release()
    with lock.blocking_write(20):
        assert lock.stat().attached == 1


WRITES = """
import asyncio, sys, threading, ringspan
lock = ringspan.RwLock(sys.argv[1])
n = 0
def once(buf):
    global n
    n += 1
    for at in range(32):
        buf[at] = n % 251
async def tasks():
    while True:
        async with lock.write(allow_poisoned=True) as buf:
            if lock.is_poisoned:
                buf[:32] = bytes(32)
                lock.clear_poison()
            once(buf)
def thread():
    while True:
        with lock.blocking_write(allow_poisoned=True) as buf:
            if lock.is_poisoned:
                buf[:32] = bytes(32)
                lock.clear_poison()
            once(buf)
print("writes", flush=True)
if sys.argv[2] == "task":
    asyncio.run(tasks())
thread()
"""


def test_writers_killed_at_any_moment(
    lock: ringspan.RwLock, name: str, child: Callable[..., Any], run: Run
) -> None:
    """What is read without an error is whole, however many are killed while they write."""

    async def main() -> None:
        poisoned = reads = 0
        for _ in range(6):
            writers = [child(WRITES, name, how) for how in ("task", "thread")]
            for process in writers:
                process.expect("writes")
            for _ in range(40):
                try:
                    async with lock.read() as buf:
                        assert len(set(buf[:32])) == 1
                        reads += 1
                except ringspan.Poisoned:
                    poisoned += 1
            for process in writers:
                process.kill()
            with await lock.write(allow_poisoned=True) as buf:
                poisoned += lock.is_poisoned
                buf[:32] = bytes(32)
                lock.clear_poison()
        assert reads > 0

    run(main())
    assert lock.holders() == []
    lock.remove()  # then no slot names the doors of those who were killed
    ringspan.gc()
