"""Calls: what ringspan promises about them, and the ratios people ask for."""

import sys

from gates import Cell, Gate, Pick
from gates_shared import PINS, ratio

ADD, ECHO = "rpc-add/64", "rpc-echo-64/65536/apart"
FLIGHT, PY_FLIGHT = "rpc-add-64/64/apart", "py-rpc-add-64/64/apart"

#: From 3.12 on a task of asyncio begins before it is scheduled: `async def` functions cost less.
EAGER = sys.version_info >= (3, 12)


def loops(pin: str, waits: str) -> Pick:
    """The peers in Python that live in one kind of event loop."""

    def pick(cell: Cell) -> bool:
        row = (cell["class"], cell["kind"], cell["pin"], cell["waits"])
        return row == ("peer", "py-rpc-add", pin, waits)

    return pick


def eagerly(title: str, peer: str, must: float, goal: float, before: float | None) -> Gate:
    """64 calls of an `async def` in flight; `before` is the bar for Pythons that are not eager."""
    bars = (must, goal) if EAGER else (before, None)
    return Gate(
        f"Python: 64 in flight, of {title}",
        f"{PY_FLIGHT}/ringspan-asyncio",
        f"{PY_FLIGHT}/{peer}",
        *bars,
    )


RPC = [
    *(
        Gate(
            f"64 calls in flight, of {title}",
            f"{FLIGHT}/ringspan-awake",
            f"{FLIGHT}/{peer}",
            must,
            goal,
        )
        for title, peer, must, goal in (
            ("tarpc", "tarpc", 6, 10),
            ("tonic", "tonic", 20, 30),
            ("a connection by hand", "by-hand-inline", 2, 3),
        )
    ),
    Gate(
        "1,000 calls in flight, of 64",
        "rpc-add-1000/64/apart/ringspan-awake",
        f"{FLIGHT}/ringspan-awake",
        1,
    ),
    *(
        Gate(
            f"a call, parked, of a bare round trip in tokio and 3 us, {PINS[pin]}",
            f"{ADD}/{pin}/{subject}",
            f"{ADD}/{pin}/bare-eventfd-tokio",
            1,
            at_most=True,
            plus=3e-6,
        )
        # On one core it parks as it comes.
        for pin, subject in (("apart", "ringspan-parked"), ("same", "ringspan-awake"))
    ),
    Gate(
        "a call, awake, of an awake round trip of the ring",
        f"{ADD}/apart/ringspan-awake",
        f"{ADD}/apart/ringspan-ring-awake",
        2.5,
        at_most=True,
    ),
    Gate("64 KiB there and back, owned, of tarpc", f"{ECHO}/ringspan-owned", f"{ECHO}/tarpc", 5),
    Gate(
        "64 KiB there and back, in place, of tarpc",
        f"{ECHO}/ringspan-in-place",
        f"{ECHO}/tarpc",
        8,
    ),
    eagerly("streams and msgpack by hand", "by-hand-asyncio", 1.5, 2.5, 1),
    eagerly("rpyc", "rpyc", 5, 9, None),
    eagerly("grpc.aio", "grpcio-aio", 50, 90, None),
    # 1.2 times as many calls in the same time.
    *(
        Gate(
            f"Python: a call, parked, of the fastest peer in asyncio, {words}",
            f"py-rpc-add/64/{pin}/ringspan-parked",
            loops(pin, "asyncio"),
            0.833,
            at_most=True,
        )
        for pin, words in PINS.items()
    ),
    *(
        Gate(
            f"Python: a blocking call, of multiprocessing's BaseManager, {words}",
            f"py-rpc-add/64/{pin}/ringspan-blocking",
            f"py-rpc-add/64/{pin}/mp-base-manager",
            1,
            at_most=True,
        )
        for pin, words in PINS.items()
    ),
    *(
        ratio(
            f"64 calls in flight, both on one core, of {title}",
            "rpc-add-64/64/same/ringspan-awake",
            peer,
            at_most=False,
        )
        for title, peer in (("tarpc", "tarpc"), ("a connection by hand", "by-hand-inline"))
    ),
    ratio(
        "1,000 calls in flight, of a connection by hand",
        "rpc-add-1000/64/apart/ringspan-awake",
        "by-hand-inline",
        at_most=False,
    ),
    *(
        ratio(
            f"64 calls in flight with 1 KiB, of {title}",
            "rpc-echo-64/1024/apart/ringspan-owned",
            peer,
            at_most=False,
        )
        for title, peer in (("tarpc", "tarpc"), ("a connection by hand", "by-hand-inline"))
    ),
    *(
        Gate(
            f"Python: a call {how}, {words}",
            f"py-rpc-add/64/{pin}/ringspan-{loop}",
            loops(pin, loop),
            None,
            at_most=True,
        )
        for how, loop in (
            ("as it comes, of the fastest peer in asyncio", "asyncio"),
            ("under uvloop, of the fastest peer there", "uvloop"),
        )
        for pin, words in PINS.items()
    ),
    ratio(
        "Python: 64 in flight under uvloop, of streams and msgpack by hand",
        f"{PY_FLIGHT}/ringspan-uvloop",
        "by-hand-uvloop",
        at_most=False,
    ),
]
