"""The measuring loops of the Python cells, the same for every subject.

The parent receives and holds the clock; the child does what the parent asks over a control
pipe that is silent while the clock runs.
"""

import faulthandler
import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Coroutine
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

#: A figure in the unit of its kind, and named extra figures.
Figures = tuple[float, dict[str, float]]

CPUS = sorted(os.sched_getaffinity(0))


def load(name: str) -> Any:
    """Import a peer; none of them is needed to check or to list the cells."""
    return importlib.import_module(name)


class Fd:
    """A file descriptor that travels to the child when the subject is pickled for it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __getstate__(self) -> Any:
        return reduction.DupFd(self.fd)

    def __setstate__(self, state: Any) -> None:
        self.fd = state.detach()


class Subject:
    """One way to move messages between two processes; made by the parent, pickled for the child."""

    name: ClassVar[str]
    waits: ClassVar[str]
    subject_class: ClassVar[str] = "peer"
    #: Sizes of one-way streams, and whether the message is a numpy array handed over and
    #: acknowledged (then `trips` and `echo` are used with the array's size).
    streams: ClassVar[tuple[int, ...]] = ()
    trip_pins: ClassVar[tuple[str, ...]] = ()
    array: ClassVar[bool] = False
    #: Pinnings of the lock cells (see `turns.Lock`), sizes of `calls`.
    handover: ClassVar[tuple[str, ...]] = ()
    gets: ClassVar[tuple[int, ...]] = ()
    #: Pinnings of calls one at a time (see `calls.Rpc`), and whether it can have 64 in flight.
    rpc_pins: ClassVar[tuple[str, ...]] = ()
    in_flight: ClassVar[bool] = False
    #: Operations of an older library (see `compat.Compat`): kind after "py-compat-", size, pinning.
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = ()
    #: The modules it imports, or the names in them, separated by spaces.
    needs: ClassVar[str] = ""
    #: Of the cell, for subjects that do more than one thing.
    kind = ""

    def __init__(self, size: int, unique: str) -> None:
        self.size = size
        self.unique = unique

    def open(self, parent: bool) -> None:
        """Attach to what `__init__` made; runs once in each process."""

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        """Send `body` n - 1 times, then `last`."""
        raise NotImplementedError

    def consume(self, n: int) -> bytes:
        """Take n messages, return the last one."""
        raise NotImplementedError

    def trips(self, n: int) -> list[float]:
        """The seconds of each of n round trips."""
        raise NotImplementedError

    def echo(self, n: int) -> None:
        """The child's side of `trips`."""
        raise NotImplementedError

    def calls(self, n: int) -> float:
        """The seconds of n gets, in one process."""
        raise NotImplementedError

    def measured(self, seconds: float) -> Figures | None:  # noqa: ARG002
        """The figures, where the loops of this file are not for it."""
        return None

    def parks(self) -> int | None:
        """How often this end went to sleep, where the subject counts it."""
        return None

    def close(self, parent: bool) -> None:
        """Give back what `__init__` made."""


def timed(n: int, trip: Callable[[], object]) -> list[float]:
    """Run a blocking round trip n times."""
    clock, times = time.perf_counter, []
    for _ in range(n):
        begin = clock()
        trip()
        times.append(clock() - begin)
    return times


class Loop:
    """An event loop that lives as long as the process, plain asyncio or uvloop."""

    def __init__(self, kind: str) -> None:
        import asyncio

        factory = load("uvloop").new_event_loop if kind == "uvloop" else None
        self.runner = asyncio.Runner(loop_factory=factory)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


def _child(subject: Subject, control: Connection, cpu: int) -> None:
    import calls

    os.sched_setaffinity(0, {cpu})
    faulthandler.dump_traceback_later(120, exit=True)
    subject.open(parent=False)
    if isinstance(subject, calls.Rpc):
        subject.serve(lambda: control.send(b""))
        return
    body = os.urandom(subject.size)
    last = bytes(255 - byte for byte in body[:64]).ljust(subject.size, b"\0")
    control.send(last)
    while True:
        what, n = control.recv()
        if what == "stream":
            subject.produce(n, body, last)
        elif what == "echo":
            subject.echo(n)
        elif what == "inputs":
            import compat

            compat.send_inputs(subject)
        elif what.startswith("py-handover"):
            import turns

            assert isinstance(subject, turns.Lock)
            control.send(turns.play(subject, what, False, n))
        else:
            break
    subject.close(parent=False)


