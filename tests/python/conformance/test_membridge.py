"""What membridge 1.0 promises, sentence by sentence, seen by real processes.

`RINGSPAN_COMPAT_ORIGINAL=1` runs this file against membridge itself; what its listed bugs break
(`bug`) is left out then. Edges, deaths and what is new: ../test_compat_membridge*.py.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from compat_tools import ORIGINAL, bug

PACKAGE = "membridge" if ORIGINAL else "ringspan.compat.membridge"
IMPORT = "import membridge" if ORIGINAL else "from ringspan.compat import membridge"
membridge: Any = importlib.import_module(PACKAGE)
SharedMemory = membridge.SharedMemory

Start = Callable[..., Any]
RING = 64 + 24


def raised(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """Returns the old name of what a call raises, or what it returned."""
    try:
        return f"returned {call(*args, **options)!r}"
    except (OverflowError, ValueError, TypeError, OSError) as error:
        kinds = (OverflowError, ValueError, TypeError, OSError)
        return next(kind.__name__ for kind in kinds if isinstance(error, kind))


# ---- names and signatures ------------------------------------------------------------------------

SIGNATURES = {
    "SharedMemory": {
        "create": "name size",
        "open": "name size=None",
        "remove": "name",
        "map": "",
        "spsc": "",
        "name": "",
        "size": "",
    },
    "MappedView": {
        "write": "data offset=None",
        "write_mixed": "items offset=None",
        "read": "tag",
        "read_mixed": "schema offset=None",
        "read_range": "offset length",
        "read_all": "",
        "seek": "pos=0",
        "tell": "",
        "zero": "",
        "size": "",
        "reader_count": "",
        "is_write_locked": "",
    },
    "SpscRingBuffer": {
        "push": "data",
        "pop": "tag=None",
        "pop_mixed": "schema",
        "used": "",
        "free": "",
        "capacity": "",
        "is_empty": "",
        "is_full": "",
    },
}


@pytest.mark.parametrize("cls", SIGNATURES)
def test_signatures(cls: str) -> None:
    for verb, wanted in SIGNATURES[cls].items():
        parameters = inspect.signature(getattr(getattr(membridge, cls), verb)).parameters.values()
        shown = [
            one.name if one.default is one.empty else f"{one.name}={one.default}"
            for one in parameters
            if one.name != "self" and one.kind is not one.KEYWORD_ONLY
        ]
        assert " ".join(shown) == wanted, verb
    assert raised(getattr(membridge, cls)) == "TypeError", "there are no constructors"
    assert set(membridge.__all__) == set(SIGNATURES)


# ---- segments ------------------------------------------------------------------------------------


def test_create_open_remove(name: str, run_python: Start) -> None:
    mem = SharedMemory.create(name, 100)
    assert (mem.name(), mem.size()) == (name, 100)
    assert repr(mem) == f"SharedMemory(name='{name}', size=100, role=creator)"
    code = f"""
    {IMPORT}
    mem = membridge.SharedMemory.open({name!r})
    print(mem, mem.name(), mem.size(), membridge.SharedMemory.open({name!r}, 7).size())
    mem.map().write(5)
    """
    said = run_python(code).stdout
    assert said == f"SharedMemory(name='{name}', size=100, role=opener) {name} 100 100\n"
    assert mem.map().read("int") == 5, "the end of a process removes nothing"
    assert SharedMemory.remove(name) is None
    assert raised(SharedMemory.remove, name) == raised(SharedMemory.open, name) == "OSError"


def test_what_create_and_open_refuse(name: str) -> None:
    for bad in ("", "/", "name"):
        assert raised(SharedMemory.create, bad, 64) == "ValueError"
        assert raised(SharedMemory.open, bad) == raised(SharedMemory.remove, bad) == "ValueError"
    sizes = {0: "ValueError", -1: "OverflowError", 1.5: "TypeError", "8": "TypeError"}
    for size, error in sizes.items():
        assert raised(SharedMemory.create, name, size) == error
    assert raised(SharedMemory.create(name, 4).map) == "ValueError", "the lock takes four bytes"
    SharedMemory.remove(name)
    for size in (24, 24 + 3, 24 + 1000):
        assert raised(SharedMemory.create(name, size).spsc) == "ValueError", "a power of two"
        SharedMemory.remove(name)


# ---- views ---------------------------------------------------------------------------------------

STORED = [(True, "bool", 1), (-7, "int", 8), (0.92, "float", 8), ("grüße", "str", 4 + 7)]


def test_write_here_and_read_there(name: str, run_python: Start) -> None:
    view = SharedMemory.create(name, 4096).map()
    for value, _, size in STORED:
        before = view.tell()
        assert view.write(value) is None
        assert view.tell() == before + size
    view.write_mixed([["a", "b"], [1, 2, 3], True, 42])
    said = run_python(f"""
    {IMPORT}
    view = membridge.SharedMemory.open({name!r}).map()
    print([view.read(tag) for _, tag, _ in {STORED!r}])
    print(view.read_mixed([("str", 2), ("int", 3), ("bool", 1), ("int", 1), ("u8", 0)]))
    view.seek()
    view.write("answer")
    """).stdout
    assert said == "[True, -7, 0.92, 'grüße']\n[['a', 'b'], [1, 2, 3], True, 42, []]\n"
    view.seek()
    assert view.read("str") == "answer"


def test_the_table_of_types(name: str) -> None:
    view = SharedMemory.create(name, 1000).map()
    for raw in (b"\x01\x02\x03\x04\xff\x00\x00\x00", bytearray(b"\x01\x02\x03\x04\xff\0\0\0")):
        view.write(raw, 0)
        found = {}
        for tag in ("u8", "i32", "u32", "u64", "i64", "bool"):
            view.seek()
            found[tag] = view.read(tag)
        assert found == {
            "u8": 1,
            "i32": 0x04030201,
            "u32": 0x04030201,
            "u64": 0xFF04030201,
            "i64": 0xFF04030201,
            "bool": True,
        }
    view.write(b"\x00\x00\x80\x3e", 0)
    view.seek()
    assert view.read("f32") == 0.25
    view.write(b"\x02\x00\x00\x00a\xff", 0)
    view.seek()
    assert view.read("str") == "a\ufffd", "what is no UTF-8 is replaced"
    errors = {
        "ValueError": (None, [1], (1,), {}, b"", bytearray()),
        "OverflowError": (2**63, -(2**63) - 1),
    }
    view.zero()
    for error, values in errors.items():
        for value in values:
            assert raised(view.write, value, 0) == error
    assert raised(view.write_mixed, (1, 2)) == "TypeError"
    assert raised(view.read_mixed, (("int", 1),)) == "TypeError"
    assert raised(view.read_mixed, [["int", 1]]) == "ValueError"
    assert raised(view.read, "unknown") == "ValueError"
    assert not any(view.read_all())


def test_cursor_and_offsets(name: str) -> None:
    mem = SharedMemory.create(name, 104)
    view, other = mem.map(), mem.map()
    assert (view.size(), len(view.read_all()), view.tell()) == (100, 100, 0)
    view.write(1, 92)
    assert (view.tell(), view.read_range(92, 8)) == (0, b"\x01" + bytes(7))
    view.write(2)
    assert (view.tell(), other.tell(), other.read("int")) == (8, 0, 2)
    assert view.seek(100) is None
    assert raised(view.seek, 101) == "ValueError"
    assert raised(view.write, 1) == raised(view.read, "int") == raised(view.write, 1, 93)
    assert raised(view.write, 1) == raised(view.read_range, 0, 0) == "ValueError"
    assert raised(view.read_range, 93, 8) == "ValueError"
    assert view.tell() == 100, "what fails does not move it"
    assert view.zero() is None
    assert (view.tell(), any(view.read_all())) == (100, False)
    assert (view.reader_count(), view.is_write_locked()) == (0, False)
    assert view.read_mixed([("int", 1)], 0) == [0]
    assert view.seek() is None
    assert view.tell() == 0


# ---- rings ---------------------------------------------------------------------------------------


def test_push_here_and_pop_there(name: str, child: Start) -> None:
    ring = SharedMemory.create(name, RING).spsc()
    assert (ring.capacity(), ring.used(), ring.free()) == (64, 0, 64)
    assert repr(ring) == "SpscRingBuffer(capacity=64, used=0, free=64)"
    assert (ring.push("msg"), ring.push(7), ring.push([1, "a", True])) == (True, True, True)
    assert (ring.used(), ring.is_empty(), ring.is_full()) == (4 + 7 + 4 + 8 + 4 + 14, False, False)
    consumer = child(f"""
    {IMPORT}
    ring = membridge.SharedMemory.open({name!r}).spsc()
    print(ring.used(), ring.pop("str"), ring.pop(tag="int"))
    print(ring.pop_mixed([("int", 1), ("str", 1), ("bool", 1)]))
    print(ring.pop(), ring.pop("str"), ring.pop_mixed([("int", 1)]), ring.is_empty())
    """)
    said = consumer.finish().splitlines()
    assert said == ["41 msg 7", "[1, 'a', True]", "None None None True"]


def test_a_ring_says_when_it_is_full(name: str) -> None:
    ring = SharedMemory.create(name, RING).spsc()
    assert [ring.push(b"x" * 28) for _ in range(3)] == [True, True, False]
    assert (ring.is_full(), ring.free()) == (True, 0)
    assert raised(ring.push, b"x" * 61) == "ValueError", "it can never fit"
    assert ring.pop() == ring.pop() == b"x" * 28
    for empty in (b"", []):
        assert (ring.push(empty), ring.used(), ring.pop()) == (True, 4, b"")
    assert (ring.push("é"), ring.pop()) == (True, b"\x02\x00\x00\x00\xc3\xa9")
    for value in (None, (1,), {}, [1, [2]], [None]):
        assert raised(ring.push, value) == "ValueError"
    assert raised(ring.push, 2**63) == "OverflowError"
    assert ring.is_empty()


@bug("a wrong tag loses the message")
def test_a_wrong_tag_loses_nothing(name: str) -> None:
    ring = SharedMemory.create(name, RING).spsc()
    ring.push(True)
    assert raised(ring.pop, "int") == "ValueError"
    assert ring.pop("bool") is True


# ---- the documents -------------------------------------------------------------------------------


def changed(block: str, name: str) -> str:
    """A program of the documents with its import line changed, and names of our own."""
    block = re.sub(r'"/(demo|spsc)"', rf'"{name}-\1"', block)
    return re.sub(
        r"^import (.*\b)?membridge$", rf"import time\n{IMPORT}", block, flags=re.MULTILINE
    )


def document() -> str:
    """Returns README and stub of the package, where it is installed."""
    try:
        there = metadata.distribution("membridge")
    except metadata.PackageNotFoundError:
        pytest.skip("membridge is not installed, so its documents are not here")
    stubs = [file for file in there.files or () if file.name == "membridge.pyi"]
    return str(there.metadata.get_payload()) + "\n" + Path(stubs[0].locate()).read_text()


def test_the_programs_of_the_readme(name: str, run_python: Start) -> None:
    blocks = re.findall(r"```python\n(.*?)```", document(), re.DOTALL)
    programs = [
        changed(block, name) for block in blocks if re.search(r"^import", block, re.MULTILINE)
    ]
    assert len(programs) == 4
    assert [run_python(program).stdout for program in programs] == [
        "",
        "",
        "",
        "msg-0\nHello\n__EOF__\n",
    ]


def test_the_snippets_of_readme_and_stub(name: str, run_python: Start) -> None:
    text = document()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    snippets += map(
        inspect.cleandoc, re.findall(r"Example::\n\n(.*?)\n\s*(?:\"{3}|:)", text, re.DOTALL)
    )
    # Neither whole programs nor lists of signatures.
    snippets = [one for one in snippets if not re.search(r"^import|\)\s*-> ", one, re.MULTILINE)]
    assert len(snippets) == 6
    for place, snippet in enumerate(snippets):
        size, use = (4096, "view = mem.map()") if "view" in snippet else (RING, "ring = mem.spsc()")
        program = f"""
{IMPORT}
mem = membridge.SharedMemory.create("{name}-{place}", {size})
{use}
"""
        if "write" not in snippet and "view" in snippet:  # it reads what another process wrote
            program += (
                "view.write_mixed(['hello', 42, 'a', 'b', 'c', 0.5, 1.5, 2.5])\nview.seek()\n"
            )
        run_python(program + snippet.replace("# read\n", "view.seek()\n"))
