"""What type checkers infer: mypy --strict reads this file, and it runs too."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
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


def test_types(name: str) -> None:
    with (
        ringspan.RwLock(name, 8) as lock,
        ringspan.Value(f"{name}-v") as value,
        ringspan.SharedInt(f"{name}-n") as number,
    ):
        asyncio.run(infer(lock, value, number))
