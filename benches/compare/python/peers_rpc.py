"""Calls through other packages: streams and msgpack by hand, gRPC, rpyc, Pyro5, the managers.

Each over a Unix socket, used as its documentation shows. Bytes travel as bytes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from multiprocessing.managers import BaseManager
from typing import Any, ClassVar

from calls import IN_FLIGHT, AsyncRpc, B, BlockingRpc, check
from harness import Subject, load


async def add(a: int, b: int) -> int:
    return a + b


async def echo(data: bytes) -> bytes:
    return data


class ByHand(AsyncRpc):
    """What one writes for lack of a library: lists in msgpack, a table of calls in flight.

    The server answers all calls of one read with one write.
    """

    needs: ClassVar[str] = "msgpack"
    name = "by-hand-asyncio"
    waits = "asyncio"

    async def start(self) -> None:
        self.reader, self.writer = await asyncio.open_unix_connection(self.path())
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.number = 0
        self.answers = asyncio.create_task(self.take_answers())
        pack, write, waiting = load("msgpack").packb, self.writer.write, self.waiting
        future = asyncio.get_running_loop().create_future

        def call(name: str, *args: Any) -> asyncio.Future[Any]:
            self.number += 1
            write(pack([self.number, name, args]))
            waiting[self.number] = found = future()
            return found

        self.call_add = lambda a, b: call("add", a, b)
        self.call_echo = lambda data: call("echo", data)

    async def take_answers(self) -> None:
        unpacker, read, take = load("msgpack").Unpacker(), self.reader.read, self.waiting.pop
        while data := await read(65536):
            unpacker.feed(data)
            for number, result in unpacker:
                take(number).set_result(result)

    async def stay(self, ready: Callable[[], None]) -> None:
        functions: dict[str, Callable[..., Awaitable[Any]]] = {"add": add, "echo": echo}
        pack = load("msgpack").packb

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            unpacker = load("msgpack").Unpacker()
            while data := await reader.read(65536):
                unpacker.feed(data)
                answers = [
                    pack([number, await functions[name](*args)]) for number, name, args in unpacker
                ]
                writer.write(b"".join(answers))
                await writer.drain()

        server = await asyncio.start_unix_server(connected, self.path())
        ready()
        await server.serve_forever()


class ByHandUvloop(ByHand):
    """The same under uvloop."""

    needs: ClassVar[str] = "msgpack uvloop"
    name = "by-hand-uvloop"
    waits = "uvloop"


class Grpc(AsyncRpc):
    """grpc.aio with generic handlers: numbers in msgpack, bytes as they are."""

    needs: ClassVar[str] = "grpc.aio msgpack"
    name = "grpcio-aio"
    waits = "asyncio"

    async def start(self) -> None:
        msgpack = load("msgpack")
        self.channel: Any = load("grpc.aio").insecure_channel(f"unix:{self.path()}")
        await self.channel.channel_ready()
        call: Any = self.channel.unary_unary(
            "/compare.Functions/add",
            request_serializer=msgpack.packb, response_deserializer=msgpack.unpackb,
        )  # fmt: skip
        self.call_add = lambda a, b: call((a, b))
        self.call_echo = self.channel.unary_unary("/compare.Functions/echo")

    async def stay(self, ready: Callable[[], None]) -> None:
        grpc, msgpack = load("grpc"), load("msgpack")

        async def served_add(pair: list[int], _: Any) -> int:
            return await add(*pair)

        async def served_echo(data: bytes, _: Any) -> bytes:
            return await echo(data)

        handler = grpc.unary_unary_rpc_method_handler
        functions = {
            "add": handler(
                served_add,
                request_deserializer=msgpack.unpackb, response_serializer=msgpack.packb,
            ),
            "echo": handler(served_echo),
        }  # fmt: skip
        generic = grpc.method_handlers_generic_handler("compare.Functions", functions)
        server = load("grpc.aio").server()
        server.add_generic_rpc_handlers((generic,))
        server.add_insecure_port(f"unix:{self.path()}")
        await server.start()
        ready()
        await server.wait_for_termination()


class Rpyc(BlockingRpc):
    """A service of rpyc in its threaded server; `async_` where many are in flight."""

    needs: ClassVar[str] = "rpyc"
    name = "rpyc"
    in_flight: ClassVar[bool] = True

    def serve(self, ready: Callable[[], None]) -> None:
        class Functions(load("rpyc").Service):  # type: ignore[misc]
            def exposed_add(self, a: int, b: int) -> int:
                return a + b

            def exposed_echo(self, data: bytes) -> bytes:
                return data

        server = load("rpyc.utils.server").ThreadedServer(Functions, socket_path=self.path())
        ready()
        server.start()

    def connect(self) -> None:
        self.connection: Any = load("rpyc.utils.factory").unix_connect(self.path())
        # Once: each look at a name of the root is a call of its own.
        self.call_add, self.call_echo = self.connection.root.add, self.connection.root.echo

    def flight(self, n: int) -> None:
        call, flying = load("rpyc").async_(self.call_add), deque[tuple[int, Any]]()
        for i in range(n):
            if len(flying) == IN_FLIGHT:
                number, found = flying.popleft()
                check(found.value == number + B)
            flying.append((i, call(i, B)))
        for number, found in flying:
            check(found.value == number + B)


class Functions:
    """What a manager and Pyro5 serve."""

    def add(self, a: int, b: int) -> int:
        return a + b

    def echo(self, data: bytes) -> bytes:
        return data


class Managed(BaseManager):
    """The standard library's: it pickles."""


Managed.register("functions", Functions)


class Manager(BlockingRpc):
    """multiprocessing's BaseManager and its proxy."""

    name = "mp-base-manager"

    def manager(self) -> Managed:
        return Managed(address=self.path(), authkey=b"compare")

    def serve(self, ready: Callable[[], None]) -> None:
        server: Any = self.manager().get_server()
        ready()
        server.serve_forever()

    def connect(self) -> None:
        manager: Any = self.manager()
        manager.connect()
        functions = manager.functions()
        self.call_add, self.call_echo = functions.add, functions.echo


class Pyro(BlockingRpc):
    """Pyro5 with msgpack."""

    needs: ClassVar[str] = "Pyro5 msgpack"
    name = "pyro5"

    def pyro(self) -> Any:
        pyro = load("Pyro5.api")
        pyro.config.SERIALIZER = "msgpack"
        return pyro

    def serve(self, ready: Callable[[], None]) -> None:
        pyro = self.pyro()
        daemon = pyro.Daemon(unixsocket=self.path())
        daemon.register(pyro.expose(Functions), "functions")
        ready()
        daemon.requestLoop()

    def connect(self) -> None:
        proxy = self.pyro().Proxy(f"PYRO:functions@./u:{self.path()}")
        proxy._pyroBind()
        self.call_add, self.call_echo = proxy.add, proxy.echo


SUBJECTS: list[type[Subject]] = [ByHand, ByHandUvloop, Grpc, Rpyc, Manager, Pyro]
