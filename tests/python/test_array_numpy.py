"""numpy arrays in shared memory: every dtype, no copy, the guards, what views keep."""

from __future__ import annotations

import asyncio
import copy
import gc
import hashlib
import os
import pickle
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringspan
import ringspan.array as shared
from ringspan._ringspan import _array_meta, _Block

Run = Callable[[Coroutine[Any, Any, Any]], Any]

NESTED = np.dtype([("x", "<f4"), ("", "V4"), ("in", [("s", "S3"), ("t", ">i8", (2, 3))])])
ALIGNED = np.dtype([("a", "u1"), ("b", "f8"), ("c", "u2")], align=True)
TITLED = np.dtype([(("the title", "a"), "i4"), ("b", "?")])
DTYPES = [
    *("?", "i1", "u1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "<u2", ">u2", "<u4", ">u8"),
    *("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "g", "<c8", ">c8", "<c16", ">c16", "G"),
    *("S1", "S5", "<U1", "<U7", ">U7", "V3", "M8", "<M8[ns]", ">M8[ns]", "<M8[D]", "<M8[25us]"),
    *("m8", "<m8[s]", ">m8[h]"),
    NESTED,
    ALIGNED,
    TITLED,
]
SHAPES = [(), (0,), (5,), (3, 0, 2), (3, 4), (2, 3, 4)]


def filled(dtype: Any, shape: tuple[int, ...], order: Any = "C") -> np.ndarray[Any, Any]:
    """An array of that kind with bytes of all values; the gaps are zero."""
    dtype = np.dtype(dtype)
    made = np.zeros(shape, dtype, order)
    if dtype.names:
        for name in dtype.names:
            inner = made[name]
            inner[...] = filled(inner.dtype, inner.shape)
    elif dtype.kind == "U":
        made[...] = np.array(["a", "äß", "日本語"])[np.arange(made.size).reshape(shape) % 3]
    elif dtype.kind in "?bS":
        made[...] = np.arange(made.size).reshape(shape) % 2
    elif dtype.kind == "V":
        made[...] = np.void(b"\x07" * dtype.itemsize)
    else:
        made[...] = np.arange(made.size, dtype="i8").reshape(shape).astype(dtype)
    return made


def digest(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[:20])
def test_every_dtype_and_shape_comes_back(name: str, dtype: Any) -> None:
    for number, shape in enumerate(SHAPES):
        for order in ("C", "F"):
            source = filled(dtype, shape, order)
            one = f"{name}-{number}{order}"
            made, other = shared.from_array(one, source), shared.open(one)
            for array in (made, other):
                assert isinstance(array, shared.Array)
                assert (array.dtype, array.shape, array.shared_name) == (source.dtype, shape, one)
                assert array.dtype.fields == source.dtype.fields
                assert array.flags[f"{order}_CONTIGUOUS"]
                assert array.tobytes() == source.tobytes()
            assert isinstance(other, shared.Array)
            empty = shared.create(f"{one}-zeros", dtype, shape, order=order)
            assert empty.tobytes() == np.zeros(shape, dtype).tobytes()
            empty[...] = source
            assert digest(shared.open(f"{one}-zeros").value) == digest(source)  # type: ignore[arg-type]


def test_another_process_sees_the_same_bytes(name: str, child: Any) -> None:
    dtypes = [dtype for dtype in DTYPES if dtype not in ("g", "G")]  # which have gaps of garbage
    for number, dtype in enumerate(dtypes):
        shared.from_array(f"{name}-{number}", filled(dtype, (3, 4), "CF"[number % 2]))
    code = """
        import hashlib, sys
        import ringspan
        for number in range(int(sys.argv[2])):
            array = ringspan.array.open(f"{sys.argv[1]}-{number}")
            print(array.dtype.descr, array.shape, hashlib.sha256(array.tobytes()).hexdigest())
        """
    other = child(code, name, len(dtypes))
    for number, dtype in enumerate(dtypes):
        source = filled(dtype, (3, 4), "CF"[number % 2])
        other.expect(f"{source.dtype.descr} {source.shape} {digest(source)}")


def test_the_meta_is_that_of_the_format_page(name: str) -> None:
    shared.from_array(name, np.array([[1], [2]], "<i2"))
    page = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text()
    (line,) = [line for line in page.splitlines() if "int16 array [[1], [2]]" in line]
    meta = bytes.fromhex(line.split("]]")[1].split(",")[0])
    block = _Block.open(name)
    assert block.meta == meta
    assert bytes(block) == b"\1\0\2\0"


def test_what_cannot_be_shared_says_so(name: str) -> None:
    overlapping = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]})
    for dtype, match in (
        ("O", "Python objects"),
        ([("a", "O")], "Python objects"),
        (overlapping, "repack_fields"),
    ):
        with pytest.raises(TypeError, match=match) as raised:
            shared.create(name, dtype, 3)
        assert name in str(raised.value)
    with pytest.raises(TypeError, match="Python objects"):
        shared.from_array(name, np.array(["a", None], object))
    with pytest.raises(TypeError, match="mask"):
        shared.from_array(name, np.ma.masked_array([1, 2], [True, False]))
    for shape, match in (
        ((1 << 62, 8), "overflow"),
        ((1 << 63,), name),
        ((-1,), "negative"),
        ((1,) * 65, "65 dimensions"),
    ):
        with pytest.raises(ringspan.InvalidOption, match=match):
            shared.create(name, "f8", shape)
    with pytest.raises(ringspan.InvalidOption, match="size"):
        shared.create(name, "V0", 3)
    with pytest.raises(ringspan.InvalidOption, match="order"):
        shared.create(name, "f8", 3, order="K")  # type: ignore[arg-type]
    with pytest.raises(ringspan.NoSpace):
        shared.create(name, "f8", 1 << 50)
    with pytest.raises(ValueError, match="broadcast"):
        shared.create(name, "f8", (2, 3), fill=[1, 2])
    with pytest.raises(ringspan.NotFound):
        shared.open(name)


