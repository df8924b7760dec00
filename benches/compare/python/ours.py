"""ringspan from Python: awaited under asyncio and uvloop, batched, blocking, with arrays."""

import struct
import time
from typing import Any, ClassVar

from harness import Loop, Subject, load, timed
from peers import SIZES


class Ringspan(Subject):
    """Two rings, one per direction; the verbs are chosen by the subclasses."""

    subject_class = "ringspan"
    needs: ClassVar[str] = "ringspan"
    spin: ClassVar[float | None] = None

    def open(self, parent: bool) -> None:
        ringspan = load("ringspan")
        options: dict[str, Any] = {
            "capacity": 8 << 20 if self.size >= 65536 else 1 << 20,
            "ephemeral": True,
        }
        if self.spin is not None:
            options["spin"] = self.spin
        out, back = ("down", "up") if parent else ("up", "down")
        self.tx = ringspan.Producer(f"/{self.unique}-{out}", **options)
        self.rx = ringspan.Consumer(f"/{self.unique}-{back}", **options)
        if self.waits in ("asyncio", "uvloop"):
            self.loop = Loop(self.waits)

    def parks(self) -> int | None:
        parks: int = self.rx.stat().parks
        return parks

    def close(self, parent: bool) -> None:  # noqa: ARG002
        # Missing when `open` failed; detach, because the other side may still be in a call.
        for end in ("tx", "rx"):
            if hasattr(self, end):
                getattr(self, end).detach()


class Await(Ringspan):
    """`await tx.push` and `await rx.pop`."""

    name = "ringspan-await"
    waits = "asyncio"
    streams: ClassVar[tuple[int, ...]] = SIZES

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        async def all_of_them() -> None:
            push = self.tx.push
            for _ in range(n - 1):
                await push(body)
            await push(last)

        self.loop.run(all_of_them())

    def consume(self, n: int) -> bytes:
        async def all_of_them() -> bytes:
            pop = self.rx.pop
            for _ in range(n - 1):
                await pop()
            found: bytes = await pop()
            return found

        return self.loop.run(all_of_them())

    def trips(self, n: int) -> list[float]:
        async def all_trips() -> list[float]:
            body, push, pop = bytes(self.size), self.tx.push, self.rx.pop
            clock, times = time.perf_counter, []
            for _ in range(n):
                begin = clock()
                await push(body)
                await pop()
                times.append(clock() - begin)
            return times

        return self.loop.run(all_trips())

    def echo(self, n: int) -> None:
        async def all_echoes() -> None:
            push, pop = self.tx.push, self.rx.pop
            for _ in range(n):
                await push(await pop())

        self.loop.run(all_echoes())


class AwaitUvloop(Await):
    """The same under uvloop."""

    needs: ClassVar[str] = "ringspan uvloop"
    name = "ringspan-await-uvloop"
    waits = "uvloop"
    streams = SIZES[:1]


class Trips(Await):
    """Round trips that park in asyncio."""

    name = "ringspan-asyncio"
    streams = ()
    trip_pins: ClassVar[tuple[str, ...]] = ("apart", "same")


class TripsUvloop(Trips):
    """Round trips that park in uvloop."""

    needs: ClassVar[str] = "ringspan uvloop"
    name = "ringspan-uvloop"
    waits = "uvloop"


class TripsSpin(Trips):
    """Round trips with the loop kept busy, which only the user may ask for."""

    name = "ringspan-spin"
    trip_pins = ("apart",)
    spin = 100e-6


class Many(Await):
    """`push_many` and `pop_many` of 64."""

    name = "ringspan-pop-many"
    streams = SIZES[:2]

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        async def all_of_them() -> None:
            batch, push_many = [body] * 64, self.tx.push_many
            for _ in range((n - 1) // 64):
                await push_many(batch)
            await push_many([body] * ((n - 1) % 64) + [last])

        self.loop.run(all_of_them())

    def consume(self, n: int) -> bytes:
        async def all_of_them() -> bytes:
            pop_many, left = self.rx.pop_many, n
            found: list[bytes] = []
            while left:
                found = await pop_many(min(left, 64))
                left -= len(found)
            return found[-1]

        return self.loop.run(all_of_them())


class Blocking(Ringspan):
    """`blocking_push` and `blocking_pop`."""

    name = "ringspan-blocking"
    waits = "parks"
    streams = SIZES
    trip_pins = ("apart", "same")

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        push = self.tx.blocking_push
        for _ in range(n - 1):
            push(body)
        push(last)

    def consume(self, n: int) -> bytes:
        pop = self.rx.blocking_pop
        for _ in range(n - 1):
            pop()
        found: bytes = pop()
        return found

    def trips(self, n: int) -> list[float]:
        body, push, pop = bytes(self.size), self.tx.blocking_push, self.rx.blocking_pop

        def trip() -> None:
            push(body)
            pop()

        return timed(n, trip)

    def echo(self, n: int) -> None:
        push, pop = self.tx.blocking_push, self.rx.blocking_pop
        for _ in range(n):
            push(pop())


class ArrayCopied(Ringspan):
    """`blocking_push` of an array, lent to the reader as a view; a second ring says "done"."""

    needs: ClassVar[str] = "ringspan numpy"
    name = "ringspan-array-copy"
    waits = "parks"
    array = True

    def trips(self, n: int) -> list[float]:
        numpy = load("numpy")
        array: Any = numpy.random.default_rng(1).random(self.size // 8)
        push, pop, turn = self.tx.blocking_push, self.rx.blocking_pop, 0

        def trip() -> None:
            nonlocal turn
            turn += 1
            array[0] = turn
            push(array)
            pop()

        return timed(n, trip)

    def echo(self, n: int) -> None:
        push, lend = self.tx.blocking_push, self.rx.blocking_lend
        for turn in range(1, n + 1):
            with lend() as array:
                if array[0] != turn:
                    raise RuntimeError(f"array {turn} did not arrive")
            push(b"x")


class ArrayUntouched(Ringspan):
    """Room in the ring lent to the writer and the message lent to the reader: no copy at all."""

    name = "ringspan-array-no-copy"
    waits = "parks"
    array = True

    def trips(self, n: int) -> list[float]:
        reserve, pop, size, turn = self.tx.blocking_reserve, self.rx.blocking_pop, self.size, 0

        def trip() -> None:
            nonlocal turn
            turn += 1
            with reserve(size) as grant:
                struct.pack_into("d", grant.buf, 0, turn)
                grant.commit()
            pop()

        return timed(n, trip)

    def echo(self, n: int) -> None:
        push, lend = self.tx.blocking_push, self.rx.blocking_lend
        for turn in range(1, n + 1):
            with lend() as view:
                if struct.unpack_from("d", view)[0] != turn:
                    raise RuntimeError(f"array {turn} did not arrive")
            push(b"x")


SUBJECTS: list[type[Subject]] = [
    Await, AwaitUvloop, Trips, TripsUvloop, TripsSpin, Many, Blocking, ArrayCopied, ArrayUntouched
]  # fmt: skip
