"""The data of a Series, of a column of a frame, of labels: as plain arrays, and back.

| dtype | arrays |
|---|---|
| of numpy, without objects | the values |
| datetime with a zone | the times in UTC |
| period | the ordinals |
| category | the codes; the categories are labels |
| Int64, Float64, boolean ... | the values and the mask |
| text, objects | none: they lie in one process, and others get a copy |
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ringspan._arrays.ndarray import NDArray
from ringspan._arrays.parts import Parts, Plan, entry

MASKED = ("Int", "UInt", "Float", "boolean")


def pandas() -> Any:
    """The module, imported when it is needed."""
    try:
        return import_module("pandas")
    except ImportError as err:
        text = "this array is one of pandas: pip install 'ringspan[pandas]'"
        raise ImportError(text) from err


def taken_apart(data: Any) -> tuple[str, list[NDArray]]:
    """The kind of a Series or Index, and its arrays, copied only where that cannot be avoided."""
    pd, dtype = pandas(), data.dtype
    if isinstance(dtype, np.dtype):
        return ("values", []) if dtype.hasobject else ("numpy", [data.to_numpy()])
    array = data.array
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "zoned", [np.asarray(array.tz_convert(None))]
    if isinstance(dtype, pd.PeriodDtype):
        return "period", [array.asi8]
    if isinstance(dtype, pd.CategoricalDtype):
        return "category", [array.codes]
    if isinstance(dtype, pd.StringDtype):
        return "values", []
    if str(dtype).startswith(MASKED) and hasattr(dtype, "numpy_dtype"):
        values, mask = getattr(array, "_data", None), getattr(array, "_mask", None)
        if isinstance(values, np.ndarray) and isinstance(mask, np.ndarray):
            return "masked", [values, mask]
        zero = dtype.numpy_dtype.type(0)
        return "masked", [
            array.to_numpy(dtype.numpy_dtype, na_value=zero),
            np.asarray(array.isna()),
        ]
    raise TypeError(f"dtype {dtype} cannot be shared; convert it (astype)")


def described(plan: Plan, what: str, data: Any, copies: bool) -> dict[str, Any]:
    """Plans the data of a Series or Index; `copies` allows what others only get a copy of."""
    from ringspan._arrays.index import described as labels

    try:
        kind, arrays = taken_apart(data)
    except TypeError as err:
        raise TypeError(f"array {plan.name}: {what}: {err}") from err
    if kind == "values":
        return values(plan, what, data, copies)
    spec: dict[str, Any] = {"t": kind, "at": [plan.array(what, array) for array in arrays]}
    if kind in ("zoned", "period", "masked"):
        spec["dtype"] = str(data.dtype)
        if not _comes_back(data.dtype):
            raise TypeError(
                f"array {plan.name}: {what}: nothing can be made of the words {spec['dtype']!r}, "
                "such as its time zone; convert it (tz_convert) to one that has a name or offset"
            )
    if kind == "category":
        spec["categories"] = labels(plan, f"categories of {what}", data.array.categories)
        spec["ordered"] = bool(data.array.ordered)
    return spec


def _comes_back(dtype: Any) -> bool:
    try:
        return bool(pandas().api.types.pandas_dtype(str(dtype)) == dtype)
    except (TypeError, ValueError, KeyError):
        return False


def values(plan: Plan, what: str, data: Any, copies: bool) -> dict[str, Any]:
    """Plans text or objects, which others get a copy of."""
    if not copies:
        raise TypeError(
            f"array {plan.name}: {what} is of dtype {data.dtype}: text and objects live in one "
            "process. Convert it (astype('category') shares codes), or allow unshared='copy': then "
            "whoever opens it gets a copy of its own, in which writes reach nobody"
        )
    missing, items = data.isna(), data.tolist()
    if not isinstance(data.dtype, np.dtype):
        items = [None if gone else item for item, gone in zip(items, missing, strict=True)]
    return {"t": "values", "at": plan.packed(what, items), "dtype": str(data.dtype)}


def arrays_of(parts: Parts, spec: Any, *, writes: bool) -> list[NDArray]:
    """The arrays that lie there."""
    if entry(spec, "t", str) == "values":
        return []
    return [parts.array(place, writes=writes) for place in entry(spec, "at", list)]


def put_together(parts: Parts, spec: Any, arrays: list[NDArray]) -> Any:
    """The data, over these arrays: an ndarray, or an array of pandas."""
    from ringspan._arrays.index import built as labels

    pd, kind = pandas(), entry(spec, "t", str)
    if kind == "values":
        return _objects(parts.packed(spec.get("at")), entry(spec, "dtype", str))
    if any(array.ndim != 1 for array in arrays) or len(arrays) != (2 if kind == "masked" else 1):
        raise ValueError("its data is not one row of values")
    if kind == "numpy":
        return arrays[0]
    if kind == "category":
        return _categorical(arrays[0], labels(parts, spec.get("categories")), spec.get("ordered"))
    dtype = pd.api.types.pandas_dtype(entry(spec, "dtype", str))
    if kind == "zoned" and isinstance(dtype, pd.DatetimeTZDtype):
        if arrays[0].dtype != np.dtype(f"M8[{dtype.unit}]"):
            raise ValueError(f"its data is not of dtype {dtype}")
        # There is no public way without a copy.
        return pd.arrays.DatetimeArray._simple_new(arrays[0], dtype=dtype)
    if kind == "period" and isinstance(dtype, pd.PeriodDtype):
        return pd.arrays.PeriodArray(arrays[0], dtype=dtype)
    if kind == "masked" and str(dtype).startswith(MASKED):
        return dtype.construct_array_type()(*arrays, copy=False)
    raise ValueError(f"its data is of an unknown kind, {kind!r}")


def _objects(items: Any, dtype: str) -> Any:
    pd = pandas()
    if not isinstance(items, list):
        raise ValueError("its values are not a list")
    if dtype == "object":
        found = np.empty(len(items), object)
        found[:] = items
        return found
    return pd.array(items, dtype=dtype)


def _categorical(codes: NDArray, categories: Any, ordered: Any) -> Any:
    pd = pandas()
    if codes.dtype.kind != "i":
        raise ValueError("its codes are not integers")
    if codes.size and not -1 <= codes.min() <= codes.max() < len(categories):
        raise ValueError(f"a code of it names none of its {len(categories)} categories")
    dtype = pd.CategoricalDtype(categories, ordered=bool(ordered))
    return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)
