"""What membridge 1.0 promises. RINGSPAN_COMPAT_ORIGINAL=1 runs this file against the original."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from compat_tools import ORIGINAL, bug

if TYPE_CHECKING or not ORIGINAL:
    from ringspan.compat import membridge

    IMPORT = "from ringspan.compat import membridge"
else:
    import membridge

    IMPORT = "import membridge"

SharedMemory = membridge.SharedMemory


@pytest.fixture
def view(name: str) -> Iterator[Any]:
    mem = SharedMemory.create(name, 1000)
    yield mem.map()
    if not ORIGINAL:
        mem.close()


# ---- segments ------------------------------------------------------------------------------------


def test_a_segment_is_made_opened_and_removed(name: str) -> None:
    made = SharedMemory.create(name, 1000)
    assert (made.name(), made.size()) == (name, 1000)
    assert repr(made) == f"SharedMemory(name='{name}', size=1000, role=creator)"

    opened = SharedMemory.open(name)
    assert (opened.name(), opened.size()) == (name, 1000)
    assert repr(opened) == f"SharedMemory(name='{name}', size=1000, role=opener)"
    assert SharedMemory.open(name, 5).size() == 1000
    assert SharedMemory.open(name=name, size=None).size() == 1000

    assert SharedMemory.remove(name) is None
    with pytest.raises(OSError):
        SharedMemory.remove(name)
    with pytest.raises(OSError):
        SharedMemory.open(name)


def test_there_are_no_constructors() -> None:
    for cls in (SharedMemory, membridge.MappedView, membridge.SpscRingBuffer):
        with pytest.raises(TypeError):
            cls()
    assert set(membridge.__all__) == {"SharedMemory", "MappedView", "SpscRingBuffer"}


@pytest.mark.parametrize("bad", ["", "/", "name", "a/b"])
def test_a_name_begins_with_a_slash(bad: str) -> None:
    for act in (lambda: SharedMemory.create(bad, 64), lambda: SharedMemory.open(bad)):
        with pytest.raises(ValueError):
            act()
    with pytest.raises(ValueError):
        SharedMemory.remove(bad)


def test_sizes_are_positive_ints(name: str) -> None:
    for size, error in ((0, ValueError), (-1, OverflowError), (1.5, TypeError), ("8", TypeError)):
        with pytest.raises(error):
            SharedMemory.create(name, size)
    with pytest.raises(OSError):
        SharedMemory.open(name)


@bug("the system's errors are texts without a number")
def test_errors_are_the_builtins_too(name: str) -> None:
    with pytest.raises(FileNotFoundError):
        SharedMemory.open(name)
    with pytest.raises(FileNotFoundError):
        SharedMemory.remove(name)
    mem = SharedMemory.create(name, 64)
    with pytest.raises(FileExistsError, match=r"open\(\) it"):
        SharedMemory.create(name, 64)
    assert mem.size() == 64


@bug("create cuts the name that others have mapped")
@pytest.mark.parametrize("size", [1000, 1024 + 24])
def test_create_harms_nobody_who_lives(name: str, child: Any, size: int) -> None:
    with child(
        f"""
        import sys
        {IMPORT}
        view = membridge.SharedMemory.create(sys.argv[1], int(sys.argv[2])).map()
        view.write("here", 0)
        view.write("there", view.size() - 9)
        print("made", flush=True)
        input()
        print(view.read_range(4, 4), view.read_range(view.size() - 5, 5))
        """,
        name,
        size,
    ) as other:
        other.expect("made")
        for again in (size, 16, 2 * size):
            with pytest.raises(FileExistsError):
                SharedMemory.create(name, again)
        other.say()
        other.expect("b'here' b'there'")
        other.finish()


def test_what_nobody_has_open_is_taken_over(name: str, run_python: Any) -> None:
    code = f"""
        import sys
        {IMPORT}
        mem = membridge.SharedMemory.create(sys.argv[1], 1000)
        view = mem.map()
        print(view.read_range(0, 1), mem)
        view.write(b"1")
        """
    ends = f"SharedMemory(name='{name}', size=1000, role=creator)\n"
    zero = r"b'\x00'"
    assert run_python(code, name).stdout == f"{zero} {ends}"
    assert run_python(code, name).stdout == f"b'1' {ends}"


@pytest.mark.parametrize("size", [1000, 1024 + 24])
def test_a_removed_segment_goes_on_for_those_who_mapped_it(name: str, size: int) -> None:
    view = SharedMemory.create(name, size).map()
    view.write("first")
    SharedMemory.remove(name)
    other = SharedMemory.create(name, size).map()
    other.write("other")
    view.write(2)
    view.seek()
    assert (view.read("str"), view.read("int")) == ("first", 2)
    other.seek()
    assert other.read("str") == "other"


# ---- views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "tag", "stored"),
    [
        (True, "bool", b"\x01"),
        (False, "bool", b"\x00"),
        (42, "int", struct.pack("=q", 42)),
        (-(2**63), "i64", struct.pack("=q", -(2**63))),
        (2**63 - 1, "i64", struct.pack("=q", 2**63 - 1)),
        (0.92, "float", struct.pack("=d", 0.92)),
        (float("-inf"), "f64", struct.pack("=d", float("-inf"))),
        ("", "str", struct.pack("=I", 0)),
        ("hello", "str", struct.pack("=I", 5) + b"hello"),
        ("grüße \U0001f600", "str", struct.pack("=I", 12) + "grüße \U0001f600".encode()),
    ],
)
def test_a_value_comes_back_by_its_tag(view: Any, value: Any, tag: str, stored: bytes) -> None:
    assert view.write(value) is None
    assert view.tell() == len(stored)
    assert view.read_range(0, len(stored)) == stored
    view.seek()
    found = view.read(tag)
    assert (found, type(found)) == (value, type(value))
    assert view.tell() == len(stored)


@pytest.mark.parametrize("raw", [b"raw", bytearray(b"raw")])
def test_bytes_are_stored_as_they_are(view: Any, raw: bytes) -> None:
    view.write(raw)
    view.write(1)
    assert view.tell() == 11
    assert view.read_range(0, 3) == b"raw"
    assert type(view.read_range(0, 3)) is bytes


def test_every_tag_reads_its_bytes(view: Any) -> None:
    items = [("u8", "B", 250), ("i32", "i", -5), ("u32", "I", 2**32 - 1), ("u64", "Q", 2**64 - 1)]
    for tag, code, value in [*items, ("f32", "f", 0.25)]:
        view.seek()
        view.write(struct.pack(f"={code}", value), 0)
        assert view.read(tag) == value
        assert view.tell() == struct.calcsize(f"={code}")
    view.write(b"\x02", 0)
    view.seek()
    assert view.read("bool") is True


def test_what_is_no_text_is_replaced(view: Any) -> None:
    view.write(struct.pack("=I", 4) + b"a\xff\xfeb", 0)
    assert view.read("str") == "a��b"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, ValueError),
        ([1], ValueError),
        ((1,), ValueError),
        ({}, ValueError),
        (1j, ValueError),
        (memoryview(b"x"), ValueError),
        (b"", ValueError),
        (bytearray(), ValueError),
        (2**63, OverflowError),
        (-(2**63) - 1, OverflowError),
        (bytes(997), ValueError),
        ("x" * 993, ValueError),
        ("\ud800", UnicodeEncodeError),
    ],
)
def test_what_cannot_be_written_changes_nothing(view: Any, value: Any, error: type) -> None:
    view.write(b"before")
    with pytest.raises(error):
        view.write(value)
    with pytest.raises(error):
        view.write(value, 0)
    assert view.tell() == 6
    assert view.read_all() == b"before" + bytes(990)


def test_offsets_are_bounds_of_the_data(view: Any) -> None:
    view.write(7, 988)
    view.write(data=8, offset=980)
    assert view.tell() == 0
    assert view.read_range(988, 8) == struct.pack("=q", 7)
    for offset in (989, 996, 2**63):
        with pytest.raises(ValueError):
            view.write(7, offset)
        with pytest.raises(ValueError):
            view.read_range(offset, 8)
        with pytest.raises(ValueError):
            view.read_mixed([("int", 1)], offset)
    with pytest.raises(ValueError, match="zero"):
        view.read_range(0, 0)
    for act in (
        lambda: view.write(7, -1),
        lambda: view.read_range(-1, 4),
        lambda: view.read_range(0, -4),
        lambda: view.seek(-1),
        lambda: view.read_mixed([("int", 1)], -8),
    ):
        with pytest.raises(OverflowError):
            act()
    for act in (lambda: view.write(7, 1.0), lambda: view.read_range("0", 4)):
        with pytest.raises(TypeError):
            act()


def test_the_cursor_is_moved_by_what_works_without_an_offset(view: Any) -> None:
    assert view.tell() == 0
    assert view.seek(996) is None
    with pytest.raises(ValueError):
        view.seek(997)
    assert view.tell() == 996
    for tag in ("bool", "int", "f32", "str"):
        with pytest.raises(ValueError):
            view.read(tag)
    view.seek(pos=990)
    with pytest.raises(ValueError):
        view.read("int")
    with pytest.raises(ValueError, match="tag"):
        view.read("i128")
    assert view.tell() == 990
    view.seek()
    assert view.tell() == 0


def test_a_text_longer_than_the_view_is_refused(view: Any) -> None:
    view.write(struct.pack("=I", 993), 0)
    with pytest.raises(ValueError):
        view.read("str")
    view.write(struct.pack("=I", 2**32 - 1), 0)
    with pytest.raises(ValueError):
        view.read("str")
    with pytest.raises(ValueError):
        view.read_mixed([("str", 1)])
    assert view.tell() == 0


def test_mixed_items_lie_one_behind_the_other(view: Any) -> None:
    assert view.write_mixed([["a", "bc"], [0.5, 1.5], [True, False], 42, "x", b"raw"]) is None
    end = view.tell()
    assert end == 5 + 6 + 16 + 2 + 8 + 5 + 3
    view.seek()
    schema = [("str", 2), ("float", 2), ("bool", 2), ("int", 1), ("str", 1)]
    found = view.read_mixed(schema)
    assert found == [["a", "bc"], [0.5, 1.5], [True, False], 42, "x"]
    assert view.tell() == end - 3
    assert view.read_mixed(schema, 0) == found
    assert view.read_mixed(schema=[("u8", 0), ("u8", 3), ("str", 0)], offset=end - 3) == [
        [],
        list(b"raw"),
        [],
    ]
    assert view.read_mixed([]) == []
    assert view.tell() == end - 3
    view.write_mixed(items=[1, [2]], offset=900)
    assert view.read_mixed([("i64", 2)], 900) == [[1, 2]]
    assert view.tell() == end - 3


def test_what_is_wrong_with_mixed_items_changes_nothing(view: Any) -> None:
    view.write(b"before")
    for items, error in (
        ([1, None], ValueError),
        ([1, [[2]]], ValueError),
        ([], ValueError),
        ([[]], ValueError),
        ([1, 2**64], OverflowError),
        ([b"x" * 500, b"x" * 500], ValueError),
        ((1, 2), TypeError),
        ("ab", TypeError),
    ):
        with pytest.raises(error):
            view.write_mixed(items)
    for schema, error in (
        ([("int", 1), ["int", 1]], ValueError),
        ([("int", 1), "int"], ValueError),
        ([("what", 1)], ValueError),
        ([("int", 200)], ValueError),
        ([("str", 1000)], ValueError),
        ((("int", 1),), TypeError),
        ([(1, 1)], TypeError),
        ([("int", "1")], TypeError),
        ([("int", -1)], OverflowError),
    ):
        with pytest.raises(error):
            view.read_mixed(schema)
    assert view.tell() == 6
    assert view.read_all() == b"before" + bytes(990)
    view.seek(996)
    with pytest.raises(ValueError):
        view.read_mixed([("bool", 1)])


def test_each_view_has_its_cursor_and_all_have_the_bytes(name: str) -> None:
    mem = SharedMemory.create(name, 1000)
    writer, reader = mem.map(), mem.map()
    for value in ("hello", 99, 1.5, False):
        writer.write(value)
    assert reader.tell() == 0
    assert [reader.read(tag) for tag in ("str", "int", "float", "bool")] == [
        "hello",
        99,
        1.5,
        False,
    ]
    assert reader.tell() == writer.tell()
    assert writer.zero() is None
    assert reader.read_all() == bytes(996)
    assert writer.tell() == reader.tell()


def test_a_view_tells_of_itself(view: Any) -> None:
    assert view.size() == 996
    assert view.reader_count() == 0
    assert view.is_write_locked() is False
    assert repr(view) == "MappedView(data_size=996, readers=0, write_locked=false)"


def test_the_smallest_view_has_one_byte(name: str) -> None:
    with pytest.raises(ValueError, match="4"):
        SharedMemory.create(name, 4).map()
    SharedMemory.remove(name)
    view = SharedMemory.create(name, 5).map()
    view.write(True)
    with pytest.raises(ValueError):
        view.write(True)
    assert view.read_all() == b"\x01"


def test_another_process_reads_what_was_written(name: str, run_python: Any) -> None:
    view = SharedMemory.create(name, 4096).map()
    view.write_mixed(["Hello", 42, 3.14, True, ["x", "y"]])
    code = f"""
        import sys
        {IMPORT}
        view = membridge.SharedMemory.open(sys.argv[1], 4096).map()
        print([view.read(tag) for tag in ("str", "int", "float", "bool")])
        print(view.read_mixed([("str", 2)]), view.size())
        view.write("back", 0)
        """
    assert run_python(code, name).stdout == "['Hello', 42, 3.14, True]\n[['x', 'y']] 4092\n"
    view.seek()
    assert view.read("str") == "back"


def test_no_reader_sees_half_a_write(name: str, child: Any) -> None:
    view = SharedMemory.create(name, 70000).map()
    view.write(b"0" * 65536, 0)
    with child(
        f"""
        import select, sys
        {IMPORT}
        view = membridge.SharedMemory.open(sys.argv[1]).map()
        print("writing", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            for digit in b"0123456789":
                view.write(bytes([digit]) * 65536, 0)
        """,
        name,
    ) as writer:
        writer.expect("writing")
        seen = set()
        while len(seen) < 5:
            found = view.read_range(0, 65536)
            assert found == found[:1] * 65536
            seen.add(found[:1])
        writer.finish()
