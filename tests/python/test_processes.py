"""Rings between real processes: death, fork, pickles, Ctrl-C."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]

PRODUCER = """
import sys, ringspan
tx = ringspan.Producer(sys.argv[1])
for n in range(int(sys.argv[2])):
    tx.blocking_push(n)
print("pushed", flush=True)
input()
"""


def test_a_killed_producer_is_told_after_its_last_message(
    name: str, child: Callable[..., Any], run: Run
) -> None:
    process = child(PRODUCER, name, 5)

    async def consume() -> None:
        with ringspan.Consumer(name) as rx:
            got: list[int] = []
            waiting = asyncio.ensure_future(read(rx, got))
            process.expect("pushed")
            while len(got) < 5:  # noqa: ASYNC110 - the other task appends
                await asyncio.sleep(0.001)
            process.kill()
            with pytest.raises(ringspan.PeerDied, match=str(process.pid)) as info:
                await waiting
            assert info.value.pid == process.pid
            assert isinstance(info.value, BrokenPipeError)
            assert got == list(range(5))
            with ringspan.Producer(name) as tx:
                tx.try_push("the next one")
                assert await rx.pop() == "the next one"

    async def read(rx: ringspan.Consumer, got: list[int]) -> None:
        async for n in rx:
            got.append(n)  # noqa: PERF401 - one by one, to be seen from outside

    run(consume())


def test_a_killed_producer_ends_a_blocking_pop(name: str, child: Callable[..., Any]) -> None:
    process = child(PRODUCER, name, 1)
    with ringspan.Consumer(name) as rx:
        assert rx.blocking_pop() == 0
        process.expect("pushed")
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ringspan.PeerDied) as info:
            rx.blocking_pop()
        assert info.value.pid == process.pid


def test_a_killed_consumer_ends_a_push(name: str, child: Callable[..., Any], run: Run) -> None:
    process = child(
        """
        import sys, ringspan
        rx = ringspan.Consumer(sys.argv[1])
        print(rx.blocking_pop(), flush=True)
        input()
        """,
        name,
    )

    async def fill() -> None:
        with ringspan.Producer(name, capacity=4096) as tx:
            await tx.push("one")
            process.expect("one")
            while tx.try_push(b"x" * 500):
                pass
            waiting = asyncio.ensure_future(tx.push(b"x" * 500))
            await asyncio.sleep(0.01)
            process.kill()
            with pytest.raises(ringspan.PeerDied) as info:
                await waiting
            assert info.value.pid == process.pid

    run(fill())


@pytest.mark.parametrize("signalled", ["the main thread", "another thread"])
def test_ctrl_c_ends_every_blocking_pop(
    name: str, child: Callable[..., Any], signalled: str
) -> None:
    # The signal comes at any moment around the sleep, the one between the last look and the sleep
    # included; where the main thread blocks it, another thread takes it.
    process = child(
        """
        import signal, sys, threading, ringspan
        rx = ringspan.Consumer(sys.argv[1])
        if sys.argv[2] == "another thread":
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        while True:
            print("waits", flush=True)
            try:
                print(rx.blocking_pop(), flush=True)
                break
            except KeyboardInterrupt:
                print("interrupted", rx.try_pop(None), flush=True)
        """,
        name,
        signalled,
    )
    with ringspan.Producer(name) as tx:
        tx.blocking_attached(20)
        ring = ringspan.Ring(name)
        for _ in range(200):
            process.expect("waits")
            while not ring.stat().consumer_parked:
                pass
            process.kill(signal.SIGINT)
            process.expect("interrupted None")
        process.expect("waits")
        tx.try_push("usable")
        process.expect("usable")
    process.finish()


@pytest.mark.parametrize("runner", ["asyncio.run", "uvloop.run"])
def test_ctrl_c_ends_an_await(name: str, child: Callable[..., Any], runner: str) -> None:
    pytest.importorskip(runner.split(".")[0])
    process = child(
        f"""
        import sys, asyncio, ringspan
        import {runner.split(".")[0]}
        async def main():
            with ringspan.Consumer(sys.argv[1]) as rx:
                await rx.pop()
        try:
            {runner}(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        name,
    )
    with ringspan.Producer(name) as tx:
        tx.blocking_attached(20)
        while not ringspan.Ring(name).stat().consumer_parked:
            pass
        process.kill(signal.SIGINT)
        process.expect("interrupted")
    process.finish()


METHODS = multiprocessing.get_all_start_methods()
# A child by fork beside other threads is what the test is about.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _echo(there: ringspan.Ring, back: ringspan.Ring) -> None:
    with there.consumer() as rx, back.producer() as tx:
        for _ in range(100):
            tx.blocking_push(rx.blocking_pop(timeout=20), timeout=20)


@quiet
@pytest.mark.parametrize("method", METHODS)
def test_a_ring_goes_to_a_child(name: str, method: str) -> None:
    there = ringspan.Ring(f"{name}-there", capacity=8192, create=True)
    back = ringspan.Ring(f"{name}-back", capacity=8192, create=True)
    process = multiprocessing.get_context(method).Process(target=_echo, args=(there, back))
    process.start()
    with there.producer() as tx, back.consumer() as rx:
        for n in range(100):
            tx.blocking_push(n, timeout=20)
            assert rx.blocking_pop(timeout=20) == n
    process.join(20)
    assert process.exitcode == 0


