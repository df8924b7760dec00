"""sysframe's membridge: values in named memory, and a function that another process serves.

The original loses a wake now and then: both sides then sleep for ever, and hold the interpreter's
lock, so that no signal helps. So a third process looks on, ends both and begins anew. The calls
that came back count; how often it hung stands beside them.
"""

import importlib
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any, ClassVar

from compat import Alone, Compat, Work, checked, numbers, texts
from harness import CPUS, Figures, Subject

SYSFRAME = "ringspan.compat.sysframe.membridge"
#: Added in each call.
B = 1 << 40
#: Calls of one pair of processes.
ROOM = 1 << 18
#: So long without an answer is for ever.
HUNG = 1.0
#: Hung so often in one cell, it is not measured.
GIVEN_UP = 8


class Memory(Alone):
    """A small dict in named memory."""

    module = SYSFRAME
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("sysframe-write", 64, "one"),
        ("sysframe-read", 64, "one"),
    )

    def inputs(self) -> list[dict[str, Any]]:
        return [
            {"workers": abs(number), "name": text}
            for number, text in zip(numbers(), texts(16), strict=True)
        ]

    def write(self) -> Work:
        old, name, inputs = self.old(), self.at("memory"), self.inputs()
        write_memory, read_memory, value = old.write_memory, old.read_memory, inputs[0]

        def run(n: int) -> None:
            for _ in range(n):
                write_memory(name, value)

        def there() -> Any:
            return read_memory(name)

        def once(put: dict[str, Any]) -> Any:
            write_memory(name, put)
            return there()

        return Work(run, value, once, inputs[1:], there)

    def read(self) -> Work:
        old, name, inputs = self.old(), self.at("memory"), self.inputs()
        write_memory, read_memory = old.write_memory, old.read_memory

        def run(n: int) -> Any:
            for _ in range(n):
                found = read_memory(name)
            return found

        def once(put: dict[str, Any]) -> Any:
            write_memory(name, put)
            return read_memory(name)

        return Work(run, inputs[-1], once, inputs)

    def close(self, parent: bool) -> None:  # noqa: ARG002
        self.old().remove_memory(self.at("memory"))


class MemoryOriginal(Memory):
    name, module, needs, subject_class = "original", "sysframe.membridge", "sysframe", "peer"


class Call(Compat):
    """`call_function`, one call at a time; the median of all calls."""

    module = SYSFRAME
    waits = "parks"
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (("sysframe-call", 64, "apart"),)

    def measured(self, seconds: float) -> Figures:
        context = multiprocessing.get_context("spawn")
        times: list[float] = []
        hung = 0
        digest: float | None = None
        while digest is None or sum(times) < seconds:
            board = Board(context)
            name = self.at(f"add-{hung}-{len(times)}")
            left = max(seconds - sum(times), 0.01)
            asked = (self.module, name, board, CPUS[0], left)
            server = context.Process(target=serve, args=(*asked[:3], CPUS[1]), daemon=True)
            client = context.Process(target=call, args=asked, daemon=True)
            server.start()
            client.start()
            try:
                if not board.finished(client):
                    hung += 1
                else:
                    self.end(name, server)
            finally:
                for process in (client, server):
                    process.kill()
                    process.join()
                Path(f"/dev/shm{name}").unlink(missing_ok=True)
            if hung and (self.subject_class == "ringspan" or hung == GIVEN_UP):
                raise RuntimeError(f"hung {hung} times, after {len(times)} calls")
            digest = board.digest.value or digest
            times += board.times[: board.done.value]
        return 1 / statistics.median(times), {"digest": digest, "hung": float(hung)}

    def end(self, name: str, server: Any) -> None:
        """Ends the server in order."""
        self.old().remove_function(name)
        server.join(5)


class CallOriginal(Call):
    name, module, needs, subject_class = "original", "sysframe.membridge", "sysframe", "peer"

    def end(self, name: str, server: Any) -> None:
        """Does nothing: that may hang too. It is killed."""


class Board:
    """What the client leaves behind, also where it has to be killed."""

    def __init__(self, context: Any) -> None:
        self.times: Any = context.RawArray("d", ROOM)
        self.done: Any = context.RawValue("L")
        self.checked: Any = context.RawValue("L")
        self.digest: Any = context.RawValue("d")
        self.serves: Any = context.RawValue("L")

    def finished(self, client: Any) -> bool:
        """Waits for the client's end; False where no answer comes any more."""
        begin = time.monotonic()
        seen, since = -1, begin
        while client.is_alive():
            client.join(0.1)
            now = time.monotonic()
            answers = self.done.value + self.checked.value
            if answers != seen:
                seen, since = answers, now
            # Interpreters may need some time to start; then answers come without a pause.
            elif now - since > HUNG and (answers or now - begin > 10 * HUNG):
                return False
        if client.exitcode:
            raise RuntimeError(f"the client ended with {client.exitcode}")
        return True


def serve(module: str, name: str, board: Board, cpu: int) -> None:
    """The server's process."""
    os.sched_setaffinity(0, {cpu})

    def add(a: int, b: int) -> int:
        return a + b

    old = importlib.import_module(module)
    board.serves.value = 1
    old.create_function(name, add)


def call(module: str, name: str, board: Board, cpu: int, seconds: float) -> None:
    """The client's process."""
    os.sched_setaffinity(0, {cpu})
    call_function: Any = importlib.import_module(module).call_function
    while not board.serves.value:
        time.sleep(0.01)
    # The original's name is there before what it names: not too early.
    time.sleep(0.2)

    def answers() -> Any:
        for number in numbers():
            # Its numbers below zero are a bug of its own.
            yield call_function(name, (abs(number) >> 1, B)), (abs(number) >> 1) + B
            board.checked.value += 1

    board.digest.value = checked(answers())
    clock, times, done = time.perf_counter, board.times, board.done
    begin = clock()
    for i in range(ROOM):
        before = clock()
        found = call_function(name, (i, B))
        now = clock()
        if found != i + B:
            raise RuntimeError("an answer is wrong")
        times[i] = now - before
        done.value = i + 1
        if now - begin > seconds:
            break


SUBJECTS: list[type[Subject]] = [MemoryOriginal, CallOriginal, Memory, Call]
