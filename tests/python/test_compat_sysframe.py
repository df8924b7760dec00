"""`ringspan.compat.sysframe` does what sysframe documents, and what its programs rely on: memory,
and the types that go through memory and functions.

`RINGSPAN_COMPAT_ORIGINAL=1` runs this file against sysframe itself, where that is installed; what
its listed bugs break (`bug`) is left out then. Functions are in test_compat_sysframe_calls.py, what
is new in test_compat_sysframe_new.py.
"""

from __future__ import annotations

import importlib
import inspect
import json
import secrets
import subprocess
import sys
import time as clock
from collections import ChainMap, Counter, OrderedDict, deque, namedtuple  # noqa: F401
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone  # noqa: F401 - for `eval`
from decimal import Decimal  # noqa: F401
from pathlib import Path, PurePosixPath  # noqa: F401
from typing import Any
from uuid import UUID  # noqa: F401

import pytest
from compat_tools import ORIGINAL, bug, exists, served

pytestmark = pytest.mark.usefixtures("of_the_dead")
PACKAGE = "sysframe" if ORIGINAL else "ringspan.compat.sysframe"
IMPORT = f"from {PACKAGE} import membridge\n"
membridge: Any = importlib.import_module(f"{PACKAGE}.membridge")
Start = Callable[..., Any]


#: One expression for each type of the table, and for its edges; evaluated in both processes.
TYPES = [
    "''",
    "'text'",
    "'grüß \\U0001f600 \\0'",
    "0",
    "255",
    "2**31",
    "2**63 - 1",
    "2**64",
    "0.0",
    "-1.5",
    "float('inf')",
    "True",
    "False",
    "1 - 2j",
    "None",
    "...",
    "b'bytes'",
    "bytearray(b'bytes')",
    "datetime(2024, 5, 6, 7, 8, 9, 10)",
    "datetime(2024, 5, 6, tzinfo=timezone(timedelta(hours=-5, minutes=-30)))",
    "timedelta(days=-3, seconds=5, microseconds=7)",
    "date(2024, 5, 6)",
    "time(7, 8, 9, 10)",
    "UUID(int=5)",
    "memoryview(b'bytes')",
    "Decimal('-1.50')",
    "range(10)",
    "range(3, 30, 4)",
    "deque([1, 'a'])",
    "namedtuple('Point', 'x y')(1, [2])",
    "Counter('aab')",
    "OrderedDict([('b', 1), ('a', 2)])",
    "ChainMap({'a': 1}, {'a': 2})",
    "[]",
    "[1, [2, [3]]]",
    "{}",
    "{1: 'a', 'b': (1, 2), (1, 2): None}",
    "()",
    "(1, (2, 'a'))",
    "set()",
    "{1, 2, 'a'}",
    "frozenset()",
    "frozenset({1, (2, 3)})",
    "Path('/tmp/x')",
    "Path('relative')",
    "PurePosixPath('/tmp/x')",
    "{'all': [1, (2.5, {b'x'}), {'deep': frozenset({Decimal(1)})}, None, ...]}",
]
#: What bugs of the original break.
MENDED = [
    "b''",
    "bytearray()",
    "-1",
    "-129",
    "-32768",
    "-(2**63)",
    "2**63",
    "10**1000",
    "-(10**1000)",
    "range(-(2**40), 2**70, 2**33)",
    "deque([1, 2], maxlen=3)",
    "memoryview(b'')",
    "float('nan')",
    "datetime(2024, 10, 27, 2, 30, fold=1)",
    "'x' * (1 << 20)",
    "b'x' * (1 << 20)",
    "list(range(100_000))",
]
TABLE = pytest.mark.parametrize(
    "expression",
    [*TYPES, *(pytest.param(one, marks=bug("its codec, its buffer")) for one in MENDED)],
)


