"""How figures are written: sizes, times, rates, medians with their range."""

import statistics
from collections.abc import Sequence

from gates import Round


def size_text(size: int) -> str:
    """64 B, 1 KiB, 1 MiB."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


def figure(value: float, unit: str) -> str:
    """A figure with three digits in the unit people use."""
    if unit == "time":
        for name, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
            if value >= factor or name == "ns":
                return f"{value / factor:.3g} {name}"
    if unit == "size":
        return f"{value / 1024:.3g} KiB"
    for name, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)):
        if value >= factor or not name:
            tail = "B/s" if unit == "bytes" else "/s"
            return f"{value / factor:.3g} {name}{tail}"
    return f"{value:g}"


def ratio_text(ratio: float) -> str:
    """Three digits, without an exponent for large ratios."""
    return f"{ratio:.0f}" if ratio >= 1000 else f"{ratio:.3g}"


def spread(values: Sequence[float], unit: str) -> str:
    """Median (min-max)."""
    low, high = figure(min(values), unit), figure(max(values), unit)
    return f"{figure(middle(values), unit)} ({low} - {high})"


def middle(values: Sequence[float]) -> float:
    """The median; here so that the runner judges what the table shows."""
    return statistics.median(values)


def column(rounds: list[Round], name: str) -> list[float]:
    """The figures of one cell over the rounds."""
    return [found[name] for found in rounds if name in found]


def span(ratios: list[float]) -> str:
    """Median (min - max) of ratios."""
    if not ratios:
        return "-"
    return f"{ratio_text(middle(ratios))} ({ratio_text(min(ratios))} - {ratio_text(max(ratios))})"
