"""Fixtures shared by all tests: unique names, children that cannot hang, loops, a leak check.

The doors of this run live in a directory of its own, so that another program on this machine
cannot be mistaken for a leak. Files in /dev/shm are told apart by the prefix of the run.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

pytest_plugins = ["compat_fixtures"]

SHM = Path("/dev/shm")
ROOT = Path(__file__).resolve().parents[2]
RUN = f"rst-{os.getpid()}-{secrets.token_hex(3)}"
DOORS = Path(os.environ.setdefault("RINGSPAN_DIR", str(SHM / f".{RUN}-doors")))
WATCHDOG_SECONDS = 45.0


def pytest_sessionstart() -> None:
    """Makes the door directory the way the library demands it."""
    DOORS.mkdir(mode=0o700, exist_ok=True)


def pytest_sessionfinish() -> None:
    """Removes the door directory; what is still in it was reported test by test."""
    if DOORS.name == f".{RUN}-doors":
        shutil.rmtree(DOORS, ignore_errors=True)


class Child:
    """A real child process that talks in lines and is killed by a watchdog after 45 seconds.

    The code runs as `python -c` with `args` in `sys.argv[1:]`. It says lines with `print(...,
    flush=True)` and hears them with `input()`.
    """

    def __init__(
        self,
        code: str,
        *args: object,
        env: dict[str, str] | None = None,
        watchdog: float = WATCHDOG_SECONDS,
    ) -> None:
        program = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)]
        self._start([*program, *map(str, args)], env, watchdog)

    @classmethod
    def command(
        cls,
        *command: object,
        env: dict[str, str] | None = None,
        watchdog: float = WATCHDOG_SECONDS,
    ) -> Self:
        """Starts any other program the same way, a Rust example for one."""
        self = cls.__new__(cls)
        self._start([str(part) for part in command], env, watchdog)
        return self

    def _start(self, command: list[str], env: dict[str, str] | None, watchdog: float) -> None:
        self.bitten = False
        # Closed by `end`, which outlives any `with` here.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        self._watchdog = threading.Timer(watchdog, self._bite)
        self._watchdog.daemon = True
        self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"<Child {self.pid}>"

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.process.pid

    def say(self, line: object = "") -> None:
        """Sends a line to the child's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """Waits for the child's next line; fails with its stderr when it ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            status = self.process.wait()
            raise AssertionError(f"{self} ended with {status}{self._why()}\n{self.stderr()}")
        return line[:-1]

    def expect(self, text: str) -> None:
        """Waits for the child's next line, which must be exactly `text`."""
        line = self.line()
        assert line == text, f"{self} said {line!r}, expected {text!r}\n{self.stderr()}"

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal; waits for the end of the child when it is SIGKILL."""
        self.process.send_signal(sig)
        if sig == signal.SIGKILL:
            self.process.wait()

    def wait(self) -> int:
        """Waits for the child's end; fails when only the watchdog could bring it about."""
        status = self.process.wait()
        assert not self.bitten, f"{self} hung{self._why()}\n{self.stderr()}"
        return status

    def finish(self) -> str:
        """Closes stdin, waits for an end with status 0, returns what was still said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        rest = self.process.stdout.read()
        status = self.wait()
        assert status == 0, f"{self} ended with {status}\n{self.stderr()}"
        return rest

    def stderr(self) -> str:
        """Returns what the child has written to stderr so far."""
        self._errors.seek(0)
        return self._errors.read()

    def end(self) -> None:
        """Kills the child if it still lives and gives its pipes back."""
        self.process.kill()
        self.process.wait()
        self._watchdog.cancel()
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:
                pass

    def _bite(self) -> None:
        self.bitten = True
        self.process.send_signal(signal.SIGABRT)  # faulthandler shows where it stands
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _why(self) -> str:
        return " (by the watchdog)" if self.bitten else ""


def run_python(
    code: str,
    *args: object,
    env: dict[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter to its end, with the watchdog's patience."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=WATCHDOG_SECONDS,
        env={**os.environ, **(env or {})},
        check=False,
    )
    assert not check or done.returncode == 0, f"status {done.returncode}\n{done.stderr}"
    return done


@pytest.fixture(name="run_python")
def run_python_fixture() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_python(code, *args)`: a fresh interpreter, run to its end."""
    return run_python


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """`child(code, *args)` starts a child; all of them are gone when the test ends."""
    started: list[Child] = []

    def start(code: str, *args: object, **options: Any) -> Child:
        started.append(Child(code, *args, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()


def _files(start: str) -> list[Path]:
    return sorted(path for path in SHM.iterdir() if path.name.startswith(start) and path != DOORS)


_names = 0


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A segment name nobody else has; what stands under it and `name-...` is removed afterwards.

    The temporary names of half-made segments do not begin like this: they count as leaks.
    """
    global _names
    _names += 1
    test = re.sub(r"[^A-Za-z0-9_-]+", "-", request.node.name)[:60].strip("-")
    made = f"{RUN}-{_names}-{test}"
    yield f"/{made}"
    for path in _files(made):
        path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """Fails the test that leaves a file of this run in /dev/shm, or a door."""
    files, doors = set(_files("")), set(DOORS.iterdir())

    def left() -> list[Path]:
        mine = [path for path in _files("") if path not in files and RUN in path.name]
        return mine + [path for path in DOORS.iterdir() if path not in doors]

    yield
    # What stays open on purpose, for the next call.
    if held := sys.modules.get("ringspan.compat.sysframe._held"):
        held.let_go()
    # Not for every test: with pandas imported one collection takes 50 ms.
    if left():
        _collect()
    found = left()
    for path in found:
        path.unlink(missing_ok=True)
    assert not found, f"left behind: {', '.join(map(str, found))}"


def _collect() -> None:
    # Handles in reference cycles (tasks, tracebacks) close their doors when they are collected.
    for _ in range(3):
        if not gc.collect():
            break


def _loop_factories() -> list[Any]:
    factories = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    try:
        import uvloop
    except ImportError:
        mark = pytest.mark.skip(reason="uvloop is not installed for this Python")
        factories.append(pytest.param(None, id="uvloop", marks=mark))
    else:
        factories.append(pytest.param(uvloop.new_event_loop, id="uvloop"))
    return factories


@pytest.fixture(params=_loop_factories())
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes event loops: the test runs once with asyncio's and once with uvloop's."""
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


@pytest.fixture
def run(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """`run(coroutine)` runs it to its end; every call in one test uses the same loop."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        yield runner.run


@pytest.fixture(scope="session")
def rust_examples() -> Path:
    """Finds the Rust examples where the test run has built them, or builds them."""
    folder = os.environ.get("RINGSPAN_EXAMPLES")
    if folder is None:
        subprocess.run(["cargo", "build", "--examples"], cwd=ROOT, check=True)
        folder = str(ROOT / "target" / "debug" / "examples")
    return Path(folder)


@pytest.fixture
def ends(name: str) -> Iterator[tuple[Any, Any]]:
    """Both ends of a ring."""
    import ringspan

    ring = ringspan.Ring(name, capacity=1 << 16)
    with ring.producer() as tx, ring.consumer() as rx:
        yield tx, rx
