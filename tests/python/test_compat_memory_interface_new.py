"""What memory_interface never had: waits, time-outs, life and death, distrust of the memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import pickle
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ringspan

# Not by name: the compiled half of an older build may lack what it stands on.
library: Any = importlib.import_module("ringspan.compat.memory_interface")
SHM = Path("/dev/shm")
FOUR = [("SharedBytes", b"abc"), ("SharedInt", -7), ("SharedBool", True), ("SharedString", "abc")]
HEADER = """
    import os, pickle, sys, signal
    from ringspan.compat.memory_interface import *
    def state():
        return pickle.loads(bytes.fromhex(input()))
    def say(*what):
        print(*what, flush=True)
"""


def memories(pid: int) -> list[str]:
    """Names in /dev/shm of what a process has created."""
    return sorted(path.name for path in SHM.glob(f"memif-{pid}-*"))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    assert not memories(os.getpid())


@pytest.fixture
def new() -> Iterator[Callable[..., Any]]:
    """`new(name, *args)`: an object of that class, created with these; cleaned up at the end."""
    there: list[Any] = []

    def make(name: str, *args: Any, **options: Any) -> Any:
        one = getattr(library, name)()
        there.append(one)
        if name == "MemoryInterface":
            one.state = one.create_memorybuf(*args, **options)
        else:
            sizes = {"SharedBytes": (3,), "SharedString": (50,)}
            one.state = one.create_sharedobject(*(args or sizes.get(name, ())))
        return one

    yield make
    for one in there:
        one.cleanup()


@pytest.fixture
def other(child: Callable[..., Any]) -> Callable[..., Any]:
    """`other(code, state)`: a process that runs the code; `state()` is there what it was given."""

    def start(code: str, state: Any = None, *args: object) -> Any:
        process = child(textwrap.dedent(HEADER) + textwrap.dedent(code), *args)
        if state is not None:
            process.say(pickle.dumps(state).hex())
        return process

    return start


def sweep(*all_: Any) -> None:
    """Cleans up, also the doors of who was killed."""
    for one in all_:
        one.cleanup()
    ringspan.gc()


@pytest.fixture
def script(tmp_path: Path, child: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """`script(code)`: a program of its own, as multiprocessing needs it."""
    with contextlib.ExitStack() as stack:

        def start(code: str) -> Any:
            file = tmp_path / "program.py"
            file.write_text(textwrap.dedent(code))
            return stack.enter_context(type(child("pass")).command(sys.executable, file))

        yield start


# ---- waiting -------------------------------------------------------------------------------------


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


def test_several_readers_and_writers_lose_nothing(new: Callable[..., Any]) -> None:
    # More than is promised: one of each is.
    interface = new("MemoryInterface", 10**6, 3)
    found: list[int] = []

    def read() -> None:
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


# ---- order, and one segment ----------------------------------------------------------------------


def test_what_is_full_keeps_the_order(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0] * 9, 3)
    for number in range(5):
        interface.write([number])
    assert interface.get_fullness() == 100
    assert [interface.read() for _ in range(3)] == [[2], [3], [4]]
    assert not interface.can_read()


def test_an_interface_is_one_segment(new: Callable[..., Any]) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    interface = new("MemoryInterface", [0] * 50, 1000)
    there = [library.MemoryInterface(interface.state) for _ in range(20)]
    assert len(memories(os.getpid())) == 1
    assert descriptors() - before < 10
    while interface.can_write():
        interface.write([1])
    assert there[-1].get_fullness() == 100
    state = pickle.loads(pickle.dumps(interface.state))
    assert library.MemoryInterface(state).read() == [1]


# ---- life ----------------------------------------------------------------------------------------


def test_with_cleans_up() -> None:
    for name, args in (("SharedBytes", (3,)), ("SharedInt", ()), ("SharedString", (9,))):
        with getattr(library, name)() as shared:
            state = shared.create_sharedobject(*args)
            with getattr(library, name)(state) as loaded:
                loaded.read()
            assert shared.read() is not None
        assert not memories(os.getpid())
    with library.MemoryInterface() as interface:
        interface.create_memorybuf()
    assert not memories(os.getpid())


def test_what_is_dropped_stays_for_whom_it_was_made(other: Callable[..., Any]) -> None:
    # The creator drops all that it has while the state is on its way.
    creator = other(
        """
        say(pickle.dumps([SharedInt().create_sharedobject(),
                          MemoryInterface().create_memorybuf([0], 2)]).hex())
        say(input())
        """
    )
    number, memory = pickle.loads(bytes.fromhex(creator.line()))
    with library.SharedInt(number) as shared, library.MemoryInterface(memory) as interface:
        creator.say("still here")
        creator.expect("still here")
        creator.finish()
        # Nor does its end, in order, take anything from who has it.
        shared.write(3)
        interface.write([1])
        assert (shared.read(), interface.read()) == (3, [1])
    del number, memory
    gc.collect()
    assert not memories(creator.pid)


def test_the_end_of_a_loader_takes_nothing(
    new: Callable[..., Any], other: Callable[..., Any]
) -> None:
    number, interface = new("SharedInt"), new("MemoryInterface", [0], 2)
    code = """
        one, two = state()
        number, interface = SharedInt(one), MemoryInterface(two)
        number.write(4)
        interface.write([4])
        {end}
    """
    for end in ("number.cleanup(); interface.cleanup()", "pass", "os._exit(0)"):
        other(code.format(end=end), [number.state, interface.state]).finish()
        assert (number.read(), interface.read()) == (4, [4])
    killed = other(code.format(end="say(1); input()"), [number.state, interface.state])
    killed.expect("1")
    killed.kill()
    assert (number.read(), interface.read()) == (4, [4])
    assert len(memories(os.getpid())) == 2
    sweep(number, interface)


def test_a_killed_creator_takes_nothing_and_leaves_nothing(other: Callable[..., Any]) -> None:
    creator = other(
        """
        one, two, three = SharedInt(), MemoryInterface(), SharedString()
        say(pickle.dumps([one.create_sharedobject(), two.create_memorybuf([0], 2)]).hex())
        three.create_sharedobject(10)
        say("made")
        input()
        """
    )
    number, memory = pickle.loads(bytes.fromhex(creator.line()))
    creator.expect("made")
    shared, interface = library.SharedInt(number), library.MemoryInterface(memory)
    creator.kill()
    shared.write(3)
    interface.write([1])
    later = other("say(SharedInt(state()).read())", number)  # it can still be loaded
    later.expect("3")
    later.finish()
    assert len(memories(creator.pid)) == 3
    removed = ringspan.gc().removed
    left = memories(creator.pid)
    assert len(left) == 2  # those that somebody has
    assert [name for name in removed if f"memif-{creator.pid}-" in name]
    assert interface.read() == [1]
    for one in (shared, interface):
        one.cleanup()
    assert not memories(creator.pid)  # the last one out


def test_programs_that_clean_nothing_up_leave_nothing(script: Callable[..., Any]) -> None:
    program = script(
        """
        import os, sys, threading
        from multiprocessing import get_context
        from ringspan.compat.memory_interface import *
        kept = []
        def work(state, memory):
            kept.append((SharedInt(state), MemoryInterface(memory), SharedBool()))
            kept[0][2].create_sharedobject()
            kept[0][0].write(os.getpid())
            kept[0][1].write(os.getpid())
        def poll(number):
            while number.read() != 0:
                pass
        if __name__ == "__main__":
            number, memory = SharedInt(), MemoryInterface()
            args = number.create_sharedobject(), memory.create_memorybuf(10**9, 3)
            for method in ("fork", "spawn", "forkserver"):
                process = get_context(method).Process(target=work, args=args)
                process.start()
                process.join()
                print(process.exitcode, number.read() == memory.read() == process.pid)
                print(process.pid)
            # One more, with a thread that never ends, and that nobody waits for.
            memory.write(1)
            memory.write(1)
            threading.Thread(target=poll, args=(number,), daemon=True).start()
    """
    )
    said = program.finish().splitlines()
    assert said[::2] == ["0 True"] * 3
    assert not program.stderr()
    for pid in (program.pid, *map(int, said[1::2])):
        assert not memories(pid)


def test_a_copy_that_came_by_fork_works_and_destroys_nothing(other: Callable[..., Any]) -> None:
    process = other(
        """
        import warnings
        warnings.simplefilter("ignore")  # of a fork beside threads
        number, text, interface = SharedInt(), SharedString(), MemoryInterface()
        number.create_sharedobject(), text.create_sharedobject(9)
        interface.create_memorybuf([0], 3)
        for round in range(3):
            child = os.fork()
            if not child:
                number.write(number.read() + 1)
                text.write("by fork")
                interface.write([round])
                for one in (number, text, interface):
                    one.cleanup()
                sys.exit()
            assert os.waitpid(child, 0)[1] == 0
            say(number.read(), text.read(), interface.read())
        for one in (number, text, interface):
            one.cleanup()
        say(len([name for name in os.listdir("/dev/shm") if f"memif-{os.getpid()}-" in name]))
        """
    )
    for number in range(3):
        process.expect(f"{number + 1} by fork [{number}]")
    process.expect("0")
    process.finish()


def test_objects_pickle_as_what_has_loaded_them(new: Callable[..., Any]) -> None:
    number, interface = new("SharedInt"), new("MemoryInterface", [0], 2)
    copy, twin = pickle.loads(pickle.dumps((number, interface)))
    copy.write(3)
    twin.write([3])
    assert (number.read(), interface.read()) == (3, [3])
    copy.cleanup()
    twin.cleanup()
    assert (number.read(), interface.can_write()) == (0 + 3, True)
    assert isinstance(pickle.loads(pickle.dumps(library.SharedInt())), library.SharedInt)


def test_what_was_cleaned_up_cannot_be_loaded(
    new: Callable[..., Any], other: Callable[..., Any]
) -> None:
    number, interface = new("SharedInt"), new("MemoryInterface", [0], 2)
    state, memory = pickle.dumps(number.state), pickle.dumps(interface.state)
    number.cleanup()
    interface.cleanup()
    with pytest.raises(FileNotFoundError):
        library.SharedInt(pickle.loads(state))
    with pytest.raises(FileNotFoundError):
        library.MemoryInterface(pickle.loads(memory))
    load = other("state()", number.state)
    assert load.wait() == 1
    assert "NotFound" in load.stderr()


# ---- kill ----------------------------------------------------------------------------------------

#: Kills the process at the given line of the module, counted from the start on.
TRACER = """
    def killing_at(last):
        lines = 0
        def trace(frame, event, arg):
            nonlocal lines
            if "memory_interface" not in frame.f_code.co_filename:
                return None
            if event in ("line", "return"):
                lines += 1
                if lines == last:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace
        return trace
