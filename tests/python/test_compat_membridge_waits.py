"""membridge: views that wait, and what they do when somebody dies."""

from __future__ import annotations

import asyncio
import signal
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


def program(code: str) -> str:
    return PRELUDE + code


def holder(child: Any, name: str, how: str) -> Any:
    code = f"""
view = mem.map()
with view.{how}() as buf:
    print("held", flush=True)
    if sys.stdin.readline():
        {'buf[:4] = b"half"' if how == "writing" else "pass"}
        print("done", flush=True)
        sys.stdin.read()
"""
    started = child(program(code), name)
    started.expect("held")
    return started


def test_a_killed_writer_is_told_to_all_who_come_later(name: str, child: Any) -> None:
    with SharedMemory.create(name, 1000) as mem:
        view = mem.map()
        view.write("whole")
        writer = holder(child, name, "writing")
        assert view.is_write_locked() is True
        assert repr(view) == "MappedView(data_size=996, readers=0, write_locked=true)"
        writer.say("half")
        writer.expect("done")
        raised: list[BaseException] = []

        def read() -> None:
            try:
                view.read_all()
            except OSError as err:
                raised.append(err)

        reader = threading.Thread(target=read)
        reader.start()
        writer.kill()
        reader.join()
        assert isinstance(raised[0], ringspan.Poisoned)
        assert view.is_poisoned()
        with pytest.raises(ringspan.Poisoned):
            view.write(1)
        view.clear_poison()
        assert view.read_range(0, 4) == b"half"


def test_zero_puts_in_order_what_a_killed_writer_left(name: str, child: Any) -> None:
    with SharedMemory.create(name, 1000) as mem:
        view = mem.map()
        holder(child, name, "writing").kill()
        view.zero()
        assert not view.is_poisoned()
        assert view.read_all() == bytes(996)


def test_a_killed_reader_vanishes(name: str, child: Any) -> None:
    with SharedMemory.create(name, 1000) as mem:
        view = mem.map()
        reader = holder(child, name, "reading")
        assert view.reader_count() == 1
        with pytest.raises(TimeoutError):
            view.write(1, timeout=0.05)
        assert view.tell() == 0
        assert view.read_range(0, 8, timeout=5) == bytes(8)
        writer = threading.Thread(target=view.write, args=(7,))
        writer.start()
        reader.kill()
        writer.join()
        view.seek()
        assert view.read("int") == 7


