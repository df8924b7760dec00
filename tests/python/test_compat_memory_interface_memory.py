"""`MemoryInterface` does what memory_interface documents, and what its programs rely on.

`RINGSPAN_COMPAT_ORIGINAL=1` runs this file against the original, where it is on the path; what its
listed bugs break (`bug`) is left out then.
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
METHODS = ["fork", "spawn", "forkserver"]


def test_an_interface_round_and_round(new: Callable[..., Any]) -> None:
    largest = list(range(100))
    here = new("MemoryInterface", largest, 5)
    for one in (here, library.MemoryInterface(here.state)):
        assert (one.get_read_pointer(), one.get_write_pointer()) == (0, 0)
        assert one.get_size_in_bytes() == len(pickle.dumps(largest))
        assert one.get_number_of_memories() == 5
        assert not any(one.is_valid(index) for index in range(5))
        assert (one.can_read(), one.can_write(), one.get_fullness()) == (False, True, 0)

        assert one.write([1, 2]) == len(pickle.dumps([1, 2]))
        assert (one.get_read_pointer(), one.get_write_pointer()) == (0, 1)
        assert [one.is_valid(index) for index in range(5)] == [True] + 4 * [False]
        assert (one.can_read(), one.can_write(), one.get_fullness()) == (True, True, 20)
        assert one.read() == [1, 2]
        assert (one.can_read(), one.get_fullness()) == (False, 0)

        with pytest.raises(ValueError, match="too large"):
            one.write(list(range(101)))
        assert (one.get_write_pointer(), one.can_read()) == (1, False)

        for index in range(5):
            assert one.can_write()
            one.write([index])
        assert (one.can_write(), one.get_fullness()) == (False, 100)
        assert all(one.is_valid(index) for index in range(-5, 5))
        for index in range(5):
            assert one.can_read()
            assert one.read() == [index]
        # To the start again, for the next one.
        for index in range(4):
            one.write(index)
            assert one.read() == index
        with pytest.raises(IndexError):
            one.is_valid(5)


def test_the_default_has_room_for_a_hundred_numbers(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface")
    assert interface.get_number_of_memories() == 10
    assert interface.get_size_in_bytes() == len(pickle.dumps(list(range(100))))


def test_reset_read_drops_all(new: Callable[..., Any]) -> None:
    here = new("MemoryInterface", list(range(2000)), 10)
    there = library.MemoryInterface(here.state)
    there.reset_read()
    assert there.get_read_pointer() == 0
    while here.can_write():
        here.write([1])
    there.reset_read()
    assert (there.can_read(), here.can_write(), there.get_read_pointer()) == (False, True, 0)
    for _ in range(5):
        here.write([2])
    there.reset_read()
    assert (there.can_read(), there.get_read_pointer(), here.get_write_pointer()) == (False, 5, 5)
    here.write([3])
    assert there.read() == [3]


def test_reading_where_nothing_is(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0] * 9, 3)
    with pytest.raises(pickle.UnpicklingError):
        interface.read()
    assert interface.get_read_pointer() == 0


@bug("stale bytes are read again, and the pointer moves")
def test_reading_again_where_nothing_is(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0] * 9, 1)
    interface.write([1])
    assert interface.read() == [1]
    with pytest.raises(pickle.UnpicklingError):
        interface.read()


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


def test_a_loader_in_bytes_mode(new: Callable[..., Any]) -> None:
    there = library.MemoryInterface(new("MemoryInterface", b"12345", 3, use_pickle=False).state)
    assert there.get_size_in_bytes() == 5
    assert there.write(b"abc") == 3
    assert there.write(bytearray(b"abcde")) == 5
    with pytest.raises(ValueError, match="too large"):
        there.write(b"abcdef")
    assert there.read() == b"abc\0\0"
    assert there.read_bytes() == b"abcde"
    assert there.write_bytes(b"z") == 1
    assert there.can_read()


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


def test_parts(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", b"1234", 3, False)
    assert interface.write_partial(b"abc") == 3
    assert interface.write_partial(b"d") == 4  # a slot is written when there is more
    assert not interface.can_read()
    assert interface.write_partial(b"efghijklm") == 9  # one slot at a time
    assert interface.get_write_pointer() == 1
    assert interface.write_partial(b"") == 5
    assert interface.write_partial(b"") == 1
    assert [bytes(interface.read()) for _ in range(3)] == [b"abcd", b"efgh", b"ijkl"]


def test_an_interface_before_and_after() -> None:
    interface = library.MemoryInterface()
    with pytest.raises(ValueError):
        interface.can_read()
    with pytest.raises(ValueError):
        interface.get_write_pointer()
    with pytest.raises(AttributeError):
        interface.write([1])
    with pytest.raises(AttributeError):
        interface.read()
    assert interface.is_valid(0) is False
    interface.cleanup()
    interface.create_memorybuf([1, 2, 3], 3)
    interface.write([1])
    interface.write([2])
    interface.read()
    interface.cleanup()
    interface.cleanup()
    assert interface.write([1]) is None
    assert (interface.can_read(), interface.can_write()) == (False, True)
    assert (interface.get_read_pointer(), interface.get_write_pointer()) == (1, 2)
    assert (interface.get_fullness(), interface.is_valid(1)) == (33, False)
    assert interface.get_number_of_memories() == 3
    with pytest.raises(KeyError):
        interface.read()
    if ORIGINAL:  # it leaves these to the resource tracker
        for one in (interface.write_pointer, interface.read_pointer, interface.mem_size):
            one.cleanup()


def test_writing_into_what_is_full_takes_the_place_of_the_oldest(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0] * 9, 1)
    interface.write([1])
    interface.write([2])
    assert interface.read() == [2]
    assert not interface.can_read()


NUMBERS = """
    import sys
    from multiprocessing import get_context
    from memory_interface import MemoryInterface, SharedBool

    COUNT = 2000

    def reader(memblk, wrong):
        interface = MemoryInterface(memblk)
        for number in range(COUNT):
            while not interface.can_read():
                pass
            if interface.read() != [number] * (number % 50):
                SharedBool(wrong).write(True)
        interface.cleanup()

    def writer(memblk, size):
        interface = MemoryInterface(memblk)
        assert interface.get_size_in_bytes() == size
        for number in range(COUNT):
            while not interface.can_write():
                pass
            interface.write([number] * (number % 50))
        interface.cleanup()

    if __name__ == "__main__":
        interface, wrong = MemoryInterface(), SharedBool()
        memblk = interface.create_memorybuf([COUNT] * 50, 5)
        args = (memblk, wrong.create_sharedobject())
        start = get_context(sys.argv[1]).Process
        processes = [
            start(target=reader, args=args),
            start(target=writer, args=(memblk, interface.get_size_in_bytes())),
        ]
        for one in processes:
            one.start()
        for one in processes:
            one.join()
        print([one.exitcode for one in processes], wrong.read(), interface.get_fullness())
        interface.cleanup()
        wrong.cleanup()
"""


@pytest.mark.parametrize("method", METHODS)
def test_numbers_from_process_to_process(method: str, script: Callable[..., Any]) -> None:
    assert script(NUMBERS, method).finish() == "[0, 0] False 0\n"