"""

KILLED = """
    import ringspan
    from ringspan.compat.memory_interface import _slots
    step = input()
    poisoned = killed = 0
    with MemoryInterface() as interface:
        state = interface.create_memorybuf(b"x" * 100, 3, False)
        for last in range(1, 10_000):
            # Full for who reads and for who overwrites, else with room for one more.
            interface.reset_read()
            before = [bytes([65 + n]) * (10 * n + 10) for n in range(3 if step != "write" else 2)]
            for item in before:
                interface.write(item)
            child = os.fork()
            if not child:
                there = MemoryInterface(state)
                there.can_read()
                sys.settrace(killing_at(last))
                if step == "read":
                    there.read()
                elif step == "reset":
                    there.reset_read()
                elif step == "both":
                    there.blocking_write(there.blocking_read())
                else:
                    there.write(b"z" * 77)
                sys.settrace(None)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            killed += status != 0
            with interface._here().block.blocking_read(allow_poisoned=True):
                poisoned += interface._here().block.is_poisoned
            new = b"z" * 77
            moved = before[0]
            wanted = {
                "write": [before, [*before, new]],
                "over": [before, [*before[1:], new]],
                "read": [before, before[1:]],
                "reset": [before, []],
                "both": [before, before[1:], [*before[1:], moved]],
            }[step]
            got = []
            while interface.can_read():
                got.append(bytes(interface.read()).rstrip(b"\\0"))
            assert got in wanted, (last, got)
            assert status or got == wanted[-1]
            interface.write(b"next")
            assert interface.read()[:5] == b"next\\0"
            assert not interface._here().block.is_poisoned
            if not status:
                break
    say(killed, poisoned)
    ringspan.gc()
