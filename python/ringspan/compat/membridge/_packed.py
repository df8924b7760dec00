"""The packed items of membridge: native byte order, no gaps, no tags.

A bool is a byte, an int an i64, a float an f64, a str its UTF-8 behind a u32 length; bytes and
bytearrays stand as they are, without a length.
"""

from __future__ import annotations

import operator
import struct
from typing import Any, TypeAlias

#: What can be packed; a bool is an int, and an int is a float to type checkers.
Value: TypeAlias = float | str | bytes | bytearray

_pack_int = struct.Struct("=q").pack
_pack_float = struct.Struct("=d").pack
_LENGTH = struct.Struct("=I")

#: What `struct` calls the items of one size, by their tags.
_CODES = {
    "bool": "?",
    "int": "q",
    "i64": "q",
    "float": "d",
    "f64": "d",
    "f32": "f",
    "i32": "i",
    "u8": "B",
    "u32": "I",
    "u64": "Q",
}
_ITEMS = {tag: struct.Struct(f"={code}") for tag, code in _CODES.items()}
_TAGS = "bool, int, float, f32, f64, i32, i64, u8, u32, u64, str"


def pack(value: Any) -> bytes | bytearray:
    """The bytes of one value.

    Raises `ValueError` for a type that membridge does not know, `OverflowError` for an int beyond
    64 bits.
    """
    if isinstance(value, bytes | bytearray):
        return value
    if isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if isinstance(value, int):
        try:
            return _pack_int(value)
        except struct.error:
            raise OverflowError(f"int {value:#x} does not fit 64 bits") from None
    if isinstance(value, float):
        return _pack_float(value)
    if isinstance(value, str):
        text = value.encode()
        return _LENGTH.pack(len(text)) + text
    raise ValueError(
        f"unsupported type '{type(value).__name__}'; supported: bool, int, float, str, bytes, "
        "bytearray"
    )


def pack_items(items: list[Any]) -> bytes:
    """The bytes of values one behind the other; a list among them counts as its elements."""
    if not isinstance(items, list):
        raise TypeError(f"items must be a list, not {type(items).__name__}")
    packed: list[bytes | bytearray] = []
    for item in items:
        if isinstance(item, list):
            packed += map(pack, item)
        else:
            packed.append(pack(item))
    return b"".join(packed)


def pack_message(data: Any) -> bytes:
    """The payload of a message: one value, or those of a list, which has no lists in it."""
    if isinstance(data, list):
        return b"".join(map(pack, data))
    return bytes(pack(data))


def check_tag(tag: Any) -> None:
    """Raises what is wrong with a tag."""
    if not isinstance(tag, str):
        raise TypeError(f"a type tag must be a str, not {type(tag).__name__}")
    if tag not in _ITEMS and tag != "str":
        raise ValueError(f"unknown type tag {tag!r}; supported: {_TAGS}")


def check_schema(schema: Any) -> None:
    """Raises what is wrong with a schema."""
    if not isinstance(schema, list):
        raise TypeError(f"a schema must be a list, not {type(schema).__name__}")
    for entry in schema:
        if not isinstance(entry, tuple) or len(entry) < 2:
            raise ValueError("schema entries must be (type_tag, count) tuples")
        check_tag(entry[0])
        if operator.index(entry[1]) < 0:
            raise OverflowError(f"schema: a count of {entry[1]}")


def _too_short(what: str, need: int, have: int) -> ValueError:
    return ValueError(f"not enough data to read {what}: need {need}, have {have}")


def _text(data: bytes | memoryview, at: int) -> tuple[str, int]:
    """The str at `at`, and where it ends. Bytes that are no UTF-8 are replaced."""
    start = at + 4
    if start > len(data):
        raise _too_short("the length of a str", 4, len(data) - at)
    (length,) = _LENGTH.unpack_from(data, at)
    if length > len(data) - start:
        raise _too_short("a str", 4 + length, len(data) - at)
    return str(data[start : start + length], "utf-8", "replace"), start + length


def unpack(data: bytes | memoryview, tag: str, at: int = 0) -> tuple[Any, int]:
    """The item at `at`, and where it ends.

    Raises `ValueError` for an unknown tag, and where the data ends before the item.
    """
    if tag == "str":
        return _text(data, at)
    item = _ITEMS.get(tag)
    if item is None:
        check_tag(tag)
        raise AssertionError(tag)  # known, then
    try:
        return item.unpack_from(data, at)[0], at + item.size
    except struct.error:
        raise _too_short(repr(tag), item.size, len(data) - at) from None


def unpack_items(
    data: bytes | memoryview, schema: list[tuple[str, int]], at: int = 0
) -> tuple[list[Any], int]:
    """What a schema says of the data from `at` on, and where that ends.

    Each entry gives a list of `count` items; a count of 1 gives the item itself.
    """
    check_schema(schema)
    found: list[Any] = []
    for tag, count, *_ in schema:
        if count == 1:
            value, at = unpack(data, tag, at)
            found.append(value)
        elif tag == "str":
            texts = []
            for _ in range(count):
                text, at = _text(data, at)
                texts.append(text)
            found.append(texts)
        else:
            size = _ITEMS[tag].size * count
            if size > len(data) - at:
                raise _too_short(f"{count} of {tag!r}", size, len(data) - at)
            found.append(list(struct.unpack_from(f"={count}{_CODES[tag]}", data, at)))
            at += size
    return found, at
