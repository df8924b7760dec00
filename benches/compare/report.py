"""The table: median (min-max) of every cell, the ratio inside the rounds, the verdicts."""

import statistics
from collections.abc import Sequence

from gates import GATES, Cell, Judged, Round

TITLES = {
    "stream": ("One way, {size}, two processes", "rate"),
    "rtt": ("Round trip, {size}, median", "time"),
    "memory": ("The memory itself, {size}, one process", "bytes"),
    "large": ("One way, {size}, 8 MiB ring", "bytes"),
    "idle": ("CPU time of two parked ends in 2 s", "time"),
    "py-stream": ("Python, one way, {size}", "rate"),
    "py-rtt": ("Python, round trip, {size}, median", "time"),
    "py-array": ("Python, hand-over of an array of {size}, acknowledged", "time"),
}
#: What the rows of a group are divided by.
REFERENCES = {
    "stream": "bare-spin-ring",
    "rtt": "bare-eventfd-tokio",
    "memory": "bare-memcpy",
    "large": "ringspan-copy",
    "py-stream": "mp-queue",
    "py-rtt": "bare-add-reader",
    "py-array": "shm-pipe-copy",
}


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


def groups(cells: list[Cell]) -> dict[tuple[str, int, str], list[Cell]]:
    """Cells that may stand in one table: same kind, size and pinning."""
    found: dict[tuple[str, int, str], list[Cell]] = {}
    for cell in cells:
        key = (str(cell["kind"]), int(cell["size"]), str(cell["pin"]))
        found.setdefault(key, []).append(cell)
    return dict(sorted(found.items(), key=lambda item: (list(TITLES).index(item[0][0]), *item[0])))


def tables(cells: list[Cell], rounds: list[Round]) -> str:
    """All groups as Markdown."""
    lines: list[str] = []
    for (kind, size, pin), rows in groups(cells).items():
        title, unit = TITLES[kind]
        where = {"apart": ", each on its own core", "same": ", both on one core", "one": ""}[pin]
        reference = f"{kind}/{size}/{pin}/{REFERENCES.get(kind, '')}"
        lines += ["", f"### {title.format(size=size_text(size))}{where}", ""]
        against = reference.rsplit("/", 1)[1] or "-"
        lines += [f"| who | waits | median (min - max) | of {against} | more |"]
        lines += ["|---|---|---|---|---|"]
        for cell in sorted(rows, key=lambda c: rank(c, rounds, unit)):
            name = str(cell["id"])
            values = column(rounds, name)
            ratios = [r[name] / r[reference] for r in rounds if name in r and r.get(reference)]
            lines.append(
                f"| {cell['subject']} | {cell['waits']} "
                f"| {spread(values, unit) if values else 'failed'} "
                f"| {ratio_text(statistics.median(ratios)) if ratios else '-'} "
                f"| {extras(name, rounds)} |"
            )
    return "\n".join(lines)


def rank(cell: Cell, rounds: list[Round], unit: str) -> float:
    """Best first; what failed last."""
    values = column(rounds, str(cell["id"]))
    if not values:
        return float("inf")
    return middle(values) if unit == "time" else -middle(values)


def extras(name: str, rounds: list[Round]) -> str:
    """The named extra figures, medians."""
    keys = {key for found in rounds for key in found if key.startswith(f"{name}#")}
    return ", ".join(
        f"{key.split('#')[1]} {middle(column(rounds, key)):.3g}" for key in sorted(keys)
    )


def judge(cells: list[Cell], rounds: list[Round]) -> list[Judged]:
    """Every gate against the rounds."""
    judged = []
    for gate in GATES:
        references = gate.references(cells)
        ratios = [gate.of_round(found, references) for found in rounds]
        judged.append(Judged(gate, [r for r in ratios if r is not None], references))
    return judged


def verdicts(judged: list[Judged]) -> str:
    """The gates as Markdown."""
    lines = ["", "### Targets", "", "| what | must [goal] | median (min - max) | verdict |"]
    lines += ["|---|---|---|---|"]
    for row in judged:
        gate, ratios = row.gate, row.ratios
        if ratios:
            median = middle(ratios)
            span = f"{ratio_text(min(ratios))} - {ratio_text(max(ratios))}"
            found, verdict = f"{ratio_text(median)} ({span})", gate.verdict(median)
        else:
            found, verdict = "-", "not measured"
        lines.append(f"| {gate.title} | {gate.bar()} | {found} | {verdict} |")
    return "\n".join(lines)
