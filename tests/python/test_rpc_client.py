"""Calls from asyncio and from plain code: what a call is, how it is given up, what it raises."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ringspan

SERVER = """
    import asyncio, sys, ringspan
    service = ringspan.Service(sys.argv[1], **eval(sys.argv[2]))
    log, started = [], []
    @service.method
    async def add(a, b=0): return a + b
    @service.method
    async def later(seconds, value=None):
        started.append(value)
        try: await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            log.append(value); raise
        return value
    @service.method
    async def begun(): return started
    @service.method
    async def cancelled(): return log
    @service.method
    async def echo(*args, **kwargs): return [list(args), kwargs]
    @service.method(raw=True)
    async def raw(data): return data
    @service.method
    async def left(ctx: ringspan.Context): return ctx.remaining
    @service.method
    async def count(n):
        for i in range(n): yield i
    freed = asyncio.Event()
    @service.method
    async def free(): freed.set()
    @service.method
    async def held():
        await freed.wait()
        yield "freed"
    async def main():
        async with service:
            print("serving", flush=True)
            await service.serve_forever()
    asyncio.run(main())
"""

Run = Callable[[Any], Any]


@pytest.fixture
def server(child: Callable[..., Any], name: str) -> Iterator[Any]:
    one = child(SERVER, name, "{}")
    one.expect("serving")
    yield one
    one.kill(signal.SIGCONT)
    ringspan.remove(name, missing_ok=True)
    one.wait()


async def until(seen: Any, value: Any) -> None:
    while value not in await seen():  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.001)


def test_a_call_is_a_future_and_a_coroutine(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        f = await ringspan.connect(name)
        call = f.add(2, 3)
        assert isinstance(call, ringspan.Call)
        assert asyncio.isfuture(call) and asyncio.iscoroutine(call)
        assert call.get_loop() is asyncio.get_running_loop()
        assert not call.done() and "under way" in repr(call) and name in repr(call)
        with pytest.raises(asyncio.InvalidStateError):
            call.result()
        with pytest.raises(asyncio.InvalidStateError):
            call.exception()
        told: list[Any] = []
        call.add_done_callback(told.append)
        call.add_done_callback(print)
        assert call.remove_done_callback(print) == 1
        assert await call == 5 == await call == call.result()
        assert call.exception() is None and call.done() and not call.cancel()
        assert told == [call]
        assert await asyncio.create_task(f.add(1)) == 1
        assert await asyncio.shield(f.add(2)) == 2
        assert await asyncio.wait_for(f.add(3), 20) == 3
        done, _ = await asyncio.wait([asyncio.create_task(f.add(4))])
        assert [one.result() for one in done] == [4]
        with pytest.raises(TypeError, match="use tasks"):  # it is a coroutine too
            await asyncio.wait([f.add(4)])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(f.add(n, n)) for n in range(100)]
        assert [task.result() for task in tasks] == [2 * n for n in range(100)]
        async with asyncio.timeout(20):
            assert await asyncio.gather(*map(f.add, range(500))) == list(range(500))
        for one in asyncio.as_completed([f.later(0.01, 1), f.add(1)]):
            assert await one == 1
        with pytest.raises(TypeError, match="pickle the client"):
            pickle.dumps(call)

    run(main())


def test_two_tasks_await_one_call(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        f = await ringspan.connect(name)
        call = f.later(0.02, "x")

        async def wait() -> Any:
            return await call

        assert await asyncio.gather(wait(), wait()) == ["x", "x"]

    run(main())


def test_the_first_call_is_a_call_too(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        f = ringspan.Client(name)
        assert f.server_pid is None and f.methods == []
        call = f.later(100, "first")
        assert isinstance(call, ringspan.Call) and not call.done()
        while not f.server_pid:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert f.server_pid == server.pid
        await until(f.begun, "first")
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(f.cancelled, "first")
        assert f.methods[:2] == ["add", "later"]
        other = ringspan.Client(name)
        assert await asyncio.gather(*map(other.add, range(50))) == list(range(50))
        assert await asyncio.gather(*(ringspan.Client(name).add(n) for n in range(9))) == [
            *range(9)
        ]

    run(main())


def test_arguments_of_every_shape(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        f = await ringspan.connect(name)
        assert await f.echo() == [[], {}]
        assert await f.echo(1, "two") == [[1, "two"], {}]
        assert await f.echo(name="x", timeout=3, self=1) == [
            [],
            {"name": "x", "timeout": 3, "self": 1},
        ]
        assert await f.echo(None, [], a={}) == [[None, []], {"a": {}}]
        assert await f.method("echo")({}) == [[{}], {}]
        assert f.echo.__name__ == "echo" and "echo" in repr(f.echo)

    run(main())


def test_what_cannot_be_sent_is_told_at_once(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        f = await ringspan.connect(name)
        for args in [(object(),), ([1, {2: object()}],), (lambda: 1,), ("\ud800",)]:
            with pytest.raises((TypeError, ValueError)):
                f.echo(*args)
        with pytest.raises(ringspan.TooLarge) as told:
            f.echo(bytes(65 << 20))
        assert told.value.limit == 64 << 20 and name in str(told.value)
        with pytest.raises(TypeError):
            f.raw("text")
        with pytest.raises(TypeError):
            f.raw(b"1", b"2")
        deep: list[Any] = []
        for _ in range(200):
            deep = [deep]
        with pytest.raises(ValueError):
            f.echo(deep)
        assert await f.add(1) == 1

    run(main())


@pytest.mark.parametrize("how", ["task", "call", "wait_for", "timeout", "drop", "close"])
def test_giving_a_call_up_cancels_the_handler(run: Run, server: Any, name: str, how: str) -> None:
    async def main() -> None:
        f = await ringspan.connect(name)
        match how:
            case "task":

                async def wait() -> None:
                    await f.later(100, how)

                task = asyncio.create_task(wait())
                await until(f.begun, how)
                task.cancel("why")
                with pytest.raises(asyncio.CancelledError):
                    await task
            case "call":
                call = f.later(100, how)
                await until(f.begun, how)
                assert call.cancel() and call.cancelled() and not call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    call.result()
            case "wait_for":
                call = f.later(100, how)
                await until(f.begun, how)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(call, 0.01)
            case "timeout":
                call = f.later(100, how)
                await until(f.begun, how)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await call
            case "drop":
                f.later(100, how)
                gc.collect()
            case "close":
                f.later(100, how).close()
        if how in {"drop", "close"}:  # perhaps before it was read
            assert await f.add(1) == 1
        else:
            await until(f.cancelled, how)

    run(main())


def test_a_shielded_call_goes_on(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        f = await ringspan.connect(name)
        call = f.later(0.05, "kept")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 0.01)
        assert await call == "kept"
        assert await f.cancelled() == []

    run(main())


def test_cancelled_after_the_answer_came(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        f = await ringspan.connect(name)
        for turns in range(200):
            make = asyncio.create_task if turns & 1 else asyncio.ensure_future
            call = make(f.add(1))
            for _ in range(turns % 6):
                await asyncio.sleep(0)
            call.cancel()
            assert set(await asyncio.gather(call, return_exceptions=True)) - {1} == set() or (
                call.cancelled()
            )
        assert await f.add(7) == 7

    run(main())


def test_connecting_to_a_stopped_server_can_be_given_up(run: Run, server: Any, name: str) -> None:
    server.kill(signal.SIGSTOP)

    async def main() -> None:
        with pytest.raises(ringspan.Timeout):
            await ringspan.connect(name, timeout=0.05)
        task = asyncio.create_task(ringspan.connect(name))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        f = ringspan.Client(name)
        calls = [f.options(timeout=0.1).add(n) for n in range(3)] + [f.add(9)]
        told = await asyncio.gather(*calls[:3], return_exceptions=True)
        assert [type(one) for one in told] == [ringspan.Timeout] * 3
        server.kill(signal.SIGCONT)
        assert await calls[3] == 9

    run(main())


def test_time_outs(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        f = await ringspan.connect(name)
        assert f.timeout is None and await f.left() is None
        timed = f.options(timeout=60)
        assert timed.timeout == 60 and timed != f and timed == f.options(timeout=60)
        assert 1 < await timed.left() <= 60 and 1 < await f.left.options(timeout=50)() <= 50
        assert await timed.options(timeout=None).left() is None
        for forever in (float("inf"), 1e300):
            assert await f.options(timeout=forever).left() is None
            assert await (await ringspan.connect(name, timeout=forever)).add(1) == 1
        seconds = 0.01
        while "late" not in await f.begun():  # a call whose time is over before that never runs
            seconds *= 2
            with pytest.raises(ringspan.Timeout, match=name):
                await f.later.options(timeout=seconds)(100, "late")
        await until(f.cancelled, "late")
        with pytest.raises(ringspan.Timeout):
            await f.add.options(timeout=0)(1)
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError):
                f.options(timeout=bad)
        with pytest.raises(TypeError):
            f.options(timeout="1")
        with pytest.raises(TypeError, match="timeout and exact"):
            f.options(retries=3)

    run(main())


def test_names_that_nobody_serves(run: Run, name: str) -> None:
    async def main() -> None:
        for call in (ringspan.connect(name), ringspan.call(name, 1)):
            with pytest.raises(ringspan.NotFound, match=name):
                await call
        stream = ringspan.Client(name).stream()
        with pytest.raises(ringspan.NotFound):
            await anext(stream)

    run(main())
    with pytest.raises(ringspan.NotFound, match=name):
        ringspan.blocking_call(name)
    with pytest.raises(ringspan.NotFound):
        ringspan.blocking_connect(name)
    with pytest.raises(RuntimeError, match="loop"):
        ringspan.Client(name)(1)


def test_threads_share_a_blocking_client(server: Any, name: str) -> None:
    f = ringspan.BlockingClient(name)
    wrong: list[Any] = []

    def work(at: int) -> None:
        wrong.extend((at, n) for n in range(300) if f.add(at, n) != at + n)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and f.server_pid == server.pid
    assert list(f.count.stream(500)) == list(range(500))
    items = f.count.stream(10**9)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert list(items) == []
    with pytest.raises(ringspan.Timeout):
        f.later.options(timeout=0.02)(100)


def test_a_blocking_stream_is_of_one_thread(server: Any, name: str) -> None:
    f, got, refused = ringspan.blocking_connect(name), list[Any](), list[str]()
    items = f.held.stream()

    def enter() -> None:
        try:
            got.append(next(items))
        except RuntimeError as error:
            with pytest.raises(RuntimeError, match="inside this handle"):
                items.close()
            refused.append(str(error))
            f.free()

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["freed"] and len(refused) == 1 and name in refused[0]
    assert list(items) == []


def test_a_blocking_call_inside_a_running_loop(run: Run, server: Any, name: str) -> None:
    async def main() -> None:
        assert ringspan.blocking_connect(name).add(1, 2) == 3
        assert await asyncio.to_thread(ringspan.blocking_connect(name).add, 1, 2) == 3

    run(main())


def interrupted(act: Callable[[], Any]) -> None:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        act()
        time.sleep(20)
    timer.join()


def test_ctrl_c_gives_a_blocking_call_up(server: Any, name: str) -> None:
    f = ringspan.blocking_connect(name)
    interrupted(lambda: f.later(100, "interrupted"))
    while "interrupted" not in f.cancelled():
        pass
    items = f.count.stream(3)
    assert next(items) == 0


def test_ctrl_c_ends_connecting_to_a_stopped_server(server: Any, name: str) -> None:
    server.kill(signal.SIGSTOP)
    f = ringspan.BlockingClient(name)
    interrupted(lambda: f.add(1))
    # Also while it waits for another thread that connects.
    other = threading.Thread(target=f.add, args=(1,))
    other.start()
    time.sleep(0.05)
    interrupted(lambda: f.add(1))
    server.kill(signal.SIGCONT)
    other.join()
    assert f.add(2) == 2


def test_loops_one_after_another_and_at_once(server: Any, name: str) -> None:
    f = ringspan.Client(name)

    async def main(n: int) -> Any:
        return await asyncio.gather(*(f.add(n, i) for i in range(50)))

    for n in range(3):
        assert asyncio.run(main(n)) == [n + i for i in range(50)]
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: asyncio.run(main(n))}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [n + i for i in range(50)] for n in range(4)}


def test_numpy_arrays_go_both_ways(run: Run, server: Any, name: str) -> None:
    numpy = pytest.importorskip("numpy")

    async def main() -> None:
        f = await ringspan.connect(name)
        for sent in [
            numpy.arange(6, dtype="<i4").reshape(2, 3),
            numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)),
            numpy.empty((0, 3), "f4"),
            numpy.array(5, "u1"),
            numpy.arange(20)[::3],
            numpy.zeros(2, [("a", "<f8"), ("b", "S3")]),
        ]:
            [[back], _] = await f.echo(sent)
            assert back.dtype == sent.dtype and back.shape == sent.shape
            assert (back == sent).all()
            if sent.flags.contiguous or sent.flags.f_contiguous:
                assert back.flags.f_contiguous == sent.flags.f_contiguous
        large = numpy.arange((63 << 20) // 8)
        [[back], _] = await f.echo(large)
        assert (back == large).all()
        with pytest.raises(ringspan.TooLarge, match="67108864"):
            f.echo(numpy.zeros(65 << 20, "u1"))

    run(main())