def test_names_are_taken_once(name: str) -> None:
    arr = shared.create(name, "f8", (2, 3), fill=[[1], [2]])
    assert arr.tolist() == [[1.0] * 3, [2.0] * 3]
    with pytest.raises(ringspan.AlreadyExists):
        shared.from_array(name, np.zeros(3))
    assert shared.open_or_create(name, "f8", (2, 3)).tolist() == arr.tolist()
    for dtype, shape, order in (("f4", (2, 3), "C"), ("f8", (3, 2), "C"), ("f8", (2, 3), "F")):
        with pytest.raises(ringspan.Mismatch, match=name):
            shared.open_or_create(name, dtype, shape, order=order)  # type: ignore[arg-type]
    assert shared.open_or_create(f"{name}-new", "u1", np.int64(4), order="F").shape == (4,)
    assert shared.open_or_create(f"{name}-new", "u1", [4]).shape == (4,)
    (info,) = [info for info in ringspan.segments() if info.name == name]
    assert (info.kind, info.size) == ("array", 48)


def test_others_take_it_without_a_copy(name: str) -> None:
    arr = shared.create(name, "f8", (3, 5), order="F")
    again = shared.open(name)
    assert isinstance(again, shared.Array)
    views = [
        np.asarray(arr),
        np.asanyarray(arr),
        np.array(arr, copy=False),
        np.from_dlpack(arr),
        np.frombuffer(memoryview(arr).obj, "f8").reshape((3, 5), order="F")
        if arr.flags.c_contiguous
        else np.asarray(memoryview(arr)),
        arr.value,
        arr[...],
    ]
    assert arr.__dlpack_device__() == (1, 0)
    interface = arr.__array_interface__
    assert interface["data"] == (arr.ctypes.data, False)
    assert arr.ctypes.data % 4096 == 0
    again[1, 2] = 42.5
    for view in views:
        assert view[1, 2] == 42.5
        assert np.shares_memory(view, arr)
    assert (memoryview(arr).format, memoryview(arr).shape) == ("d", (3, 5))
    assert memoryview(arr).strides == (8, 24)


