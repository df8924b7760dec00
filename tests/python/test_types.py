"""What type checkers infer: mypy --strict reads this file, and it runs too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, assert_type

import ringspan


async def infer(lock: ringspan.RwLock, value: ringspan.Value, number: ringspan.SharedInt) -> None:
    guard = await lock.read()
    assert_type(guard, ringspan.Guard)
    guard.release()
    assert_type(lock.try_read(), ringspan.Guard | None)
    acquire = lock.read()
    assert_type(acquire.__await__(), Generator[Any, Any, ringspan.Guard])
    acquire.close()
    async with lock.write() as buf:
        assert_type(buf, memoryview)
    with await asyncio.wait_for(lock.write(), 20) as buf:
        assert_type(buf, memoryview)
    with await asyncio.create_task(lock.read()) as buf:
        assert_type(buf, memoryview)
    both = await asyncio.gather(lock.read(), lock.read())
    assert_type(both, tuple[ringspan.Guard, ringspan.Guard])
    for guard in both:
        guard.release()
    assert_type(await number.wait_for(lambda n: n == 0), int)
    assert_type(await value.set(1), int)
    assert_type(await value.update(lambda old: str(old)), str)
    assert_type(await value.compare_and_set("1", "2"), bool)
    assert_type(await value.changed(0), int)
    async for _ in value:
        break


@ringspan.function("/types")
async def add(a: int, b: int = 0) -> int:
    return a + b


async def infer_calls(name: str) -> None:
    assert_type(await add(1), int)
    service = ringspan.Service(name)

    @service.method
    def half(n: int) -> float:
        return n / 2

    @service.method(name="items", inline=False)
    async def some(ctx: ringspan.Context) -> AsyncIterator[int]:
        assert_type(ctx.remaining, float | None)
        yield 1

    assert_type(half(1), float)
    async with service as served:
        assert_type(served, ringspan.Service)
        assert_type(served.stats().percentile(0.5), float | None)
        f = await ringspan.connect(name)
        assert_type(f, ringspan.Client)
        assert_type(f.half, ringspan.Method)
        call = f.half(1)
        assert_type(call, ringspan.Call[Any])
        assert_type(call.exception, Callable[[], BaseException | None])
        assert_type(await asyncio.wait_for(call, 20), Any)
        both = await asyncio.gather(
            f.half(1), ringspan.call(name + "-none"), return_exceptions=True
        )
        assert isinstance(both[1], (ringspan.NotFound, ringspan.NotServed))
        async with asyncio.TaskGroup() as group:
            group.create_task(f.half.options(timeout=20)(3))
        async for item in f.items.stream():
            assert_type(item, Any)


def test_types_of_calls(name: str) -> None:
    asyncio.run(infer_calls(name))


def test_types(name: str) -> None:
    with (
        ringspan.RwLock(name, 8) as lock,
        ringspan.Value(f"{name}-v") as value,
        ringspan.SharedInt(f"{name}-n") as number,
    ):
        asyncio.run(infer(lock, value, number))
