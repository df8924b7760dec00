"""DataArray and Dataset of xarray in shared memory: coordinates, attributes, writes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import ringspan
import ringspan.array as shared
from ringspan._arrays.parts import decoded, encoded
from ringspan._ringspan import _Block

xr = pytest.importorskip("xarray")
pd = pytest.importorskip("pandas")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def example() -> Any:
    return xr.DataArray(
        np.arange(24.0).reshape(2, 3, 4).transpose(0, 2, 1),
        dims=("x", "t", "y"),
        coords={
            "x": ("x", [10, 20], {"units": "m"}),
            "t": pd.date_range("2020", periods=4, freq="D"),
            "y": ["a", "bb", "ä"],
            "area": (("x", "y"), np.ones((2, 3)), {"of": (1, 2)}),
            "run": 7,
            "label": ("y", np.array(["p", "q", "r"], object)),
        },
        attrs={"title": "t", "steps": [1, 2.5, None], "table": np.arange(3)},
        name="field",
    )


def identical(one: Any, other: Any) -> None:
    xr.testing.assert_identical(one, other)
    assert list(one.coords) == list(other.coords)
    assert type(one.xindexes) is type(other.xindexes)
    assert list(one.xindexes) == list(other.xindexes)


def test_a_dataarray_is_shared_with_all_it_has(name: str, child: Any) -> None:
    source = example()
    made, other = shared.from_array(name, source), shared.open(name)
    assert isinstance(made, shared.SharedDataArray)
    for one in (made, other):
        identical(one.value, source)
        assert one.detached() == []
    code = """
        import sys, ringspan
        array = ringspan.array.open(sys.argv[1])
        array.value.loc[10, "2020-01-02", "bb"] = -1
        array.value[1, 2] = -2
        array.value.values[0, 0, 0] = -3
        array.value.coords["area"][0, 1] = 5
        array.value.coords["run"][...] = 8
        assert array.detached() == []
        array.notify()
        """
    child(code, name).finish()
    source.loc[10, "2020-01-02", "bb"] = -1
    source[1, 2] = -2
    source.values[0, 0, 0] = -3
    source.coords["area"].values[0, 1] = 5
    source.coords["run"].values[...] = 8
    for one in (made, other):
        identical(one.value, source)
        assert one.version == 1


@pytest.mark.parametrize(
    "dtype", ["f4", ">f8", "i2", "?", "c8", "S4", "U3", "M8[ns]", "M8[s]", "m8[ns]"]
)
def test_dtypes(name: str, dtype: str) -> None:
    values = np.array([[0, 1], [2, 3]], "i8").astype(dtype)
    source = xr.DataArray(values, dims=("a", "b"), coords={"c": ("a", values[0])})
    made, other = shared.from_array(name, source), shared.open(name)
    identical(other.value, source)
    assert other.value.dtype == source.dtype
    made.value[0, 1] = made.value[1, 1]
    assert other.value.values[0, 1] == values[1, 1]


def test_a_dataset_is_shared(name: str, run: Run) -> None:
    source = xr.Dataset(
        {"field": example().reset_coords(drop=True), "n": ("x", [1, 2], {"a": 1}), "z": 3.5},
        coords={"x": [1, 2], "s": ("x", np.zeros(2))},
        attrs={"history": ["a", ("b", 2)]},
    )
    made, other = shared.from_array(name, source), shared.open(name)
    assert isinstance(made, shared.SharedDataset)
    identical(other.value, source)

    async def use() -> None:
        async with made.write() as ds:
            ds["field"].loc[{"x": 1}] = 0
            ds["n"] = ("x", [5, 6])
            ds["z"][...] = 1.25
            ds.coords["s"][0] = 4
            assert other.try_read() is None
        async with other.read() as ds:
            assert (ds["n"].values.tolist(), float(ds["z"])) == ([5, 6], 1.25)
            with pytest.raises(ValueError, match="read-only|is a view"):
                ds["n"][0] = 1

    run(use())
    source["field"].loc[{"x": 1}] = 0
    source["n"] = ("x", [5, 6], {"a": 1})
    source["z"][...] = 1.25
    source.coords["s"].values[0] = 4
    for one in (made, other):
        identical(one.value, source)
        assert one.detached() == []
    made.value["n"] = ("x", [7, 8])
    assert made.detached() == ["n"]
    with pytest.raises(BufferError, match="shape"), made.blocking_write() as ds:
        ds["more"] = ("w", [1, 2, 3])
    with pytest.raises(BufferError, match=r"\['n'\]"), made.blocking_write() as ds:
        ds["n"] = ("x", [0.5, 1.5])
    assert other.holders() == []
    identical(other.value, source)


def test_indexes_of_many_levels_and_none(name: str) -> None:
    index = pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["p", "q"])
    coords = xr.Coordinates.from_pandas_multiindex(index, "x")
    source = xr.DataArray(np.zeros(4), dims="x", coords=coords)
    source.coords["p"].attrs["units"] = "m"
    made, other = shared.from_array(name, source), shared.open(name)
    identical(other.value, source)
    assert other.value.coords["p"].attrs == {"units": "m"}
    made.value.loc[{"p": 2, "q": "b"}] = 5
    assert other.value.values.tolist() == [0, 0, 0, 5]
    bare = xr.DataArray(np.zeros(2), dims="x", coords={"x": [1, 2]}).drop_indexes("x")
    shared.from_array(f"{name}-bare", bare)
    identical(shared.open(f"{name}-bare").value, bare)
    dataset = source.to_dataset(name="v")
    shared.from_array(f"{name}-set", dataset)
    identical(shared.open(f"{name}-set").value, dataset)


@pytest.mark.parametrize(
    "source",
    [xr.DataArray(2.5), xr.DataArray(np.zeros((0, 3))), xr.Dataset(), xr.Dataset(attrs={"a": 1})],
    ids=["0-d", "empty", "nothing", "attributes"],
)
def test_small_ones(name: str, source: Any) -> None:
    made, other = shared.from_array(name, source), shared.open(name)
    for one in (made, other):
        identical(one.value, source)
        with one.blocking_write():
            pass


def test_what_cannot_be_shared(name: str) -> None:
    texts = xr.DataArray(np.array(["a", "bcd"], object), dims="x", name="t")
    with pytest.raises(TypeError, match=f"array {name}: the data.*unshared='copy'"):
        shared.from_array(name, texts)
    with pytest.raises(TypeError, match="variable 't'"):
        shared.from_array(name, texts.to_dataset())
    with pytest.raises(TypeError, match="description"):
        shared.from_array(name, xr.DataArray(1.0, attrs={"a": object()}))
    with pytest.raises(ringspan.NotFound):
        shared.open(name)
    shared.from_array(name, texts, unshared="copy")
    identical(shared.open(name).value, texts)


def test_descriptions_that_lie_do_no_harm(name: str) -> None:
    shared.from_array(name, example().to_dataset())
    whole = _Block.open(name)
    refused = 0
    for seed in range(200):
        spec = decoded(whole.meta)
        random = np.random.default_rng(seed)
        where = [spec, spec["variables"][0][1], spec["coords"][seed % len(spec["coords"])][1]]
        at = where[random.integers(3)]
        key = list(at)[random.integers(len(at))]
        at[key] = [None, -1, "x", [], {}, [0, 1 << 40], [1 << 62, b""]][random.integers(7)]
        liar = f"{name}-{seed}"
        _Block.create(liar, len(whole), meta=encoded("", spec), data=whole)
        try:
            repr(shared.open(liar).value)
        except (ringspan.Damaged, ringspan.Mismatch) as err:
            assert liar in str(err)
            refused += 1
        ringspan.remove(liar)
    assert refused > 100