"""


@pytest.mark.parametrize("step", ["write", "over", "read", "reset", "both"])
def test_killed_at_each_line_it_leaves_whole_objects(step: str, other: Callable[..., Any]) -> None:
    process = other(textwrap.dedent(TRACER) + textwrap.dedent(KILLED))
    process.say(step)
    killed, poisoned = map(int, process.line().split())
    assert killed > 10
    assert poisoned > 2  # the lock was held
    process.finish()


WOKEN = """
    import ringspan
    verb = input()
    def asleep(pid):
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "S"
    changed = killed = 0
    with MemoryInterface() as interface:
        state = interface.create_memorybuf(b"x" * 100, 1, False)
        # What the victim changes, and what the one who waits for that change changes then.
        word, after = (0, 8) if verb == "blocking_read" else (8, 0)
        counters = interface._here()._words
        for last in range(1, 10_000):
            interface.reset_read()
            if verb == "blocking_write":
                interface.write(b"old")
            before = counters[word]
            waiter = os.fork()
            if not waiter:
                there = MemoryInterface(state)
                wait = getattr(there, verb)
                wait(*([b"new"] if verb == "blocking_write" else []))
                os._exit(0)
            while not asleep(waiter):
                pass
            victim = os.fork()
            if not victim:
                there = MemoryInterface(state)
                sys.settrace(killing_at(last))
                there.write(b"item") if verb == "blocking_read" else there.read()
                sys.settrace(None)
                os._exit(0)
            status = os.waitpid(victim, 0)[1]
            killed += status != 0
            if counters[word] != before:
                changed += status != 0  # killed behind it: the one who waits must have heard of it
            elif verb == "blocking_read":
                interface.write(b"item")
            else:
                interface.read()
            assert os.waitpid(waiter, 0)[1] == 0
            if not status:
                break
    say(killed, changed)
    ringspan.gc()
