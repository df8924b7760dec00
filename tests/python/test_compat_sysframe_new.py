"""What `ringspan.compat.sysframe` has beyond sysframe: awaiting, time-outs, the background."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import ringspan
from compat_tools import exists, served
from ringspan.compat import sysframe
from ringspan.compat.sysframe import _calls, membridge

pytestmark = pytest.mark.usefixtures("of_the_dead")

Start = Callable[..., Any]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
IMPORT = """
import asyncio, os, sys, threading, time
from ringspan.compat.sysframe import membridge
import ringspan
name = sys.argv[1]
"""


def test_the_old_signatures_and_where_the_names_are() -> None:
    old = {
        "create_memory": ["name", "prealloc_size", "error_if_exists"],
        "remove_memory": ["name", "throw_error"],
        "read_memory": ["name"],
        "write_memory": ["name", "value", "create"],
        "create_function": ["name", "function"],
        "call_function": ["name", "args"],
        "remove_function": ["name"],
    }
    for verb, wanted in old.items():
        parameters = inspect.signature(getattr(membridge, verb)).parameters
        assert list(parameters)[: len(wanted)] == wanted
        more = list(parameters.values())[len(wanted) :]
        assert all(one.default is not inspect.Parameter.empty for one in more)
    for verb in membridge.__all__:
        shown = getattr(membridge, verb)
        assert getattr(sysframe, verb) is shown
        assert shown.__module__ == "ringspan.compat.sysframe.membridge"
        assert inspect.getdoc(shown)
    assert {*membridge.__all__, "membridge"} == set(sysframe.__all__)


def test_errors_are_those_of_both_and_pickle(name: str) -> None:
    for verb, kind in (
        (lambda: membridge.read_memory(name), ringspan.NotFound),
        (lambda: membridge.call_function(name, ()), ringspan.NotFound),
        (lambda: membridge.read_memory("/a/b"), ringspan.InvalidName),
        (lambda: membridge.create_function("/a/b", abs), ringspan.InvalidName),
    ):
        with pytest.raises(MemoryError) as error:
            verb()
        assert isinstance(error.value, kind)
        again = pickle.loads(pickle.dumps(error.value))
        assert (type(again), str(again)) == (type(error.value), str(error.value))
        assert again.errno == error.value.errno
    membridge.write_memory(name, 1)
    with pytest.raises(MemoryError) as error:
        membridge.create_memory(name, error_if_exists=True)
    assert isinstance(error.value, FileExistsError)


def test_a_memory_is_a_value(name: str) -> None:
    with ringspan.Value(name) as value:
        value.blocking_set((1, {2}))
        assert membridge.read_memory(name) == (1, {2})
        membridge.write_memory(name, b"")
        assert value.get() == b""
    strange = f"{name} ü"
    membridge.write_memory(strange, 1)
    assert exists(f"posix.{name.lstrip('/')}.20.c3.bc")
    assert membridge.remove_memory(strange)


def test_pickles_are_not_read(name: str) -> None:
    with ringspan.Value(name, pickle=True) as value:
        value.blocking_set(Path)  # a class: it goes as a pickle
    with pytest.raises(ValueError, match="pickle"):
        membridge.read_memory(name)
    membridge.write_memory(name, 1)
    assert membridge.read_memory(name) == 1


@pytest.mark.parametrize("size", [0, 100, 5000, 100_000])
def test_a_file_that_is_no_memory(name: str, size: int) -> None:
    file = Path("/dev/shm", name.lstrip("/"))
    file.write_bytes(os.urandom(size))
    for verb in (
        lambda: membridge.read_memory(name),
        lambda: membridge.write_memory(name, 1),
        lambda: membridge.call_function(name, ()),
        lambda: membridge.create_function(name, abs),
        lambda: membridge.create_memory(name, 0, True),
    ):
        with pytest.raises(MemoryError):
            verb()
    assert file.stat().st_size == size
    assert membridge.remove_function(name) is False
    assert membridge.remove_memory(name) is True


def test_damage_is_an_error(name: str) -> None:
    file = Path("/dev/shm", name.lstrip("/"))
    told = 0
    for offset in range(0, 12_000, 64):
        membridge.write_memory(name, "x" * 2000)
        with file.open("r+b") as out:
            out.seek(offset)
            out.write(b"\xa5" * 64)
        try:
            membridge.read_memory(name)
        except (MemoryError, ValueError):
            told += 1
        assert membridge.remove_memory(name) is True
    assert told > 3


HOLDER = """
def hold(old):
    print("holds", flush=True)
    sys.stdin.readline()
    return old
