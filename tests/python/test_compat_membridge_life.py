"""membridge: what a segment is, whose it is, damage, forks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import ringspan
from ringspan.compat import membridge
from ringspan.compat.membridge import _segment

SharedMemory = membridge.SharedMemory
RING = 1024 + 24
PRELUDE = """
import sys, time
from ringspan.compat import membridge
mem = membridge.SharedMemory.open(sys.argv[1])
"""


def files(name: str) -> list[str]:
    return sorted(
        path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(name[1:])
    )


def sweep(name: str) -> None:
    """Removes a segment and the doors of those who died at it."""
    SharedMemory.remove(name)
    ringspan.gc()


def program(code: str) -> str:
    return PRELUDE + code


def test_the_first_use_says_what_a_segment_is(name: str, run_python: Any) -> None:
    mem = SharedMemory.create(name, RING)
    run_python(program("mem.map().write('mapped')"), name)
    with pytest.raises(ringspan.Mismatch, match="mapped already"):
        mem.spsc()
    assert mem.map().read("str") == "mapped"
    SharedMemory.remove(name)
    assert files(name) == []

    mem = SharedMemory.create(name, RING)
    run_python(program("assert mem.spsc().push('pushed')"), name)
    with pytest.raises(ringspan.Mismatch, match="a ring already"):
        mem.map()
    assert mem.spsc().pop("str") == "pushed"
    SharedMemory.remove(name)
    assert files(name) == []


def test_two_processes_that_decide_at_once_agree(name: str, child: Any) -> None:
    mem = SharedMemory.create(name, RING)
    racers = [
        child(
            program(
                f"""
print("ready", flush=True)
input()
try:
    mem.{act}()
    print("{act}")
except OSError:
    print("refused")
"""
            ),
            name,
        )
        for act in ("map", "spsc", "map", "spsc")
    ]
    for racer in racers:
        racer.expect("ready")
    for racer in racers:
        racer.say()
    said = {racer.line() for racer in racers}
    for racer in racers:
        racer.finish()
    assert said in ({"map", "refused"}, {"spsc", "refused"})
    assert len(files(name)) == 2
    mem.close()


def test_a_segment_that_was_removed_half_way_is_none(name: str) -> None:
    for again in (False, True):
        with SharedMemory.create(name, RING) as mem:
            mem.map()
            with _segment.deciding(mem._block) as words:
                words[_segment.USE] = _segment.REMOVED
            with pytest.raises(ringspan.Removed):
                mem.spsc()
        if again:
            with SharedMemory.create(name, RING) as mem:
                assert mem.spsc().is_empty()
            SharedMemory.remove(name)
        else:
            with pytest.raises(FileNotFoundError):
                SharedMemory.open(name)
        with pytest.raises(FileNotFoundError):
            SharedMemory.remove(name)


def test_a_killed_maker_leaves_a_name_to_take_over(name: str, child: Any) -> None:
    maker = child(
        """
        import sys, time
        from ringspan.compat import membridge
        view = membridge.SharedMemory.create(sys.argv[1], 1000).map()
        view.write("left")
        print("made", flush=True)
        time.sleep(60)
        """,
        name,
    )
    maker.expect("made")
    with pytest.raises(FileExistsError, match=str(maker.pid)):
        SharedMemory.create(name, 1000)
    maker.kill()
    with pytest.raises(FileExistsError, match="1000 bytes"):
        SharedMemory.create(name, 999)
    with SharedMemory.create(name, 1000) as mem:
        assert mem.map().read("str") == "left"
    sweep(name)


def test_what_is_none_of_ours_is_refused_and_can_be_removed(name: str) -> None:
    for make in (
        lambda: ringspan.Segment.create(name, 100, raw=True),
        lambda: ringspan.Segment.create(name, 100),
        lambda: ringspan._ringspan._Block.create(name, 100, meta=b"other"),
    ):
        made: Any = make()
        made.close()
        with pytest.raises(OSError):
            SharedMemory.open(name)
        with pytest.raises(FileExistsError, match="something else"):
            SharedMemory.create(name, 100)
        SharedMemory.remove(name)
        assert files(name) == []


@pytest.mark.parametrize("size", [1000, RING])
def test_a_segment_that_takes_no_more_handles_can_be_removed(name: str, size: int) -> None:
    handles = [SharedMemory.create(name, size)]
    if size == RING:
        handles[0].spsc().push(1)
    with pytest.raises(ringspan.TooManyAttached):
        while True:
            handles.append(SharedMemory.open(name))
    SharedMemory.remove(name)
    assert files(name) == []
    if size == RING:
        assert handles[0].spsc().push(2)
        with pytest.raises(FileNotFoundError):
            handles[0].spsc().pop()
        assert files(name) == []
        handles[0].spsc().close()
    for handle in handles:
        handle.close()


def test_damaged_words_are_errors(name: str) -> None:
    with SharedMemory.create(name, RING) as mem:
        words = memoryview(mem._block).cast("Q")
        words[_segment.USE] = 77
        with pytest.raises(ringspan.Damaged, match="0x4d"):
            mem.spsc()
        words[_segment.USE] = 0
        words.release()
        ring = mem.spsc()
        assert ring.push(1)
        ring.close()
        beside = _segment.beside(name, mem._number)
        with Path("/dev/shm", beside[1:]).open("r+b") as file:
            file.seek(4096)  # the header of the first record
            file.write(b"\xff" * 8)
        with pytest.raises(ringspan.Damaged):
            mem.spsc().used()
        for act in ("push", "pop"):
            with pytest.raises(ringspan.Damaged):
                getattr(mem.spsc(), act)(*[1] * (act == "push"))
    sweep(name)


def test_what_was_opened_before_a_fork_works_after_it(name: str, run_python: Any) -> None:
    code = """
