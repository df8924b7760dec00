"""Shared functions between a Rust or Python server and a Rust or Python client, as real processes:
the same checks for each of the four pairings.

The Rust side is `examples/rpc_peer`, the Python side `rpc_peer.py` beside this file.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import ringspan

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SIDES = ["rust", "python"]
PAIRINGS = pytest.mark.parametrize(("server", "client"), list(itertools.product(SIDES, SIDES)))
CHECKS = [
    "results",
    "echo",
    "sizes",
    "errors",
    "refusals",
    "streams",
    "deadlines",
    "cancelling",
    "many",
]


@pytest.fixture(scope="session")
def rust_peer(rust_examples: Path) -> str:
    """The Rust side."""
    return str(rust_examples / "rpc_peer")


Start = Callable[[str, str, str], Any]


@pytest.fixture
def start(child: Callable[..., Any], rust_peer: str) -> Iterator[Start]:
    """`start(language, verb, name)` starts one side and waits for its first word."""
    with ExitStack() as stack:
        kind = type(child("pass"))

        def start(language: str, verb: str, name: str) -> Any:
            program = [sys.executable, "-X", "faulthandler", str(HERE / "rpc_peer.py")]
            command = [rust_peer] if language == "rust" else program
            side = stack.enter_context(kind.command(*command, verb, name))
            side.expect({"serve": "serving", "call": "connected"}[verb])
            return side

        yield start


def do(client: Any, check: str) -> None:
    client.say(check)
    client.expect("ok")


@PAIRINGS
@pytest.mark.parametrize("check", CHECKS)
def test_a_check(start: Start, name: str, server: str, client: str, check: str) -> None:
    serving = start(server, "serve", name)
    calling = start(client, "call", name)
    do(calling, check)
    serving.say("stats")
    serving.expect("1 0 0")
    calling.finish()
    assert serving.finish() == "ended\n"


@PAIRINGS
def test_each_knows_the_other(start: Start, name: str, server: str, client: str) -> None:
    serving = start(server, "serve", name)
    calling = start(client, "call", name)
    calling.say("caller")
    calling.expect(str(serving.pid))
    calling.expect("ok")
    serving.finish()


@PAIRINGS
def test_a_killed_server_fails_what_is_under_way_and_its_successor_is_found(
    start: Start, name: str, server: str, client: str
) -> None:
    serving = start(server, "serve", name)
    calling = start(client, "call", name)
    calling.say("hang")
    calling.expect("hanging true")
    serving.kill()
    calling.expect("ok")
    do(calling, "gone")
    again = start(server, "serve", name)
    do(calling, "results")
    assert again.finish() == "ended\n"
    do(calling, "gone")


@PAIRINGS
def test_a_killed_client_has_its_handlers_stopped(
    start: Start, name: str, server: str, client: str
) -> None:
    serving = start(server, "serve", name)
    calling = start(client, "call", name)
    calling.say("hang")
    calling.expect("hanging true")
    calling.kill()
    witness = ringspan.blocking_connect(name)
    while witness.stopped() < 10:
        pass
    serving.say("stats")
    serving.expect("1 0 0")
    assert serving.finish() == "ended\n"


@PAIRINGS
def test_a_stopped_client_harms_only_itself(
    start: Start, name: str, server: str, client: str
) -> None:
    serving = start(server, "serve", name)
    stopped = start(client, "call", name)
    stopped.say("hang")
    stopped.expect("hanging true")
    stopped.kill(signal.SIGSTOP)
    do(start(client, "call", name), "many")
    stopped.kill(signal.SIGCONT)
    stopped.kill()
    serving.finish()


@PAIRINGS
def test_removing_the_name_ends_the_server(
    start: Start, name: str, server: str, client: str
) -> None:
    serving = start(server, "serve", name)
    calling = start(client, "call", name)
    do(calling, "results")
    ringspan.remove(name)
    serving.expect("ended")
    do(calling, "gone")
