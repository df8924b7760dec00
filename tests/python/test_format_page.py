"""The offsets of docs/format.md, read from the page and found in the files of real objects."""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import select
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import ringspan
from ringspan._ringspan import _Block

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "format.md").read_text()
FRAMES = {
    name: bytes.fromhex(hex_bytes)
    for name, _, hex_bytes in (
        line.partition(" ")
        for line in (ROOT / "tests" / "golden" / "frames.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}


def table(heading: str) -> dict[str, tuple[int, int]]:
    """The fields of a section: name -> (offset, bytes)."""
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n### ")[0]
    rows = re.findall(r"^\| (\d+) \| (\d+)[^|]*\| ([^|:;,]+)", section, re.MULTILINE)
    assert rows, f"no table under {heading}"
    return {field.strip(): (int(offset), int(size)) for offset, size, field in rows}


def number(data: bytes | mmap.mmap, at: tuple[int, int], base: int = 0) -> int:
    offset, size = at
    return int.from_bytes(data[base + offset : base + offset + size], "little")


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def test_a_ring_is_laid_out_as_the_page_says(name: str) -> None:
    ring = ringspan.Ring(name, capacity=1 << 16, max_message=5000)
    tx = ring.producer()
    tx.try_push(b"0123456789")
    tx.try_push({"a": 1})
    data = Path("/dev/shm", name[1:]).read_bytes()
    header, slot = table("Header"), table("Slot")
    indices, record = table("Kind area of a ring"), table("Records of a ring")

    assert data[:8] == b"RINGSPAN"
    assert number(data, header["layout version"]) == 2
    assert number(data, header["order tag"]) == 0x01020304
    assert number(data, header["kind"]) == 2
    assert number(data, header["number of slots"]) == 2
    assert number(data, header["process id of the creator"]) == os.getpid()
    assert number(data, header["bytes in the file"]) == len(data)
    kind = number(data, header["kind area"])
    payload = number(data, header["payload"])
    assert (kind, payload) == (640, 4096), "as the page says in words"
    assert number(data, header["parameters of the kind"]) == 1 << 16
    assert number(data, header["parameters of the kind"], base=8) == 5000
    assert number(data, header["parameters of the kind"], base=16) == 0, "no quota"
    at, size = header["FNV-1a"]
    assert number(data, (at, size)) == fnv1a(data[:at])

    first_slot = number(data, header["length of the header"])
    assert number(data, slot["tag"], first_slot) == tx_tag(ring)
    assert number(data, slot["hints for"], first_slot) == tx_tag(ring)
    assert number(data, slot["process id"], first_slot) == os.getpid()

    assert number(data, indices["tail"], kind) == ring.stat().pushed == 24 + 16
    assert number(data, indices["writer"], kind) == tx_tag(ring)
    assert number(data, indices["head"], kind) == 0
    assert number(data, record["length of the payload of the record"], payload) == 10
    assert number(data, record["tag of the payload (below)"], payload) == 0
    assert data[payload + 8 : payload + 18] == b"0123456789"
    assert number(data, record["tag of the payload (below)"], payload + 24) == 1
    assert data[payload + 32 : payload + 36] == b"\x81\xa1a\x01"

    tx.close()
    data = Path("/dev/shm", name[1:]).read_bytes()
    assert number(data, indices["writer"], kind) == 0
    assert number(data, record["flags"], payload + 40) == 1, "an end"
    assert number(data, (8, 8), payload + 40) == 1, "closed"


def tx_tag(ring: ringspan.Ring) -> int:
    producer = ring.stat().producer
    assert producer is not None
    return producer.tag


def test_a_segment_is_laid_out_as_the_page_says(name: str) -> None:
    segment = ringspan.Segment.create(name, 100)
    segment.write_at(0, b"here")
    segment.notify()
    data = Path("/dev/shm", name[1:]).read_bytes()
    header = table("Header")
    kind, payload = number(data, header["kind area"]), number(data, header["payload"])
    assert (kind, payload) == (6528, 8192), "as the page says in words"
    assert number(data, table("Kind area of a segment")["version"], kind) == 1
    assert data[payload : payload + 4] == b"here"
    assert len(data) == payload + 100
    segment.remove()


def test_a_value_is_laid_out_as_the_page_says(name: str) -> None:
    value = ringspan.Value(name)
    assert [value.blocking_set(b"odd"), value.blocking_set({"a": 1})] == [1, 2]
    data = Path("/dev/shm", name[1:]).read_bytes()
    header, fields = table("Header"), table("Kind area of a value")
    kind, payload = number(data, header["kind area"]), number(data, header["payload"])
    assert number(data, fields["version"], kind) == 2
    for buffer, tag, bytes_ in ((1, 0, b"odd"), (0, 1, b"\x81\xa1a\x01")):
        line = kind + 6400 + 128 * buffer  # as the page says in words, and 6416 below
        at, capacity = number(data, (0, 8), line), number(data, (8, 8), line)
        assert (at, capacity) == (payload + 4096 * buffer, 4096)
        assert number(data, (16, 8), line) == len(bytes_)
        assert number(data, (24, 8), line) == tag
        assert data[at : at + len(bytes_)] == bytes_
    value.remove()


def test_an_array_is_laid_out_as_the_page_says(name: str) -> None:
    for meta, payload in ((b"", 16384), (bytes(3328), 16384), (bytes(3329), 20480)):
        block = _Block.create(name, 100, meta=meta, data=b"here")
        block.notify()
        with block.blocking_write():
            data = Path("/dev/shm", name[1:]).read_bytes()
            header, fields = table("Header"), table("Kind area of an array")
            kind = number(data, header["kind area"])
            assert number(data, header["kind"]) == 5
            assert number(data, header["payload"]) == payload
            assert number(data, (kind, 8)) == 1 << 48 | 1, "the lock: slot 0 writes"
            assert number(data, fields["version"], kind) == 1
            offset, size = number(data, header["meta"]), number(data, header["meta"], base=8)
            assert (offset, size) == (13056 if meta else 0, len(meta))
            assert data[offset : offset + size] == meta
            assert number(data, header["parameters of the kind"]) == fnv1a(meta)
            assert data[payload : payload + 4] == b"here"
            assert len(data) == payload + 100
        block.remove()


def test_a_number_is_laid_out_as_the_page_says(name: str) -> None:
    fields = table("Kind area of an int, a float, a bool")
    for shared, set_to, bits in (
        (ringspan.SharedInt(f"{name}-int", ephemeral=True), -2, 2**64 - 2),
        (ringspan.SharedFloat(f"{name}-float", ephemeral=True), 1.5, 0x3FF8 << 48),
        (ringspan.SharedBool(f"{name}-bool", ephemeral=True), True, 1),
    ):
        shared.store(set_to)
        data = Path("/dev/shm", shared.name[1:]).read_bytes()
        kind = number(data, table("Header")["kind area"])
        assert number(data, fields["the number"], kind) == bits
        assert number(data, fields["version"], kind) == 1
        shared.close()


class Caller:
    """A client in plain Python, which knows of the library only what the page says."""

    def __init__(self, name: str) -> None:
        function = Path("/dev/shm", name[1:]).read_bytes()
        assert number(function, table("Header")["kind"]) == 6
        assert number(function, table("Header")["number of slots"]) == 1
        slots = number(function, table("Header")["length of the header"])
        tag = number(function, table("Slot")["tag"], slots)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(f"{os.environ['RINGSPAN_DIR']}/{tag:016x}.call")
        self.hello, self.fds, _, _ = socket.recv_fds(self.socket, 1 << 17, 3)
        memory, self.bell, self.heard = self.fds
        self.memory = mmap.mmap(memory, os.fstat(memory).st_size)
        self.layout = table("Memory of a connection")
        self.said = self.read = self.parks = 0
        self.fence = threading.Lock()
        hello = table("The hello")
        self.responses = 4096 + number(self.hello, hello["capacity of the ring of requests"])

    def close(self) -> None:
        self.memory.close()
        self.socket.close()
        for fd in self.fds:
            os.close(fd)

    def word(self, part: str, at: int) -> int:
        return self.layout[part][0] + at

    def put(self, at: int, value: int) -> None:
        self.memory[at : at + 8] = value.to_bytes(8, "little")

    def say(self, frame: bytes) -> None:
        """Publishes a frame and rings."""
        record = len(frame).to_bytes(4, "little") + bytes(4) + frame
        record += bytes(-len(record) % 8)
        at = 4096 + self.said
        self.memory[at : at + len(record)] = record
        self.said += len(record)
        self.put(self.word("requests", 0), self.said)
        os.write(self.bell, (1).to_bytes(8, "little"))

    def hear(self) -> bytes:
        """The next frame. Each sleep has a number of its own, which the one who rings takes out."""
        waiting = self.word("seat of the client", table("Slot")["waiting"][0])
        tail = self.word("responses", table("Kind area of a ring")["tail"][0])
        while number(self.memory, (tail, 8)) == self.read:
            self.parks += 2
            self.put(waiting, self.parks)
            with self.fence:
                pass  # the number stands before we look again
            if number(self.memory, (tail, 8)) == self.read:
                assert select.select([self.heard], [], [], 20)[0], "the bell never rang"
                os.read(self.heard, 8)
            self.put(waiting, 0)
        at = self.responses + self.read
        length = int.from_bytes(self.memory[at : at + 4], "little")
        frame = self.memory[at + 8 : at + 8 + length]
        self.read += (8 + length + 7) // 8 * 8
        self.put(self.word("responses", table("Kind area of a ring")["head"][0]), self.read)
        return frame


@pytest.fixture
def caller(name: str) -> Iterator[Caller]:
    service = ringspan.Service(name, ring_capacity=1 << 16)

    @service.method(inline=True)
    def add(a: int = 5, b: int = 0) -> int:
        return a + b

    @service.method
    async def items(n: int) -> AsyncIterator[str]:
        for _ in range(n):
            await asyncio.sleep(0.01)  # each one wakes the caller
            yield "a"

    with ringspan.serve_in_background(service):
        caller = Caller(name)
        yield caller
        caller.close()


def test_a_hello_is_as_the_page_says(caller: Caller) -> None:
    hello, fields = caller.hello, table("The hello")
    assert hello[:8] == b"RSRPCHI\0"
    assert number(hello, fields["version"]) == 1
    assert number(hello, fields["answer"]) == 0
    assert number(hello, fields["process id of the server"]) == os.getpid()
    assert number(hello, fields["bytes of the table"]) == len(hello) - 64
    assert number(hello, fields["capacity of the ring of responses"]) == 1 << 16
    assert number(hello, fields["max_pending"]) == 1024
    assert number(hello, fields["max_inflight_bytes"]) == 64 << 20
    assert number(hello, fields["max_message"]) == 64 << 20
    assert hello[64] == 0x92
    assert b"\xa1n\xa3add" in hello
    assert caller.memory[:8] == b"RSPANRPC"
    assert caller.memory[8:16] == (0x01020304_00000001).to_bytes(8, "little")
    assert len(caller.memory) == 4096 + 2 * (1 << 16)


def test_frames_are_as_the_page_says(caller: Caller) -> None:
    forms = ["call", "call_nothing", "call_keywords", "call_mixed", "call_deadline", "call_millis"]
    for form in forms:
        caller.say(FRAMES[form])
        assert caller.hear() == FRAMES["result"], form
    for part in ("chunk", "call_chunked"):
        caller.say(FRAMES[part])
    assert caller.hear() == FRAMES["result"]
    caller.say(FRAMES["call_stream"])
    assert [caller.hear() for _ in range(3)] == [FRAMES[n] for n in ("item", "item", "end")]
    caller.say(FRAMES["cancel"])  # of a call that is over: nothing comes of it
    caller.say(FRAMES["credit"])
    caller.say(FRAMES["call"][:16] + b"\x91\xa1a")
    error = caller.hear()
    assert error[:16] == FRAMES["error"][:16]
    assert error[16:].startswith(b"\x83\xa1t\xa9TypeError\xa1m")


def test_what_is_no_frame_ends_the_connection(caller: Caller) -> None:
    caller.say(FRAMES["result"])
    assert caller.socket.recv(1) == b""


def test_the_page_shows_golden_frames() -> None:
    section = PAGE.split("\n### Frames\n")[1].split("\n## ")[0]
    shown = re.findall(r"^    .*?  +((?:[0-9a-f]{2,} ?)+)$", section, re.MULTILINE)
    assert len(shown) == 6
    assert {bytes.fromhex(line) for line in shown} <= set(FRAMES.values())
