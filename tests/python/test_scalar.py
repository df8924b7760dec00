"""SharedInt, SharedFloat, SharedBool: what they hold and refuse, and waiting for a change."""

from __future__ import annotations

import asyncio
import copy
import math
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
INT, FLOAT, BOOL = ringspan.SharedInt, ringspan.SharedFloat, ringspan.SharedBool
CLASSES = [INT, FLOAT, BOOL]
MOST, LEAST = 2**63 - 1, -(2**63)
# For each class: what a new one holds, and two other numbers.
NUMBERS = [(INT, 0, -7, 2**40), (FLOAT, 0.0, -1.5, 1e300), (BOOL, False, True, False)]
EACH = pytest.mark.parametrize(("kind", "zero", "one", "two"), NUMBERS, ids=["i", "f", "b"])


@EACH
def test_it_holds_a_number_of_its_type(name: str, kind: Any, zero: Any, one: Any, two: Any) -> None:
    with kind(name) as here, kind(name, one) as there:
        assert repr(here.load()) == repr(zero) == repr(there.load()), "the opener has no say"
        assert here.version == 0
        assert here.store(one) is None
        assert repr(there.load()) == repr(one)
        assert repr(there.swap(two)) == repr(one)
        assert there.compare_exchange(one, zero) is False
        assert there.compare_exchange(two, one) is True
        assert repr(here.load()) == repr(one)
        assert here.version == there.version == 3, "what was not done is not counted"
        here.store(one)
        assert there.version == 4, "the same number again is a change"
        assert here.stat().attached == 2
        assert f"now {'true' if one is True else one}" in repr(here)
        assert name in repr(here) and kind.__name__ in repr(here)


@EACH
def test_it_is_opened_or_made_as_asked(name: str, kind: Any, zero: Any, one: Any, two: Any) -> None:
    with pytest.raises(ringspan.NotFound, match=name):
        kind(name, create=False)
    with kind(name, one, create=True, mode=0o640, ephemeral=True) as made:
        assert repr(made.load()) == repr(one)
        assert (made.name, made.is_ephemeral) == (name, True)
        assert Path("/dev/shm", name[1:]).stat().st_mode & 0o777 == 0o640
        with pytest.raises(ringspan.AlreadyExists, match=name):
            kind(name, create=True)
        with kind(name, two, create=False, ephemeral=False) as opened:
            assert opened.is_ephemeral
            assert repr(opened.load()) == repr(one)
        for other in (*(c for c in CLASSES if c is not kind), ringspan.Value, ringspan.Ring):
            with pytest.raises(ringspan.Mismatch, match=name):
                other(name)
        with pytest.raises(ringspan.InvalidOption, match="mode"):
            kind(f"{name}-mode", mode=0o777)
    assert not Path("/dev/shm", name[1:]).exists()
    with kind(name) as made:
        made.remove()
        with pytest.raises(ringspan.NotFound, match=name):
            made.remove()
        made.store(one)
        assert repr(made.load()) == repr(one), "who has it open goes on"


WRONG = {
    INT: [True, 1.0, "1", None, b"1", 1j, np.bool_(True)],
    FLOAT: [True, "1", None, b"1", 1j, np.bool_(True)],
    BOOL: [1, 0, 1.0, "True", None, np.bool_(True)],
}


@pytest.mark.parametrize("kind", CLASSES)
def test_other_types_are_refused(name: str, kind: Any) -> None:
    with kind(name) as shared:
        zero = shared.load()
        for wrong in WRONG[kind]:
            verbs = [
                lambda wrong=wrong: shared.store(wrong),
                lambda wrong=wrong: shared.swap(wrong),
                lambda wrong=wrong: shared.compare_exchange(wrong, zero),
                lambda wrong=wrong: shared.compare_exchange(zero, wrong),
            ]
            if wrong is not None:
                verbs.append(lambda wrong=wrong: kind(f"{name}-initial", wrong))
            if kind is not BOOL:
                verbs.append(lambda wrong=wrong: shared.add(wrong))
            for verb in verbs:
                with pytest.raises(TypeError):
                    verb()
        assert shared.version == 0
        assert not Path("/dev/shm", f"{name[1:]}-initial").exists()
    assert not hasattr(BOOL, "add")


