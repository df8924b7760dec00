"""Views: typed items, one after another, in any bytes-like object."""

from __future__ import annotations

import mmap
import random
import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringspan

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = {
    line.split()[0]: bytes.fromhex(line.split()[1])
    for line in (ROOT / "tests" / "golden" / "view.txt").read_text().splitlines()
    if not line.startswith("#")
}
VALUES: list[tuple[str, str, Any]] = [
    ("bool_false", "bool", False),
    ("bool_true", "bool", True),
    ("i32_m2", "i32", -2),
    ("i32_min", "i32", -(2**31)),
    ("u32_max", "u32", 2**32 - 1),
    ("i64_m2", "i64", -2),
    ("i64_max", "i64", 2**63 - 1),
    ("u64_max", "u64", 2**64 - 1),
    ("f32_1_5", "f32", 1.5),
    ("f64_m1_5", "f64", -1.5),
    ("f64_inf", "f64", float("inf")),
    ("str_empty", "str", ""),
    ("str_gruess", "str", "grüß"),
    ("bytes_empty", "bytes", b""),
    ("bytes_0_255", "bytes", b"\0\xff"),
]
TYPES: dict[str, type[Any]] = {"bool": bool, "i64": int, "f64": float, "str": str, "bytes": bytes}
MIXED = [True, 7, "hi", b"x", 2.5, 1.0]
MIXED_SCHEMA = ["bool", "i64", "str", "bytes", "f64", "f32"]


def unchanged(memory: bytearray, call: Callable[..., Any], *args: Any) -> BaseException:
    """Calls what must fail; neither bytes nor cursor may have changed. Returns the error."""
    view: ringspan.View = call.__self__  # type: ignore[attr-defined]
    before, at = bytes(memory), view.tell()
    with pytest.raises(Exception) as caught:
        call(*args)
    assert (bytes(memory), view.tell()) == (before, at)
    memory.append(0)  # no export is left, not even by the traceback
    del memory[-1:]
    return caught.value


@pytest.mark.parametrize(("name", "tag", "value"), VALUES, ids=[v[0] for v in VALUES])
def test_golden_bytes(name: str, tag: str, value: Any) -> None:
    golden = GOLDEN[name]
    memory = bytearray(b"\xaa" * (len(golden) + 3))
    view = ringspan.View(memory)
    view.seek(2)
    view.write(value, tag)
    assert (view.tell(), view.remaining) == (len(golden) + 2, 1)
    assert memory == b"\xaa\xaa" + golden + b"\xaa"
    view.seek(2)
    again = view.read(tag)
    assert (again, type(again)) == (value, type(value))
    assert view.tell() == len(golden) + 2
    assert view.read(tag, 2) == value
    assert view.read_mixed([tag], 2) == [value]
    if tag in TYPES:
        assert view.read(TYPES[tag], 2) == value
        view.zero()
        view.write(value, offset=1)
        assert memory[1:-2] == golden, "the tag follows from the type"
        view.write(value, TYPES[tag], 0)
        assert memory[: len(golden)] == golden
    for end in range(len(golden)):
        short = bytearray(golden[:end])
        error = unchanged(short, ringspan.View(short).read, tag)
        assert isinstance(error, ringspan.InvalidOption | ringspan.CodecError)
        error = unchanged(short, ringspan.View(short).write, value, tag)
        assert isinstance(error, ringspan.InvalidOption)
        assert f"{len(golden)} bytes at offset 0" in str(error)


def test_golden_bytes_mixed_and_that_all_are_tested() -> None:
    golden = GOLDEN["mixed_true_7_hi_x_2_5"]
    memory = bytearray(len(golden))
    ringspan.View(memory).write_mixed(MIXED, MIXED_SCHEMA)
    assert memory == golden
    assert ringspan.View(golden).read_mixed(MIXED_SCHEMA) == MIXED
    assert set(GOLDEN) == {name for name, _, _ in VALUES} | {"mixed_true_7_hi_x_2_5"}


