"""Arrays of `ringspan.compat.shared_memory`: first values, and labels that others write over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ringspan
from ringspan.compat import shared_memory as shm


@pytest.mark.parametrize("dtype", ["S5", "U5", [("n", "i4"), ("s", "S3")]])
def test_fresh_values_are_zeros_of_the_dtype(name: str, dtype: Any) -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("xarray")
    array = shm.create(name, shm.DataArrayLayout(["x"], {}, dtype, (2,)))
    assert array.values.dtype == np.dtype(dtype)
    assert np.array_equal(array.values, np.zeros(2, dtype))
    shm.unlink(name)


def test_first_values_that_do_not_fit_are_refused(name: str) -> None:
    pytest.importorskip("pandas")
    with pytest.raises((OverflowError, ValueError)):
        shm.SeriesLayout("i4", [0], float("nan"))
    with pytest.raises((OverflowError, ValueError)):
        shm.SeriesLayout("u1", [0], "many")
    series = shm.create(name, shm.SeriesLayout("u1", [0, 1], 7))
    assert series.tolist() == [7, 7]
    shm.unlink(name)
    assert not Path(f"/dev/shm{name}").exists()


def test_labels_are_not_at_the_mercy_of_others(name: str) -> None:
    pd = pytest.importorskip("pandas")
    levels = [["aa", "b", "c"] * 8, range(24)]
    shm.create(
        name, shm.SeriesLayout.from_data(pd.Series(range(24), pd.MultiIndex.from_arrays(levels)))
    )
    series = shm.load(name)
    wanted = series.index.tolist()
    mem = memoryview(shm.SharedMemory.open(name))
    at = bytes(mem).index(bytes(series.index.codes[1].astype("i1")))
    mem[at : at + 24] = b"\x7f" * 24
    assert series.index.tolist() == wanted
    with pytest.raises(ringspan.Damaged):
        shm.load(name)
    shm.unlink(name)