def test_an_int_has_64_bits(name: str) -> None:
    with INT(name, MOST) as shared:
        assert shared.load() == MOST
        for far in (MOST + 1, LEAST - 1, 10**30):
            for verb in (shared.store, shared.swap, shared.add, lambda n: INT(f"{name}-n", n)):
                with pytest.raises(OverflowError):
                    verb(far)
            with pytest.raises(OverflowError):
                shared.compare_exchange(MOST, far)
        with pytest.raises(OverflowError, match=f"{name}.*{MOST}"):
            shared.add(1)
        assert (shared.load(), shared.version) == (MOST, 0), "nothing has changed"
        assert shared.add(LEAST) == -1
        assert shared.add(LEAST + 1) == LEAST
        with pytest.raises(OverflowError, match=str(LEAST)):
            shared.add(-1)
        assert (shared.load(), shared.version) == (LEAST, 2)
        assert shared.add(np.int32(5)) == LEAST + 5, "what has __index__ is an int"


def test_floats_follow_ieee(name: str) -> None:
    with FLOAT(name, math.nan) as shared:
        assert math.isnan(shared.load())
        assert shared.compare_exchange(math.nan, 1.0) is False, "a NaN equals nothing"
        assert math.isnan(shared.add(1.0))
        shared.store(-0.0)
        assert math.copysign(1, shared.load()) == -1
        assert shared.compare_exchange(0.0, 3) is True, "the zeros equal each other"
        assert repr(shared.load()) == "3.0"
        assert shared.add(0.5) == 3.5
        assert shared.add(math.inf) == math.inf
        assert math.isnan(shared.add(-math.inf))
        assert math.isnan(shared.swap(sys.float_info.max))
        assert shared.add(sys.float_info.max) == math.inf
        with pytest.raises(OverflowError):
            shared.store(10**400)
        assert shared.load() == math.inf


@EACH
def test_changes_are_awaited(name: str, run: Run, kind: Any, zero: Any, one: Any, two: Any) -> None:
    async def wait() -> None:
        with kind(name) as here, kind(name) as there:
            for writer in (here, there):
                since = here.version
                waiting = [asyncio.ensure_future(here.changed(since)) for _ in range(3)]
                waiting.append(asyncio.ensure_future(here.changed()))
                fits = asyncio.ensure_future(here.wait_for(lambda now: now == one))
                await asyncio.sleep(0.01)
                assert not any(task.done() for task in (*waiting, fits))
                writer.store(zero)
                assert await asyncio.gather(*waiting) == [since + 1] * 4
                await asyncio.sleep(0.01)
                assert not fits.done()
                writer.store(one)
                assert repr(await fits) == repr(one)
                assert await here.changed(since) == since + 2
                writer.store(zero)
            fails = asyncio.ensure_future(here.wait_for(lambda now: now != zero and 1 / 0))
            await asyncio.sleep(0)
            there.store(one)
            with pytest.raises(ZeroDivisionError):
                await fails
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await here.changed()
            closing = [asyncio.ensure_future(here.changed())]
            closing.append(asyncio.ensure_future(here.wait_for(lambda now: now is None)))
            await asyncio.sleep(0.01)
            here.close()
            for task in closing:
                with pytest.raises(ringspan.HandleClosed, match=name):
                    await task

    run(wait())


@EACH
def test_changes_are_waited_for_by_threads(
    name: str, kind: Any, zero: Any, one: Any, two: Any
) -> None:
    with kind(name) as here, kind(name) as there:
        for verb in (here.blocking_changed, lambda **o: here.blocking_wait_for(bool, **o)):
            with pytest.raises(ringspan.Timeout, match=name):
                verb(timeout=0.01)
            with pytest.raises(ValueError, match="timeout"):
                verb(timeout=-1)
        got: list[Any] = []
        for writer in (here, there):
            since = here.version
            waits = [(here.blocking_changed, since)] * 3 + [(here.blocking_wait_for, bool)]
            threads = [
                threading.Thread(target=lambda verb, what: got.append(verb(what, 20)), args=wait)
                for wait in waits
            ]
            for thread in threads:
                thread.start()
            writer.store(one)
            for thread in threads:
                thread.join(20)
            assert sorted(map(repr, got)) == sorted(map(repr, [since + 1] * 3 + [one]))
            got.clear()
            writer.store(zero)
        assert here.blocking_wait_for(lambda now: now == zero) == zero
        # One connection may stay at the door of a handle that has not looked there since.
        assert here.stat().pidfds == 0
        assert here.stat().connections <= 1


