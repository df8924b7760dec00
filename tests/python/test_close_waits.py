"""What ends a blocking wait from outside: the `close` of the handle, the end of the program."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ringspan

Start = Callable[..., Any]

#: For children, since a wait that nothing ends hangs: a watchdog ends that.
OPEN = """
    import sys, threading, time
    import ringspan
    from ringspan._ringspan import _Block
    from ringspan.compat import shared_memory as shm
    kind, verb, name = sys.argv[1:4]

    MAKE = {
        "Segment": lambda: ringspan.Segment.create(name, 8),
        "_Block": lambda: _Block.create(name, 8),
        "queue": lambda: shm.ShmMessageQueue.create(name, 8, 4),
        "RwLock": lambda: ringspan.RwLock(name, size=8),
        "Value": lambda: ringspan.Value(name),
        "SharedInt": lambda: ringspan.SharedInt(name),
        "Ring": lambda: ringspan.Ring(name),
    }
    OPEN = {
        **MAKE,
        "Segment": lambda: ringspan.Segment.open(name),
        "_Block": lambda: _Block.open(name),
        "queue": lambda: shm.ShmMessageQueue.open(name),
        "Ring": lambda: ringspan.Consumer(name),
    }

    def wait(handle):
        if verb == "blocking_wait_for":
            handle.blocking_wait_for(lambda value: False)
        elif verb == "put":
            handle.put(1)
        else:
            getattr(handle, verb)()

    def parked():
        # The mask in the header of the object.
        with open("/dev/shm" + name, "rb") as file:
            return int.from_bytes(file.read(280)[272:], sys.byteorder)

    def asleep(count):
        while parked().bit_count() < count:
            time.sleep(0.005)

    made = MAKE[kind]()
    if verb in ("blocking_read", "blocking_write", "put"):
        native = _Block.open(name) if kind == "queue" else MAKE["RwLock"]()
        held = native.blocking_write()
