"""What membridge 1.0 promises of rings. RINGSPAN_COMPAT_ORIGINAL=1 runs it on the original."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from compat_tools import ORIGINAL, bug

if TYPE_CHECKING or not ORIGINAL:
    from ringspan.compat import membridge

    IMPORT = "from ringspan.compat import membridge"
else:
    import membridge

    IMPORT = "import membridge"

SharedMemory = membridge.SharedMemory


@pytest.fixture
def ring(name: str) -> Iterator[Any]:
    mem = SharedMemory.create(name, 64 + 24)
    ring = mem.spsc()
    yield ring
    if not ORIGINAL:
        ring.close()
        mem.close()


@pytest.mark.parametrize(
    ("data", "tag", "payload"),
    [
        (True, "bool", b"\x01"),
        (7, "int", struct.pack("=q", 7)),
        (0.5, "float", struct.pack("=d", 0.5)),
        ("msg", "str", struct.pack("=I", 3) + b"msg"),
        ("", "str", struct.pack("=I", 0)),
        (b"raw", None, b"raw"),
        (bytearray(b"raw"), None, b"raw"),
        (b"", None, b""),
        ([], None, b""),
        ([1, "a", True], None, struct.pack("=qI", 1, 1) + b"a\x01"),
    ],
)
def test_a_message_counts_four_bytes_and_its_own(
    ring: Any, data: Any, tag: str | None, payload: bytes
) -> None:
    assert ring.push(data) is True
    assert (ring.used(), ring.free()) == (4 + len(payload), 60 - len(payload))
    assert ring.is_empty() is False
    assert ring.pop() == payload
    assert ring.is_empty() is True
    if tag:
        ring.push(data)
        assert ring.pop(tag) == data
        ring.push(data)
        assert ring.pop_mixed([(tag, 1)]) == [data]
    assert ring.pop() is None
    assert ring.pop(tag="int") is None
    assert ring.pop_mixed([("int", 1)]) is None
    assert ring.used() == 0


def test_a_ring_is_full_to_the_byte(ring: Any) -> None:
    assert ring.capacity() == 64
    assert repr(ring) == "SpscRingBuffer(capacity=64, used=0, free=64)"
    assert ring.push(b"x" * 28)
    assert not ring.is_full()
    assert ring.push(b"y" * 28)
    assert ring.is_full()
    assert (ring.used(), ring.free()) == (64, 0)
    assert repr(ring) == "SpscRingBuffer(capacity=64, used=64, free=0)"
    assert ring.push(b"") is False
    assert ring.pop() == b"x" * 28
    assert ring.push(b"z" * 29) is False
    assert ring.push(b"z" * 28) is True
    assert [ring.pop(), ring.pop(), ring.pop()] == [b"y" * 28, b"z" * 28, None]


def test_the_smallest_messages_fill_it_as_well(ring: Any) -> None:
    for payload, fits in ((b"", 16), (b"1", 12), (b"12", 10), (b"x" * 60, 1)):
        for _ in range(5):
            assert [ring.push(payload) for _ in range(fits + 1)] == [True] * fits + [False]
            assert [ring.pop() for _ in range(fits + 1)] == [payload] * fits + [None]


def test_messages_of_all_sizes_go_round_and_round(name: str) -> None:
    ring = SharedMemory.create(name, 256 + 24).spsc()
    sent, got, used = [], [], 0
    for turn in range(3000):
        message = bytes([turn % 256]) * (turn * 37 % 253)
        while not ring.push(message):
            assert used + 4 + len(message) > 256
            got.append(ring.pop())
            used -= 4 + len(got[-1])
        sent.append(message)
        used += 4 + len(message)
        assert ring.used() == used
    while (message := ring.pop()) is not None:
        got.append(message)
    assert got == sent


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"x" * 61, ValueError),
        ("x" * 57, ValueError),
        ([b"x" * 30, b"x" * 31], ValueError),
        (None, ValueError),
        ((1,), ValueError),
        ([1, [2]], ValueError),
        ([None], ValueError),
        (2**63, OverflowError),
    ],
)
def test_what_cannot_be_pushed_changes_nothing(ring: Any, data: Any, error: type) -> None:
    ring.push(b"before")
    with pytest.raises(error):
        ring.push(data)
    assert ring.used() == 10
    assert ring.pop() == b"before"
    with pytest.raises(error):
        ring.push(data)
    assert ring.pop() is None


def test_a_list_comes_back_by_a_schema(ring: Any) -> None:
    ring.push(["Normal", 0.92, True])
    assert ring.pop_mixed([("str", 1), ("float", 1), ("bool", 1)]) == ["Normal", 0.92, True]
    ring.push([1.0, 2.0, 3.0])
    assert ring.pop_mixed(schema=[("float", 3)]) == [[1.0, 2.0, 3.0]]
    ring.push(["first", "second"])
    assert ring.pop("str") == "first"
    assert ring.pop() is None


@bug("a wrong tag loses the message")
def test_a_wrong_tag_leaves_the_message(ring: Any) -> None:
    ring.push(b"12345")
    ring.push(b"next")
    for _ in range(2):
        for tag in ("int", "str", "what"):
            with pytest.raises(ValueError):
                ring.pop(tag)
        with pytest.raises(ValueError):
            ring.pop_mixed([("u8", 6)])
        with pytest.raises(TypeError):
            ring.pop_mixed((("u8", 5),))
        assert ring.used() == 17
    assert ring.pop_mixed([("u8", 5)]) == [list(b"12345")]
    with pytest.raises(ValueError):
        ring.pop("int")
    assert ring.pop() == b"next"
    assert ring.pop() is None
    assert ring.push(b"x" * 60)


@pytest.mark.parametrize("size", [24, 25 + 2, 24 + 63, 4096, 3])
def test_the_data_of_a_ring_is_a_power_of_two(name: str, size: int) -> None:
    with pytest.raises(ValueError):
        SharedMemory.create(name, size).spsc()


def test_a_ring_can_be_smaller_than_any_message(name: str) -> None:
    ring = SharedMemory.create(name, 25).spsc()
    assert (ring.capacity(), ring.free()) == (1, 1)
    with pytest.raises(ValueError):
        ring.push(b"")


def test_messages_cross_from_one_process_to_another_in_order(name: str, child: Any) -> None:
    ring = SharedMemory.create(name, 1024 + 24).spsc()
    with child(
        f"""
        import sys, time
        {IMPORT}
        ring = membridge.SharedMemory.open(sys.argv[1]).spsc()
        for i in range(5000):
            while not ring.push([i, "x" * (i % 50)]):
                time.sleep(0)
        print("pushed", ring.capacity(), flush=True)
        sys.stdin.read()
        """,
        name,
    ) as producer:
        for i in range(5000):
            while (found := ring.pop_mixed([("int", 1), ("str", 1)])) is None:
                assert producer.process.poll() is None
            assert found == [i, "x" * (i % 50)]
        producer.expect("pushed 1024")
        assert ring.is_empty()
        producer.finish()


def test_what_was_pushed_outlives_the_producer(name: str, run_python: Any) -> None:
    code = f"""
        import sys
        {IMPORT}
        ring = membridge.SharedMemory.create(sys.argv[1], 1024 + 24).spsc()
        assert ring.push("msg-0") and ring.push(["Hello", 0.92, True]) and ring.push("__EOF__")
        """
    run_python(code, name)
    ring = SharedMemory.open(name, 1024 + 24).spsc()
    assert ring.used() == 13 + 22 + 15
    assert [ring.pop("str") for _ in range(4)] == ["msg-0", "Hello", "__EOF__", None]
    SharedMemory.remove(name)


def test_both_ends_may_be_in_one_process(name: str) -> None:
    mem = SharedMemory.create(name, 64 + 24)
    producer, consumer = mem.spsc(), SharedMemory.open(name).spsc()
    for i in range(50):
        assert producer.push(i)
        assert consumer.used() == producer.used() == 12
        assert consumer.pop("int") == i
        assert consumer.pop() is None


@bug("the creator's second spsc() empties the ring")
def test_every_handle_shows_the_same_ring(name: str) -> None:
    mem = SharedMemory.create(name, 64 + 24)
    mem.spsc().push(1)
    assert mem.spsc().push(2)
    assert [mem.spsc().pop("int"), SharedMemory.open(name).spsc().pop("int")] == [1, 2]