def test_add_counts_exactly(name: str) -> None:
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with INT(name) as here, INT(name) as there, FLOAT(f"{name}-f") as number:
            sums: list[int] = []

            def add(handle: ringspan.SharedInt) -> None:
                for _ in range(2000):
                    sums.append(handle.add(1))
                    number.add(0.5)

            threads = [threading.Thread(target=add, args=(handle,)) for handle in (here, there) * 4]
            for thread in threads:
                thread.start()
            assert here.blocking_wait_for(lambda n: n == 16_000) == 16_000
            for thread in threads:
                thread.join()
            assert sorted(sums) == list(range(1, 16_001)), "each sum is given once"
            assert number.load() == 8000.0
            assert here.version == 16_000
    finally:
        sys.setswitchinterval(old)


def test_ctrl_c_ends_a_wait(name: str, child: Callable[..., Any]) -> None:
    process = child(
        """
        import sys, ringspan
        shared = ringspan.SharedInt(sys.argv[1])
        while True:
            try:
                print("waits", flush=True)
                print(shared.blocking_wait_for(bool), flush=True)
                break
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        """,
        name,
    )
    for n in range(50):
        process.expect("waits")
        time.sleep(n % 10 * 0.0003)  # before, in and after the way to sleep
        process.kill(signal.SIGINT)
        process.expect("interrupted")
    process.expect("waits")
    with INT(name) as shared:
        shared.store(7)
    process.expect("7")
    process.finish()


@EACH
def test_pickle_and_close(name: str, run: Run, kind: Any, zero: Any, one: Any, two: Any) -> None:
    shared = kind(name, one)
    for other in (pickle.loads(pickle.dumps(shared)), copy.copy(shared)):
        assert type(other) is kind
        assert repr(other.load()) == repr(one)
        other.store(two)
        assert repr(shared.swap(one)) == repr(two)
        other.close()
    with shared as entered:
        assert entered is shared
    shared.close()
    assert repr(shared) == f'<ringspan.{kind.__name__} "{name}", closed>'
    assert (shared.name, shared.is_ephemeral) == (name, False)

    async def awaited(verb: Callable[[], Any]) -> None:
        await verb()

    verbs = [
        shared.load,
        lambda: shared.store(one),
        lambda: shared.swap(one),
        lambda: shared.compare_exchange(one, two),
        lambda: shared.version,
        shared.stat,
        shared.blocking_changed,
        lambda: shared.blocking_wait_for(bool),
        lambda: run(awaited(shared.changed)),
        lambda: run(awaited(lambda: shared.wait_for(bool))),
    ]
    if kind is not BOOL:
        verbs.append(lambda: shared.add(one))
    for verb in verbs:
        with pytest.raises(ringspan.HandleClosed, match=name):
            verb()
    with pickle.loads(pickle.dumps(shared)) as again:
        assert repr(again.load()) == repr(one)
        again.remove()
    with pytest.raises(ringspan.NotFound, match=name):
        pickle.loads(pickle.dumps(shared))
    with pytest.raises(TypeError):
        type("Sub", (kind,), {})


# A child by fork beside other threads is what the test is about.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_told(name: str) -> None:
    with INT(name, 5) as shared, BOOL(f"{name}-flag") as flag:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for verb in (
                    shared.load,
                    lambda: shared.store(1),
                    lambda: shared.add(1),
                    lambda: shared.version,
                    shared.blocking_changed,
                    lambda: flag.store(True),
                    lambda: flag.blocking_wait_for(bool),
                ):
                    try:
                        verb()
                    except ringspan.Forked:
                        continue
                    break
                else:
                    shared.close()
                    with INT(name) as mine:
                        code = 0 if mine.add(1) == 6 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert shared.blocking_changed(0) == 1
        assert (shared.add(1), flag.load()) == (7, False)
