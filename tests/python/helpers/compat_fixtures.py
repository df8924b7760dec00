"""Fixtures of the tests of the older libraries; conftest.py names this file as a plugin."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from compat_tools import memories

HEADER = """
    import os, pickle, sys, signal
    from ringspan.compat.memory_interface import *
    def state():
        return pickle.loads(bytes.fromhex(input()))
    def say(*what):
        print(*what, flush=True)
"""


@pytest.fixture
def plain(name: str) -> str:
    """A unique name without a slash."""
    return name[1:]


@pytest.fixture
def of_the_dead() -> Iterator[None]:
    """Children that were killed leave their doors behind, for `gc`."""
    yield
    if "ringspan" in sys.modules:
        sys.modules["ringspan"].gc()


# ---- memory_interface ----------------------------------------------------------------------------


def library(request: pytest.FixtureRequest) -> Any:
    """The module that a test file is about: what it calls `library`, or ours."""
    ours = "ringspan.compat.memory_interface"
    return getattr(request.module, "library", None) or importlib.import_module(ours)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No memory of this process stays."""
    yield
    assert not memories(os.getpid())


@pytest.fixture
def new(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """`new(name, *args)`: an object of that class, created with these; cleaned up at the end."""
    there: list[Any] = []

    def make(name: str, *args: Any, **options: Any) -> Any:
        one = getattr(library(request), name)()
        there.append(one)
        if name == "MemoryInterface":
            one.state = one.create_memorybuf(*args, **options)
        else:
            usual = () if options else {"SharedBytes": (3,), "SharedString": (50,)}.get(name, ())
            one.state = one.create_sharedobject(*(args or usual), **options)
        return one

    yield make
    for one in there:
        one.cleanup()


@pytest.fixture
def other(child: Callable[..., Any]) -> Callable[..., Any]:
    """`other(code, state)`: a process that runs the code; `state()` is there what it was given."""

    def start(code: str, state: Any = None, *args: object) -> Any:
        process = child(textwrap.dedent(HEADER) + textwrap.dedent(code), *args)
        if state is not None:
            process.say(pickle.dumps(state).hex())
        return process

    return start


@pytest.fixture
def script(
    request: pytest.FixtureRequest, tmp_path: Path, child: Callable[..., Any]
) -> Iterator[Callable[..., Any]]:
    """`script(code, *args)`: a program of its own, as multiprocessing needs it."""
    module = library(request).__name__
    with contextlib.ExitStack() as stack:

        def start(code: str, *args: object) -> Any:
            file = tmp_path / "program.py"
            file.write_text(re.sub(r"(?<![.\w])memory_interface", module, textwrap.dedent(code)))
            return stack.enter_context(type(child("pass")).command(sys.executable, file, *args))

        yield start
