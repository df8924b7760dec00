"""Arrays in named shared memory: of numpy, pandas and xarray, without a copy.

    # one process                                   # another one
    arr = ringspan.array.create("/a", "f8", (3, 5))  arr = ringspan.array.open("/a")
    async with arr.write() as a:                     seen = arr.version
        a += 1                                       seen = await arr.changed(seen)
    arr.notify()                                     print(arr.sum())

The lock (`read`, `write`) and the version (`notify`, `changed`) belong to each array and are there
for those who use them. An array lives until `remove`, as everything of ringspan does.
"""

from __future__ import annotations

import sys
from operator import index
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias

try:
    import numpy as np
except ImportError as _err:
    raise ImportError("ringspan.array needs numpy: pip install 'ringspan[arrays]'") from _err

from ringspan._arrays.held import Acquire, Held
from ringspan._arrays.labelled import Labelled, description_of
from ringspan._arrays.ndarray import PLAIN, Array, is_fortran, make, settled
from ringspan._arrays.parts import Plan
from ringspan._arrays.shared import Shared, checked_lock, mismatch
from ringspan._exceptions import AlreadyExists, InvalidOption, NotFound
from ringspan._ringspan import RwLock, _Block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, DTypeLike

    from ringspan._arrays.datasets import SharedDataArray, SharedDataset
    from ringspan._arrays.frames import SharedDataFrame, SharedSeries

    _AnyShared: TypeAlias = Array | SharedSeries | SharedDataFrame | SharedDataArray | SharedDataset
    _Unshared: TypeAlias = Literal["refuse", "copy"]

# How often a name may change under an opener before it gives up.
_REOPENS = 64


def create(
    name: str,
    dtype: DTypeLike,
    shape: SupportsIndex | Iterable[SupportsIndex],
    *,
    order: Literal["C", "F"] = "C",
    fill: ArrayLike | None = None,
    lock: RwLock | None = None,
    mode: int = 0o600,
    ephemeral: bool = False,
) -> Array:
    """Makes a new numpy array of zeros. Nobody ever sees it unfinished: its name comes last.

    dtype: any but Python objects: numbers of both byte orders, text of a fixed width, datetime64,
        structured types.
    order: "F" where the first index moves fastest.
    fill: what it begins with, broadcast to its shape.
    lock: a lock to be taken by `read` and `write` in place of the array's own, so that several
        arrays change together; whoever opens it has to name the same one.
    mode: permission bits of the file.
    ephemeral: the last one out removes it.

    Raises:
        AlreadyExists: the name is taken.
        TypeError: the elements are Python objects.
        InvalidName, InvalidOption, NoSpace: what cannot be met.

    Example:
        arr = ringspan.array.create("/a", "f8", (3, 5), fill=1)

    """
    sizes = _shape(shape)
    return make(name, dtype, sizes, is_fortran(order), fill, lock, mode, ephemeral)


def open_or_create(
    name: str,
    dtype: DTypeLike,
    shape: SupportsIndex | Iterable[SupportsIndex],
    *,
    order: Literal["C", "F"] = "C",
    fill: ArrayLike | None = None,
    lock: RwLock | None = None,
    mode: int = 0o600,
    ephemeral: bool = False,
) -> Array:
    """Opens the numpy array, or makes it when there is none; arguments as `create`.

    Raises:
        Mismatch: it exists with another dtype, shape or order.

    Example:
        arr = ringspan.array.open_or_create("/a", "f8", (3, 5))

    """
    fortran = is_fortran(order)
    wanted, sizes = settled(dtype, _shape(shape))
    for _ in range(_REOPENS):
        try:
            found = open(name, lock=lock)
        except NotFound:
            pass
        else:
            return _same(name, found, wanted, sizes, fortran)
        try:
            return make(name, wanted, sizes, fortran, fill, lock, mode, ephemeral)
        except AlreadyExists:
            pass
    raise mismatch(name, "the name keeps being removed and made anew")


def open(  # noqa: A001 # as everywhere in ringspan
    name: str, *, lock: RwLock | None = None, readonly: bool = False
) -> _AnyShared:
    """Opens an array that exists, of the class that its creator made.

    An `Array` of numpy, a `SharedSeries`, `SharedDataFrame`, `SharedDataArray`, `SharedDataset`.

    lock: what its creator named, if anything.
    readonly: nothing can be written through this handle. A matter of care and no protection: who
        may open it may write.

    Raises:
        NotFound: no array of that name.
        Mismatch: another kind of object.
        Damaged: its description does not fit the bytes, or was overwritten.
        ImportError: it needs pandas or xarray.

    Example:
        arr = ringspan.array.open("/a")

    """
    checked_lock(name, lock)
    block = _Block.open(name)
    if block.meta[:1] == PLAIN:
        return Array(block, lock, readonly)
    return _laid_over(block, lock, readonly)


