"""How the verbs of a ring wait: tasks, threads, time-outs, signals, foreign loops."""

from __future__ import annotations

import asyncio
import select
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import ringspan
from awaits import Ends

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_tasks_wait_for_each_other(name: str, run: Run) -> None:
    ring = ringspan.Ring(name, capacity=4096)

    async def both() -> int:
        async with ring.producer() as tx, ring.consumer() as rx:
            messages = (b"x" * 500 for _ in range(300))
            sending = asyncio.ensure_future(tx.push_many(messages))
            got = 0
            while got < 300:
                got += len(await rx.pop_many(4))
            assert await sending == 300
            return got

    assert run(both()) == 300


def test_a_cancelled_wait_takes_nothing(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def cancel() -> None:
        task = asyncio.ensure_future(rx.pop())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        tx.try_push("kept")
        assert await rx.pop() == "kept"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await rx.pop()

    run(cancel())


def test_try_pop_beside_a_waiting_task(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def both() -> None:
        waiting = asyncio.ensure_future(rx.pop())
        await asyncio.sleep(0)
        tx.try_push("first")
        assert rx.try_pop() == "first"
        await asyncio.sleep(0)
        for _ in range(200):
            assert rx.try_pop(None) is None
        tx.try_push("second")
        assert await asyncio.wait_for(waiting, 5) == "second"

    run(both())


def test_attached(name: str, run: Run) -> None:
    ring = ringspan.Ring(name)

    async def both() -> None:
        with ring.producer() as tx:
            waiting = asyncio.ensure_future(tx.attached())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            assert tx.peer() is None
            with ring.consumer() as rx:
                await asyncio.wait_for(waiting, 5)
                await asyncio.wait_for(rx.attached(), 5)
                peer = rx.peer()
                assert peer is not None
                assert peer.pid == rx.peer_pid == tx.peer_pid
                tx.blocking_attached(timeout=5)
            assert tx.peer_pid is None
            with pytest.raises(ringspan.Timeout):
                tx.blocking_attached(timeout=0.01)

    run(both())


def test_attached_sleeps_after_a_departure(name: str, run: Run) -> None:
    ring = ringspan.Ring(name)
    with ring.consumer() as rx:
        tx = ring.producer()
        rx.blocking_attached(5)
        tx.detach()
        started = time.process_time()
        with pytest.raises(ringspan.Timeout):
            rx.blocking_attached(timeout=0.5)
        assert time.process_time() - started < 0.25, "it polled"
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        async def wait() -> None:
            counting = asyncio.create_task(count())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await rx.attached()
            counting.cancel()

        started = time.process_time()
        run(wait())
        assert time.process_time() - started < 0.2, "it polled"


@pytest.mark.parametrize("bad", [-1, float("nan"), -0.5])
def test_time_outs_from_zero_on(ends: Ends, bad: float) -> None:
    tx, rx = ends
    for verb in (rx.blocking_pop, rx.blocking_lend, rx.blocking_attached):
        with pytest.raises(ValueError, match="timeout"):
            verb(timeout=bad)
    with pytest.raises(ValueError, match="timeout"):
        tx.blocking_push(b"", timeout=bad)
    for wrong in (True, "1", b""):
        with pytest.raises(TypeError, match="timeout"):
            rx.blocking_pop(timeout=wrong)  # type: ignore[arg-type]


def test_time_outs_end_the_wait(ends: Ends) -> None:
    tx, rx = ends
    for verb in (rx.blocking_pop, rx.blocking_lend, lambda t: rx.blocking_pop_many(3, t)):
        for timeout in (0, 0.02):
            with pytest.raises(ringspan.Timeout) as info:
                verb(timeout)
            assert isinstance(info.value, TimeoutError)
    while tx.try_push(b"x" * 1000):
        pass
    for push in (
        lambda: tx.blocking_push(b"x" * 1000, timeout=0.02),
        lambda: tx.blocking_reserve(1000, timeout=0.02),
        lambda: tx.blocking_push_many([b"x" * 1000], timeout=0.02),
    ):
        with pytest.raises(ringspan.Timeout):
            push()
    tx.close()
    rx.try_pop_many(1000)
    with pytest.raises(ringspan.Closed):
        rx.blocking_pop(timeout=float("inf"))


def test_threads_block_without_the_interpreter_lock(name: str) -> None:
    ring = ringspan.Ring(name, capacity=8192)
    got: list[bytes] = []

    def consume() -> None:
        with ring.consumer() as rx:
            try:
                while True:
                    got.append(rx.blocking_pop())
            except ringspan.Closed:
                pass

    sent = [bytes([n % 256]) * (n % 300) for n in range(5000)]
    thread = threading.Thread(target=consume)
    thread.start()
    with ring.producer() as tx:
        for item in sent[:2500]:
            tx.blocking_push(item, timeout=20)
        tx.blocking_push_many(sent[2500:], timeout=20)
    thread.join(20)
    assert got == sent


def test_a_second_thread_is_told_who_is_inside(ends: Ends) -> None:
    tx, rx = ends
    raised: list[BaseException] = []

    def block() -> None:
        try:
            rx.blocking_pop(timeout=20)
        except BaseException as err:
            raised.append(err)

    thread = threading.Thread(target=block, name="the blocked one")
    thread.start()
    while rx_is_free(rx):
        time.sleep(0.001)
    with pytest.raises(RuntimeError, match="the blocked one"):
        rx.try_pop(None)
    tx.try_push(1)
    thread.join(20)
    assert not raised
    tx.try_push(2)
    assert rx.try_pop() == 2


def rx_is_free(rx: ringspan.Consumer) -> bool:
    try:
        rx.try_pop(None)
    except RuntimeError:
        return False
    return True


def test_a_signal_handler_runs_while_blocked(ends: Ends) -> None:
    tx, rx = ends
    ran: list[int] = []

    def handler(_number: int, _frame: object) -> None:
        ran.append(1)
        with pytest.raises(RuntimeError, match="inside"):
            rx.try_pop(None)
        if len(ran) == 3:
            raise LookupError("from the handler")

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(LookupError, match="from the handler"):
            rx.blocking_pop(timeout=20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert len(ran) == 3
    tx.try_push("usable")
    assert rx.blocking_pop() == "usable"


def test_arm_and_fileno_serve_a_foreign_loop(ends: Ends) -> None:
    tx, rx = ends
    poller = select.epoll()
    poller.register(rx.fileno(), select.EPOLLIN)
    try:
        for n in range(50):
            while rx.arm():
                assert poller.poll(0) == []
                tx.try_push(n)
                assert poller.poll(20), "no wake"
                rx.disarm()
            assert rx.try_pop() == n
        rx.disarm()
        tx.close()
        assert rx.arm() is False, "an end is something to pop"
        with pytest.raises(ringspan.Closed):
            rx.try_pop()
    finally:
        poller.close()


def test_public_disarm_does_not_steal_a_wake(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def both() -> None:
        waiting = asyncio.ensure_future(rx.pop())
        await asyncio.sleep(0)
        tx.try_push("here")
        rx.disarm()
        assert await asyncio.wait_for(waiting, 5) == "here"

    run(both())


def test_spin_looks_before_it_sleeps(name: str, run: Run) -> None:
    ring = ringspan.Ring(name, spin=0.0005)
    with ring.producer() as tx, ring.consumer() as rx:

        async def both() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await rx.pop()
            tx.try_push(1)
            assert await rx.pop() == 1

        run(both())
        with pytest.raises(ringspan.Timeout):
            rx.blocking_pop(timeout=0.01)


def test_a_never_awaited_verb_warns(ends: Ends) -> None:
    _, rx = ends
    with pytest.warns(RuntimeWarning, match=r"Consumer\.pop\(\) was never awaited"):
        rx.pop()
