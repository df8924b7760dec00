"""MemoryInterface: a circular memory of objects, from one process that writes to one that reads."""

from __future__ import annotations

import operator
import pickle
from typing import TYPE_CHECKING, Any

from ringspan._deadlines import deadline_after, left_until
from ringspan._exceptions import InvalidOption, Mismatch
from ringspan._ringspan import _Block
from ringspan.compat.memory_interface import _slots
from ringspan.compat.memory_interface._errors import (
    NothingToReadError,
    check_size,
    nothing_loaded,
    too_large,
    wrong_type,
)
from ringspan.compat.memory_interface._memory import Holder, Memory, made, memory_of, slept
from ringspan.compat.memory_interface._shared import Memblk

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NAME = "MemoryInterface"
_DEFAULT = list(range(100))
_NOTHING: Any = object()


class MemoryInterface(Holder[_Block]):
    """A circular memory of objects, in one segment of shared memory.

    memblk: the state to load at once.

    One process writes and one reads, at a time. `write` and `read` do not wait: ask `can_write` and
    `can_read` before, or use the forms that do, `awrite` and `aread` in asyncio, `blocking_write`
    and `blocking_read` elsewhere. Who waits is not told when the other process ends, for another
    one may come: give it a time-out.

    With `use_pickle`, which is the default, reading runs what the pickle says: trust whoever can
    write, which is every process of this user. Without it nothing is ever unpickled.

    A process that is killed at any moment leaves no half object, and holds nobody up. `with` cleans
    up at the end. Pickles by its state, into an object that has loaded it. A copy that came by fork
    works as one that has loaded it.
    """

    #: Bytes of a slot.
    size_in_bytes: int = 0
    nr_of_memories: int = 0
    use_pickle: bool = True
    #: What `write_partial` has not written yet.
    partial_data: bytearray
    _memblk: Memblk | None = None
    _known: _slots.Slots | None = None
    #: Where the ends were when it was cleaned up.
    _last: tuple[int, int] | None = None

    def __init__(self, memblk: Memblk | None = None) -> None:
        self.partial_data = bytearray()
        if memblk is not None:
            self.load_memorybuf(memblk)

    def create_memorybuf(
        self, largest_object: Any = _DEFAULT, nr_of_memories: int = 10, use_pickle: bool = True
    ) -> Memblk:
        """Makes the memory; returns the state for other processes.

        largest_object: a slot has room for its pickle; without `use_pickle` for its bytes.
        nr_of_memories: how many slots there are.

        Raises ValueError for a size or number of 0, or of more than there can be (an OverflowError
        too), OSError where /dev/shm has no room.
        """
        use_pickle = bool(use_pickle)
        size = len(pickle.dumps(largest_object) if use_pickle else largest_object)
        slots = operator.index(nr_of_memories)
        if size < 1 or slots < 1:
            raise InvalidOption(f"{_NAME}: {slots} slots of {size} bytes; each has to be 1 or more")
        check_size(_NAME, _slots.size_of(slots, size))
        memory = made(_NAME, size, lambda name: _slots.make(name, slots, size, use_pickle))
        self._have(memory, _slots.Slots(memory.native), loaded=False)

        def part(size: int) -> Memblk:
            return {"size": size, "memory": memory}

        self._memblk = {
            "writepointer": part(8),
            "readpointer": part(8),
            "size_in_bytes": part(8),
            "memlist": [{"memory": part(size), "valid": part(8)} for _ in range(slots)],
            "use_pickle": use_pickle,
        }
        return self._memblk

    def load_memorybuf(self, parms: Memblk) -> None:
        """Loads the state that `create_memorybuf` returned, here or in another process.

        Raises ValueError for another state, OSError where it does not fit what is there,
        FileNotFoundError where the creator has cleaned up.
        """
        try:
            part, slots, use_pickle = parms["writepointer"], parms["memlist"], parms["use_pickle"]
        except (TypeError, KeyError):
            raise InvalidOption(f"{_NAME}: {parms!r:.80} is not what create returned") from None
        memory: Memory[_Block] = memory_of(part, _NAME)
        there = _slots.Slots(memory.native)
        # What this program was told decides what is unpickled, not what stands in shared memory.
        if (there.count, there.use_pickle) != (len(slots), bool(use_pickle)):
            raise Mismatch(
                f"{_NAME} {memory.name}: {there.count} slots, use_pickle={there.use_pickle}; "
                f"its state says {len(slots)}, {use_pickle}"
            )
        self._have(memory, there, loaded=True)
        self._memblk = parms

    def _have(self, memory: Memory[_Block], slots: _slots.Slots, *, loaded: bool) -> None:
        self._hold(memory, loaded=loaded)
        self._known = slots
        self.size_in_bytes, self.nr_of_memories = slots.size, slots.count
        self.use_pickle, self._last = slots.use_pickle, None

    def _here(self) -> _slots.Slots:
        """The slots, as this process sees them."""
        if self._memory is None:
            raise nothing_loaded(_NAME)
        block, known = self._memory.native, self._known
        if known is None or known.block is not block:  # after a fork
            known = self._known = _slots.Slots(block)
            if (known.count, known.size) != (self.nr_of_memories, self.size_in_bytes):
                raise Mismatch(f"{_NAME} {block.name}: it is not what it was before the fork")
        return known

    def _ends(self) -> tuple[int, int]:
        return self._last if self._last is not None else self._here().ends()

    # ---- looking ---------------------------------------------------------------------------------

    def can_read(self) -> bool:
        """Whether something can be read."""
        return self._last is None and not self._here().is_empty

    def can_write(self) -> bool:
        """Whether a slot is free. Otherwise writing drops the oldest object."""
        return self._last is not None or not self._here().is_full

    def is_valid(self, index: int) -> bool:
        """Whether slot `index` holds an object that was not read yet."""
        if self._memory is None:
            return False
        oldest, written = self._ends()
        index = range(self.nr_of_memories)[index]
        return (index - oldest) % self.nr_of_memories < written - oldest

    def get_fullness(self) -> int:
        """How much of the memory is in use, in percent."""
        oldest, written = self._ends()
        return 100 * (written - oldest) // self.nr_of_memories

    def get_read_pointer(self) -> int:
        """The slot that is read next."""
        return self._ends()[0] % self.nr_of_memories

    def get_write_pointer(self) -> int:
        """The slot that is written next."""
        return self._ends()[1] % self.nr_of_memories

    def get_size_in_bytes(self) -> int:
        """Bytes of a slot."""
        return self.size_in_bytes

    def get_number_of_memories(self) -> int:
        """How many slots there are."""
        return self.nr_of_memories

    # ---- reading ---------------------------------------------------------------------------------

    def read(self) -> Any:
        """Takes the oldest object; without `use_pickle`, its whole slot.

        Raises NothingToReadError where `can_read` is False: a ringspan.Empty and an
        UnpicklingError. What cannot be unpickled is not taken.
        """
        return self._read(self.use_pickle)

    def read_pickle(self) -> Any:
        """Takes the oldest object, which is a pickle.

        Raises what `read` does, and ValueError for a memory without `use_pickle`.
        """
        if not self.use_pickle:
            raise InvalidOption(f"{_NAME}: created without use_pickle, so nothing is unpickled")
        return self._read(True)

    def read_bytes(self) -> bytearray:
        """Takes the oldest object as bytes: its whole slot, with zeros behind what was written."""
        taken: bytearray = self._read(False)
        return taken

    def _read(self, unpickle: bool) -> Any:
        taken = self._take(self._here(), unpickle, None)
        if taken is _NOTHING:
            raise NothingToReadError(f"{_NAME}: nothing to read; ask can_read(), or wait")
        return taken

    def blocking_read(self, timeout: float | None = None) -> Any:
        """As `read`, parking the thread while there is nothing.

        Raises TimeoutError after `timeout` seconds.
        """
        until = deadline_after(timeout)
        while True:
            slots = self._here()
            seen = slots.block.version
            taken = self._take(slots, self.use_pickle, left_until(until))
            if taken is not _NOTHING:
                return taken
            slept(slots.block, seen, left_until(until))

    async def aread(self) -> Any:
        """As `read`, waiting while there is nothing. Cancelled, it has taken nothing."""
        while True:
            slots = self._here()
            seen = slots.block.version
            async with slots.block.write(allow_poisoned=True):
                found = slots.locked_peek()
                if found is not None and not self.use_pickle:
                    slots.locked_done(found[0])
            if found is None:
                await slots.block.changed(seen)
                continue
            taken = self._made_of(found[1], self.use_pickle)
            if not self.use_pickle:
                return taken
            async with slots.block.write(allow_poisoned=True):
                mine = slots.locked_done(found[0])
            if mine:
                return taken

    def _take(self, slots: _slots.Slots, unpickle: bool, timeout: float | None) -> Any:
        while True:
            with slots.block.blocking_write(timeout, allow_poisoned=True):
                found = slots.locked_peek()
                if found is None:
                    return _NOTHING
                if not unpickle:
                    slots.locked_done(found[0])
            taken = self._made_of(found[1], unpickle)
            if not unpickle:
                return taken
            # Not under the lock, and taken only now: unpickling may run anything, and fail.
            with slots.block.blocking_write(timeout, allow_poisoned=True):
                if slots.locked_done(found[0]):
                    return taken

    def _made_of(self, data: bytes, unpickle: bool) -> Any:
        if unpickle:
            return pickle.loads(data)
        whole = bytearray(self.size_in_bytes)
        whole[: len(data)] = data
        return whole

    def reset_read(self) -> None:
        """Drops all that was not read yet."""
        if self._last is None:
            slots = self._here()
            with slots.block.blocking_write(allow_poisoned=True):
                slots.locked_reset()

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, rsp_stream: Any) -> int | None:
        """Writes an object; returns how many bytes it takes. Where all is full, drops the oldest.

        After `cleanup` it does nothing and returns None.

        Raises ValueError for one that is larger than a slot, and for None; nothing was written.
        """
        return self._write(rsp_stream, self.use_pickle)

    def write_pickle(self, rsp_stream: Any) -> int | None:
        """Writes the pickle of an object, as `write`."""
        return self._write(rsp_stream, True)

    def write_bytes(self, rsp_stream: Buffer) -> int | None:
        """Writes bytes, as `write`."""
        return self._write(rsp_stream, False)

    def _write(self, obj: Any, pickled: bool) -> int | None:
        if self._last is not None:
            return None
        slots, data = self._here(), self._bytes(obj, pickled)
        with slots.block.blocking_write(allow_poisoned=True):
            slots.locked_put(data)
        return len(data)

    def blocking_write(self, rsp_stream: Any, timeout: float | None = None) -> int:
        """As `write`, parking the thread while no slot is free.

        Raises TimeoutError after `timeout` seconds, and ValueError after `cleanup`.
        """
        until = deadline_after(timeout)
        data = self._bytes(rsp_stream, self.use_pickle)
        while True:
            slots = self._here()
            seen = slots.block.version
            with slots.block.blocking_write(left_until(until), allow_poisoned=True):
                if not slots.is_full:
                    slots.locked_put(data)
                    return len(data)
            slept(slots.block, seen, left_until(until))

    async def awrite(self, rsp_stream: Any) -> int:
        """As `write`, waiting while no slot is free. Cancelled, it has written nothing.

        Raises ValueError after `cleanup`.
        """
        data = self._bytes(rsp_stream, self.use_pickle)
        while True:
            slots = self._here()
            seen = slots.block.version
            async with slots.block.write(allow_poisoned=True):
                if free := not slots.is_full:
                    slots.locked_put(data)
            if free:
                return len(data)
            await slots.block.changed(seen)

    def _bytes(self, obj: Any, pickled: bool) -> bytes:
        self._here()
        if obj is None:
            raise wrong_type(_NAME, "an object that is not None", obj)
        if pickled:
            data = pickle.dumps(obj)
        else:
            try:
                data = obj if isinstance(obj, bytes) else memoryview(obj).tobytes()
            except TypeError:
                raise wrong_type(_NAME, "a bytes-like object", obj) from None
        if len(data) > self.size_in_bytes:
            raise too_large(_NAME, len(data), self.size_in_bytes)
        return data

    def write_partial(self, rsp_stream: Buffer) -> int:
        """Collects bytes here, and writes those of a whole slot when there are more than that.

        Returns how many are left, not written. Does not ask `can_write`.
        """
        if self._memory is None:
            raise nothing_loaded(_NAME)
        self.partial_data += rsp_stream
        if len(self.partial_data) > self.size_in_bytes:
            self._write(bytes(self.partial_data[: self.size_in_bytes]), False)
            del self.partial_data[: self.size_in_bytes]
        return len(self.partial_data)

    # ---- the end ---------------------------------------------------------------------------------

    def cleanup(self) -> None:
        """Gives the memory up; called by its creator, nobody can load it any more.

        Nor any that this object created before. Who has loaded it goes on. Does nothing the second
        time.
        """
        if self._memory is None:
            return
        self._last = self._known.ends() if self._known is not None else (0, 0)
        self._known = self._memblk = None
        self._let_go()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._memblk,)
