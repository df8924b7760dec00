"""The tables of the older libraries: the original, `ringspan.compat`, how many times as fast."""

import platform
from collections.abc import Collection
from importlib import metadata

from figures import column, middle, span, spread
from gates import Cell, Judged, Round
from gates_compat import COMPAT, LIBRARIES, Library, rows


def tables(cells: list[Cell], rounds: list[Round]) -> str:
    """One table for each library that was measured."""
    there = {str(cell["id"]) for cell in cells}
    gates = {gate.subject: gate for gate in COMPAT}
    lines: list[str] = []
    for name, library in LIBRARIES.items():
        found = {
            row: title for row, title in rows(name).items() if f"{row}/ringspan-compat" in there
        }
        if not found:
            continue
        lines += ["", f"### {library.title}{version(library)}", ""]
        lines += ["| what | processes | original | ringspan.compat | times as fast | verdict |"]
        lines += ["|---|---|---|---|---|---|"]
        for row, title in found.items():
            gate = gates[f"{row}/ringspan-compat"]
            ratios = [gate.of_round(figures, [f"{row}/original"]) for figures in rounds]
            times = [ratio for ratio in ratios if ratio is not None]
            verdict = "-" if f"{row}/original" not in there else "failed"
            if times:
                verdict = gate.verdict(middle(times))
            lines.append(
                f"| {title} | {'2' if row.endswith('/apart') else '1'} "
                f"| {rate(f'{row}/original', there, rounds)} "
                f"| {rate(f'{row}/ringspan-compat', there, rounds)} "
                f"| {span(times)} | {verdict} |"
            )
    return "\n".join(lines)


def version(library: Library) -> str:
    """Of the original, where it is known."""
    if library.package is None:
        return ""
    if not library.package:
        return f" of Python {platform.python_version()}"
    try:
        return f" {metadata.version(library.package)}"
    except metadata.PackageNotFoundError:
        return ""


def rate(name: str, there: set[str], rounds: list[Round]) -> str:
    """Median (min - max) of a cell, and how often it hung."""
    if name not in there:
        return "not there"
    values = column(rounds, name)
    hung = sum(column(rounds, f"{name}#hung"))
    often = f", hung: {hung:g}" if hung else ""
    return f"{spread(values, 'rate')}{often}" if values else "failed"


def summary(judged: list[Judged]) -> str:
    """The line under the tables: how many of the musts are met."""
    wanted = [row for row in judged if row.references and row.gate.must is not None]
    if not wanted:
        return "\nNo original is installed here, so nothing is judged."
    measured = [row for row in wanted if row.ratios]
    met = [row for row in measured if row.gate.reaches(middle(row.ratios), row.gate.must or 0)]
    failed = len(wanted) - len(measured)
    return (
        f"\nMust: at least {wanted[0].gate.must:g} times as fast. "
        f"{len(met)} of all {len(wanted)} rows whose original is there are met"
        f"{f'; of {failed} a side failed' if failed else ''}."
    )


def without(rounds: list[Round], failed: Collection[str]) -> list[Round]:
    """The rounds without the figures of cells that failed, in whichever round."""
    return [
        {name: value for name, value in found.items() if name.split("#", 1)[0] not in failed}
        for found in rounds
    ]


def disagreements(rounds: list[Round]) -> dict[str, str]:
    """The cells whose results, summed up, are not those of the original."""
    found: dict[str, str] = {}
    for figures in rounds:
        for gate in COMPAT:
            ours = figures.get(f"{gate.subject}#digest")
            theirs = figures.get(f"{gate.reference}#digest")
            if ours is not None and theirs is not None and ours != theirs:
                found[gate.subject] = "its results are not those of the original"
    return found
