"""What a guard for writing does at the end of its block with what was moved or replaced in it."""

from __future__ import annotations

import gc
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


def frame_attrs(t: Any) -> None:
    t.attrs["unit"] = "m"


def nested_attrs(t: Any) -> None:
    t.attrs["of"]["n"] = 2


def index_name(t: Any) -> None:
    t.index.name = "i"


def columns_name(t: Any) -> None:
    t.columns.name = "c"


@pytest.mark.parametrize("change", [frame_attrs, nested_attrs, index_name, columns_name])
def test_names_and_attrs_are_refused(name: str, change: Callable[[Any], None]) -> None:
    source = pd.DataFrame(FRAME)
    source.attrs["of"] = {"n": 1}
    frame = shared.from_array(name, source)
    with pytest.raises(BufferError, match="names or attrs"), frame.blocking_write() as table:
        change(table)
    with frame.blocking_write() as table:
        assert table.attrs == {"of": {"n": 1}}
        assert (table.index.name, table.columns.name) == (None, None)


@pytest.mark.parametrize("columns", [list("abc"), list("abxck")], ids=["one block", "several"])
def test_a_frame_is_read_only_behind_the_block(name: str, columns: list[str]) -> None:
    source = pd.DataFrame(FRAME).assign(
        k=pd.Categorical(["u", "v", "u"]), i=pd.array([1, None, 3], dtype="Int64")
    )
    frame = shared.from_array(name, source[columns])
    with frame.blocking_write() as table:
        table.loc[0, "a"] = 8
    for column, new in zip(columns, [1, 1, 0.0, 1, "v", 1], strict=False):
        with pytest.raises(ValueError, match="read-only"):
            table.loc[0, column] = new
    assert frame.value.loc[0, "a"] == 8


def test_the_table_of_a_dropped_guard_keeps_the_lock(name: str) -> None:
    frame = shared.from_array(name, pd.DataFrame(FRAME))
    other = shared.open(name)
    table = frame.blocking_write().value
    gc.collect()
    assert other.try_write() is None
    table.loc[0, "a"] = 8
    del table
    gc.collect()
    with other.blocking_write(timeout=0) as found:
        assert found.loc[0, "a"] == 8