def test_the_page_shows_these_bytes() -> None:
    page = (ROOT / "docs" / "format.md").read_text()
    section = page.split("\n## Items of a view\n")[1].split("\n## ")[0]
    lines = re.findall(r"^    (\w+) +(\S.*?) {2,}([0-9a-f ]+)$", section, re.MULTILINE)
    assert len(lines) >= 5
    for tag, value, shown in lines:
        memory = bytearray(bytes.fromhex(shown))
        assert ringspan.View(memory).read(tag) == eval(value)
        ringspan.View(memory).write(eval(value), tag)
        assert memory == bytes.fromhex(shown)
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert set(rows) == {tag for _, tag, _ in VALUES}


def test_one_cursor_for_reads_and_writes() -> None:
    view = ringspan.View(bytearray(40))
    assert (len(view), view.tell(), view.remaining) == (40, 0, 40)
    view.write(1)
    view.write(True)
    view.write("ab")
    assert view.tell() == 8 + 1 + 6
    view.seek(8)
    assert view.read(bool) is True
    view.write("xy")
    view.seek()
    assert view.read_mixed([int, bool, str]) == [1, True, "xy"]
    at = view.tell()
    view.write(5, "u32", 30)
    view.write_mixed([1.5, 2], ["f32", "i32"], offset=20)
    view.write_range(36, b"raw")
    assert view.read("u32", 30) == 5
    assert view.read_mixed([("f32", 1), "i32"], offset=20) == [1.5, 2]
    assert view.read_range(36, 3) == b"raw"
    view.zero()
    assert view.read_range(0, 40) == bytes(40)
    assert view.tell() == at
    view.seek(40)
    assert (view.tell(), view.remaining, view.read_range(40, 0)) == (40, 0, b"")
    assert "40 bytes in a bytearray, at 40" in repr(view)


@pytest.mark.parametrize("pos", [41, -1, 2**63, 2**200, -(2**200)])
def test_offsets_outside(pos: int) -> None:
    memory = bytearray(40)
    view = ringspan.View(memory)
    view.seek(3)
    for call, args in (
        (view.seek, (pos,)),
        (view.read, ("i32", pos)),
        (view.write, (1, "i32", pos)),
        (view.read_mixed, (["i32"], pos)),
        (view.write_mixed, ([1], None, pos)),
        (view.read_range, (pos, 0)),
        (view.read_range, (0, pos)),
        (view.write_range, (pos, b"")),
    ):
        error = unchanged(memory, call, *args)
        assert isinstance(error, ringspan.InvalidOption), (call, error)
        assert isinstance(error, ValueError)


def test_schemas() -> None:
    memory = bytearray(64)
    view = ringspan.View(memory)
    schema = ["u32", ("f64", 3), ("str", 0), ("bytes", 1), (bool, 2)]
    values = [3, [1.0, 2.5, 4.0], [], b"one", (True, False)]
    view.write_mixed(values, schema)
    assert view.tell() == 4 + 24 + 7 + 2
    view.seek()
    assert view.read_mixed(schema) == [3, [1.0, 2.5, 4.0], [], b"one", [True, False]]
    view.seek()
    assert view.read_mixed(tuple(schema)[:1]) == [3]
    assert view.read_mixed(iter(["f64"])) == [1.0]
    assert view.read_mixed([]) == []
    view.write_mixed([])
    view.write_mixed((1, "a"))
    view.write_mixed(np.array([1.0, 2.0]))
    view.seek()
    view.write_mixed([np.array([1, 2, 3])], [("i32", 3)])
    assert memory[:12] == struct.pack("<3i", 1, 2, 3)


