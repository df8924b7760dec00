"""What memory_interface promises, sentence by sentence, seen by real processes.

`RINGSPAN_COMPAT_ORIGINAL=1` runs this file against the original, where it is on the path. What its
listed bugs break is in ../test_compat_memory_interface_mended.py, what is new in the others beside
that.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from compat_tools import ORIGINAL

pytestmark = pytest.mark.usefixtures("nothing_left")
MODULE = "memory_interface" if ORIGINAL else "ringspan.compat.memory_interface"
library: Any = importlib.import_module(MODULE)
METHODS = ["fork", "spawn", "forkserver"]
#: What `write` calls its argument.
WRITES = {
    "SharedBytes": "rsp_stream",
    "SharedInt": "num",
    "SharedBool": "isnum",
    "SharedString": "val",
}


# ---- names ---------------------------------------------------------------------------------------


def test_signatures() -> None:
    def arguments(of: Any) -> list[str]:
        parameters = list(inspect.signature(of).parameters.values())
        return [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]

    for name in ("SharedBytes", "SharedInt", "SharedBool", "SharedString"):
        one = getattr(library, name)
        assert len(arguments(one)) == 1
        assert arguments(one.load_sharedobject) == ["self", "memblk"]
        assert arguments(one.read) == arguments(one.cleanup) == ["self"]
        assert arguments(one.write)[1:] == [WRITES[name]]
    assert arguments(library.SharedBytes.create_sharedobject) == ["self", "size"]
    assert arguments(library.SharedString.create_sharedobject) == ["self", "maxlength"]
    assert arguments(library.SharedInt.create_sharedobject) == ["self"]
    assert arguments(library.MemoryInterface) == ["memblk"]
    create = library.MemoryInterface.create_memorybuf
    assert arguments(create) == ["self", "largest_object", "nr_of_memories", "use_pickle"]
    defaults = [one.default for one in inspect.signature(create).parameters.values()][1:]
    assert defaults == [list(range(100)), 10, True]


def test_states(new: Callable[..., Any]) -> None:
    assert new("SharedBytes", 10).state["size"] == 10
    assert new("SharedInt").state["size"] == 8
    assert new("SharedBool").state["size"] == 1
    assert new("SharedString", 10).state["size"] == 14
    interface = new("MemoryInterface", [1] * 50, 4)
    state = interface.state
    assert set(state) == {"writepointer", "readpointer", "size_in_bytes", "memlist", "use_pickle"}
    assert len(state["memlist"]) == 4
    assert state["use_pickle"] is True
    assert {key: part["size"] for key, part in state["memlist"][0].items()} == {
        "memory": len(pickle.dumps([1] * 50)),
        "valid": 8,
    }


# ---- SharedBytes ---------------------------------------------------------------------------------


def test_bytes_are_the_whole_block(new: Callable[..., Any]) -> None:
    block = new("SharedBytes", 10)
    assert block.read() == bytearray(10)
    assert isinstance(block.read(), bytearray)
    assert block.write(b"abc") is True
    assert block.read() == b"abc" + bytes(7)
    assert block.write(bytearray(b"0123456789")) is True
    assert block.write(memoryview(b"x")) is True
    assert block.write(b"") is True
    assert block.read() == b"x123456789"


def test_bytes_that_are_too_many_change_nothing(new: Callable[..., Any]) -> None:
    block = new("SharedBytes", 4)
    block.write(b"four")
    with pytest.raises(ValueError, match="too large: 5 but only 4"):
        block.write(b"fives")
    with pytest.raises(TypeError):
        block.write(None)
    with pytest.raises(TypeError):
        block.write(7)
    assert block.read() == b"four"
    for size in (0, -1):
        with pytest.raises(ValueError):
            library.SharedBytes().create_sharedobject(size)


def test_two_objects_of_one_block(new: Callable[..., Any]) -> None:
    block = new("SharedBytes", 2)
    other = library.SharedBytes(block.state)
    third = library.SharedBytes()
    third.load_sharedobject(block.state)
    other.write(b"ab")
    assert block.read() == third.read() == b"ab"


# ---- SharedInt, SharedBool -----------------------------------------------------------------------


def test_ints(new: Callable[..., Any]) -> None:
    number = new("SharedInt")
    other = library.SharedInt(number.state)
    assert number.read() == 0
    for value in (3, -3, 255, 2**63 - 1, -(2**63), True):
        assert number.write(value) is None
        assert other.read() == value
        assert type(other.read()) is int


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_ints_beyond_64_bits_change_nothing(new: Callable[..., Any], value: int) -> None:
    number = new("SharedInt")
    number.write(5)
    with pytest.raises(OverflowError) as caught:
        number.write(value)
    assert number.read() == 5
    if not ORIGINAL:
        assert isinstance(caught.value, ValueError)  # as its README says


@pytest.mark.parametrize(("name", "args"), [("SharedInt", ()), ("SharedBool", ())])
def test_none_is_no_number(new: Callable[..., Any], name: str, args: tuple[Any, ...]) -> None:
    number = new(name, *args)
    number.write(1)
    with pytest.raises(AttributeError):
        number.write(None)
    assert number.read() == 1


def test_bools(new: Callable[..., Any]) -> None:
    flag = new("SharedBool")
    other = library.SharedBool(flag.state)
    assert flag.read() is False
    for value in (True, 255, 1):
        assert flag.write(value) is None
        assert other.read() is True
        flag.write(0)
        assert other.read() is False
    flag.write(2)
    for value in (256, -1):
        with pytest.raises(OverflowError):
            flag.write(value)
    assert other.read() is True


# ---- SharedString --------------------------------------------------------------------------------


def test_strings(new: Callable[..., Any]) -> None:
    text = new("SharedString", 200)
    other = library.SharedString(text.state)
    assert text.read() == ""
    euros = "Very long \u20ac text \u1234 with spaces and special characters"
    for value in ("Hello", "longer than that", "", "Langerstring", "a", euros):
        assert text.write(value) is None
        assert other.read() == value


def test_a_string_is_as_long_as_its_utf8(new: Callable[..., Any]) -> None:
    text = new("SharedString", 16)
    text.write("0123456789ABCDEF")
    text.write("\u20ac" * 5)
    for value in ("0123456789ABCDEFG", "\u20ac" * 6):
        with pytest.raises(ValueError, match="too large"):
            text.write(value)
    with pytest.raises(TypeError):
        text.write(None)
    assert text.read() == "\u20ac" * 5


@pytest.mark.parametrize("length", [4, 0, -1, 2**32])
def test_lengths_that_no_string_has(length: int) -> None:
    with pytest.raises(ValueError):
        library.SharedString().create_sharedobject(length)


def test_the_shortest_string(new: Callable[..., Any]) -> None:
    text = new("SharedString", 5)
    text.write("12345")
    assert text.read() == "12345"
    assert library.SharedString.maxval == 2**32 - 1


# ---- all four ------------------------------------------------------------------------------------

FOUR = [("SharedBytes", (3,)), ("SharedInt", ()), ("SharedBool", ()), ("SharedString", (5,))]


@pytest.mark.parametrize(("name", "args"), FOUR)
def test_nothing_before_and_after(name: str, args: tuple[Any, ...]) -> None:
    one = getattr(library, name)()
    value: Any = {"SharedBytes": b"a", "SharedString": "a"}.get(name, 1)
    for _ in range(2):
        with pytest.raises(ValueError, match="no object loaded"):
            one.read()
        with pytest.raises(ValueError, match="no object loaded"):
            one.write(value)
        one.cleanup()
        one.create_sharedobject(*args)
        one.write(value)
        one.cleanup()
        one.cleanup()


LOADING = """
    import sys
    from multiprocessing import get_context
    from memory_interface import SharedBytes, SharedInt, SharedBool, SharedString

    def loader(states):
        there = [one(state) for one, state in zip(CLASSES, states)]
        assert [one.read() for one in there] == [b"ab", -7, True, "text"]
        for one, value in zip(there, (b"x", 2**40, False, "\u20ac")):
            one.write(value)
        for one in there:
            one.cleanup()
            one.cleanup()

    CLASSES = (SharedBytes, SharedInt, SharedBool, SharedString)

    if __name__ == "__main__":
        here = [one() for one in CLASSES]
        states = [one.create_sharedobject(*args) for one, args in zip(here, ((2,), (), (), (9,)))]
        for one, value in zip(here, (b"ab", -7, True, "text")):
            one.write(value)
        for _ in range(2):
            process = get_context(sys.argv[1]).Process(target=loader, args=(states,))
            process.start()
            process.join()
            print(process.exitcode, [one.read() for one in here])
            for one, value in zip(here, (b"ab", -7, True, "text")):
                one.write(value)
        for one in here:
            one.cleanup()
