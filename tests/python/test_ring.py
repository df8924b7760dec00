"""The verbs of a ring's two ends, within one process."""

from __future__ import annotations

import asyncio
import pickle
import queue
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
import ringspan
from awaits import Ends

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
