"""Series and DataFrame of pandas in shared memory."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np

from ringspan._arrays import index as labels
from ringspan._arrays.columns import arrays_of, described, pandas, put_together, taken_apart
from ringspan._arrays.labelled import VERSION, Bound, Labelled, checked, told
from ringspan._arrays.ndarray import NDArray
from ringspan._arrays.parts import Parts, Place, Plan, entry


def plan_series(plan: Plan, series: Any, copies: bool) -> dict[str, Any]:
    """Plans a Series."""
    return {
        "of": "series",
        "version": VERSION,
        "data": described(plan, "the data", series, copies),
        "index": labels.described(plan, "the index", series.index),
        "name": series.name,
        "attrs": dict(series.attrs),
    }


def plan_frame(plan: Plan, frame: Any, copies: bool) -> dict[str, Any]:
    """Plans a DataFrame: columns of one dtype of numpy lie together, a row of a block each."""
    groups: dict[np.dtype[Any], list[int]] = {}
    single: list[tuple[int, dict[str, Any]]] = []
    for number, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, np.dtype) and not dtype.hasobject:
            groups.setdefault(dtype, []).append(number)
        else:
            column = frame.iloc[:, number]
            what = f"column {frame.columns[number]!r}"
            single.append((number, described(plan, what, column, copies)))
    blocks = [_block(plan, frame, dtype, numbers) for dtype, numbers in groups.items()]
    return {
        "of": "dataframe",
        "version": VERSION,
        "rows": len(frame),
        "blocks": blocks,
        "single": [[number, spec] for number, spec in single],
        "index": labels.described(plan, "the index", frame.index),
        "columns": labels.described(plan, "the columns", frame.columns),
        "attrs": dict(frame.attrs),
    }


def _block(plan: Plan, frame: Any, dtype: np.dtype[Any], numbers: list[int]) -> list[Any]:
    place: Place = plan.room(f"columns of {dtype}", dtype, (len(numbers), len(frame)))
    for row, number in enumerate(numbers):
        plan.copy(place, frame.iloc[:, number].to_numpy(), row)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and sum(runs[-1]) == number:
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return [place, runs]


def _attrs(spec: Any) -> dict[Any, Any]:
    attrs: dict[Any, Any] = deepcopy(entry(spec, "attrs", dict))
    return attrs


def _fitting(data: Any, dtype: Any, places: list[NDArray]) -> list[NDArray | None]:
    """The arrays of a Series, for these places; None where they are others now."""
    arrays = []
    if data.dtype == dtype:
        # Without an order, the same categories in another one make the same dtype.
        named = getattr(dtype, "categories", None)
        if named is not None and not data.dtype.categories.equals(named):
            data = data.cat.set_categories(named)
        arrays = taken_apart(data)[1]
    if [array.shape for array in arrays] == [place.shape for place in places]:
        return [*arrays]
    return [None for _ in places]


def _renamed(before: bytes | None, now: bytes | None) -> str | None:
    if now is not None and now == before:
        return None
    return "it has other names or attrs now, and those cannot be shared"


def _freeze(value: Any) -> None:
    """Makes the arrays that pandas has read-only; there is no public way."""
    for data in value._mgr.arrays:
        for array in (data, *(getattr(data, at, None) for at in ("_ndarray", "_data", "_mask"))):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False


class _BoundSeries(Bound[Any]):
    def __init__(self, series: Any, places: list[NDArray], writes: bool) -> None:
        super().__init__(series, writes)
        self._places, self._dtype, self._index = places, series.dtype, series.index
        self._told = self._tell()

    def _tell(self) -> bytes | None:
        series = self.value
        return told([series.name, list(series.index.names), dict(series.attrs)])

    def changes(self) -> str | None:
        if self.value.index is not self._index and not self.value.index.equals(self._index):
            return "the series has other labels now, which cannot be shared"
        return _renamed(self._told, self._tell())

    def freeze(self) -> None:
        _freeze(self.value)

    def pieces(self) -> list[tuple[Any, NDArray | None, NDArray]]:
        now = _fitting(self.value, self._dtype, self._places)
        return [(self.value.name, *pair) for pair in zip(now, self._places, strict=True)]


class SharedSeries(Labelled[Any]):
    """A pandas Series whose data lies in named shared memory; `value` is the Series.

    What is written by `.loc`, `.iloc`, `.at`, `.iat` and `[...]` reaches the other processes, as
    long as pandas writes in place: see `detached`.
    """

    __module__ = "ringspan.array"
    _of = "series"

    @classmethod
    def bind(cls, parts: Parts, spec: dict[str, Any], writes: bool) -> Bound[Any]:
        """Builds it over the parts."""
        pd = pandas()
        places = arrays_of(parts, entry(spec, "data", dict), writes=writes)
        data = put_together(parts, spec["data"], places)
        index = labels.built(parts, spec.get("index")).view()
        series = pd.Series(data, index=index, name=spec.get("name"), dtype=data.dtype, copy=False)
        series.attrs.update(_attrs(spec))
        return checked(_BoundSeries(series, places, writes), pandas())


class _BoundFrame(Bound[Any]):
    def __init__(self, frame: Any, places: list[list[NDArray]], writes: bool) -> None:
        super().__init__(frame, writes)
        self._places, self._dtypes = places, list(frame.dtypes)
        self._index, self._columns = frame.index, frame.columns
        self._told = self._tell()

    def _tell(self) -> bytes | None:
        frame = self.value
        names = [list(axis.names) for axis in (frame.index, frame.columns)]
        return told([names, dict(frame.attrs)])

    def changes(self) -> str | None:
        for axis, now in ((self._columns, self.value.columns), (self._index, self.value.index)):
            if now is not axis and not now.equals(axis):
                return "the frame has other rows or columns now, which cannot be shared"
        return _renamed(self._told, self._tell())

    def freeze(self) -> None:
        _freeze(self.value)

    def pieces(self) -> list[tuple[Any, NDArray | None, NDArray]]:
        every: list[tuple[Any, NDArray | None, NDArray]] = []
        if len(self.value.columns) != len(self._places):
            return every
        for number, places in enumerate(self._places):
            column = self.value.iloc[:, number]
            now = _fitting(column, self._dtypes[number], places)
            label = self._columns[number]
            every += [(label, *pair) for pair in zip(now, places, strict=True)]
        return every

    def detached(self) -> list[Any]:
        if len(self.value.columns) != len(self._places):
            return list(self._columns)
        return list(dict.fromkeys(super().detached()))


class SharedDataFrame(Labelled[Any]):
    """A pandas DataFrame whose data lies in named shared memory; `value` is the DataFrame.

    What is written by `.loc`, `.iloc`, `.at` and `.iat` reaches the other processes, as long as
    pandas writes in place; `df["a"] = ...` replaces a column. See `detached`.
    """

    __module__ = "ringspan.array"
    _of = "dataframe"

    @classmethod
    def bind(cls, parts: Parts, spec: dict[str, Any], writes: bool) -> Bound[Any]:
        """Builds it over the parts."""
        pd = pandas()
        index = labels.built(parts, spec.get("index")).view()
        columns = labels.built(parts, spec.get("columns")).view()
        if len(index) != entry(spec, "rows", int):
            raise ValueError(f"it has {spec['rows']} rows and {len(index)} labels")
        places, data, whole = _columns(parts, spec, len(columns), writes)
        if whole is not None:
            frame = pd.DataFrame(whole.T, index=index, columns=columns, copy=False)
        elif data:
            frame = pd.DataFrame(dict(enumerate(data)), index=index, copy=False)
            frame.columns = columns
        else:
            frame = pd.DataFrame(index=index, columns=columns)
        frame.attrs.update(_attrs(spec))
        return checked(_BoundFrame(frame, places, writes), pandas())


def _numbers(runs: Any, count: int) -> list[int]:
    """The numbers of some of `count` columns, told by their first ones and how many."""
    numbers: list[int] = []
    for start, length in runs:
        if not 0 <= start <= start + length <= count:
            raise ValueError(f"it tells of columns that are not among its {count}")
        numbers += range(start, start + length)
    return numbers


def _columns(
    parts: Parts, spec: Any, count: int, writes: bool
) -> tuple[list[list[NDArray]], list[Any], NDArray | None]:
    """Arrays and data of each column; and the block, if all columns are one."""
    rows, whole = spec["rows"], None
    blocks, single = entry(spec, "blocks", list), entry(spec, "single", list)
    told_of = len(single) + sum(length for _, runs in blocks for _, length in runs)
    if told_of != count:  # before anything is made for each of them
        raise ValueError(f"it has {count} columns and data for {told_of}")
    parts.check_count(count, "columns")
    found = [(parts.array(place, writes=writes), runs) for place, runs in blocks]
    if any(block.shape != (sum(length for _, length in runs), rows) for block, runs in found):
        raise ValueError("a block of its columns has another shape than it should")
    places: list[list[NDArray] | None] = [None] * count
    data: list[Any] = [None] * count
    for block, runs in found:
        numbers = _numbers(runs, count)
        for row, number in zip(block, numbers, strict=True):
            data[number], places[number] = row, [row]
        whole = block if numbers == list(range(count)) else None
    for number, one in single:
        places[number] = arrays_of(parts, one, writes=writes)
        data[number] = put_together(parts, one, places[number] or [])
        if len(data[number]) != rows:
            raise ValueError(f"column {number} of it has {len(data[number])} rows, not {rows}")
        whole = None
    known = [place for place in places if place is not None]
    if len(known) != count:
        raise ValueError(f"it has {count} columns and data for {len(known)}")
    return known, data, whole
