"""The verbs of a ring's two ends, within one process."""

from __future__ import annotations

import asyncio
import pickle
import queue
import select
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
VALUES = [
    b"",
    b"bytes",
    "text",
    0,
    -5,
    2**63,
    1.5,
    True,
    None,
    [1, [2, "three"]],
    {"a": 1, "b": [None, b"c"]},
]


@pytest.fixture
def ends(name: str) -> Iterator[tuple[ringspan.Producer, ringspan.Consumer]]:
    ring = ringspan.Ring(name, capacity=1 << 16)
    with ring.producer() as tx, ring.consumer() as rx:
        yield tx, rx


Ends = tuple[ringspan.Producer, ringspan.Consumer]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_go_through_every_form(ends: Ends, run: Run, value: object) -> None:
    tx, rx = ends

    async def awaited() -> None:
        await tx.push(value)
        assert await rx.pop() == value
        assert await tx.push_many([value, value]) == 2
        assert await rx.pop_many(5) == [value, value]

    assert tx.try_push(value) is True
    assert rx.try_pop() == value
    tx.blocking_push(value)
    assert rx.blocking_pop() == value
    assert tx.try_push_many([value] * 3) == 3
    assert rx.try_pop_many(2) == [value, value]
    assert tx.blocking_push_many([value]) == 1
    assert rx.blocking_pop_many(9) == [value, value]
    run(awaited())


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_like_in_bytes_out(ends: Ends, kind: Callable[[bytes], Any]) -> None:
    tx, rx = ends
    tx.try_push(kind(b"abc"))
    got = rx.try_pop()
    assert (type(got), got) == (bytes, b"abc")


def test_arrays_travel_with_type_and_shape(ends: Ends) -> None:
    tx, rx = ends
    array = np.arange(12, dtype="<i2").reshape(3, 4)
    tx.try_push(array)
    got = rx.try_pop()
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert (got == array).all()
    got[0, 0] = 9  # a copy


def test_large_messages_are_whole(name: str) -> None:
    ring = ringspan.Ring(name, capacity=8 << 20)
    tx, rx = ring.producer(), ring.consumer()
    data = np.random.default_rng(1).bytes(1 << 20)
    array = np.frombuffer(data, "u1")
    for value in (data, bytearray(data), array):
        tx.try_push(value)
        assert bytes(rx.try_pop()) == data


def test_order_and_content_across_the_wrap(ends: Ends) -> None:
    tx, rx = ends
    sent = [bytes([n % 251]) * (n * 37 % 900) for n in range(3000)]
    got: list[bytes] = []
    rest = sent
    while len(got) < len(sent):
        rest = rest[tx.try_push_many(rest) :]
        got += rx.try_pop_many(7)
    assert got == sent


def test_full_and_empty(ends: Ends) -> None:
    tx, rx = ends
    with pytest.raises(ringspan.Empty) as info:
        rx.try_pop()
    assert isinstance(info.value, queue.Empty)
    assert rx.try_pop(None) is None
    assert rx.try_pop("default") == "default"
    assert rx.try_pop_many(3) == []
    assert rx.try_lend() is None
    pushed = 0
    while tx.try_push(b"x" * 1000):
        pushed += 1
    assert pushed > 50
    assert tx.try_reserve(1000) is None
    assert tx.try_push_many([b"x" * 1000]) == 0
    assert len(rx.try_pop_many(1000)) == pushed
    with pytest.raises(TypeError, match="at most one default"):
        rx.try_pop(1, 2)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="1 or more"):
        rx.try_pop_many(0)