def measure(subject: Subject, kind: str, pin: str, seconds: float) -> Figures:
    """Run one cell: the figure in the unit of its kind, and named extra figures."""
    if kind == "py-value":
        return _gets(subject, seconds)
    if pin == "apart" and len(CPUS) < 2:
        raise RuntimeError("this cell needs two processors")
    if (figures := subject.measured(seconds)) is not None:
        return figures
    context = multiprocessing.get_context("spawn")
    control, theirs = context.Pipe()
    cpu = CPUS[1] if pin == "apart" else CPUS[0]
    child = context.Process(target=_child, args=(subject, theirs, cpu), daemon=True)
    child.start()
    theirs.close()
    os.sched_setaffinity(0, {CPUS[0]})
    faulthandler.dump_traceback_later(60 + 20 * seconds, exit=True)
    try:
        subject.open(parent=True)
        last: bytes = control.recv()
        if kind.startswith("py-rpc"):
            return _calls(subject, kind, seconds)
        if kind == "py-stream":
            found = _stream(subject, control, seconds, last)
        elif kind.startswith("py-compat"):
            import compat

            found = compat.streamed(subject, control, _stream(subject, control, seconds, last))
        elif kind.startswith("py-handover"):
            found = _turns(subject, control, kind, seconds)
        else:
            found = _trips(subject, control, seconds)
        control.send(("quit", 0))
        child.join()
        return found
    finally:
        child.kill()
        subject.close(parent=True)


def _stream(subject: Subject, control: Connection, seconds: float, last: bytes) -> Figures:
    n = 64
    while True:
        parks, slept = subject.parks(), sleeps()
        control.send(("stream", n))
        begin = time.perf_counter()
        got = subject.consume(n)
        spent = time.perf_counter() - begin
        if bytes(got) != last:
            raise RuntimeError(f"the last of {n} messages is not the one that was sent last")
        # The rounds before the last one warm up and find how many messages fill the time.
        if spent >= 0.6 * seconds:
            more = {"sleeps/msg": (sleeps() - slept) / n}
            if parks is not None and (now := subject.parks()) is not None:
                more["parks/msg"] = (now - parks) / n
            return n / spent, more
        n = max(n + 1, min(int(n * seconds / max(spent, 1e-6)), n * 50))


def _trips(subject: Subject, control: Connection, seconds: float) -> Figures:
    times: list[float] = []
    warm = False
    while True:
        control.send(("echo", 50))
        times += subject.trips(50)
        if not warm and sum(times) > 0.2 * seconds:
            warm, times = True, []
        elif warm and sum(times) > seconds:
            break
    times.sort()
    return statistics.median(times), {"p99 us": times[int(len(times) * 0.99)] * 1e6}


def _turns(subject: Subject, control: Connection, kind: str, seconds: float) -> Figures:
    import turns

    assert isinstance(subject, turns.Lock)
    control.send((kind, seconds))
    ours = turns.play(subject, kind, True, seconds)
    return turns.judged(kind, ours, control.recv())


def _calls(subject: Subject, kind: str, seconds: float) -> Figures:
    import calls

    assert isinstance(subject, calls.Rpc)
    return calls.play(subject, kind, seconds)


def _gets(subject: Subject, seconds: float) -> Figures:
    os.sched_setaffinity(0, {CPUS[0]})
    faulthandler.dump_traceback_later(60 + 20 * seconds, exit=True)
    try:
        subject.open(parent=True)
        n = 1
        while (spent := subject.calls(n)) < seconds / 20:
            n *= 2
        times = [subject.calls(n) / n for _ in range(max(3, int(seconds / spent)))]
        return statistics.median(times), {}
    finally:
        subject.close(parent=True)


def sleeps() -> int:
    """Voluntary switches of this process so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
