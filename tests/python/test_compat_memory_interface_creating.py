"""Creating in memory_interface: twice with one object, and what is too large."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import ringspan
from compat_tools import memories
from ringspan.compat import memory_interface as library

pytestmark = pytest.mark.usefixtures("nothing_left")

CREATE: dict[str, Callable[[Any], Any]] = {
    "SharedBytes": lambda one: one.create_sharedobject(3),
    "SharedString": lambda one: one.create_sharedobject(9),
    "SharedInt": lambda one: one.create_sharedobject(),
    "SharedBool": lambda one: one.create_sharedobject(),
    "MemoryInterface": lambda one: one.create_memorybuf([0], 2),
}


@pytest.mark.parametrize("kind", CREATE)
def test_what_is_created_twice_goes_as_a_whole(kind: str, other: Callable[..., Any]) -> None:
    one = getattr(library, kind)()
    first, second = CREATE[kind](one), CREATE[kind](one)
    assert len(memories(os.getpid())) == 2
    # The first state may be on its way to somebody still.
    code = f"""
        one = {kind}(state())
        say("loaded")
        input()
        say("goes on", hasattr(one, "can_read") or one.read() is not None)
    """
    loader = other(code, first)
    loader.expect("loaded")
    one.cleanup()
    one.cleanup()
    assert not memories(os.getpid())
    for state in (first, second):
        with pytest.raises(FileNotFoundError):
            getattr(library, kind)(pickle.loads(pickle.dumps(state)))
    loader.say()
    loader.expect("goes on True")
    loader.finish()


@pytest.mark.parametrize("kind", CREATE)
def test_a_creator_that_loads_another_one_cleans_up_its_own(kind: str) -> None:
    mine, theirs = getattr(library, kind)(), getattr(library, kind)()
    CREATE[kind](mine)
    state = CREATE[kind](theirs)
    load = mine.load_memorybuf if kind == "MemoryInterface" else mine.load_sharedobject
    load(state)
    assert mine.loaded
    mine.cleanup()
    assert len(memories(os.getpid())) == 1
    with getattr(library, kind)(state):
        theirs.cleanup()
    assert not memories(os.getpid())


@pytest.mark.parametrize("size", [1 << 40, (1 << 62) - 1, 1 << 63, 1 << 64, 1 << 70])
def test_more_bytes_than_there_can_be_are_refused(size: int) -> None:
    for create in (
        lambda: library.SharedBytes().create_sharedobject(size),
        lambda: library.MemoryInterface().create_memorybuf(b"x", size, False),
    ):
        kinds = OSError if size == 1 << 40 else (ValueError, OverflowError)
        with pytest.raises(kinds) as caught:
            create()
        assert isinstance(caught.value, ringspan.RingspanError)
        assert "no room" in str(caught.value) or "more than there can be" in str(caught.value)
    assert not memories(os.getpid())
    kept = library.SharedBytes()
    kept.create_sharedobject(2)
    kept.write(b"ab")
    with pytest.raises((OSError, ValueError)):
        kept.create_sharedobject(size)
    assert kept.read() == b"ab"
    kept.cleanup()
