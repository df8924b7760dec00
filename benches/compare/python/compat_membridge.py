"""membridge 1.0: rings and views in one process, and streams between two."""

import asyncio
import contextlib
from typing import Any, ClassVar

from compat import Alone, Compat, Work, messages, numbers, records, texts, there_and_back
from harness import Loop, Subject

MEMBRIDGE = "ringspan.compat.membridge"


class Ring(Alone):
    """Both ends of a ring in one process."""

    module = MEMBRIDGE
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("membridge-ring-bytes", 64, "one"),
        ("membridge-ring-bytes", 64 << 10, "one"),
        ("membridge-ring-text", 64, "one"),
        ("membridge-ring-int", 8, "one"),
        ("membridge-ring-empty", 64, "one"),
        ("membridge-ring-used", 64, "one"),
    )

    def ring(self) -> Any:
        self.memory = self.old().SharedMemory.create(self.at("ring"), 24 + (1 << 20))
        return self.memory.spsc()

    def ring_bytes(self) -> Work:
        ring = self.ring()
        return there_and_back(ring.push, ring.pop, messages(self.size))

    def tagged(self, tag: str, inputs: list[Any]) -> Work:
        ring = self.ring()
        push, pop, body = ring.push, ring.pop, inputs[0]

        def run(n: int) -> Any:
            for _ in range(n):
                push(body)
                found = pop(tag)
            return found

        def once(item: Any) -> Any:
            push(item)
            return pop(tag)

        return Work(run, body, once, inputs)

    def ring_text(self) -> Work:
        return self.tagged("str", texts(self.size))

    def ring_int(self) -> Work:
        return self.tagged("int", numbers())

    def ring_empty(self) -> Work:
        ring = self.ring()
        push, pop = ring.push, ring.pop

        def run(n: int) -> Any:
            for _ in range(n):
                found = pop()
            return found

        def once(message: bytes) -> Any:
            push(message)
            found = pop()
            return found if pop() is None else "a message too many"

        return Work(run, None, once, messages(self.size))

    def ring_used(self) -> Work:
        ring = self.ring()
        used, push, pop, inputs = ring.used, ring.push, ring.pop, messages(self.size)
        body = inputs[0]

        def run(n: int) -> Any:
            for _ in range(n):
                push(body)
                found = used()
                pop()
                used()
            return found

        def once(message: bytes) -> Any:
            before = used()
            push(message)
            there = used() - before
            found = pop()
            return found if (there, used()) == (4 + len(message), before) else "a wrong sum"

        return Work(run, 4 + self.size, once, inputs)

    def close(self, parent: bool) -> None:  # noqa: ARG002
        if hasattr(self, "memory"):
            self.old().SharedMemory.remove(self.memory.name())


class View(Alone):
    """One view of a segment."""

    module = MEMBRIDGE
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("membridge-view-write-int", 8, "one"),
        ("membridge-view-read-int", 8, "one"),
        ("membridge-view-read", 1 << 10, "one"),
        ("membridge-view-write", 64 << 10, "one"),
        ("membridge-view-read", 64 << 10, "one"),
        ("membridge-view-write-mixed", 64, "one"),
        ("membridge-view-read-mixed", 64, "one"),
    )
    SCHEMA: ClassVar[list[tuple[str, int]]] = [("bool", 1), ("int", 1), ("float", 1), ("str", 1)]

    def view(self) -> Any:
        self.memory = self.old().SharedMemory.create(self.at("view"), 4 + (128 << 10))
        return self.memory.map()

    def integers(self, view: Any) -> tuple[int, Any, Any]:
        """An integer, what reads one, and what writes and reads one."""
        seek, read, write = view.seek, view.read, view.write

        def there() -> Any:
            seek(0)
            return read("int")

        def once(number: int) -> Any:
            write(number, 0)
            return there()

        return numbers()[0], there, once

    def view_write_int(self) -> Work:
        view = self.view()
        number, there, once = self.integers(view)
        write = view.write

        def run(n: int) -> None:
            for _ in range(n):
                write(number, 0)

        return Work(run, number, once, numbers()[1:], there)

    def view_read_int(self) -> Work:
        view = self.view()
        number, _, once = self.integers(view)
        seek, read = view.seek, view.read
        view.write(number, 0)

        def run(n: int) -> Any:
            for _ in range(n):
                seek(0)
                found = read("int")
            return found

        return Work(run, number, once, [*numbers()[1:], number])

    def ranges(self, view: Any) -> tuple[list[bytes], Any, Any]:
        """Bytes, what reads as many, and what writes and reads them."""
        size = self.size

        def there() -> Any:
            return view.read_range(0, size)

        def once(body: bytes) -> Any:
            view.write(body, 0)
            return there()

        return messages(size), there, once

    def view_write(self) -> Work:
        view = self.view()
        inputs, there, once = self.ranges(view)
        write, body = view.write, inputs[0]

        def run(n: int) -> None:
            for _ in range(n):
                write(body, 0)

        return Work(run, body, once, inputs[1:], there)

    def view_read(self) -> Work:
        view = self.view()
        inputs, _, once = self.ranges(view)
        read_range, size = view.read_range, self.size

        def run(n: int) -> Any:
            for _ in range(n):
                found = read_range(0, size)
            return found

        return Work(run, inputs[-1], once, inputs)

    def view_write_mixed(self) -> Work:
        view, inputs, schema = self.view(), records(), self.SCHEMA
        write_mixed, items = view.write_mixed, inputs[0]

        def run(n: int) -> None:
            for _ in range(n):
                write_mixed(items, 0)

        def there() -> Any:
            return view.read_mixed(schema, 0)

        def once(record: list[Any]) -> Any:
            write_mixed(record, 0)
            return there()

        return Work(run, items, once, inputs[1:], there)

    def view_read_mixed(self) -> Work:
        view, inputs, schema = self.view(), records(), self.SCHEMA
        read_mixed = view.read_mixed

        def run(n: int) -> Any:
            for _ in range(n):
                found = read_mixed(schema, 0)
            return found

        def once(record: list[Any]) -> Any:
            view.write_mixed(record, 0)
            return read_mixed(schema, 0)

        return Work(run, inputs[-1], once, inputs)

    def close(self, parent: bool) -> None:  # noqa: ARG002
        if hasattr(self, "memory"):
            self.old().SharedMemory.remove(self.memory.name())


