"""`serve_in_background`: a thread that serves, from plain scripts; how programs end with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ringspan

Start = Callable[..., Any]


def is_gone(name: str) -> bool:
    return not Path("/dev/shm", name.lstrip("/")).exists()


def test_it_serves_while_the_caller_goes_on(name: str) -> None:
    @ringspan.function(name)
    async def where() -> list[Any]:
        return [os.getpid(), threading.current_thread().name]

    with ringspan.serve_in_background(where) as server:
        assert ringspan.blocking_call(name) == [os.getpid(), "ringspan server"]
        assert server.stats().calls == 1 and server.stats().percentile(0.5) is not None
    assert is_gone(name)
    server.stop()
    with pytest.raises((ringspan.NotFound, ringspan.NotServed)):
        ringspan.blocking_call(name)


def test_two_servers_call_each_other(name: str) -> None:
    other = f"{name}-2"
    down = ringspan.function(name)(lambda n: n and ringspan.blocking_call(other, n - 1))
    up = ringspan.function(other)(lambda n: n and ringspan.blocking_call(name, n - 1))
    with ringspan.serve_in_background(down), ringspan.serve_in_background(up):
        with pytest.raises(ringspan.RoleTaken, match=str(os.getpid())):
            ringspan.serve_in_background(down)
        # One worker each: two deep at most.
        assert ringspan.blocking_call(name, 1) == 0
    with pytest.raises(ringspan.RoleTaken), ringspan.serve_in_background(up):
        ringspan.serve_in_background(down, up)
    assert is_gone(name) and is_gone(other)


def test_a_call_under_way_is_finished_or_given_up(name: str) -> None:
    @ringspan.function(name)
    async def later(seconds: float) -> str:
        import asyncio

        await asyncio.sleep(seconds)
        return "done"

    for seconds, grace in ((0.2, 10), (100, 0.05), (100, 0)):
        found: list[Any] = []

        def call(seconds: float = seconds, found: list[Any] = found) -> None:
            try:
                found.append(ringspan.blocking_call(name, seconds))
            except ringspan.RingspanError as error:
                found.append(type(error))

        server = ringspan.serve_in_background(later)
        thread = threading.Thread(target=call)
        thread.start()
        while not server.stats().in_flight:
            time.sleep(0.001)
        server.stop(grace)
        thread.join()
        if grace == 10:
            assert found == ["done"]
        else:
            assert found[0] in (ringspan.Disconnected, ringspan.RemoteError), found
        assert is_gone(name)


def test_removing_the_name_ends_it(name: str) -> None:
    server = ringspan.serve_in_background(ringspan.function(name)(abs))
    ringspan.remove(name)
    server.join()
    assert is_gone(name)
    server.stop()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_handler_that_ends_its_loop_gives_the_name_back(name: str, kind: type) -> None:
    @ringspan.function(name, inline=True)
    def leave() -> None:
        raise kind(3)

    server = ringspan.serve_in_background(leave)
    with pytest.raises(ringspan.RingspanError):
        ringspan.blocking_call(name)
    with pytest.raises(kind):
        server.join()
    assert is_gone(name)


def test_ctrl_c_goes_to_the_callers_thread(name: str) -> None:
    with ringspan.serve_in_background(ringspan.function(name)(abs)) as server:
        for wait in (server.join, lambda: time.sleep(20)):
            timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                wait()
            timer.join()
        assert ringspan.blocking_call(name, -1) == 1


ENDS = """
    import os, signal, sys, threading, time, asyncio, ringspan
    name, how = sys.argv[1:]
    service = ringspan.Service(name)
    @service.method
    async def later(): await asyncio.sleep(100)
    @service.method
    def busy():
        while True: sum(range(1000))
    @service.method
    async def blocks(): time.sleep(100)
    @service.method
    def ticks():
        while True: yield bytes(1000)
    server = ringspan.serve_in_background(service)
    def call(what, *args):
        try: what(*args)
        except BaseException: pass
    f = ringspan.blocking_connect(name)
    calls = [f.later, f.busy, lambda: [0 for _ in f.ticks.stream()]]
    if how == "blocks": calls.append(f.blocks)
    if how != "idle":
        for one in calls:
            threading.Thread(target=call, args=(one,), daemon=True).start()
        while server.stats().in_flight < len(calls): time.sleep(0.001)
        time.sleep(0.02)
    print("calling", flush=True)
    if how == "exception": raise ValueError("on purpose")
    if how == "exit": sys.exit(7)
    if how == "sigterm": time.sleep(100)
"""


@pytest.mark.parametrize(
    ("how", "status"),
    [("idle", 0), ("end", 0), ("exception", 1), ("exit", 7), ("blocks", 0), ("sigterm", -15)],
)
def test_a_program_that_ends_gives_its_names_back(
    child: Start, name: str, how: str, status: int
) -> None:
    one = child(ENDS, name, how)
    one.expect("calling")
    if how == "sigterm":
        one.kill(signal.SIGTERM)
    assert one.wait() == status, one.stderr()
    if how == "exception":
        assert "on purpose" in one.stderr()
    elif how != "sigterm":
        assert one.stderr() == ""
    if how == "sigterm":
        ringspan.gc()
        ringspan.remove(name, missing_ok=True)
        ringspan.gc()
    assert is_gone(name)


def test_a_handler_of_a_daemon_thread_does_not_disturb_the_end(child: Start, name: str) -> None:
    for turn in range(5):
        one = child(ENDS, f"{name}-{turn}", "end")
        one.expect("calling")
        assert one.wait() == 0 and one.stderr() == ""
