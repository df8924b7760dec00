"""Value without a handle: `peek`, a first value, and what is told of a removal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Start = Callable[..., Any]

SETS = """
import sys, ringspan
value = ringspan.Value(sys.argv[1], create=False)
print("up", flush=True)
n = 0
while True:
    n += 1
    value.blocking_set([n] * 1000)
"""


def test_it_reads_what_was_set_last(name: str) -> None:
    with pytest.raises(ringspan.NotFound, match=name):
        ringspan.Value.peek(name, None)
    with ringspan.Value(name) as value:
        assert ringspan.Value.peek(name, "never") == "never"
        with pytest.raises(ringspan.Empty, match=name):
            ringspan.Value.peek(name)
        values: tuple[Any, ...] = (
            {"a": (1, {2})},
            None,
            b"bytes",
            b"b" * 300_000,
            "t" * 300_000,
            [],
        )
        for one in values:
            value.try_set(one)
            read = ringspan.Value.peek(name)
            assert (read, type(read)) == (one, type(one))
        assert value.stat().attached == 1
    assert ringspan.Value.peek(name) == []
    with pytest.raises(TypeError):
        ringspan.Value.peek(name, 1, 2)  # type: ignore[call-overload]


def test_it_needs_no_place_and_refuses_other_kinds(name: str) -> None:
    handles = [ringspan.Value(name) for _ in range(48)]
    handles[0].try_set(1)
    with pytest.raises(ringspan.TooManyAttached):
        ringspan.Value(name)
    assert ringspan.Value.peek(name) == 1
    for one in handles:
        one.close()
    ringspan.remove(name)
    ringspan.Segment.create(name, 8).close()
    with pytest.raises(ringspan.Mismatch):
        ringspan.Value.peek(name)
    with pytest.raises(ringspan.InvalidName):
        ringspan.Value.peek("a/b")


def test_pickles_are_read_on_request_only(name: str) -> None:
    with ringspan.Value(name, pickle=True) as value:
        value.try_set(ValueError("x"))
        with pytest.raises(ringspan.CodecError):
            ringspan.Value.peek(name)
        assert str(ringspan.Value.peek(name, pickle=True)) == "x"


def test_no_half_value_beside_a_process_that_sets(child: Start, name: str) -> None:
    with ringspan.Value(name, initial=[0] * 1000) as value:
        one = child(SETS, name)
        one.expect("up")
        value.blocking_changed(1)
        for _ in range(500):
            assert len(set(ringspan.Value.peek(name))) == 1
        one.kill()
        assert len(set(ringspan.Value.peek(name))) == 1
        value.blocking_set(1)
    ringspan.remove(name)
    ringspan.gc()  # the door of the dead


def test_a_first_value(name: str) -> None:
    with ringspan.Value(name, create=True, initial=(1, {2})) as value:
        assert (value.version, value.get()) == (1, (1, {2}))
        assert value.blocking_changed(0) == 1
        with ringspan.Value(name, initial="other") as other:
            assert other.get() == (1, {2})
        size = value.file_size
        value.try_set(b"x" * 100_000)
        assert value.file_size > size
        assert not value.is_removed
        value.remove()
        assert value.is_removed
    with ringspan.Value(name, initial=None) as value:
        assert (value.version, value.get("never")) == (1, None)
    ringspan.remove(name)
    with pytest.raises(TypeError):
        ringspan.Value(name, initial=object())
    with pytest.raises(ringspan.NotFound):
        ringspan.Value.peek(name)


def test_a_removal_is_told_to_all_who_wait(name: str, run: Run) -> None:
    with ringspan.Value(name) as value, ringspan.Value(name) as other:

        async def awaited() -> None:
            tasks = [asyncio.ensure_future(one.changed()) for one in (value, other, value)]
            await asyncio.sleep(0)
            await asyncio.to_thread(ringspan.remove, name)
            for task in tasks:
                with pytest.raises(ringspan.Removed, match=name):
                    await task

        run(awaited())
        with pytest.raises(ringspan.Removed):
            value.blocking_changed(0)
        other.try_set(1)
        assert value.blocking_changed(0) == 1, "what was set comes first"

    with ringspan.Value(name) as value, ringspan.Value(name):
        timer = threading.Timer(0.05, ringspan.remove, (name,))
        timer.start()
        with pytest.raises(ringspan.Removed):
            value.blocking_wait_for(bool)
        timer.join()
