"""`ringspan.compat.sysframe` does what sysframe documents, and what programs rely on: functions.

`RINGSPAN_COMPAT_ORIGINAL=1` as in test_compat_sysframe.py; most is left out then, for the bugs of
the original are the rule here: whatever is called twice may hang.
"""

from __future__ import annotations

import importlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from compat_tools import ORIGINAL, bug, exists, served

pytestmark = pytest.mark.usefixtures("of_the_dead")

PACKAGE = "sysframe" if ORIGINAL else "ringspan.compat.sysframe"
IMPORT = f"from {PACKAGE} import membridge\n"
membridge: Any = importlib.import_module(f"{PACKAGE}.membridge")
Start = Callable[..., Any]


HELPERS = f"""
import os, sys, threading, time
{IMPORT}
name = sys.argv[1]
"""


#: A function that does what it is asked, and what happens when it is removed.
SERVER = """
state = {"number": 0}
def function(what, *args):
    if what == "add":
        state["number"] += args[0]
        return state["number"]
    if what == "where": return threading.current_thread() is threading.main_thread()
    if what == "pid": return os.getpid()
    if what == "sleep": print("sleeps", flush=True); time.sleep(args[0]); return "slept"
    if what == "raise": raise eval(args[0])
    if what == "size": return "x" * args[0]
    if what == "bad": return object()
    return args
try:
    print(membridge.create_function(name, function), flush=True)
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


def serve(child: Start, name: str) -> Any:
    one = child(HELPERS + SERVER, name)
    served(name)
    return one


def call(name: str, *args: Any) -> Any:
    return membridge.call_function(name, args)


def test_the_snippets_of_the_document_about_functions(child: Start, name: str) -> None:
    link = f"""
    {IMPORT}
    import sys
    name = sys.argv[1]
    number = 0
    def add_to_number(to_add: float):
        global number
        number += to_add
        return number
    membridge.create_function(name, add_to_number)
    """
    linked = child(link, name)
    served(name)
    time.sleep(0.1 if ORIGINAL else 0)
    calls = f"""
    {IMPORT}
    import sys
    name = sys.argv[1]
    to_add = 3.5
    new_number = membridge.call_function(name, (to_add,))
    membridge.remove_function(name)
    print(new_number)
    """
    assert child(calls, name).finish() == "3.5\n"
    assert linked.finish() == ("read\n" if ORIGINAL else "")
    assert not exists(name)


@bug("back-to-back calls hang; a leftover prints")
def test_it_serves_in_its_thread_until_it_is_removed(child: Start, name: str) -> None:
    one = serve(child, name)
    assert call(name, "where") is True
    assert [call(name, "add", n) for n in (1, 2.5, 10**30)] == [1, 3.5, 3.5 + 10**30]
    assert membridge.remove_function(name) is True
    one.expect("None")
    assert one.finish() == ""
    assert membridge.remove_function(name) is False
    with pytest.raises(MemoryError):
        call(name, "where")
    assert not exists(name)


@bug("back-to-back calls hang")
def test_calls_back_to_back(child: Start, name: str) -> None:
    serve(child, name)
    for n in range(3000):
        assert call(name, "tuple", n) == (n,)


@bug("callers get the answers of others, or none")
def test_callers_at_once_get_their_own_answers(child: Start, name: str) -> None:
    serve(child, name)
    code = """
for n in range(500):
    assert membridge.call_function(name, ("x", os.getpid(), n)) == (os.getpid(), n)
