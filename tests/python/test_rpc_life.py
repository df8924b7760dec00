"""Servers and clients that die, fork, restart, or are sent to other processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import ringspan

SERVER = """
    import asyncio, sys, ringspan
    service, log = ringspan.Service(sys.argv[1]), []
    @service.method
    async def add(a, b=0): return a + b
    @service.method
    async def forever():
        try: await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError: log.append("task"); raise
    @service.method
    async def ticks():
        n = 0
        try:
            while True:
                yield n
                n += 1
        except BaseException: log.append("async generator"); raise
    @service.method
    def plain_ticks():
        n = 0
        try:
            while True:
                yield n
                n += 1
        finally: log.append("generator")
    @service.method
    async def heard(): return sorted(log)
    async def main():
        async with service:
            print("serving", flush=True)
            await service.serve_forever()
    asyncio.run(main())
"""

Start = Callable[..., Any]


def serving(child: Start, name: str) -> Any:
    one = child(SERVER, name)
    one.expect("serving")
    return one


def end(server: Any, name: str) -> None:
    ringspan.remove(name)
    assert server.wait() == 0


def test_a_killed_server_and_its_successor(run: Any, child: Start, name: str) -> None:
    first = serving(child, name)

    async def main() -> Any:
        f = await ringspan.connect(name)
        calls = [f.forever() for _ in range(5)]
        stream = f.ticks.stream()
        assert await anext(stream) == 0 and await f.add(1) == 1
        first.kill()
        for told in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(told, ringspan.Disconnected)
            assert told.delivered == "yes" and name in str(told) and str(first.pid) in str(told)
        with pytest.raises(ringspan.Disconnected):
            while True:
                await anext(stream)
        with pytest.raises((ringspan.NotServed, ringspan.NotFound), match=name):
            await f.add(1)
        second = serving(child, name)
        assert await f.add(2, 3) == 5 and f.server_pid == second.pid
        assert [await anext(f.ticks.stream())] == [0]
        return second

    end(run(main()), name)


def test_a_killed_client_leaves_no_handler(child: Start, name: str) -> None:
    server = serving(child, name)
    client = child(
        """
        import asyncio, sys, ringspan
        async def main():
            f = await ringspan.connect(sys.argv[1])
            a, b = f.ticks.stream(), f.plain_ticks.stream()
            call = f.forever()
            print(await anext(a), await anext(b), await f.add(1), flush=True)
            await call
        asyncio.run(main())
        """,
        name,
    )
    client.expect("0 0 1")
    client.kill()
    f = ringspan.blocking_connect(name)
    while f.heard() != ["async generator", "generator", "task"]:
        time.sleep(0.001)
    end(server, name)


def test_a_call_to_a_stopped_server_waits(run: Any, child: Start, name: str) -> None:
    server = serving(child, name)

    async def main() -> None:
        f = await ringspan.connect(name)
        server.kill(signal.SIGSTOP)
        call = f.add(1)
        with pytest.raises(ringspan.Timeout):
            await f.add.options(timeout=0.05)(2)
        assert not call.done()
        server.kill(signal.SIGCONT)
        assert await call == 1

    run(main())
    end(server, name)


def use(client: Any, n: int, into: Any) -> None:
    """What a child process does with the client that it was given."""
    if isinstance(client, ringspan.Client):

        async def main() -> Any:
            return await client.add(n, 1)

        into.send(asyncio.run(main()))
    else:
        into.send(client.add(n, 1))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("kind", [ringspan.Client, ringspan.BlockingClient])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_client_goes_to_a_child(child: Start, name: str, method: str, kind: Any) -> None:
    server = serving(child, name)
    # One that has not called yet, so that fork has nothing to inherit.
    client = kind(name, timeout=20)
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(False)
    process = context.Process(target=use, args=(client, 4, sender))
    process.start()
    assert receiver.poll(25) and receiver.recv() == 5
    process.join()
    assert process.exitcode == 0
    end(server, name)


def in_a_fork(act: Callable[[], Any]) -> Any:
    """What `act` returns or raises in a forked child, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = repr(act())
        except BaseException as error:
            said = type(error).__name__
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 1000).decode()
    os.close(reader)
    assert os.waitpid(pid, 0)[1] == 0
    return said


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_connects_anew_and_leaves_the_parent_alone(
    loop_factory: Any, child: Start, name: str
) -> None:
    server = serving(child, name)
    f, plain = ringspan.Client(name), ringspan.blocking_connect(name)

    async def add(n: int) -> Any:
        return await f.add(n), await f.add.options(timeout=20)(n)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(add(1)) == (1, 1)
        assert plain.add(1) == 1
        assert in_a_fork(lambda: asyncio.run(add(2))) == "(2, 2)"
        assert in_a_fork(lambda: plain.add(2)) == "Forked"
        assert in_a_fork(lambda: ringspan.blocking_connect(name).add(3)) == "3"
        # The parent's reader is still where it was.
        assert runner.run(add(4)) == (4, 4)
        assert plain.add(5) == 5
    end(server, name)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_server_is_the_parents(name: str) -> None:
    service = ringspan.Service(name)
    service.method(abs)

    async def main() -> None:
        async with service:
            f = await ringspan.connect(name)
            assert await f.abs(-1) == 1

            def stop() -> None:
                service._server.stop(0.0)  # type: ignore[union-attr]

            assert in_a_fork(stop) == "Forked"
            assert await f.abs(-2) == 2

    asyncio.run(main())
    with ringspan.serve_in_background(ringspan.function(name)(abs)):
        assert in_a_fork(lambda: ringspan.blocking_call(name, -3)) == "3"
        assert ringspan.blocking_call(name, -4) == 4


def test_a_name_of_a_dead_server_is_taken_over(child: Start, name: str) -> None:
    serving(child, name).kill()
    assert [info.kind for info in ringspan.segments() if info.name == name] == ["function"]
    with ringspan.serve_in_background(ringspan.function(name)(abs)):
        assert ringspan.blocking_call(name, -3) == 3
    assert [info for info in ringspan.segments() if info.name == name] == []


def test_a_name_of_another_kind_is_told(name: str) -> None:
    with ringspan.SharedInt(name):
        with pytest.raises(ringspan.Mismatch, match=name):
            ringspan.blocking_call(name)
        with pytest.raises(ringspan.Mismatch, match=name):
            ringspan.serve_in_background(ringspan.function(name)(abs))
    ringspan.remove(name, missing_ok=True)
