"""Every example runs as what it is: a pair of real processes. Their output is compared."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import ringspan

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "examples" / "python"
# The peer of the pairing tests.
NOT_AN_EXAMPLE = {"peer"}

Start = Callable[..., Any]


@pytest.fixture
def start(child: Start, rust_examples: Path) -> Iterator[Start]:
    """`start("rust blocking", ...)` or `start("python add call 2 3")`; all end with the test."""
    with ExitStack() as stack:
        kind = type(child("pass"))

        def start(example: str, *arguments: object) -> Any:
            language, name, *first = example.split()
            if language == "rust":
                command = [rust_examples / name]
            else:
                command = [sys.executable, "-X", "dev", "-W", "error", PYTHON / f"{name}.py"]
            return stack.enter_context(kind.command(*command, *first, *arguments))

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


def served(server: Any, name: str) -> None:
    """Waits until a server that says nothing has its name; its process is under the watchdog."""
    while not Path("/dev/shm", name[1:]).exists():
        assert server.process.poll() is None, server.stderr()
        time.sleep(0.01)


@pytest.fixture
def add() -> Iterator[None]:
    """Keeps the fixed name of the smallest function free."""
    path = Path("/dev/shm/add")
    assert not path.exists(), f"{path} is in the way: remove it and try again"
    yield
    path.unlink(missing_ok=True)


@pytest.mark.usefixtures("add")
@pytest.mark.parametrize("server", ["rust add_server", "python add serve"])
@pytest.mark.parametrize("client", ["rust add_client", "python add call 2 3"])
def test_add(start: Start, server: str, client: str) -> None:
    function = start(server)
    served(function, "/add")
    assert start(client).finish() == "5\n"
    start("python add stop").finish()
    assert function.finish() == ""


def test_a_rust_filter_is_called_from_python(start: Start, name: str, tmp_path: Path) -> None:
    server = start("rust image_filter", name)
    server.expect("serving")
    said = start("python filter_client", name, tmp_path).finish().splitlines()
    assert said[0].startswith("edges.pgm: ")
    assert said[1] == "refused: this is not a binary PGM of 8 bits"
    pictures = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert pictures["original.pgm"] != pictures["edges.pgm"]
    if said[2] != "no numpy, no blur":
        assert pictures["original.pgm"] != pictures["blurred.pgm"]
    assert {len(picture) for picture in pictures.values()} == {15 + 160 * 120}
    ringspan.remove(name)
    assert server.finish() == ""


def test_a_python_model_is_called_from_tokio(start: Start, name: str) -> None:
    server = start("python model", name)
    server.expect("serving")
    said = start("rust model_client", name).finish().splitlines()
    assert said[0] == "trained: mean error below 0.1: true"
    assert re.fullmatch(r"1\d\d\d points asked, 0 wrong", said[1])
    assert said[2] == "ValueError: no points to learn from"
    ringspan.remove(name)
    assert server.finish() == ""


LONG_JOB = ["rust long_job", "python long_job"]


@pytest.mark.parametrize("server", LONG_JOB)
@pytest.mark.parametrize("client", LONG_JOB)
def test_long_job(start: Start, name: str, server: str, client: str) -> None:
    job = start(server, "serve", name)
    job.expect("serving")
    assert start(client, "run", name, 10000).finish() == "1229 primes below 10000\n"
    ringspan.remove(name)
    assert job.finish() == ""


TREE = ["rust tree", "python tree"]


@pytest.mark.parametrize("server", TREE)
@pytest.mark.parametrize("client", TREE)
def test_tree(start: Start, name: str, tmp_path: Path, server: str, client: str) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    (tree / "inner").mkdir(parents=True)
    (tree / "left-out").touch()
    (tree / "empty").touch()
    (tree / "inner" / "large").write_bytes(bytes(range(256)) * 10000)
    for n in range(100):
        (tree / f"{n}").write_text(f"{n}")
    files = start(server, "serve", name, tree, "left-out")
    assert files.line().startswith("serving ")
    said = start(client, "fetch", name, copy).finish()
    assert said == "fetched files=102 bytes=2560190 again=0\n"
    assert (copy / "inner" / "large").read_bytes() == bytes(range(256)) * 10000
    assert (copy / "empty").read_bytes() == b""
    ringspan.remove(name)
    assert files.finish() == "served calls=103 errors=0\n"


def test_tree_whose_server_is_killed(start: Start, name: str, tmp_path: Path) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    for n in range(200):
        (tree / f"{n}").write_text(f"{n}")
    first = start("rust tree", "serve", name, tree)
    assert first.line() == f"serving pid={first.pid}"
    client = start("python tree", "fetch", name, copy, "--hold")
    client.expect("half")
    first.kill(signal.SIGSTOP)  # so that nothing of what is asked now is answered
    client.say()
    client.expect("asked")
    first.kill()
    second = start("python tree", "serve", name, tree)
    assert second.line() == f"serving pid={second.pid}"
    assert client.line() == "fetched files=200 bytes=490 again=64"
    assert re.fullmatch(r"broken at=[\d.]+ no=64\n", client.finish())
    ringspan.remove(name)
    assert second.finish() == "served calls=100 errors=0\n"


def test_no_example_is_forgotten() -> None:
    code = Path(__file__).read_text()
    for language, folder in (("rust", ROOT / "examples"), ("python", PYTHON)):
        for path in folder.glob("*.rs" if language == "rust" else "*.py"):
            if path.stem not in NOT_AN_EXAMPLE:
                assert re.search(f'"{language} {path.stem}[" ]', code), f"{path} is run by no test"


def test_the_readme_shows_the_examples() -> None:
    page = (ROOT / "README.md").read_text()
    shown = re.findall(r"^```rust,no_run\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    examples = [path.read_text() for path in (ROOT / "examples").glob("*.rs")]
    assert shown, "the README shows no Rust program"
    for program in shown:
        assert any(program in example for example in examples), program