def _use_end(rx: ringspan.Consumer, name: str) -> None:
    try:
        rx.try_pop(None)
    except ringspan.RingspanError as err:
        report = f"{type(err).__name__}: {err}"
    else:
        report = "no error"
    with ringspan.Producer(name) as tx:
        tx.try_push(report)


@quiet
@pytest.mark.parametrize("method", METHODS)
def test_an_attached_end_says_what_to_do(name: str, method: str) -> None:
    with ringspan.Consumer(f"{name}-end") as rx, ringspan.Consumer(f"{name}-report") as report:
        context = multiprocessing.get_context(method)
        process = context.Process(target=_use_end, args=(rx, f"{name}-report"))
        process.start()
        text = report.blocking_pop(timeout=20)
        process.join(20)
        assert process.exitcode == 0
        if method == "fork":
            assert text.startswith("Forked: ")
            assert "fork" in text
        else:
            assert text.startswith("RoleTaken: ")
            assert f"pass ringspan.Ring('{name}-end')" in text.replace('"', "'")
            assert ".consumer() in the child" in text
        assert rx.try_pop(None) is None


IN_A_FORK = """
import asyncio, os, sys, threading, traceback, ringspan
rx, tx = ringspan.Consumer(sys.argv[1]), ringspan.Producer(sys.argv[1])

def in_a_fork(*verbs):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            for verb in verbs:
                try:
                    print("not refused:", verb())
                except ringspan.Forked as err:
                    assert "inherited by fork" in str(err) and sys.argv[1] in str(err)
            assert "inherited by fork" in repr(rx) or "tached" in repr(rx), repr(rx)
            print("refused")
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(pid, 0)

def awaits(verb):
    async def task():
        return await verb()
    return lambda: asyncio.run(task())
"""


def test_a_fork_while_a_thread_is_inside(name: str, run_python: Callable[..., Any]) -> None:
    code = """
got = []
sleeper = threading.Thread(target=lambda: got.append(rx.blocking_pop()))
sleeper.start()
while "busy" not in repr(rx):
    pass
in_a_fork(rx.try_pop, rx.blocking_pop, rx.arm, awaits(rx.pop), rx.close, lambda: tx.try_push(1))
tx.try_push("still here")
sleeper.join(20)
print(got)
while tx.try_push(b"x" * 60000):
    pass
filler = threading.Thread(target=tx.blocking_push, args=(b"x" * 60000,))
filler.start()
while "busy" not in repr(tx):
    pass
in_a_fork(lambda: tx.try_push(1), awaits(lambda: tx.push(1)), tx.close, rx.try_pop)
while filler.is_alive():
    rx.try_pop(None)
"""
    assert run_python(IN_A_FORK + code, name).stdout == "refused\n['still here']\nrefused\n"


def test_a_fork_while_a_task_waits(name: str, run_python: Callable[..., Any]) -> None:
    code = """
async def main():
    waiting = asyncio.ensure_future(rx.pop())
    await asyncio.sleep(0.05)
    # The loop of the child runs in another thread: this one has the copy of ours.
    def child(verb):
        def run():
            told = []
            def work():
                try:
                    verb()
                except BaseException as err:
                    told.append(err)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            raise told[0]
        return run
    for make in (rx.pop, lambda: rx.pop_many(3), rx.attached):
        in_a_fork(child(awaits(make)), child(rx.blocking_pop))
    tx.try_push("still here")
    print(await asyncio.wait_for(waiting, 20))
asyncio.run(main())
"""
    assert run_python(IN_A_FORK + code, name).stdout == "refused\n" * 3 + "still here\n"


def test_a_forked_child_leaves_the_parent_alone(name: str, run: Run) -> None:
    ring = ringspan.Ring(name)

    async def both() -> None:
        with ring.producer() as tx, ring.consumer() as rx:
            waiting = asyncio.ensure_future(rx.pop())
            await asyncio.sleep(0)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    for verb in (lambda: tx.try_push(1), rx.try_pop, rx.close, tx.arm):
                        try:
                            verb()
                        except ringspan.Forked:
                            continue
                        break
                    else:
                        code = 0
                    del tx, rx, waiting
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0  # noqa: ASYNC222
            tx.try_push("still here")
            assert await asyncio.wait_for(waiting, 5) == "still here"

    if sys.version_info >= (3, 12):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            run(both())
    else:
        run(both())


def test_a_stream_between_processes_keeps_order(
    name: str, child: Callable[..., Any], run: Run
) -> None:
    child(
        """
        import sys, asyncio, ringspan
        async def main():
            async with ringspan.Producer(sys.argv[1], capacity=1 << 14) as tx:
                await tx.attached()
                for n in range(30000):
                    await tx.push(n.to_bytes(4, "little") + bytes(n % 300))
        asyncio.run(main())
        """,
        name,
    )

    async def consume() -> int:
        expected = 0
        with ringspan.Consumer(name, capacity=1 << 14) as rx:
            async for message in rx:
                assert int.from_bytes(message[:4], "little") == expected
                assert len(message) == 4 + expected % 300
                expected += 1
        return expected

    assert run(consume()) == 30000
