"""Arrays with labels: what labels keep, and descriptions that lie."""

from __future__ import annotations

import datetime
import tracemalloc
from typing import Any

import numpy as np
import pytest
import ringspan
import ringspan.array as shared
from ringspan._arrays.parts import Plan, decoded, encoded
from ringspan._ringspan import _Block

pd = pytest.importorskip("pandas")


def test_steps_of_times_are_kept_or_left_out(name: str) -> None:
    offsets = pd.offsets
    for number, (freq, kept) in enumerate(
        [
            ("D", True),
            ("W", True),
            (offsets.BusinessDay(), True),
            (offsets.CustomBusinessDay(holidays=["2020-01-03"]), False),
            (offsets.BusinessHour(start="10:00", end="20:00"), False),
            (offsets.DateOffset(months=1), False),
            (offsets.FY5253(weekday=4, startingMonth=8), None),
        ]
    ):
        index = pd.date_range("2020", periods=4, freq=freq)
        one = f"{name}-{number}"
        found = shared.from_array(one, pd.Series(range(4), index=index)) and shared.open(one)
        again = found.value.index
        assert again.equals(index)
        assert again.freq in (None, index.freq)
        if kept is not None:
            assert (again.freq == index.freq) is kept


class Odd(datetime.tzinfo):
    def utcoffset(self, when: Any) -> datetime.timedelta:
        return datetime.timedelta(hours=1)

    def dst(self, when: Any) -> datetime.timedelta:
        return datetime.timedelta(0)

    def tzname(self, when: Any) -> str:
        return "Odd"


def test_zones_that_nobody_knows_are_refused(name: str) -> None:
    times = pd.Series(pd.to_datetime(["2020", "2021"]).tz_localize(Odd()))
    with pytest.raises(TypeError, match=f"{name}: column 't'.*time zone"):
        shared.from_array(name, times.to_frame("t"))
    with pytest.raises(TypeError, match=f"{name}: the index.*time zone"):
        shared.from_array(name, pd.Series([1, 2], index=pd.DatetimeIndex(times)))
    with pytest.raises(ringspan.NotFound):
        shared.open(name)


def lie(name: str, source: Any, change: Any) -> None:
    shared.from_array(f"{name}-true", source)
    whole = _Block.open(f"{name}-true")
    spec = decoded(whole.meta)
    change(spec)
    _Block.create(name, len(whole), meta=encoded("", spec), data=whole)


def test_a_description_of_too_many_columns_takes_no_memory(name: str) -> None:
    def many(spec: Any) -> None:
        spec["columns"] = {"t": "range", "range": [0, 1 << 24, 1], "name": None}

    def told(spec: Any) -> None:
        many(spec)
        spec["blocks"][0][1] = [[0, 1 << 24]]

    for number, change in enumerate((many, told)):
        lie(f"{name}-{number}", pd.DataFrame(np.zeros((2, 2))), change)
        tracemalloc.start()
        with pytest.raises(ringspan.Damaged, match=r"16777216 columns|another shape"):
            shared.open(f"{name}-{number}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 24


def test_columns_without_rows_are_bounded_by_the_bytes(name: str) -> None:
    many = 1 << 28

    def columns(spec: Any) -> None:
        dtype = np.dtype("f8")
        spec["blocks"] = [[Plan("").room("", dtype, (many, 0)), [[0, many]]]]
        spec["columns"]["range"] = [0, many, 1]

    def intervals(spec: Any) -> None:
        ends = {"t": "range", "range": [0, many, 1], "name": None}
        spec["columns"] = {"t": "interval", "left": ends, "right": ends, "closed": "left"}

    for number, change in enumerate((columns, intervals)):
        lie(f"{name}-{number}", pd.DataFrame(np.zeros((0, 2))), change)
        tracemalloc.start()
        with pytest.raises(ringspan.Damaged, match=f"{many} (columns|ends)"):
            shared.open(f"{name}-{number}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10_000_000
    wide = pd.DataFrame(np.zeros((0, 60_000)))
    shared.from_array(f"{name}-wide", wide)
    assert shared.open(f"{name}-wide").value.shape == (0, 60_000)


def test_parts_begin_at_multiples_of_64(name: str) -> None:
    def shift(spec: Any) -> None:
        spec["blocks"][0][0][0] = 8

    lie(name, pd.DataFrame(np.zeros((20, 2))), shift)
    with pytest.raises(ringspan.Damaged, match="begins at 8, which is no multiple of 64"):
        shared.open(name)


def test_a_type_that_pandas_does_not_have_is_damage(name: str) -> None:
    def text(spec: Any) -> None:
        meta = spec["data"]["at"][0][1]
        spec["data"]["at"][0][1] = meta.replace(b"\xa3<i8", b"\xa3<U2")

    lie(name, pd.Series([1, 2, 3]), text)
    with pytest.raises(ringspan.Damaged, match=name):
        shared.open(name)


def test_closed_is_not_damaged(name: str) -> None:
    lock = ringspan.RwLock(f"{name}-lock", 0)
    for number, one in enumerate((None, lock)):
        frame = shared.from_array(f"{name}-{number}", pd.DataFrame({"a": [1, 2]}), lock=one)
        guard = frame.blocking_write()
        frame.close()
        with pytest.raises(ringspan.HandleClosed), guard:
            pass
        with pytest.raises(ringspan.HandleClosed), frame.blocking_read():
            pass
    assert lock.holders() == []
    lock.remove()


def test_an_index_over_another_name_is_refused(name: str) -> None:
    xr = pytest.importorskip("xarray")
    source = xr.DataArray([1, 2], dims="x", coords={"c": ("x", [5, 6])}).set_xindex("c")
    with pytest.raises(TypeError, match="coordinate 'c'"):
        shared.from_array(name, source)
    with pytest.raises(ringspan.NotFound):
        shared.open(name)


def test_a_level_may_be_called_data(name: str) -> None:
    xr = pytest.importorskip("xarray")
    index = pd.MultiIndex.from_product([["p", "q"], [1, 2]], names=["data", "k"])
    coords = xr.Coordinates.from_pandas_multiindex(index, "x")
    source = xr.DataArray([1, 2, 3, 4], dims="x", coords=coords)
    shared.from_array(name, source)
    xr.testing.assert_identical(shared.open(name).value, source)
