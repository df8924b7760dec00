"""What memory_interface never had: waits and time-outs."""

from __future__ import annotations

import asyncio
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import ringspan

pytestmark = pytest.mark.usefixtures("nothing_left")
FOUR = [("SharedBytes", b"abc"), ("SharedInt", -7), ("SharedBool", True), ("SharedString", "abc")]


@pytest.mark.parametrize(("name", "value"), FOUR)
def test_a_change_by_another_process_is_awaited(
    name: str,
    value: Any,
    new: Callable[..., Any],
    other: Callable[..., Any],
    run: Callable[..., Any],
) -> None:
    shared = new(name)
    writer = other(
        """
        shared = globals()[sys.argv[1]](state())
        for value in (eval(line) for line in sys.stdin):
            shared.write(value)
        """,
        shared.state,
        name,
    )

    async def main() -> None:
        seen = shared.version
        waiting = asyncio.create_task(shared.achanged(seen))
        wanted = asyncio.create_task(shared.await_for(lambda now: now == value))
        await asyncio.sleep(0)
        writer.say(repr(value))
        assert await waiting == seen + 1
        assert await wanted == value
        assert await shared.achanged(seen) == seen + 1
        await shared.awrite(value)
        assert shared.version == seen + 2

    run(main())
    writer.finish()


@pytest.mark.parametrize(("name", "value"), FOUR)
def test_a_change_by_another_process_ends_the_sleep_of_a_thread(
    name: str, value: Any, new: Callable[..., Any], other: Callable[..., Any]
) -> None:
    shared = new(name)
    code = """
        shared = globals()[sys.argv[1]](state())
        say("ready")
        value = eval(sys.argv[2])
        say(shared.blocking_wait_for(lambda now: now == value), shared.blocking_changed(0))
    """
    waiter = other(code, shared.state, name, repr(value))
    waiter.expect("ready")
    with pytest.raises(TimeoutError):
        shared.blocking_changed(timeout=0.01)
    with pytest.raises(TimeoutError):
        shared.blocking_wait_for(lambda now: now == value, timeout=0.01)
    shared.write(value)
    shown = bytearray(value) if name == "SharedBytes" else value
    waiter.expect(f"{shown} 1")
    waiter.finish()


def test_a_part_is_written_over_what_is_there(
    new: Callable[..., Any], run: Callable[..., Any]
) -> None:
    block = new("SharedBytes", 5)

    async def main() -> None:
        assert await block.awrite(b"hello") is True
        assert await block.awrite(b"J") is True
        assert await block.awrite(b"") is True

    run(main())
    assert block.read() == b"Jello"
    assert block.write(b"C", timeout=1) is True
    assert block.read() == b"Cello"


def test_reading_waits_for_writing(
    new: Callable[..., Any], other: Callable[..., Any], run: Callable[..., Any]
) -> None:
    interface = new("MemoryInterface", [0] * 50, 3)
    writer = other(
        """
        interface = MemoryInterface(state())
        for line in sys.stdin:
            interface.write([int(line)])
        """,
        interface.state,
    )

    async def main() -> None:
        for number in range(20):
            reading = asyncio.create_task(interface.aread())
            await asyncio.sleep(0)
            writer.say(number)
            assert await reading == [number]

    run(main())
    with pytest.raises(ringspan.Timeout):
        interface.blocking_read(timeout=0.01)
    writer.say(7)
    assert interface.blocking_read() == [7]
    writer.finish()


def test_writing_waits_for_reading(
    new: Callable[..., Any], other: Callable[..., Any], run: Callable[..., Any]
) -> None:
    interface = new("MemoryInterface", [0] * 50, 2)
    reader = other(
        """
        interface = MemoryInterface(state())
        for _ in sys.stdin:
            say(interface.blocking_read())
        """,
        interface.state,
    )
    interface.write([0])
    interface.write([1])

    async def main() -> None:
        for number in range(2, 20):
            writing = asyncio.create_task(interface.awrite([number]))
            await asyncio.sleep(0)
            assert not interface.can_write()
            reader.say()
            assert await writing == len(pickle.dumps([number]))
            reader.expect(f"[{number - 2}]")

    run(main())
    with pytest.raises(ringspan.Timeout):
        interface.blocking_write([20], timeout=0.01)
    reader.say()
    assert interface.blocking_write([20]) == len(pickle.dumps([20]))
    reader.expect("[18]")
    reader.say()
    reader.say()
    reader.expect("[19]")
    reader.expect("[20]")
    reader.finish()