"""
    others = [child(HELPERS + code, name) for _ in range(3)]
    wrong: list[int] = []

    def calls(me: int) -> None:
        wrong.extend(n for n in range(300) if call(name, "x", me, n) != (me, n))

    threads = [threading.Thread(target=calls, args=(me,)) for me in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for other in others:
        assert other.finish() == ""


@bug("one name space, but it writes into what it finds there")
def test_memory_and_functions_have_one_name_space(child: Start, name: str) -> None:
    other = f"{name}-memory"
    serve(child, name)
    membridge.write_memory(other, "kept")
    verbs: list[Callable[[], object]] = [
        lambda: membridge.create_function(name, abs),
        lambda: membridge.create_function(other, abs),
        lambda: membridge.create_memory(name, 0, True),
        lambda: membridge.read_memory(name),
        lambda: membridge.write_memory(name, 1),
        lambda: membridge.call_function(other, ()),
    ]
    for verb in verbs:
        with pytest.raises(MemoryError):
            verb()
    assert membridge.create_memory(name) is False
    assert membridge.remove_function(other) is False
    assert membridge.read_memory(other) == "kept"
    assert call(name, "tuple", 1) == (1,)


@bug("1024 bytes, and a larger result ends the server and locks the name")
@pytest.mark.parametrize("size", [1000, 1025, 5_000_000])
def test_arguments_and_results_of_any_size(child: Start, name: str, size: int) -> None:
    serve(child, name)
    assert call(name, "tuple", "x" * size) == ("x" * size,)
    assert call(name, "size", size) == "x" * size


@bug("an exception ends the server, and its callers hang")
@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        ("ValueError('of the function')", ValueError),
        ("KeyError('of the function')", KeyError),
        ("ZeroDivisionError('of the function')", ZeroDivisionError),
        ("FileNotFoundError(2, 'of the function')", FileNotFoundError),
        ("type('Own', (Exception,), {})('of the function')", Exception),
    ],
)
def test_what_a_function_raises_reaches_its_caller(
    child: Start, name: str, raised: str, kind: type[Exception]
) -> None:
    serve(child, name)
    for _ in range(2):
        with pytest.raises(kind, match="of the function"):
            call(name, "raise", raised)
        assert call(name, "tuple", 1) == (1,)


@bug("an exception ends the server, and its callers hang")
def test_what_cannot_be_sent_does_no_harm(child: Start, name: str) -> None:
    serve(child, name)
    with pytest.raises(ValueError, match="unsupported"):
        call(name, "tuple", object())
    with pytest.raises(ValueError, match="max_message"):
        call(name, "tuple", bytes(65 << 20))
    with pytest.raises(TypeError, match="object"):
        call(name, "bad")
    with pytest.raises(ValueError, match="max_message"):
        call(name, "size", 65 << 20)
    with pytest.raises(TypeError, match="argument"):
        call(name)
    assert call(name, "tuple", 1) == (1,)


@bug("callers of a server that was killed hang, and its name stays taken")
@pytest.mark.parametrize("successor", ["memory", "function", "nothing"])
def test_a_server_that_is_killed(child: Start, name: str, successor: str) -> None:
    one = serve(child, name)
    found: list[Exception] = []

    def sleeps() -> None:
        try:
            call(name, "sleep", 100)
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=sleeps) for _ in range(3)]
    for thread in threads:
        thread.start()
    one.expect("sleeps")
    one.kill()
    for thread in threads:
        thread.join()
    assert [isinstance(error, MemoryError) for error in found] == [True] * 3
    with pytest.raises(MemoryError):
        call(name, "tuple")
    if successor == "memory":
        assert membridge.create_memory(name) is True
        assert membridge.read_memory(name) is None
    elif successor == "function":
        other = child(HELPERS + SERVER, name)
        while (pid := pid_of(name)) != other.pid:
            assert pid is None
        assert membridge.remove_function(name) is True
        other.expect("None")
    else:
        assert membridge.remove_function(name) is False, "nobody was there"
        assert not exists(name)


def pid_of(name: str) -> Any:
    try:
        return call(name, "pid")
    except MemoryError:
        time.sleep(0.005)
        return None


@bug("the server loses its mutex")
def test_callers_that_are_killed(child: Start, name: str) -> None:
    one = serve(child, name)
    for _ in range(3):
        caller = child(HELPERS + "membridge.call_function(name, ('sleep', 0.2))", name)
        one.expect("sleeps")
        caller.kill()
    assert call(name, "tuple", 1) == (1,)


@bug("the GIL is held: Ctrl-C is not seen")
@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_a_server(child: Start, name: str, busy: bool) -> None:
    one = serve(child, name)
    found: list[Any] = []

    def sleeps() -> None:
        try:
            call(name, "sleep", 100)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=sleeps)
    if busy:
        thread.start()
        one.expect("sleeps")
    else:
        assert call(name, "tuple") == ()
    one.kill(signal.SIGINT)
    one.expect("KeyboardInterrupt")
    assert one.finish() == ""
    assert one.stderr() == ""
    assert not exists(name)
    if busy:
        thread.join()
        assert len(found) == 1


@bug("the GIL is held: other threads stop")
def test_other_threads_run_beside_a_server(child: Start, name: str) -> None:
    one = child(
        HELPERS
        + """
def ticks():
    while True:
        line = sys.stdin.readline()
        if not line: return
        print(line.strip(), membridge.call_function(name, (2,)), flush=True)
threading.Thread(target=ticks, daemon=True).start()
membridge.create_function(name, lambda n: n * 2)
""",
        name,
    )
    served(name)
    for n in range(3):
        one.say(n)
        one.expect(f"{n} 4")
    assert membridge.remove_function(name) is True
    assert one.finish() == ""


@bug("the server is signalled under its call")
def test_a_call_under_way_is_finished_when_the_function_is_removed(child: Start, name: str) -> None:
    one = serve(child, name)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call(name, "sleep", 0.3)))
    thread.start()
    one.expect("sleeps")
    assert membridge.remove_function(name) is True
    assert not exists(name)
    thread.join()
    assert found == ["slept"]
    one.expect("None")
