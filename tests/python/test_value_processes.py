"""Values and numbers between real processes: Rust and Python, death at any point, fork, pickles."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Start = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
METHODS = multiprocessing.get_all_start_methods()
# A child by fork beside other threads is what the test is about.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# Where a setter is killed, and whether its value is there then.
POINTS = [
    ("lock.taken", False),
    ("value.prepared", False),
    ("value.half", False),
    ("value.written", False),
    ("value.published", True),
    ("lock.give", True),
    ("lock.given", True),
]


@pytest.fixture
def has_failpoints() -> None:
    path = ringspan._ringspan.__file__
    if b"RINGSPAN_FAILPOINT" not in Path(path).read_bytes():
        pytest.skip("this wheel was built without the feature `failpoints`")


def whole(got: list[int]) -> int:
    """What `fill` makes, of any n; it fails for half of one."""
    assert got == fill(got[0])
    return got[0]


def fill(n: int) -> list[int]:
    return [n] * (1 + n * 7919 % 3000)


def notice(shared: ringspan.Value | ringspan.SharedInt) -> None:
    """Looks who is there, so that the slots and doors of the dead are given back."""
    with contextlib.suppress(ringspan.Timeout):
        shared.blocking_changed(timeout=0)
    assert shared.stat().attached == 1


SETTER = """
import sys, ringspan
value = ringspan.Value(sys.argv[1])
print("ready", flush=True)
n = int(input())
while True:
    value.blocking_set([n] * (1 + n * 7919 % 3000))
    n += 1
"""


@pytest.mark.usefixtures("has_failpoints")
@pytest.mark.parametrize(("point", "published"), POINTS)
def test_a_killed_setter_leaves_a_whole_value(
    name: str, child: Start, run: Run, point: str, published: bool
) -> None:
    with ringspan.Value(name) as value:

        async def watch(until: int) -> int:
            async for got in value:
                if whole(got) >= until:
                    return whole(got)
            raise AssertionError("it has no end")

        async def main() -> None:
            first = 0
            for times in (1, 2, 5, 30):
                setter = child(SETTER, name, env={"RINGSPAN_FAILPOINT": f"{point}:{times}"})
                setter.expect("ready")
                before = value.version
                done = times if published else times - 1
                last = first + done - 1
                # Woken by its death, if not before.
                watching = asyncio.ensure_future(watch(last)) if done else None
                next_one = value.wait_for(lambda got, last=last: whole(got) == last + 1)
                waiting = asyncio.ensure_future(next_one)
                setter.say(first)
                if watching is not None:
                    assert await watching == last
                assert await asyncio.to_thread(setter.wait) == -signal.SIGKILL
                assert value.version == before + done
                if done:
                    assert whole(value.get()) == last
                await asyncio.sleep(0.005)
                assert not waiting.done()
                assert await value.set(fill(last + 1)) == before + done + 1
                assert await waiting == fill(last + 1)
                first = last + 2

        run(main())
        assert value.try_set("the lock is free")
        assert value.stat().attached == 1


@pytest.mark.usefixtures("has_failpoints")
def test_the_first_try_finds_a_killed_setter(name: str, child: Start) -> None:
    with ringspan.Value(name) as value:
        setter = child(SETTER, name, env={"RINGSPAN_FAILPOINT": "value.half"})
        setter.expect("ready")
        setter.say(1)
        assert setter.wait() == -signal.SIGKILL
        assert value.try_set("mine") is True
        assert (value.get(), value.version) == ("mine", 1)


@pytest.mark.usefixtures("has_failpoints")
def test_a_stopped_setter_is_not_dead(name: str, child: Start, run: Run) -> None:
    with ringspan.Value(name) as value:
        value.blocking_set(fill(7))
        setter = child(SETTER, name, env={"RINGSPAN_FAILPOINT": "value.half:1:stop"})
        setter.expect("ready")
        setter.say(1)
        while value.try_set(fill(0)):
            pass

        async def main() -> None:
            assert whole(value.get()) in {0, 7}, "readers do not wait"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await value.set("never")
            with pytest.raises(ringspan.Timeout, match=str(setter.pid)):
                value.blocking_set("never", timeout=0.02)
            waiting = asyncio.ensure_future(value.set("after"))
            await asyncio.sleep(0.01)
            stat = value.stat()
            assert stat.connections >= 1
            setter.kill(signal.SIGCONT)
            await value.changed(value.version)
            await waiting
            setter.kill()
            await value.set("at last")

        run(main())
        assert value.get() == "at last"
        notice(value)
        assert (value.stat().connections, value.stat().pidfds) == (0, 0)


@pytest.mark.usefixtures("has_failpoints")
@pytest.mark.parametrize("point", ["scalar.changed", "scalar.raised"])
@pytest.mark.parametrize("how", ["async", "blocking"])
def test_one_killed_before_it_told(name: str, child: Start, run: Run, point: str, how: str) -> None:
    with ringspan.SharedInt(name) as jobs:

        async def main() -> int:
            return await jobs.wait_for(lambda n: n == 4)

        adder = child(
            """
            import sys, ringspan
            jobs = ringspan.SharedInt(sys.argv[1])
            input()
            jobs.add(4)
            """,
            name,
            env={"RINGSPAN_FAILPOINT": point},
        )
        got: list[int] = []
        wait = (lambda: run(main())) if how == "async" else lambda: jobs.blocking_wait_for(bool)
        waiter = threading.Thread(target=lambda: got.append(wait()))
        waiter.start()
        while jobs.stat().connections == 0:
            pass
        adder.say()
        assert adder.wait() == -signal.SIGKILL
        waiter.join(20)
        assert got == [4]
        assert jobs.add(1) == 5
        notice(jobs)


WATCHER = """
import asyncio, sys, ringspan
async def main():
    last = -1
    async for n in ringspan.Value(sys.argv[1]):
        if last == -1:
            print("watches", flush=True)
        assert n > last, (n, last)
        last = n
        if n == 300:
            print("saw the last", flush=True)
            return
