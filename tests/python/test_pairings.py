"""A Rust or Python process streams to a Rust or Python process, awaiting or blocking: all 16
pairings, as real processes; each of them to an orderly end, with the producer killed in the middle,
and with the consumer killed in the middle. Then values that cross the border.

The Rust side is `examples/peer.rs`, the Python side `peer.py` beside this file.
"""

from __future__ import annotations

import itertools
import runpy
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TWIN = runpy.run_path(str(HERE / "peer.py"))
COUNT = 20_000
SIDES = ["rust-async", "rust-blocking", "python-asyncio", "python-blocking"]
PAIRINGS = pytest.mark.parametrize(("sender", "receiver"), list(itertools.product(SIDES, SIDES)))


@pytest.fixture(scope="session")
def rust_peer(rust_examples: Path) -> str:
    """The Rust side."""
    return str(rust_examples / "peer")


Start = Callable[..., Any]


@pytest.fixture
def start(child: Start, rust_peer: str) -> Iterator[Start]:
    """`start(side, verb, name, ...)` starts one side of a pair; all are gone afterwards."""
    with ExitStack() as stack:
        kind = type(child("pass"))

        def start(side: str, verb: str, name: str, *more: object) -> Any:
            language, mode = side.split("-")
            if language == "rust":
                program = [rust_peer]
            else:
                program = [sys.executable, "-X", "faulthandler", str(HERE / "peer.py")]
            return stack.enter_context(kind.command(*program, verb, name, mode, *more))

        yield start


def is_gone(name: str) -> bool:
    return not Path("/dev/shm", name.lstrip("/")).exists()


@PAIRINGS
def test_a_stream_comes_whole_and_in_order(
    start: Start, name: str, sender: str, receiver: str
) -> None:
    seed = zlib.crc32(f"{sender} {receiver}".encode())
    rx = start(receiver, "recv", name)
    tx = start(sender, "send", name, COUNT, seed)
    whole = f"closed {COUNT} {TWIN['expected'](COUNT, seed)}"
    for side in (tx, rx):
        side.expect("half")
        side.expect(whole)
        side.finish()
    assert is_gone(name), "the last one out of an ephemeral ring removes it"


@PAIRINGS
def test_a_killed_producer_is_told_behind_its_last_message(
    start: Start, name: str, sender: str, receiver: str
) -> None:
    rx = start(receiver, "recv", name)
    tx = start(sender, "send", name, 0, 11)
    rx.expect("half")
    tx.kill()
    how, pid, count, checksum = rx.line().split()
    assert (how, int(pid)) == ("died", tx.pid)
    assert int(checksum) == TWIN["expected"](int(count), 11), "a message was lost or torn"
    rx.finish()
    assert is_gone(name), "the survivor was the last one out"


@PAIRINGS
def test_a_killed_consumer_is_told(start: Start, name: str, sender: str, receiver: str) -> None:
    rx = start(receiver, "recv", name)
    tx = start(sender, "send", name, 0, 12)
    tx.expect("half")
    rx.kill()
    how, pid, count, checksum = tx.line().split()
    assert (how, int(pid)) == ("died", rx.pid)
    assert int(checksum) == TWIN["expected"](int(count), 12)
    tx.finish()
    assert is_gone(name), "the survivor was the last one out"


STRUCT = """
    import sys, ringspan
    name = sys.argv[1]
    rx = ringspan.Ring(name, capacity=1 << 16, ephemeral=True).consumer()
    tx = ringspan.Ring(name + "-back", capacity=1 << 16, ephemeral=True).producer()
    reading = rx.blocking_pop()
    print(reading, flush=True)
    reading.update(id=1, label="blå", raw=b"back", samples=[2.5], parent=-7)
    tx.blocking_attached()
    tx.blocking_push(reading)
    tx.close(), rx.close()
"""


def test_a_rust_struct_is_a_dict_and_back(child: Start, rust_peer: str, name: str) -> None:
    python = child(STRUCT, name)
    with type(python).command(rust_peer, "struct", name) as rust:
        reading = {
            "id": 2**64 - 1,
            "label": "grün",
            "raw": b"\x00\xff\x07",
            "samples": [0.5, -1.25],
            "parent": None,
        }
        python.expect(str(reading))
        rust.expect("1 blå [98, 97, 99, 107] [2.5] Some(-7)")
        python.finish()
        rust.finish()


ARRAY = """
    import sys, numpy, ringspan
    name, order = sys.argv[1:]
    tx = ringspan.Ring(name, capacity=1 << 16, ephemeral=True).producer()
    rx = ringspan.Ring(name + "-back", capacity=1 << 16, ephemeral=True).consumer()
    sent = numpy.array([[0.5, 1.0, 1.5], [2.0, -0.0, numpy.inf]], order=order)
    tx.blocking_push(sent)
    with rx.blocking_lend() as back:
        assert back.dtype == sent.dtype and back.shape == sent.shape, back
        assert (back == 2 * sent).all(), back
        assert not back.flags.writeable
    try:
        rx.blocking_pop()
    except ringspan.Closed:
        print("closed", flush=True)
    tx.close(), rx.close()
"""


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_goes_to_rust_and_back(
    child: Start, rust_peer: str, name: str, order: str
) -> None:
    pytest.importorskip("numpy")
    python = child(ARRAY, name, order)
    with type(python).command(rust_peer, "array", name) as rust:
        rust.expect(f"[2, 3] fortran={'true' if order == 'F' else 'false'}")
        python.expect("closed")
        python.finish()
        rust.finish()
