"""What a process leaves that is killed while it uses memory_interface."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import ringspan
from compat_tools import memories

pytestmark = pytest.mark.usefixtures("nothing_left")


def sweep(*all_: Any) -> None:
    """Cleans up, also the doors of who was killed."""
    for one in all_:
        one.cleanup()
    ringspan.gc()


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
    assert not memories(process.pid)


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
    assert not memories(process.pid)


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
