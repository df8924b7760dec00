"""The codec: frozen bytes, every type there and back, and bytes that no peer of ours writes."""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import pickle
import subprocess
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from ringspan._ringspan import _decode, _encode

RAW, MSGPACK, ARRAY, APP, PICKLE = range(5)
GOLDEN_FILE = pathlib.Path(__file__).parent.parent / "golden" / "codec.txt"
GOLDEN = {
    name: bytes.fromhex(hexed)
    for name, hexed in (
        line.split() for line in GOLDEN_FILE.read_text().splitlines() if not line.startswith("#")
    )
}
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
UTC = dt.UTC
Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 (both makers are tested)


class Colour(enum.IntEnum):
    RED = 3


class Label(str):
    pass


class Pair(NamedTuple):
    left: Any
    right: Any


PLAIN = {
    "none": None,
    "true": True,
    "false": False,
    "int_0": 0,
    "int_127": 127,
    "int_128": 128,
    "int_m1": -1,
    "int_m33": -33,
    "int_min64": -(2**63),
    "int_max64": 2**64 - 1,
    "float": 1.5,
    "str": "grüß",
    "list": [1, [2], {}],
    "dict": {"a": 1, "b": 2},
    "dict_keys": {1: "a", (1, 2): "b", b"k": None},
    "struct": {"id": 7, "label": "cat", "pixels": b"\1\2\3"},
    "big_int": 2**64,
    "big_int_neg": -(2**63) - 1,
    "complex": 1 - 2j,
    "decimal": decimal.Decimal("-1.50"),
    "datetime": dt.datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=BERLIN),
    "datetime_fold": dt.datetime(2024, 10, 27, 2, 30, fold=1),
    "datetime_utc": dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
    "date": dt.date(2024, 5, 6),
    "time": dt.time(7, 8, 9),
    "timedelta": dt.timedelta(microseconds=-1),
    "uuid": uuid.UUID(bytes=bytes(range(16))),
    "path": pathlib.Path("/tmp/x"),
    "set": {1},
    "frozenset": frozenset("a"),
}
EXACT = {
    "tuple_exact": (1, "a", (2, 3)),
    "bytearray": bytearray(b"ab"),
    "deque": collections.deque([1, 2], maxlen=3),
    "range": range(1, 10, 2),
    "counter": collections.Counter("aa"),
    "ordered_dict": collections.OrderedDict(z=1),
    "chain_map": collections.ChainMap({"a": 1}, {"a": 2}),
    "ellipsis": ...,
    "memoryview": memoryview(b"ab"),
    "pure_windows_path": pathlib.PureWindowsPath("C:\\x"),
    "pure_posix_path": pathlib.PurePosixPath("/tmp/x"),
    "posix_path": pathlib.Path("/tmp/x"),
}
# What the seeds of the library could send, and more: all must come back, type and all.
EVERYTHING = [
    *PLAIN.values(),
    *EXACT.values(),
    b"",
    b"bytes",
    bytearray(),
    "",
    "\0 and \U0001f600",
    [],
    {},
    (),
    set(),
    frozenset(),
    range(0),
    range(2**70, -(2**70), -(2**65)),
    collections.deque(),
    collections.deque([(1,)]),
    collections.OrderedDict([("b", 1), ("a", collections.OrderedDict())]),
    collections.ChainMap(collections.OrderedDict(a=1), collections.Counter(a=2)),
    memoryview(b""),
    memoryview(array.array("d", [1.5, 2.5])),
    memoryview(bytes(6)).cast("H", (1, 3)),
    -32768,
    -(2**63),
    -(10**1000),
    10**1000,
    *(
        sign * 2**n + d
        for n in (7, 8, 15, 16, 31, 32, 63, 64, 71)
        for sign in (1, -1)
        for d in (-1, 0, 1)
    ),
    float("inf"),
    -0.0,
    5e-324,
    decimal.Decimal("NaN"),
    decimal.Decimal("-Infinity"),
    decimal.Decimal("1E+50"),
    dt.datetime.max,
    dt.datetime.min,
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30, seconds=-7))),
    dt.time(1, 2, 3, 4, tzinfo=UTC),
    dt.time(1, 2, tzinfo=BERLIN),
    dt.timedelta.max,
    dt.timedelta.min,
    pathlib.Path("relative/ü"),
    pathlib.Path("/not-utf8-\udcff"),
    {(1, (2, "a")): {frozenset({(1, 2)}): None}, None: 1, 1.5: 2, uuid.UUID(int=3): 3},
    {(1, 2), "a", None, frozenset({1})},
    [[1, (2, {"k": {3}})], bytearray(b"x")],
]


