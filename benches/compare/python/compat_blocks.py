"""The standard library's blocks, memory_interface and shared_memory, each in one process."""

import contextlib
import functools
import importlib
import inspect
import itertools
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any, ClassVar

from compat import Alone, Work, messages, numbers, texts, there_and_back
from harness import Subject


class Blocks(Alone):
    """`multiprocessing.shared_memory`: named blocks, and lists in them."""

    module = "ringspan.compat.multiprocessing"
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("multiprocessing-create", 4 << 10, "one"),
        ("multiprocessing-create", 1 << 20, "one"),
        ("multiprocessing-create-untracked", 4 << 10, "one"),
        ("multiprocessing-attach", 4 << 10, "one"),
        ("multiprocessing-buf-write", 4 << 10, "one"),
        ("multiprocessing-buf-read", 4 << 10, "one"),
        ("multiprocessing-list-create", 64, "one"),
        ("multiprocessing-list-get", 64, "one"),
        ("multiprocessing-list-set", 64, "one"),
    )
    LIST: ClassVar[list[Any]] = [7, 2.5, "a text of 24 characters.", b"eight of", None, True]

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        self.kept: list[Any] = []

    def block(self, pieces: int = 1) -> Any:
        """A block that stays for the whole cell."""
        made = self.old().SharedMemory(self.at("kept")[1:], create=True, size=pieces * self.size)
        self.kept.append(made)
        return made

    def create(self) -> Work:
        return self.creation(self.old().SharedMemory)

    def create_untracked(self) -> Work:
        new = self.old().SharedMemory
        if "track" in inspect.signature(new).parameters:
            return self.creation(functools.partial(new, track=False))
        # The standard class before 3.13: what its programs do who want no tracker.
        for verb in ("register", "unregister"):
            setattr(resource_tracker, verb, lambda name, kind: None)  # noqa: ARG005
        return self.creation(new)

    def creation(self, new: Callable[..., Any]) -> Work:
        """Blocks made and unlinked."""
        name, size = self.at("new")[1:], self.size

        def run(n: int) -> Any:
            for _ in range(n):
                block = new(name, create=True, size=size)
                block.close()
                block.unlink()
            return block.size

        def once(body: bytes) -> Any:
            block = new(name, create=True, size=size)
            block.buf[size - len(body) :] = body
            other = new(name)
            found = bytes(other.buf[other.size - len(body) :])
            other.close()
            block.close()
            block.unlink()
            return found

        return Work(run, size, once, messages(64))

    def attach(self) -> Work:
        block, attach = self.block(), self.old().SharedMemory
        name, size = block.name, self.size

        def run(n: int) -> Any:
            for _ in range(n):
                other = attach(name)
                other.close()
            return other.size

        def once(body: bytes) -> Any:
            block.buf[:size] = body
            other = attach(name)
            found = bytes(other.buf[:size])
            other.close()
            return found

        return Work(run, size, once, messages(size))

    #: Slices written in turn: one by itself is a tenth quicker or slower as its source and its page
    #: lie in the caches of that process, which is luck.
    PIECES = 16

    def buf_write(self) -> Work:
        block, size, inputs = self.block(self.PIECES), self.size, messages(self.size)
        body, pieces = inputs[0], list(enumerate(inputs[: self.PIECES]))

        def run(n: int) -> None:
            for at, piece in itertools.islice(itertools.cycle(pieces), n):
                block.buf[at * size : (at + 1) * size] = piece

        def there() -> bytes:
            return bytes(block.buf[:size])

        def once(data: bytes) -> bytes:
            block.buf[:size] = data
            return there()

        return Work(run, body, once, inputs[1:], there)

    def buf_read(self) -> Work:
        block, size, inputs = self.block(), self.size, messages(self.size)

        def run(n: int) -> Any:
            for _ in range(n):
                found = bytes(block.buf[:size])
            return found

        def once(data: bytes) -> bytes:
            block.buf[:size] = data
            return bytes(block.buf[:size])

        return Work(run, inputs[-1], once, inputs)

    def list_create(self) -> Work:
        new, name, items = self.old().ShareableList, self.at("list")[1:], self.LIST

        def run(n: int) -> Any:
            for _ in range(n):
                made = new(items, name=name)
                made.shm.close()
                made.shm.unlink()
            return made.shm.name

        def once(number: int) -> Any:
            made = new([number, *items], name=name)
            other = new(name=name)
            found = list(other)
            other.shm.close()
            made.shm.close()
            made.shm.unlink()
            return found[0] if found[1:] == items else found

        return Work(run, name, once, numbers())

    def shareable(self) -> Any:
        """A list that stays for the whole cell."""
        made = self.old().ShareableList(self.LIST, name=self.at("kept")[1:])
        self.kept.append(made.shm)
        return made

    def list_get(self) -> Work:
        made, inputs = self.shareable(), texts(24)

        def run(n: int) -> Any:
            for _ in range(n):
                found = made[2]
            return found

        def once(text: str) -> Any:
            made[2] = text
            return made[2]

        # Trailing spaces stay, trailing NULs would not; there are none.
        return Work(run, inputs[-1], once, inputs)

    def list_set(self) -> Work:
        made, inputs = self.shareable(), numbers()
        number = inputs[0]

        def run(n: int) -> None:
            for _ in range(n):
                made[0] = number

        def there() -> Any:
            return made[0]

        def once(put: int) -> Any:
            made[0] = put
            return there()

        return Work(run, number, once, inputs[1:], there)

    def close(self, parent: bool) -> None:  # noqa: ARG002
        for block in self.kept:
            block.close()
            block.unlink()


