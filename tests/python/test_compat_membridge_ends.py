"""membridge: rings that wait, and their ends."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import ringspan
from ringspan.compat import membridge

SharedMemory = membridge.SharedMemory
RING = 1024 + 24
PRELUDE = """
import sys, time
from ringspan.compat import membridge
mem = membridge.SharedMemory.open(sys.argv[1])
"""


def sweep(name: str) -> None:
    """Removes a segment and the doors of those who died at it."""
    SharedMemory.remove(name)
    ringspan.gc()


def program(code: str) -> str:
    return PRELUDE + code


def test_push_and_pop_wait_as_long_as_they_are_told(name: str) -> None:
    with SharedMemory.create(name, RING) as mem, mem.spsc() as ring:
        assert ring.pop(timeout=0.02) is None
        assert ring.pop("int", timeout=0) is None
        assert ring.pop_mixed([("int", 1)], timeout=0.02) is None
        assert ring.push(b"x" * 1000, timeout=1)
        assert ring.push(b"y" * 1000, timeout=0.02) is False
        assert ring.push(b"y" * 1000, timeout=0) is False
        assert ring.used() == 1004

        popped: list[bytes] = []
        thread = threading.Thread(target=lambda: popped.append(ring.pop(timeout=5)))
        pusher = threading.Timer(0.05, thread.start)
        pusher.start()
        assert ring.push(b"y" * 1000, timeout=float("inf"))
        pusher.join()
        thread.join()
        assert popped == [b"x" * 1000]

        late = threading.Timer(0.05, ring.push, ("late",))
        assert ring.pop(timeout=0) == b"y" * 1000
        late.start()
        assert ring.pop("str", timeout=float("inf")) == "late"
        late.join()
        with pytest.raises(ValueError, match="large"):
            ring.push(b"x" * 1021, timeout=1)


def test_messages_are_awaited(name: str, child: Any, run: Callable[..., Any]) -> None:
    with SharedMemory.create(name, RING) as mem, mem.spsc() as ring:
        other = child(
            program(
                """
import asyncio
ring = mem.spsc()
async def main():
    print("ready", flush=True)
    for i in range(2000):
        message = await ring.apop("int")
        assert message == i, (message, i)
    print("popped", flush=True)
asyncio.run(main())
sys.stdin.read()
"""
            ),
            name,
        )
        other.expect("ready")

        async def scenario() -> None:
            for i in range(2000):
                assert await ring.apush(i) is True

        run(scenario())
        other.expect("popped")
        assert ring.is_empty()
        other.finish()


def test_what_is_cancelled_has_taken_and_pushed_nothing(name: str, run: Callable[..., Any]) -> None:
    with SharedMemory.create(name, RING) as mem, mem.spsc() as ring:

        async def scenario() -> None:
            pop = asyncio.ensure_future(ring.apop())
            await asyncio.sleep(0.01)
            pop.cancel()
            assert ring.push(b"x" * 1000)
            with pytest.raises(asyncio.CancelledError):
                await pop
            push = asyncio.ensure_future(ring.apush(b"y" * 1000))
            await asyncio.sleep(0.01)
            push.cancel()
            with pytest.raises(asyncio.CancelledError):
                await push
            assert await ring.apop() == b"x" * 1000
            assert ring.pop() is None
            push = asyncio.ensure_future(ring.apush([1, "a"]))
            assert await ring.apop_mixed([("int", 1), ("str", 1)]) == [1, "a"]
            await push
            for bad in ("what", "int"):
                ring.push("x")
                with pytest.raises(ValueError):
                    await ring.apop(bad)
                assert await ring.apop("str") == "x"

        run(scenario())


def test_a_role_is_one_process_s(name: str, child: Any) -> None:
    mem = SharedMemory.create(name, RING)
    ring = mem.spsc()
    other = child(
        program(
            """
ring = mem.spsc()
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except Exception as err:
        print(type(err).__name__, getattr(err, "pid", None), flush=True)
"""
        ),
        name,
    )
    other.say("ring.push(1)")
    other.expect("True")
    with pytest.raises(ringspan.RoleTaken) as taken:
        ring.push(2)
    assert taken.value.pid == other.pid
    assert ring.pop("int") == 1
    other.say("ring.pop()")
    other.expect(f"RoleTaken {os.getpid()}")
    other.say("ring.used()")
    other.expect("0")
    ring.close()
    with pytest.raises(ringspan.HandleClosed):
        ring.pop()
    other.say("(ring.push(2), ring.pop('int'))")
    other.expect("(True, 2)")
    other.kill()
    again = mem.spsc()
    assert again.push(3)
    assert again.pop("int") == 3
    again.close()
    mem.close()
    sweep(name)


def test_a_killed_producer_leaves_whole_messages_and_its_role(name: str, child: Any) -> None:
    mem = SharedMemory.create(name, RING)
    ring = mem.spsc()
    producer = child(
        program(
            """
