"""Blocks: what arrays are made of. Meta, bytes, lock and version of one object."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringspan
from ringspan._ringspan import _Block

Run = Callable[[Coroutine[Any, Any, Any]], Any]

OPEN = "import sys\nfrom ringspan._ringspan import _Block\nblock = _Block.open(sys.argv[1])\n"


def test_bytes_and_meta_are_shared_by_name(name: str) -> None:
    block = _Block.create(name, 100, meta=b"what it is")
    assert (len(block), block.size, block.name, block.meta) == (100, 100, name, b"what it is")
    assert bytes(block) == bytes(100)
    assert not block.is_ephemeral
    view = memoryview(block)
    assert (view.readonly, view.nbytes, view.format) == (False, 100, "B")
    view[:5] = b"hello"
    other = _Block.open(name)
    assert (bytes(memoryview(other)[:5]), other.meta) == (b"hello", b"what it is")
    np.frombuffer(other, "u1")[:] = 7
    assert set(bytes(view)) == {7}
    assert repr(block) == f'<ringspan._Block "{name}" of 100 bytes>'
    assert np.frombuffer(block, "u1").ctypes.data % 4096 == 0
    (info,) = [info for info in ringspan.segments() if info.name == name]
    assert (info.kind, info.size, info.attached) == ("array", 100, [])
    block.remove()
    with pytest.raises(ringspan.NotFound):
        block.remove()


def test_a_block_without_bytes(name: str) -> None:
    block = _Block.create(name, 0)
    assert (len(block), bool(block), bytes(block), block.meta) == (0, True, b"", b"")
    assert block.notify() == 1
    with block.blocking_write() as buf:
        assert len(buf) == 0
    assert _Block.open(name).version == 1


@pytest.mark.parametrize("length", [1, 3328, 3329, 1 << 20])
def test_meta_of_every_length(name: str, length: int) -> None:
    meta = np.random.default_rng(length).bytes(length)
    block = _Block.create(name, 3, meta=bytearray(meta), data=b"abc")
    other = _Block.open(name)
    assert other.meta == meta
    assert bytes(other) == b"abc"
    del block


def test_meta_that_is_too_long(name: str) -> None:
    with pytest.raises(ringspan.InvalidOption, match="1048577"):
        _Block.create(name, 3, meta=bytes((1 << 20) + 1))


def test_damaged_meta_is_refused(name: str) -> None:
    _Block.create(name, 3, meta=b"a description")
    path = Path("/dev/shm", name[1:])
    data = path.read_bytes()
    at = data.index(b"a description")
    with path.open("r+b") as file:
        file.seek(at + 3)
        file.write(b"!")
    with pytest.raises(ringspan.Damaged, match=f"array {name}.*meta"):
        _Block.open(name)
    ringspan.remove(name)


def test_what_is_there_before_the_name(name: str) -> None:
    seen = []

    def fill(view: memoryview) -> None:
        seen.append(Path(f"/dev/shm{name}").exists())
        view[:3] = b"abc"

    block = _Block.create(name, 5, fill=fill)
    assert seen == [False]
    assert bytes(block) == b"abc\0\0"
    with pytest.raises(ringspan.AlreadyExists):
        _Block.create(name, 5, fill=fill)
    assert seen == [False], "not called for a name that is taken"
    large = np.arange(1 << 17)
    block = _Block.create(f"{name}-large", large.nbytes, data=large)
    assert (np.frombuffer(block, large.dtype) == large).all()


def test_nothing_is_left_where_it_cannot_be_filled(name: str) -> None:
    def fail(view: memoryview) -> None:
        view[:1] = b"x"
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        _Block.create(name, 5, fill=fail)
    with pytest.raises(ringspan.InvalidOption, match="6 bytes"):
        _Block.create(name, 5, data=b"123456")
    with pytest.raises(TypeError, match="fill"):
        _Block.create(name, 5, data=b"1", fill=fail)
    with pytest.raises(TypeError, match="callable"):
        _Block.create(name, 5, fill=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _Block.create(name, 5, data="text")  # type: ignore[arg-type]
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        _Block.create(name, 80, data=np.zeros((4, 4))[:, 1])
    with pytest.raises(ringspan.NoSpace):
        _Block.create(name, 1 << 50)
    with pytest.raises(ringspan.NotFound):
        _Block.open(name)


def test_a_creator_killed_while_it_fills_leaves_nothing(name: str, child: Any) -> None:
    code = """
        import os, signal, sys
        from ringspan._ringspan import _Block
        def fill(view):
            view[:4] = b"half"
            os.kill(os.getpid(), signal.SIGKILL)
        _Block.create(sys.argv[1], 1 << 20, fill=fill)
        """
    assert child(code, name).wait() == -signal.SIGKILL
    with pytest.raises(ringspan.NotFound):
        _Block.open(name)
    assert len(_Block.create(name, 4)) == 4


def test_other_kinds_are_refused(name: str) -> None:
    block = _Block.create(name, 8)
    for other in (ringspan.Segment.open, ringspan.RwLock, ringspan.Value, ringspan.Ring):
        with pytest.raises(ringspan.Mismatch, match="array"):
            other(name)
    segment = ringspan.Segment.create(f"{name}-segment", 8)
    with pytest.raises(ringspan.Mismatch, match="segment"):
        _Block.open(segment.name)
    del block


def test_an_ephemeral_block_goes_with_the_last_one(name: str) -> None:
    block = _Block.create(name, 8, ephemeral=True)
    other = _Block.open(name)
    assert other.is_ephemeral
    block.close()
    assert len(_Block.open(name)) == 8
    other.close()
    gc.collect()
    with pytest.raises(ringspan.NotFound):
        _Block.open(name)


def test_views_keep_the_memory_after_close(name: str) -> None:
    block = _Block.create(name, 4096)
    view, array = memoryview(block), np.frombuffer(block, "u1")
    view[:4] = b"kept"
    with block:
        pass
    ringspan.remove(name)
    for verb in ("notify", "blocking_changed", "try_read", "blocking_write", "clear_poison"):
        with pytest.raises(ringspan.HandleClosed, match=name):
            getattr(block, verb)()
    with pytest.raises(BufferError, match="closed"):
        memoryview(block)
    assert "closed" in repr(block)
    del block
    gc.collect()
    assert bytes(view[:4]) == array[:4].tobytes() == b"kept"


def test_pickles_by_name(name: str) -> None:
    block = _Block.create(name, 4, data=b"abcd")
    again = pickle.loads(pickle.dumps(block))
    assert bytes(again) == b"abcd"
    memoryview(again)[:1] = b"x"
    assert bytes(block) == b"xbcd"


def test_plain_use_takes_no_place(name: str) -> None:
    many = [_Block.create(name, 4), *(_Block.open(name) for _ in range(60))]
    memoryview(many[60])[:] = b"seen"
    assert all(bytes(block) == b"seen" for block in many)
    assert not any(block.is_poisoned for block in many)
    for block in many[:48]:
        block.notify()
    with pytest.raises(ringspan.TooManyAttached):
        many[48].notify()
    many[0].close()
    many[48].notify()


def test_the_lock_is_awaited(name: str, run: Run) -> None:
    block, other = _Block.create(name, 8), _Block.open(name)

    async def use() -> None:
        async with block.write() as buf:
            buf[:2] = b"ab"
            assert other.try_read() is None
            assert [holder.pid for holder in other.holders()] == [os.getpid()]
            waiting = asyncio.ensure_future(other.read())
            await asyncio.sleep(0.01)
            assert not waiting.done()
            with pytest.raises(ringspan.WouldDeadlock, match=f"array {name}: write"):
                await block.write()
        with await asyncio.wait_for(waiting, 10) as seen:
            assert (bytes(seen[:2]), seen.readonly) == (b"ab", True)
            with pytest.raises(ringspan.Timeout, match="read by pid"):
                block.blocking_write(timeout=0)
        assert other.holders() == []

    run(use())


def test_changed_and_the_lock_share_a_handle(name: str, run: Run) -> None:
    block, other = _Block.create(name, 8), _Block.open(name)

    async def use() -> None:
        seen = block.version
        waiting = [asyncio.ensure_future(block.changed(seen)) for _ in range(3)]
        writer = asyncio.ensure_future(take(block))
        async with other.write():
            await asyncio.sleep(0.01)
            assert not any(task.done() for task in [*waiting, writer])
            assert other.notify() == seen + 1
            assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [seen + 1] * 3
            assert not writer.done()
        await asyncio.wait_for(writer, 10)
        assert await block.changed(seen) == seen + 1
        waiting = [asyncio.ensure_future(block.changed())]
        await asyncio.sleep(0.01)
        assert block.notify() == seen + 2
        assert await asyncio.wait_for(waiting[0], 10) == seen + 2

    async def take(block: _Block) -> None:
        async with block.write() as buf:
            buf[0] = 1

    run(use())


def test_changed_wakes_another_process(name: str, child: Any) -> None:
    block = _Block.create(name, 8)
    code = OPEN + "print('ready')\n" + "seen = 0\n"
    code += "while seen < 3:\n    seen = block.blocking_changed(seen)\n"
    code += "    print(seen, bytes(block)[0])\n"
    waiter = child(code, name)
    waiter.expect("ready")
    for number in (1, 2, 3):
        memoryview(block)[0] = number
        assert block.notify() == number
        waiter.expect(f"{number} {number}")
    assert waiter.finish() == ""


def test_a_killed_writer_poisons(name: str, child: Any) -> None:
    block = _Block.create(name, 8)
    code = OPEN + "with block.blocking_write() as buf:\n    print('held')\n    input()\n"
    holder = child(code, name)
    holder.expect("held")
    assert block.try_write() is None
    assert [one.pid for one in block.holders()] == [holder.pid]
    holder.kill()
    with pytest.raises(ringspan.Poisoned, match=f"array {name}"):
        block.blocking_write(timeout=20)
    assert block.is_poisoned
    with block.blocking_write(allow_poisoned=True):
        block.clear_poison()
    assert not _Block.open(name).is_poisoned


def test_a_killed_reader_lets_the_writer_in(name: str, child: Any, run: Run) -> None:
    block = _Block.create(name, 8)
    holder = child(OPEN + "guard = block.try_read()\nprint(guard.mode)\ninput()\n", name)
    holder.expect("read")

    async def write() -> None:
        waiting = asyncio.ensure_future(block.write())
        await asyncio.sleep(0.01)
        holder.kill()
        with await asyncio.wait_for(waiting, 20) as buf:
            buf[0] = 1

    run(write())
    assert not block.is_poisoned


def test_a_waiter_hears_that_the_name_is_gone(name: str, run: Run) -> None:
    block = _Block.create(name, 8)

    async def wait() -> None:
        waiting = asyncio.ensure_future(block.changed())
        await asyncio.sleep(0.01)
        ringspan.remove(name)
        with pytest.raises(ringspan.Removed):
            await asyncio.wait_for(waiting, 10)

    run(wait())
    stranger = _Block.create(name, 8)
    ringspan.remove(name)
    with pytest.raises(ringspan.Removed):
        stranger.notify()


def test_close_ends_the_waits(name: str, run: Run) -> None:
    block = _Block.create(name, 8)

    async def wait() -> None:
        other = _Block.open(name)
        with other.blocking_write():
            tasks = [asyncio.ensure_future(block.changed()), asyncio.ensure_future(take(block))]
            await asyncio.sleep(0.01)
            block.close()
            for task in tasks:
                with pytest.raises(ringspan.HandleClosed):
                    await asyncio.wait_for(task, 10)

    async def take(block: _Block) -> None:
        await block.write()

    run(wait())


def test_an_inherited_handle_says_so(name: str, run_python: Any) -> None:
    code = """
        import os, sys, ringspan
        from ringspan._ringspan import _Block
        block = _Block.create(sys.argv[1], 8)
        block.notify()
        view = memoryview(block)
        pid = os.fork()
        if pid == 0:
            view[0] = 9
            raised = 0
            for verb in (block.notify, block.blocking_write, block.clear_poison):
                try:
                    verb()
                except ringspan.Forked:
                    raised += 1
            os._exit(raised)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 3
        assert view[0] == 9
        """
    run_python(code, name)
