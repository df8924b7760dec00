"""Segments: bytes, buffers, waits, and the module functions."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from collections.abc import Callable, Coroutine
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_bytes_are_shared_by_name(name: str) -> None:
    seg = ringspan.Segment.create(name, 100)
    assert len(seg) == 100
    assert seg.name == name
    assert not seg.is_raw
    assert not seg.is_ephemeral
    seg.write_at(10, b"hello")
    seg.write_at(20, memoryview(b"view"))
    seg.write_at(30, bytearray(b"array"))
    other = ringspan.Segment.open(name)
    assert other.read_at(10, 5) == b"hello"
    assert other.read_at(20, 4) == b"view"
    assert len(other.read_at()) == 100
    assert other.read_at(98) == b"\0\0"
    assert ringspan.Segment.open_or_create(name, 50).read_at(30, 5) == b"array"
    for offset, size in ((99, 2), (101, 0), (0, 2**62)):
        with pytest.raises(ringspan.InvalidOption, match="do not lie"):
            seg.read_at(offset, size)
    with pytest.raises(ringspan.InvalidOption, match="do not lie"):
        seg.write_at(99, b"ab")
    with pytest.raises(TypeError):
        seg.write_at(0, "text")  # type: ignore[arg-type]


def test_large_copies(name: str) -> None:
    seg = ringspan.Segment.create(name, 1 << 20)
    data = np.random.default_rng(1).bytes(1 << 20)
    seg.write_at(0, data)
    assert seg.read_at() == data


def test_the_buffer_is_writable_and_zero_copy(name: str) -> None:
    seg = ringspan.Segment.create(name, 80)
    view = memoryview(seg)
    assert (view.readonly, view.nbytes, view.format) == (False, 80, "B")
    array = np.frombuffer(seg, "f8")
    array[:] = 1.5
    other = np.ndarray(10, "f8", ringspan.Segment.open(name))
    assert (other == 1.5).all()
    view[:8] = bytes(8)
    assert other[0] == 0.0
    assert view.obj is seg


def test_views_keep_the_memory_after_close(name: str) -> None:
    seg = ringspan.Segment.create(name, 4096)
    view, array = memoryview(seg), np.ndarray(4096, "u1", seg)
    seg.write_at(0, b"kept")
    with seg:
        pass
    ringspan.remove(name)
    for verb, args in (
        ("read_at", (0, 1)),
        ("write_at", (0, b"")),
        ("notify", ()),
        ("blocking_changed", (None, 0)),
    ):
        with pytest.raises(ringspan.HandleClosed, match=name):
            getattr(seg, verb)(*args)
    with pytest.raises(ringspan.HandleClosed, match=name):
        _ = seg.version
    with pytest.raises(BufferError, match="closed"):
        memoryview(seg)
    assert len(seg) == 4096
    del seg
    gc.collect()
    assert bytes(view[:4]) == b"kept"
    assert array[:4].tobytes() == b"kept"


def test_what_cannot_be_opened(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        ringspan.Segment.open(name)
    seg = ringspan.Segment.create(name, 8)
    with pytest.raises(FileExistsError, match=name):
        ringspan.Segment.create(name, 8)
    with pytest.raises(ringspan.Mismatch, match="9 bytes"):
        ringspan.Segment.open_or_create(name, 9)
    with pytest.raises(ringspan.Mismatch, match="segment"):
        ringspan.Ring(name)
    with pytest.raises(ringspan.NoSpace):
        ringspan.Segment.create(f"{name}-huge", 1 << 50)
    seg.close()


def test_pickles_by_name(name: str) -> None:
    seg = ringspan.Segment.create(name, 8)
    seg.write_at(0, b"12345678")
    again = pickle.loads(pickle.dumps(seg))
    assert again.read_at() == b"12345678"
    again.write_at(0, b"x")
    assert seg.read_at(0, 1) == b"x"


def test_raw_segments_are_those_of_the_standard_library(name: str) -> None:
    seg = ringspan.Segment.create(name, 64, raw=True)
    assert seg.is_raw
    theirs = shared_memory.SharedMemory(name.lstrip("/"))
    theirs.buf[:5] = b"hello"
    assert seg.read_at(0, 5) == b"hello"
    theirs.close()
    with pytest.raises(ringspan.Unsupported, match="raw"):
        seg.notify()
    assert pickle.loads(pickle.dumps(seg)).is_raw
    assert name in {info.name for info in ringspan.segments(raw=True)}
    assert name not in {info.name for info in ringspan.segments()}
    seg.remove()


def test_exports_are_counted(name: str) -> None:
    seg = ringspan.Segment.create(name, 16)
    assert seg.exports == 0
    view = memoryview(seg)
    part = view[2:4]
    assert seg.exports == 1  # views of views share one
    array = np.frombuffer(seg, "u1")
    assert seg.exports == 2
    view.release()
    assert seg.exports == 2
    part.release()
    del array
    gc.collect()
    assert seg.exports == 0
    seg.close()
    assert seg.exports == 0


def test_a_name_is_removed_only_where_it_is_what_was_meant(name: str) -> None:
    first = ringspan.Segment.create(name, 8)
    with pytest.raises(ringspan.Mismatch, match="is a segment, not a value"):
        ringspan.remove(name, kind="value")
    with pytest.raises(ringspan.InvalidOption, match="shoe"):
        ringspan.remove(name, kind="shoe")
    ringspan.remove(name, kind="segment", file_id=first.file_id)
    second = ringspan.Segment.create(name, 8, raw=True)
    with pytest.raises(ringspan.Mismatch):
        ringspan.remove(name, kind="segment")
    with pytest.raises(ringspan.NotFound, match="another file"):
        ringspan.remove(name, file_id=first.file_id)
    ringspan.remove(name, missing_ok=True, file_id=first.file_id)
    assert name in {info.name for info in ringspan.segments(raw=True)}
    ringspan.remove(name, file_id=second.file_id)
    with pytest.raises(ringspan.NotFound):
        ringspan.remove(name, kind="segment")


@pytest.mark.parametrize("raw", [False, True])
def test_a_segment_begins_with_data(name: str, raw: bool) -> None:
    for data in (
        b"hello",
        bytearray(b"hello"),
        memoryview(b"-hello-")[1:6],
        np.frombuffer(b"hello", "u1"),
    ):
        for size in (5, 10, 1 << 20):
            seg = ringspan.Segment.create(name, size, raw=raw, data=data)
            assert seg.read_at() == b"hello".ljust(size, b"\0")
            seg.remove()
    for wrong, error in ((b"too long", ringspan.InvalidOption), ("text", TypeError)):
        with pytest.raises(error):
            ringspan.Segment.create(name, 5, raw=raw, data=wrong)  # type: ignore[arg-type]
    assert not Path("/dev/shm", name[1:]).exists()


def test_memory_that_is_not_reserved(name: str) -> None:
    file = Path("/dev/shm", name[1:])
    for make in (ringspan.Segment.create, ringspan.Segment.open_or_create):
        seg = make(name, 1 << 20, raw=True, reserve=False)
        assert (len(seg), file.stat().st_size, file.stat().st_blocks) == (1 << 20, 1 << 20, 0)
        seg.remove()
    with pytest.raises(ringspan.NoSpace, match="no room"):
        ringspan.Segment.create(name, 1 << 50, raw=True, reserve=False)
    with pytest.raises(ringspan.InvalidOption, match="raw"):
        ringspan.Segment.create(name, 8, reserve=False)


def test_changed_is_awaited(name: str, run: Run) -> None:
    seg = ringspan.Segment.create(name, 8)
    other = ringspan.Segment.open(name)

    async def wait() -> None:
        seen = seg.version
        waiting = [asyncio.ensure_future(seg.changed(seen)) for _ in range(3)]
        latest = asyncio.ensure_future(seg.changed())
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        assert other.notify() == seen + 1
        assert await asyncio.wait_for(asyncio.gather(*waiting, latest), 5) == [seen + 1] * 4
        assert await seg.changed(seen) == seen + 1
        own = asyncio.ensure_future(seg.changed())
        await asyncio.sleep(0.01)
        seg.notify()
        assert await asyncio.wait_for(own, 5) == seen + 2
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await seg.changed()
        closing = asyncio.ensure_future(seg.changed())
        await asyncio.sleep(0.01)
        seg.close()
        with pytest.raises(ringspan.HandleClosed):
            await asyncio.wait_for(closing, 5)

    run(wait())


def test_changed_blocks(name: str) -> None:
    seg = ringspan.Segment.create(name, 8)
    with pytest.raises(ringspan.Timeout, match=name):
        seg.blocking_changed(timeout=0.01)
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda: got.append(seg.blocking_changed(0, timeout=20)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    seg.notify()
    for thread in threads:
        thread.join(20)
    assert got == [1, 1, 1]
    assert seg.blocking_changed(0) == 1


def test_a_child_notifies_and_dies(name: str, child: Callable[..., Any], run: Run) -> None:
    seg = ringspan.Segment.create(name, 8)
    process = child(
        """
        import sys, ringspan
        seg = ringspan.Segment.open(sys.argv[1])
        seen = seg.blocking_changed(0)
        seg.write_at(0, b"answered")
        print(seg.notify(), flush=True)
        input()
        """,
        name,
    )

    async def talk() -> None:
        seg.notify()
        assert await seg.changed(1) == 2
        assert seg.read_at() == b"answered"
        process.expect("2")
        process.kill()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await seg.changed(2)
        seg.notify()
        assert await seg.changed(2) == 3

    run(talk())


def test_segments_tells_who_is_there(name: str) -> None:
    ring = ringspan.Ring(name, capacity=8192)
    with ring.producer() as tx:
        (info,) = (info for info in ringspan.segments() if info.name == name)
        assert (info.kind, info.size, info.raw, info.fault) == ("ring", 8192, False, None)
        assert info.mode == 0o600
        assert info.created is not None
        (attached,) = info.attached
        assert (attached.role, attached.alive) == ("producer", True)
        assert attached.pid == info.creator_pid
        assert name in repr(info)
    assert tx.name == name


def test_remove_and_gc(name: str, child: Callable[..., Any]) -> None:
    process = child(
        """
        import sys, ringspan
        ring = ringspan.Ring(sys.argv[1], ephemeral=True)
        tx = ring.producer()
        print("made", flush=True)
        input()
        """,
        name,
    )
    process.expect("made")
    assert name not in ringspan.gc().removed
    process.kill()
    assert name in ringspan.gc().removed
    with pytest.raises(ringspan.NotFound, match=name):
        ringspan.remove(name)
    ringspan.remove(name, missing_ok=True)
    ringspan.Segment.create(name, 8).close()
    assert name not in ringspan.gc().removed
    assert name not in ringspan.gc(persistent_older_than=3600).removed
    with pytest.raises(ValueError, match="persistent_older_than"):
        ringspan.gc(persistent_older_than=-1)