"""


@pytest.mark.parametrize("verb", ["blocking_read", "blocking_write"])
def test_killed_at_each_line_it_wakes_who_waits_for_what_it_did(
    verb: str, other: Callable[..., Any]
) -> None:
    process = other(textwrap.dedent(TRACER) + textwrap.dedent(WOKEN))
    process.say(verb)
    killed, changed = map(int, process.line().split())
    assert killed > 10
    assert changed > 2
    process.finish()


def test_threads_of_a_child_go_on_after_its_main_function(script: Callable[..., Any]) -> None:
    program = script(
        """
        import threading, time
        from multiprocessing import get_context
        from ringspan.compat.memory_interface import SharedInt
        def work(memblk):
            number = SharedInt(memblk)
            def later():
                while number.read() == 0:  # until its main function has ended
                    time.sleep(0.01)
                number.write(2)
            threading.Thread(target=later).start()
        if __name__ == "__main__":
            number = SharedInt()
            process = get_context("fork").Process(target=work, args=[number.create_sharedobject()])
            process.start()
            time.sleep(0.2)
            number.write(1)
            process.join()
            print(process.exitcode, number.read())
        """
    )
    assert program.finish() == "0 2\n"
    assert not program.stderr()
    ringspan.gc()


def test_a_writer_killed_in_the_middle_wakes_and_hinders_nobody(
    new: Callable[..., Any], other: Callable[..., Any]
) -> None:
    size = 1 << 20
    interface = new("MemoryInterface", b"x" * size, 2, False)
    code = """
        interface = MemoryInterface(state())
        number = int(sys.argv[1])
        while True:
            interface.blocking_write(number.to_bytes(8, "little") * (1 << 17))
            number += 1
    """
    number = 0
    for _ in range(5):
        writer = other(code, interface.state, number)
        seen = 0
        for _ in range(20):
            item = interface.blocking_read()
            assert item == item[:8] * (size // 8)
            seen = int.from_bytes(item[:8], "little")
            assert seen == number
            number += 1
        writer.kill()
        while interface.can_read():
            item = interface.read()
            assert item == item[:8] * (size // 8)
            assert int.from_bytes(item[:8], "little") == number
            number += 1
        with pytest.raises(ringspan.Timeout):
            interface.blocking_read(timeout=0.01)
    sweep(interface)


def test_a_killed_writer_leaves_the_old_bytes_or_the_new(
    new: Callable[..., Any], other: Callable[..., Any]
) -> None:
    size = 1 << 18
    block = new("SharedBytes", size)
    code = """
        block = SharedBytes(state())
        say("writes")
        number = 0
        while True:
            number = (number + 1) % 256
            block.write(bytes([number]) * block.size_in_bytes)
    """
    for _ in range(5):
        writer = other(code, block.state)
        writer.expect("writes")
        for _ in range(20):
            seen = block.blocking_changed()
            now = block.read()
            assert now == now[:1] * size
        writer.kill()
        assert block.version >= seen
        now = block.read()
        assert now == now[:1] * size
        block.write(bytes(size))
    sweep(block)


# ---- distrust ------------------------------------------------------------------------------------


def raw(one: Any) -> memoryview:
    """The bytes of an interface, as any process of this user could write them."""
    return one._here()._bytes  # type: ignore[no-any-return]


@pytest.mark.parametrize("read", [5, 2**64 - 1])
def test_damaged_counters_are_told(read: int, new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0], 2)
    interface.write([1])
    raw(interface)[64:72] = read.to_bytes(8, "little")
    for verb in (interface.read, interface.blocking_read, interface.reset_read):
        with pytest.raises(ringspan.Damaged, match="MemoryInterface /memif-"):
            verb()
    with pytest.raises(ringspan.Damaged):
        interface.write([1])
    assert 0 <= interface.get_read_pointer() < 2
    assert 0 <= interface.get_fullness() <= 100
    interface.is_valid(0)


def test_a_damaged_length_is_told(new: Callable[..., Any]) -> None:
    interface = new("MemoryInterface", [0], 2)
    interface.write([1])
    raw(interface)[128:136] = (2**40).to_bytes(8, "little")
    with pytest.raises(ringspan.Damaged, match="1099511627776 bytes"):
        interface.read()


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_bytes_are_never_unpickled(new: Callable[..., Any], tmp_path: Path) -> None:
    interface = new("MemoryInterface", b"x" * 500, 2, False)
    interface.write_pickle(Bomb(tmp_path / "boom"))
    with pytest.raises(ValueError, match="use_pickle"):
        interface.read_pickle()
    assert interface.read().startswith(b"\x80")
    # A state that says otherwise than the memory is refused.
    for state in ({**interface.state, "use_pickle": True}, {**interface.state, "memlist": [1]}):
        with pytest.raises(ringspan.Mismatch):
            library.MemoryInterface(state)
    assert not (tmp_path / "boom").exists()


def test_a_value_of_another_kind_is_told(new: Callable[..., Any], tmp_path: Path) -> None:
    block, text = new("SharedBytes", 3), new("SharedString", 5)
    evil = ringspan.Value(block.state["memory"].name, create=False, exact=False, pickle=True)
    for value in ("abc", b"abcd", 7, None, Bomb(tmp_path / "boom")):
        evil.blocking_set(value)
        with pytest.raises((ringspan.Damaged, ringspan.CodecError)):
            block.read()
        with pytest.raises((ringspan.Damaged, ringspan.CodecError)):
            block.write(b"a")
    block.write(b"all")
    assert block.read() == b"all"
    evil.close()
    with ringspan.Value(text.state["memory"].name, create=False) as evil:
        for value in (b"abc", "abcdef", 7):
            evil.blocking_set(value)
            with pytest.raises(ringspan.Damaged, match="SharedString /memif-"):
                text.read()
    assert not (tmp_path / "boom").exists()


def test_a_state_of_another_class_is_refused(new: Callable[..., Any]) -> None:
    number, interface = new("SharedInt"), new("MemoryInterface", [0], 2)
    for state in (interface.state, interface.state["writepointer"], {}, 3, {"memory": 4}):
        with pytest.raises(ValueError):
            library.SharedInt(state)
    for state in (number.state, {}, 3):
        with pytest.raises(ValueError):
            library.MemoryInterface(state)
    with pytest.raises(ValueError, match="SharedInt"):
        library.SharedBool(number.state)


def test_no_room_makes_nothing() -> None:
    with pytest.raises(OSError):
        library.MemoryInterface().create_memorybuf(b"x" * (1 << 20), 1 << 30, False)
    with pytest.raises(ValueError):
        library.MemoryInterface().create_memorybuf([0], 0)
    with pytest.raises(ValueError):
        library.MemoryInterface().create_memorybuf(b"", 3, False)