with ringspan.Value(name) as value: value.blocking_update(hold, None)
"""


def test_writers_take_turns_and_time_out(child: Start, name: str) -> None:
    membridge.write_memory(name, "old")
    one = child(IMPORT + HOLDER, name)
    one.expect("holds")
    with pytest.raises(TimeoutError):
        membridge.write_memory(name, "late", timeout=0.05)
    with pytest.raises(ringspan.Timeout, match=name):
        asyncio.run(membridge.awrite_memory(name, "late", timeout=0.05))
    with pytest.raises(ValueError, match="unsupported"):
        asyncio.run(membridge.awrite_memory(name, object(), timeout=5))

    async def both() -> None:
        given_up = asyncio.create_task(membridge.awrite_memory(name, "given up"))
        kept = asyncio.create_task(membridge.awrite_memory(name, "kept"))
        await asyncio.sleep(0.02)
        assert await membridge.aread_memory(name) == "old"
        given_up.cancel()
        one.say()
        assert await kept is True
        assert given_up.cancelled()

    asyncio.run(both())
    assert membridge.read_memory(name) == "kept"
    assert one.finish() == ""


def test_a_writer_that_is_killed_in_its_turn_hands_it_on(child: Start, name: str) -> None:
    membridge.write_memory(name, "old")
    one = child(IMPORT + HOLDER, name)
    one.expect("holds")
    threading.Timer(0.1, one.kill).start()
    assert membridge.write_memory(name, "new") is True
    assert membridge.read_memory(name) == "new"


WAITER = """
membridge.create_memory(name)
print("up", flush=True)
seen = 0
try:
    while True:
        seen = membridge.changed(name, seen) if sys.argv[2] == "blocking" else asyncio.run(
            membridge.achanged(name, seen))
        print(membridge.read_memory(name), flush=True)
except BaseException as error:
    print(type(error).__mro__[-3 if isinstance(error, MemoryError) else 0].__name__, flush=True)
    print(isinstance(error, MemoryError), flush=True)
