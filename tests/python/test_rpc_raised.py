"""What a handler raises, and how it reaches the caller."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ringspan

Run = Callable[[Any], Any]


class OfOurs(Exception):  # noqa: N818
    """Known here only."""

    def __str__(self) -> str:
        return "ours"


class Mute(Exception):  # noqa: N818
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def decode() -> None:
    b"\xff".decode()


RAISED: list[tuple[Callable[[], Any], type[BaseException], str]] = [
    (lambda: ValueError("no good"), ValueError, "no good"),
    (lambda: KeyError("key"), KeyError, "key"),
    (lambda: FileNotFoundError(2, "nothing", "/x"), FileNotFoundError, "[Errno 2] nothing: '/x'"),
    (lambda: ZeroDivisionError("by zero"), ArithmeticError, "by zero"),
    (lambda: TimeoutError("slow"), TimeoutError, "slow"),
    (lambda: NotImplementedError(), NotImplementedError, ""),
    (lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), UnicodeError, "'utf-8'"),
    (lambda: OfOurs(), ringspan.RemoteError, "ours"),
    (lambda: Mute(), ringspan.RemoteError, "<no text>"),
    (lambda: ExceptionGroup("two", [ValueError(1)]), ringspan.RemoteError, "two"),
    (lambda: ValueError("\ud800"), ValueError, "ud800"),
    (lambda: ValueError("x" * 10_000_000), ValueError, "xxx"),
    (lambda: ringspan.Empty("a ring"), ringspan.RemoteError, "a ring"),
    (lambda: asyncio.CancelledError(), ringspan.RemoteError, ""),
]


@pytest.mark.parametrize("how", ["async", "thread", "inline", "late", "items"])
def test_what_a_handler_raises(run: Run, name: str, how: str) -> None:
    service = ringspan.Service(name)

    def plain(at: int) -> None:
        raise RAISED[at][0]()

    async def eager(at: int) -> None:
        plain(at)

    async def late(at: int) -> None:
        await asyncio.sleep(0)
        plain(at)

    def generator(at: int) -> Iterator[int]:
        yield 1
        plain(at)

    handlers = {"async": eager, "thread": plain, "inline": plain, "late": late, "items": generator}
    service.method(name="fail", inline=how == "inline")(handlers[how])

    async def main() -> None:
        async with service:
            f = await ringspan.connect(name)
            for at, (make, kind, text) in enumerate(RAISED):
                if how == "items":
                    stream = f.fail.stream(at)
                    assert await anext(stream) == 1
                    call = anext(stream)
                else:
                    call = f.fail(at)
                with pytest.raises(kind) as told:
                    await call
                error = told.value
                assert isinstance(error, ringspan.RemoteError)
                assert text in str(error), str(error)[:100]
                if type(make()) is not asyncio.CancelledError:
                    assert error.type_name == type(make()).__qualname__
                    shown = "".join(traceback.format_exception(error))
                    assert "in plain" in error.traceback and "in plain" in shown
                again = pickle.loads(pickle.dumps(error))
                assert type(again) is type(error) and str(again) == str(error)
                assert again.traceback == error.traceback
            assert service.stats().in_flight == 0

    run(main())


def test_stop_iteration_and_deep_tracebacks(run: Run, name: str) -> None:
    service = ringspan.Service(name, max_message=4096, max_inflight_bytes=4096)

    @service.method
    def stop() -> None:
        raise StopIteration(3)

    @service.method
    async def deep(n: int) -> int:
        return 1 + await deep(n - 1) if n else 1 // 0

    @service.method
    def recursion() -> Any:
        return recursion()

    @service.method
    async def long() -> None:
        raise ValueError("x" * 100_000)

    @service.method
    async def unsendable() -> Any:
        return [object()]

    @service.method
    async def too_large() -> bytes:
        return bytes(5000)

    async def main() -> None:
        async with service:
            f = await ringspan.connect(name)
            with pytest.raises(ringspan.RemoteError, match="StopIteration"):
                await f.stop()
            with pytest.raises(ZeroDivisionError):
                await f.deep(3)
            with pytest.raises(RecursionError):
                await f.recursion()
            with pytest.raises(ringspan.RemoteError, match="max_message"):
                await f.long()
            with pytest.raises(TypeError, match="object"):
                await f.unsendable()
            with pytest.raises(ringspan.RemoteError, match="5003 bytes"):
                await f.too_large()
            with pytest.raises(ringspan.TooLarge):
                f.deep(bytes(5000))
            assert service.stats().clients == 1, "the connection stands"

    run(main())


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("late", [False, True])
def test_what_no_handler_may_keep_ends_the_loop(
    loop_factory: Any, name: str, kind: type[BaseException], late: bool
) -> None:
    service = ringspan.Service(name)

    @service.method
    async def leave() -> None:
        if late:
            await asyncio.sleep(0)
        raise kind(3)

    async def main() -> None:
        async with service:
            await (await ringspan.connect(name)).leave()

    with pytest.raises(kind), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    with pytest.raises((ringspan.NotFound, ringspan.NotServed)):
        ringspan.blocking_call(name)
