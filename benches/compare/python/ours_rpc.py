"""ringspan from Python: calls under asyncio and uvloop, and from blocking code."""

from collections.abc import Callable
from typing import Any, ClassVar

from calls import AsyncRpc, BlockingRpc, Rpc
from harness import Loop, Subject, load


class Ringspan(Rpc):
    """A service of two functions; the server lives in the event loop that the subject names."""

    subject_class = "ringspan"
    needs: ClassVar[str] = "ringspan.Service"
    #: `async def` functions, or plain ones that run where they are read.
    inline: ClassVar[bool] = False
    #: As it comes, or told to park at once.
    awake: ClassVar[bool] = True
    server_loop: ClassVar[str] = "asyncio"

    def service_name(self) -> str:
        return f"/{self.unique}-calls"

    async def stay(self, ready: Callable[[], None]) -> None:
        service = load("ringspan").Service(self.service_name(), stay_awake=self.awake)
        if self.inline:

            @service.method(inline=True)  # type: ignore[untyped-decorator]
            def add(a: int, b: int) -> int:
                return a + b

            @service.method(inline=True)  # type: ignore[untyped-decorator]
            def echo(data: bytes) -> bytes:
                return data

        else:

            @service.method  # type: ignore[untyped-decorator]
            async def add(a: int, b: int) -> int:
                return a + b

            @service.method  # type: ignore[untyped-decorator]
            async def echo(data: bytes) -> bytes:
                return data

        async with service:
            ready()
            await service.serve_forever()

    def serve(self, ready: Callable[[], None]) -> None:
        Loop(self.server_loop).run(self.stay(ready))


class Awaited(Ringspan, AsyncRpc):
    """`await f.add(a, b)` of an `async def`."""

    name = "ringspan-asyncio"
    waits = "asyncio"

    async def start(self) -> None:
        self.functions: Any = await load("ringspan").connect(self.service_name())
        self.call_add, self.call_echo = self.functions.add, self.functions.echo


class AwaitedParked(Awaited):
    """The same of a server that is told to park at once."""

    name = "ringspan-parked"
    awake = False


class AwaitedUvloop(Awaited):
    """The same, both sides under uvloop."""

    needs: ClassVar[str] = "ringspan.Service uvloop"
    name = "ringspan-uvloop"
    waits = "uvloop"
    server_loop = "uvloop"


class AwaitedInline(Awaited):
    """`await f.add(a, b)` of a plain function that is called where it is read."""

    name = "ringspan-inline"
    inline = True


class Blocking(Ringspan, BlockingRpc):
    """`blocking_connect`, then `f.add(a, b)`; the server is a plain function in asyncio."""

    name = "ringspan-blocking"
    waits = "parks"
    inline = True

    def connect(self) -> None:
        self.functions: Any = load("ringspan").blocking_connect(self.service_name())
        self.call_add, self.call_echo = self.functions.add, self.functions.echo


SUBJECTS: list[type[Subject]] = [Awaited, AwaitedParked, AwaitedUvloop, AwaitedInline, Blocking]
