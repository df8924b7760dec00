"""The other packages: the standard library's queues and pipes, pyzmq, faster-fifo, membridge."""

import multiprocessing
from typing import Any, ClassVar

from harness import Subject, load, timed

SIZES = (64, 1024, 65536, 1048576)


class Queues(Subject):
    """Anything with `put` and `get`, one object per direction."""

    waits = "parks"

    def queue(self) -> Any:
        raise NotImplementedError

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        self.down, self.up = self.queue(), self.queue()

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        put = self.up.put
        for _ in range(n - 1):
            put(body)
        put(last)

    def consume(self, n: int) -> bytes:
        get = self.up.get
        for _ in range(n - 1):
            get()
        found: bytes = get()
        return found

    def trips(self, n: int) -> list[float]:
        body, put, get = bytes(self.size), self.down.put, self.up.get

        def trip() -> None:
            put(body)
            get()

        return timed(n, trip)

    def echo(self, n: int) -> None:
        put, get = self.up.put, self.down.get
        for _ in range(n):
            put(get())


class MpQueue(Queues):
    name = "mp-queue"
    streams = SIZES
    trip_pins = ("apart",)

    def queue(self) -> Any:
        return multiprocessing.get_context("spawn").Queue()


class MpSimpleQueue(Queues):
    name = "mp-simple-queue"
    streams = SIZES
    trip_pins = ("apart",)

    def queue(self) -> Any:
        return multiprocessing.get_context("spawn").SimpleQueue()


class FasterFifo(Queues):
    """One message a call; `get` blocks on a process-shared condition."""

    needs: ClassVar[str] = "faster_fifo"
    name = "faster-fifo"
    streams: ClassVar[tuple[int, ...]] = SIZES[:2]
    trip_pins: ClassVar[tuple[str, ...]] = ("apart",)

    def queue(self) -> Any:
        load("faster_fifo_reduction")
        return load("faster_fifo").Queue(1 << 20)

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        put = self.up.put
        for _ in range(n - 1):
            put(body, True, 60.0)
        put(last, True, 60.0)


class FasterFifoMany(FasterFifo):
    """64 messages a call on the sender's side, all there are on the reader's."""

    name = "faster-fifo-64"
    streams = (64,)
    trip_pins = ()

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        batch, put_many = [body] * 64, self.up.put_many
        for _ in range((n - 1) // 64):
            put_many(batch, True, 60.0)
        put_many([body] * ((n - 1) % 64) + [last], True, 60.0)

    def consume(self, n: int) -> bytes:
        get_many, left = self.up.get_many, n
        found: list[bytes] = []
        while left:
            found = get_many(True, 60.0, 64)
            left -= len(found)
        return found[-1]


class Pipe(Subject):
    """`send_bytes` and `recv_bytes`: no pickling."""

    name = "mp-pipe-bytes"
    waits = "parks"
    streams: ClassVar[tuple[int, ...]] = SIZES
    trip_pins = ("apart", "same")

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        self.ours, self.theirs = multiprocessing.get_context("spawn").Pipe()

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        send = self.theirs.send_bytes
        for _ in range(n - 1):
            send(body)
        send(last)

    def consume(self, n: int) -> bytes:
        recv = self.ours.recv_bytes
        for _ in range(n - 1):
            recv()
        return recv()

    def trips(self, n: int) -> list[float]:
        body, send, recv = bytes(self.size), self.ours.send_bytes, self.ours.recv_bytes

        def trip() -> None:
            send(body)
            recv()

        return timed(n, trip)

    def echo(self, n: int) -> None:
        send, recv = self.theirs.send_bytes, self.theirs.recv_bytes
        for _ in range(n):
            send(recv())


class Zmq(Subject):
    """PUSH and PULL over ipc."""

    needs: ClassVar[str] = "zmq"
    name = "pyzmq"
    waits = "parks"
    streams = SIZES
    trip_pins = ("apart",)

    def open(self, parent: bool) -> None:
        zmq = load("zmq")
        self.context = zmq.Context()
        self.out, self.back = self.context.socket(zmq.PUSH), self.context.socket(zmq.PULL)
        for socket, way in ((self.out, parent), (self.back, not parent)):
            path = f"ipc:///dev/shm/{self.unique}-{'down' if way else 'up'}"
            if parent:
                socket.bind(path)
            else:
                socket.connect(path)

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        send = self.out.send
        for _ in range(n - 1):
            send(body)
        send(last)

    def consume(self, n: int) -> bytes:
        recv = self.back.recv
        for _ in range(n - 1):
            recv()
        found: bytes = recv()
        return found

    def trips(self, n: int) -> list[float]:
        body, send, recv = bytes(self.size), self.out.send, self.back.recv

        def trip() -> None:
            send(body)
            recv()

        return timed(n, trip)

    def echo(self, n: int) -> None:
        send, recv = self.out.send, self.back.recv
        for _ in range(n):
            send(recv())

    def close(self, parent: bool) -> None:  # noqa: ARG002
        if hasattr(self, "context"):
            self.context.destroy(linger=0)


class Membridge(Subject):
    """membridge 1.0, spinning on both sides: its rings can only be tried."""

    needs: ClassVar[str] = "membridge"
    name = "membridge-spin"
    waits = "spins"
    streams = SIZES
    trip_pins = ("apart",)

    def __init__(self, size: int, unique: str) -> None:
        super().__init__(size, unique)
        self.names = {way: f"/{unique}-{way}" for way in ("down", "up")}
        shared = load("membridge").SharedMemory
        self.made: list[Any] | None = []
        for name in self.names.values():
            segment = shared.create(name, 24 + (8 << 20 if size >= 65536 else 1 << 20))
            self.made.append((segment, segment.spsc()))

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size, "unique": self.unique, "names": self.names, "made": None}

    def open(self, parent: bool) -> None:
        if self.made is None:
            shared = load("membridge").SharedMemory
            opened = [shared.open(name) for name in self.names.values()]
            self.made = [(segment, segment.spsc()) for segment in opened]
        down, up = (ring for _, ring in self.made)
        self.out, self.back = (down, up) if parent else (up, down)

    def produce(self, n: int, body: bytes, last: bytes) -> None:
        push = self.out.push
        for _ in range(n - 1):
            while not push(body):
                pass
        while not push(last):
            pass

    def consume(self, n: int) -> bytes:
        pop = self.back.pop
        found: Any = None
        for _ in range(n):
            while (found := pop()) is None:
                pass
        assert isinstance(found, bytes)
        return found

    def trips(self, n: int) -> list[float]:
        body, push, pop = bytes(self.size), self.out.push, self.back.pop

        def trip() -> None:
            push(body)
            while pop() is None:
                pass

        return timed(n, trip)

    def echo(self, n: int) -> None:
        push, pop = self.out.push, self.back.pop
        for _ in range(n):
            while (found := pop()) is None:
                pass
            push(found)

    def close(self, parent: bool) -> None:
        if parent:
            for name in self.names.values():
                load("membridge").SharedMemory.remove(name)


SUBJECTS: list[type[Subject]] = [
    MpQueue, MpSimpleQueue, Pipe, FasterFifo, FasterFifoMany, Zmq, Membridge
]  # fmt: skip
