"""What the listed bugs of memory_interface broke, and what nearly breaks.

`RINGSPAN_COMPAT_ORIGINAL=1` leaves out what the original cannot do.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from compat_tools import ORIGINAL, bug

pytestmark = pytest.mark.usefixtures("nothing_left")
MODULE = "memory_interface" if ORIGINAL else "ringspan.compat.memory_interface"
library: Any = importlib.import_module(MODULE)


@bug("read gives the same bytearray each time")
def test_bytes_that_were_read_are_the_readers_own(new: Callable[..., Any]) -> None:
    block = new("SharedBytes", 3)
    before = block.read()
    block.write(b"new")
    assert before == bytes(3)
    before[:] = b"own"
    assert block.read() == b"new"


@bug("the README promises ValueError")
@pytest.mark.parametrize(
    ("name", "args"),
    [("SharedBytes", (3,)), ("SharedInt", ()), ("SharedBool", ()), ("SharedString", (10,))],
)
def test_none_is_a_value_error(new: Callable[..., Any], name: str, args: tuple[Any, ...]) -> None:
    one = new(name, *args)
    before = one.read()
    for value in (None, 1.5 if name != "SharedString" else 3):
        with pytest.raises(ValueError):
            one.write(value)
    assert one.read() == before


@bug("a shorter text after a multi-byte one, and NULs")
def test_strings_come_back_exactly(new: Callable[..., Any]) -> None:
    text = new("SharedString", 16)
    for value in ("\u20ac\u20ac\u20ac", "a", "\0a\0", "\0", ""):
        text.write(value)
        assert text.read() == value


@bug("stale bytes are read again, and the pointer moves")
def test_reading_again_where_nothing_is(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0] * 9, 1)
    interface.write([1])
    assert interface.read() == [1]
    with pytest.raises(pickle.UnpicklingError):
        interface.read()


@bug("the creator writes pickles")
def test_a_creator_in_bytes_mode(new: Callable[..., Any]) -> None:
    here = new("MemoryInterface", b"12345", 3, False)
    assert here.write(b"abcde") == 5
    assert library.MemoryInterface(here.state).read() == b"abcde"


@bug("the README promises ValueError")
@pytest.mark.parametrize("use_pickle", [True, False])
def test_none_is_not_written(new: Callable[..., Any], use_pickle: bool) -> None:
    interface = new("MemoryInterface", b"12345" * 9, 3, use_pickle)
    with pytest.raises(ValueError, match="None"):
        interface.write(None)
    assert not interface.can_read()


class Unreadable:
    """Raises a ValueError when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_what_cannot_be_unpickled_is_not_taken(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", b"x" * 300, 3)
    interface.write(Unreadable())
    for _ in range(2):
        with pytest.raises(ValueError, match="no number"):
            interface.read()
    assert (interface.get_read_pointer(), interface.can_read()) == (0, True)


def test_both_modes_by_name(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0] * 50, 3)
    size = interface.get_size_in_bytes()
    assert interface.write_pickle({"a": 1}) == len(pickle.dumps({"a": 1}))
    assert interface.read_pickle() == {"a": 1}
    data = pickle.dumps("text").ljust(size, b"\0")
    assert interface.write_bytes(data) == size
    assert interface.read() == "text"
    interface.write("text")
    raw = interface.read_bytes()
    assert (len(raw), pickle.loads(raw)) == (size, "text")