def same(a: Any, b: Any) -> bool:
    """Equal and of one type, at every depth. Named tuples: of the same name and fields."""
    if isinstance(a, tuple) and hasattr(a, "_fields"):
        kinds = [(type(one).__name__, getattr(one, "_fields", ())) for one in (a, b)]
        return kinds[0] == kinds[1] and all(map(same, a, b))
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple, deque)):
        whole = len(a) == len(b) and getattr(a, "maxlen", None) == getattr(b, "maxlen", None)
        return whole and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, ChainMap):
        return same(a.maps, b.maps)
    if isinstance(a, memoryview):
        return (a.format, a.tobytes()) == (b.format, b.tobytes())
    if isinstance(a, (set, frozenset)):
        return a == b and Counter(map(type, a)) == Counter(map(type, b))
    return (a == b or (a != a and b != b)) and getattr(a, "fold", 0) == getattr(b, "fold", 0)


#: What the code of children begins with.
HELPERS = f"""
from __future__ import annotations
import json, sys, time as clock
from collections import ChainMap, Counter, OrderedDict, deque, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID
{IMPORT}
{inspect.getsource(same)}
name = sys.argv[1]
"""


def run_child(code: str, name: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-X", "faulthandler", "-c", HELPERS + code, name]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def reader() -> Iterator[subprocess.Popen[str]]:
    """A process that compares what it reads with what it ought to be, and writes that anew."""
    code = """
for line in sys.stdin:
    name, expression = json.loads(line)
    got, wanted = membridge.read_memory(name), eval(expression)
    membridge.write_memory(name, wanted)
    if held := sys.modules.get("ringspan.compat.sysframe._held"):
        held.let_go()  # each name is used once, and nothing may be left over
    print(same(got, wanted), flush=True)
"""
    with run_child(code, "") as child:
        yield child
        child.kill()


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """A function that compares its argument with what it ought to be, and returns that anew."""
    name = f"/sysframe-echo-{secrets.token_hex(4)}"
    code = """
membridge.create_function(name, lambda got, text: (same(got, eval(text)), eval(text)))
"""
    with run_child(code, name) as child:
        served(name)
        yield name
        assert membridge.remove_function(name) is True
        assert child.wait() == 0


@TABLE
def test_a_value_of_each_type_goes_to_another_process_and_back(
    reader: subprocess.Popen[str], name: str, expression: str
) -> None:
    value = eval(expression)
    assert membridge.write_memory(name, value) is True
    assert reader.stdin is not None and reader.stdout is not None
    reader.stdin.write(json.dumps([name, expression]) + "\n")
    reader.stdin.flush()
    assert reader.stdout.readline() == "True\n"
    assert same(membridge.read_memory(name), value)


@TABLE
@bug("back-to-back calls hang")
def test_a_value_of_each_type_goes_through_a_function(echo: str, expression: str) -> None:
    value = eval(expression)
    agreed, back = membridge.call_function(echo, (value, expression))
    assert agreed is True
    assert same(back, value)


def test_create_says_whether_it_made_one(name: str) -> None:
    assert membridge.create_memory(name) is True
    assert membridge.create_memory(name) is False
    assert membridge.create_memory(name=name, prealloc_size=10, error_if_exists=False) is False
    with pytest.raises(MemoryError):
        membridge.create_memory(name, 10, True)
    assert membridge.create_memory(f"{name}-2", 1000, True) is True
    assert membridge.read_memory(name) is None
    membridge.write_memory(name, 1)
    assert membridge.create_memory(name) is False
    assert membridge.read_memory(name) == 1, "the value is kept"


@bug("preallocated memory cannot be read, and None is refused")
def test_a_memory_that_was_never_written_reads_as_none(name: str) -> None:
    for place, size in enumerate((None, 0, 1, 100_000)):
        assert membridge.create_memory(f"{name}-{place}", size) is True
        assert membridge.read_memory(f"{name}-{place}") is None


@pytest.mark.parametrize("bad", ["", "/", "/a/b/c", "a/b", ".", "..", "x" * 255])
def test_names_that_are_none(bad: str) -> None:
    assert membridge.create_memory(bad) is False
    assert membridge.remove_memory(bad) is False
    assert membridge.remove_function(bad) is False
    verbs: list[Callable[[], object]] = [
        lambda: membridge.read_memory(bad),
        lambda: membridge.write_memory(bad, 1),
        lambda: membridge.remove_memory(bad, True),
        lambda: membridge.create_function(bad, abs),
        lambda: membridge.call_function(bad, ()),
    ]
    for verb in verbs:
        with pytest.raises(MemoryError):
            verb()


@pytest.mark.parametrize("odd", ["x", "/x", "//x", "x and blanks", "x:ü", "x" * 999, "ü" * 999])
def test_whatever_shm_open_takes_is_a_name(name: str, odd: str) -> None:
    odd = odd.replace("x", f"{name.lstrip('/')[:20]}-x", 1).encode()[:254].decode(errors="ignore")
    try:
        assert membridge.create_memory(odd, 0, True) is True
        membridge.write_memory(odd.lstrip("/"), odd)
        assert membridge.read_memory(f"/{odd.lstrip('/')}") == odd
    finally:
        assert membridge.remove_memory(odd, True) is True


def test_a_missing_memory_is_a_memory_error_and_none_is_made(name: str) -> None:
    with pytest.raises(MemoryError):
        membridge.read_memory(name)
    with pytest.raises(MemoryError):
        membridge.write_memory(name, 1, False)
    with pytest.raises(MemoryError):
        membridge.write_memory(name, value=1, create=False)
    with pytest.raises(MemoryError):
        membridge.remove_memory(name, throw_error=True)
    assert membridge.remove_memory(name) is False
    assert not exists(name)


def test_writing_makes_a_memory_and_removing_frees_its_name(name: str) -> None:
    assert membridge.write_memory(name, "first") is True
    assert membridge.write_memory(name, "second", False) is True
    assert membridge.read_memory(name) == membridge.read_memory(name) == "second"
    assert membridge.remove_memory(name) is True
    assert not exists(name)
    with pytest.raises(MemoryError):
        membridge.read_memory(name)
    assert membridge.create_memory(name, 0, True) is True
    assert membridge.read_memory(name) is None


class Unknown:
    pass


@pytest.mark.parametrize(
    "value", [Unknown(), Unknown, [1, {"a": (Unknown(),)}], {Unknown(): 1}, len, iter(())]
)
def test_other_types_are_refused_and_nothing_changes(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="unsupported"):
        membridge.write_memory(name, value)
    assert not exists(name)
    membridge.write_memory(name, "old")
    with pytest.raises(ValueError, match="unsupported"):
        membridge.write_memory(name, value)
    assert membridge.read_memory(name) == "old"


def test_nesting_has_its_limit(name: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = []
        for level in range(levels - 1):
            value = [value] if level % 2 else {"x": value}
        return value

    membridge.write_memory(name, nested(99))
    assert membridge.read_memory(name) == nested(99)
    circular: list[Any] = []
    circular.append(circular)
    for value in (nested(101), nested(120), nested(1000), circular):
        with pytest.raises(ValueError, match="nest depth"):
            membridge.write_memory(name, value)
        with pytest.raises(ValueError, match="nest depth"):
            membridge.write_memory(f"{name}-2", value)
    assert membridge.read_memory(name) == nested(99)
    assert not exists(f"{name}-2")


@bug("values above 128 KiB are a use after free")
def test_a_value_may_be_of_any_size_and_grow_and_shrink(name: str) -> None:
    membridge.create_memory(name, 16)
    for size in (10, 5_000, 3_000_000, 200, 0, 20_000_000, 1):
        membridge.write_memory(name, "x" * size)
        assert membridge.read_memory(name) == "x" * size


BAD = [
    lambda m: m.create_memory(),
    lambda m: m.create_memory(1),
    lambda m: m.create_memory(b"/x"),
    lambda m: m.create_memory("/x\0y"),
    lambda m: m.create_memory("/x", "1"),
    lambda m: m.create_memory("/x", 1.5),
    lambda m: m.create_memory("/x", -1),
    lambda m: m.create_memory("/x", 1 << 64),
    lambda m: m.create_memory("/x", 1, 1),
    lambda m: m.create_memory("/x", 1, True, 1),
    lambda m: m.create_memory("/x", unknown=1),
    lambda m: m.remove_memory(),
    lambda m: m.remove_memory(1),
    lambda m: m.remove_memory("/x", 1),
    lambda m: m.read_memory(),
    lambda m: m.read_memory(None),
    lambda m: m.read_memory("/x", 1),
    lambda m: m.write_memory(),
    lambda m: m.write_memory("/x"),
    lambda m: m.write_memory(1, 1),
    lambda m: m.write_memory("/x", 1, 1),
    lambda m: m.create_function(),
    lambda m: m.create_function("/x"),
    lambda m: m.create_function("/x", 1),
    lambda m: m.create_function(1, abs),
    lambda m: m.call_function(),
    lambda m: m.call_function("/x"),
    lambda m: m.call_function("/x", [1]),
    lambda m: m.call_function("/x", None),
    lambda m: m.call_function(1, ()),
    lambda m: m.remove_function(),
    lambda m: m.remove_function(1),
]


@pytest.mark.parametrize("place", range(len(BAD)))
def test_bad_arguments_are_value_errors(place: int) -> None:
    with pytest.raises(ValueError) as error:
        BAD[place](membridge)
    assert ORIGINAL or isinstance(error.value, TypeError)
    assert not exists("x")


@pytest.mark.parametrize("verb", ["read_memory", "remove_function"])
def test_what_was_positional_only_is(verb: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        getattr(membridge, verb)(name="/x")


@bug("it gives away references of True and False, and dies")
def test_thousands_of_calls_leave_nothing_behind(name: str) -> None:
    membridge.write_memory(name, 0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    counts = [sys.getrefcount(one) for one in (None, True, False)]
    for n in range(3000):
        assert membridge.write_memory(name, n) is True
        assert membridge.create_memory(name) is False
        assert membridge.read_memory(name) == n
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    after = [sys.getrefcount(one) for one in (None, True, False)]
    assert all(abs(a - b) < 1000 for a, b in zip(counts, after, strict=True))


WRITER = """
print("up", flush=True)
while True:
    for letter in ("a", "b"):
        membridge.write_memory(name, letter * 300_000)
"""


@bug("memory is not locked: values are torn")
def test_no_reader_sees_half_a_value(child: Start, name: str) -> None:
    membridge.write_memory(name, "a")
    one = child(HELPERS + WRITER, name)
    one.expect("up")
    seen, reads = set[str](), 0
    while reads < 300 or not {"aa", "bb"} <= seen:
        value = membridge.read_memory(name)
        assert len(set(value)) == 1
        seen.add(value[:2])
        reads += 1
        assert one.process.poll() is None, "the writer lives, within its watchdog's patience"
    one.kill()  # now: it would make the memory again


@bug("memory is not locked: values are torn")
def test_a_writer_that_is_killed_leaves_a_whole_value(child: Start, name: str) -> None:
    for _ in range(8):
        one = child(HELPERS + WRITER, name)
        one.expect("up")
        clock.sleep(0.02)
        one.kill()
        assert len(set(membridge.read_memory(name))) == 1
        membridge.write_memory(name, "c")
        assert membridge.read_memory(name) == "c"


def test_the_snippets_of_the_document_about_memory(child: Start, name: str) -> None:
    store = f"""
    {IMPORT}
    import sys
    value = ['Hello, other processes!', 3.142]
    name = sys.argv[1]
    membridge.create_memory(name)
    membridge.write_memory(name, value)
    """
    assert child(store, name).finish() == ""
    retrieve = f"""
    {IMPORT}
    import sys
    name = sys.argv[1]
    value = membridge.read_memory(name)
    membridge.remove_memory(name)
    print(value)
    """
    assert child(retrieve, name).finish() == "['Hello, other processes!', 3.142]\n"
    assert not exists(name)
