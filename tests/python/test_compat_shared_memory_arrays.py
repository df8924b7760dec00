"""The array layouts of `ringspan.compat.shared_memory`: numpy, pandas, xarray over shared bytes."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ringspan
from compat_tools import (
    IMPORT_SHM,
    ORIGINAL,
    damaged,
    only_here,
    seeded,
    shared_memory,
    wrong_there,
)

np = pytest.importorskip("numpy")

shm = shared_memory()

Start = Callable[..., Any]


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas")


@pytest.fixture
def xr() -> Any:
    pytest.importorskip("pandas")
    return pytest.importorskip("xarray")


# ---- numpy ---------------------------------------------------------------------------------------


def test_another_process_has_the_same_array(name: str, child: Start) -> None:
    array = shm.create(name, shm.NdArrayLayout("int64", (1000,), init_value=7))
    other = child(
        f"""
        {IMPORT_SHM}
        array = shm.load({name!r})
        print(array.sum(), array.dtype, array.shape)
        array[:] = range(1000)
        print("set")
        """
    )
    other.expect("7000 int64 (1000,)")
    other.expect("set")
    assert other.wait() == 0
    assert array.tolist() == list(range(1000))


DTYPES = [
    "?",
    "i1",
    "<i2",
    ">i4",
    "u8",
    "f2",
    ">f4",
    "f8",
    "c16",
    "S5",
    "U5",
    "V3",
    "M8[ns]",
    "m8[D]",
]
STRUCTURED = np.dtype([("a", ">i4"), ("b", "S3"), ("c", "f8", (2,))], align=True)


@wrong_there("keeps the letter of the dtype only")
@pytest.mark.parametrize("dtype", [*DTYPES, STRUCTURED], ids=str)
def test_dtypes_come_back_whole(name: str, dtype: Any) -> None:
    dtype = np.dtype(dtype)
    array = shm.create(name, shm.NdArrayLayout(dtype, (4, 2)))
    array.view("u1").reshape(-1)[:] = 1
    same = shm.load(name)
    assert same.dtype == dtype
    assert (same == array).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4), (1,) * 20])
def test_shapes(name: str, shape: tuple[int, ...]) -> None:
    array = shm.create(name, shm.NdArrayLayout("f8", shape, init_value=2))
    same = shm.load(name)
    assert same.shape == array.shape == shape
    assert (same == 2).all()


def test_initial_values_are_broadcast(name: str) -> None:
    shm.create(name, shm.NdArrayLayout("i4", (2, 3), init_value=[1, 2, 3]))
    assert shm.load(name).tolist() == [[1, 2, 3]] * 2
    with pytest.raises(ValueError):
        shm.create(f"{name}-2", shm.NdArrayLayout("i4", (2, 3), init_value=[1, 2]))
    if not ORIGINAL:
        assert not Path("/dev/shm", f"{name[1:]}-2").exists()


@only_here
def test_arrays_of_objects_are_refused(name: str) -> None:
    for dtype in ("O", [("a", "O")]):
        with pytest.raises((TypeError, ValueError), match="object"):
            shm.create(name, shm.NdArrayLayout(dtype, (3,)))
    assert not Path("/dev/shm", name[1:]).exists()


def test_the_array_keeps_the_memory(name: str) -> None:
    array = shm.create(name, shm.NdArrayLayout("f8", (5,)))
    part = shm.load(name)[1:3]
    del array
    shm.unlink(name)
    part[0] = 4
    assert part.tolist() == [4, 0]


def test_arrays_in_dicts(name: str) -> None:
    layout = shm.StructLayout(
        {
            "name": shm.PickleLayout("x"),
            "small": shm.NdArrayLayout("u1", (3,), init_value=1),
            "big": shm.NdArrayLayout("f8", (100, 3), init_value=2),
        }
    )
    made, loaded = shm.create(name, layout), shm.load(name)
    assert loaded["name"] == "x"
    made["big"][50, 1] = 9
    made["small"][2] = 0
    assert (loaded["big"].sum(), loaded["small"].tolist()) == (607, [1, 1, 0])
    assert loaded["big"].flags.aligned


# ---- pandas --------------------------------------------------------------------------------------


def test_a_series(name: str, pd: Any, child: Start) -> None:
    series = shm.create(name, shm.SeriesLayout(dtype="float32", index=["a", "b", "c"]))
    same = shm.load(name)
    assert type(series) is type(same) is pd.Series
    assert (series.dtype, list(series.index)) == (np.float32, ["a", "b", "c"])
    assert not series.any()
    series.loc["b"] = 1.5
    series.iloc[2] = 2.5
    assert same.tolist() == [0, 1.5, 2.5]
    other = child(
        f"{IMPORT_SHM}\nseries = shm.load({name!r})\nseries.loc['a'] = 7\nprint(series.sum())"
    )
    other.expect("11.0")
    assert other.wait() == 0
    assert series["a"] == same["a"] == 7


def test_initial_values_of_a_series(name: str, pd: Any) -> None:
    shm.create(name, shm.SeriesLayout("i8", index=range(3), init_value=5))
    assert shm.load(name).tolist() == [5, 5, 5]
    data = pd.Series([1.5, 2.5], index=["x", "y"], name="these")
    made = shm.create(f"{name}-2", shm.SeriesLayout.from_data(data))
    pd.testing.assert_series_equal(made, data, check_names=not ORIGINAL)
    made.loc["x"] = 0
    assert data["x"] == 1.5
    assert shm.load(f"{name}-2")["x"] == 0


@wrong_there("needs pandas up to 1.2")
def test_a_frame(name: str, pd: Any, child: Start) -> None:
    layout = shm.DataFrameLayout(
        dtypes=[("a", "float32"), ("b", "int32"), ("c", "float32")], index=["x", "y", "z"]
    )
    frame, same = shm.create(name, layout), shm.load(name)
    assert type(frame) is type(same) is pd.DataFrame
    assert list(frame.dtypes) == [np.float32, np.int32, np.float32]
    assert (list(frame.columns), list(frame.index)) == (["a", "b", "c"], ["x", "y", "z"])
    assert not frame.any().any()
    frame.loc["y", "a"] = 1.5
    frame.iloc[2, 1] = 7
    frame.loc[:, "c"] = np.array([1, 2, 3], "f4")
    assert same.to_numpy().tolist() == [[0, 0, 1], [1.5, 0, 2], [0, 7, 3]]
    other = child(
        f"{IMPORT_SHM}\nframe = shm.load({name!r})\nframe.loc['x', 'b'] = 9\nprint(frame.b.sum())"
    )
    other.expect("16")
    assert other.wait() == 0
    assert frame.loc["x", "b"] == 9


@wrong_there("needs pandas up to 1.2")
def test_initial_values_of_a_frame(name: str, pd: Any) -> None:
    layout = shm.DataFrameLayout([("a", "f8"), ("b", "i4")], index=range(4), init_value=3)
    shm.create(name, layout)
    assert (shm.load(name) == 3).all().all()
    times = pd.date_range("2020", periods=3, freq="D", tz="Europe/Paris", name="when")
    data = pd.DataFrame({"n": [1, 2, 3], "x": [0.5, 1.5, 2.5], "m": [4, 5, 6]}, index=times)
    made = shm.create(f"{name}-2", shm.DataFrameLayout.from_data(data))
    pd.testing.assert_frame_equal(made, data, check_freq=False)
    pd.testing.assert_frame_equal(shm.load(f"{name}-2"), data, check_freq=False)
    with pytest.raises(TypeError):
        shm.create(f"{name}-3", shm.DataFrameLayout([("a", "f8")], range(4), init_value="text"))


@only_here
@pytest.mark.parametrize(
    "kind", ["range", "int", "float", "str", "dates", "deltas", "multi", "bool"]
)
def test_labels_come_back(name: str, pd: Any, kind: str) -> None:
    index = {
        "range": lambda: pd.RangeIndex(2, 10, 2, name="r"),
        "int": lambda: pd.Index([5, 3, 9, 1], name="i"),
        "float": lambda: pd.Index([0.5, 1.5, 2.5, 1e300]),
        "str": lambda: pd.Index(["a", "é", "", "d"]),
        "dates": lambda: pd.DatetimeIndex(["2020-01-01", "2021-01-01", "2022-01-01", "2020-05-05"]),
        "deltas": lambda: pd.to_timedelta([1, 2, 3, 4], unit="s"),
        "multi": lambda: pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", "y"]),
        "bool": lambda: pd.Index([True, False, True, False]),
    }[kind]()
    made = shm.create(name, shm.SeriesLayout("f8", index))
    for one in (made, shm.load(name)):
        pd.testing.assert_index_equal(one.index, index, exact="equiv")


# ---- xarray --------------------------------------------------------------------------------------


def test_a_data_array(name: str, xr: Any, child: Start) -> None:
    template = xr.DataArray(0, dims=["x", "y"], coords={"x": [1, 2, 3], "y": ["a", "b", "c"]})
    array = shm.create(name, shm.DataArrayLayout.from_data(template))
    same = shm.load(name)
    assert type(array) is type(same) is xr.DataArray
    xr.testing.assert_equal(same, template)
    array.loc[{"x": 2, "y": "b"}] = 5
    assert same.sel(x=2, y="b") == 5
    other = child(
        f"{IMPORT_SHM}\narray = shm.load({name!r})\narray[0, 0] = 4\nprint(int(array.sum()))"
    )
    other.expect("9")
    assert other.wait() == 0
    assert array[0, 0] == 4


def test_a_data_array_from_its_parts(name: str, xr: Any) -> None:
    layout = shm.DataArrayLayout(("t", "x"), {"x": [10, 20]}, "f4", (3, 2), init_value=1.5)
    made = shm.create(name, layout)
    assert (made.dims, made.dtype, made.shape) == (("t", "x"), np.float32, (3, 2))
    assert (shm.load(name) == 1.5).all()
    assert shm.load(name).coords["x"].values.tolist() == [10, 20]


@only_here
def test_from_data_copies_the_values(name: str, xr: Any) -> None:
    data = xr.DataArray(
        np.arange(6.0).reshape(2, 3),
        dims=["x", "y"],
        coords={"x": [1, 2], "z": ("x", ["p", "q"]), "k": 7},
        name="these",
        attrs={"unit": "m"},
    )
    made = shm.create(name, shm.DataArrayLayout.from_data(data))
    for one in (made, shm.load(name)):
        xr.testing.assert_identical(one, data)
    made[0, 0] = 99
    assert data[0, 0] == 0


# ---- bytes that lie, programs without numpy ------------------------------------------------------


@only_here
def test_any_bytes_at_all(name: str) -> None:
    layout = shm.StructLayout(
        {"a": shm.NdArrayLayout("f4", (3, 4)), "b": shm.NdArrayLayout("S3", (5,))}
    )
    block = shm.SharedMemory.create(name, layout.size())
    mem = memoryview(block)
    layout.dump(mem)
    whole = bytes(mem)
    chance = seeded()
    refused = 0
    for _ in range(3000):
        mem[:] = damaged(whole, chance, 3, [0, 1, 2, 8, 64, 115, 127, 255])
        try:
            for array in shm.load(name).values():
                if isinstance(array, np.ndarray):
                    array.tobytes()
                    array[...] = np.zeros((), array.dtype)
        except (ringspan.RingspanError, KeyError):
            refused += 1
    assert refused > 500


@only_here
@pytest.mark.parametrize("kind", ["series", "frame", "data array"])
def test_any_bytes_in_a_description(name: str, pd: Any, xr: Any, kind: str) -> None:
    times = pd.date_range("2020", periods=3, tz="UTC")
    frame = pd.DataFrame(
        {"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "c": pd.Categorical(["x", "y", "x"])}, index=times
    )
    pairs = pd.MultiIndex.from_tuples([("x", 1), ("y", 2), ("z", 3)])
    layout = {
        "series": lambda: shm.SeriesLayout("f8", pairs),
        "frame": lambda: shm.DataFrameLayout.from_data(frame),
        "data array": lambda: shm.DataArrayLayout(["x"], {"x": ["a", "b", "c"]}, "f8", (3,)),
    }[kind]()
    block = shm.SharedMemory.create(name, layout.size())
    mem = memoryview(block)
    layout.dump(mem)
    whole = bytes(mem)
    chance = seeded()
    refused = 0
    for _ in range(500):
        mem[:] = damaged(whole, chance, 2, [0, 1, 3, 64, 127, 200, 255])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                repr(shm.load(name))
        except (ringspan.RingspanError, KeyError) as err:
            assert isinstance(err, KeyError) or name in str(err)
            refused += 1
        except (ValueError, OverflowError, TypeError, IndexError):
            pass  # of repr: healthy labels that no calendar has
    assert refused > 100


@only_here
def test_large_arrays_make_no_copy(name: str, child: Start) -> None:
    def program(how: str) -> str:
        return f"""
            import re
            {IMPORT_SHM}
            array = {how}
            array[::4096] += 1
            status = open("/proc/self/status").read()
            own = int(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1])
            print(own < 64 << 10, array.nbytes, array[-4096])
            input()
            """

    processes = []
    for number in range(3):
        how = f"shm.load({name!r})"
        if number == 0:
            how = f"shm.create({name!r}, shm.NdArrayLayout('u1', (256 << 20,)))"
        processes.append(child(program(how)))
        processes[-1].expect(f"True {256 << 20} {number + 1}")
    for process in processes:
        process.say()
        assert process.wait() == 0


@only_here
def test_everything_else_works_without_numpy(name: str, tmp_path: Path) -> None:
    for missing in ("numpy", "pandas", "xarray"):
        (tmp_path / f"{missing}.py").write_text("raise ImportError('not here')")
    program = f"""
{IMPORT_SHM}
shm.create({name!r}, shm.StructLayout({{"a": shm.PickleLayout([1])}}))
assert shm.load({name!r}) == {{"a": [1]}}
queue = shm.ShmMessageQueue.create("{name}-q", 10, 2)
queue.put(1)
for make in (
    lambda: shm.NdArrayLayout("f8", (3,)),
    lambda: shm.SeriesLayout("f8", [1]),
    lambda: shm.DataFrameLayout([("a", "f8")], [1]),
    lambda: shm.DataArrayLayout(["x"], {{}}, "f8", (1,)),
):
    try:
        make()
    except ImportError as err:
        assert "pip install 'ringspan[" in str(err), err
    else:
        raise AssertionError
"""
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode, done.stderr) == (0, "")


@only_here
def test_a_description_that_lies_is_refused(name: str) -> None:
    layout = shm.NdArrayLayout("f8", (4,))
    block = shm.SharedMemory.create(name, layout.size())
    mem = memoryview(block)
    for place in range(8, 32, 8):
        for number in (2**63, 2**64 - 1, 10**6, len(mem) + 1):
            layout.dump(mem)
            struct.pack_into("<Q", mem, place, number)
            if bytes(mem[place : place + 8]) == bytes(8):
                continue
            try:
                shm.load(name)
            except ringspan.RingspanError as err:
                assert name in str(err)