def test_what_does_not_fit_together_changes_nothing() -> None:
    memory = bytearray(range(1, 33))
    view = ringspan.View(memory)
    view.seek(4)

    def fails(kind: type[BaseException], match: str, call: Callable[..., Any], *args: Any) -> None:
        error = unchanged(memory, call, *args)
        assert type(error) is kind, repr(error)
        assert re.search(match, str(error)), str(error)

    option = ringspan.InvalidOption
    fails(option, "'?\"?i8.* is no tag; there are bool, i32", view.read, "i8")
    fails(TypeError, "the type bytearray", view.read, bytearray)
    fails(TypeError, "not int", view.read, 5)
    fails(TypeError, "not tuple", view.read, ("i32", 1))
    fails(option, "no tag", view.write, 1, "int")
    fails(option, "tag, count", view.read_mixed, [("i32", 1, 2)])
    fails(option, "-1 is no count", view.read_mixed, [("i32", -1)])
    fails(TypeError, "not bool", view.read_mixed, [("i32", True)])
    fails(TypeError, "", view.read_mixed, [("i32", 1.0)])
    fails(TypeError, "not str", view.read_mixed, "i64")
    fails(TypeError, "not int", view.read_mixed, 5)
    fails(TypeError, "not bytes", view.write_mixed, b"ab")
    fails(option, "32 bytes: ", view.read_mixed, ["i32", ("bool", 2**62)])
    fails(option, "do not lie", view.read_mixed, [("f64", 3), "i64"])
    fails(option, "1 values for a schema of 2", view.write_mixed, [1], ["i32", "i32"])
    fails(option, "1 values where the schema has 2", view.write_mixed, [[1]], [("i32", 2)])
    fails(TypeError, "not int", view.write_mixed, [1], [("i32", 2)])
    fails(TypeError, "not str", view.write_mixed, ["ab"], [("str", 2)])
    fails(TypeError, "NoneType has no tag", view.write, None)
    fails(TypeError, "list has no tag", view.write_mixed, [1, [2]])
    fails(TypeError, "i32 takes an int, not str", view.write, "1", "i32")
    fails(TypeError, "i32 takes an int, not float", view.write, 1.0, "i32")
    fails(TypeError, "i32 takes an int, not bool", view.write, True, "i32")
    fails(TypeError, "f64 takes a float, not str", view.write, "1", "f64")
    fails(TypeError, "f64 takes a float, not bool", view.write, True, "f64")
    fails(TypeError, "bool takes a bool, not int", view.write, 1, "bool")
    fails(TypeError, "str takes a str, not bytes", view.write, b"a", "str")
    fails(TypeError, "bytes takes a bytes-like object, not str", view.write, "a", "bytes")
    for tag, low, high in (
        ("i32", -(2**31), 2**31 - 1),
        ("u32", 0, 2**32 - 1),
        ("i64", -(2**63), 2**63 - 1),
        ("u64", 0, 2**64 - 1),
    ):
        for value in (low - 1, high + 1, 2**100, -(2**100)):
            fails(OverflowError, f"tag {tag}", view.write, value, tag)
    fails(OverflowError, "i64", view.write, 2**63)
    fails(OverflowError, "f32", view.write, 1e39, "f32")
    fails(OverflowError, "f64", view.write, 10**400, "f64")
    fails(UnicodeEncodeError, "surrogates", view.write, "\ud800")
    fails(option, "29 bytes at offset 4", view.write, bytes(25))
    fails(option, "do not lie", view.write_mixed, [1, 2, "much too long"])
    error = unchanged(memory, view.write_mixed, [1, 2, None])
    assert error.__notes__ == ["in value 2 of the view's items"]


def test_garbage_is_an_error_that_says_where() -> None:
    for data, tag, match in (
        (b"\x02", "bool", "offset 0 is 2"),
        (b"\xff\xff\xff\xffab", "str", "4294967295 bytes"),
        (b"\x03\0\0\0ab", "bytes", "past the end"),
        (b"\x03\0\0\0ab\xff", "str", "byte 6 is wrong"),
        (b"\x03\0\0\0\xed\xa0\x80", "str", "byte 4 is wrong"),
    ):
        memory = bytearray(data)
        view = ringspan.View(memory)
        for call, args in ((view.read, (tag,)), (view.read_mixed, ([("bool", 0), tag],))):
            error = unchanged(memory, call, *args)
            assert type(error) is ringspan.CodecError
            assert re.search(match, str(error)), str(error)


def test_nothing_is_exported_between_calls() -> None:
    memory = bytearray(16)
    view = ringspan.View(memory)
    view.write(7)
    memory.extend(b"\x09\0\0\0")  # a bytearray refuses that while it is exported
    assert len(view) == 20
    assert view.read("i32", 16) == 9
    del memory[4:]
    assert (view.tell(), view.remaining) == (8, 0)
    with pytest.raises(ringspan.InvalidOption, match="offset 8 is behind its end"):
        view.read(bool)


