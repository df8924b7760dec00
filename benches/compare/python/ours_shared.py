"""ringspan from Python: the lock, blocking and under asyncio, and the value."""

import time
from collections.abc import Callable
from typing import Any, ClassVar

from harness import Loop, Subject, load
from turns import Lock, Work


class OurLock(Lock):
    """The lock brings the bytes that it guards."""

    subject_class = "ringspan"
    needs: ClassVar[str] = "ringspan.RwLock"

    def open(self, parent: bool) -> None:  # noqa: ARG002
        self.lock: Any = load("ringspan").RwLock(f"/{self.unique}-lock", 64, ephemeral=True)

    def close(self, parent: bool) -> None:  # noqa: ARG002
        if hasattr(self, "lock"):
            self.lock.close()


class LockBlocking(OurLock):
    """`with lock.blocking_write()`."""

    name = "ringspan-blocking"
    waits = "parks"

    def turns(self, work: Work, more: Callable[[], bool]) -> None:
        write = self.lock.blocking_write
        while True:
            with write() as buf:
                work(buf)
            if not more():
                return


class LockAsyncio(OurLock):
    """`async with lock.write()`."""

    name = "ringspan-asyncio"
    waits = "asyncio"

    def turns(self, work: Work, more: Callable[[], bool]) -> None:
        async def all_turns() -> None:
            write = self.lock.write
            while True:
                async with write() as buf:
                    work(buf)
                if not more():
                    return

        Loop(self.waits).run(all_turns())


class LockUvloop(LockAsyncio):
    """The same under uvloop."""

    needs: ClassVar[str] = "ringspan.RwLock uvloop"
    name = "ringspan-uvloop"
    waits = "uvloop"


class ValueGet(Subject):
    """`Value.get()` of bytes that nobody sets."""

    subject_class = "ringspan"
    needs: ClassVar[str] = "ringspan.Value"
    name = "ringspan-value"
    waits = "-"
    gets: ClassVar[tuple[int, ...]] = (64, 1 << 20)

    def open(self, parent: bool) -> None:  # noqa: ARG002
        self.value: Any = load("ringspan").Value(f"/{self.unique}-value", ephemeral=True)
        self.value.blocking_set(bytes(range(64)) * (self.size // 64))

    def calls(self, n: int) -> float:
        get = self.value.get
        begin = time.perf_counter()
        for _ in range(n):
            found = get()
        spent = time.perf_counter() - begin
        if found != bytes(range(64)) * (self.size // 64):
            raise RuntimeError("what was got is not what was set")
        return spent

    def close(self, parent: bool) -> None:  # noqa: ARG002
        if hasattr(self, "value"):
            self.value.close()


SUBJECTS: list[type[Subject]] = [LockBlocking, LockAsyncio, LockUvloop, ValueGet]
