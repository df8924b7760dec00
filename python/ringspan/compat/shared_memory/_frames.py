"""Layouts of pandas and xarray. What plans their parts and finds them again is `ringspan.array`'s.

The labels are no pickles: whoever loads reads them as arrays and values of the codec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ringspan._exceptions import RingspanError
from ringspan.compat.shared_memory._arrays import Described, needs, split
from ringspan.compat.shared_memory._errors import Damaged, runtime_errors

if TYPE_CHECKING:
    from ringspan._arrays.labelled import Labelled
    from ringspan._arrays.parts import Plan

    _Planner = Callable[[Plan, Any, bool], dict[str, Any]]


class Planned(Described):
    """A layout whose description tells of several parts: data, labels, attributes."""

    _of: ClassVar[str]
    _plan: Plan

    @classmethod
    def _kind(cls) -> tuple[_Planner, type[Labelled[Any]]]:
        """What plans such an object, and the class that builds it again."""
        raise NotImplementedError

    def _take(self, obj: Any) -> None:
        planner, _ = self._kind()
        from ringspan._arrays.parts import Plan, encoded

        name = type(self).__name__
        self._plan = Plan(f"of a {name}")
        with runtime_errors():
            spec = planner(self._plan, obj, False)
            self._meta = encoded(f"the description of a {name}", spec)
        self._length = self._plan.size

    @classmethod
    def _copy_of(cls, obj: Any) -> Self:
        self = cls.__new__(cls)
        self._take(obj)
        return self

    def dump(self, mem: memoryview) -> None:
        """Writes description, labels and initial values."""
        self._dump_head(mem)
        at = self._data_at
        self._plan.write(mem[at : at + self._length])

    @classmethod
    def load(cls, mem: memoryview) -> Any:
        """Returns the object over the memory."""
        meta, at = split(mem, cls)
        _, kind = cls._kind()
        from ringspan._arrays.labelled import VERSION
        from ringspan._arrays.parts import Parts, decoded, entry

        try:
            spec = decoded(meta)
            if (entry(spec, "of", str), spec.get("version")) != (cls._of, VERSION):
                raise ValueError(f"its description is not that of a {cls._of}, version {VERSION}")
            return kind.bind(Parts(mem[at:]), spec, True).value
        except (RingspanError, ImportError, MemoryError):
            raise
        except Exception as err:  # whatever the libraries say of a description that lies
            raise Damaged(f"{cls.__name__}: {err}") from err


class SeriesLayout(Planned):
    """A Series of pandas: zeros, or `init_value`, broadcast.

    `create` and `load` return an ordinary Series; what is written by `.loc` and `.iloc` reaches the
    other processes.
    """

    sign = b"d"
    _of = "series"

    def __init__(self, dtype: Any, index: Any, init_value: Any = None) -> None:
        labels = _labels(needs("pandas", type(self).__name__), index)
        self._take(_series(dtype, labels, init_value))

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """The layout of a copy of a Series, with its labels."""
        return cls._copy_of(data)

    @classmethod
    def _kind(cls) -> tuple[_Planner, type[Labelled[Any]]]:
        needs("pandas", cls.__name__)
        from ringspan._arrays.frames import SharedSeries, plan_series

        return plan_series, SharedSeries


class DataFrameLayout(Planned):
    """A DataFrame of pandas: zeros, or `init_value`, a number or a frame.

    dtypes: pairs of a column's name and dtype; columns of one dtype lie together.

    `create` and `load` return an ordinary DataFrame; what is written by `.loc` and `.iloc` reaches
    the other processes, `frame["a"] = ...` replaces a column.
    """

    sign = b"D"
    _of = "dataframe"

    def __init__(
        self, dtypes: Sequence[tuple[Any, Any]], index: Any, init_value: Any = None
    ) -> None:
        pd = needs("pandas", type(self).__name__)
        if not (init_value is None or isinstance(init_value, (Number, pd.DataFrame))):
            kind = type(init_value).__name__
            raise TypeError(f"init_value is a number or a DataFrame, not {kind}")
        labels, columns = _labels(pd, index), {}
        for number, (name, dtype) in enumerate(dtypes):
            value = init_value
            if isinstance(value, pd.DataFrame):
                value = value[name].reindex(labels) if name in value.columns else None
            columns[number] = _series(dtype, labels, value)
        frame = pd.DataFrame(columns, index=labels, copy=False)
        frame.columns = pd.Index([name for name, _ in dtypes])
        self._take(frame)

    @classmethod
    def from_data(cls, df: Any) -> Self:
        """The layout of a copy of a DataFrame, with its labels."""
        return cls._copy_of(df)

    @classmethod
    def _kind(cls) -> tuple[_Planner, type[Labelled[Any]]]:
        needs("pandas", cls.__name__)
        from ringspan._arrays.frames import SharedDataFrame, plan_frame

        return plan_frame, SharedDataFrame


class DataArrayLayout(Planned):
    """A DataArray of xarray: zeros, or `init_value`, broadcast.

    `create` and `load` return an ordinary DataArray; what is written by `[...]` and `.loc` reaches
    the other processes.
    """

    sign = b"x"
    _of = "dataarray"

    def __init__(
        self,
        dims: Sequence[Any],
        coords: Mapping[Any, Any],
        dtype: Any,
        shape: Sequence[int],
        init_value: Any = None,
    ) -> None:
        xr = needs("xarray", type(self).__name__)
        data = _spread(dtype, tuple(shape), init_value)
        self._take(xr.DataArray(data, dims=dims, coords=coords))

    @classmethod
    def from_data(cls, array: Any) -> Self:
        """The layout of a copy of a DataArray, with its labels."""
        return cls._copy_of(array)

    @classmethod
    def _kind(cls) -> tuple[_Planner, type[Labelled[Any]]]:
        needs("xarray", cls.__name__)
        from ringspan._arrays.datasets import SharedDataArray, plan_array

        return plan_array, SharedDataArray


def _labels(pd: Any, index: Any) -> Any:
    return index if isinstance(index, pd.Index) else pd.Index(index)


def _series(dtype: Any, labels: Any, value: Any) -> Any:
    """A Series of that dtype which takes no memory where its value is one number."""
    pd = needs("pandas", "a Series")
    found = pd.api.types.pandas_dtype(dtype)
    if not hasattr(found, "hasobject"):  # one of pandas' own
        return pd.Series(0 if value is None else value, index=labels, dtype=found)
    return pd.Series(_spread(found, (len(labels),), value), index=labels, copy=False)


def _spread(dtype: Any, shape: tuple[int, ...], value: Any) -> Any:
    """Zeros, or the value as an assignment takes it: what the dtype cannot hold is an error."""
    np = needs("numpy", "an array")
    one = np.zeros(() if value is None else np.shape(value), dtype)
    if value is not None:
        one[...] = value
    return np.broadcast_to(one, shape)
