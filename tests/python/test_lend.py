"""Lent messages and grants: who may look how long, and what waits for it meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Ends = tuple[ringspan.Producer, ringspan.Consumer]


@pytest.fixture
def ends(name: str) -> Iterator[Ends]:
    ring = ringspan.Ring(name, capacity=1 << 16)
    tx, rx = ring.producer(), ring.consumer()
    yield tx, rx
    tx.close()
    rx.close()


def test_lent_bytes_are_a_read_only_view(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def awaited() -> None:
        with await rx.lend() as view:
            assert bytes(view) == b"three"

    tx.try_push_many([b"one", b"two", b"three"])
    lent = rx.try_lend()
    assert lent is not None
    with lent as view:
        assert isinstance(view, memoryview)
        assert view.readonly
        assert bytes(view) == b"one"
        assert tx.len > 0
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    with rx.blocking_lend(timeout=1) as view:
        assert bytes(view) == b"two"
    run(awaited())
    assert tx.len == 0


def test_lent_arrays_are_read_only_and_empty_afterwards(ends: Ends) -> None:
    tx, rx = ends
    array = np.arange(100.0).reshape(20, 5)
    for _ in range(1000):
        assert tx.try_push(array)
        with rx.blocking_lend() as lent:
            assert lent.dtype == array.dtype
            assert lent.shape == (20, 5)
            assert lent[3, 2] == 17.0
            assert not lent.flags.writeable
            with pytest.raises(ValueError, match="WRITEABLE"):
                lent.flags.writeable = True
        assert lent.size == 0
    assert tx.len == 0


def test_a_lent_value_is_a_copy(ends: Ends) -> None:
    tx, rx = ends
    tx.try_push({"a": 1})
    with rx.blocking_lend() as value:
        assert value == {"a": 1}
    assert value == {"a": 1}
    assert tx.len == 0


def test_pops_meanwhile_are_refused(ends: Ends, run: Run) -> None:
    tx, rx = ends
    tx.try_push_many([b"one", b"two"])
    with rx.blocking_lend():
        for verb in (rx.try_pop, rx.blocking_pop, rx.try_lend, lambda: rx.try_pop_many(2)):
            with pytest.raises(BufferError, match="lent message"):
                verb()

        async def pop() -> None:
            await rx.pop()

        with pytest.raises(BufferError, match="lent message"):
            run(pop())
        assert rx.len > 0
    assert rx.try_pop() == b"two"


@pytest.mark.parametrize(
    "derive",
    [
        lambda view: view[1:],
        lambda view: view.cast("B"),
        lambda view: np.frombuffer(view, "u1"),
        lambda view: np.ndarray(4, "u1", view),
        lambda view: memoryview(view),
    ],
    ids=["slice", "cast", "frombuffer", "ndarray", "memoryview"],
)
def test_what_is_derived_from_bytes_keeps_the_message(
    ends: Ends, derive: Callable[[memoryview], Any]
) -> None:
    tx, rx = ends
    tx.try_push_many([b"1234", b"next"])
    derived = None
    with pytest.raises(BufferError, match=r"view\(s\) made of the lent message"):  # noqa: SIM117
        with rx.blocking_lend() as view:
            derived = derive(view)
    with pytest.raises(BufferError, match="still out"):
        rx.try_pop()
    assert bytes(derived)[-1:] == b"4"
    before = tx.len
    del derived, view
    gc.collect()
    assert tx.len < before
    assert rx.try_pop() == b"next"


def test_what_is_derived_from_an_array_keeps_the_message(ends: Ends) -> None:
    tx, rx = ends
    tx.try_push_many([np.arange(10), b"next"])
    with pytest.raises(BufferError, match="1 view"):  # noqa: SIM117
        with rx.blocking_lend() as array:
            part = array[2:][::2]
    assert array.size == 0
    assert part.tolist() == [2, 4, 6, 8]
    with pytest.raises(BufferError, match="still out"):
        rx.try_pop()
    del part
    gc.collect()
    assert rx.try_pop() == b"next"


def test_an_exception_under_way_is_not_hidden(ends: Ends) -> None:
    tx, rx = ends
    tx.try_push(b"1234")
    kept: list[memoryview] = []
    with pytest.raises(LookupError, match="mine"), rx.blocking_lend() as view:
        kept.append(view[1:])
        raise LookupError("mine")
    assert bytes(kept[0]) == b"234"
    with tx.blocking_reserve(4) as grant:
        kept.append(grant.buf)
    kept.clear()
    with pytest.raises(LookupError, match="mine"), tx.blocking_reserve(4) as grant:
        kept.append(grant.buf[1:])
        raise LookupError("mine")
    kept.clear()
    assert tx.try_push(1)


def test_a_view_outlives_ring_and_handles(name: str) -> None:
    ring = ringspan.Ring(name)
    tx, rx = ring.producer(), ring.consumer()
    tx.try_push(b"still here")
    kept: list[Any] = []
    with pytest.raises(BufferError), rx.blocking_lend() as view:
        kept.append(view[:5])
        kept.append(np.frombuffer(view, "u1"))
        del view
    ringspan.remove(name)
    del tx, rx, ring
    gc.collect()
    assert bytes(kept[0]) == b"still"
    assert kept[1].tobytes() == b"still here"


def test_a_buffer_of_the_array_itself_stays_mapped(name: str) -> None:
    ring = ringspan.Ring(name)
    tx, rx = ring.producer(), ring.consumer()
    tx.try_push(np.arange(1000))
    with rx.blocking_lend() as array:
        unseen = memoryview(array)
    ringspan.remove(name)
    tx.close()
    rx.close()
    del tx, rx, ring
    gc.collect()
    assert unseen.nbytes == 8000
    assert len(bytes(unseen)) == 8000


def test_close_waits_for_the_last_view(ends: Ends, name: str) -> None:
    tx, rx = ends
    tx.try_push_many([b"1234", b"next"])
    with pytest.raises(BufferError, match="made of the lent"), rx.blocking_lend() as view:
        part = view[1:]
    with pytest.raises(BufferError, match="last view"):
        rx.close()
    with pytest.raises(ringspan.RoleTaken):
        ringspan.Consumer(name)
    del part, view
    gc.collect()
    with ringspan.Consumer(name) as other:
        assert other.try_pop() == b"next"
    with pytest.raises(ringspan.HandleClosed):
        rx.try_pop()


def test_the_last_view_may_die_in_another_thread(ends: Ends) -> None:
    tx, rx = ends
    tx.try_push_many([b"1234", b"next"])
    kept: list[memoryview] = []
    with pytest.raises(BufferError), rx.blocking_lend() as view:
        kept.append(view[1:])
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    assert rx.try_pop() == b"next"


def test_a_dropped_guard_gives_the_message_back(ends: Ends) -> None:
    tx, rx = ends
    tx.try_push_many([b"1", b"2"])
    rx.blocking_lend()
    lent = rx.blocking_lend()
    assert bytes(lent.view) == b"2"
    lent.release()
    lent.release()
    with pytest.raises(ringspan.HandleClosed):
        _ = lent.view
    assert tx.len == 0


def test_a_grant_is_filled_in_place(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def awaited() -> None:
        with await tx.reserve(8) as grant:
            assert len(grant) == 8
            np.frombuffer(grant.buf, "u1")[:] = 7
            gc.collect()
            grant.commit(3)

    run(awaited())
    assert rx.try_pop() == b"\x07\x07\x07"
    with tx.blocking_reserve(5) as grant:
        grant.buf[:] = b"hello"
        grant.commit()
        with pytest.raises(ringspan.HandleClosed):
            grant.commit()
        with pytest.raises(ringspan.HandleClosed):
            _ = grant.buf
    assert rx.try_pop() == b"hello"
    granted = tx.try_reserve(4)
    assert granted is not None
    granted.commit(0)
    assert rx.try_pop() == b""


def test_a_grant_left_publishes_nothing(ends: Ends) -> None:
    tx, rx = ends
    with tx.blocking_reserve(8) as grant:
        grant.buf[:] = bytes(8)
    with pytest.raises(ValueError, match="released"):
        grant_view(grant)
    tx.blocking_reserve(8)
    assert tx.len == 0
    assert tx.try_push("next")
    assert rx.try_pop() == "next"


def grant_view(grant: ringspan.Grant) -> bytes:
    try:
        return bytes(grant.buf)
    except ringspan.HandleClosed as err:
        raise ValueError("released") from err


def test_commit_is_refused_while_views_live(ends: Ends) -> None:
    tx, rx = ends
    with tx.blocking_reserve(4) as grant:
        part = grant.buf[1:]
        with pytest.raises(BufferError, match="commit again"):
            grant.commit()
        part[:] = b"bcd"
        del part
        grant.buf[:1] = b"a"
        with pytest.raises(ValueError, match="5 bytes used of a grant of 4"):
            grant.commit(5)
        with pytest.raises(OverflowError):
            grant.commit(-1)
        grant.commit()
    assert rx.try_pop() == b"abcd"


def test_pushes_wait_for_the_views_of_a_grant(ends: Ends, run: Run) -> None:
    tx, rx = ends
    with pytest.raises(BufferError, match="pushes wait"), tx.blocking_reserve(4) as grant:
        part = grant.buf[1:]
        with pytest.raises(BufferError, match="a grant is still out"):
            tx.try_push(1)
        with pytest.raises(BufferError, match="a grant is still out"):
            tx.try_push_many([1])
    with pytest.raises(BufferError, match="a grant is still out"):
        run(asyncio.wait_for(tx.push(1), 5))
    with pytest.raises(BufferError, match="last view"):
        tx.close()
    part[:] = b"xyz"
    del part
    gc.collect()
    with pytest.raises(ringspan.Closed):
        rx.try_pop()


def test_a_task_cancelled_with_a_lent_message_gives_it_back(ends: Ends, run: Run) -> None:
    tx, rx = ends

    async def cancel() -> None:
        waiting = asyncio.ensure_future(rx.lend())
        await asyncio.sleep(0)
        tx.try_push(b"one")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await rx.pop() == b"one"

    run(cancel())


def test_iterators_of_a_lent_array_find_zeros_afterwards(ends: Ends) -> None:
    tx, rx = ends
    assert tx.try_push(np.arange(1.0, 1001.0))
    with rx.blocking_lend() as lent:
        flat = lent.flat
        both = np.broadcast(lent, 1)
        assert flat[999] == 1000.0
    # They keep the size that the array had; what they read must not be the ring, nor beyond it.
    assert flat[999] == 0.0
    both.reset()
    assert [pair[0] for pair in both] == [0.0] * 1000
    with pytest.raises(ValueError, match="read-only"):
        flat[0] = 1.0
    assert tx.len == 0