def test_waiting_leaves_the_interpreter_to_others_and_hears_ctrl_c(name: str, child: Any) -> None:
    mem = SharedMemory.create(name, 1000)
    with mem.map().writing():
        waiter = child(
            program(
                """
import threading
ticks = []
thread = threading.Thread(target=lambda: [ticks.append(time.sleep(0.001)) for _ in range(50)])
thread.start()
def tell():
    thread.join()
    print("ticked", len(ticks), flush=True)
threading.Thread(target=tell).start()
try:
    mem.map().write(1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
            ),
            name,
        )
        waiter.expect("ticked 50")
        waiter.kill(signal.SIGINT)
        waiter.expect("interrupted")
        waiter.finish()
    mem.close()


def test_views_wait_for_their_lock_without_holding_up_the_loop(
    name: str, child: Any, run: Callable[..., Any]
) -> None:
    with SharedMemory.create(name, 1000) as mem:
        view = mem.map()
        writer = holder(child, name, "writing")

        async def scenario() -> None:
            acts = [
                asyncio.ensure_future(act)
                for act in (
                    view.awrite(7, 0),
                    view.awrite_mixed(["a", 1], 8),
                    view.aread_range(0, 8),
                    view.aread_all(),
                    view.aread_mixed([("u8", 4)], 0),
                )
            ]
            cancelled = asyncio.ensure_future(view.awrite("never"))
            await asyncio.sleep(0.05)
            assert not any(act.done() for act in acts)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await view.aread("int")
            writer.say("half")
            writer.expect("done")
            writer.finish()
            await asyncio.gather(*acts)
            assert await view.aread("int") == 7
            assert await view.aread("str") == "a"
            assert view.tell() == 13
            await view.azero()
            assert await view.aread_all() == bytes(996)
            async with view.awriting() as buf:
                buf[:3] = b"abc"
            async with view.areading() as buf:
                assert buf.readonly
                assert bytes(buf[:3]) == b"abc"

        run(scenario())
        view.close()


def test_a_change_wakes_who_waits_for_it(name: str, child: Any, run: Callable[..., Any]) -> None:
    with SharedMemory.create(name, 1000) as mem:
        view = mem.map()
        other = child(
            program(
                """
view = mem.map()
seen = view.version()
print("waiting", flush=True)
for _ in range(6):
    seen = view.changed(seen, timeout=20)
    print("changed", view.read_range(0, 1)[0], flush=True)
    sys.stdin.readline()
"""
            ),
            name,
        )
        other.expect("waiting")

        async def scenario() -> None:
            for act, byte in (
                (view.awrite(True, 0), 1),
                (view.awrite_mixed([b"\x02"], 0), 2),
                (view.azero(), 0),
            ):
                since = view.version()
                changed = asyncio.ensure_future(view.achanged())
                await asyncio.sleep(0)
                await act
                assert await changed == since + 1
                other.expect(f"changed {byte}")
                other.say()

        run(scenario())
        for act, byte in ((lambda: view.write(b"\x05", 0), 5), (view.zero, 0)):
            act()
            other.expect(f"changed {byte}")
            other.say()
        with view.writing() as buf:
            buf[0] = 9
        other.expect("changed 9")
        other.say()
        other.finish()
        with pytest.raises(TimeoutError):
            view.changed(timeout=0.01)
        view.close()


def test_threads_that_read_at_one_cursor_read_each_item_once(name: str) -> None:
    with SharedMemory.create(name, 80000) as mem:
        view = mem.map()
        view.write_mixed(list(range(9000)))
        view.seek()
        found: list[int] = []

        def read() -> None:
            found.extend(view.read("int") for _ in range(3000))

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(9000))


def test_a_view_that_is_closed_while_a_thread_waits_in_it(name: str, child: Any) -> None:
    with SharedMemory.create(name, 1000) as mem:
        # A segment of a size that could be a ring: then the block is the view's alone.
        beside = SharedMemory.create(name + "-own", RING)
        for memory in (mem, beside):
            view = memory.map()
            writer = holder(child, memory.name(), "writing")
            ended: list[BaseException | None] = []

            def wait(view: Any = view, ended: list[BaseException | None] = ended) -> None:
                try:
                    view.write(5, 0, timeout=3600)
                except (ringspan.RingspanError, ValueError) as err:
                    ended.append(err)
                else:
                    ended.append(None)

            thread = threading.Thread(target=wait)
            thread.start()
            while not view._block.stat().parks and not ended:
                threading.Event().wait(0.01)
            view.close()
            with pytest.raises(ValueError):
                view.write(6, 0)
            writer.finish()
            thread.join(60)
            if memory is mem:  # the block is that of `mem`, which is open
                assert ended == [None]
                assert memory.map().read("int") == 5
            else:
                assert [type(error) for error in ended] == [ringspan.HandleClosed]
        beside.close()
        SharedMemory.remove(name + "-own")
    SharedMemory.remove(name)


def test_what_a_collector_runs_while_items_are_read(name: str, run_python: Any) -> None:
    # Lists are made of the items, and a new list may run the collector: not under the lock.
    code = """
import gc
view = membridge.SharedMemory.create(sys.argv[1], 4004).map()
view.write_mixed([1] * 400)
wrote = 0
class Finalized:
    def __init__(self):
        self.me = self
    def __del__(self):
        global wrote
        view.write(2, 3200)
        wrote += 1
gc.set_threshold(1)
for _ in range(50):
    Finalized()
    assert view.read_mixed([("int", 1), ("int", 2)] * 100, 0) == [1, [1, 1]] * 100
assert wrote >= 49, wrote

# What is no text: an exception of CPython's is an object too.
view.write(bytes([2, 0, 0, 0, 255, 254]), 0)
view.write("ok", 6)
for threshold in range(1, 200):
    Finalized()
    view.seek(0)
    gc.set_threshold(1 + threshold % 7)
    assert view.read("str") == chr(0xFFFD) * 2
    assert view.read("str") == "ok"
    assert view.read_mixed([("str", 2)], 0) == [[chr(0xFFFD) * 2, "ok"]]
    for wrong in ("view.read_mixed([('int', 9000)], 0)", "view.read_range(4000, 9)"):
        try:
            eval(wrong)
        except ValueError:
            pass
        else:
            raise AssertionError(wrong)
    gc.set_threshold(700)
assert wrote >= 200, wrote
membridge.SharedMemory.remove(sys.argv[1])
"""
    run_python("import sys\nfrom ringspan.compat import membridge\n" + code, name)
