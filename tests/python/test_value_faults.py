"""Value and the shared numbers: what goes wrong in callables, and limits of time."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def value(name: str) -> Iterator[ringspan.Value]:
    with ringspan.Value(name) as value:
        yield value


@pytest.mark.parametrize("raised", [StopIteration, StopIteration(42), StopAsyncIteration])
def test_the_end_of_an_iterator_is_no_result(
    value: ringspan.Value, name: str, run: Run, raised: Any
) -> None:
    number = ringspan.SharedInt(f"{name}-n", ephemeral=True)
    value.blocking_set(1)

    def stop(_: object) -> Any:
        raise raised

    async def main() -> None:
        ends = isinstance(raised, StopIteration) or raised is StopIteration
        wanted = RuntimeError if ends else StopAsyncIteration
        for verb in (value.update, value.wait_for, number.wait_for):
            task = asyncio.ensure_future(verb(stop))  # the awaitable is the task's coroutine
            with pytest.raises(wanted) as info:
                await asyncio.wait_for(asyncio.shield(task), 20)
            if ends:
                assert isinstance(info.value.__cause__, StopIteration)
            with pytest.raises(wanted):
                await verb(stop)
        with pytest.raises(wanted):
            await asyncio.ensure_future(value.compare_and_set(Odd(), 2))

    class Odd:
        def __eq__(self, _: object) -> bool:
            raise raised

        __hash__ = object.__hash__

    run(main())
    with pytest.raises(type(raised) if isinstance(raised, Exception) else raised):
        value.blocking_update(stop)
    assert value.try_set("free")
    number.close()


def test_what_cannot_be_called_is_refused_at_the_call(value: ringspan.Value, name: str) -> None:
    number = ringspan.SharedFloat(f"{name}-n", ephemeral=True)
    for verb in (
        value.update,
        value.blocking_update,
        value.wait_for,
        value.blocking_wait_for,
        number.wait_for,
        number.blocking_wait_for,
    ):
        with pytest.raises(TypeError, match="a callable is wanted, not int"):
            verb(3)  # type: ignore[operator]
    number.close()


def test_a_time_out_ends_a_wait_for_what_changes_all_the_time(
    value: ringspan.Value, name: str
) -> None:
    number = ringspan.SharedInt(f"{name}-n", ephemeral=True)
    value.blocking_set(0)

    def never(change: Callable[[], object]) -> Callable[[object], bool]:
        def look(_: object) -> bool:
            change()  # it never sleeps
            return False

        return look

    with pytest.raises(ringspan.Timeout, match="wait_for"):
        number.blocking_wait_for(never(lambda: number.add(1)), 0.01)
    with pytest.raises(ringspan.Timeout, match="wait_for"):
        value.blocking_wait_for(never(lambda: value.try_set(1)), 0.01)
    with pytest.raises(ringspan.Timeout, match="wait_for"):
        value.blocking_wait_for(never(lambda: value.try_set(1)), 0)
    assert number.blocking_wait_for(lambda n: n, 0) > 0
    number.close()


def test_a_flag_is_what_it_holds(name: str) -> None:
    stop = ringspan.SharedBool(name)
    assert not stop
    thread = threading.Timer(0.01, stop.store, [True])
    thread.start()
    while not stop:
        time.sleep(0)
    thread.join()
    assert bool(stop) is True
    stop.close()
    with pytest.raises(ringspan.HandleClosed):
        bool(stop)


def test_when_arrays_are_read_and_compared(value: ringspan.Value, run: Run) -> None:
    async def main() -> None:
        array = np.zeros(100_000, "u1")
        setting = value.set(array)
        array[0] = 7
        await setting
        assert value.get()[0] == 7
        numbers = [1]
        setting = value.set(numbers)
        numbers.append(2)
        await setting
        assert value.get() == [1]
        await value.set(np.arange(3))
        with pytest.raises(ValueError, match="ambiguous"):
            await value.compare_and_set(np.arange(3), 1)
        assert await value.update(lambda old: old.sum()) == 3

    run(main())


READS = """
import sys, ringspan
value = ringspan.Value(sys.argv[1])
print("ready", flush=True)
try:
    while True:
        value.get()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    with ringspan.Value(sys.argv[1]) as other:
        other.blocking_set(1, timeout=20)
"""


def test_ctrl_c_ends_reading_what_is_set_all_the_time(
    value: ringspan.Value, name: str, child: Callable[..., Any]
) -> None:
    value.blocking_set(bytes(1 << 20))
    reader = child(READS, name)
    reader.expect("ready")
    big = bytes(1 << 20)
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        value.blocking_set(big, timeout=20)
    reader.kill(signal.SIGINT)
    value.blocking_set(big, timeout=20)
    reader.expect("interrupted")
    assert reader.wait() == 0