"""


@pytest.mark.parametrize("how", ["blocking", "awaited"])
def test_a_change_wakes_who_waits_and_so_does_the_end(child: Start, name: str, how: str) -> None:
    waiters = [child(IMPORT + WAITER, name, how) for _ in range(3)]
    for one in waiters:
        one.expect("up")
    for n in range(5):
        membridge.write_memory(name, n)
        for one in waiters:
            one.expect(str(n))
    time.sleep(0.05)  # so that they sleep
    assert membridge.remove_memory(name) is True
    for one in waiters:
        one.line()
        one.expect("True")
        assert one.finish() == ""


def test_waiting_for_a_change(name: str, run: Run) -> None:
    for wait in (membridge.changed, lambda *a, **k: run(membridge.achanged(*a, **k))):
        with pytest.raises(MemoryError):
            wait(name)
        membridge.create_memory(name)
        for since in (None, 0):
            with pytest.raises(TimeoutError):
                wait(name, since, timeout=0.02)
        membridge.write_memory(name, 1)
        assert wait(name, 0, timeout=5) == 1
        timer = threading.Timer(0.05, membridge.write_memory, (name, 2))
        timer.start()
        assert wait(name, 1) == 2
        timer.join()
        membridge.remove_memory(name)
    membridge.write_memory(name, 1)

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await membridge.achanged(name)

    run(cancelled())


def test_ctrl_c_ends_a_wait(child: Start, name: str) -> None:
    one = child(IMPORT + WAITER, name, "blocking")
    one.expect("up")
    time.sleep(0.05)
    one.kill(signal.SIGINT)
    one.expect("KeyboardInterrupt")
    one.expect("False")
    assert one.finish() == ""


def test_a_memory_for_a_block(name: str) -> None:
    with membridge.memory(name, 10) as value:
        assert isinstance(value, ringspan.Value)
        membridge.write_memory(name, [1])
        assert value.get() == [1]
        with pytest.raises(MemoryError), membridge.memory(name):
            pass
        assert membridge.read_memory(name) == [1], "the other one is left alone"
    assert not exists(name)
    with pytest.raises(MemoryError), membridge.memory("a/b"):
        pass


# ---- functions -----------------------------------------------------------------------------------


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def test_a_server_in_the_background(name: str) -> None:
    with membridge.create_function(name, echo, background=True) as server:
        assert isinstance(server, ringspan.Server)
        assert membridge.call_function(name, (1, (2,))) == ((1, (2,)), {})
        assert membridge.call_function(name, (1,), {"b": {2}}) == ((1,), {"b": {2}})
        assert membridge.call_function(name, (), kwargs={"c": 3}, timeout=5) == ((), {"c": 3})
        for wrong in ([("a", 1)], "a"):
            with pytest.raises(ValueError):
                membridge.call_function(name, (), wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            membridge.call_function(name, (), {1: 2})  # type: ignore[dict-item]
        with pytest.raises(MemoryError) as error:
            membridge.create_function(name, echo, background=True)
        assert isinstance(error.value, ringspan.RoleTaken) and error.value.pid == os.getpid()
        assert membridge.remove_function(name) is True
        with pytest.raises(MemoryError):
            membridge.call_function(name, ())
        server.join()
    assert not exists(name)


@pytest.mark.parametrize("function", [len, str.upper, dict, "x{}".format, lambda text: (text,)])
def test_whatever_can_be_called(name: str, function: Callable[..., Any]) -> None:
    argument = [("a", 1)] if function is dict else "ab"
    with membridge.create_function(name, function, background=True):
        assert membridge.call_function(name, (argument,)) == function(argument)


def test_the_name_of_ringspan_calls_it_too(name: str, run: Run) -> None:
    async def main() -> None:
        assert await ringspan.call(name, -3) == 3
        assert ringspan.blocking_call(name, -3) == 3

    with membridge.create_function(name, abs, background=True):
        run(main())


def test_awaited_calls(name: str, run: Run) -> None:
    async def work(what: Any, seconds: float = 0) -> Any:
        await asyncio.sleep(seconds)
        if isinstance(what, str):
            raise LookupError(what)
        return what

    async def main() -> None:
        serving = asyncio.create_task(membridge.acreate_function(name, work))
        await asyncio.to_thread(served, name)
        calls = [membridge.acall_function(name, ((n,), 0.05)) for n in range(200)]
        assert await asyncio.gather(*calls) == [(n,) for n in range(200)]
        with pytest.raises(LookupError, match="no such") as error:
            await membridge.acall_function(name, ("no such",))
        assert isinstance(error.value, ringspan.RemoteError) and "work" in error.value.traceback
        with pytest.raises(TimeoutError):
            await membridge.acall_function(name, (1,), {"seconds": 100}, timeout=0.05)
        call = asyncio.create_task(membridge.acall_function(name, (1, 100)))
        await asyncio.sleep(0.02)
        call.cancel()
        for wrong in ((object(),), ({1: [object()]},)):
            with pytest.raises(ValueError, match="unsupported"):
                await membridge.acall_function(name, wrong)
        with pytest.raises(ValueError):
            await membridge.acall_function(name, [1])  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            await membridge.acall_function(name)  # type: ignore[call-arg]
        with pytest.raises(MemoryError):
            await membridge.acreate_function(name, work)
        assert membridge.remove_function(name) is True
        await serving
        with pytest.raises(MemoryError):
            await membridge.acall_function(name, (1,))
        cancelled = asyncio.create_task(membridge.acreate_function(name, abs))
        await asyncio.to_thread(served, name)
        assert await membridge.acall_function(name, (-1,)) == 1
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert cancelled.cancelled() and not exists(name)

    run(main())


def test_a_call_that_takes_too_long(name: str) -> None:
    with membridge.create_function(name, time.sleep, background=True):
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError):
                membridge.call_function(name, (0.2,), timeout=timeout)
        assert membridge.call_function(name, (0,)) is None


def test_create_function_inside_a_loop_blocks_as_ever(name: str) -> None:
    found: list[Any] = []

    def calls() -> None:
        served(name)
        found.append(membridge.call_function(name, (-1,)))
        membridge.remove_function(name)

    async def main() -> None:
        membridge.create_function(name, abs)

    thread = threading.Thread(target=calls)
    thread.start()
    asyncio.run(main())
    thread.join()
    assert found == [1]


def test_a_function_that_calls_itself_is_told(name: str) -> None:
    def calls(n: int) -> Any:
        return membridge.call_function(name, (n - 1,))

    thread = threading.Thread(target=membridge.create_function, args=(name, calls))
    thread.start()
    served(name)
    with pytest.raises(ringspan.RemoteError, match="this thread serves it"):
        membridge.call_function(name, (3,))
    assert membridge.remove_function(name) is True
    thread.join()


def test_functions_in_several_threads_and_from_one_to_another(name: str) -> None:
    def via(n: int) -> Any:
        return membridge.call_function(f"{name}-2", (n,)) + 1

    threads = [
        threading.Thread(target=membridge.create_function, args=args)
        for args in ((name, via), (f"{name}-2", abs))
    ]
    for thread in threads:
        thread.start()
    served(name)
    served(f"{name}-2")
    assert membridge.call_function(name, (-3,)) == 4
    assert membridge.remove_function(name) and membridge.remove_memory(f"{name}-2")
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("kind", ["SystemExit(7)", "KeyboardInterrupt()"])
def test_a_function_that_ends_its_program(child: Start, name: str, kind: str) -> None:
    one = child(IMPORT + f"def leave(): raise {kind}\nmembridge.create_function(name, leave)", name)
    served(name)
    with pytest.raises((MemoryError, ringspan.RemoteError)):
        membridge.call_function(name, ())
    assert one.wait() == (7 if "7" in kind else -signal.SIGINT)
    assert not exists(name)


def test_a_forked_child_calls_anew(name: str) -> None:
    with membridge.create_function(name, os.getpid, background=True):
        assert membridge.call_function(name, ()) == os.getpid()
        if (pid := os.fork()) == 0:
            status = 1
            try:
                membridge.write_memory(f"{name}-2", membridge.call_function(name, ()))
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert membridge.read_memory(f"{name}-2") == os.getpid()


def test_servers_that_follow_one_another_lose_no_call(child: Start, name: str) -> None:
    code = IMPORT + "membridge.create_function(name, os.getpid)"
    seen = set()
    for _ in range(5):
        child(code, name)
        while True:
            try:
                seen.add(membridge.call_function(name, ()))
                break
            except MemoryError:
                time.sleep(0.005)
        for _ in range(100):
            assert membridge.call_function(name, ()) in seen
        assert membridge.remove_function(name) is True
    assert len(seen) == 5


@pytest.mark.parametrize("delivered", ["no", "yes", "unknown"])
def test_a_call_is_sent_again_only_if_no_server_took_it(
    name: str, delivered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    class Leaving:
        """A client whose server leaves at the first call."""

        def __call__(self, *args: Any) -> Any:
            begun.append(args)
            if len(begun) == 1:
                raise ringspan.Disconnected("function: gone", None, delivered)
            return args

        def options(self, timeout: float) -> Any:
            assert 0 < timeout <= 5
            return self

    monkeypatch.setattr(_calls._blocking_clients, "get", lambda _: Leaving())
    for timeout in (None, 5):
        begun.clear()
        if delivered == "no":
            assert membridge.call_function(name, (1,), timeout=timeout) == (1,)
            assert len(begun) == 2
            continue
        with pytest.raises(ringspan.Disconnected) as error:
            membridge.call_function(name, (1,), timeout=timeout)
        assert isinstance(error.value, MemoryError)
        assert (error.value.delivered, len(begun)) == (delivered, 1)