def test_too_large_says_both_sizes_and_changes_nothing(ends: Ends, run: Run) -> None:
    tx, rx = ends
    big = b"x" * (tx.max_message + 1)
    for push in (
        lambda: tx.try_push(big),
        lambda: tx.blocking_push(big),
        lambda: run(asyncio.wait_for(tx.push(big), 5)),
        lambda: tx.try_reserve(len(big)),
    ):
        with pytest.raises(ringspan.TooLarge) as info:
            push()
        assert (info.value.size, info.value.limit) == (len(big), tx.max_message)
        assert str(len(big)) in str(info.value)
    assert tx.len == 0
    with pytest.raises(ringspan.TooLarge):
        tx.try_push_many([b"first", big])
    assert tx.published == 1
    assert rx.try_pop_many(9) == [b"first"]


def test_what_cannot_travel(ends: Ends) -> None:
    tx, rx = ends
    for push in (tx.try_push, tx.blocking_push, tx.push):
        with pytest.raises(TypeError, match="object"):
            push(object())

    def objects() -> Iterator[object]:
        yield 1
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        tx.try_push_many(objects())
    with pytest.raises(TypeError):
        tx.try_push_many([2, object(), 3])
    assert rx.try_pop_many(9) == [1, 2]


def test_pickle_only_when_both_ends_asked(name: str) -> None:
    plain, trusting = ringspan.Ring(name), ringspan.Ring(name, pickle=True)
    value = {"a": slice(1, 2)}
    with trusting.producer() as tx:
        with trusting.consumer() as rx:
            tx.try_push(value)
            assert rx.try_pop() == value
            tx.try_push(value)
            tx.try_push("next")
        with plain.consumer() as rx:
            with pytest.raises(ringspan.CodecError, match="pickle=True"):
                rx.try_pop()
            assert rx.try_pop() == "next"
    with plain.producer() as tx, pytest.raises(TypeError):
        tx.try_push(value)


def test_exact_keeps_types(name: str) -> None:
    ring = ringspan.Ring(name, exact=True)
    tx, rx = ring.producer(), ring.consumer()
    for value in ((1, (2,)), bytearray(b"x"), {1, 2}, range(3)):
        tx.try_push(value)
        got = rx.try_pop()
        assert (type(got), got) == (type(value), value)


def test_bad_messages_are_consumed_by_pop_and_kept_by_lend(ends: Ends, name: str) -> None:
    tx, rx = ends
    tx.try_push("good")
    tx.try_push(["bad"])
    tx.try_push("better")
    data = open(f"/dev/shm{name}", "r+b")  # noqa: PTH123, SIM115
    with data:
        content = data.read()
        at = content.index(b"\xa3bad")
        data.seek(at)
        data.write(b"\xc1")
    assert rx.try_pop_many(3) == ["good"]
    with pytest.raises(ringspan.CodecError, match=name):
        rx.try_lend()
    with pytest.raises(ringspan.CodecError, match=name) as info:
        rx.try_pop()
    assert info.value.__cause__ is not None
    assert rx.try_pop() == "better"


def test_close_drains_then_ends_once(ends: Ends, run: Run) -> None:
    tx, rx = ends
    tx.try_push(1)
    tx.close()
    tx.close()
    assert rx.try_pop() == 1
    with pytest.raises(ringspan.Closed) as info:
        rx.try_pop(None)
    assert isinstance(info.value, EOFError)
    assert rx.is_closed
    with pytest.raises(ringspan.HandleClosed, match="closed"):
        tx.try_push(2)
    again = ringspan.Producer(rx.name)
    again.try_push(2)
    assert run(asyncio.wait_for(rx.pop(), 5)) == 2
    again.close()
    with pytest.raises(ringspan.Closed):
        run(asyncio.wait_for(rx.pop(), 5))


def test_detach_does_not_end_the_stream(ends: Ends) -> None:
    tx, rx = ends
    tx.try_push(1)
    tx.detach()
    assert rx.try_pop() == 1
    assert rx.try_pop(None) is None
    with ringspan.Producer(rx.name) as other:
        other.try_push(2)
        assert rx.try_pop() == 2


def test_a_closed_consumer_is_told_once(ends: Ends) -> None:
    tx, rx = ends
    assert tx.try_push(0)
    assert not tx.is_closed
    rx.close()
    assert tx.is_closed
    with pytest.raises(ringspan.PeerClosed):
        tx.try_push(1)
    assert tx.try_push(2)