import os, sys
from ringspan.compat import membridge
name = sys.argv[1]
mem = membridge.SharedMemory.create(name, 1000)
view = mem.map()
view.write("parent")
ring = membridge.SharedMemory.create(name + "-ring", 1024 + 24).spsc()
ring.push("before")
def forked(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        except BaseException as err:
            print(repr(err), flush=True)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
def child():
    view.seek()
    assert view.read("str") == "parent"
    view.write(1)
    forked(lambda: view.write(2))
    assert mem.map().size() == 996
    assert ring.pop("str") == "before"
    try:
        ring.push("no")
    except OSError as err:
        assert err.pid == os.getppid()
    assert ring.used() == 0
forked(child)
assert view.tell() == 10
assert view.read("int") == 1 and view.read("int") == 2
assert ring.push("after") and ring.pop("str") == "after"
membridge.SharedMemory.remove(name)
forked(lambda: view.read_all() if 0 else None)
membridge.SharedMemory.remove(name + "-ring")
"""
    run_python(code, name)
    assert files(name) == []
    ringspan.gc()  # the children left without closing their doors


def test_handles_pickle_by_name(name: str) -> None:
    with SharedMemory.create(name, 1000) as mem, mem.map() as view:
        view.write("text")
        view.write(7)
        view.seek(8)
        other = pickle.loads(pickle.dumps(view))
        assert other.tell() == 8
        assert other.read("int") == 7
        again = pickle.loads(pickle.dumps(mem))
        assert repr(again) == f"SharedMemory(name='{name}', size=1000, role=opener)"
    with SharedMemory.create(name + "-ring", RING) as mem, mem.spsc() as ring:
        ring.push(1)
        assert pickle.loads(pickle.dumps(ring)).pop("int") == 1


def test_what_was_closed_says_so(name: str) -> None:
    with SharedMemory.create(name, 1000) as mem:
        with mem.map() as view:
            view.write(1)
        for act in (view.read_all, lambda: view.read("int"), lambda: view.write(1)):
            with pytest.raises(ValueError):
                act()
        view = mem.map()
        assert view.read("int") == 1
    with pytest.raises(ringspan.HandleClosed):
        view.read_all()
    with pytest.raises(ringspan.HandleClosed):
        mem.map().read_all()
    SharedMemory.remove(name)


def test_inside_a_block_a_view_does_not_wait_for_itself(name: str) -> None:
    with SharedMemory.create(name, 1000) as mem:
        view = mem.map()
        with view.writing() as buf:
            buf[:8] = (5).to_bytes(8, "little")
            with pytest.raises(ringspan.WouldDeadlock):
                view.write(1)
        assert view.read("int") == 5


@pytest.mark.parametrize("more", [" b", "é", "~", "k" * 140])
@pytest.mark.parametrize("size", [1000, RING])
def test_whatever_shm_open_takes_is_a_name(name: str, size: int, more: str) -> None:
    named = name + more
    with SharedMemory.create(named, size) as mem:
        assert mem.name() == named
        with SharedMemory.open("/" + named) as other, pytest.raises(FileExistsError):
            SharedMemory.create(named, size)
        if size == RING:
            ring = mem.spsc()
            assert other.name() == "/" + named
            with SharedMemory.open("/" + named) as other:
                assert other.spsc() is ring
            ring.push(1)
            assert pickle.loads(pickle.dumps(ring)).pop("int") == 1
            ring.close()
        else:
            mem.map().write(1)
            with SharedMemory.open(named) as other:
                assert other.map().read("int") == 1
    SharedMemory.remove(named)
    with pytest.raises(FileNotFoundError):
        SharedMemory.open(named)


@pytest.mark.parametrize("wrong", ["", "/", "ab", "/a/b", "/..", "/" + "k" * 255, "/a\0b"])
def test_what_it_does_not_take_is_none(wrong: str) -> None:
    for verb in (lambda: SharedMemory.create(wrong, 10), lambda: SharedMemory.open(wrong)):
        with pytest.raises(ValueError):
            verb()
