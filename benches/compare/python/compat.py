"""Code written for an older library, on the original and on `ringspan.compat`.

Each subject is written once and runs on the module that it names, so both sides do the same work.
Beside the clock the same inputs go through both, must come out as they went in, and are summed up:
`run.py` compares the sums of the two sides.
"""

import faulthandler
import importlib
import os
import random
import statistics
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, ClassVar

from harness import CPUS, Figures, Subject

#: How many inputs are checked.
CHECKED = 64


class Compat(Subject):
    """Code that uses `module`, which the line of the import decides."""

    name = "ringspan-compat"
    waits = "-"
    subject_class = "ringspan"
    needs: ClassVar[str] = "ringspan"
    module: ClassVar[str]

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size, "unique": self.unique, "kind": self.kind}

    def old(self) -> Any:
        """The module."""
        return importlib.import_module(self.module)

    @property
    def what(self) -> str:
        """The operation: what the kind says after the library."""
        return self.kind.removeprefix("py-compat-").split("-", 1)[1]

    def at(self, name: str) -> str:
        """A name in shared memory that nobody else has."""
        return f"/{self.unique}-{name}"


@dataclass
class Work:
    """One operation, made ready."""

    #: Does it n times and returns what it gave last.
    run: Callable[[int], Any]
    #: What that has to be.
    gives: Any
    #: Does it once with an input, and returns the input as it came out.
    once: Callable[[Any], Any]
    inputs: Iterable[Any]
    #: Where `run` returns nothing: looks at what it left.
    after: Callable[[], Any] | None = None


class Alone(Compat):
    """Operations in one process: each is a method, named as its kind, that returns a `Work`."""

    def measured(self, seconds: float) -> Figures:
        try:
            work: Work = getattr(self, self.what.replace("-", "_"))()
            # What the standard library starts beside, at its first block, is no part of this
            # process: it must neither be pinned with it nor start under the clock.
            resource_tracker.ensure_running()
            os.sched_setaffinity(0, {CPUS[0]})
            faulthandler.dump_traceback_later(60 + 20 * seconds, exit=True)
            return timed(work, seconds)
        finally:
            self.close(parent=True)


def there_and_back(put: Callable[[Any], Any], get: Callable[[], Any], inputs: list[Any]) -> Work:
    """The first of the inputs put in and taken out again."""
    body = inputs[0]

    def run(n: int) -> Any:
        for _ in range(n):
            put(body)
            found = get()
        return found

    def once(one: Any) -> Any:
        put(one)
        return get()

    return Work(run, body, once, inputs)


def timed(work: Work, seconds: float) -> Figures:
    """The rate of an operation, after its check."""
    digest = checked((work.once(one), one) for one in work.inputs)

    def spent(n: int) -> float:
        begin = time.perf_counter()
        found = work.run(n)
        passed = time.perf_counter() - begin
        if (found if work.after is None else work.after()) != work.gives:
            raise RuntimeError("what came out is not what was put in")
        return passed

    n = 1
    while (once := spent(n)) < seconds / 20:
        n *= 2
    times = [spent(n) / n for _ in range(max(3, int(seconds / once)))]
    return 1 / statistics.median(times), {"digest": digest}


def streamed(subject: Subject, control: Connection, figures: Figures) -> Figures:
    """A stream between two processes that was measured, with its check; see `send_inputs`."""
    control.send(("inputs", 0))
    value, more = figures
    digest = checked((subject.consume(1), one) for one in messages(subject.size))
    return value, {**more, "digest": digest}


def send_inputs(subject: Subject) -> None:
    """The child's side of it."""
    for message in messages(subject.size):
        subject.produce(1, b"", message)


def checked(pairs: Iterable[tuple[Any, Any]]) -> float:
    """A sum over all that came out; each must be what went in, of the same type."""
    total = 0
    for found, put in pairs:
        if found != put or type(found) is not type(put):
            raise RuntimeError(f"{put!r:.60} went in, and {found!r:.60} came out")
        total = zlib.crc32(repr(found).encode(), total)
    return float(total)


# ---- inputs, the same for both sides -------------------------------------------------------------


def messages(size: int) -> list[bytes]:
    """Bytes."""
    source = random.Random(size)
    return [source.randbytes(size) for _ in range(CHECKED)]


def texts(size: int) -> list[str]:
    """Text of as many bytes."""
    return [bytes(32 + byte % 95 for byte in one).decode() for one in messages(size)]


def numbers() -> list[int]:
    """Integers of 64 bits, both signs."""
    return [int.from_bytes(one, "little", signed=True) for one in messages(8)]


def records() -> list[list[Any]]:
    """A bool, an int, a float, and a text of 16 bytes."""
    return [
        [number % 2 == 0, number, number / 3, text]
        for number, text in zip(numbers(), texts(16), strict=True)
    ]
