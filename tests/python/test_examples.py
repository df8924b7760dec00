"""Every example runs as what it is: a pair of real processes. Their output is compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "examples" / "python"
# The peer of the pairing tests.
NOT_AN_EXAMPLE = {"peer"}

Start = Callable[..., Any]


@pytest.fixture(scope="session")
def rust_examples() -> Path:
    """Finds the Rust examples where the test run has built them, or builds them."""
    folder = os.environ.get("RINGSPAN_EXAMPLES")
    if folder is None:
        subprocess.run(["cargo", "build", "--examples"], cwd=ROOT, check=True)
        folder = str(ROOT / "target" / "debug" / "examples")
    return Path(folder)


@pytest.fixture
def start(child: Start, rust_examples: Path) -> Iterator[Start]:
    """`start("rust blocking", ...)` or `start("python frames", ...)`; all end with the test."""
    with ExitStack() as stack:
        kind = type(child("pass"))

        def start(example: str, *arguments: object) -> Any:
            language, name = example.split()
            if language == "rust":
                command = [rust_examples / name]
            else:
                command = [sys.executable, "-X", "dev", "-W", "error", PYTHON / f"{name}.py"]
            return stack.enter_context(kind.command(*command, *arguments))

        yield start


@pytest.fixture
def hello() -> Iterator[None]:
    """Keeps the fixed name of the first example free."""
    path = Path("/dev/shm/hello")
    assert not path.exists(), f"{path} is in the way: remove it and try again"
    yield
    path.unlink(missing_ok=True)


@pytest.mark.usefixtures("hello")
@pytest.mark.parametrize("producer", ["rust producer", "python producer"])
@pytest.mark.parametrize("consumer", ["rust consumer", "python consumer"])
@pytest.mark.parametrize("first", ["consumer", "producer"])
def test_hello_in_either_order(start: Start, producer: str, consumer: str, first: str) -> None:
    if first == "consumer":
        rx = start(consumer)
        start(producer).finish()
    else:
        start(producer).finish()
        rx = start(consumer)
    assert rx.finish() == "0 hello\n1 hello\n2 hello\n"


@pytest.mark.usefixtures("hello")
def test_uvloop(start: Start) -> None:
    pytest.importorskip("uvloop")
    rx = start("python on_uvloop")
    start("python producer").finish()
    assert rx.finish() == "0 hello\n1 hello\n2 hello\nuvloop\n"


BLOCKING = ["rust blocking", "python blocking"]


@pytest.mark.parametrize("sender", BLOCKING)
@pytest.mark.parametrize("receiver", BLOCKING)
def test_blocking(start: Start, name: str, sender: str, receiver: str) -> None:
    rx = start(receiver, "recv", name)
    start(sender, "send", name, "one", "two", "three").finish()
    assert rx.finish() == "one\ntwo\nthree\n"


@pytest.mark.parametrize("sender", BLOCKING)
@pytest.mark.parametrize("loop", ["rust foreign_loop", "python foreign_loop"])
def test_foreign_loops(start: Start, name: str, loop: str, sender: str) -> None:
    left, right = f"{name}-left", f"{name}-right"
    rx = start(loop, left, right)
    start(sender, "send", left, "one", "two").finish()
    start(sender, "send", right, "three").finish()
    assert sorted(rx.finish().splitlines()) == [f"{left}: one", f"{left}: two", f"{right}: three"]


def test_in_place(start: Start, name: str) -> None:
    rx = start("rust in_place", "recv", name)
    start("rust in_place", "send", name, 40).finish()
    sizes = [(1 << 20) - n for n in range(40)]
    total = sum(n * size for n, size in enumerate(sizes))
    assert rx.finish() == f"40 frames, {sum(sizes)} bytes, sum {total}\n"


def test_frames(start: Start, name: str) -> None:
    pytest.importorskip("numpy")
    rx = start("python frames", "recv", name)
    start("python frames", "send", name, 50).finish()
    total = sum(n * 480 * 640 for n in range(50))
    assert rx.finish() == f"50 frames of (480, 640) uint8, sum {total}\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes(start: Start, method: str) -> None:
    assert start("python processes", method).finish() == "[0, 1, 4, 9, 16]\n"


STREAM = ["rust stream", "python stream"]


@pytest.mark.parametrize("sender", STREAM)
@pytest.mark.parametrize("receiver", STREAM)
def test_stream(start: Start, name: str, tmp_path: Path, sender: str, receiver: str) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    (tree / "inner").mkdir(parents=True)
    (tree / "empty").touch()
    (tree / "inner" / "large").write_bytes(bytes(range(256)) * 1000)
    rx = start(receiver, "recv", name, copy)
    assert start(sender, "send", name, tree).finish().startswith("sent files=2 bytes=256000 ")
    assert rx.finish().startswith("received files=2 bytes=256000 ")
    assert (copy / "empty").read_bytes() == b""
    assert (copy / "inner" / "large").read_bytes() == bytes(range(256)) * 1000


CONFIG = ["rust config", "python config"]


@pytest.mark.parametrize("setter", CONFIG)
@pytest.mark.parametrize("watcher", CONFIG)
def test_config_is_watched_by_three(start: Start, name: str, setter: str, watcher: str) -> None:
    watchers = [start(watcher, "watch", name) for _ in range(3)]
    for workers, log in ((8, "debug"), (4, "info")):
        start(setter, "set", name, workers, log).finish()
        for one in watchers:
            one.expect(f"{workers} workers, log {log}")
    start(setter, "set", name, 0, "bye").finish()
    late = start(watcher, "watch", name)
    for one in (*watchers, late):
        assert one.finish() == "0 workers, log bye\n"


IMAGE = ["rust image", "python image"]


@pytest.mark.parametrize("painter", IMAGE)
@pytest.mark.parametrize("viewer", IMAGE)
def test_image_is_looked_at_by_two(start: Start, name: str, painter: str, viewer: str) -> None:
    pytest.importorskip("numpy")
    viewers = [start(viewer, "look", name, 50) for _ in range(2)]
    start(painter, "draw", name, 50).finish()
    for one in viewers:
        assert one.finish() == "last frame 50, 0 torn\n"


COUNTER = ["rust counter", "python counter"]


@pytest.mark.parametrize("adder", COUNTER)
@pytest.mark.parametrize("waiter", COUNTER)
def test_counter_is_added_to_by_three(start: Start, name: str, adder: str, waiter: str) -> None:
    waiting = start(waiter, "wait", name, 3000)
    adders = [start(adder, "add", name, 1000) for _ in range(3)]
    for one in adders:
        one.finish()
    assert waiting.finish() == "3000\n"


def test_no_example_is_forgotten() -> None:
    code = Path(__file__).read_text()
    for language, folder in (("rust", ROOT / "examples"), ("python", PYTHON)):
        for path in folder.glob("*.rs" if language == "rust" else "*.py"):
            if path.stem not in NOT_AN_EXAMPLE:
                assert f'"{language} {path.stem}"' in code, f"{path} is run by no test"


def test_the_readme_shows_the_examples() -> None:
    page = (ROOT / "README.md").read_text()
    shown = re.findall(r"^```rust,no_run\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    examples = [path.read_text() for path in (ROOT / "examples").glob("*.rs")]
    assert shown, "the README shows no Rust program"
    for program in shown:
        assert any(program in example for example in examples), program