class Busy(Compat):
    """A stream; both sides try again and again, which is all that the original can do."""

    module = MEMBRIDGE
    waits = "spins"
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("membridge-stream-busy", 64, "apart"),
        ("membridge-stream-busy", 64 << 10, "apart"),
    )

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        room = 8 << 20 if size >= 64 << 10 else 1 << 20
        self.memory: Any = self.old().SharedMemory.create(self.at("stream"), 24 + room)
        self.ring: Any = self.memory.spsc()  # the creator's first: it lays the ring out

    def open(self, parent: bool) -> None:
        if not parent:
            self.memory = self.old().SharedMemory.open(self.at("stream"))
            self.ring = self.memory.spsc()

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        push = self.ring.push
        for _ in range(n - 1):
            while not push(body):
                pass
        while not push(last):
            pass

    def consume(self, n: int) -> bytes:
        pop = self.ring.pop
        found: Any = None
        for _ in range(n):
            while (found := pop()) is None:
                pass
        assert isinstance(found, bytes)
        return found

    def close(self, parent: bool) -> None:
        # Now: a child that multiprocessing started ends without tidying up.
        self.ring = self.memory = None
        if parent:
            with contextlib.suppress(FileNotFoundError):
                self.old().SharedMemory.remove(self.at("stream"))


class Awaited(Busy):
    """A stream under asyncio: `apush` and `apop`."""

    waits = "asyncio"
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("membridge-stream-awaited", 64, "apart"),
        ("membridge-stream-awaited", 64 << 10, "apart"),
    )

    def open(self, parent: bool) -> None:
        super().open(parent)
        self.loop = Loop("asyncio")

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        async def all_of_them() -> None:
            push = self.ring.apush
            for _ in range(n - 1):
                await push(body)
            await push(last)

        self.loop.run(all_of_them())

    def consume(self, n: int) -> bytes:
        async def all_of_them() -> bytes:
            pop = self.ring.apop
            for _ in range(n - 1):
                await pop()
            found: bytes = await pop()
            return found

        return self.loop.run(all_of_them())


class Sleeping(Awaited):
    """The same with what the original has: try, and `asyncio.sleep(0)` before the next time."""

    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("membridge-stream-sleeping", 64, "apart"),
        ("membridge-stream-sleeping", 64 << 10, "apart"),
    )

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        async def all_of_them() -> None:
            push, sleep = self.ring.push, asyncio.sleep
            for _ in range(n - 1):
                while not push(body):
                    await sleep(0)
            while not push(last):
                await sleep(0)

        self.loop.run(all_of_them())

    def consume(self, n: int) -> bytes:
        async def all_of_them() -> bytes:
            pop, sleep = self.ring.pop, asyncio.sleep
            found: Any = None
            for _ in range(n):
                while (found := pop()) is None:
                    await sleep(0)
            assert isinstance(found, bytes)
            return found

        return self.loop.run(all_of_them())


class SleepingOriginal(Sleeping):
    name, module, needs, subject_class = "original", "membridge", "membridge", "peer"


class AwaitedOriginal(SleepingOriginal):
    """Beside `apush` and `apop`, which it does not have."""

    compat = Awaited.compat


class RingOriginal(Ring):
    name, module, needs, subject_class = "original", "membridge", "membridge", "peer"


class ViewOriginal(View):
    name, module, needs, subject_class = "original", "membridge", "membridge", "peer"


class BusyOriginal(Busy):
    name, module, needs, subject_class = "original", "membridge", "membridge", "peer"


SUBJECTS: list[type[Subject]] = [
    RingOriginal, ViewOriginal, BusyOriginal, SleepingOriginal, AwaitedOriginal,
    Ring, View, Busy, Sleeping, Awaited,
]  # fmt: skip