# What plain mode brings back as something simpler, or refuses.
SIMPLER = (
    *(range, type(...), collections.ChainMap, pathlib.PurePath),
    *(tuple, list, collections.deque, bytearray, memoryview),
)


def same(a: Any, b: Any) -> bool:
    """Equal and of one type, at every depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple, collections.deque)):
        return (
            len(a) == len(b)
            and all(map(same, a, b))
            and getattr(a, "maxlen", 0) == getattr(b, "maxlen", 0)
        )
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, collections.ChainMap):
        return same(a.maps, b.maps)
    if isinstance(a, (set, frozenset)):
        return a == b and sorted(map(repr, map(type, a))) == sorted(map(repr, map(type, b)))
    if isinstance(a, (dt.datetime, dt.time)):
        return a == b and a.fold == b.fold and type(a.tzinfo) is type(b.tzinfo) and str(a) == str(b)
    if isinstance(a, memoryview):
        return (a.format, a.shape, a.tobytes()) == (b.format, b.shape, b.tobytes())
    return repr(a) == repr(b) and (a == b or a != a)


def ext(number: int, body: bytes) -> bytes:
    return bytes([0xC7, len(body), number]) + body


def back(obj: Any, **options: bool) -> Any:
    return _decode(*_encode(obj, **options), **options)


def test_golden_bytes_of_bytes() -> None:
    assert _encode([b"\0\xff"]) == (MSGPACK, b"\x91" + GOLDEN["bytes"])
    assert _encode(b"\0\xff") == (RAW, b"\0\xff")


@pytest.mark.parametrize("name", PLAIN)
def test_golden_bytes_of_plain_types(name: str) -> None:
    assert _encode(PLAIN[name]) == (MSGPACK, GOLDEN[name])
    assert same(_decode(MSGPACK, GOLDEN[name]), PLAIN[name])


def test_golden_tuple_is_a_plain_array() -> None:
    value = (1, "a", 2.5, True, None, (1, 2))
    assert _encode(value) == (MSGPACK, GOLDEN["tuple_plain"])
    assert _decode(MSGPACK, GOLDEN["tuple_plain"]) == [1, "a", 2.5, True, None, [1, 2]]


@pytest.mark.parametrize("name", EXACT)
def test_golden_bytes_of_exact_types(name: str) -> None:
    assert _encode(EXACT[name], exact=True) == (MSGPACK, GOLDEN[name])
    assert same(_decode(MSGPACK, GOLDEN[name]), EXACT[name])


def test_golden_namedtuple() -> None:
    assert _encode(Point(1, 2), exact=True) == (MSGPACK, GOLDEN["namedtuple"])
    first, second = (_decode(MSGPACK, GOLDEN["namedtuple"]) for _ in range(2))
    assert first == (1, 2)
    assert (first.x, first.y) == (1, 2)
    assert type(first).__name__ == "Point"
    assert type(first) is type(second)
    assert back(Pair([1], None), exact=True)._fields == ("left", "right")
    assert back(Point(1, 2)) == [1, 2]


@pytest.mark.parametrize("value", EVERYTHING, ids=lambda v: f"{type(v).__name__}-{repr(v)[:30]}")
def test_exact_mode_brings_everything_back(value: Any) -> None:
    for wrapped in (value, [value], {"k": value}):
        got = back(wrapped, exact=True)
        assert same(got, wrapped), got


@pytest.mark.parametrize("value", EVERYTHING, ids=lambda v: f"{type(v).__name__}-{repr(v)[:30]}")
def test_what_plain_mode_takes_comes_back_equal_or_simpler(value: Any) -> None:
    try:
        got = back(value)
    except TypeError as err:
        assert isinstance(value, SIMPLER)
        assert "exact=True" in str(err)
        return
    assert isinstance(value, SIMPLER) or got == value or value != value


def test_subclasses_in_plain_mode() -> None:
    assert back([Colour.RED, Label("x"), collections.Counter("aa")]) == [3, "x", {"a": 2}]
    assert list(back(collections.defaultdict(list, a=[1])).items()) == [("a", [1])]
    moved = collections.OrderedDict(a=1, b=2)
    moved.move_to_end("a")
    assert list(back(moved)) == ["b", "a"]
    assert back(collections.deque([1])) == [1]
    assert back([bytearray(b"a"), memoryview(b"abcd")[::2], array.array("b", [1])]) == [
        b"a",
        b"ac",
        b"\1",
    ]


@pytest.mark.parametrize(
    "value", [Colour.RED, Label("x"), collections.defaultdict(list), True + 0 * 1j]
)
def test_exact_mode_refuses_what_could_not_come_back(value: Any) -> None:
    if isinstance(value, complex):
        assert same(back(value, exact=True), value)
        return
    with pytest.raises(TypeError, match=r"cannot encode .*exact=False"):
        _encode(value, exact=True)


def test_other_types_say_what_to_do() -> None:
    @dataclasses.dataclass
    class Row:
        a: int

    class Mode(enum.Enum):
        ON = "on"

    for value, cure in [
        (Row(1), "asdict"),
        (Mode.ON, "x.value"),
        (object(), "pickle=True"),
        (range(3), r"list\(x\)"),
    ]:
        for wrapped in (value, [value], {"k": (value,)}):
            with pytest.raises(TypeError, match=cure) as err:
                _encode(wrapped)
            assert type(value).__name__ in str(err.value)


@pytest.mark.parametrize(
    "value",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        memoryview(b"aXbXc")[::2],
        array.array("b", b"abc"),
    ],
)
def test_buffers_are_raw_records(value: Any) -> None:
    assert _encode(value) == (RAW, b"abc")
    assert _decode(RAW, b"abc") == b"abc"


def test_pickle_only_when_asked_for() -> None:
    value = pathlib.PurePath  # a class: nothing but a pickle can carry it
    with pytest.raises(TypeError, match="pickle=True"):
        _encode([value])
    tag, data = _encode([value], pickle=True)
    assert tag == PICKLE
    assert pickle.loads(data) == [value]
    assert _decode(tag, data, pickle=True) == [value]
    with pytest.raises(ValueError, match="without pickle=True"):
        _decode(tag, data)
    assert _encode([1], pickle=True)[0] == MSGPACK


def test_unknown_tags_and_extensions_are_named() -> None:
    assert _decode(APP, b"any") == b"any"
    with pytest.raises(ValueError, match="unknown record tag 5"):
        _decode(5, b"")
    with pytest.raises(ValueError, match="unknown msgpack extension id 99"):
        _decode(MSGPACK, b"\x91\xd4\x63\0")
    with pytest.raises(ValueError, match="unknown msgpack extension id -1"):
        _decode(MSGPACK, b"\xd6\xff\0\0\0\0")


def test_depth_is_bounded_both_ways() -> None:
    def nested(levels: int, exact: bool) -> Any:
        value: Any = () if exact else []
        for _ in range(levels - 1):
            value = (value,) if exact else [value]
        return value

    for exact in (False, True):
        fits = nested(128, exact)
        data = _encode(fits, exact=exact)
        assert _decode(*data) == fits
        with pytest.raises(ValueError, match="deeper than 128"):
            _encode(nested(129, exact), exact=exact)
        tag, inner = data
        # One level more around what fits, as a peer without our bound would write it.
        body = b"\x91" + inner
        more = b"\xc8" + len(body).to_bytes(2, "big") + b"\x20" + body if exact else body
        with pytest.raises(ValueError, match="deeper than 128"):
            _decode(tag, more)
    with pytest.raises(ValueError, match="deeper than 128"):
        _decode(MSGPACK, b"\x91" * 1_000_000 + b"\xc0")
    with pytest.raises(ValueError, match="deeper than 128"):
        _decode(MSGPACK, b"\x81\xc0" * 1_000_000 + b"\xc0")
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    circular: dict[str, Any] = {}
    circular["self"] = circular
    for loop in (cyclic, circular, [cyclic, circular]):
        for exact in (False, True):
            with pytest.raises(ValueError, match="holds itself"):
                _encode(loop, exact=exact)


@pytest.mark.parametrize(
    "bomb",
    [
        b"",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffa",
        b"\xc6\xff\xff\xff\xff\0",
        b"\xc9\xff\xff\xff\xff\x0a",
        b"\x93\x93\x93\xc0\xc0\xc0\xc0",
        b"\x92\xd5\x0a\x91\xc0",
        b"\xc1",
        b"\xc0\xc0",
        b"\xa1\xff",
        b"\x81\x80\xc0",
        b"\x81\xa1\xff\xc0",
        b"\xd4\x01",
        ext(1, b""),
        ext(2, b"\0"),
        ext(3, b"abc"),
        ext(3, b"\xff"),
        ext(4, b"2024-13-01"),
        ext(4, b"2024[x]"),
        ext(4, b"2024-01-01[No/Zo"),
        ext(4, b"2024-01-01[No/Zone]"),
        ext(4, b"2024-01-01[../x/y]"),
        ext(5, b"2024"),
        ext(6, b"25:00"),
        ext(7, b"\x7f" + b"\xff" * 11),
        ext(7, b"\0" * 13),
        ext(8, b"abc"),
        ext(10, b"\x07"),
        ext(10, b"\x91\x80"),
        ext(10, b"\x90\x00"),
        ext(12, b""),
        ext(34, b"\x90"),
        ext(34, b"\x92\xa1x\x01"),
        ext(35, b"\x91\x00"),
        ext(35, b"\x93\x00\x01\x00"),
        ext(36, b"\x91\x00"),
        ext(36, b"\x93\xa1P\xa2a \x01\x01"),
        ext(36, b"\x93\xa1P\xa3def\x01"),
        ext(36, b"\x93\xa3P()\xa1a\x01"),
        ext(36, b"\x94\xa1P\xa1a\x01\x02"),
        ext(37, b"\x01"),
        ext(39, b"\x91\x01"),
        ext(40, b"\0"),
        ext(41, b"\x91\x00"),
        ext(41, b"\x93\xa1Z\x91\x01\xc4\x00"),
        ext(41, b"\x93\xa1H\x91\x01\xc4\x01\x00"),
        ext(46, b"\x93\xa3|u1\x91\x01\xc2\x00"),
    ],
    ids=lambda b: b.hex()[:40] or "empty",
)
def test_damaged_bytes_are_value_errors(bomb: bytes) -> None:
    with pytest.raises(ValueError, match=r"msgpack|utf-8|key of a map|left behind") as err:
        _decode(MSGPACK, bomb)
    assert type(err.value) is ValueError


class Meddler(dt.tzinfo):
    """A time zone that does something else when its offset is asked for."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = meddle

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        self.meddle()
        return dt.timedelta(0)

    def dst(self, _: dt.datetime | None) -> None:
        return None

    def tzname(self, _: dt.datetime | None) -> str:
        return "meddler"