"""


def program(code: str) -> str:
    return textwrap.dedent(OPEN) + textwrap.dedent(code)


WAITS = [
    ("Segment", "blocking_changed"),
    ("_Block", "blocking_changed"),
    ("RwLock", "blocking_read"),
    ("RwLock", "blocking_write"),
    ("Value", "blocking_changed"),
    ("Value", "blocking_wait_for"),
    ("SharedInt", "blocking_changed"),
    ("SharedInt", "blocking_wait_for"),
    ("queue", "get"),
    ("queue", "put"),
]


@pytest.mark.parametrize(("kind", "verb"), WAITS)
def test_a_close_ends_the_waits_of_other_threads_in_that_handle_alone(
    name: str, kind: str, verb: str, child: Start
) -> None:
    code = """
        closed, other = OPEN[kind](), OPEN[kind]()
        ended = []

        def waiter(handle):
            try:
                wait(handle)
            except ringspan.HandleClosed as err:
                ended.append((handle, type(err).__name__, isinstance(err, RuntimeError)))

        threads = [threading.Thread(target=waiter, args=(h,)) for h in (closed, closed, other)]
        for thread in threads:
            thread.start()
        asleep(2)
        time.sleep(0.05)  # the second thread of the one handle, too
        closed.close()
        threads[0].join()
        threads[1].join()
        assert [one for one, *_ in ended] == [closed, closed], ended
        assert parked().bit_count() == 1 and threads[2].is_alive()
        other.close()
        threads[2].join()
        print(len(ended), *ended[0][1:], flush=True)
        try:
            wait(closed)
        except ringspan.HandleClosed:
            print("closed", flush=True)
    """
    closing = child(program(code), kind, verb, name)
    closing.expect(f"3 HandleClosed {kind == 'queue'}")
    closing.expect("closed")
    closing.finish()


@pytest.mark.parametrize(("kind", "verb"), WAITS)
@pytest.mark.parametrize("how", ["plain", "in a loop"])
def test_a_close_ends_the_wait_of_the_main_thread(
    name: str, kind: str, verb: str, how: str, child: Start
) -> None:
    # A loop that runs has Python's handler of signals write to itself.
    code = """
        import asyncio
        handle = OPEN[kind]()

        def close():
            asleep(1)
            handle.close()

        async def inside():
            wait(handle)

        threading.Thread(target=close).start()
        try:
            asyncio.run(inside()) if sys.argv[4] == "in a loop" else wait(handle)
        except ringspan.HandleClosed:
            print("closed", flush=True)
    """
    closing = child(program(code), kind, verb, name, how)
    closing.expect("closed")
    closing.finish()


def test_a_close_just_before_the_sleep_is_not_missed(name: str, child: Start) -> None:
    code = """
        made.close()
        for round in range(300):
            handle = OPEN[kind]()

            def waiter():
                try:
                    wait(handle)
                except ringspan.HandleClosed:
                    pass

            thread = threading.Thread(target=waiter)
            thread.start()
            time.sleep(round % 30 * 1e-5)
            handle.close()
            thread.join()
        print("all", flush=True)
    """
    closing = child(program(code), "Segment", "blocking_changed", name)
    closing.expect("all")
    closing.finish()


def test_a_close_does_not_end_a_wait_in_a_forked_child(name: str, child: Start) -> None:
    code = """
        import os, signal
        handle = OPEN[kind]()
        thread = threading.Thread(target=lambda: wait(handle))
        thread.start()
        asleep(1)
        pid = os.fork()
        if pid == 0:
            handle.close()  # the parent's thread is not here
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert thread.is_alive()
        made.notify()
        thread.join()
        print("came", flush=True)
    """
    forking = child(program(code), "Segment", "blocking_changed", name)
    forking.expect("came")
    forking.finish()


# ---- the end of the program ----------------------------------------------------------------------

ENDS = [*WAITS, ("Ring", "blocking_pop")]
#: What is registered before ringspan is imported runs after what that has registered.
REGISTER_FIRST = "import atexit\natexit.register(lambda: last())\n"


def doors() -> set[str]:
    return {path.name for path in Path(os.environ["RINGSPAN_DIR"]).iterdir()}


@pytest.mark.parametrize(("kind", "verb"), ENDS)
def test_a_daemon_thread_asleep_at_the_end_leaves_no_door(
    name: str, kind: str, verb: str, child: Start
) -> None:
    before = doors()
    code = """
        def waiter():
            handle = OPEN[kind]()
            try:
                wait(handle)
            finally:
                print("finally", flush=True)

        def last():
            print(made.name, flush=True)  # the main thread goes on

        threading.Thread(target=waiter, daemon=True).start()
        if kind == "Ring":
            time.sleep(0.3)  # rings have no mask
        else:
            asleep(1)
        print("asleep", flush=True)
        input()
    """
    leaving = child(REGISTER_FIRST + program(code), kind, verb, name)
    leaving.expect("asleep")
    assert doors() - before
    leaving.say()
    leaving.expect("finally")
    leaving.expect(name)
    assert leaving.finish() == ""
    assert leaving.stderr() == ""
    assert doors() == before


def test_who_waits_for_one_that_ended_so_is_told_at_once(name: str, child: Start) -> None:
    code = """
        def waiter():
            handle = OPEN[kind]()
            print("in", flush=True)
            wait(handle)

        threading.Thread(target=waiter, daemon=True).start()
        asleep(1)
        print("asleep", flush=True)
        input()
    """
    leaving = child(program(code), "Segment", "blocking_changed", name)
    leaving.expect("in")
    leaving.expect("asleep")
    segment = ringspan.Segment.open(name)
    segment.notify()  # attached, and connected to the door of the sleeper
    leaving.say()
    leaving.finish()
    segment.notify()
    segment.close()
    left = next(info for info in ringspan.segments() if info.name == name)
    assert not left.attached
