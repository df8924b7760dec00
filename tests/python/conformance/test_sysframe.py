"""What sysframe's `membridge` promises, sentence by sentence, seen by real processes.

`RINGSPAN_COMPAT_ORIGINAL=1` runs this file against sysframe itself, where that is installed (0.4.1,
CPython below 3.13); what its listed bugs break (`bug`) is left out then. All of it runs in
children, because the original may end the process that uses it. Edges, deaths, what is new:
../test_compat_sysframe*.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from compat_tools import ORIGINAL, bug, exists, only_here, served

pytestmark = pytest.mark.usefixtures("of_the_dead")

PACKAGE = "sysframe" if ORIGINAL else "ringspan.compat.sysframe"
IMPORT = f"from {PACKAGE} import membridge"
if ORIGINAL:
    pytest.importorskip("sysframe")

Start = Callable[..., Any]
Does = Callable[[str], str]

#: What every program begins with, and how it ends: the original frees what is not its own at exit.
PROLOGUE = f"""
import os, sys
{IMPORT}
name = sys.argv[1]

def raised(call, *args, **kwargs):
    try:
        return f"returned {{call(*args, **kwargs)!r}}"
    except (MemoryError, ValueError) as error:
        return "MemoryError" if isinstance(error, MemoryError) else "ValueError"
"""
# sysframe itself crashes at the end of a process.
EPILOGUE = "\nsys.stdout.flush()\nos._exit(0)\n" if ORIGINAL else ""


@pytest.fixture
def does(child: Start, name: str) -> Does:
    """`does(code)`: what a process says that runs it."""
    return lambda code: str(child(PROLOGUE + code + EPILOGUE, name).finish())


# ---- memory --------------------------------------------------------------------------------------


def test_create_memory(does: Does, name: str) -> None:
    said = does("""
print(membridge.create_memory(name), membridge.create_memory(name))
print(membridge.create_memory(name=name + "-2", prealloc_size=100, error_if_exists=False))
print(membridge.create_memory(name + "-3", 0, True))
print(raised(membridge.create_memory, name, error_if_exists=True))
print(raised(membridge.create_memory, name, -1), raised(membridge.create_memory, name, "1"))
print(membridge.create_memory(""), membridge.create_memory("/a/b/c"))
""")
    assert said.splitlines() == [
        "True False",
        "True",
        "True",
        "MemoryError",
        "ValueError ValueError",
        "False False",
    ]
    assert exists(name)


def test_read_memory(does: Does, name: str) -> None:
    assert does("print(raised(membridge.read_memory, name))") == "MemoryError\n"
    assert not exists(name), "reading makes nothing"
    assert does("membridge.create_memory(name); print(membridge.read_memory(name))") == "None\n"
    does("membridge.write_memory(name, 'kept')")
    twice = "print(membridge.read_memory(name), membridge.read_memory(name))"
    assert does(twice) == "kept kept\n", "reading takes nothing away"


@bug("preallocated memory cannot be read, and None is refused")
def test_preallocated_memory_reads_as_none(does: Does) -> None:
    code = """
for size in (None, 1000):
    membridge.create_memory(f"{name}-{size}", size)
    print(membridge.read_memory(f"{name}-{size}"))
"""
    assert does(code) == "None\nNone\n"


def test_write_memory(does: Does, name: str) -> None:
    said = does("""
print(raised(membridge.write_memory, name, 1, False))
print(raised(membridge.write_memory, name, object()))
""")
    assert said == "MemoryError\nValueError\n"
    assert not exists(name), "a write that fails makes nothing"
    said = does("""
print(membridge.write_memory(name, "long text, then a short one"))
print(membridge.write_memory(name=name, value="short", create=False), membridge.read_memory(name))
print(raised(membridge.write_memory, name, [object()]), membridge.read_memory(name))
membridge.write_memory(name, list(range(1000)))
""")
    assert said == "True\nTrue short\nValueError short\n"
    assert does("print(membridge.read_memory(name) == list(range(1000)))") == "True\n", "it grows"


def test_remove_memory(does: Does, name: str) -> None:
    said = does("""
