"""What the tests of awaits share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import ringspan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Ends = tuple[ringspan.Producer, ringspan.Consumer]


async def turns(count: int) -> None:
    """Gives the loop so many turns."""
    for _ in range(count):
        await asyncio.sleep(0)