@pytest.mark.parametrize("size", [2, 50])
def test_a_dict_that_changes_under_the_walk_is_refused(size: int) -> None:
    victim: dict[object, object] = {}

    def fill(meddle: Callable[[], object]) -> None:
        victim.clear()
        victim.update(dict.fromkeys(range(size), dt.datetime(2024, 1, 1, tzinfo=Meddler(meddle))))

    def exchange_a_key() -> None:
        victim[len(victim), next(iter(victim))] = victim.pop(next(iter(victim)))

    for meddle in (victim.clear, lambda: victim.update(new=1)):
        fill(meddle)
        with pytest.raises(RuntimeError, match="dict changed"):
            _encode(victim)
    # Keys exchanged one for one keep the length: an error or as many pairs, never half a map.
    fill(exchange_a_key)
    with contextlib.suppress(RuntimeError):
        assert 1 <= len(_decode(*_encode(victim))) <= size


def test_a_list_that_changes_under_the_walk_is_refused() -> None:
    victim: list[object] = []
    for meddle in (victim.clear, lambda: victim.append(1)):
        victim[:] = [dt.datetime(2024, 1, 1, tzinfo=Meddler(meddle)), 1, 2]
        with pytest.raises(RuntimeError, match="list changed"):
            _encode(victim)
    # A long one is copied first, so it goes as it was.
    victim[:] = [dt.datetime(2024, 1, 1, tzinfo=Meddler(victim.clear)), *range(50)]
    assert _decode(*_encode(victim))[1:] == list(range(50))


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        _encode("\ud800")


def test_keys_are_found_again() -> None:
    keys = (
        [f"key-{i}" for i in range(2000)]
        + ["k" * n for n in range(60)]
        + ["ü" * n for n in range(1, 30)]
    )
    message = dict.fromkeys(keys, 0)
    for _ in range(2):
        assert back([message, message]) == [message, message]


def test_numpy_is_not_imported_for_other_values() -> None:
    program = (
        "import sys; from ringspan._ringspan import _encode, _decode\n"
        "for v in (1, [1], b'', bytearray(), {1j}, range(3)): _decode(*_encode(v, exact=True))\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