def from_array(
    name: str,
    obj: Any,
    *,
    unshared: _Unshared = "refuse",
    lock: RwLock | None = None,
    mode: int = 0o600,
    ephemeral: bool = False,
) -> _AnyShared:
    """Makes a shared array with the content of `obj`, copied once, with all labels and attributes.

    obj: an array of numpy or whatever `numpy.asarray` takes (order and dtype are kept), a Series
        or DataFrame of pandas, a DataArray or Dataset of xarray.
    unshared: what becomes of columns of text and objects, which live in one process: "refuse"
        raises TypeError; with "copy" whoever opens the array gets a copy of its own, in which
        writes reach nobody. Labels may be of any type.
    lock, mode, ephemeral: as in `create`.

    Raises:
        AlreadyExists: the name is taken.
        TypeError: something in it cannot be shared; says what.
        InvalidName, InvalidOption, NoSpace: what cannot be met.

    Example:
        frame = ringspan.array.from_array("/f", df)
        frame.value.loc[0, "a"] = 1

    """
    if unshared not in ("refuse", "copy"):
        raise InvalidOption(f"unshared {unshared!r}: 'refuse' or 'copy' is wanted")
    checked_lock(name, lock)
    plan, copies = Plan(name), unshared == "copy"
    kind = _kind(obj)
    if kind == "array":
        source = _plain(name, obj)
        fortran = source.flags.f_contiguous and not source.flags.c_contiguous
        return make(name, source.dtype, source.shape, fortran, source, lock, mode, ephemeral)
    description = _planned(kind, plan, obj, copies)
    of = _class_of(name, description["of"])
    block = plan.make(description, lambda parts, spec: of.bind(parts, spec, True), mode, ephemeral)
    return _laid_over(block, lock, False)


def _planned(kind: str, plan: Plan, obj: Any, copies: bool) -> dict[str, Any]:
    """The description of an object with labels; its parts are planned."""
    if kind in ("Series", "DataFrame"):
        from ringspan._arrays import frames

        return (frames.plan_series if kind == "Series" else frames.plan_frame)(plan, obj, copies)
    from ringspan._arrays import datasets

    planned = datasets.plan_array if kind == "DataArray" else datasets.plan_dataset
    return planned(plan, obj, copies)


def _laid_over(block: _Block, lock: RwLock | None, readonly: bool) -> _AnyShared:
    description = description_of(block)
    made: _AnyShared = _class_of(block.name, description["of"])(block, lock, readonly, description)
    return made


def _shape(shape: SupportsIndex | Iterable[SupportsIndex]) -> tuple[int, ...]:
    if isinstance(shape, SupportsIndex):
        return (index(shape),)
    return tuple(index(n) for n in shape)


def _same(
    name: str, found: _AnyShared, dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool
) -> Array:
    """What was found, if it is what was wanted."""
    if not isinstance(found, Array):
        raise mismatch(name, f"it is a {type(found).__name__}, not an Array")
    # In an array of one dimension, or none, both orders are the same.
    other = found.flags.c_contiguous if fortran else found.flags.f_contiguous
    if found.dtype != dtype or found.shape != shape:
        text = f"{dtype} of shape {shape} was asked for, it is {found.dtype} of {found.shape}"
        raise mismatch(name, text)
    if other and not _both(found):
        asked, has = ("F", "C") if fortran else ("C", "F")
        raise mismatch(name, f"order {asked!r} was asked for, it is of order {has!r}")
    return found


def _both(array: Array) -> bool:
    return bool(array.flags.c_contiguous and array.flags.f_contiguous)


def _kind(obj: Any) -> str:
    """What `obj` is: nothing is imported that its program has not imported."""
    for module, names in (
        ("pandas", ("Series", "DataFrame")),
        ("xarray", ("DataArray", "Dataset")),
    ):
        known = sys.modules.get(module)
        for name in names:
            if known is not None and isinstance(obj, getattr(known, name, ())):
                return name
    return "array"


def _plain(name: str, obj: Any) -> np.ndarray[Any, Any]:
    if isinstance(obj, np.ma.MaskedArray):
        text = f"array {name}: the mask would be lost; share data and mask as two arrays"
        raise TypeError(text)
    if hasattr(obj, "__dlpack__") and not hasattr(obj, "__array__"):
        return np.from_dlpack(obj)
    return np.asarray(obj)


def _class_of(name: str, of: str) -> type[Any]:
    if of in ("series", "dataframe"):
        from ringspan._arrays import frames

        return frames.SharedSeries if of == "series" else frames.SharedDataFrame
    if of in ("dataarray", "dataset"):
        from ringspan._arrays import datasets

        return datasets.SharedDataArray if of == "dataarray" else datasets.SharedDataset
    raise mismatch(name, f"it is of a kind that this ringspan does not know, {of!r}")


def __getattr__(name: str) -> Any:
    if name in ("SharedSeries", "SharedDataFrame"):
        from ringspan._arrays import frames

        return getattr(frames, name)
    if name in ("SharedDataArray", "SharedDataset"):
        from ringspan._arrays import datasets

        return getattr(datasets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Acquire",
    "Array",
    "Held",
    "Labelled",
    "Shared",
    "SharedDataArray",
    "SharedDataFrame",
    "SharedDataset",
    "SharedSeries",
    "create",
    "from_array",
    "open",
    "open_or_create",
]
