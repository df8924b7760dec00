"""The offsets of docs/format.md, read from the page and found in the files of real objects."""

from __future__ import annotations

import os
import re
from pathlib import Path

import ringspan

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text()


def table(heading: str) -> dict[str, tuple[int, int]]:
    """The fields of a section: name -> (offset, bytes)."""
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n### ")[0]
    rows = re.findall(r"^\| (\d+) \| (\d+)[^|]*\| ([^|:;,]+)", section, re.MULTILINE)
    assert rows, f"no table under {heading}"
    return {field.strip(): (int(offset), int(size)) for offset, size, field in rows}


def number(data: bytes, at: tuple[int, int], base: int = 0) -> int:
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
