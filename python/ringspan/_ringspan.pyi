"""The compiled half of ringspan. Import from `ringspan`, not from here."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import Context as _ContextVars
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar, final, overload

from typing_extensions import Buffer, disjoint_base

__all__ = [
    "Acquire",
    "Attached",
    "Awaitable",
    "BlockingClient",
    "BlockingMethod",
    "BlockingStream",
    "Call",
    "CallStream",
    "Client",
    "Consumer",
    "Context",
    "EndStat",
    "GcReport",
    "Grant",
    "Guard",
    "HandleStat",
    "Holder",
    "Lent",
    "MappedView",
    "Method",
    "Peer",
    "Producer",
    "Ring",
    "RingStat",
    "RwLock",
    "Segment",
    "SegmentInfo",
    "SharedBool",
    "SharedFloat",
    "SharedInt",
    "SpscRingBuffer",
    "Value",
    "View",
    "Watch",
    "__version__",
    "gc",
    "remove",
    "segments",
]

__version__: str
_T = TypeVar("_T")
_Tag: TypeAlias = (
    Literal["bool", "i32", "u32", "i64", "u64", "f32", "f64", "str", "bytes"]
    | type[bool | int | float | str | bytes]
)

@final
class Awaitable(Coroutine[Any, Any, _T]):
    """What a verb that may have to wait returns: await it once, or give it to a task."""

    @property
    def __name__(self) -> str:
        """Class and verb."""

    @property
    def __qualname__(self) -> str:
        """Class and verb."""

    def __await__(self) -> Generator[Any, Any, _T]:
        """Waits.

        Raises:
            RuntimeError: it was awaited before.
        """

    def __iter__(self) -> Generator[Any, Any, _T]:
        """Waits."""

    def __next__(self) -> Any:
        """Makes one step, as an event loop does."""

    def send(self, value: Any, /) -> Any:
        """Makes one step, as an event loop does."""

    def throw(self, *args: Any) -> Any:
        """Ends the wait with an exception."""

    def close(self) -> None:
        """Ends the wait; nothing was taken, nothing published."""

@final
class Ring:
    """A named ring without a role: what one passes to a child process.

    capacity: bytes of room, rounded up to a power of two (the creator's; 1 MiB).
    max_message: bytes of the largest message (the creator's; a quarter of the capacity).
    mode: permission bits of the file.
    ephemeral: the last one out removes the ring.
    create: None opens or creates, True must create, False must open.
    spin: seconds to keep looking before an end sleeps; the thread does nothing else meanwhile.
    pickle: values that msgpack cannot say travel as pickles; trust every writer then.
    exact: tuples, bytearrays and other types come back as what they were.

    Pickles by name and options; a pickle never makes an existing ring anew.

    Raises:
        InvalidName, InvalidOption: the name or an option cannot be met.
        NotFound, AlreadyExists: as `create` says.
        Mismatch, Damaged, PermissionDenied, NoSpace: what stands there, or /dev/shm.

    Example:
        ring = ringspan.Ring("/frames", capacity=8 << 20)
        Process(target=work, args=(ring,)).start()
        with ring.producer() as tx: tx.blocking_push(b"hello")
    """

    def __new__(
        cls,
        name: str,
        *,
        capacity: int | None = None,
        max_message: int | None = None,
        mode: int = 0o600,
        ephemeral: bool = False,
        create: bool | None = None,
        spin: float | None = None,
        pickle: bool = False,
        exact: bool = False,
    ) -> Self:
        """Opens the ring, or makes it.

        Raises:
            InvalidName, InvalidOption: the name or an option cannot be met.
            NotFound, AlreadyExists: as `create` says.
            Mismatch, Damaged, PermissionDenied, NoSpace: what stands there, or /dev/shm.

        Example:
            ringspan.Ring("/frames")
        """

    def producer(self) -> Producer:
        """Attaches the producing end.

        Raises:
            RoleTaken: another live end holds the role; its process is `pid`.
            NotFound: the ring was removed meanwhile.

        Example:
            tx = ring.producer()
        """

    def consumer(self) -> Consumer:
        """Attaches the consuming end.

        Raises:
            RoleTaken: another live end holds the role; its process is `pid`.
            NotFound: the ring was removed meanwhile.

        Example:
            rx = ring.consumer()
        """

    def stat(self) -> RingStat:
        """Looks at the ring from outside.

        Example:
            ring.stat().len
        """

    def remove(self) -> None:
        """Deletes the name; who is attached goes on.

        Raises:
            NotFound: it is gone already.

        Example:
            ring.remove()
        """

    @property
    def name(self) -> str:
        """The name, with its slash."""

    @property
    def capacity(self) -> int:
        """Bytes of room for messages and their headers."""

    @property
    def max_message(self) -> int:
        """Bytes of the largest message."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles name and options."""

@final
class Producer:
    """The producing end of a ring. One at a time.

    capacity: bytes of room, rounded up to a power of two (the creator's; 1 MiB).
    max_message: bytes of the largest message (the creator's; a quarter of the capacity).
    mode: permission bits of the file.
    ephemeral: the last one out removes the ring.
    create: None opens or creates, True must create, False must open.
    spin: seconds to keep looking before an end sleeps; the thread does nothing else meanwhile.
    pickle: values that msgpack cannot say travel as pickles; trust every writer then.
    exact: tuples, bytearrays and other types come back as what they were.

    Raises:
        InvalidName, InvalidOption: the name or an option cannot be met.
        NotFound, AlreadyExists: as `create` says.
        Mismatch, Damaged, PermissionDenied, NoSpace: what stands there, or /dev/shm.
        RoleTaken: another live end holds the role; its process is `pid`.

    Example:
        async with ringspan.Producer("/r") as tx:
            await tx.push({"n": 1})
    """

    def __new__(
        cls,
        name: str,
        *,
        capacity: int | None = None,
        max_message: int | None = None,
        mode: int = 0o600,
        ephemeral: bool = False,
        create: bool | None = None,
        spin: float | None = None,
        pickle: bool = False,
        exact: bool = False,
    ) -> Self:
        """Opens (or makes) the ring and attaches its producing end.

        Raises:
            InvalidName, InvalidOption: the name or an option cannot be met.
            NotFound, AlreadyExists: as `create` says.
            Mismatch, Damaged, PermissionDenied, NoSpace: what stands there, or /dev/shm.
            RoleTaken: another live end holds the role; its process is `pid`.

        Example:
            tx = ringspan.Producer("/r")
        """

    def push(self, obj: Any) -> Coroutine[Any, Any, None]:
        """Publishes an object, waiting for room. A cancelled push has published nothing.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.

        Example:
            await tx.push(b"bytes")
            await tx.push([1, "two", 3.0, None])
            await tx.push(numpy.arange(10))
        """

    def try_push(self, obj: Any) -> bool:
        """Publishes an object if there is room now; False if not.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.

        Example:
            if not tx.try_push(obj):
                dropped += 1
        """

    def blocking_push(self, obj: Any, timeout: float | None = None) -> None:
        """Publishes an object, parking the thread while there is no room.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.
            Timeout: the time is over.

        Example:
            tx.blocking_push(obj, timeout=1.5)
        """

    def push_many(self, objs: Iterable[Any]) -> Coroutine[Any, Any, int]:
        """Publishes all objects in batches, waiting for room; how many.

        What was published before an error or a cancel stays: see `published`.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.

        Example:
            await tx.push_many(lines)
        """

    def try_push_many(self, objs: Iterable[Any]) -> int:
        """Publishes objects until one does not fit; how many.

        Of an iterator, up to 32 objects more than that are consumed.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.

        Example:
            rest = objs[tx.try_push_many(objs):]
        """

    def blocking_push_many(self, objs: Iterable[Any], timeout: float | None = None) -> int:
        """Publishes all objects, parking the thread while there is no room; how many.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.
            Timeout: the time is over.

        Example:
            tx.blocking_push_many(lines)
        """

    @property
    def published(self) -> int:
        """How many objects the last `push_many` has published."""

    def reserve(self, size: int) -> Coroutine[Any, Any, Grant]:
        """Waits for room for a message of up to `size` bytes, to be filled in place.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.

        Example:
            with await tx.reserve(1 << 20) as g:
                n = file.readinto(g.buf)
                g.commit(n)
        """

    def try_reserve(self, size: int) -> Grant | None:
        """As `reserve`; None when there is no room now.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.

        Example:
            if (g := tx.try_reserve(64)) is not None: ...
        """

    def blocking_reserve(self, size: int, timeout: float | None = None) -> Grant:
        """As `reserve`, parking the thread while there is no room.

        Raises:
            TooLarge: the message is above `max_message`; the ring is unchanged.
            PeerClosed, PeerDied: the consumer left; told once.
            CodecError, TypeError: the value cannot travel.
            BufferError: a grant is still out.
            Timeout: the time is over.

        Example:
            with tx.blocking_reserve(64) as g: ...
        """

    def attached(self) -> Coroutine[Any, Any, None]:
        """Waits until a consumer is attached.

        Raises:
            HandleClosed, Forked, Removed: nobody can come.

        Example:
            await tx.attached()
        """

    def blocking_attached(self, timeout: float | None = None) -> None:
        """Waits until a consumer is attached, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            tx.blocking_attached(timeout=5)
        """

    def peer(self) -> Peer | None:
        """Returns the consumer that is attached now.

        Example:
            tx.peer()
        """

    @property
    def peer_pid(self) -> int | None:
        """The process of the consumer that is attached now."""

    @property
    def is_closed(self) -> bool:
        """The consumer closed or died, and no other one came."""

    @property
    def len(self) -> int:
        """Bytes in the ring, headers included."""

    @property
    def capacity(self) -> int:
        """Bytes of room for messages and their headers."""

    @property
    def max_message(self) -> int:
        """Bytes of the largest message."""

    @property
    def name(self) -> str:
        """The name of the ring, with its slash."""

    def stat(self) -> EndStat:
        """Returns what this end has done since it was attached.

        Example:
            tx.stat().parks
        """

    def arm(self) -> bool:
        """Prepares a sleep in a foreign event loop: True = sleep until `fileno()` is readable.

        False: do not sleep, there is room for what the last `try_` verb found none for,
        or the other end left. Call `disarm()` after every sleep.

        Raises:
            PeerUnreachable, TooManyFiles: a wake could not be promised.

        Example:
            if tx.arm():
                select.select([tx], [], [])
            tx.disarm()
        """

    def disarm(self) -> None:
        """Takes in what made the descriptor readable.

        Example:
            tx.disarm()
        """

    def fileno(self) -> int:
        """Returns the descriptor for foreign event loops; it belongs to this handle.

        Example:
            loop.add_reader(tx.fileno(), callback)
        """

    def close(self) -> None:
        """Ends the stream: the consumer pops what is there, then gets the end.

        Raises:
            BufferError: a grant is still out; the end comes with its last view.

        Example:
            tx.close()
        """

    def detach(self) -> None:
        """Gives the role up without ending the stream: the next producer goes on.

        Raises:
            BufferError: as `close`.

        Example:
            tx.detach()
        """

    def __enter__(self) -> Self:
        """Returns this end."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes this end."""

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        """Returns this end."""

    def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Coroutine[Any, Any, None]:
        """Closes this end."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the options: what comes out takes the role at first use."""

@final
class Grant:
    """Room for one message, filled in place. Left without `commit` it publishes nothing.

    Example:
        with tx.blocking_reserve(5) as g:
            g.buf[:] = b"hello"
            g.commit()
    """

    @property
    def buf(self) -> memoryview:
        """The room, as a writable memoryview. It holds whatever was in the ring before."""

    def commit(self, used: int | None = None) -> None:
        """Publishes the first `used` bytes (all by default) as one message.

        Raises:
            BufferError: views made of `buf` live on; nothing was published.
            ValueError: `used` is more than was reserved.
            HandleClosed: committed or left before.

        Example:
            g.commit(n)
        """

    def __len__(self) -> int:
        """Bytes that were reserved."""

    def __enter__(self) -> Self:
        """Returns the grant."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Gives the room up unless it was committed.

        Raises:
            BufferError: views made of `buf` live on.
        """

@final
class Consumer:
    """The consuming end of a ring. One at a time.

    capacity: bytes of room, rounded up to a power of two (the creator's; 1 MiB).
    max_message: bytes of the largest message (the creator's; a quarter of the capacity).
    mode: permission bits of the file.
    ephemeral: the last one out removes the ring.
    create: None opens or creates, True must create, False must open.
    spin: seconds to keep looking before an end sleeps; the thread does nothing else meanwhile.
    pickle: values that msgpack cannot say travel as pickles; trust every writer then.
    exact: tuples, bytearrays and other types come back as what they were.

    Raises:
        InvalidName, InvalidOption: the name or an option cannot be met.
        NotFound, AlreadyExists: as `create` says.
        Mismatch, Damaged, PermissionDenied, NoSpace: what stands there, or /dev/shm.
        RoleTaken: another live end holds the role; its process is `pid`.

    Example:
        rx = ringspan.Consumer("/r")
        async for obj in rx:
            print(obj)
    """

    def __new__(
        cls,
        name: str,
        *,
        capacity: int | None = None,
        max_message: int | None = None,
        mode: int = 0o600,
        ephemeral: bool = False,
        create: bool | None = None,
        spin: float | None = None,
        pickle: bool = False,
        exact: bool = False,
    ) -> Self:
        """Opens (or makes) the ring and attaches its consuming end.

        Raises:
            InvalidName, InvalidOption: the name or an option cannot be met.
            NotFound, AlreadyExists: as `create` says.
            Mismatch, Damaged, PermissionDenied, NoSpace: what stands there, or /dev/shm.
            RoleTaken: another live end holds the role; its process is `pid`.

        Example:
            rx = ringspan.Consumer("/r")
        """

    def pop(self) -> Coroutine[Any, Any, Any]:
        """Takes the oldest message, waiting for one. A cancelled pop takes nothing.

        Raises:
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.

        Example:
            obj = await rx.pop()
        """

    @overload
    def try_pop(self) -> Any:
        """Takes the oldest message, if one is there now.

        Raises:
            Empty: nothing is there now (without a default).
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.

        Example:
            rx.try_pop(None)
        """

    @overload
    def try_pop(self, default: _T, /) -> Any | _T: ...
    def blocking_pop(self, timeout: float | None = None) -> Any:
        """Takes the oldest message, parking the thread while there is none.

        Raises:
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.
            Timeout: the time is over.

        Example:
            obj = rx.blocking_pop(timeout=0.5)
        """

    def pop_many(self, most: int) -> Coroutine[Any, Any, list[Any]]:
        """Takes one to `most` messages, waiting for the first one only.

        Raises:
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.

        Example:
            for obj in await rx.pop_many(64): ...
        """

    def try_pop_many(self, most: int) -> list[Any]:
        """Takes up to `most` messages that are there now; none gives an empty list.

        Raises:
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.

        Example:
            objs = rx.try_pop_many(64)
        """

    def blocking_pop_many(self, most: int, timeout: float | None = None) -> list[Any]:
        """Takes one to `most` messages, parking the thread while there is none.

        Raises:
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.
            Timeout: the time is over.

        Example:
            objs = rx.blocking_pop_many(64)
        """

    def lend(self) -> Coroutine[Any, Any, Lent]:
        """Waits for the oldest message and lends it where it lies.

        It stays at the head of the ring until the block is left and every view made of it is gone.

        Raises:
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.

        Example:
            with await rx.lend() as view:
                total = sum(view)
        """

    def try_lend(self) -> Lent | None:
        """Lends the oldest message, if one is there now.

        Raises:
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.

        Example:
            if (lent := rx.try_lend()) is not None: ...
        """

    def blocking_lend(self, timeout: float | None = None) -> Lent:
        """Lends the oldest message, parking the thread while there is none.

        Raises:
            Closed: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.
            Timeout: the time is over.

        Example:
            with rx.blocking_lend() as view: ...
        """

    def __aiter__(self) -> Self:
        """Returns this end."""

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        """Takes the oldest message, waiting for one; the loop ends with the stream.

        Raises:
            StopAsyncIteration: the producer ended the stream.
            PeerDied: the producer died and all that it published was popped.
            CodecError: the message cannot be read; it is taken all the same.
            BufferError: a lent message is still out.
            HandleClosed, Forked, Damaged, RuntimeError: see the module `ringspan`.
        """

    def attached(self) -> Coroutine[Any, Any, None]:
        """Waits until a producer is attached.

        Raises:
            HandleClosed, Forked, Removed: nobody can come.

        Example:
            await rx.attached()
        """

    def blocking_attached(self, timeout: float | None = None) -> None:
        """Waits until a producer is attached, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            rx.blocking_attached(timeout=5)
        """

    def peer(self) -> Peer | None:
        """Returns the producer that is attached now.

        Example:
            rx.peer()
        """

    @property
    def peer_pid(self) -> int | None:
        """The process of the producer that is attached now."""

    @property
    def is_closed(self) -> bool:
        """The producer closed its stream, the end was popped, and no other producer came."""

    @property
    def len(self) -> int:
        """Bytes in the ring, headers included."""

    @property
    def capacity(self) -> int:
        """Bytes of room for messages and their headers."""

    @property
    def max_message(self) -> int:
        """Bytes of the largest message."""

    @property
    def name(self) -> str:
        """The name of the ring, with its slash."""

    def stat(self) -> EndStat:
        """Returns what this end has done since it was attached.

        Example:
            rx.stat().parks
        """

    def arm(self) -> bool:
        """Prepares a sleep in a foreign event loop: True = sleep until `fileno()` is readable.

        False: do not sleep, a pop finds something,
        or the other end left. Call `disarm()` after every sleep.

        Raises:
            PeerUnreachable, TooManyFiles: a wake could not be promised.

        Example:
            if rx.arm():
                select.select([rx], [], [])
            rx.disarm()
        """

    def disarm(self) -> None:
        """Takes in what made the descriptor readable.

        Example:
            rx.disarm()
        """

    def fileno(self) -> int:
        """Returns the descriptor for foreign event loops; it belongs to this handle.

        Example:
            loop.add_reader(rx.fileno(), callback)
        """

    def close(self) -> None:
        """Gives the role up: a push fails once with PeerClosed.

        Raises:
            BufferError: a lent message is still out; the end comes with its last view.

        Example:
            rx.close()
        """

    def detach(self) -> None:
        """Gives the role up without telling the producer: the next consumer goes on.

        Raises:
            BufferError: as `close`.

        Example:
            rx.detach()
        """

    def __enter__(self) -> Self:
        """Returns this end."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes this end."""

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        """Returns this end."""

    def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Coroutine[Any, Any, None]:
        """Closes this end."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the options: what comes out takes the role at first use."""

@final
class Lent:
    """A message that stays in the ring while it is looked at.

    The block is given a read-only memoryview of bytes, a read-only array of an array, and the
    value of anything else. Leaving takes the view back: the memoryview is released, the array
    becomes empty.

    Example:
        with await rx.lend() as array:
            total = array.sum()
    """

    @property
    def view(self) -> Any:
        """What the block is given."""

    def release(self) -> None:
        """Gives the message back, as leaving the block does.

        Raises:
            BufferError: views made of it live on; it stays in the ring until they are gone.

        Example:
            lent.release()
        """

    def __enter__(self) -> Any:
        """Returns the view."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Takes the view back.

        Raises:
            BufferError: views made of it live on.
        """

@final
class Segment:
    """A named piece of shared memory that can be awaited, with the buffer protocol.

    Views keep the memory mapped; `close` only gives the handle up. Pickles by name.

    Example:
        seg = ringspan.Segment.create("/s", 4096)
        memoryview(seg)[:5] = b"hello"
        seg.notify()
    """

    @classmethod
    def create(
        cls,
        name: str,
        size: int,
        *,
        mode: int = 0o600,
        ephemeral: bool = False,
        raw: bool = False,
        reserve: bool = True,
        data: Buffer | None = None,
    ) -> Self:
        """Makes a new segment of `size` bytes: `data`, then zeros.

        data: is there before anybody can open the segment.
        raw: a file without header and waits, as `multiprocessing.shared_memory` makes.
        reserve: take all the memory at once. False, for a raw one only: each page when it is first
            written; should /dev/shm be full then, the writer ends with SIGBUS.

        Raises:
            AlreadyExists: the name is taken.
            InvalidName, InvalidOption, PermissionDenied, NoSpace, Mismatch, Damaged: what is wrong.

        Example:
            ringspan.Segment.create("/s", 4096)
            ringspan.Segment.create("plain", 5, raw=True, data=b"hello")
        """

    @classmethod
    def open(cls, name: str, *, raw: bool = False) -> Self:
        """Opens a segment that exists, with all its bytes.

        Raises:
            NotFound: no object of that name.
            InvalidName, InvalidOption, PermissionDenied, NoSpace, Mismatch, Damaged: what is wrong.

        Example:
            ringspan.Segment.open("/s")
        """

    @classmethod
    def open_or_create(
        cls,
        name: str,
        size: int,
        *,
        mode: int = 0o600,
        ephemeral: bool = False,
        raw: bool = False,
        reserve: bool = True,
    ) -> Self:
        """Opens the segment, or makes it.

        Raises:
            InvalidName, InvalidOption, PermissionDenied, NoSpace, Mismatch, Damaged: what is wrong.

        Example:
            ringspan.Segment.open_or_create("/s", 4096)
        """

    def read_at(self, offset: int = 0, size: int | None = None) -> bytes:
        """Copies `size` bytes (all up to the end by default) from `offset` on.

        Raises:
            InvalidOption: they do not all lie in the segment.

        Example:
            seg.read_at(0, 16)
        """

    def write_at(self, offset: int, data: Buffer) -> None:
        """Copies `data` to `offset`.

        Raises:
            InvalidOption: it does not all fit there.

        Example:
            seg.write_at(0, b"hello")
        """

    @property
    def version(self) -> int:
        """How often `notify` was called, by anybody."""

    def notify(self) -> int:
        """Raises the version and wakes everybody who waits for that; the new version.

        Raises:
            Removed, PeerUnreachable, TooManyAttached: nothing has changed then.
            Unsupported: the segment is raw.

        Example:
            seg.notify()
        """

    def changed(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is now), and returns it.

        Raises:
            Removed: nobody can come any more.
            Unsupported: the segment is raw.

        Example:
            seen = await seg.changed(seen)
        """

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `changed`, parking the thread.

        Raises:
            Timeout: nothing changed within that time.

        Example:
            seen = seg.blocking_changed(seen, timeout=1)
        """

    @property
    def name(self) -> str:
        """The name, with its slash."""

    @property
    def file_id(self) -> tuple[int, int]:
        """Device and inode of its file, which no other file has while this one is there.

        Nor has a later one on tmpfs, which /dev/shm is as a rule.
        """

    @property
    def exports(self) -> int:
        """Buffers that are lent out: memoryviews (with their slices), arrays by `frombuffer`.

        `np.ndarray(..., buffer=seg)` is not among them: numpy gives its buffer back at once.
        """

    @property
    def is_raw(self) -> bool:
        """Whether it is a file without header."""

    @property
    def is_ephemeral(self) -> bool:
        """Whether the last one out removes it."""

    def remove(self) -> None:
        """Deletes the name; who has it open goes on.

        Raises:
            NotFound: it is gone already.

        Example:
            seg.remove()
        """

    def close(self) -> None:
        """Gives the handle up; views that are out keep the memory.

        Tasks and threads that wait on it get HandleClosed.

        Example:
            seg.close()
        """

    def __len__(self) -> int:
        """Bytes in the segment."""

    def __bool__(self) -> bool:
        """True, also for a segment of no bytes."""

    def __buffer__(self, flags: int, /) -> memoryview:
        """Exports the bytes, writable.

        Raises:
            BufferError: the segment was closed.
        """

    def __enter__(self) -> Self:
        """Returns the segment."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes the segment."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the name."""

@final
class RwLock:
    """A named reader-writer lock over bytes that processes share.

    size: bytes under the lock; 0 for a lock without bytes. An opener gets all there are; one that
        names more gets Mismatch. Without it the lock must exist.
    mode: permission bits of the file.
    ephemeral: the last one out removes the lock.
    create: None opens or creates (opens, without a size), True must create, False must open.

    Many may read at once, one may write alone: tasks, threads and processes alike. One handle may
    be used by many threads and event loops at once. A waiting writer keeps out later readers.
    `with RwLock(...) as lock:` closes the handle at the end; it does not take the lock. `async with
    lock:` is a TypeError: `async with lock.write():`.

    A task (without a task: a thread) that is in a guard's block (`with` or `async with`) never
    waits for another guard of this handle: it gets it at once, or WouldDeadlock. Likewise the tasks
    of a loop that was started in such a block. A guard that was taken and not entered is nobody's:
    another task or thread may release it, so who asks again waits as everybody does, for ever if
    nobody releases it. Two handles of one lock do not know of each other.

    A killed reader vanishes from the lock, a killed writer poisons it: taking it raises Poisoned
    until `clear_poison`. An exception in a `with` block does not poison, as with threading.Lock.

    Pickles by name; what comes out opens the lock that exists. A handle that came by fork raises
    Forked.

    Raises:
        InvalidName, InvalidOption: the name or an option cannot be met.
        NotFound, AlreadyExists: as `create` says.
        Mismatch, Damaged, PermissionDenied, NoSpace, TooManyAttached: what stands there.

    Example:
        lock = ringspan.RwLock("/l", 4096)
        async with lock.write() as buf:
            buf[:5] = b"hello"
        with lock.blocking_read() as buf:
            print(bytes(buf[:5]))
    """

    def __new__(
        cls,
        name: str,
        size: int | None = None,
        *,
        mode: int = 0o600,
        ephemeral: bool = False,
        create: bool | None = None,
    ) -> Self:
        """Opens the lock, or makes it.

        Raises:
            InvalidName, InvalidOption: the name or an option cannot be met.
            NotFound, AlreadyExists: as `create` says.
            Mismatch, Damaged, PermissionDenied, NoSpace, TooManyAttached: what stands there.

        Example:
            ringspan.RwLock("/l", 4096)
        """

    def read(self, *, allow_poisoned: bool = False) -> Acquire:
        """Waits until nobody writes (or waits to write), and reads.

        Cancelled, it has taken nothing.

        allow_poisoned: enters a poisoned lock too.

        Raises:
            Poisoned: a writer died; the lock was given back.
            WouldDeadlock: this task is in a guard's block and would wait for itself.
            PeerUnreachable, Damaged, HandleClosed, Forked: it cannot be waited for.

        Example:
            async with lock.read() as buf:
                head = bytes(buf[:16])
        """

    def write(self, *, allow_poisoned: bool = False) -> Acquire:
        """Waits until nobody reads or writes, and writes. Cancelled, it has taken nothing.

        allow_poisoned: enters a poisoned lock too.

        Raises:
            Poisoned: a writer died; the lock was given back.
            WouldDeadlock: this task is in a guard's block and would wait for itself.
            PeerUnreachable, Damaged, HandleClosed, Forked: it cannot be waited for.

        Example:
            async with lock.write() as buf:
                buf[:5] = b"hello"
        """

    def try_read(self, *, allow_poisoned: bool = False) -> Guard | None:
        """Reads, if nobody writes or waits to write; else None.

        Raises:
            Poisoned: a writer died; the lock was given back.

        Example:
            if (guard := lock.try_read()) is not None:
                with guard as buf: ...
        """

    def try_write(self, *, allow_poisoned: bool = False) -> Guard | None:
        """Writes, if nobody reads or writes; else None.

        Raises:
            Poisoned: a writer died; the lock was given back.

        Example:
            if (guard := lock.try_write()) is not None:
                with guard as buf: ...
        """

    def blocking_read(self, timeout: float | None = None, *, allow_poisoned: bool = False) -> Guard:
        """As `read`, parking the thread; the lock is taken by the call.

        In a coroutine it holds up the whole loop, the task that holds the lock perhaps included.

        Raises:
            Timeout: the time is over; says who holds the lock.
            Poisoned: a writer died; the lock was given back.
            WouldDeadlock: this thread (or task) is in a guard's block and would wait for
                itself.

        Example:
            with lock.blocking_read(timeout=1) as buf: ...
        """

    def blocking_write(
        self, timeout: float | None = None, *, allow_poisoned: bool = False
    ) -> Guard:
        """As `write`, parking the thread; the lock is taken by the call.

        In a coroutine it holds up the whole loop, the task that holds the lock perhaps included.

        Raises:
            Timeout: the time is over; says who holds the lock.
            Poisoned: a writer died; the lock was given back.
            WouldDeadlock: this thread (or task) is in a guard's block and would wait for
                itself.

        Example:
            with lock.blocking_write(timeout=1) as buf: ...
        """

    @property
    def is_poisoned(self) -> bool:
        """Whether a writer died and nobody cleared that since."""

    def clear_poison(self) -> None:
        """Says that the bytes are in order again; call it while you write.

        Example:
            with lock.blocking_write(allow_poisoned=True) as buf:
                buf[:] = bytes(len(buf))
                lock.clear_poison()
        """

    def holders(self) -> list[Holder]:
        """Returns who holds the lock now; it may be over when it is read.

        Example:
            [holder.pid for holder in lock.holders()]
        """

    def stat(self) -> HandleStat:
        """Returns what this handle holds and has done.

        Example:
            lock.stat().attached
        """

    @property
    def name(self) -> str:
        """The name, with its slash."""

    @property
    def size(self) -> int:
        """Bytes under the lock."""

    @property
    def is_ephemeral(self) -> bool:
        """Whether the last one out removes it."""

    def remove(self) -> None:
        """Deletes the name; who has it open goes on.

        Raises:
            NotFound: it is gone already.

        Example:
            lock.remove()
        """

    def close(self) -> None:
        """Gives the handle up; guards that are out keep the lock.

        Tasks and threads that wait on it get HandleClosed.

        Example:
            lock.close()
        """

    def __len__(self) -> int:
        """Bytes under the lock."""

    def __bool__(self) -> bool:
        """True, also for a lock without bytes."""

    def __enter__(self) -> Self:
        """Returns the handle; the lock is not taken."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes the handle."""

    def __aenter__(self) -> None:
        """Refuses: what is meant is `async with lock.read()` or `lock.write()`.

        Raises:
            TypeError: always.
        """

    def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """As `__aenter__`.

        Raises:
            TypeError: always.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the name."""

@final
class Acquire(Coroutine[Any, Any, Guard]):
    """The lock, about to be taken: `async with` it for the bytes, or await it for a Guard.

    Nothing happens before that. To be used once.

    Example:
        async with lock.write() as buf:
            buf[0] = 1
        guard = await lock.read()
    """

    def __await__(self) -> Generator[Any, Any, Guard]:
        """Waits for the lock.

        Raises:
            Poisoned, WouldDeadlock, HandleClosed and others: see `RwLock.read`.
        """

    def __aenter__(self) -> Coroutine[Any, Any, memoryview]:
        """Waits for the lock; gives the bytes, read-only for a reader."""

    def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Coroutine[Any, Any, None]:
        """Gives the lock back.

        Raises:
            BufferError: views made of the bytes live on; the lock is kept until they are gone.
        """

    def send(self, value: Any, /) -> Any:
        """Makes one step, as an event loop does."""

    def throw(self, *args: Any) -> Any:
        """Ends the wait with an exception."""

    def close(self) -> None:
        """Ends the wait; nothing was taken."""

@final
class Guard:
    """The lock is held, until this is left or dropped, and every view of the bytes is gone.

    The block is given a memoryview, read-only for a reader. Leaving releases it; what was made of
    it (slices, casts, arrays) and lives on keeps the lock. Any task or thread may release it.

    Example:
        with lock.blocking_write() as buf:
            buf[:5] = b"hello"
    """

    @property
    def view(self) -> memoryview:
        """The bytes; read-only for a reader."""

    @property
    def mode(self) -> Literal["read", "write"]:
        """How the lock is held, or was."""

    def release(self) -> None:
        """Gives the lock back, as leaving the block does. Does nothing the second time.

        Raises:
            BufferError: views made of the bytes live on; the lock is kept until they are gone.

        Example:
            guard.release()
        """

    def downgrade(self) -> None:
        """Goes on as a reader; nobody writes between. The old view is released; see `view`.

        Raises:
            BufferError: views made of the bytes live on; the guard still writes.

        Example:
            guard.downgrade()
            total = sum(guard.view)
        """

    def try_upgrade(self) -> bool:
        """Goes on as the writer, if nobody else reads; nobody writes between.

        True: the old view is released; see `view`. False: others read, and nothing has changed.

        Raises:
            BufferError: views made of the bytes live on; the guard still reads.

        Example:
            if guard.try_upgrade():
                guard.view[0] = 1
        """

    def __enter__(self) -> memoryview:
        """Returns the view. The task (without a task: the thread) that enters is the owner."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Gives the lock back.

        Raises:
            BufferError: views made of the bytes live on; the lock is kept until they are gone.
        """

@final
class View:
    """A cursor over bytes that reads and writes typed items, as one does with a file.

    buf: a C-contiguous bytes-like object: what a lock hands out, a Segment, a bytearray, an mmap.

    Tags: "bool", "i32", "u32", "i64", "u64", "f32", "f64", "str", "bytes", or the types bool, int
    (i64), float (f64), str, bytes. Items lie without gaps, little-endian, str and bytes behind a
    length of 4 bytes; tags are not stored. Without `offset` a call works at the cursor and moves
    it; with it the cursor stays. What fails changes nothing, neither bytes nor cursor.

    The buffer is taken and given back in every call: a view does not keep a lock. When the
    memoryview is released, calls raise ValueError.

    Raises:
        TypeError, BufferError: not bytes-like, not in one piece.

    Example:
        view = ringspan.View(bytearray(64))
        view.write(7)
        view.write("seven")
        view.seek()
        view.read("i64"), view.read(str)
    """

    def __new__(cls, buf: Buffer, /) -> Self:
        """Views the bytes of `buf`, with the cursor at the start.

        Raises:
            TypeError, BufferError: not bytes-like, not in one piece.

        Example:
            ringspan.View(bytearray(64))
        """

    def seek(self, pos: int = 0) -> None:
        """Moves the cursor to `pos`, which may be the end.

        Raises:
            InvalidOption: beyond the end; the cursor stays.

        Example:
            view.seek(16)
        """

    def tell(self) -> int:
        """Where the cursor is, in bytes from the start.

        Example:
            view.tell()
        """

    @property
    def remaining(self) -> int:
        """Bytes from the cursor to the end."""

    @overload
    def read(self, tag: Literal["bool"] | type[bool], offset: int | None = None) -> bool: ...
    @overload
    def read(
        self, tag: Literal["i32", "u32", "i64", "u64"] | type[int], offset: int | None = None
    ) -> int: ...
    @overload
    def read(
        self, tag: Literal["f32", "f64"] | type[float], offset: int | None = None
    ) -> float: ...
    @overload
    def read(self, tag: Literal["str"] | type[str], offset: int | None = None) -> str: ...
    @overload
    def read(self, tag: Literal["bytes"] | type[bytes], offset: int | None = None) -> bytes: ...
    @overload
    def read(self, tag: str, offset: int | None = None) -> Any:
        """Reads the item at the cursor, or at `offset`.

        Raises:
            InvalidOption: the view ends before the item does; no such tag.
            CodecError: what is there is no such item.

        Example:
            view.read("u32")
        """

    def write(self, value: Any, tag: _Tag | str | None = None, offset: int | None = None) -> None:
        """Writes an item at the cursor, or at `offset`.

        tag: None takes bool as "bool", int as "i64", float as "f64", str as "str", bytes and
            bytearray as "bytes".

        Raises:
            InvalidOption: it does not fit before the end; no such tag.
            TypeError, OverflowError: a value that the tag does not take.
            BufferError: the memory is read-only.

        Example:
            view.write(7, "u32")
        """

    def read_mixed(
        self, schema: Iterable[_Tag | str | tuple[_Tag | str, int]], offset: int | None = None
    ) -> list[Any]:
        """Reads items after each other: one for each tag, a list for each (tag, count).

        A count of 1 gives the item itself.

        Raises:
            InvalidOption: the view ends before they do; no such tag or count.
            CodecError: what is there are no such items.

        Example:
            count, prices = view.read_mixed(["u32", ("f64", 3)])
        """

    def write_mixed(
        self,
        values: Iterable[Any],
        schema: Iterable[_Tag | str | tuple[_Tag | str, int]] | None = None,
        offset: int | None = None,
    ) -> None:
        """Writes items after each other, all or none.

        schema: one entry for each value, as in `read_mixed`; None goes by the types, as `write`.

        Raises:
            InvalidOption: they do not all fit; values and schema have different lengths.
            TypeError, OverflowError: a value that its tag does not take; a note says which.
            BufferError: the memory is read-only.

        Example:
            view.write_mixed([3, [1.0, 2.5, 4.0]], ["u32", ("f64", 3)])
        """

    def read_range(self, offset: int, size: int) -> bytes:
        """Copies the `size` bytes at `offset` as they are; the cursor stays.

        Raises:
            InvalidOption: they do not all lie in the view.

        Example:
            view.read_range(0, 16)
        """

    def write_range(self, offset: int, data: Buffer) -> None:
        """Writes bytes at `offset` as they are, without a length; the cursor stays.

        Raises:
            InvalidOption: they do not all fit there.
            BufferError: the memory is read-only.

        Example:
            view.write_range(0, b"head")
        """

    def zero(self) -> None:
        """Fills the whole view with zeros; the cursor stays.

        Raises:
            BufferError: the memory is read-only.

        Example:
            view.zero()
        """

    def __len__(self) -> int:
        """Bytes in the view."""

    def __bool__(self) -> bool:
        """True, also for a view of no bytes."""

@final
class Peer:
    """An attached end, as it described itself."""

    @property
    def pid(self) -> int:
        """Its process; 0 in the moment before it said so."""

    @property
    def tag(self) -> int:
        """The random name of this attachment."""

    def __eq__(self, other: object, /) -> bool:
        """Compares all fields."""

    def __ne__(self, other: object, /) -> bool:
        """Compares all fields."""

    def __hash__(self) -> int:
        """Hashes all fields."""

@final
class RingStat:
    """A snapshot of a ring."""

    @property
    def capacity(self) -> int:
        """Bytes of room for messages and their headers."""

    @property
    def max_message(self) -> int:
        """Bytes of the largest message."""

    @property
    def len(self) -> int:
        """Bytes published and not yet released, headers included."""

    @property
    def pushed(self) -> int:
        """Bytes ever published."""

    @property
    def popped(self) -> int:
        """Bytes ever released."""

    @property
    def producer(self) -> Peer | None:
        """Who holds the producing end."""

    @property
    def consumer(self) -> Peer | None:
        """Who holds the consuming end."""

    @property
    def producer_parked(self) -> bool:
        """The producer sleeps."""

    @property
    def consumer_parked(self) -> bool:
        """The consumer sleeps."""

@final
class EndStat:
    """What one end has done since it was attached."""

    @property
    def parks(self) -> int:
        """Times it went to sleep."""

    @property
    def rings(self) -> int:
        """Times it rang the other end's doorbell."""

    @property
    def knocks(self) -> int:
        """Times it knocked at a door."""

    def __eq__(self, other: object, /) -> bool:
        """Compares all fields."""

    def __ne__(self, other: object, /) -> bool:
        """Compares all fields."""

@final
class Holder:
    """A handle that holds a lock, as it described itself."""

    @property
    def pid(self) -> int:
        """Its process, as that process's own pid namespace counts; 0 before it said so."""

    @property
    def tag(self) -> int:
        """The random name of its attachment."""

    @property
    def mode(self) -> Literal["read", "write"]:
        """How it holds the lock."""

    @property
    def since(self) -> float | None:
        """When it got the lock (the first of its readers), in seconds since 1970."""

    @property
    def kept_by_views(self) -> int:
        """Guards that Python code has left while views of the bytes live on."""

    def __eq__(self, other: object, /) -> bool:
        """Compares all fields."""

    def __ne__(self, other: object, /) -> bool:
        """Compares all fields."""

@final
class HandleStat:
    """What a handle of a lock holds and has done."""

    @property
    def attached(self) -> int:
        """Handles that are attached, in all processes."""

    @property
    def parks(self) -> int:
        """Times this handle went to sleep."""

    @property
    def rings(self) -> int:
        """Sleepers that this handle woke."""

    @property
    def connections(self) -> int:
        """Connections to the doors of others; held while somebody waits on this handle. One
        may stay for longer, at the door of a peer that has not looked there since."""

    @property
    def inbound(self) -> int:
        """Connections of others at our door."""

    @property
    def pidfds(self) -> int:
        """Process descriptors; held while somebody waits on this handle."""

    @property
    def doorbells(self) -> int:
        """Doorbells of those whom this handle wakes again and again."""

    def __eq__(self, other: object, /) -> bool:
        """Compares all fields."""

    def __ne__(self, other: object, /) -> bool:
        """Compares all fields."""

@final
class Attached:
    """An endpoint that is attached to an object."""

    @property
    def pid(self) -> int:
        """Its process, as that process's own pid namespace counts."""

    @property
    def tag(self) -> int:
        """The random name of this attachment."""

    @property
    def role(self) -> str:
        """What it is there: "producer", "consumer", "user"."""

    @property
    def alive(self) -> bool | None:
        """None: it can be neither reached nor proven dead."""

@final
class SegmentInfo:
    """What can be seen of a named object without using it."""

    @property
    def name(self) -> str:
        """The name, with its slash."""

    @property
    def kind(self) -> str | None:
        """What lives in it: "segment", "ring"; None where it cannot be told."""

    @property
    def size(self) -> int:
        """Bytes for its user."""

    @property
    def file_size(self) -> int:
        """Bytes in the file."""

    @property
    def created(self) -> float | None:
        """When it was made, in seconds since 1970."""

    @property
    def creator_pid(self) -> int | None:
        """The process that made it."""

    @property
    def owner(self) -> int:
        """User id of its owner."""

    @property
    def mode(self) -> int:
        """Permission bits."""

    @property
    def ephemeral(self) -> bool:
        """Whether the last one out removes it."""

    @property
    def raw(self) -> bool:
        """A file without header."""

    @property
    def attached(self) -> list[Attached]:
        """Who is attached."""

    @property
    def fault(self) -> str | None:
        """Why it cannot be used."""

@final
class GcReport:
    """What a sweep did."""

    @property
    def removed(self) -> list[str]:
        """Names of the objects that were removed."""

    @property
    def temporaries(self) -> int:
        """Files of creators that died half-way."""

    @property
    def doors(self) -> int:
        """Doors of endpoints that died."""

def segments(*, raw: bool = False) -> list[SegmentInfo]:
    """Lists every named object that this user may open.

    raw: files without header too.

    Raises:
        OSError: /dev/shm cannot be listed.

    Example:
        [info.name for info in ringspan.segments()]
    """

@final
class Value:
    """The latest value of any type, shared by processes.

    capacity: bytes for which room is made from the start, twice. Larger values make room when
        they are first set.
    mode: permission bits of the file.
    ephemeral: the last one out removes it.
    create: None opens or creates, True must create, False must open.
    exact: every type comes back as what it was (tuple, set, bytearray, datetime, ...); a Rust
        peer reads such values as `codec::Exact<T>`. False writes plain msgpack.
    pickle: objects that the codec cannot say go as pickles, and pickles are read. Only where
        you trust every process that can write here.
    initial: what a creator sets before anybody sees the value, as version 1; left out, it sets
        nothing. For an opener it has no meaning.

    What is set replaces what was there; history is not kept. Readers copy beside the writer and
    never see half a value. A writer that is killed at any moment leaves the value that was there.
    One handle may be used by many threads and event loops at once. Pickles by name; a handle that
    came by fork raises Forked. Two handles of one value in one process do not know of each other:
    in `update`, setting by another handle waits for ever.

    Raises:
        InvalidName, InvalidOption: the name or an option cannot be met.
        NotFound, AlreadyExists: as `create` says.
        Mismatch, Damaged, PermissionDenied, NoSpace, TooManyAttached: what stands there, or
            /dev/shm.

    Example:
        config = ringspan.Value("/config")
        await config.set({"workers": 4})
        async for now in config:
            print(now)
    """

    def __new__(
        cls,
        name: str,
        *,
        capacity: int = 4096,
        mode: int = 0o600,
        ephemeral: bool = False,
        create: bool | None = None,
        exact: bool = True,
        pickle: bool = False,
        initial: Any = ...,
    ) -> Self:
        """Opens the value, or makes it.

        Raises:
            InvalidName, InvalidOption: the name or an option cannot be met.
            NotFound, AlreadyExists: as `create` says.

        Example:
            ringspan.Value("/config")
        """

    @overload
    @classmethod
    def peek(cls, name: str, *, pickle: bool = False) -> Any:
        """The latest value of that name, read once and without a handle: it takes none of the 48
        places, opens no door and wakes nobody. Who reads again and again keeps a handle. Only where
        it is set faster than it can be copied does this make one, and may wait a moment.

        Raises:
            NotFound: there is none of that name.
            Empty: it was never set (without a default).
            CodecError: what was set cannot be read.
            Mismatch, Damaged, PermissionDenied: what stands there.

        Example:
            ringspan.Value.peek("/config", None)
        """

    @overload
    @classmethod
    def peek(cls, name: str, default: _T, /, *, pickle: bool = False) -> Any | _T:
        """The same, or `default` if it was never set."""

    @overload
    def get(self) -> Any:
        """The latest value. Where it is set faster than it can be copied, keeps the writers out for
        one copy, which may take a moment.

        Raises:
            Empty: it was never set (without a default).
            CodecError: what was set cannot be read.
            Damaged, HandleClosed, Forked: see the module `ringspan`.

        Example:
            value.get(None)
        """

    @overload
    def get(self, default: _T, /) -> Any | _T: ...
    @overload
    def try_get(self) -> Any:
        """The latest value; never waits.

        Raises:
            Empty: it was never set, or is set faster than it can be copied (without a default).
            CodecError: what was set cannot be read.

        Example:
            value.try_get(None)
        """

    @overload
    def try_get(self, default: _T, /) -> Any | _T: ...
    def set(self, value: Any) -> Coroutine[Any, Any, int]:
        """Sets the value, waiting for the turn among those who set; gives the new version.
        Cancelled, it has set nothing. Arrays and large bytes-like objects are read when it is
        awaited, everything else when it is called.

        Raises:
            TypeError, CodecError: the value cannot be written.
            NoSpace: it is larger than any before and /dev/shm has no room. The old one stands.
            WouldDeadlock: called inside `update` of it.
            PeerUnreachable, Damaged, HandleClosed, Forked: see the module `ringspan`.

        Example:
            await value.set({"workers": 4})
        """

    def try_set(self, value: Any) -> bool:
        """Sets the value, if nobody else is setting it; whether it did.

        Raises:
            TypeError, CodecError, NoSpace: as `set`.

        Example:
            value.try_set(4)
        """

    def blocking_set(self, value: Any, timeout: float | None = None) -> int:
        """As `set`, parking the thread.

        Raises:
            Timeout: the time is over; the text says who is setting.

        Example:
            value.blocking_set(4, timeout=1)
        """

    @overload
    def update(self, f: Callable[[Any], _T], /) -> Coroutine[Any, Any, _T]:
        """Sets what `f` makes of the latest value (or of the default, if it was never set), and
        gives what was set. Nobody sets in between: `f` runs under the lock and must not wait. If it
        raises, the old value stands.

        Raises:
            TypeError: `f` cannot be called.
            Empty: it was never set (without a default).
            Whatever `f` raises (a StopIteration as the cause of a RuntimeError), and what `set` and
            `get` raise.

        Example:
            await value.update(lambda old: old + 1, 0)
        """

    @overload
    def update(self, f: Callable[[Any], _T], default: Any, /) -> Coroutine[Any, Any, _T]: ...
    @overload
    def blocking_update(self, f: Callable[[Any], _T], /, *, timeout: float | None = None) -> _T:
        """As `update`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            value.blocking_update(lambda old: old + 1, 0, timeout=1)
        """

    @overload
    def blocking_update(
        self, f: Callable[[Any], _T], default: Any, /, *, timeout: float | None = None
    ) -> _T: ...
    def compare_and_set(self, expected: Any, new: Any) -> Coroutine[Any, Any, bool]:
        """Sets `new` if the latest value equals `expected`; whether it did. Nobody sets in between.
        A value that was never set equals nothing. They are compared by `==`, and the answer has to
        be true or false: of arrays with several elements it is neither.

        Raises:
            ValueError: numpy's, of arrays that are compared.
            What `set` and `get` raise.

        Example:
            await value.compare_and_set("idle", "busy")
        """

    def blocking_compare_and_set(
        self, expected: Any, new: Any, timeout: float | None = None
    ) -> bool:
        """As `compare_and_set`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            value.blocking_compare_and_set("idle", "busy", timeout=1)
        """

    @property
    def version(self) -> int:
        """How often the value was set, by anybody. Take it before you look, then wait for
        `changed(since=)`."""

    def changed(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is at the start), and
        returns it. Cancelled, it has changed nothing. Any number of tasks, threads and loops may
        wait.

        Raises:
            Removed: it was removed, and not set since; or its file was deleted from outside, and
                nobody else is attached.
            PeerUnreachable, Damaged, HandleClosed, Forked: it cannot be waited for.

        Example:
            seen = await value.changed(since=seen)
        """

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `changed`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            value.blocking_changed(since=seen, timeout=5)
        """

    def wait_for(self, wanted: Callable[[Any], object]) -> Coroutine[Any, Any, Any]:
        """Waits until `wanted` says true of it, and returns what it said true of. What is replaced
        at once may never be looked at.

        Raises:
            Removed, PeerUnreachable, Damaged, HandleClosed, Forked: as `changed`.

        Example:
            await value.wait_for(lambda now: now)
        """

    def blocking_wait_for(
        self, wanted: Callable[[Any], object], timeout: float | None = None
    ) -> Any:
        """As `wait_for`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            value.blocking_wait_for(lambda now: now, timeout=5)
        """

    def __aiter__(self) -> Watch:
        """The present value, then each time the latest."""

    def stat(self) -> HandleStat:
        """What this handle holds and has done."""

    @property
    def name(self) -> str:
        """The name, with its slash."""

    def _rest(self) -> bool: ...
    def _rouse(self) -> bool: ...
    def _bury_dead(self) -> None: ...
    @property
    def file_size(self) -> int:
        """Bytes in its file, which grows with the values and never shrinks."""

    @property
    def is_removed(self) -> bool:
        """Whether its name was removed. The value is as it was for those who have it open."""

    @property
    def is_ephemeral(self) -> bool:
        """Whether the last one out removes it."""

    def remove(self) -> None:
        """Deletes the name. Who has it open goes on; waits end with `Removed`.

        Raises:
            NotFound: there is none any more.

        Example:
            value.remove()
        """

    def close(self) -> None:
        """Gives the handle up; tasks and threads that wait on it get HandleClosed.

        Example:
            value.close()
        """

    def __enter__(self) -> Self:
        """The handle, closed at the end of the block."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes the handle."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by name."""

@final
class Watch(AsyncIterator[Any]):
    """Looks at a value again and again; from `async for` over a Value."""

    def __aiter__(self) -> Self:
        """Itself."""

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        """Waits for a newer one than the last."""

@final
class SharedInt:
    """A 64-bit integer that processes share.

    initial: what a new one holds (default 0).
    mode, ephemeral, create: as for Value.

    Changes are atomic and can be awaited. One handle may be used by many threads and event loops at
    once. Pickles by name; a handle that came by fork raises Forked.
    The truth of a handle does not tell of the number: `if jobs.load():`.

    Raises:
        Mismatch: the name is something else (a float is not an int).
        Others as for Value.

    Example:
        jobs = ringspan.SharedInt("/jobs")
    """

    def __new__(
        cls,
        name: str,
        initial: int | None = None,
        *,
        mode: int = 0o600,
        ephemeral: bool = False,
        create: bool | None = None,
    ) -> Self:
        """Opens it, or makes it.

        Raises:
            InvalidName, InvalidOption: the name or an option cannot be met.
            NotFound, AlreadyExists: as `create` says.

        Example:
            ringspan.SharedInt("/jobs")
        """

    def load(self) -> int:
        """What it holds now.

        Example:
            jobs.load()
        """

    def store(self, number: int) -> None:
        """Sets it, and wakes who waits for a change.

        Raises:
            TypeError, OverflowError: not an int of 64 bits.

        Example:
            jobs.store(3)
        """

    def swap(self, number: int) -> int:
        """As `store`; gives what it held before.

        Example:
            jobs.swap(3)
        """

    def compare_exchange(self, expected: int, new: int) -> bool:
        """Sets `new` if it holds `expected`, in one step; whether it did.

        Example:
            jobs.compare_exchange(3, 4)
        """

    def add(self, number: int) -> int:
        """Adds in one step; gives the sum.

        Raises:
            OverflowError: more than 64 bits; nothing has changed.

        Example:
            jobs.add(1)
        """

    @property
    def version(self) -> int:
        """How often it was changed, by anybody. Take it before you look, then wait for
        `changed(since=)`."""

    def changed(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is at the start), and
        returns it. Cancelled, it has changed nothing. Any number of tasks, threads and loops may
        wait.

        Raises:
            Removed: it was removed and nobody else is attached.
            PeerUnreachable, Damaged, HandleClosed, Forked: it cannot be waited for.

        Example:
            seen = await jobs.changed(since=seen)
        """

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `changed`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            jobs.blocking_changed(since=seen, timeout=5)
        """

    def wait_for(self, wanted: Callable[[int], object]) -> Coroutine[Any, Any, int]:
        """Waits until `wanted` says true of it, and returns what it said true of. What is replaced
        at once may never be looked at.

        Raises:
            Removed, PeerUnreachable, Damaged, HandleClosed, Forked: as `changed`.

        Example:
            await jobs.wait_for(lambda now: now)
        """

    def blocking_wait_for(
        self, wanted: Callable[[int], object], timeout: float | None = None
    ) -> int:
        """As `wait_for`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            jobs.blocking_wait_for(lambda now: now, timeout=5)
        """

    def stat(self) -> HandleStat:
        """What this handle holds and has done."""

    @property
    def name(self) -> str:
        """The name, with its slash."""

    @property
    def is_ephemeral(self) -> bool:
        """Whether the last one out removes it."""

    def remove(self) -> None:
        """Deletes the name; who has it open goes on.

        Raises:
            NotFound: there is none any more.

        Example:
            jobs.remove()
        """

    def close(self) -> None:
        """Gives the handle up; tasks and threads that wait on it get HandleClosed.

        Example:
            jobs.close()
        """

    def __enter__(self) -> Self:
        """The handle, closed at the end of the block."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes the handle."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by name."""

@final
class SharedFloat:
    """A 64-bit float that processes share.

    initial: what a new one holds (default 0).
    mode, ephemeral, create: as for Value.

    Changes are atomic and can be awaited. One handle may be used by many threads and event loops at
    once. Pickles by name; a handle that came by fork raises Forked.
    The truth of a handle does not tell of the number: `if load.load():`.

    Raises:
        Mismatch: the name is something else (a float is not an int).
        Others as for Value.

    Example:
        load = ringspan.SharedFloat("/load")
    """

    def __new__(
        cls,
        name: str,
        initial: float | None = None,
        *,
        mode: int = 0o600,
        ephemeral: bool = False,
        create: bool | None = None,
    ) -> Self:
        """Opens it, or makes it.

        Raises:
            InvalidName, InvalidOption: the name or an option cannot be met.
            NotFound, AlreadyExists: as `create` says.

        Example:
            ringspan.SharedFloat("/load")
        """

    def load(self) -> float:
        """What it holds now.

        Example:
            load.load()
        """

    def store(self, number: float) -> None:
        """Sets it, and wakes who waits for a change.

        Raises:
            TypeError: not a float.

        Example:
            load.store(3)
        """

    def swap(self, number: float) -> float:
        """As `store`; gives what it held before.

        Example:
            load.swap(3)
        """

    def compare_exchange(self, expected: float, new: float) -> bool:
        """Sets `new` if it holds `expected`, in one step; whether it did.

        Example:
            load.compare_exchange(3, 4)
        """

    def add(self, number: float) -> float:
        """Adds in one step; gives the sum.

        Example:
            load.add(1)
        """

    @property
    def version(self) -> int:
        """How often it was changed, by anybody. Take it before you look, then wait for
        `changed(since=)`."""

    def changed(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is at the start), and
        returns it. Cancelled, it has changed nothing. Any number of tasks, threads and loops may
        wait.

        Raises:
            Removed: it was removed and nobody else is attached.
            PeerUnreachable, Damaged, HandleClosed, Forked: it cannot be waited for.

        Example:
            seen = await load.changed(since=seen)
        """

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `changed`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            load.blocking_changed(since=seen, timeout=5)
        """

    def wait_for(self, wanted: Callable[[float], object]) -> Coroutine[Any, Any, float]:
        """Waits until `wanted` says true of it, and returns what it said true of. What is replaced
        at once may never be looked at.

        Raises:
            Removed, PeerUnreachable, Damaged, HandleClosed, Forked: as `changed`.

        Example:
            await load.wait_for(lambda now: now)
        """

    def blocking_wait_for(
        self, wanted: Callable[[float], object], timeout: float | None = None
    ) -> float:
        """As `wait_for`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            load.blocking_wait_for(lambda now: now, timeout=5)
        """

    def stat(self) -> HandleStat:
        """What this handle holds and has done."""

    @property
    def name(self) -> str:
        """The name, with its slash."""

    @property
    def is_ephemeral(self) -> bool:
        """Whether the last one out removes it."""

    def remove(self) -> None:
        """Deletes the name; who has it open goes on.

        Raises:
            NotFound: there is none any more.

        Example:
            load.remove()
        """

    def close(self) -> None:
        """Gives the handle up; tasks and threads that wait on it get HandleClosed.

        Example:
            load.close()
        """

    def __enter__(self) -> Self:
        """The handle, closed at the end of the block."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes the handle."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by name."""

@final
class SharedBool:
    """A truth value that processes share.

    initial: what a new one holds (default False).
    mode, ephemeral, create: as for Value.

    Changes are atomic and can be awaited. One handle may be used by many threads and event loops at
    once. Pickles by name; a handle that came by fork raises Forked.
    As a condition it is what it holds: `while not stop:`.

    Raises:
        Mismatch: the name is something else (a float is not an int).
        Others as for Value.

    Example:
        stop = ringspan.SharedBool("/stop")
    """

    def __new__(
        cls,
        name: str,
        initial: bool | None = None,
        *,
        mode: int = 0o600,
        ephemeral: bool = False,
        create: bool | None = None,
    ) -> Self:
        """Opens it, or makes it.

        Raises:
            InvalidName, InvalidOption: the name or an option cannot be met.
            NotFound, AlreadyExists: as `create` says.

        Example:
            ringspan.SharedBool("/stop")
        """

    def __bool__(self) -> bool:
        """What it holds now.

        Raises:
            HandleClosed, Forked: see the module `ringspan`.
        """

    def load(self) -> bool:
        """What it holds now.

        Example:
            stop.load()
        """

    def store(self, number: bool) -> None:
        """Sets it, and wakes who waits for a change.

        Raises:
            TypeError: not a bool.

        Example:
            stop.store(True)
        """

    def swap(self, number: bool) -> bool:
        """As `store`; gives what it held before.

        Example:
            stop.swap(True)
        """

    def compare_exchange(self, expected: bool, new: bool) -> bool:
        """Sets `new` if it holds `expected`, in one step; whether it did.

        Example:
            stop.compare_exchange(False, True)
        """

    @property
    def version(self) -> int:
        """How often it was changed, by anybody. Take it before you look, then wait for
        `changed(since=)`."""

    def changed(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is at the start), and
        returns it. Cancelled, it has changed nothing. Any number of tasks, threads and loops may
        wait.

        Raises:
            Removed: it was removed and nobody else is attached.
            PeerUnreachable, Damaged, HandleClosed, Forked: it cannot be waited for.

        Example:
            seen = await stop.changed(since=seen)
        """

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `changed`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            stop.blocking_changed(since=seen, timeout=5)
        """

    def wait_for(self, wanted: Callable[[bool], object]) -> Coroutine[Any, Any, bool]:
        """Waits until `wanted` says true of it, and returns what it said true of. What is replaced
        at once may never be looked at.

        Raises:
            Removed, PeerUnreachable, Damaged, HandleClosed, Forked: as `changed`.

        Example:
            await stop.wait_for(lambda now: now)
        """

    def blocking_wait_for(
        self, wanted: Callable[[bool], object], timeout: float | None = None
    ) -> bool:
        """As `wait_for`, parking the thread.

        Raises:
            Timeout: the time is over.

        Example:
            stop.blocking_wait_for(lambda now: now, timeout=5)
        """

    def stat(self) -> HandleStat:
        """What this handle holds and has done."""

    @property
    def name(self) -> str:
        """The name, with its slash."""

    @property
    def is_ephemeral(self) -> bool:
        """Whether the last one out removes it."""

    def remove(self) -> None:
        """Deletes the name; who has it open goes on.

        Raises:
            NotFound: there is none any more.

        Example:
            stop.remove()
        """

    def close(self) -> None:
        """Gives the handle up; tasks and threads that wait on it get HandleClosed.

        Example:
            stop.close()
        """

    def __enter__(self) -> Self:
        """The handle, closed at the end of the block."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None:
        """Closes the handle."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by name."""

@final
class Client:
    """A handle to a function or service of another process, for asyncio.

    name: what to call. timeout: seconds that connecting and then each call may take.
    exact: arguments that are tuples, sets, bytearrays and the like arrive as such in Python.

    `f(1, 2, a=3)` calls a function, `f.add(1, 2)` a method of a service; all arguments are the
    function's. Each event loop that calls has a connection of its own, made at its first call and
    again by the first call after the server was restarted. A call that was under way when the
    connection broke is not sent again.

    Threads may share it. Pickles by name and options; in a forked child it connects anew. A crash
    leaves nothing behind: the memory of a connection has no name, and the handlers of a killed
    client are cancelled.

    Example:
        f = await ringspan.connect("/add")
        assert await f(2, 3) == 5
    """

    def __new__(cls, name: str, *, timeout: float | None = None, exact: bool = False) -> Self:
        """A client that connects at its first call; `ringspan.connect` does it at once.

        Raises:
            ValueError, TypeError: a time-out that is none.

        Example:
            f = ringspan.Client("/add", timeout=1.0)
        """

    def __call__(self, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Calls the function; all arguments are the function's. It begins now, awaited or not.

        Cancelling or dropping what is returned gives the call up, and cancels the handler.

        Raises:
            TypeError, CodecError, TooLarge: arguments that cannot be sent; nothing was.
            RuntimeError: no asyncio loop runs in this thread.

        Awaiting it raises:
            RemoteError: what the handler raised, of its builtin type too.
            Disconnected: the connection broke; `delivered` says whether the call had arrived.
            NotServed, NotFound: nobody serves the name.
            Timeout: the time is over; the handler was cancelled.

        Example:
            await f(2, b=3)
        """

    def stream(self, /, *args: Any, **kwargs: Any) -> CallStream | AsyncGenerator[Any]:
        """Calls a function that yields: `async for` takes the items.

        The handler runs only as fast as they are taken. Leaving it (`aclose`, or dropping it) stops
        the handler. On a client that is not connected the call begins with the first item.

        Raises:
            As a call; those of the handler come behind the items before.

        Example:
            async for n in f.stream(10): print(n)
        """

    def method(self, name: str) -> Method:
        """A method of the service, by a name that is no attribute, such as `stream` or `close`.

        Example:
            await f.method("stream")(1)
        """

    def __getattribute__(self, name: str, /) -> Method: ...
    def options(self, **kwargs: Any) -> Client:
        """The same client, on the same connections, with other options.

        timeout: seconds, None for ever; the handler sees them in `Context.remaining`.
        exact: see the class.

        Raises:
            TypeError, ValueError: no such option, or not a time-out.

        Example:
            await f.options(timeout=0.5)(2, 3)
        """

    @property
    def name(self) -> str:
        """The name it calls."""

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may take, connecting included; None for ever."""

    @property
    def server_pid(self) -> int | None:
        """The process that serves, if the loop that runs has a connection."""

    @property
    def methods(self) -> list[str]:
        """The methods of the service; empty if the loop that runs has no connection."""

    def close(self) -> None:
        """Closes the connections; calls under way fail. A later call connects anew.

        Example:
            f.close()
        """

    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def _connected(self) -> bool: ...
    def _key(self) -> int: ...
    def _begin(
        self,
        method: str | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        stream: bool,
    ) -> Call[Any] | CallStream | None: ...
    def _open(self, off: _CallOff, timeout: float | None) -> _Opened: ...
    def _adopt(self, opened: _Opened) -> None: ...

@final
class Method:
    """A method of a service, as `client.add` gives it.

    Example:
        add = (await ringspan.connect("/calc")).add
        assert await add(2, 3) == 5
    """

    def __call__(self, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Calls the method: see `Client.__call__`.

        Raises:
            UnknownMethod: the service has none of this name; awaiting may raise it too.

        Example:
            await service.add(2, b=3)
        """

    def stream(self, /, *args: Any, **kwargs: Any) -> CallStream | AsyncGenerator[Any]:
        """Calls a method that yields: see `Client.stream`.

        Example:
            async for n in service.count.stream(10): print(n)
        """

    def options(self, **kwargs: Any) -> Method:
        """The same method with other options: see `Client.options`.

        Example:
            await service.add.options(timeout=0.5)(2, 3)
        """

    @property
    def __name__(self) -> str:
        """Its name."""

@final
class Call(Coroutine[Any, Any, _T]):
    """A call under way: awaitable, and a future of its event loop.

    `await`, `gather`, `wait_for`, `shield`, `create_task` and TaskGroups take it; `asyncio.wait`
    wants tasks, as ever. It can be awaited again, by any task of its loop, with the same result.

    Cancelling it, or the task that awaits it, or dropping the last reference to it, gives the call
    up: the handler is cancelled. Whether it was done by then is not known.

    Example:
        calls = [f(n) for n in range(100)]
        results = await asyncio.gather(*calls)
    """

    _asyncio_future_blocking: bool
    @property
    def _cancel_message(self) -> Any: ...
    def __await__(self) -> Generator[Any, Any, _T]:
        """Waits for the result."""

    def __iter__(self) -> Generator[Any, Any, _T]:
        """Waits for the result."""

    def __next__(self) -> Any:
        """Makes one step, as an event loop does."""

    def send(self, _value: Any) -> Any:
        """Makes one step, as an event loop does."""

    def throw(self, exception: Any, value: Any = None, traceback: Any = None, /) -> Any:
        """Raises the exception here, and gives the call up."""

    def close(self) -> None:
        """Gives the call up."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that resolves it."""

    def add_done_callback(
        self, callback: Callable[[Self], object], *, context: _ContextVars | None = None
    ) -> None:
        """Calls `callback(call)` from the loop once it is over.

        Example:
            f(2, 3).add_done_callback(lambda call: print(call.result()))
        """

    def remove_done_callback(self, callback: Callable[[Self], object]) -> int:
        """Forgets a callback; returns how many times it stood there."""

    def cancel(self, msg: Any = None) -> bool:
        """Gives the call up, and cancels its handler. False: it was over.

        Example:
            call.cancel()
        """

    def cancelled(self) -> bool:
        """Whether it was given up."""

    def done(self) -> bool:
        """Whether it is over, one way or another."""

    def result(self) -> _T:
        """The result.

        Raises:
            What the call raised.
            asyncio.InvalidStateError: it is not over yet.
            asyncio.CancelledError: it was given up.

        Example:
            if call.done(): print(call.result())
        """

    def exception(self) -> BaseException | None:
        """What the call raised, or None.

        Raises:
            asyncio.InvalidStateError: it is not over yet.
            asyncio.CancelledError: it was given up.
        """

    @classmethod
    def __class_getitem__(cls, _item: Any) -> Any: ...
    def _make_cancelled_error(self) -> asyncio.CancelledError: ...

@final
class CallStream(AsyncIterator[Any]):
    """The items of a call that yields; each is taken when it is asked for.

    A cancelled `anext` takes nothing. One task at a time asks. Dropping it stops the handler.

    Example:
        async with contextlib.aclosing(f.count.stream(10)) as items:
            async for n in items: print(n)
    """

    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Call[Any]: ...
    def aclose(self) -> Call[None]:
        """Stops the handler; there are no more items.

        Example:
            await items.aclose()
        """

@final
class BlockingClient:
    """A handle to a function or service of another process, for code that blocks.

    As `Client`; each call parks its thread, and threads share one connection. Ctrl-C is answered:
    what its handler raises gives the call up. The interpreter lock is released meanwhile.

    Pickles by name and options. In a forked child calls raise `Forked`: make another one there.

    Example:
        f = ringspan.blocking_connect("/add")
        assert f(2, 3) == 5
    """

    def __new__(cls, name: str, *, timeout: float | None = None, exact: bool = False) -> Self:
        """A client that connects at its first call; `blocking_connect` does it at once.

        Raises:
            ValueError, TypeError: a time-out that is none.

        Example:
            f = ringspan.BlockingClient("/add", timeout=1.0)
        """

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function and waits; all arguments are the function's.

        Raises:
            TypeError, CodecError, TooLarge: arguments that cannot be sent; nothing was.
            RemoteError: what the handler raised, of its builtin type too.
            Disconnected: the connection broke; `delivered` says whether the call had arrived.
            NotServed, NotFound: nobody serves the name.
            Timeout: the time is over; the handler was cancelled.

        Example:
            f(2, b=3)
        """

    def stream(self, /, *args: Any, **kwargs: Any) -> BlockingStream:
        """Calls a function that yields: iterate over what is returned.

        Raises:
            As a call; those of the handler come behind the items before.

        Example:
            for n in f.stream(10): print(n)
        """

    def method(self, name: str) -> BlockingMethod:
        """A method of the service, by a name that is no attribute, such as `stream`.

        Example:
            f.method("stream")(1)
        """

    def __getattribute__(self, name: str, /) -> BlockingMethod: ...
    def options(self, **kwargs: Any) -> BlockingClient:
        """The same client, on the same connection, with other options: see `Client.options`.

        Example:
            f.options(timeout=0.5)(2, 3)
        """

    def connect(self) -> None:
        """Connects now, if there is no connection.

        Raises:
            NotServed, NotFound: nobody serves the name.
            Timeout: the time is over, and the server did not answer.

        Example:
            f.connect()
        """

    @property
    def name(self) -> str:
        """The name it calls."""

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may take, connecting included; None for ever."""

    @property
    def server_pid(self) -> int | None:
        """The process that serves, if a connection stands."""

    @property
    def methods(self) -> list[str]:
        """The methods of the service; empty if no connection stands."""

@final
class BlockingMethod:
    """A method of a service, as `client.add` gives it, for code that blocks.

    Example:
        add = ringspan.blocking_connect("/calc").add
        assert add(2, 3) == 5
    """

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the method and waits: see `BlockingClient.__call__`.

        Raises:
            UnknownMethod: the service has none of this name.

        Example:
            service.add(2, b=3)
        """

    def stream(self, /, *args: Any, **kwargs: Any) -> BlockingStream:
        """Calls a method that yields: iterate over what is returned.

        Example:
            for n in service.count.stream(10): print(n)
        """

    def options(self, **kwargs: Any) -> BlockingMethod:
        """The same method with other options: see `Client.options`.

        Example:
            service.add.options(timeout=0.5)(2, 3)
        """

    @property
    def __name__(self) -> str:
        """Its name."""

@final
class BlockingStream(Iterator[Any]):
    """The items of a call that yields, one for each `next`. Dropping it stops the handler.

    It is one thread's: RuntimeError for a second one that enters while the first waits inside.

    Example:
        for n in f.count.stream(10): print(n)
    """

    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def close(self) -> None:
        """Stops the handler; there are no more items.

        Example:
            items.close()
        """

@final
class Context:
    """What a handler can know of its call: annotate a parameter with `ringspan.Context`.

    The caller does not see that parameter; it may stand anywhere among the others.

    Example:
        @service.method
        async def work(ctx: ringspan.Context, n):
            return ctx.caller_pid, ctx.remaining
    """

    @property
    def remaining(self) -> float | None:
        """Seconds until the caller gives up; None if it does not."""

    @property
    def caller_pid(self) -> int:
        """The process that calls; 0 where our pid namespace cannot see it."""

    @property
    def caller_uid(self) -> int:
        """Its user: that of the server, or root."""

    @property
    def cancelled(self) -> bool:
        """Nobody waits for the answer any more. Tasks are cancelled then; this is for threads."""

def remove(
    name: str,
    missing_ok: bool = False,
    *,
    kind: str | None = None,
    file_id: tuple[int, int] | None = None,
) -> None:
    """Deletes a name, whatever kind of object it is; who is attached goes on.

    kind: only an object of this kind: "segment", "ring", "lock", "value", "array", "function",
        "shared int", "shared float", "shared bool".
    file_id: only while the name leads to this file (`Segment.file_id`), not to one made since. On
        tmpfs, which /dev/shm is as a rule, no later file has it; on other file systems one may.

    Raises:
        NotFound: there is none, or the name leads to another file; neither with `missing_ok`.
        Mismatch: it is of another kind, or none can be told; it stays.
        InvalidName, PermissionDenied: not ours to delete.

    Example:
        ringspan.remove("/frames", missing_ok=True)
    """

def _unlink_file(name: str, file_id: tuple[int, int], /) -> bool:
    """Deletes a name that leads to that raw file, and tells whether it did. Never waits."""

def _unlink_any(name: str, /) -> None:
    """Deletes a name as `shm_unlink` does, whatever it leads to: nobody who waits is woken."""

def gc(*, persistent_older_than: float | None = None) -> GcReport:
    """Removes what the dead left behind; what a living process may use is left alone.

    persistent_older_than: also removes persistent objects of that age in seconds that nobody alive
    is attached to. Their data is lost.

    Raises:
        OSError: /dev/shm cannot be listed.

    Example:
        ringspan.gc().removed
    """

def _again(class_: str, name: str, frozen: tuple[Any, ...], /) -> Ring | Producer | Consumer: ...
def _segment_again(name: str, raw: bool, /) -> Segment: ...
def _rwlock_again(name: str, /) -> RwLock: ...
def _block_again(name: str, /) -> _Block: ...
def _value_again(name: str, exact: bool, pickle: bool, /) -> Value: ...
def _scalar_again(class_: str, name: str, /) -> SharedInt | SharedFloat | SharedBool: ...
def _encode(obj: Any, exact: bool = False, pickle: bool = False) -> tuple[int, bytes]: ...
def _decode(tag: int, data: Buffer, exact: bool = False, pickle: bool = False) -> Any: ...
def _decode_array_view(data: bytes) -> Any: ...
def _array_meta(dtype: Any, shape: Iterable[int], fortran: bool = False) -> tuple[bytes, int]: ...
def _array_over(meta: bytes, exporter: Buffer, offset: int = 0) -> Any: ...
def _memory_per_client(limits: dict[str, int]) -> int: ...
def _seconds(given: float | None, what: str = "timeout", /) -> float | None: ...

@final
class _Block:
    """Named bytes that say what they are, under a lock, and can be awaited: arrays are made of it.

    The buffer protocol gives the bytes, writable, not under the lock; views keep the memory mapped.
    A handle takes one of the 48 places when it first locks, notifies or waits, that of an ephemeral
    block at once. `with block:` closes the handle at the end. Pickles by name.
    """

    @classmethod
    def create(
        cls,
        name: str,
        size: int,
        *,
        meta: bytes | bytearray | None = None,
        fill: Callable[[memoryview], object] | None = None,
        data: Buffer | None = None,
        mode: int = 0o600,
        ephemeral: bool = False,
    ) -> Self:
        """Makes a new block of `size` bytes. Nobody ever sees it unfinished: its name comes last.

        meta: at most 1 MiB that say what the payload is; never changed.
        fill: called with the writable bytes before the name appears; should a process that holds
            the name die just then, twice. Without it all bytes are 0.
        data: bytes in one piece in C order, copied to the beginning, in place of `fill`.

        Raises:
            AlreadyExists: the name is taken (found out before `fill` is called, where it can be).
            InvalidName, InvalidOption, PermissionDenied, NoSpace: what is wrong.
            Exception: what `fill` raised; there is no block then.
        """

    @classmethod
    def open(cls, name: str) -> Self:
        """Opens a block that exists.

        Raises:
            NotFound: no object of that name.
            Mismatch, Damaged, PermissionDenied: what stands there.
        """

    def __buffer__(self, flags: int, /) -> memoryview:
        """The writable bytes; not under the lock."""

    @property
    def meta(self) -> bytes:
        """What its creator said of it."""

    @property
    def version(self) -> int:
        """How often `notify` was called, by anybody."""

    def notify(self) -> int:
        """Raises the version and wakes everybody who waits for that; returns the new version.

        Raises:
            Removed: it has no name any more, and this handle was not attached before.
            TooManyAttached, HandleClosed, Forked: it cannot be told.
        """

    def changed(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is now); returns it.

        Raises:
            Removed: the name is gone, and nobody else is attached.
            PeerUnreachable, TooManyAttached, HandleClosed, Forked: it cannot be waited for.
        """

    def blocking_changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `changed`, parking the thread.

        Raises:
            Timeout: the time is over.
        """

    def read(self, *, allow_poisoned: bool = False) -> Acquire:
        """As `RwLock.read`, over the bytes of the block."""

    def write(self, *, allow_poisoned: bool = False) -> Acquire:
        """As `RwLock.write`."""

    def try_read(self, *, allow_poisoned: bool = False) -> Guard | None:
        """As `RwLock.try_read`."""

    def try_write(self, *, allow_poisoned: bool = False) -> Guard | None:
        """As `RwLock.try_write`."""

    def blocking_read(self, timeout: float | None = None, *, allow_poisoned: bool = False) -> Guard:
        """As `RwLock.blocking_read`."""

    def blocking_write(
        self, timeout: float | None = None, *, allow_poisoned: bool = False
    ) -> Guard:
        """As `RwLock.blocking_write`."""

    @property
    def is_poisoned(self) -> bool:
        """Whether a writer died and nobody cleared that since."""

    def clear_poison(self) -> None:
        """Says that the bytes are in order again; call it while you write."""

    def holders(self) -> list[Holder]:
        """Returns who holds the lock now; it may be over when it is read."""

    def stat(self) -> HandleStat:
        """Returns what this handle holds and has done; attaches it."""

    @property
    def name(self) -> str:
        """The name, with its slash."""

    @property
    def file_id(self) -> tuple[int, int]:
        """Device and inode of its file, which no other file has while this one is there."""

    @property
    def size(self) -> int:
        """Bytes in the block."""

    @property
    def is_ephemeral(self) -> bool:
        """Whether the last one out removes it."""

    def remove(self) -> None:
        """Deletes the name; who has it open goes on.

        Raises:
            NotFound: it is gone already.
        """

    def close(self) -> None:
        """Gives the handle up. Views that are out keep the memory, guards that are out the lock."""

    def __len__(self) -> int:
        """Bytes in the block."""

    def __bool__(self) -> bool:
        """True, also for a block without bytes."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

#: What can be packed; a bool is an int, and an int is a float to type checkers.
_Packed: TypeAlias = float | str | bytes | bytearray

@final
class MappedView:
    """A view of a segment, from `SharedMemory.map`, with a cursor of its own.

    Every call reads or writes under the lock of the segment: many may read at once, one writes
    alone. Waiting parks the thread, for `timeout` seconds at most, else `ringspan.Timeout`. A
    killed reader vanishes from the lock. A writer that is killed inside a write leaves
    `ringspan.Poisoned` to all who come later, until `zero` or `clear_poison`.

    | Python               | stored as                    | bytes          |
    |----------------------|------------------------------|----------------|
    | `bool`               | `u8`, 0 or 1                 | 1              |
    | `int`                | `i64`                        | 8              |
    | `float`              | `f64`                        | 8              |
    | `str`                | `u32` length, then UTF-8     | 4 and the text |
    | `bytes`, `bytearray` | as they are, without length  | all of them    |

    Tags to read by: "bool", "int" or "i64", "float" or "f64", "f32", "i32", "u8", "u32", "u64",
    "str". Items lie without gaps, in native byte order. Without `offset` a call works at the
    cursor and moves it; with it the cursor stays. What fails changes nothing.
    """

    def write(
        self, data: _Packed, offset: int | None = None, *, timeout: float | None = None
    ) -> None:
        """Writes one value.

        Raises `ValueError` if it would end beyond the view, or has no bytes; `OverflowError` for an
        int beyond 64 bits.
        """

    def write_mixed(
        self, items: list[Any], offset: int | None = None, *, timeout: float | None = None
    ) -> None:
        """Writes values one behind the other; a list among them counts as its elements.

        Raises as `write`.
        """

    def read(self, tag: str, *, timeout: float | None = None) -> Any:
        """Reads one item at the cursor, by the tag of what was written there.

        Raises `ValueError` for an unknown tag, and if the view ends before the item.
        """

    def read_mixed(
        self,
        schema: list[tuple[str, int]],
        offset: int | None = None,
        *,
        timeout: float | None = None,
    ) -> list[Any]:
        """Reads items one behind the other: for each `(tag, count)` a list, or one item if 1.

        Raises `ValueError` as `read`, and for entries that are no tuples.
        """

    def read_range(self, offset: int, length: int, *, timeout: float | None = None) -> bytes:
        """Copies `length` bytes from `offset` on.

        Raises `ValueError` if `length` is 0 or they do not all lie in the view.
        """

    def read_all(self, *, timeout: float | None = None) -> bytes:
        """Copies all bytes."""

    def zero(self, *, timeout: float | None = None) -> None:
        """Fills the view with zeros; the cursor stays. Poison is gone then."""

    def seek(self, pos: int = 0) -> None:
        """Moves the cursor to `pos`, which may be the end.

        Raises `ValueError` beyond it; the cursor stays.
        """

    def tell(self) -> int:
        """Where the cursor is."""

    def size(self) -> int:
        """Bytes in the view."""

    def awrite(self, data: _Packed, offset: int | None = None) -> Coroutine[Any, Any, None]:
        """As `write`, awaiting the lock. Cancelled, it has written nothing."""

    def awrite_mixed(
        self, items: list[Any], offset: int | None = None
    ) -> Coroutine[Any, Any, None]:
        """As `write_mixed`, awaiting the lock. Cancelled, it has written nothing."""

    def aread(self, tag: str) -> Coroutine[Any, Any, Any]:
        """As `read`, awaiting the lock. Cancelled, it has not moved the cursor."""

    def aread_mixed(
        self, schema: list[tuple[str, int]], offset: int | None = None
    ) -> Coroutine[Any, Any, list[Any]]:
        """As `read_mixed`, awaiting the lock. Cancelled, it has not moved the cursor."""

    def aread_range(self, offset: int, length: int) -> Coroutine[Any, Any, bytes]:
        """As `read_range`, awaiting the lock."""

    def aread_all(self) -> Coroutine[Any, Any, bytes]:
        """As `read_all`, awaiting the lock."""

    def azero(self) -> Coroutine[Any, Any, None]:
        """As `zero`, awaiting the lock."""

    def reader_count(self) -> int:
        """How many read now; 0 if somebody writes. Threads of one process count as one."""

    def is_write_locked(self) -> bool:
        """Whether somebody writes now."""

    def version(self) -> int:
        """How often the view was written, by anybody."""

    def achanged(self, since: int | None = None) -> Coroutine[Any, Any, int]:
        """Waits until the version differs from `since` (None: from what it is at the start)."""

    def changed(self, since: int | None = None, timeout: float | None = None) -> int:
        """As `achanged`, parking the thread; `ringspan.Timeout` when the time is over."""

    def reading(self, timeout: float | None = None) -> AbstractContextManager[memoryview]:
        """The bytes, read-only, while nobody writes: `with view.reading() as buf:`."""

    def writing(self, timeout: float | None = None) -> AbstractContextManager[memoryview]:
        """The bytes, while nobody else reads or writes: `with view.writing() as buf:`."""

    def areading(self) -> AbstractAsyncContextManager[memoryview]:
        """As `reading`: `async with view.areading() as buf:`."""

    def awriting(self) -> AbstractAsyncContextManager[memoryview]:
        """As `writing`: `async with view.awriting() as buf:`."""

    def is_poisoned(self) -> bool:
        """Whether a writer was killed inside a write, and nobody said since that all is well."""

    def clear_poison(self) -> None:
        """Says that the bytes are in order, whatever a killed writer left."""

    def close(self) -> None:
        """Gives the view up; the segment stays open. What is asked of it later is `ValueError`."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    @property
    def _block(self) -> _Block: ...

@final
class SpscRingBuffer:
    """A ring of messages from one producer to one consumer, from `SharedMemory.spsc`.

    The first `push` makes this process the producer, the first `pop` the consumer, until the handle
    and its rings are gone, or `close`; a second live process in the same role gets
    `ringspan.RoleTaken`. A killed one leaves whole messages, and its role free.

    A message is one value, or a list of values packed without gaps: `bool` (1 byte), `int` (`i64`),
    `float` (`f64`), `str` (`u32` length and UTF-8), `bytes` and `bytearray` as they are. It counts
    as 4 bytes and its own.

    With `timeout` (seconds, `math.inf` for ever), `push` and `pop` park the thread while there is
    no room or no message; `apush` and `apop` await that. Should the other end go meanwhile, those
    who wait are told: `ringspan.PeerDied`, `ringspan.Closed` or `ringspan.PeerClosed`.
    """

    def push(self, data: _Packed | list[Any], *, timeout: float | None = None) -> bool:
        """Publishes one message. False: there is no room for it (within `timeout`).

        Raises `TooLarge` (a `ValueError`) if it can never have room, `ValueError` for a type that
        cannot be packed.
        """

    def pop(self, tag: str | None = None, *, timeout: float | None = None) -> Any:
        """Takes the oldest message: its bytes, or the value that `tag` says. None: there is none.

        Raises `ValueError` for an unknown tag, or one that needs more bytes; the message stays.
        """

    def pop_mixed(
        self, schema: list[tuple[str, int]], *, timeout: float | None = None
    ) -> list[Any] | None:
        """Takes the oldest message, by a schema as of `read_mixed` of a view; None: there is none.

        Raises `ValueError` if the message is no such thing; it stays.
        """

    def used(self) -> int:
        """Bytes that the messages in the ring count as."""

    def free(self) -> int:
        """Bytes that are left."""

    def capacity(self) -> int:
        """Bytes of room."""

    def is_empty(self) -> bool:
        """Whether there is no message."""

    def is_full(self) -> bool:
        """Whether no byte is left."""

    def close(self) -> None:
        """Gives up the roles that this process has in the ring; the other end is told."""

    def apush(self, data: _Packed | list[Any]) -> Coroutine[Any, Any, bool]:
        """As `push`, waiting for room. Cancelled, it has published nothing."""

    def apop(self, tag: str | None = None) -> Coroutine[Any, Any, Any]:
        """As `pop`, waiting for a message. Cancelled, it has taken nothing."""

    def apop_mixed(self, schema: list[tuple[str, int]]) -> Coroutine[Any, Any, list[Any]]:
        """As `pop_mixed`, waiting for a message. Cancelled, it has taken nothing."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    @property
    def _closed(self) -> bool: ...

def _mapped_view(memory: Any, size: int, /) -> MappedView: ...
def _packed_ring(name: str, number: int, capacity: int, /) -> SpscRingBuffer: ...
def _quota_ring(name: str, quota: int, /) -> Ring: ...

@disjoint_base
class _Exported:
    """Lends what `source` lends; with `readonly` nobody can write through its views."""

    def __new__(cls, source: Segment | _Block, readonly: bool, /) -> Self: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class _Server:
    def __new__(
        cls,
        name: str,
        methods: list[tuple[Any, ...]],
        limits: dict[str, int],
        grace: float | None,
        exact: bool,
        stay_awake: bool,
    ) -> Self: ...
    def start(self, on_end: Callable[[], object], eager: bool) -> None: ...
    def stop(self, grace: float | None) -> None: ...
    def kill(self) -> None: ...
    @property
    def name(self) -> str: ...
    def stats(self) -> tuple[int, int, int, int, int, int, int, tuple[int, ...]]: ...

@final
class _CallOff:
    def __new__(cls) -> Self: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> None: ...

@final
class _Opened: ...

@final
class _Sender:
    def room(self) -> asyncio.Future[None] | None: ...
    def __call__(self, item: Any) -> None: ...

@final
class _Finish:
    def __call__(self, task: asyncio.Task[Any]) -> None: ...

@final
class _Jobs:
    def take(self) -> _Job | None: ...

@final
class _Job:
    def begin(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None] | None: ...
    def result(self, result: Any) -> None: ...
    def fail(self, error: BaseException) -> None: ...
    def finish(self) -> None: ...
    def room(self) -> bool: ...
    def item(self, item: Any) -> bool: ...