@pytest.mark.parametrize("use_pickle", [True, False])
def test_all_that_is_written_by_waiting_is_read_by_waiting(
    use_pickle: bool, new: Callable[..., Any], other: Callable[..., Any], run: Callable[..., Any]
) -> None:
    interface = new("MemoryInterface", b"x" * 300, 3, use_pickle)
    echo = """
        import asyncio
        there, back = (MemoryInterface(one) for one in state())
        async def main():
            for number in range(2000):
                item = await there.aread()
                assert int(item[:8]) == number, item
                await back.awrite(bytes(item))
        def blocking():
            for number in range(2000):
                item = there.blocking_read()
                assert int(item[:8]) == number, item
                back.blocking_write(bytes(item))
        asyncio.run(main())
        blocking()
    """
    back = new("MemoryInterface", b"x" * 300, 3, use_pickle)
    process = other(echo, [interface.state, back.state])

    async def send() -> None:
        for _ in range(2):
            for number in range(2000):
                await interface.awrite(b"%08d" % number + b"." * (number % 200))

    async def main() -> None:
        sending = asyncio.create_task(send())
        for _ in range(2):
            for number in range(2000):
                item = await back.aread()
                assert item.rstrip(b"\0") == b"%08d" % number + b"." * (number % 200)
        await sending

    run(main())
    process.finish()


def test_a_cancelled_wait_takes_and_writes_nothing(
    new: Callable[..., Any], run: Callable[..., Any]
) -> None:
    interface = new("MemoryInterface", [0] * 9, 1)

    async def main() -> None:
        for _ in range(3):
            reading = asyncio.create_task(interface.aread())
            await asyncio.sleep(0.01)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        interface.write([1])
        for _ in range(3):
            writing = asyncio.create_task(interface.awrite([2]))
            await asyncio.sleep(0.01)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await interface.awrite([2])
        assert await interface.aread() == [1]
        assert not interface.can_read()

    run(main())


class Unreadable:
    """Raises a ValueError when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_waiting_does_not_take_what_cannot_be_unpickled(
    new: Callable[..., Any], run: Callable[..., Any]
) -> None:
    interface = new("MemoryInterface", b"x" * 300, 3)
    interface.write(Unreadable())

    async def main() -> None:
        with pytest.raises(ValueError, match="no number"):
            await interface.aread()

    run(main())
    with pytest.raises(ValueError, match="no number"):
        interface.blocking_read()
    assert interface.can_read()


@pytest.mark.parametrize("awaited", [False, True])
def test_several_readers_and_writers_lose_nothing(awaited: bool, new: Callable[..., Any]) -> None:
    # More than is promised: one of each is.
    interface = new("MemoryInterface", 10**6, 3)
    found: list[int] = []

    async def read_awaited() -> None:
        while (number := await interface.aread()) >= 0:
            found.append(number)

    def read() -> None:
        if awaited:
            asyncio.run(read_awaited())
            return
        while (number := interface.blocking_read()) >= 0:
            found.append(number)

    def write(start: int) -> None:
        for number in range(start, start + 300):
            interface.blocking_write(number)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(start,)) for start in (0, 300)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    for _ in readers:
        interface.blocking_write(-1)
    for thread in readers:
        thread.join()
    assert sorted(found) == list(range(600))


def test_a_loader_learns_that_nobody_can_write_any_more(
    new: Callable[..., Any], other: Callable[..., Any]
) -> None:
    interface, number = new("MemoryInterface", [0] * 9, 2), new("SharedInt")
    waiter = other(
        """
        states = state()
        import ringspan
        for one in (MemoryInterface(states[0]).blocking_read,
                    SharedInt(states[1]).blocking_changed):
            say("waits")
            try:
                one()
            except ringspan.Removed:
                say("removed")
        """,
        [interface.state, number.state],
    )
    for one in (interface, number):
        waiter.expect("waits")
        one.cleanup()
        waiter.expect("removed")
    waiter.finish()


@pytest.mark.parametrize("verb", ["blocking_read", "blocking_write"])
def test_ctrl_c_ends_a_wait(verb: str, new: Callable[..., Any], other: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0] * 9, 1)
    if verb == "blocking_write":
        interface.write([1])
    waiter = other(
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interface = MemoryInterface(state())
        try:
            say("waits")
            getattr(interface, sys.argv[1])(*([[2]] if sys.argv[1] == "blocking_write" else []))
        except KeyboardInterrupt:
            say("interrupted")
        """,
        interface.state,
        verb,
    )
    waiter.expect("waits")
    time.sleep(0.1)  # most likely it sleeps by then
    waiter.kill(signal.SIGINT)
    waiter.expect("interrupted")
    waiter.finish()