membridge.create_memory(name)
print(membridge.remove_memory(name), membridge.remove_memory(name))
print(membridge.remove_memory(name=name, throw_error=False))
print(raised(membridge.remove_memory, name, throw_error=True), raised(membridge.read_memory, name))
""")
    assert said == "True False\nFalse\nMemoryError MemoryError\n"
    assert not exists(name)


def test_names_have_their_slash_or_not(does: Does) -> None:
    code = "membridge.write_memory(name, 5); print(membridge.read_memory(name.lstrip('/')))"
    assert does(code) == "5\n"


def test_arguments_that_cannot_be_are_value_errors(does: Does, name: str) -> None:
    said = does("""
print({
    raised(membridge.create_memory), raised(membridge.create_memory, 1),
    raised(membridge.remove_memory), raised(membridge.remove_memory, 1),
    raised(membridge.read_memory), raised(membridge.read_memory, 1),
    raised(membridge.write_memory, name), raised(membridge.write_memory, 1, 1),
    raised(membridge.create_function, name), raised(membridge.create_function, name, 1),
    raised(membridge.call_function, name), raised(membridge.call_function, name, [1]),
    raised(membridge.remove_function), raised(membridge.remove_function, 1),
})
""")
    assert said == "{'ValueError'}\n"
    assert not exists(name)


TYPES = [
    "'grüß'",
    "2**100",
    "-1.5",
    "True",
    "1 - 2j",
    "None",
    "...",
    "b'bytes'",
    "bytearray(b'bytes')",
    "datetime(2024, 5, 6, 7, 8, 9, 10)",
    "timedelta(days=-3, microseconds=7)",
    "date(2024, 5, 6)",
    "time(7, 8, 9, 10)",
    "UUID(int=5)",
    "memoryview(b'bytes')",
    "Decimal('-1.50')",
    "range(3, 30, 4)",
    "deque([1, 'a'])",
    "Counter('aab')",
    "OrderedDict([('b', 1), ('a', 2)])",
    "ChainMap({'a': 1}, {'a': 2})",
    "[1, [2, [3]]]",
    "{1: 'a', 'b': (1, 2)}",
    "(1, (2, 'a'))",
    "{1, 2, 'a'}",
    "frozenset({1, (2, 3)})",
    "PurePosixPath('/tmp/x')",
]
MENDED = ["b''", "bytearray()", "-1", "-32768", "-(2**63)", "-(10**1000)", "'x' * (1 << 20)"]
EVAL = """
from collections import ChainMap, Counter, OrderedDict, deque, namedtuple
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from uuid import UUID
"""


@pytest.mark.parametrize(
    "expressions", [TYPES, pytest.param(MENDED, marks=bug("its codec and its buffer"))]
)
def test_each_type_of_the_table_comes_back_exactly(does: Does, expressions: list[str]) -> None:
    does(f"""{EVAL}
for place, expression in enumerate({expressions!r}):
    membridge.write_memory(f"{{name}}-{{place}}", eval(expression))
""")
    said = does(f"""{EVAL}
for place, expression in enumerate({expressions!r}):
    got, wanted = membridge.read_memory(f"{{name}}-{{place}}"), eval(expression)
    if type(got) is not type(wanted) or got != wanted:
        print(expression, repr(got)[:100])
""")
    assert said == ""


def test_a_named_tuple_and_a_path(does: Does) -> None:
    does(f"""{EVAL}
membridge.write_memory(name, [namedtuple("Point", "x y")(1, [2]), Path("/tmp/x")])
""")
    said = does("""
point, path = membridge.read_memory(name)
print(type(point).__name__, point._fields, tuple(point), repr(path))
""")
    assert said == "Point ('x', 'y') (1, [2]) PosixPath('/tmp/x')\n"


def test_a_hundred_levels_of_containers(does: Does) -> None:
    said = does("""
def nested(levels):
    return [nested(levels - 1)] if levels > 1 else []
print(membridge.write_memory(name, nested(99)), raised(membridge.write_memory, name, nested(120)))
print(membridge.read_memory(name) == nested(99))
""")
    assert said == "True ValueError\nTrue\n"


# ---- functions -----------------------------------------------------------------------------------

SERVER = """
number = 0
def add_to_number(to_add, *more):
    global number
    number += to_add
    return (number, more)
