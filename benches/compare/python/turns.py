"""A lock between two processes: turns as fast as both can take them, and the wake of a waiter.

The lock guards 64 bytes. Each turn checks that they are whole and counts in them, so a lock that
lets two in at once fails instead of being fast.
"""

import multiprocessing
import statistics
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from harness import Subject, load, sleeps

#: The bytes under the lock: eight times the same count.
GUARDED = struct.Struct("8Q")
#: How long the holder sleeps so that the other one parks: longer than anybody spins.
HOLD = 400e-6
#: The words of a board.
GO, STOP, HELD = range(3)

Work = Callable[[Any], None]


class Lock(Subject):
    """A lock that both processes have, over 64 bytes."""

    handover: ClassVar[tuple[str, ...]] = ("apart", "same")

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        context = multiprocessing.get_context("spawn")
        self.board: Any = context.RawArray("Q", 8)
        #: What is guarded, unless the lock brings bytes of its own.
        self.words: Any = context.RawArray("Q", 8)

    def turns(self, work: Work, more: Callable[[], bool]) -> None:
        """Take the lock for writing, `work` on the bytes, give it back; as long as `more`."""
        raise NotImplementedError


def play(lock: Lock, kind: str, parent: bool, seconds: float) -> tuple[list[float], dict[str, Any]]:
    """One side of a cell: the times it saw, and named extra figures."""
    if parent:
        lock.board[GO] = 1
    while not lock.board[GO]:
        time.sleep(20e-6)
    end = time.monotonic() + seconds if parent else float("inf")
    before = sleeps()
    times, turns = (_wake if kind.endswith("wake") else _contend)(lock, parent, end)
    return times, {"turns": turns, "sleeps": sleeps() - before}


def _contend(lock: Lock, parent: bool, end: float) -> tuple[list[float], int]:  # noqa: ARG001
    board, clock = lock.board, time.monotonic
    pack, unpack = GUARDED.pack_into, GUARDED.unpack_from
    times: list[float] = []
    add = times.append
    last = clock()

    def work(buf: Any) -> None:
        words = unpack(buf)
        n = words[0]
        if words.count(n) != 8:
            raise RuntimeError("the bytes under the lock are torn: two were in")
        n += 1
        pack(buf, 0, n, n, n, n, n, n, n, n)

    def more() -> bool:
        nonlocal last
        now = clock()
        add(now - last)
        last = now
        if now >= end:
            board[STOP] = 1
        return not board[STOP]

    lock.turns(work, more)
    return times, len(times)


def _wake(lock: Lock, parent: bool, end: float) -> tuple[list[float], int]:
    board, clock = lock.board, time.monotonic_ns
    times: list[float] = []
    turn, tried, turns = (1 if parent else 2), 0, 0

    def await_holder() -> None:
        """The other one holds the lock by now: who tries from here on has to wait."""
        nonlocal tried
        begin = time.monotonic()
        while board[HELD] < turn - 1:
            if time.monotonic() > begin + 10:
                raise RuntimeError("the other side never came")
            time.sleep(20e-6)
        tried = clock()

    def work(buf: Any) -> None:
        nonlocal turns
        now = clock()
        before, stamp = struct.unpack_from("2Q", buf)
        if before != turn - 1:
            raise RuntimeError(f"turn {turn} came after turn {before}")
        if turn > 1:
            turns += 1
            if tried < stamp:
                times.append((now - stamp) * 1e-9)
        struct.pack_into("Q", buf, 0, turn)
        if time.monotonic() >= end:
            board[STOP] = 1
        board[HELD] = turn
        time.sleep(HOLD)
        struct.pack_into("Q", buf, 8, clock())

    def more() -> bool:
        nonlocal turn
        if board[STOP]:
            return False
        turn += 2
        await_holder()
        return True

    await_holder()
    lock.turns(work, more)
    return times, turns


def judged(
    kind: str, ours: tuple[list[float], dict[str, Any]], theirs: tuple[list[float], dict[str, Any]]
) -> tuple[float, dict[str, float]]:
    """The figure of both sides."""
    (a, about), (b, others) = ours, theirs
    worst = {"p99 us": max(_p99(times) for times in (a, b) if times) * 1e6 if a or b else 0.0}
    slept = {"sleeps/turn": about["sleeps"] / max(about["turns"], 1)}
    if kind.endswith("wake"):
        if not a and not b:
            raise RuntimeError("nobody was ever found waiting")
        late = 1 - len(a + b) / (about["turns"] + others["turns"])
        return statistics.median(a + b), {**worst, "late": late, **slept}
    share = min(len(a), len(b)) / len(a + b)
    return len(a + b) / sum(a), {"share": share, **worst, **slept}


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


class MpLock(Lock):
    """The standard library's: a POSIX semaphore."""

    name = "mp-lock"
    waits = "parks"

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        self.lock = multiprocessing.get_context("spawn").Lock()

    def turns(self, work: Work, more: Callable[[], bool]) -> None:
        lock, words = self.lock, self.words
        while True:
            with lock:
                work(words)
            if not more():
                return


class FileLock(Lock):
    """flock under a time-out loop, as it comes: it looks again every 50 ms."""

    needs: ClassVar[str] = "filelock"
    name = "filelock"
    waits = "polls"

    def open(self, parent: bool) -> None:  # noqa: ARG002
        self.lock: Any = load("filelock").FileLock(f"/dev/shm/{self.unique}-lock")

    def turns(self, work: Work, more: Callable[[], bool]) -> None:
        lock, words = self.lock, self.words
        while True:
            with lock:
                work(words)
            if not more():
                return

    def close(self, parent: bool) -> None:
        if parent:
            Path(f"/dev/shm/{self.unique}-lock").unlink(missing_ok=True)


SUBJECTS: list[type[Subject]] = [MpLock, FileLock]
