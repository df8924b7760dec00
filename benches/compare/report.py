"""The tables: median (min-max) of every cell, the ratio inside the rounds, the verdicts."""

import re
import statistics

import report_compat
from figures import column, middle, ratio_text, size_text, span, spread
from gates import GATES, Cell, Judged, Round
from gates_compat import COMPAT
from gates_rpc import RPC
from gates_shared import SHARED

TITLES = {
    "stream": ("One way, {size}, two processes", "rate"),
    "rtt": ("Round trip, {size}, median", "time"),
    "memory": ("The memory itself, {size}, one process", "bytes"),
    "large": ("One way, {size}, 8 MiB ring", "bytes"),
    "idle": ("CPU time of two parked ends in 2 s", "time"),
    "lock-read": ("A free lock taken to read and given back, one thread", "time"),
    "lock-write": ("A free lock taken to write and given back, one thread", "time"),
    "lock-threads": ("Reads of four threads of one process", "rate"),
    "handover": ("Turns of two processes that write under one lock", "rate"),
    "handover-wake": ("Release of a lock to a waiter that slept, median", "time"),
    "value-get": ("Getting a value of {size}", "time"),
    "value-set": ("Setting a value of {size}", "time"),
    "changed": ("A change of {size} awaited and answered, median", "time"),
    "rpc-add": ("A call of add(i64, i64), one at a time, median", "time"),
    "rpc-add-64": ("Calls of add(i64, i64), 64 in flight", "rate"),
    "rpc-add-1000": ("Calls of add(i64, i64), 1,000 in flight", "rate"),
    "rpc-echo": ("A call with {size} there and back, one at a time, median", "time"),
    "rpc-echo-64": ("Calls with {size} there and back, 64 in flight", "rate"),
    "rpc-memory": ("Memory of a server for a connected client, and for a call in flight", "size"),
    "py-stream": ("Python, one way, {size}", "rate"),
    "py-rtt": ("Python, round trip, {size}, median", "time"),
    "py-array": ("Python, hand-over of an array of {size}, acknowledged", "time"),
    "py-handover": ("Python, turns of two processes that write under one lock", "rate"),
    "py-handover-wake": ("Python, release of a lock to a waiter that slept, median", "time"),
    "py-value": ("Python, getting a value of {size}", "time"),
    "py-rpc-add": ("Python, a call of add(int, int), one at a time, median", "time"),
    "py-rpc-add-64": ("Python, calls of add(int, int), 64 in flight", "rate"),
    "py-rpc-echo": ("Python, a call with {size} there and back, one at a time, median", "time"),
}
#: The words that begin the kinds of a section.
SECTIONS = {
    "Messages": ("stream", "rtt", "memory", "large", "idle", "array"),
    "Locks": ("lock", "handover"),
    "Values": ("value", "changed"),
    "RPC": ("rpc",),
    "Compat": ("compat",),
}
#: What the rows of a group are divided by.
REFERENCES = {
    "stream": "bare-spin-ring",
    "rtt": "bare-eventfd-tokio",
    "memory": "bare-memcpy",
    "large": "ringspan-copy",
    "lock-read": "parking-lot",
    "lock-write": "parking-lot",
    "lock-threads": "parking-lot",
    "handover": "pthread-rwlock",
    "handover-wake": "pthread-rwlock",
    "value-get": "bare-memcpy",
    "value-set": "bare-memcpy",
    "changed": "ringspan-ring-parked",
    "py-stream": "mp-queue",
    "py-rtt": "bare-add-reader",
    "py-array": "shm-pipe-copy",
    "py-handover": "mp-lock",
    "py-handover-wake": "mp-lock",
    "py-value": "bare-shm-bytes",
    "rpc-add": "bare-eventfd-tokio",
    "rpc-add-64": "by-hand-inline",
    "rpc-add-1000": "by-hand-inline",
    "rpc-echo": "by-hand-inline",
    "rpc-echo-64": "tarpc",
    "py-rpc-add": "by-hand-asyncio",
    "py-rpc-add-64": "by-hand-asyncio",
    "py-rpc-echo": "by-hand-asyncio",
}


