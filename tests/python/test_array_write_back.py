"""What a guard for writing does at the end of its block with what was moved or replaced in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ringspan.array as shared

pd = pytest.importorskip("pandas")

FRAME = {"a": [1, 2, 3], "b": [4, 5, 6], "x": [0.5, 1.5, 2.5], "c": [7, 8, 9]}


def swap(t: Any) -> None:
    t["a"], t["b"] = t["b"], t["a"]


def rotate(t: Any) -> None:
    t["a"], t["b"], t["c"] = t["b"], t["c"], t["a"]


def alias_then_zero(t: Any) -> None:
    t["b"] = t["a"]
    t.loc[:, "a"] = 0


def reverse(t: Any) -> None:
    t["a"] = t["a"].to_numpy()[::-1]


def one_for_two(t: Any) -> None:
    t["a"] = t["b"] = t["c"]


@pytest.mark.parametrize("change", [swap, rotate, alias_then_zero, reverse, one_for_two])
@pytest.mark.parametrize("columns", [list("abc"), list("abxc")], ids=["one block", "several"])
def test_columns_that_changed_places(
    name: str, columns: list[str], change: Callable[[Any], None]
) -> None:
    source = pd.DataFrame(FRAME)[columns]
    frame = shared.from_array(name, source)
    with frame.blocking_write() as table:
        change(table)
        wanted = table.copy()
    assert not wanted.equals(source)
    pd.testing.assert_frame_equal(shared.open(name).value, wanted)


def test_what_changed_places_is_detached(name: str) -> None:
    frame = shared.from_array(name, pd.DataFrame(FRAME))
    assert frame.detached() == []
    a, b = frame.value["a"].array, frame.value["b"].array
    frame.value["a"] = pd.Series(b, copy=False)
    frame.value["b"] = pd.Series(a, copy=False)
    assert frame.detached() == ["a", "b"]


def test_a_series_turned_round(name: str) -> None:
    series = shared.from_array(name, pd.Series([1, 2, 3]))
    with series.blocking_write() as s:
        s.iloc[:] = s.to_numpy()[::-1].copy()
    assert shared.open(name).value.tolist() == [3, 2, 1]


def test_one_row(name: str) -> None:
    frame = shared.from_array(name, pd.DataFrame({"a": [1], "b": [2], "x": [0.5]}))
    assert frame.detached() == []
    with frame.blocking_write() as table:
        table["a"], table["b"] = table["b"], table["a"]
    assert shared.open(name).value.iloc[0].tolist() == [2, 1, 0.5]


def test_categories_in_another_order(name: str) -> None:
    frame = shared.from_array(
        name, pd.DataFrame({"k": pd.Categorical(["x", "y", None, "x"]), "n": range(4)})
    )
    with frame.blocking_write() as table:
        table["k"] = pd.Categorical(["y", "y", "x", None], categories=["y", "x"])
    found = shared.open(name).value["k"]
    assert found.astype(object).where(found.notna(), None).tolist() == ["y", "y", "x", None]
    assert found.cat.categories.tolist() == ["x", "y"]


def test_nothing_is_written_where_something_does_not_fit(name: str) -> None:
    frame = shared.from_array(name, pd.DataFrame(FRAME))
    with pytest.raises(BufferError, match="'b'"), frame.blocking_write() as table:
        table["a"] = [9, 9, 9]
        table["b"] = ["x", "y", "z"]
    assert shared.open(name).value["a"].tolist() == [1, 2, 3]
    assert np.array_equal(shared.open(name).value["b"], [4, 5, 6])
