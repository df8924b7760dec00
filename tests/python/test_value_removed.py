"""What a removal leaves behind: those who wait are told, memory and doors go with the name."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ringspan

Start = Callable[..., Any]
DOORS = Path(os.environ["RINGSPAN_DIR"])
# Where the header says that the name is removed, or about to be; docs/format.md.
STATE = 256

RESTS = """
import sys
from ringspan.compat.sysframe import membridge
membridge.write_memory(sys.argv[1], 1)
membridge.write_memory(sys.argv[1], b"x" * 20_000)
print("rests", flush=True)
input()
"""
WAITS = """
import sys, ringspan
value = ringspan.Value(sys.argv[1], create=False)
print("waits", flush=True)
try:
    value.blocking_changed()
except ringspan.Removed:
    print("told", flush=True)
"""


def path_of(name: str) -> Path:
    return Path("/dev/shm", name[1:])


def end(*children: Any) -> None:
    for one in children:
        one.say("end")
        assert one.finish() == ""


def until_parked(name: str, count: int) -> None:
    """Until that many are asleep; the word `parked` of the header."""
    while True:
        with path_of(name).open("rb") as file:
            file.seek(272)
            if struct.unpack("<Q", file.read(8))[0].bit_count() == count:
                return
        os.sched_yield()


def test_deleted_from_outside_beside_one_that_rests(child: Start, name: str) -> None:
    rests = child(RESTS, name)
    rests.expect("rests")
    waits = child(WAITS, name)
    waits.expect("waits")
    until_parked(name, 1)
    while not any(
        "inotify" in str(entry.readlink()) for entry in Path(f"/proc/{waits.pid}/fd").iterdir()
    ):
        os.sched_yield()
    path_of(name).unlink()
    waits.expect("told")
    assert waits.finish() == ""
    end(rests)


def removed(name: str) -> None:
    ringspan.remove(name)


def opened(name: str) -> None:
    with pytest.raises(ringspan.NotFound):
        ringspan.Value(name, create=False)


def made(name: str) -> None:
    ringspan.Value(name, create=True, exist_ok=False).close()


def looked_at(name: str) -> None:
    with pytest.raises(ringspan.NotFound):
        ringspan.Value.peek(name)


@pytest.mark.parametrize("finish", [removed, opened, looked_at])
def test_who_ends_a_removal_gives_the_memory_back(
    child: Start, name: str, finish: Callable[[str], None]
) -> None:
    rests = child(RESTS, name)
    rests.expect("rests")
    with path_of(name).open("r+b") as file:
        grown = os.fstat(file.fileno()).st_blocks
        file.seek(STATE)
        file.write(struct.pack("<Q", 1))  # and the remover was killed
        file.flush()
        finish(name)
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.fstat(file.fileno()).st_blocks * 512 <= grown * 512 - 20_000
    end(rests)


HOLDS = """
import sys, ringspan
value = ringspan.Value(sys.argv[1])
print("holds", flush=True)
input()
"""


@pytest.mark.parametrize("resting", [False, True])
def test_the_doors_of_the_dead_go_with_the_name(child: Start, name: str, resting: bool) -> None:
    rests = child(RESTS, name) if resting else None
    if rests is not None:
        rests.expect("rests")
    before = set(DOORS.iterdir())
    holds = child(HOLDS, name)
    holds.expect("holds")
    (door,) = set(DOORS.iterdir()) - before
    holds.kill()
    assert door.exists()
    ringspan.remove(name)
    assert not door.exists()
    assert set(DOORS.iterdir()) == before, "and those of the living stay"
    if rests is not None:
        end(rests)


def test_a_dead_owner_beside_a_living_one_is_left_to_it(child: Start, name: str) -> None:
    """It may have had the lock, and without its door nobody could prove its death."""
    with ringspan.Value(name, create=True) as value:
        before = set(DOORS.iterdir())
        holds = child(HOLDS, name)
        holds.expect("holds")
        (door,) = set(DOORS.iterdir()) - before
        holds.kill()
        ringspan.remove(name)
        assert door.exists()
        with contextlib.suppress(ringspan.Removed):
            value.blocking_changed(timeout=0)
        assert not door.exists()
