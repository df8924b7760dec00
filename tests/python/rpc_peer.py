"""One side of the pairing tests of shared functions, the Python twin of `examples/rpc_peer`.

python rpc_peer.py serve NAME
python rpc_peer.py call NAME
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import ringspan
from ringspan import _ringspan

SIZES = [0, 1, 4095, 65_536, 1 << 20, (1 << 20) + 1, 5_000_000, 20_000_000]
GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "codec.txt"


def service(name: str) -> ringspan.Service:
    """Makes the service of `examples/rpc_peer/service.rs`."""
    made = ringspan.Service(name, exact=True)
    stopped = 0

    @contextlib.contextmanager
    def counted() -> Any:
        nonlocal stopped
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            stopped += 1
            raise

    @made.method
    async def add(a: int, b: int) -> int:
        return a + b

    @made.method
    def sub(a: int, b: int) -> int:
        return a - b

    @made.method(inline=True)
    def none() -> None:
        return None

    @made.method
    async def echo(item: Any) -> Any:
        return item

    @made.method
    async def later(ms: int, value: Any) -> Any:
        await asyncio.sleep(ms / 1e3)
        return value

    @made.method
    async def fail(kind: str, text: str) -> None:
        raised = getattr(builtins, kind, None) or type(kind, (Exception,), {})
        raise raised(text)

    @made.method
    async def left(ctx: ringspan.Context) -> float | None:
        return ctx.remaining

    @made.method
    async def caller(ctx: ringspan.Context) -> list[int]:
        return [ctx.caller_pid, ctx.caller_uid]

    @made.method
    async def length(data: bytes) -> int:
        return len(data)

    @made.method
    async def blob(size: int) -> bytes:
        return b"\7" * size

    @made.method(raw=True)
    async def raw(data: bytes) -> bytes:
        return data

    @made.method
    async def forever() -> None:
        with counted():
            await asyncio.get_running_loop().create_future()

    @made.method(name="stopped", inline=True)
    def how_many() -> int:
        return stopped

    @made.method
    async def count(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @made.method
    async def ticks() -> AsyncIterator[int]:
        n = 0
        with counted():
            while True:
                yield n
                n += 1

    @made.method
    def breaks(n: int) -> Any:
        yield from range(n)
        raise LookupError("no more")

    return made


async def lines() -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line.rstrip("\n")


async def serve(name: str) -> None:
    async with service(name) as server:
        print("serving", flush=True)

        async def talk() -> None:
            async for line in lines():
                assert line == "stats", line
                stats = server.stats()
                print(stats.clients, stats.in_flight, stats.running, flush=True)

        talking = asyncio.create_task(talk())
        ended = asyncio.create_task(server.serve_forever())
        await asyncio.wait([talking, ended], return_when=asyncio.FIRST_COMPLETED)
    print("ended", flush=True)
    os._exit(0)  # a thread may stand in readline


async def raises(kind: type[BaseException], call: Awaitable[Any]) -> Any:
    try:
        found = await call
    except kind as error:
        return error
    raise AssertionError(f"{found!r} instead of {kind.__name__}")


async def results(f: Any) -> None:
    assert await f.add(2, 3) == 5
    assert await f.sub(7, 3) == await f.sub(a=7, b=3) == 4
    assert await f.none() is None
    assert await f.later(20, 9) == 9
    assert await f.raw(b"\0as it is\xff") == b"\0as it is\xff"
    assert await f.raw(memoryview(bytearray(b"buffer"))) == b"buffer"


async def echo(f: Any) -> None:
    exact, seen = f.options(exact=True), 0
    for line in GOLDEN.read_text().splitlines():
        name, *data = line.split()
        if name in {"#", "array_record"}:
            continue
        value = _ringspan._decode(1, bytes.fromhex(data[0]))
        back = await exact.echo(value)
        sent = _ringspan._encode(value, True)
        assert type(back) is type(value), name
        assert _ringspan._encode(back, True) == sent, f"{name}: {back!r} for {value!r}"
        seen += 1
    assert seen > 40, seen


async def sizes(f: Any) -> None:
    for size in SIZES:
        data = b"\7" * size
        assert await f.length(data) == size
        blob = await f.blob(size)
        assert blob == data, (size, len(blob))
        assert await f.raw(data) == data


async def errors(f: Any) -> None:
    for kind in (ValueError, KeyError, FileNotFoundError):
        error = await raises(kind, f.fail(kind.__name__, "because"))
        assert isinstance(error, ringspan.RemoteError)
        assert (error.type_name, error.remote_message) == (kind.__name__, "because")
        assert str(error) == "because"
        assert error.traceback
    error = await raises(ringspan.RemoteError, f.fail("OutOfCheese", "because"))
    assert (error.type_name, error.remote_message) == ("OutOfCheese", "because")
    assert "OutOfCheese: because" in str(error)
    await results(f)


async def refusals(f: Any) -> None:
    await raises(ringspan.UnknownMethod, wrapped(f.nothing))
    await raises(ringspan.RemoteError, f.add(1))
    await raises(TypeError, f.count(3))
    await raises(ringspan.TooLarge, wrapped(f.length, bytes(65 << 20)))
    await raises(ringspan.RemoteError, f.blob(65 << 20))
    await results(f)


async def wrapped(call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return await call(*args)


async def streams(f: Any) -> None:
    for n in (0, 1, 1000):
        assert [item async for item in f.count.stream(n)] == list(range(n))
    before = await f.stopped()
    async with contextlib.aclosing(f.ticks.stream()) as ticks:
        for n in range(500):
            assert await anext(ticks) == n
    await until_stopped(f, before + 1)
    breaks = f.breaks.stream(3)
    assert [await anext(breaks) for _ in range(3)] == [0, 1, 2]
    await raises(LookupError, anext(breaks))
    await raises(StopAsyncIteration, anext(breaks))


async def until_stopped(f: Any, count: int) -> None:
    while await f.stopped() < count:  # noqa: ASYNC110 - it counts in another process
        await asyncio.sleep(0.001)


async def deadlines(f: Any) -> None:
    assert await f.left() is None
    assert 1 < await f.left.options(timeout=60)() <= 60
    before = await f.stopped()
    await raises(ringspan.Timeout, f.forever.options(timeout=0.03)())
    await until_stopped(f, before + 1)


async def cancelling(f: Any) -> None:
    before = await f.stopped()
    hasty = (asyncio.wait_for(f.forever(), 0.03) for _ in range(10))
    ended = await asyncio.gather(*hasty, return_exceptions=True)
    assert [type(one) for one in ended] == [TimeoutError] * 10
    await until_stopped(f, before + 10)


async def many(f: Any) -> None:
    calls = (f.add(n, 0) if n % 10 else f.later(n % 7, n) for n in range(1000))
    assert await asyncio.gather(*calls) == list(range(1000))


async def caller(f: Any) -> None:
    assert (await f.caller())[0] == os.getpid()
    print(f.server_pid, flush=True)


async def hang(f: Any) -> None:
    calls = [f.forever() for _ in range(10)]
    # They have arrived once this is answered.
    print("hanging", str(await f.add(1, 1) == 2).lower(), flush=True)
    for call in calls:
        error = await raises(ringspan.Disconnected, call)
        assert error.delivered == "yes", error


async def gone(f: Any) -> None:
    error = await raises(OSError, f.add(1, 1))
    assert isinstance(error, (ringspan.NotServed, ringspan.NotFound)), error


async def call(name: str) -> None:
    f = await ringspan.connect(name)
    print("connected", flush=True)
    async for line in lines():
        try:
            await globals()[line](f)
        except Exception as error:
            print(f"{line}: {error!r}".replace("\n", " "), flush=True)
        else:
            print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run({"serve": serve, "call": call}[sys.argv[1]](sys.argv[2]))