"""


@pytest.mark.parametrize("method", METHODS)
def test_states_go_to_processes(method: str, script: Callable[..., Any]) -> None:
    said = script(LOADING, method).finish().splitlines()
    assert said == ["0 [bytearray(b'xb'), 1099511627776, False, '\u20ac']"] * 2


# The program of the README, but for its start method and a shorter nap.
README = """
    import sys
    import time
    from multiprocessing import Process
    from memory_interface import SharedString

    INITIAL_STRING = "Hello"
    ANSWER = "From afar"

    def runningstr(memblk):
        # jump start a local version:
        localstr = SharedString(memblk)
        first_string = localstr.read()
        assert first_string == INITIAL_STRING
        localstr.write(ANSWER)  # give an answer
        print(f"From afar read {first_string} and is sending {ANSWER}", flush=True)


    def Initialize():
        sharedstring = SharedString()
        memblk = sharedstring.create_sharedobject(200)

        sharedstring.write(INITIAL_STRING)  # initialize it (must be less than 200)

        proc = Process(target=runningstr, args=[memblk])  # passes the memblk
        proc.start()

        busy = True
        while busy:
            answer = sharedstring.read()
            if answer == INITIAL_STRING:
                time.sleep(0.01)
            else:
                busy = False

        assert answer == ANSWER
        proc.join()
        print(f"In main process read: <{answer}>")
        sharedstring.cleanup()

    if __name__ == "__main__":
        import multiprocessing
        multiprocessing.set_start_method(sys.argv[1])
        Initialize()
"""


@pytest.mark.parametrize("method", METHODS)
def test_the_program_of_the_readme(method: str, script: Callable[..., Any]) -> None:
    assert script(README, method).finish().splitlines() == [
        "From afar read Hello and is sending From afar",
        "In main process read: <From afar>",
    ]


# ---- MemoryInterface -----------------------------------------------------------------------------


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
