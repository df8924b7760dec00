"""The limits in Python: a bare eventfd under `add_reader`, and reused shared memory with a pipe."""

import asyncio
import multiprocessing
import os
import time
from multiprocessing.shared_memory import SharedMemory
from typing import Any, ClassVar

from harness import Fd, Loop, Subject, load, timed


class AddReader(Subject):
    """One eventfd per direction, registered once; the callback reads it and resolves a future."""

    name = "bare-add-reader"
    waits = "asyncio"
    subject_class = "bare"
    trip_pins = ("apart", "same")

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        self.down, self.up = (Fd(os.eventfd(0, os.EFD_NONBLOCK)) for _ in range(2))

    def open(self, parent: bool) -> None:
        self.loop = Loop(self.waits)
        self.out, self.back = (self.down.fd, self.up.fd) if parent else (self.up.fd, self.down.fd)
        self.parked: asyncio.Future[None] | None = None
        self.early = 0
        self.loop.run(self.register())

    async def register(self) -> None:
        asyncio.get_running_loop().add_reader(self.back, self.woken)

    def woken(self) -> None:
        os.eventfd_read(self.back)
        if self.parked is None:
            self.early += 1
        else:
            self.parked.set_result(None)
            self.parked = None

    async def wait(self) -> None:
        if self.early:
            self.early -= 1
            return
        self.parked = asyncio.get_running_loop().create_future()
        await self.parked

    def trips(self, n: int) -> list[float]:
        async def all_trips() -> list[float]:
            clock, times = time.perf_counter, []
            for _ in range(n):
                begin = clock()
                os.eventfd_write(self.out, 1)
                await self.wait()
                times.append(clock() - begin)
            return times

        return self.loop.run(all_trips())

    def echo(self, n: int) -> None:
        async def all_echoes() -> None:
            for _ in range(n):
                await self.wait()
                os.eventfd_write(self.out, 1)

        self.loop.run(all_echoes())


class AddReaderUvloop(AddReader):
    """The same under uvloop."""

    needs: ClassVar[str] = "uvloop"
    name = "bare-add-reader-uvloop"
    waits = "uvloop"


class ReusedBlock(Subject):
    """One shared-memory block for all arrays, a pipe for "it is there" and "I am done"."""

    needs: ClassVar[str] = "numpy"
    name = "shm-pipe-copy"
    waits = "parks"
    subject_class = "bare"
    array = True
    copies: ClassVar[bool] = True

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        self.block = SharedMemory(create=True, size=size)
        self.ours, self.theirs = multiprocessing.get_context("spawn").Pipe()

    def open(self, parent: bool) -> None:  # noqa: ARG002
        self.numpy = load("numpy")
        self.view: Any = self.numpy.ndarray(self.size // 8, "f8", self.block.buf)
        self.array_out: Any = self.numpy.random.default_rng(1).random(self.size // 8)

    def trips(self, n: int) -> list[float]:
        view, out = self.view, self.array_out
        send, recv = self.ours.send_bytes, self.ours.recv_bytes
        turn = 0

        def trip() -> None:
            nonlocal turn
            turn += 1
            out[0] = turn
            if self.copies:
                view[:] = out
            else:
                view[0] = turn
            send(b"x")
            recv()

        return timed(n, trip)

    def echo(self, n: int) -> None:
        view, send, recv = self.view, self.theirs.send_bytes, self.theirs.recv_bytes
        for turn in range(1, n + 1):
            recv()
            if view[0] != turn:
                raise RuntimeError(f"array {turn} did not arrive")
            send(b"x")

    def close(self, parent: bool) -> None:
        self.view = None
        self.block.close()
        if parent:
            self.block.unlink()


class ReusedBlockUntouched(ReusedBlock):
    """The array is already in the block: only the news travels."""

    name = "shm-pipe-no-copy"
    copies = False


class SharedBytes(Subject):
    """A `bytes` of what stands in shared memory: one copy, which nobody keeps whole."""

    name = "bare-shm-bytes"
    waits = "-"
    subject_class = "bare"
    gets: ClassVar[tuple[int, ...]] = (64, 1 << 20)

    def open(self, parent: bool) -> None:  # noqa: ARG002
        self.block = SharedMemory(create=True, size=self.size)
        buf = self.block.buf
        assert buf is not None
        buf[: self.size] = bytes(range(64)) * (self.size // 64)

    def calls(self, n: int) -> float:
        buf, size = self.block.buf, self.size
        assert buf is not None
        begin = time.perf_counter()
        for _ in range(n):
            found = bytes(buf[:size])
        spent = time.perf_counter() - begin
        if found[:64] != bytes(range(64)):
            raise RuntimeError("the bytes are not those that were written")
        return spent

    def close(self, parent: bool) -> None:  # noqa: ARG002
        self.block.close()
        self.block.unlink()


SUBJECTS: list[type[Subject]] = [
    AddReader, AddReaderUvloop, ReusedBlock, ReusedBlockUntouched, SharedBytes
]  # fmt: skip
