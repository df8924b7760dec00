"""Layouts of numpy arrays. What describes them and lays them over memory is `ringspan.array`'s."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from ringspan._ringspan import _array_over
from ringspan.compat.shared_memory._errors import Damaged, runtime_errors
from ringspan.compat.shared_memory._layouts import APART, Layout, align, check_sign

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike

#: Sign, bytes of the description, place of the data; the description follows.
HEAD = struct.Struct("<c7xQQ")


def needs(module: str, layout: str) -> ModuleType:
    """The module, or an ImportError that says what to do."""
    try:
        return import_module(module)
    except ImportError as err:
        extra = "arrays" if module == "numpy" else module
        told = f"{layout} needs {module}: pip install 'ringspan[{extra}]'"
        raise ImportError(told, name=module) from err


def split(mem: memoryview, cls: type[Layout]) -> tuple[bytes, int]:
    """A copy of the description, and the place of the data, which lies within `mem`."""
    check_sign(mem, cls)
    room = len(mem)
    if room < HEAD.size:
        raise Damaged(f"{room} bytes hold no {cls.__name__}")
    _, length, at = HEAD.unpack_from(mem)
    if length > room - HEAD.size or not HEAD.size + length <= at <= room:
        cause = f"{length} bytes of description and data at {at}, in {room} bytes"
        raise Damaged(f"the head of a {cls.__name__} says: {cause}")
    return bytes(mem[HEAD.size : HEAD.size + length]), at


class Described(Layout):
    """A layout of a head, a description and data."""

    #: The description, and the bytes of the data.
    _meta: bytes
    _length: int

    @property
    def _data_at(self) -> int:
        return align(APART, HEAD.size + len(self._meta))

    def size(self) -> int:
        """Bytes that it takes."""
        return align(8, self._data_at + self._length)

    def _dump_head(self, mem: memoryview) -> None:
        HEAD.pack_into(mem, 0, self.sign, len(self._meta), self._data_at)
        mem[HEAD.size : HEAD.size + len(self._meta)] = self._meta


class NdArrayLayout(Described):
    """A numpy array of any dtype but objects, in C order.

    Zeros, or `init_value`, broadcast. `create` and `load` return an ordinary ndarray over the
    shared memory.
    """

    sign = b"a"

    def __init__(
        self,
        dtype: DTypeLike,
        shape: int | Sequence[int],
        init_value: ArrayLike | None = None,
    ) -> None:
        numpy = needs("numpy", "NdArrayLayout")
        from ringspan._arrays.ndarray import measured

        self.dtype: np.dtype[Any] = numpy.dtype(dtype)
        lengths = (shape,) if isinstance(shape, int) else shape
        self.shape = tuple(int(length) for length in lengths)
        self.init_value = init_value
        with runtime_errors():
            self._meta, self._length = measured("NdArrayLayout", self.dtype, self.shape, False)

    @classmethod
    def from_data(cls, array: np.ndarray[Any, Any]) -> Self:
        """The layout of such an array: its dtype and shape, not its values."""
        return cls(array.dtype, array.shape)

    def dump(self, mem: memoryview) -> None:
        """Writes the description, and the initial value if there is one."""
        self._dump_head(mem)
        if self.init_value is not None:
            self._over(mem)[...] = self.init_value

    def _over(self, mem: memoryview) -> Any:
        return _array_over(self._meta, mem, self._data_at)

    @classmethod
    def load(cls, mem: memoryview) -> Any:
        """Returns the array over the memory."""
        meta, at = split(mem, cls)
        try:
            return _array_over(meta, mem, at)
        except (ValueError, TypeError) as err:
            raise Damaged(f"{cls.__name__}: {err}") from err

    def _made(self, mem: memoryview) -> Any:
        return self._over(mem)