def test_async_for_ends_with_the_stream(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def produce() -> None:
        async with tx:
            for n in range(500):
                await tx.push(n)
                if n % 50 == 0:
                    await asyncio.sleep(0)

    async def both() -> list[int]:
        task = asyncio.create_task(produce())
        got = [n async for n in rx]
        await task
        return got

    assert run(both()) == list(range(500))


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


def test_roles_are_exclusive(ends: Ends) -> None:
    _, rx = ends
    with pytest.raises(ringspan.RoleTaken) as info:
        ringspan.Consumer(rx.name)
    assert info.value.pid == rx.peer_pid
    assert isinstance(info.value, FileExistsError)


def test_create_says_what_must_be(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        ringspan.Ring(name, create=False)
    ring = ringspan.Ring(name, create=True, capacity=8192, max_message=100)
    assert (ring.name, ring.capacity, ring.max_message) == (name, 8192, 100)
    with pytest.raises(ringspan.AlreadyExists, match=name):
        ringspan.Ring(name, create=True)
    assert ringspan.Ring(name, create=False).capacity == 8192
    with pytest.raises(ringspan.Mismatch, match="8192"):
        ringspan.Ring(name, capacity=1 << 20)
    ring.remove()
    with pytest.raises(ringspan.NotFound):
        ring.remove()
    ringspan.remove(name, missing_ok=True)


def test_bad_options(name: str) -> None:
    with pytest.raises(ringspan.InvalidName, match="character"):
        ringspan.Ring("/a/b")
    with pytest.raises(ringspan.InvalidOption, match="mode"):
        ringspan.Ring(name, mode=0o10600)
    with pytest.raises(ringspan.InvalidOption):
        ringspan.Ring(name, max_message=1 << 40)
    with pytest.raises(OverflowError):
        ringspan.Ring(name, capacity=-1)
    with pytest.raises(ValueError, match="spin"):
        ringspan.Ring(name, spin=-1)
    with pytest.raises(TypeError):
        ringspan.Ring(name, 4096)  # type: ignore[misc]


def test_stat_and_repr(ends: Ends) -> None:
    tx, rx = ends
    ring = ringspan.Ring(tx.name)
    tx.try_push(b"12345678")
    stat = ring.stat()
    assert stat.len == tx.len == rx.len == 16
    assert stat.producer is not None
    assert stat.producer == rx.peer()
    assert stat.producer.pid == tx.peer_pid
    assert (tx.capacity, tx.max_message) == (rx.capacity, rx.max_message) == (65536, 16384)
    assert tx.name in repr(ring)
    assert "attached" in repr(tx)
    tx.close()
    assert "closed" in repr(tx)


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


def test_a_ring_pickles_by_name_and_never_truncates(name: str) -> None:
    ring = ringspan.Ring(name, capacity=8192, create=True, pickle=True)
    tx = ring.producer()
    tx.try_push({1: slice(2)})
    again = pickle.loads(pickle.dumps(ring))
    assert (again.name, again.capacity) == (name, 8192)
    assert again.consumer().try_pop() == {1: slice(2)}


def test_a_pickled_end_takes_its_role_at_first_use(ends: Ends) -> None:
    tx, rx = ends
    later = pickle.loads(pickle.dumps(rx))
    assert "not attached yet" in repr(later)
    with pytest.raises(ringspan.RoleTaken, match=r"pass ringspan\.Ring\(.*\.consumer\(\)"):
        later.try_pop()
    rx.close()
    tx.detach()
    other = pickle.loads(pickle.dumps(tx))
    assert other.try_push(5)
    assert later.try_pop() == 5


def test_a_never_awaited_verb_warns(ends: Ends) -> None:
    _, rx = ends
    with pytest.warns(RuntimeWarning, match=r"Consumer\.pop\(\) was never awaited"):
        rx.pop()