def groups(cells: list[Cell]) -> dict[tuple[str, int, str], list[Cell]]:
    """Cells that may stand in one table: same kind, size and pinning."""
    found: dict[tuple[str, int, str], list[Cell]] = {}
    for cell in cells:
        key = (str(cell["kind"]), int(cell["size"]), str(cell["pin"]))
        found.setdefault(key, []).append(cell)
    return dict(sorted(found.items(), key=lambda item: (list(TITLES).index(item[0][0]), *item[0])))


def section_of(name: str) -> str:
    """The section of a cell, or of a gate by its subject."""
    kind = name.split("/", 1)[0].removeprefix("py-")
    return next(section for section, words in SECTIONS.items() if kind.startswith(words))


def where_text(kind: str, pin: str) -> str:
    """The end of a heading."""
    if kind == "value-get":
        return {"one": ", which nobody sets", "apart": ", set by another process all the while"}[
            pin
        ]
    return {"apart": ", each on its own core", "same": ", both on one core"}.get(pin, "")


def tables(cells: list[Cell], rounds: list[Round]) -> str:
    """All groups as Markdown, by section."""
    lines: list[str] = []
    for section in SECTIONS:
        if rows := [c for c in cells if section_of(str(c["id"])) == section]:
            lines += ["", f"## {section}", section_tables(rows, rounds)]
    return "\n".join(lines)


def section_tables(cells: list[Cell], rounds: list[Round]) -> str:
    """The groups of one section."""
    if section_of(str(cells[0]["id"])) == "Compat":
        return report_compat.tables(cells, rounds)
    lines: list[str] = []
    for (kind, size, pin), rows in groups(cells).items():
        title, unit = TITLES[kind]
        where = where_text(kind, pin)
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
    for gate in [*GATES, *SHARED, *RPC, *COMPAT]:
        references = gate.references(cells)
        ratios = [gate.of_round(found, references) for found in rounds]
        judged.append(Judged(gate, [r for r in ratios if r is not None], references))
    return judged


def verdicts(judged: list[Judged]) -> str:
    """The gates as Markdown: first what must be reached, then ratios that are only told."""
    lines = ["", "## Targets", "", "| what | must [goal] | median (min - max) | verdict |"]
    lines += ["|---|---|---|---|"]
    for row in judged:
        if row.gate.must is not None:
            verdict = row.gate.verdict(middle(row.ratios)) if row.ratios else "not measured"
            lines.append(
                f"| {row.gate.title} | {row.gate.bar()} | {span(row.ratios)} | {verdict} |"
            )
    return "\n".join([*lines, told(judged)])


def told(judged: list[Judged]) -> str:
    """The ratios without a target that were measured."""
    lines = ["", "### Ratios without a target", "", "| what | median (min - max) |", "|---|---|"]
    rows = [row for row in judged if row.gate.must is None and row.ratios]
    lines += [f"| {row.gate.title} | {span(row.ratios)} |" for row in rows]
    return "\n".join(lines) if rows else ""


def document(
    text: str, about: str, cells: list[Cell], rounds: list[Round], judged: list[Judged]
) -> str:
    """A page with the sections that it has marks for written anew, where they were measured."""
    for section in SECTIONS:
        begin, end = f"<!-- {section}: written by run.py --docs -->", f"<!-- end of {section} -->"
        rows = [c for c in cells if section_of(str(c["id"])) == section]
        found = [j for j in judged if section_of(j.gate.subject) == section]
        if rows and begin in text and end in text:
            targets = (
                verdicts(found) if any(j.gate.must is not None for j in found) else told(found)
            )
            targets = re.sub("^## ", "### ", targets, flags=re.MULTILINE)
            if section == "Compat":
                targets = report_compat.summary(found)  # each row has its verdict beside it
            inside = f"{about}\n{section_tables(rows, rounds)}\n{targets}"
            before, rest = text.split(begin, 1)
            text = f"{before}{begin}\n\n{inside}\n\n{end}{rest.split(end, 1)[1]}"
    return text