def test_slices_and_results_are_plain_arrays(name: str) -> None:
    arr = shared.create(name, [("a", "f8"), ("b", "i4")], 3)
    for derived in (arr["a"], arr[1:], arr[[0, 1]], arr[arr["b"] == 0]):
        assert type(derived) is np.ndarray
    numbers = shared.create(f"{name}-numbers", "f8", (3, 5))
    numbers += 1
    assert isinstance(numbers, shared.Array)
    assert numbers.shared_name == f"{name}-numbers"
    for derived in (numbers + 1, np.sqrt(numbers), numbers.mean(axis=0), numbers @ numbers.T):
        assert type(derived) is np.ndarray
    assert type(numbers.sum()) is np.float64
    assert np.add(numbers, 1, out=numbers) is numbers
    assert shared.open(f"{name}-numbers")[0, 0] == 2.0  # type: ignore[index]
    unnamed = numbers.T
    with pytest.raises(ringspan.HandleClosed, match="view or a copy"):
        unnamed.notify()  # type: ignore[attr-defined]
    for made in (copy.copy(numbers), copy.deepcopy(numbers)):
        assert type(made) is np.ndarray
        assert not np.shares_memory(made, numbers)


def test_views_keep_the_memory(name: str) -> None:
    arr = shared.create(name, "i8", 1000, fill=7)
    part, flat, exported = arr[10:20], arr.reshape(10, 100).T, memoryview(arr)
    arr.close()
    ringspan.remove(name)
    del arr
    gc.collect()
    assert part.tolist() == [7] * 10
    assert (flat.sum(), exported[999]) == (7000, 7)


def test_closed_and_removed(name: str) -> None:
    with shared.create(name, "i8", 4) as arr:
        arr[0] = 1
    for verb in ("notify", "blocking_changed", "read", "try_write", "blocking_write"):
        with pytest.raises(ringspan.HandleClosed, match=name):
            made = getattr(arr, verb)()
            asyncio.run(made._take())
    assert arr[0] == 1
    arr.remove()
    with pytest.raises(ringspan.NotFound):
        arr.remove()


def test_pickles_by_name(name: str) -> None:
    lock = ringspan.RwLock(f"{name}-lock", 0)
    arr = shared.create(name, "i8", 4, lock=lock)
    arr[1] = 5
    again = pickle.loads(pickle.dumps(arr))
    assert isinstance(again, shared.Array)
    again[2] = 6
    assert arr.tolist() == [0, 5, 6, 0]
    with again.blocking_write():
        assert lock.holders()
        assert not _Block.open(name).holders()
    for derived in (arr[1:], arr.T):
        plain = pickle.loads(pickle.dumps(derived))
        assert type(plain) is np.ndarray
        assert not np.shares_memory(plain, arr)
    lock.remove()


def test_readonly_is_a_matter_of_this_handle(name: str) -> None:
    shared.create(name, "i8", 4)
    arr = shared.open(name, readonly=True)
    assert isinstance(arr, shared.Array)
    for array in (arr, arr.value, arr[1:], pickle.loads(pickle.dumps(arr))):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    for take in (arr.blocking_write, arr.try_write, arr.write):
        with pytest.raises(ValueError, match=f"{name}: read-only"):
            take()
    assert arr.holders() == []


# ---- damage ------------------------------------------------------------------------------------


def lies() -> list[tuple[str, bytes, int]]:
    """Descriptions that are well-formed as a meta, with the payload's size."""
    good, size = _array_meta(np.dtype("<f8"), (3, 5), False)
    return [
        ("larger than its payload", good, size - 1),
        ("bytes behind", good + b"\0", size),
        ("cut off", good[:-1], size),
        ("objects", b"\x93\xa2|O\x91\x03\xc2", 24),
        ("no type string", b"\x93\xa4evil\x91\x03\xc2", 24),
        ("negative", b"\x93\xa3<f8\x91\xff\xc2", 24),
        ("overflow", b"\x93\xa3<f8\x92" + 2 * (b"\xcf" + b"\x7f" * 8) + b"\xc2", 24),
        ("no order", b"\x93\xa3<f8\x91\x03\x03", 24),
        ("65 dimensions", b"\x93\xa3<f8\xdc\x00\x41" + b"\x01" * 65 + b"\xc2", 8),
        ("sizeless", b"\x93\xa3|S0\x91\x03\xc2", 24),
        ("numpy refuses it", b"\x93\xa9<M8[fooo]\x91\x03\xc2", 24),
    ]


