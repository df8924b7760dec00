"""The labels of pandas: planned as parts of a payload, and found there again.

Numbers and times are not copied; they are read-only for everybody. Text and objects are, and so are
codes: pandas does not look whether they name anything, so nobody else may write them later.
"""

from __future__ import annotations

from typing import Any

from ringspan._arrays.columns import arrays_of, pandas, put_together
from ringspan._arrays.columns import described as data_described
from ringspan._arrays.parts import Parts, Plan, encoded, entry


def described(plan: Plan, what: str, index: Any) -> dict[str, Any]:
    """Plans an index of any kind."""
    pd = pandas()
    encoded(f"array {plan.name}: the name of {what}", list(index.names))
    if isinstance(index, pd.MultiIndex):
        return {
            "t": "multi",
            "levels": [
                described(plan, f"level {i} of {what}", level.rename(None))
                for i, level in enumerate(index.levels)
            ],
            "codes": [plan.array(what, codes) for codes in map(_array, index.codes)],
            "names": list(index.names),
        }
    if isinstance(index, pd.RangeIndex):
        return {
            "t": "range",
            "range": [index.start, index.stop, index.step],
            "name": index.name,
        }
    if isinstance(index.dtype, pd.IntervalDtype):
        return {
            "t": "interval",
            "left": described(plan, f"left ends of {what}", index.left.rename(None)),
            "right": described(plan, f"right ends of {what}", index.right.rename(None)),
            "closed": index.closed,
            "name": index.name,
        }
    spec = data_described(plan, what, index, True)
    freq = _freq(index) if spec["t"] in ("numpy", "zoned") else None
    return {**spec, "name": index.name, "freq": freq}


def _freq(index: Any) -> str | None:
    """The step of times in words, where the words say all of it."""
    text: str | None = getattr(index, "freqstr", None)
    if text is None:
        return None
    try:
        again = pandas().tseries.frequencies.to_offset(text)
    except ValueError:
        return None
    return text if again == index.freq else None


def _array(codes: Any) -> Any:
    return codes if hasattr(codes, "flags") else codes.to_numpy()


def built(parts: Parts, spec: Any) -> Any:
    """The index again; the same one for the same parts."""
    known = parts.labels.get(id(spec))
    if known is None:
        known = parts.labels[id(spec)] = _built(parts, spec)
    return known


def _built(parts: Parts, spec: Any) -> Any:
    pd, kind = pandas(), entry(spec, "t", str)
    if kind == "multi":
        return pd.MultiIndex(
            levels=[built(parts, level) for level in entry(spec, "levels", list)],
            codes=[parts.array(place, writes=False).copy() for place in entry(spec, "codes", list)],
            names=entry(spec, "names", list),
        )
    name = spec.get("name")
    if kind == "range":
        start, stop, step = entry(spec, "range", list)
        return pd.RangeIndex(start, stop, step, name=name)
    if kind == "interval":
        left, right = built(parts, spec.get("left")), built(parts, spec.get("right"))
        parts.check_count(max(len(left), len(right)), "ends of intervals")
        closed = entry(spec, "closed", str)
        return pd.IntervalIndex.from_arrays(left, right, closed=closed, name=name)
    arrays = arrays_of(parts, spec, writes=False)
    if kind == "category":
        arrays = [codes.copy() for codes in arrays]
    data = put_together(parts, spec, arrays)
    freq = spec.get("freq")
    if isinstance(freq, str):
        kinds = {"M": pd.DatetimeIndex, "m": pd.TimedeltaIndex}
        of = kinds["M" if kind == "zoned" else data.dtype.kind]
        return of(data, freq=freq, name=name, copy=False)
    return pd.Index(data, dtype=data.dtype, name=name, copy=False)
