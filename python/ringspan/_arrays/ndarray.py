"""numpy arrays in shared memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeAlias

import numpy as np

from ringspan._arrays.held import lent
from ringspan._arrays.shared import Shared, checked_lock, damaged, mismatch
from ringspan._exceptions import InvalidOption, RingspanError
from ringspan._ringspan import Guard, RwLock, _array_meta, _array_over, _Block

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike
    from typing_extensions import Buffer

PLAIN = b"\x93"  # how the meta of a lone array begins: of three, type, shape, order

NDArray: TypeAlias = np.ndarray[Any, Any]


class Array(np.ndarray[Any, Any], Shared[NDArray]):
    """A numpy array whose bytes lie in named shared memory, from `create`, `open` and `from_array`.

    It is an ndarray, so whatever takes one takes it, without a copy: numpy, the buffer protocol,
    the array interface, DLPack (`torch.from_dlpack`, `jax.dlpack`). What is indexed or computed is
    a plain array; `arr.T` and other views are an `Array` without a name. Views keep the memory.

    Pickles by name: what comes out is the array of that name, as it is then.

    Example:
        arr = ringspan.array.create("/a", "f8", (3, 5))
        arr[0] = 1
        arr.notify()

    """

    __module__ = "ringspan.array"

    def __new__(cls, block: _Block, lock: RwLock | None = None, readonly: bool = False) -> Self:
        """Lays the array over a block; use `ringspan.array.open`."""
        self = over(block).view(cls)
        self.flags.writeable = not readonly
        self._block, self._lock = block, lock
        return self

    @property
    def shared_name(self) -> str:
        """The name, with its slash. Not `name`: pandas and xarray would take it for a label."""
        return self._named().name

    @property
    def value(self) -> NDArray:
        """The same memory as a plain ndarray."""
        return self.view(np.ndarray)

    def _is_readonly(self) -> bool:
        return not self.flags.writeable

    def _loan(self, guard: Guard, writes: bool) -> _Loan:
        return _Loan(self, guard, writes)

    def __array_finalize__(self, obj: NDArray | None, /) -> None:
        """Views and copies have no name: `_block` is that of the class, None."""

    def __array_wrap__(
        self, array: NDArray, context: Any = None, return_scalar: bool = False
    ) -> Any:
        """Results are plain arrays and scalars."""
        if array is self:
            return self
        return array[()] if return_scalar or array.ndim == 0 else array.view(np.ndarray)

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return found.view(np.ndarray) if isinstance(found, Array) else found

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self._block is None:
            return self.view(np.ndarray).__reduce_ex__(protocol)
        return _again, (self._block.name, self._lock, not self.flags.writeable)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __copy__(self) -> Any:
        return self.view(np.ndarray).copy()

    def __deepcopy__(self, memo: Any, /) -> Any:
        return self.view(np.ndarray).copy()


class _Loan:
    """An array of its own over the memory; the views made of it can be counted.

    `value` is a view of `root`, and numpy gives every view of `value` the base `root` as well: so
    the references to `root` tell how many live. Rows of a structured array refer to `value`, as do
    its names, of which one is allowed. All of them hold the lock, by the lender.
    """

    def __init__(self, array: Array, guard: Guard, writes: bool) -> None:
        block = array._named()
        self._name = block.name
        self._root = over(block, lent(block, guard, writes))
        self.value: NDArray = self._root[...]
        self._before = self._references()

    def _references(self) -> tuple[int, int]:
        return sys.getrefcount(self._root), sys.getrefcount(self.value)

    def end(self, release: Callable[[], None], failed: bool) -> str | None:
        views, others = (
            now - before for now, before in zip(self._references(), self._before, strict=True)
        )
        if self.value.dtype.kind == "V" and not failed:
            views += max(others - 1, 0)
        self.value.flags.writeable = False
        if views <= 0:
            release()
            return None
        return (
            f"array {self._name}: at least {views} view(s) of the array that the guard handed out "
            "live on (slices, other shapes, rows of a structured one); drop them and that array, "
            "or copy. The lock is given back when the last one is gone"
        )


def _again(name: str, lock: RwLock | None, readonly: bool) -> Array:
    """What pickles call."""
    block = _Block.open(name)
    if block.meta[:1] != PLAIN:
        raise mismatch(name, "it is no Array of numpy by now")
    return Array(block, lock, readonly)


def over(block: _Block, memory: Buffer | None = None) -> NDArray:
    """The array that the meta of the block tells of, over what lends its bytes."""
    try:
        array: NDArray = _array_over(block.meta, block if memory is None else memory)
    except RingspanError:  # the handle is closed
        raise
    except (ValueError, TypeError) as err:
        raise damaged(block.name, err) from err
    return array


def measured(
    what: str, dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool
) -> tuple[bytes, int]:
    """The meta of such an array, and the bytes that it takes; refuses what cannot be shared."""
    if dtype.hasobject:
        text = (
            f"{what}: elements of type {dtype} are Python objects, and those live in one process; "
            "convert them to numbers, to text of a fixed width (dtype 'U20', 'S20'), or to codes"
        )
        raise TypeError(text)
    if any(n < 0 for n in shape):
        raise InvalidOption(f"{what}: shape {shape} has a negative length")
    try:
        meta, size = _array_meta(dtype, shape, fortran)
        # As whoever opens it will read it.
        sample, _ = _array_meta(dtype, (0,) * len(shape), fortran)
        again = _array_over(sample, bytes(dtype.itemsize)).dtype
    except (ValueError, OverflowError) as err:
        raise InvalidOption(f"{what}: {err}") from err
    except TypeError as err:
        text = (
            f"{what}: the fields of {dtype} overlap or are out of order; repack them "
            "(numpy.lib.recfunctions.repack_fields)"
        )
        raise TypeError(text) from err
    if again != dtype:
        raise TypeError(f"{what}: {dtype} would come back as {again}; give every field a name")
    return meta, size


def settled(dtype: DTypeLike, shape: tuple[int, ...]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape as numpy makes an array of them: text has a width, sub-arrays are axes."""
    wanted = np.dtype(dtype)
    while wanted.subdtype is not None:
        wanted, inner = wanted.subdtype
        shape = (*shape, *inner)
    if wanted.kind in "SU" and not wanted.itemsize:
        wanted = np.dtype(f"{wanted.kind}1")
    return wanted, shape


def is_fortran(order: str) -> bool:
    """Whether the first index moves fastest."""
    if order not in ("C", "F"):
        raise InvalidOption(f"order {order!r}: 'C' or 'F' is wanted")
    return order == "F"


def make(
    name: str,
    dtype: DTypeLike,
    shape: tuple[int, ...],
    fortran: bool,
    fill: ArrayLike | None,
    lock: RwLock | None,
    mode: int,
    ephemeral: bool,
) -> Array:
    """Makes an array; `fill` is broadcast into it before anybody sees it."""
    checked_lock(name, lock)
    wanted, shape = settled(dtype, shape)
    meta, size = measured(f"array {name}", wanted, shape, fortran)

    def write(view: memoryview) -> None:
        target = _array_over(meta, view)
        target[...] = fill

    filled = None if fill is None else write
    block = _Block.create(name, size, meta=meta, fill=filled, mode=mode, ephemeral=ephemeral)
    return Array(block, lock)