class BlocksOriginal(Blocks):
    name, module, subject_class = "original", "multiprocessing.shared_memory", "peer"
    needs: ClassVar[str] = "multiprocessing"


class Shared(Alone):
    """`memory_interface`: a value written and read, an object through a circular memory."""

    module = "ringspan.compat.memory_interface"
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("memory_interface-int", 8, "one"),
        ("memory_interface-text", 64, "one"),
        ("memory_interface-objects", 64, "one"),
    )

    def pair(self, shared: Any, inputs: list[Any]) -> Work:
        self.shared = shared
        return there_and_back(shared.write, shared.read, inputs)

    def int(self) -> Work:
        shared = self.old().SharedInt()
        shared.create_sharedobject()
        return self.pair(shared, [1 << 40, *numbers()])

    def text(self) -> Work:
        shared = self.old().SharedString()
        shared.create_sharedobject(self.size)
        return self.pair(shared, texts(self.size))

    def objects(self) -> Work:
        shared = self.old().MemoryInterface()
        largest = {"name": "x" * self.size, "items": list(range(100))}
        shared.create_memorybuf(largest, 10)
        inputs = [{"name": text, "items": list(range(100))} for text in texts(self.size)]
        return self.pair(shared, [largest, *inputs])

    def close(self, parent: bool) -> None:  # noqa: ARG002
        if hasattr(self, "shared"):
            self.shared.cleanup()


class SharedOriginal(Shared):
    """It is no package: one file, which somebody has put on the path."""

    name, module, subject_class = "original", "memory_interface", "peer"
    needs: ClassVar[str] = "memory_interface.MemoryInterface"


class Layouts(Alone):
    """`shared_memory`: an array made and unlinked, one loaded, an item through a queue."""

    module = "ringspan.compat.shared_memory"
    needs: ClassVar[str] = "ringspan numpy"
    compat: ClassVar[tuple[tuple[str, int, str], ...]] = (
        ("shared_memory-array-create", 4 << 10, "one"),
        ("shared_memory-array-load", 4 << 10, "one"),
        ("shared_memory-queue", 64, "one"),
    )

    def array_create(self) -> Work:
        shm, name = self.old(), self.at("array")
        create, unlink, layout = (
            shm.create,
            shm.unlink,
            shm.NdArrayLayout("int64", (self.size // 8,)),
        )

        def run(n: int) -> Any:
            for _ in range(n):
                array = create(name, layout)
                unlink(name)
            return array.nbytes

        def once(number: int) -> Any:
            create(name, layout)[-1] = number
            found = int(shm.load(name)[-1])
            unlink(name)
            return found

        return Work(run, self.size, once, numbers())

    def array_load(self) -> Work:
        shm, name, inputs = self.old(), self.at("array"), numbers()
        load = shm.load
        array = shm.create(name, shm.NdArrayLayout("int64", (self.size // 8,)))

        def run(n: int) -> Any:
            for _ in range(n):
                found = load(name)
            return int(found[-1])

        def once(number: int) -> Any:
            array[-1] = number
            return int(load(name)[-1])

        return Work(run, inputs[-1], once, inputs)

    def queue(self) -> Work:
        queues, name, inputs = self.old().ShmMessageQueue, self.at("queue"), texts(self.size)
        writer = queues.create(name, 1 << 10, 16)
        writer.put(inputs[0])
        reader = queues.open(name)
        reader.get()
        return there_and_back(writer.put, reader.get, inputs)

    def close(self, parent: bool) -> None:  # noqa: ARG002
        with contextlib.suppress(ImportError):
            shm = importlib.import_module(self.module)
            for name in ("array", "queue"):
                shm.unlink(self.at(name))


class LayoutsOriginal(Layouts):
    """It is no package either: it has to be built from its source."""

    name, module, subject_class = "original", "shared_memory", "peer"
    needs: ClassVar[str] = "shared_memory.NdArrayLayout numpy"


SUBJECTS: list[type[Subject]] = [
    BlocksOriginal, SharedOriginal, LayoutsOriginal, Blocks, Shared, Layouts
]  # fmt: skip
