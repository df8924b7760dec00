"""What a guard for writing does at the end of its block with a Dataset or DataArray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ringspan.array as shared

xr = pytest.importorskip("xarray")
pd = pytest.importorskip("pandas")


def dataset() -> Any:
    return xr.Dataset(
        {
            "a": ("x", [1, 2, 3], {"units": "m"}),
            "b": ("x", [4, 5, 6]),
            "m": (("x", "y"), np.arange(9).reshape(3, 3)),
        },
        coords={"x": [10, 20, 30], "y": [1, 2, 3], "aux": ("x", [0.1, 0.2, 0.3])},
        attrs={"k": 1, "nested": {"n": 1}},
    )


def swap(d: Any) -> None:
    d["a"], d["b"] = ("x", d["b"].values), ("x", d["a"].values)


def reverse(d: Any) -> None:
    d["a"].values = d["a"].values[::-1]


def transpose(d: Any) -> None:
    d["m"] = (("x", "y"), d["m"].values.T)


@pytest.mark.parametrize("change", [swap, reverse, transpose])
def test_what_changed_places(name: str, change: Callable[[Any], None]) -> None:
    made = shared.from_array(name, dataset())
    with made.blocking_write() as d:
        change(d)
        wanted = d.copy(deep=True)
    assert not wanted.equals(dataset())
    xr.testing.assert_equal(shared.open(name).value, wanted)
    assert shared.open(name).value["a"].attrs == {"units": "m"}


def test_a_dataarray_turned_round(name: str) -> None:
    made = shared.from_array(name, xr.DataArray([1, 2, 3], dims="x"))
    with made.blocking_write() as array:
        array.values = array.values[::-1]
    assert shared.open(name).value.values.tolist() == [3, 2, 1]
    made.value.values = made.value.values[::-1]
    assert made.detached() == [None]


def new_variable(d: Any) -> None:
    d["new"] = ("x", [1, 1, 1])


def no_variable(d: Any) -> None:
    del d["a"]


def labels(d: Any) -> None:
    d["x"] = [7, 8, 9]


def attrs(d: Any) -> None:
    d.attrs["k"] = 2


def nested(d: Any) -> None:
    d.attrs["nested"]["n"] = 2


def variable_attrs(d: Any) -> None:
    d["a"].attrs["units"] = "km"


def dimensions(d: Any) -> None:
    d["m"] = (("y", "x"), d["m"].values * 2)


def coordinate(d: Any) -> None:
    d.coords["t"] = 7


def odd(d: Any) -> None:
    d["b"].attrs["odd"] = object()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (new_variable, "other variables"),
        (no_variable, "other variables"),
        (labels, "other labels"),
        (attrs, "other attrs"),
        (nested, "other attrs"),
        (variable_attrs, "other attrs"),
        (dimensions, "other dimensions"),
        (coordinate, "other variables"),
        (odd, "other attrs"),
    ],
)
def test_what_nobody_else_would_get_is_refused(
    name: str, change: Callable[[Any], None], match: str
) -> None:
    made = shared.from_array(name, dataset())
    with pytest.raises(BufferError, match=match), made.blocking_write() as d:
        change(d)
    assert made.holders() == []
    with made.blocking_write() as d:
        xr.testing.assert_identical(d, dataset())


def test_the_name_of_a_dataarray(name: str) -> None:
    made = shared.from_array(name, xr.DataArray([1, 2, 3], dims="x", name="n"))
    with pytest.raises(BufferError, match="other name"), made.blocking_write() as array:
        array.name = "other"


def test_it_is_read_only_behind_the_block(name: str) -> None:
    made = shared.from_array(name, dataset())
    with made.blocking_write() as d:
        d["a"][0] = 8
    for variable in ("a", "aux"):
        with pytest.raises(ValueError, match=r"read-only|is a view"):
            d[variable][0] = 9
    assert made.value["a"].values.tolist() == [8, 2, 3]
