"""Arrays in the codec: dtype, shape and order travel; objects and damaged meta do not."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ringspan._ringspan import _decode, _decode_array_view, _encode

np = pytest.importorskip("numpy")

MSGPACK, ARRAY, PICKLE = 1, 2, 4
GOLDEN_FILE = pathlib.Path(__file__).parent.parent / "golden" / "codec.txt"
GOLDEN = {
    name: bytes.fromhex(hexed)
    for name, hexed in (
        line.split() for line in GOLDEN_FILE.read_text().splitlines() if not line.startswith("#")
    )
}
NESTED = np.dtype([("p", [("x", "<f4"), ("y", ">f4")], (2,)), ("id", "u8")])
ALIGNED = np.dtype([("a", "u1"), ("b", "f8")], align=True)
TITLED = np.dtype([(("The title", "a"), "i4"), ("b", "S3")])
REFUSED = r"array|msgpack"
ARRAYS = [
    *(np.arange(6).astype(code) for code in "?bBhHiIlLqQefdgFDG"),
    np.arange(6, dtype=">i4"),
    np.arange(6, dtype=">f8").reshape(2, 3),
    np.array(["a", "grüß"]),
    np.array([b"a", b"bcd"]),
    np.array(["2024-01-01", "NaT"], dtype="M8[us]"),
    np.array([1, 2], dtype="m8[25s]"),
    np.array([b"abc"], dtype="V3"),
    np.zeros(3, NESTED),
    np.ones(3, ALIGNED),
    np.ones(2, TITLED),
    np.array(1.5),
    np.zeros((0, 3)),
    np.zeros((3, 0), order="F"),
    np.arange(24).reshape(2, 3, 4),
    np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    np.arange(24).reshape(4, 6)[::2, ::3],
    np.arange(10)[::-1],
    np.broadcast_to(np.arange(3), (2, 3)),
    np.zeros((1,) * 32),
    np.arange(100_000, dtype="f8"),
]


def identical(a: Any, b: Any) -> bool:
    return (
        type(b) is np.ndarray
        and a.dtype == b.dtype
        and a.dtype.isalignedstruct <= (a.dtype.itemsize == b.dtype.itemsize)
        and a.shape == b.shape
        and a.tobytes() == b.tobytes()
    )


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_arrays_come_back(array: Any) -> None:
    tag, data = _encode(array)
    assert tag == ARRAY
    copy = _decode(tag, data)
    assert identical(array, copy)
    assert copy.flags.writeable
    view = _decode_array_view(data)
    assert identical(array, view)
    assert not view.flags.writeable
    for exact in (False, True):
        tag, data = _encode({"a": [array]}, exact=exact)
        nested = _decode(tag, data)["a"][0]
        assert tag == MSGPACK
        assert identical(array, nested)
        assert nested.flags.writeable


def test_order_is_kept() -> None:
    fortran = np.asfortranarray(np.arange(6).reshape(2, 3))
    for array in (_decode(*_encode(fortran)), _decode_array_view(_encode(fortran)[1])):
        assert array.flags.f_contiguous
        assert not array.flags.c_contiguous
    assert _decode(*_encode(fortran.T)).flags.c_contiguous


def test_golden_arrays() -> None:
    array = np.array([[1], [2]], dtype="<i2")
    assert _encode(array) == (ARRAY, GOLDEN["array_record"])
    assert _encode([array]) == (MSGPACK, b"\x91" + GOLDEN["ndarray"])
    fields = np.zeros(1, [("a", "<f8"), ("b", "S3", (2,))])
    assert _encode([fields]) == (MSGPACK, b"\x91" + GOLDEN["ndarray_fields"])
    fortran = np.asfortranarray(np.arange(6, dtype="u1").reshape(2, 3))
    assert _encode([fortran]) == (MSGPACK, b"\x91" + GOLDEN["ndarray_fortran"])
    assert _encode(np.float32(1.5), exact=True) == (MSGPACK, GOLDEN["numpy_scalar"])


def test_data_is_aligned_to_64_behind_the_start() -> None:
    _, data = _encode(np.arange(3, dtype="u1"))
    assert len(data) == 64 + 3
    assert data[64:] == b"\0\1\2"


def test_numpy_scalars() -> None:
    for scalar in (
        np.float32(1.5),
        np.float64(2.5),
        np.int64(-3),
        np.uint8(3),
        np.bool_(True),
        np.str_("x"),
    ):
        plain = _decode(*_encode(scalar))
        assert plain == scalar
        assert type(plain) is type(scalar.item())
        exact = _decode(*_encode([scalar], exact=True))[0]
        assert exact == scalar
        assert type(exact) is type(scalar)
    when = np.datetime64("2024-01-01T00:00:00", "us")
    assert _decode(*_encode(when)) == when.item()
    assert _decode(*_encode(when, exact=True)) == when
    assert _decode(*_encode({np.int64(1): np.float32(0.5)})) == {1: 0.5}


def test_what_is_no_array_of_values_is_refused() -> None:
    objects = np.array([object()])
    with pytest.raises(TypeError, match="array of objects"):
        _encode(objects)
    with pytest.raises(TypeError, match="array of objects"):
        _encode([np.zeros(1, [("a", "O")])])
    assert _encode(objects, pickle=True)[0] == PICKLE
    with pytest.raises(TypeError, match="masked"):
        _encode(np.ma.array([1, 2], mask=[0, 1]))
    overlapping = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]})
    with pytest.raises(TypeError, match="overlap"):
        _encode(np.zeros(1, overlapping))
    with pytest.raises(TypeError, match="without a size"):
        _encode(np.zeros(3, []))


def pack_str(text: str) -> bytes:
    return bytes([0xA0 + len(text)]) + text.encode()


@pytest.mark.parametrize(
    "meta",
    [
        pack_str("|O") + b"\x91\x01\xc2",
        pack_str("|O8") + b"\x91\x01\xc2",
        pack_str("O") + b"\x91\x01\xc2",
        pack_str("<f8,O") + b"\x91\x01\xc2",
        pack_str("object") + b"\x91\x01\xc2",
        pack_str("<f8") + b"\x91\xff\xc2",
        pack_str("<f8") + b"\x91\xcf" + b"\xff" * 8 + b"\xc2",
        pack_str("<f8") + b"\x92\xcf\x3f" + b"\xff" * 7 + b"\x00\xc2",
        pack_str("<f8") + b"\x91\x01\x00",
        pack_str("<f8") + b"\x90",
        b"\x91\x92\xa1a" + pack_str("|O8") + b"\x91\x01\xc2",
        b"\x91\x91\xa1a\x91\x01\xc2",
        b"\x92\x92\xa1a" + pack_str("<i4") + b"\x92\xa1a" + pack_str("<i4") + b"\x91\x01\xc2",
        b"\xc0\x91\x01\xc2",
        pack_str("<M8[xx]") + b"\x91\x01\xc2",
        pack_str("|S0") + b"\x91\xce\xff\xff\xff\xff\xc2",
        pack_str("<f8") + b"\xdc\x00\x41" + b"\x01" * 65 + b"\xc2",
    ],
    ids=lambda m: m.hex()[:50],
)
def test_damaged_meta_is_a_value_error(meta: bytes) -> None:
    head = b"\x93" + meta
    for size in (0, 1, 8, 64):
        payload = head + bytes(-len(head) % 64) + bytes(size)
        with pytest.raises(ValueError, match=REFUSED):
            _decode(ARRAY, payload)
        with pytest.raises(ValueError, match=REFUSED):
            _decode_array_view(payload)
        body = head + bytes(size)
        with pytest.raises(ValueError, match=REFUSED):
            _decode(MSGPACK, b"\xc8" + len(body).to_bytes(2, "big") + b"\x0c" + body)
    with pytest.raises(ValueError, match=REFUSED):
        _decode(ARRAY, b"")