ring = mem.spsc()
i = 0
while True:
    i += ring.push(["x" * (i % 90), i])
    if i == 100:
        print("running", flush=True)
"""
        ),
        name,
    )
    i = 0
    while i < 300 or producer.process.returncode is None:
        found = ring.pop_mixed([("str", 1), ("int", 1)])
        if found is not None:
            assert found == ["x" * (i % 90), i]
            i += 1
            if i == 300:
                producer.kill()
                assert not ring.is_empty() or ring.used() == 0
    while (found := ring.pop_mixed([("str", 1), ("int", 1)])) is not None:
        assert found == ["x" * (i % 90), i]
        i += 1
    assert ring.used() == 0
    assert ring.push(b"x" * 1020)
    assert ring.is_full()
    assert ring.pop() == b"x" * 1020
    ring.close()
    mem.close()
    sweep(name)


def test_who_waits_is_told_of_the_other_end(name: str, child: Any, run: Callable[..., Any]) -> None:
    mem = SharedMemory.create(name, RING)
    ring = mem.spsc()
    code = """
ring = mem.spsc()
ring.push("here")
print("pushed", flush=True)
sys.stdin.readline()
"""

    async def waits(producer: Any, end: str) -> None:
        waiting = asyncio.ensure_future(ring.apop())
        await asyncio.sleep(0.02)
        getattr(producer, end)()
        with pytest.raises(ringspan.PeerDied if end == "kill" else ringspan.Closed):
            await waiting
        assert ring.pop() is None
        assert ring.pop(timeout=0.01) is None

    for end in ("kill", "finish"):
        producer = child(program(code), name)
        producer.expect("pushed")
        assert ring.pop("str", timeout=5) == "here"

        run(waits(producer, end))
    ring.close()
    ring = mem.spsc()
    consumer = child(
        program("ring = mem.spsc()\nprint(ring.pop(), flush=True)\nsys.stdin.readline()"), name
    )
    consumer.expect("None")
    while not ring.push(b"x" * 1020):
        pass
    consumer.kill()
    with pytest.raises(ringspan.PeerDied):
        ring.push(b"more", timeout=5)
    # Once: from now on it waits for another consumer.
    assert ring.push(b"more", timeout=0.01) is False
    assert ring.push(b"more") is False
    ring.close()
    mem.close()
    sweep(name)


def test_no_kill_leaves_a_wrong_count(name: str, child: Any) -> None:
    mem = SharedMemory.create(name, RING)
    for role in ("push", "pop") * 5:
        ring = mem.spsc()
        act = "ring.push(bytes(i % 90))" if role == "push" else "ring.pop()"
        other = child(
            program(
                f"""
ring = mem.spsc()
i = 0
while True:
    i += 1
    {act}
    if i == 200:
        print("running", flush=True)
"""
            ),
            name,
        )
        if role == "push":
            other.expect("running")
            for _ in range(300):
                ring.pop()
        else:
            for i in range(5000):
                ring.push(bytes(i % 90))
            other.expect("running")
        other.kill()
        left = []
        used = ring.used()
        assert (ring.free(), ring.is_empty()) == (1024 - used, used == 0)
        while (message := ring.pop()) is not None:
            left.append(message)
        assert used == sum(len(message) + 4 for message in left)
        assert ring.used() == 0
        assert ring.push(b"z" * 1020)
        assert (ring.used(), ring.push(b"")) == (1024, False)
        assert ring.pop() == b"z" * 1020
        ring.close()
    mem.close()
    sweep(name)


def test_who_only_looks_counts_the_same(name: str, child: Any) -> None:
    mem = SharedMemory.create(name, RING)
    ring = mem.spsc()
    onlooker = child(
        program("ring = mem.spsc()\nfor line in sys.stdin:\n    print(ring.used(), flush=True)"),
        name,
    )
    for i in range(300):
        ring.push(bytes(i % 50))
        if i % 3:
            ring.pop()
        if i % 20 == 0:
            onlooker.say("look")
            onlooker.expect(str(ring.used()))
    onlooker.finish()
    ring.close()
    mem.close()
    sweep(name)
