"""What ends a blocking wait from outside, and what does not: closes, the end, forks."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest

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


# ---- the end of the program, and children --------------------------------------------------------


def test_a_daemon_thread_works_until_the_end(name: str, run_python: Start) -> None:
    # The handler was registered before ringspan was imported, so it runs last.
    code = """
import atexit, sys, threading

def stop():
    for _ in range(64):
        tx.blocking_push(b"x" * 256, 60)
    tx.blocking_push(None, 60)
    thread.join(60)
    print("drained", len(got), flush=True)

atexit.register(stop)
import ringspan

tx = ringspan.Producer(sys.argv[1], capacity=4096)
rx = ringspan.Consumer(sys.argv[1])
ringspan.remove(sys.argv[1])
got = []

def drain():
    while (message := rx.blocking_pop()) is not None:
        got.append(message)

thread = threading.Thread(target=drain, daemon=True)
thread.start()
"""
    assert run_python(code, name).stdout == "drained 64\n"


def test_a_child_of_a_sleeping_parent_has_no_wakeup_fd(name: str, run_python: Start) -> None:
    code = """
import os, signal, sys, tempfile, threading
import ringspan

segment = ringspan.Segment.create(sys.argv[1], 8)
status = []

def fork():
    threading.Event().wait(0.5)  # the main thread is asleep by then
    if (pid := os.fork()) == 0:
        files = [tempfile.TemporaryFile(buffering=0) for _ in range(20)]
        signal.signal(signal.SIGUSR1, lambda *_: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        stray = [file for file in files if os.fstat(file.fileno()).st_size]
        os._exit(len(stray) + (signal.set_wakeup_fd(-1) != -1))
    status.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    segment.notify()

forking = threading.Thread(target=fork)
forking.start()
segment.blocking_changed(timeout=60)
forking.join(60)
assert status == [0], status
segment.remove()
"""
    # From 3.12 on there is a warning of forks beside threads.
    assert "wakeup fd" not in run_python(code, name).stderr