def test_a_released_memoryview_is_told() -> None:
    buf = memoryview(bytearray(16))
    view = ringspan.View(buf)
    view.write(7)
    buf.release()  # would be refused while the view exported it
    for call, args in (
        (view.read, ("i64",)),
        (view.write, (1,)),
        (view.read_mixed, (["i64"],)),
        (view.write_mixed, ([1],)),
        (view.read_range, (0, 1)),
        (view.write_range, (0, b"")),
        (view.seek, ()),
        (view.zero, ()),
        (len, (view,)),
    ):
        with pytest.raises(ValueError, match="released"):
            call(*args)
    with pytest.raises(ValueError, match="released"):
        _ = view.remaining
    assert view.tell() == 8
    assert "released" in repr(view)


def test_read_only_memory_is_read() -> None:
    memory = struct.pack("<q", 7)
    frozen = np.frombuffer(memory, "u1")
    for buf in (memory, memoryview(memory), memoryview(bytearray(memory)).toreadonly(), frozen):
        view = ringspan.View(buf)
        assert view.read(int) == 7
        view.seek()
        for call, args in (
            (view.write, (1,)),
            (view.write_mixed, ([1],)),
            (view.write_range, (0, b"a")),
            (view.zero, ()),
        ):
            with pytest.raises(BufferError, match="read-only"):
                call(*args)
        assert view.tell() == 0
        assert view.read_range(0, 8) == memory


def test_what_can_be_viewed(name: str) -> None:
    segment = ringspan.Segment.create(name, 64)
    for buf in (
        segment,
        memoryview(segment),
        memoryview(segment)[:32],
        mmap.mmap(-1, 64),
        np.zeros((2, 4)),
        memoryview(bytearray(64)).cast("d"),
    ):
        view = ringspan.View(buf)
        view.write_mixed(["seven", 7])
        view.seek()
        assert view.read_mixed([str, int]) == ["seven", 7]
    assert segment.read_at(4, 5) == b"seven"
    segment.close()
    for bad in (5, "text", [1], None):
        with pytest.raises(TypeError):
            ringspan.View(bad)  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        ringspan.View(memoryview(bytearray(8))[::2])
    empty = ringspan.View(b"")
    assert empty and len(empty) == 0 and empty.remaining == 0
    with pytest.raises(TypeError):
        ringspan.View()  # type: ignore[call-arg]


def test_numbers_of_others() -> None:
    view = ringspan.View(bytearray(64))
    view.write(np.int32(5), "i64")
    view.write(np.float32(1.5), "f32")
    view.write(np.float64(2.5))
    view.write(3, "f64")
    view.write(memoryview(b"ab"), "bytes")
    view.write(bytearray(b"cd"))
    view.seek()
    assert view.read_mixed([int, "f32", ("f64", 2), bytes, bytes]) == [
        5,
        1.5,
        [2.5, 3],
        b"ab",
        b"cd",
    ]
    with pytest.raises(TypeError, match="float32 has no tag"):
        view.write(np.float32(1))
    view.seek()
    view.write(memoryview(bytearray(b"self")), "bytes")


def test_values_that_run_code_do_not_confuse_it() -> None:
    memory = bytearray(b"\xff" * 24)
    view = ringspan.View(memory)

    class Moves:
        def __index__(self) -> int:
            view.write(1, "u32")
            del memory[16:]
            return 2

    view.write(Moves(), "u32")
    assert memory == struct.pack("<II", 1, 2) + b"\xff" * 8
    assert view.tell() == 8

    class Fails:
        def __index__(self) -> int:
            raise KeyError("mine")

        def __float__(self) -> float:
            raise KeyError("mine")

    for tag in ("i32", "u64", "f32", "f64"):
        assert isinstance(unchanged(memory, view.write, Fails(), tag), KeyError)


