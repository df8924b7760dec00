"""Memories that `ringspan.compat.sysframe` wrote last stay open, and stand in nobody's way."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ringspan
from ringspan.compat.sysframe import membridge

pytestmark = pytest.mark.usefixtures("of_the_dead")

Start = Callable[..., Any]
IMPORT = """
import multiprocessing, os, sys
from ringspan.compat.sysframe import membridge
import ringspan
name = sys.argv[1]
"""
WRITES = (
    IMPORT
    + """
membridge.write_memory(name, 1)
print("written", flush=True)
input()
membridge.write_memory(name, 3)
print("again", flush=True)
input()
"""
)


def attached(name: str) -> int:
    """How many have it open, but for us."""
    with ringspan.Value(name, create=False) as value:
        return value.stat().attached - 1


def pinned() -> int:
    """How many removed memories this process still has open."""
    found = 0
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            stat = os.fstat(int(entry.name))
            found += stat.st_dev == Path("/dev/shm").stat().st_dev and stat.st_nlink == 0
    return found


def end(one: Any) -> None:
    one.say("end")
    assert one.finish() == ""


@pytest.fixture
def others(name: str) -> Iterator[list[str]]:
    names = [f"{name}-{number}" for number in range(20)]
    yield names
    for other in names:
        membridge.remove_memory(other)


def test_a_memory_written_again_is_the_one_of_that_name_now(child: Start, name: str) -> None:
    one = child(WRITES, name)
    one.expect("written")
    assert membridge.remove_memory(name) is True
    membridge.write_memory(name, 2)
    one.say("go")
    one.expect("again")
    assert membridge.read_memory(name) == 3
    end(one)


def test_a_memory_whose_file_was_deleted_or_is_no_memory_now(child: Start, name: str) -> None:
    membridge.write_memory(name, 1)
    Path("/dev/shm", name[1:]).unlink()
    with pytest.raises(MemoryError):
        membridge.write_memory(name, 2, create=False)
    membridge.write_memory(name, 2)
    assert ringspan.Value.peek(name) == 2
    membridge.remove_memory(name)
    with ringspan.Segment.create(name, 8), pytest.raises(MemoryError, match="segment"):
        membridge.write_memory(name, 3)


def test_places_are_left_for_others(child: Start, name: str) -> None:
    membridge.write_memory(name, 0)
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(ringspan.Value(name, create=False))
        before = attached(name)
        one = child(WRITES, name)
        one.expect("written")
        assert attached(name) == before, "not kept open in a crowd"
        one.say("go")
        one.expect("again")
        end(one)
    assert membridge.read_memory(name) == 3


def test_few_and_small_ones_are_kept(name: str, others: list[str]) -> None:
    for other in others:
        membridge.write_memory(other, 1)
    assert sum(attached(other) for other in others) == 8
    assert [attached(other) for other in others[-8:]] == [1] * 8, "those that were written last"
    membridge.write_memory(others[-1], b"x" * 200_000)
    assert attached(others[-1]) == 0
    membridge.write_memory(others[-1], 1)
    assert attached(others[-1]) == 0, "a file never shrinks"
    with ringspan.Value(name, ephemeral=True):
        membridge.write_memory(name, 1)
        assert attached(name) == 1
    with pytest.raises(ringspan.NotFound):
        ringspan.Value.peek(name)


def test_what_others_remove_frees_its_room(name: str, others: list[str]) -> None:
    before = pinned()
    for other in others[:8]:
        membridge.write_memory(other, 1)
        ringspan.remove(other)
    # The second one was opened when the first was gone, and so on.
    assert pinned() == before + 1
    membridge.write_memory(name, 1)
    assert pinned() == before
    ringspan.remove(name)
    assert pinned() == before + 1
    membridge.create_memory(others[0])
    membridge.remove_memory(others[0])
    assert pinned() == before
    membridge.write_memory(name, 1)
    membridge.remove_memory(name)
    assert pinned() == before


def test_a_holder_that_idles_pins_nothing_that_a_memory_grew_by(child: Start, name: str) -> None:
    large = "x" * 1_000_000
    one = child(WRITES, name)
    one.expect("written")
    membridge.write_memory(name, large)
    dead = child(IMPORT + "value = ringspan.Value(name); print('up', flush=True); input()", name)
    dead.expect("up")
    dead.kill()
    with Path("/dev/shm", name[1:]).open("rb") as file:

        def room() -> int:
            return os.fstat(file.fileno()).st_blocks * 512

        before = room()
        assert before > len(large)
        with ringspan.Value(name, create=False) as value:
            membridge.remove_memory(name)
            assert room() == before
            assert value.get() == large, "it lives on for those who have it open"
        assert room() <= 64 << 10

    one.say("go")
    one.expect("again")
    membridge.write_memory(name, large)
    one.say("end")
    with Path("/dev/shm", name[1:]).open("rb") as file:
        assert room() > len(large)
        membridge.remove_memory(name)
        assert room() <= 64 << 10
    assert one.finish() == ""


def test_a_holder_that_is_killed(child: Start, name: str) -> None:
    one = child(WRITES, name)
    one.expect("written")
    assert attached(name) == 1
    seen = membridge.changed(name, 0)
    waits = child(
        IMPORT + "print('up', flush=True); print(membridge.changed(name, int(sys.argv[2])))",
        name,
        seen,
    )
    waits.expect("up")
    one.kill()
    assert membridge.read_memory(name) == 1
    membridge.write_memory(name, 2, timeout=20)
    assert waits.finish() == f"{seen + 1}\n"
    membridge.remove_memory(name)
    with pytest.raises(MemoryError):
        membridge.read_memory(name)


def test_a_forked_child_opens_its_own(name: str) -> None:
    membridge.write_memory(name, 1)
    if (pid := os.fork()) == 0:
        try:
            membridge.write_memory(name, 2)
            membridge.write_memory(name, 3)
            os._exit(0 if membridge.read_memory(name) == 3 else 2)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    membridge.write_memory(name, 4)
    assert membridge.read_memory(name) == 4


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_a_child_of_multiprocessing_leaves_no_place_taken(
    child: Start, name: str, how: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    code = """