print(membridge.create_function(name, add_to_number), flush=True)
"""


def ready(server: Any, name: str) -> None:
    """Waits until a function can be called: the original loses a call that is too early."""
    served(name)
    asleep = 0
    while ORIGINAL and asleep < 10:
        time.sleep(0.02)
        state = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        asleep = asleep + 1 if state == "S" else 0


@pytest.fixture
def server(child: Start, does: Does, name: str) -> Iterator[Any]:
    """A process that serves the function, to the end of the test at the latest."""
    one = child(PROLOGUE + SERVER + EPILOGUE, name)
    ready(one, name)
    yield one
    if exists(name):
        does("membridge.remove_function(name)")
        if not ORIGINAL:  # which loses what comes right after a call
            assert one.wait() == 0


def test_a_function_runs_in_the_process_that_made_it(server: Any, does: Does, name: str) -> None:
    assert does("print(membridge.call_function(name, (3.5, 'a', b'b')))") == "(3.5, ('a', b'b'))\n"
    if not ORIGINAL:  # which loses what comes right after a call
        assert does("print(membridge.call_function(name, (-1,)))") == "(2.5, ())\n"
        assert does("print(membridge.remove_function(name))") == "True\n"
        assert server.finish() == "None\n"
        assert not exists(name)


def test_a_function_is_removed(server: Any, does: Does, name: str) -> None:
    assert does("print(membridge.remove_function(name))") == "True\n"
    assert server.line() == ("read" if ORIGINAL else "None")
    server.wait()
    assert not exists(name)
    said = does("print(membridge.remove_function(name), raised(membridge.call_function, name, ()))")
    assert said == "False MemoryError\n"


@pytest.mark.usefixtures("server")
def test_memory_and_functions_have_one_name_space(does: Does, name: str) -> None:
    assert does("print(membridge.create_memory(name))") == "False\n"
    assert does("print(raised(membridge.create_function, name, abs))") == "MemoryError\n"
    does("membridge.write_memory(name + '-m', 1)")
    assert does("print(raised(membridge.create_function, name + '-m', abs))") == "MemoryError\n"


@bug("1024 bytes; exceptions stop the server; a call right after another one is lost")
@pytest.mark.usefixtures("server")
def test_what_the_listed_bugs_of_functions_broke(does: Does) -> None:
    said = does("""
print(len(membridge.call_function(name, (1, "x" * 100_000))[1][0]))
try:
    membridge.call_function(name, ("not a number",))
except TypeError as error:
    print(error)
print([membridge.call_function(name, (1,))[0] for _ in range(20)][-1])
""")
    assert said.splitlines() == [
        "100000",
        "unsupported operand type(s) for +=: 'int' and 'str'",
        "21",
    ]


@only_here
def test_the_functions_are_on_the_package_too(does: Does) -> None:
    said = does("""
import inspect
from ringspan.compat import sysframe
memory = ["create_memory", "remove_memory", "read_memory", "write_memory"]
for verb in [*memory, "create_function", "call_function", "remove_function"]:
    assert getattr(sysframe, verb) is getattr(membridge, verb)
    parameters = inspect.signature(getattr(sysframe, verb)).parameters.values()
    print(verb, *(f"{one.name}={one.default}" if one.default is not one.empty else one.name
        for one in parameters if one.kind is not one.KEYWORD_ONLY))
""")
    assert said.splitlines() == [
        "create_memory name prealloc_size=None error_if_exists=False",
        "remove_memory name throw_error=False",
        "read_memory name",
        "write_memory name value create=True",
        "create_function name function",
        "call_function name args kwargs=None",
        "remove_function name",
    ]


# ---- the document --------------------------------------------------------------------------------


def test_the_snippets_of_the_document(child: Start, does: Does, name: str) -> None:
    does("""
value = ['Hello, other processes!', 3.142]
membridge.create_memory(name)
membridge.write_memory(name, value)
""")
    said = does("""
value = membridge.read_memory(name)
membridge.remove_memory(name)
print(value)
""")
    assert said == "['Hello, other processes!', 3.142]\n"

    linked = child(
        f"""{PROLOGUE}
number = 0
def add_to_number(to_add: float):
    global number
    number += to_add
    return number
membridge.create_function(name, add_to_number)
""",
        name,
    )
    ready(linked, name)
    said = does("""
to_add = 3.5
new_number = membridge.call_function(name, (to_add,))
membridge.remove_function(name)
print(new_number)
""")
    assert said == "3.5\n"
    if not ORIGINAL:  # which loses what comes right after a call
        assert linked.finish() == ""