asyncio.run(main())
"""


def test_three_watchers_see_the_last(name: str, child: Start, run: Run) -> None:
    with ringspan.Value(name) as value:
        value.blocking_set(0)
        watchers = [child(WATCHER, name) for _ in range(3)]
        for watcher in watchers:
            watcher.expect("watches")

        async def main() -> None:
            for n in range(1, 301):
                await value.set(n)

        run(main())
        for watcher in watchers:
            watcher.expect("saw the last")
            watcher.finish()


UPDATER = """
import asyncio, sys, ringspan
def more(old):
    assert old == [old[0]] * len(old)
    return [old[0] + 1] * ((old[0] + 1) % 200 + 1)
async def main(value):
    await asyncio.gather(*(times(value) for _ in range(4)))
async def times(value):
    for _ in range(50):
        await value.update(more)
with ringspan.Value(sys.argv[1]) as value:
    input()
    if sys.argv[2] == "async":
        asyncio.run(main(value))
    else:
        for _ in range(200):
            value.blocking_update(more)
"""


def test_four_processes_update_one_value(name: str, child: Start) -> None:
    with ringspan.Value(name) as value:
        value.blocking_set([0])
        updaters = [child(UPDATER, name, how) for how in ("async", "blocking") * 2]
        for updater in updaters:
            updater.say()
        assert value.blocking_wait_for(lambda got: got[0] == 800)[0] == 800
        for updater in updaters:
            updater.finish()
        assert value.version == 801


def test_four_processes_count(name: str, child: Start, rust_examples: Path) -> None:
    command = type(child("pass")).command
    code = "import sys, ringspan\njobs = ringspan.SharedInt(sys.argv[1])\n"
    code += "for _ in range(2000): jobs.add(1)\n"
    with ringspan.SharedInt(name) as jobs:
        adders = [child(code, name) for _ in range(2)]
        rust = [command(rust_examples / "counter", "add", name, 2000) for _ in range(2)]
        assert jobs.blocking_wait_for(lambda n: n == 8000) == 8000
        for adder in (*adders, *rust):
            adder.finish()
            adder.end()
        assert jobs.version == 8000


def test_a_flag_stops_them_all(name: str, child: Start) -> None:
    worker = """
    import asyncio, sys, ringspan
    async def main():
        await stop.wait_for(lambda now: now)
    with ringspan.SharedBool(sys.argv[1]) as stop:
        print("works", flush=True)
        if sys.argv[2] == "async":
            asyncio.run(main())
        else:
            stop.blocking_wait_for(bool)
    print("stopped", flush=True)
    """
    with ringspan.SharedBool(name) as stop:
        workers = [child(worker, name, how) for how in ("async", "blocking", "async")]
        for one in workers:
            one.expect("works")
        stop.store(True)
        for one in workers:
            one.expect("stopped")
            one.finish()


def test_scalars_play_across_processes(name: str, child: Start, run: Run) -> None:
    process = child(
        """
        import sys, ringspan
        ball = ringspan.SharedFloat(sys.argv[1])
        for n in range(200):
            ball.blocking_wait_for(lambda now: now == 2 * n + 1)
            ball.add(1)
        """,
        name,
    )
    with ringspan.SharedFloat(name) as ball:

        async def main() -> None:
            for n in range(200):
                ball.store(2.0 * n + 1)
                assert await ball.wait_for(lambda now, n=n: now == 2 * n + 2) == 2 * n + 2

        run(main())
        process.finish()


def test_rust_and_python_share_a_config(name: str, child: Start, rust_examples: Path) -> None:
    command = type(child("pass")).command
    with ringspan.Value(name) as value, command(rust_examples / "config", "watch", name) as watcher:
        with command(rust_examples / "config", "set", name, 8, "debug") as setter:
            setter.finish()
        assert value.get() == {"workers": 8, "log": "debug"}
        watcher.expect("8 workers, log debug")
        value.blocking_update(lambda old: old | {"workers": 3, "more": None})
        watcher.expect("3 workers, log debug")
        value.blocking_set((1, 2))  # no Config
        status = watcher.wait()
        assert status == 1
        assert f"value {name}" in watcher.stderr()


def _use(value: ringspan.Value, jobs: ringspan.SharedInt, name: str) -> None:
    try:
        report = (value.get(), jobs.load())
    except ringspan.Forked as err:
        report = ("Forked", str(err))
        for verb in (
            lambda: value.blocking_set(1),
            lambda: value.try_set(1),
            value.blocking_changed,
            lambda: value.version,
            value.stat,
            lambda: aiter(value),
            lambda: asyncio.run(_await(value.changed())),
            lambda: asyncio.run(_await(value.update(len))),
        ):
            try:
                verb()
            except ringspan.Forked:
                continue
            report = ("no error", str(verb))
    value.close()
    jobs.close()
    with ringspan.Value(f"{name}-report") as there:
        there.blocking_set(report)


async def _await(verb: Any) -> Any:
    return await verb


@quiet
@pytest.mark.parametrize("method", METHODS)
def test_a_handle_goes_to_a_child(name: str, method: str) -> None:
    with (
        ringspan.Value(name) as value,
        ringspan.SharedInt(f"{name}-jobs") as jobs,
        ringspan.Value(f"{name}-report") as report,
    ):
        value.blocking_set(("from", "the parent"))
        jobs.store(5)
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=_use, args=(value, jobs, name))
        process.start()
        told = report.blocking_wait_for(lambda _: True, timeout=25)
        process.join(20)
        assert process.exitcode == 0
        if method == "fork":
            assert told[0] == "Forked" and name in told[1]
        else:
            assert told == (("from", "the parent"), 5)
        assert value.blocking_update(lambda old: [*old, "still"]) == ["from", "the parent", "still"]
        assert jobs.add(1) == 6


@quiet
def test_a_forked_child_leaves_the_waits_of_its_parent(name: str, run: Run) -> None:
    other = ringspan.Value(name)

    async def main() -> None:
        with ringspan.Value(name) as value:
            waits = [
                asyncio.ensure_future(value.changed()),
                asyncio.ensure_future(value.wait_for(bool)),
            ]
            await asyncio.sleep(0.005)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    value.close()
                    waits.clear()
                    with ringspan.Value(name) as mine:
                        code = 0 if mine.blocking_set("from the child") == 1 else 2
                finally:
                    os._exit(code)
            assert await asyncio.gather(*waits) == [1, "from the child"]
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0  # noqa: ASYNC222
            assert await value.set("still here") == 2

    run(main())
    assert other.get() == "still here"
    other.close()
