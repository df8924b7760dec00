"""Arrays of numpy: odd types, names that others look for, errors that say what is wrong."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import numpy as np
import pytest
import ringspan
import ringspan.array as shared
from ringspan._ringspan import _Block


def nested(depth: int) -> Any:
    dtype: Any = np.dtype("u1")
    for _ in range(depth):
        dtype = np.dtype([("a", dtype)])
    return dtype


def test_what_nobody_could_open_is_not_made(name: str) -> None:
    assert shared.create(f"{name}-16", nested(15), 1).size == 1
    for make in (
        lambda: shared.create(name, nested(20), 1),
        lambda: shared.from_array(name, np.zeros(1, nested(20))),
    ):
        with pytest.raises(ringspan.InvalidOption, match=name):
            make()
        with pytest.raises(ringspan.NotFound):
            shared.open(name)
    try:
        np.zeros((1,) * 40)
    except ValueError:  # numpy 1 has 32 dimensions
        with pytest.raises(ringspan.InvalidOption, match=name):
            shared.create(name, "u1", (1,) * 40)
    else:
        assert shared.create(name, "u1", (1,) * 40).ndim == 40
        return
    with pytest.raises(ringspan.NotFound):
        shared.open(name)


def test_types_that_numpy_unfolds(name: str) -> None:
    for number, (dtype, shape) in enumerate(
        [
            (np.dtype(("f8", (3,))), (2,)),
            ("S", 3),
            ("U", (2, 2)),
            (np.dtype((np.dtype(("U3", (2,))), (4,))), ()),
        ]
    ):
        one, plain = f"{name}-{number}", np.zeros(shape, dtype)
        for array in (
            shared.create(one, dtype, shape),
            shared.open(one),
            shared.open_or_create(one, dtype, shape),
        ):
            assert isinstance(array, shared.Array)
            assert (array.dtype, array.shape) == (plain.dtype, plain.shape)


def test_fields_without_a_name_are_refused(name: str) -> None:
    dtype = np.dtype({"names": ["", "b"], "formats": ["i4", "i4"]})
    with pytest.raises(TypeError, match=f"{name}.*every field a name"):
        shared.create(name, dtype, 3)
    with pytest.raises(ringspan.NotFound):
        shared.open(name)


def test_nobody_takes_the_name_for_a_label(name: str) -> None:
    arr = shared.create(name, "i8", (3, 2))
    assert arr.shared_name == name
    for array in (arr, arr.T, np.zeros_like(arr), arr[:, 0]):
        assert getattr(array, "name", None) is None
    with pytest.raises(ringspan.HandleClosed):
        _ = arr.T.shared_name  # type: ignore[attr-defined]
    pd = pytest.importorskip("pandas")
    row = shared.create(f"{name}-row", "i8", 3)
    assert pd.Series(row).name is None
    assert pd.DataFrame(arr.T).shape == (2, 3)
    assert pd.DataFrame({"x": [1, 2, 3]}, index=row).index.name is None
    xr = pytest.importorskip("xarray")
    assert xr.DataArray(row, dims="x").name is None
    assert xr.DataArray(arr.T).name is None


def test_closed_is_not_damaged(name: str) -> None:
    lock = ringspan.RwLock(f"{name}-lock", 0)
    for number, one in enumerate((None, lock)):
        arr = shared.create(f"{name}-{number}", "f8", 2, lock=one)
        guard = arr.blocking_write()
        arr.close()
        with pytest.raises(ringspan.HandleClosed), guard:
            pass
        with pytest.raises(ringspan.HandleClosed), arr.blocking_read():
            pass
    gc.collect()
    assert lock.holders() == []
    lock.remove()


def test_a_pickle_of_what_is_another_thing_by_now(name: str) -> None:
    arr = shared.create(name, "f8", 2)
    stale = pickle.dumps(arr)
    arr.remove()
    _Block.create(name, 8, meta=b"other")
    with pytest.raises(ringspan.Mismatch, match=f"{name}.*no Array"):
        pickle.loads(stale)


def test_a_lock_that_is_none(name: str) -> None:
    other: Any = shared.create(f"{name}-other", "f8", 2)
    for verb in (
        lambda: shared.create(name, "f8", 2, lock=other),
        lambda: shared.open_or_create(name, "f8", 2, lock=other),
        lambda: shared.from_array(name, np.zeros(2), lock=other),
        lambda: shared.open(f"{name}-other", lock=other),
    ):
        with pytest.raises(TypeError, match="RwLock, not Array"):
            verb()
    with pytest.raises(ringspan.NotFound):
        shared.open(name)


def test_the_order_is_named(name: str) -> None:
    shared.create(name, "f8", (2, 3))
    with pytest.raises(ringspan.Mismatch, match="order 'F' was asked for, it is of order 'C'"):
        shared.open_or_create(name, "f8", (2, 3), order="F")
    shared.create(f"{name}-row", "f8", 3)
    assert shared.open_or_create(f"{name}-row", "f8", 3, order="F").size == 3