@pytest.mark.parametrize(("what", "meta", "size"), lies(), ids=[what for what, _, _ in lies()])
def test_descriptions_that_lie_are_refused(name: str, what: str, meta: bytes, size: int) -> None:
    _Block.create(name, size, meta=meta)
    with pytest.raises(ringspan.Damaged, match=f"array {name}: "):
        shared.open(name)


def test_a_meta_that_was_overwritten_is_refused(name: str) -> None:
    shared.create(name, "f8", 3)
    path = Path("/dev/shm", name[1:])
    at = path.read_bytes().index(b"<f8")
    with path.open("r+b") as file:
        file.seek(at + 2)
        file.write(b"4")
    with pytest.raises(ringspan.Damaged, match=f"array {name}"):
        shared.open(name)


def test_other_objects_are_refused(name: str) -> None:
    ringspan.Segment.create(name, 8)
    with pytest.raises(ringspan.Mismatch, match=name):
        shared.open(name)
    for number, meta in enumerate((b"", b"what it is", b"\x91\xc0", b"\x91\x81\xa2of\xa1x")):
        _Block.create(f"{name}-{number}", 8, meta=meta)
        with pytest.raises(ringspan.Mismatch, match=f"{name}-{number}"):
            shared.open(f"{name}-{number}")


def test_a_creator_killed_while_it_fills_leaves_nothing(name: str, child: Any) -> None:
    code = """
        import os, signal, sys
        import numpy as np, ringspan
        class Deadly:
            def __array__(self, dtype=None, copy=None):
                os.kill(os.getpid(), signal.SIGKILL)
        ringspan.array.create(sys.argv[1], "f8", 1 << 16, fill=Deadly())
        """
    assert child(code, name).wait() == -9
    with pytest.raises(ringspan.NotFound):
        shared.open(name)


# ---- without numpy, and with much of it --------------------------------------------------------


def test_without_numpy_the_rest_works(name: str, run_python: Any) -> None:
    code = """
        import sys
        sys.modules["numpy"] = None
        import ringspan
        ringspan.Value(sys.argv[1], ephemeral=True).blocking_set([1, 2])
        for look in (lambda: ringspan.array, lambda: __import__("ringspan.array")):
            try:
                look()
            except ImportError as err:
                assert "ringspan[arrays]" in str(err), err
            else:
                raise AssertionError
        try:
            ringspan.arrays
        except AttributeError as err:
            assert "arrays" in str(err)
        """
    run_python(code, name)


def test_importing_ringspan_imports_no_numpy(run_python: Any) -> None:
    code = """
        import sys, ringspan
        assert "numpy" not in sys.modules
        ringspan.array
        assert "numpy" in sys.modules
        assert not {"pandas", "xarray"} & set(sys.modules)
        """
    run_python(code)


GIB = 1 << 30


def room() -> int:
    stat = os.statvfs("/dev/shm")
    return stat.f_bavail * stat.f_frsize


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(room() < GIB + (64 << 20), reason="/dev/shm has no room for 1 GiB")
def test_a_gibibyte_is_there_once_for_three_processes(name: str, child: Any) -> None:
    code = """
        import re, sys
        import ringspan
        arr = ringspan.array.open(sys.argv[1])
        print(arr.shape, int(arr[:, ::512].sum()))  # a number in each page
        number = int(sys.argv[2])
        arr[number] = number
        arr.notify()
        input()
        print(sorted(arr[:3, -1].tolist()))
        own = re.search(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())
        print(own[1])
        rollup = open("/proc/self/smaps_rollup").read()
        private = re.findall(r"Private_(?:Clean|Dirty):\\s+(\\d+) kB", rollup)
        print(sum(map(int, private)))
        input()
        """
    arr = shared.create(name, "i8", (16, GIB // 8 // 16))
    arr[:, ::512] = 3
    others = [child(code, name, number, watchdog=100) for number in range(3)]
    for other in others:
        other.line()
    seen = arr.version
    while seen < 3:
        seen = arr.blocking_changed(seen, timeout=60)
    for other in others:
        other.say()
    for other in others:
        assert other.line() == "[0, 1, 2]"
        anonymous, private = int(other.line()), int(other.line())
        assert anonymous < 64 << 10, f"{anonymous} KiB of memory of its own"
        assert private < 64 << 10, f"{private} KiB that no other process has"
    for other in others:
        other.say()
        other.finish()
