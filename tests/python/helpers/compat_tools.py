"""What the tests of the older libraries have in common: marks, and looks at /dev/shm.

`RINGSPAN_COMPAT_ORIGINAL=1` points the tests that can do so at the original libraries.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

SHM = Path("/dev/shm")
ORIGINAL = os.environ.get("RINGSPAN_COMPAT_ORIGINAL") == "1"

only_here = pytest.mark.skipif(ORIGINAL, reason="the original has no such thing")


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