def test_a_piece_of_itself_can_be_written() -> None:
    memory = bytearray(b"abcdefgh" + bytes(8))
    view = ringspan.View(memory)
    view.write_range(2, memoryview(memory)[:8])
    assert memory == b"ababcdefgh" + bytes(6)
    view.write(memoryview(memory)[:8], "bytes", 2)
    assert view.read(bytes, 2) == b"ababcdef"


def test_large_items() -> None:
    data = random.Random(1).randbytes(3 << 20)
    view = ringspan.View(bytearray((3 << 20) + 8))
    view.write(data)
    view.seek()
    assert view.read(bytes) == data
    assert view.read_mixed([bytes], 0) == [data]
    assert view.read_range(4, len(data)) == data
    view.zero()
    assert view.read_range(0, len(view)) == bytes(len(view))
    view.write_range(8, data)
    assert view.read_range(8, len(data)) == data


def test_threads_do_not_take_the_same_item() -> None:
    # Copies of this size give the interpreter lock back in the middle of a call.
    item, count = bytes(200_000), 40
    view = ringspan.View(bytearray((len(item) + 4) * count))
    done = []

    def work() -> None:
        while len(done) < count:
            try:
                view.write(item)
            except RuntimeError as busy:
                assert "another call" in str(busy)
            except ringspan.InvalidOption:
                return
            else:
                done.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == count
    assert view.remaining == 0


MAKERS: dict[str, tuple[Callable[[random.Random], Any], str | None]] = {
    "bool": (lambda r: r.random() < 0.5, "?"),
    "i32": (lambda r: r.randrange(-(2**31), 2**31), "i"),
    "u32": (lambda r: r.randrange(2**32), "I"),
    "i64": (lambda r: r.randrange(-(2**63), 2**63), "q"),
    "u64": (lambda r: r.randrange(2**64), "Q"),
    "f32": (lambda r: struct.unpack("<f", struct.pack("<f", r.gauss(0, 1e9)))[0], "f"),
    "f64": (lambda r: r.gauss(0, 1e9), "d"),
    "str": (lambda r: "".join(r.choices("aß€😀\0", k=r.randrange(9))), None),
    "bytes": (lambda r: r.randbytes(r.randrange(9)), None),
}


def packed(value: Any, tag: str) -> bytes:
    """The format a second time, by `struct`."""
    code = MAKERS[tag][1]
    if code is not None:
        return struct.pack(f"<{code}", value)
    body = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(body)) + bytes(body)


@pytest.mark.parametrize("seed", range(40))
def test_random_schemas_against_struct(seed: int) -> None:
    rng = random.Random(seed)
    schema, values, model = [], [], b""
    for _ in range(rng.randrange(12)):
        tag, count = rng.choice(list(MAKERS)), rng.choice([1, 1, 0, 2, 5])
        row = [MAKERS[tag][0](rng) for _ in range(count)]
        model += b"".join(packed(value, tag) for value in row)
        schema.append((tag, count) if count != 1 or rng.random() < 0.5 else tag)
        values.append(row[0] if count == 1 else row)
    start, room = rng.randrange(9), rng.randrange(-3, 9)
    memory = bytearray(b"\xee" * max(start, start + len(model) + room))
    view = ringspan.View(memory)
    view.seek(start)
    if len(memory) < start + len(model):
        assert isinstance(unchanged(memory, view.write_mixed, values, schema), ValueError)
        return
    view.write_mixed(values, schema)
    assert view.tell() == start + len(model)
    assert memory[start : view.tell()] == model
    assert memory[:start] + memory[view.tell() :] == b"\xee" * (len(memory) - len(model))
    view.seek(start)
    assert view.read_mixed(schema) == values
    assert view.tell() == start + len(model)


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_are_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    memory = bytearray(rng.randbytes(rng.randrange(200)))
    for at in range(0, len(memory), 3):
        memory[at] = rng.choice([0, 0, 1, 255])
    view = ringspan.View(memory)
    for _ in range(200):
        at, tag = rng.randrange(len(memory) + 1), rng.choice(list(MAKERS))
        view.seek(at)
        try:
            value = view.read(tag)
        except (ringspan.InvalidOption, ringspan.CodecError):
            assert view.tell() == at
        else:
            if value == value:  # no NaN
                assert memory[at : view.tell()] == packed(value, tag)