def write():
    membridge.write_memory(name, 1)

if __name__ == "__main__":
    one = multiprocessing.get_context(sys.argv[2]).Process(target=write)
    one.start()
    one.join()
    with ringspan.Value(name, create=False) as value:
        assert (one.exitcode, value.get(), value.stat().attached) == (0, 1, 1)
"""
    script.write_text(IMPORT + code)
    runs = "import runpy, sys; sys.argv[:1] = []; runpy.run_path(sys.argv[0], run_name='__main__')"
    if how == "spawn":
        runs = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    assert child(runs, script, name, how).finish() == ""


def test_a_signal_handler_may_write_too(name: str) -> None:
    calls: list[int] = []

    def handler(number: int, frame: object) -> None:
        membridge.write_memory(name, "handler")
        calls.append(number)

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    try:
        while len(calls) < 100:
            membridge.write_memory(name, "loop")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert membridge.read_memory(name) in ("handler", "loop")


def test_threads_write_one_name_and_others(name: str, others: list[str]) -> None:
    faults: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(200):
                membridge.write_memory(name, (number, turn))
                membridge.write_memory(others[(number * 5 + turn) % 12], turn)
                if turn % 10 == number:
                    membridge.remove_memory(others[turn % 12])
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert membridge.read_memory(name)[1] == 199


def test_a_name_that_leads_elsewhere_by_now(name: str) -> None:
    assert membridge.write_memory(name, "old")
    Path("/dev/shm", name[1:]).rename(Path("/dev/shm", name[1:] + "-moved"))
    assert membridge.create_memory(name)
    assert membridge.write_memory(name, "new")
    assert membridge.read_memory(name) == "new"
    assert membridge.read_memory(name + "-moved") == "old"


def test_the_dead_are_no_crowd(name: str, child: Start) -> None:
    membridge.create_memory(name)
    writers = [child(WRITES, name) for _ in range(12)]
    for writer in writers:
        writer.expect("written")
    for writer in writers:
        writer.kill()
    assert attached(name) == 8  # more are not kept
    for _ in range(70):  # they are asked now and then
        membridge.write_memory(name, 2)
    # Ours, which is kept.
    assert attached(name) == 1


def test_another_user_does_not_write_by_what_root_opened(name: str, run_python: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    code = """
membridge.write_memory(name, 1)
os.seteuid(12345)
try:
    membridge.write_memory(name, 2)
except OSError as error:
    print(type(error).__name__)
os.seteuid(0)
print(membridge.read_memory(name))
"""
    said = run_python(IMPORT + code, name).stdout
    assert said.splitlines()[-1] == "1"
    assert "Permission" in said
