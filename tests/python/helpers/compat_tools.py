"""What the tests of the older libraries have in common: marks, and looks at /dev/shm.

`RINGSPAN_COMPAT_ORIGINAL=1` points the tests that can do so at the original libraries.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

SHM = Path("/dev/shm")
ORIGINAL = os.environ.get("RINGSPAN_COMPAT_ORIGINAL") == "1"

only_here = pytest.mark.skipif(ORIGINAL, reason="the original has no such thing")

#: What a child that is to have shared_memory begins with.
IMPORT_SHM = f"{'' if ORIGINAL else 'from ringspan.compat '}import shared_memory as shm"


def shared_memory() -> Any:
    """SnowWalkerJ's shared_memory: ours, or the original where somebody has built it."""
    return pytest.importorskip("shared_memory" if ORIGINAL else "ringspan.compat.shared_memory")


def seeded() -> random.Random:
    """Chance that comes again: by RINGSPAN_SEED."""
    return random.Random(int(os.environ.get("RINGSPAN_SEED", "1")))


def damaged(
    whole: bytes, chance: random.Random, most: int, values: list[int], near: int | None = None
) -> bytearray:
    """A copy in which up to `most` bytes are one of `values`, the first `near` of it more often."""
    broken = bytearray(whole)
    for _ in range(chance.randrange(1, most + 1)):
        within = len(whole) if near is None or chance.random() < 0.3 else near
        broken[chance.randrange(within)] = chance.choice(values)
    return broken


def bug(text: str) -> pytest.MarkDecorator:
    """What a listed bug of the original breaks, which may be a crash or a hang."""
    return pytest.mark.skipif(ORIGINAL, reason=f"a bug of the original: {text}")


def wrong_there(why: str) -> pytest.MarkDecorator:
    """What the original gets wrong, and is seen to."""
    return pytest.mark.xfail(ORIGINAL, reason=f"the original: {why}", strict=True)


def exists(name: str) -> bool:
    """Whether there is a segment of that name."""
    return (SHM / name.lstrip("/")).exists()


def served(name: str) -> None:
    """Waits until a child has made its function."""
    while not exists(name):
        time.sleep(0.005)


def memories(pid: int) -> list[str]:
    """Names in /dev/shm of what a process has created with memory_interface."""
    return sorted(path.name for path in SHM.glob(f"memif-{pid}-*"))
