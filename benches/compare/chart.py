"""The pictures: bar charts on a log scale, drawn by hand as SVG."""

import math
import statistics
from html import escape

from figures import column, figure
from gates import Cell, Round

WIDTH, LABEL, ROW, TOP = 760, 190, 22, 64
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .note, .tick { fill: #57606a } .tick { font-size: 11px }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .ringspan { fill: #0969da } .peer { fill: #8c959f } .bare { fill: #bf8700 }
  .span { stroke: #24292f; stroke-width: 1.5; opacity: .7 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .note, .tick { fill: #9198a1 } .grid { stroke: #3d444d }
    .ringspan { fill: #4493f8 } .peer { fill: #656c76 } .bare { fill: #d29922 }
    .span { stroke: #e6edf3 }
  }
"""
PANELS = [
    ("Messages of 64 bytes per second, each process on its own core", "stream/64/apart", "rate"),
    ("Messages of 64 bytes per second in Python", "py-stream/64/apart", "rate"),
    (
        "Round trip of 64 bytes, each process on its own core (less is better)",
        "rtt/64/apart",
        "time",
    ),
    ("Round trip of 64 bytes, both processes on one core (less is better)", "rtt/64/same", "time"),
]
#: Of the picture of locks and values.
SHARED_PANELS = [
    (
        "Turns per second of two processes that write under one lock, each on its own core",
        "handover/64/apart",
        "rate",
    ),
    ("The same in Python", "py-handover/64/apart", "rate"),
    (
        "Release of a lock to a waiter that slept, each on its own core (less is better)",
        "handover-wake/64/apart",
        "time",
    ),
    (
        "A change of 64 bytes awaited and answered, each on its own core (less is better)",
        "changed/64/apart",
        "time",
    ),
]
#: Of the picture of calls.
RPC_PANELS = [
    (
        "Calls of add(i64, i64) per second, 64 in flight, each process on its own core",
        "rpc-add-64/64/apart",
        "rate",
    ),
    ("The same in Python", "py-rpc-add-64/64/apart", "rate"),
    (
        "Calls with 64 KiB there and back, 64 in flight, each process on its own core",
        "rpc-echo-64/65536/apart",
        "rate",
    ),
    (
        "One call of add(i64, i64) at a time, both processes on one core (less is better)",
        "rpc-add/64/same",
        "time",
    ),
]


def bars(cells: list[Cell], rounds: list[Round], prefix: str, unit: str) -> list[Cell]:
    """The rows of one panel, best first."""
    rows = [c for c in cells if str(c["id"]).startswith(prefix + "/")]
    rows = [c for c in rows if column(rounds, str(c["id"]))]
    best_first = -1 if unit == "rate" else 1
    return sorted(rows, key=lambda c: best_first * statistics.median(column(rounds, str(c["id"]))))


def panel(rows: list[Cell], rounds: list[Round], title: str, unit: str, y: float) -> list[str]:
    """One chart whose top edge is at y."""
    columns = [column(rounds, str(c["id"])) for c in rows]
    low = math.floor(math.log10(min(min(c) for c in columns)) - 0.001)
    high = math.ceil(math.log10(max(max(c) for c in columns)) + 0.001)
    right = WIDTH - 110

    def x(value: float) -> float:
        return LABEL + (math.log10(value) - low) / (high - low) * (right - LABEL)

    bottom = y + 40 + ROW * len(rows)
    out = [f'<text class="title" x="16" y="{y + 16}">{escape(title)}</text>']
    for power in range(low, high + 1):
        at = x(10.0**power)
        out.append(f'<line class="grid" x1="{at:.1f}" y1="{y + 36}" x2="{at:.1f}" y2="{bottom}"/>')
        tick = escape(figure(10.0**power * 1.0000001, unit))
        out.append(
            f'<text class="tick" x="{at:.1f}" y="{y + 31}" text-anchor="middle">{tick}</text>'
        )
    for n, (cell, values) in enumerate(zip(rows, columns, strict=True)):
        top, middle = y + 40 + n * ROW, statistics.median(values)
        name, centre = escape(str(cell["subject"])), top + ROW / 2 - 2
        out.append(
            f'<text x="{LABEL - 8}" y="{centre + 4:.1f}" text-anchor="end">{name}</text>'
            f'<rect class="{cell["class"]}" x="{LABEL}" y="{top}" rx="2" '
            f'width="{x(middle) - LABEL:.1f}" height="{ROW - 5}"/>'
            f'<line class="span" x1="{x(min(values)):.1f}" y1="{centre:.1f}" '
            f'x2="{x(max(values)):.1f}" y2="{centre:.1f}"/>'
            f'<text x="{x(max(values)) + 8:.1f}" y="{centre + 4:.1f}">'
            f"{escape(figure(middle, unit))}</text>"
        )
    return out


def draw(
    cells: list[Cell],
    rounds: list[Round],
    note: str,
    panels: list[tuple[str, str, str]] = PANELS,
) -> str:
    """A whole picture; empty when nothing of it was measured."""
    y, body = float(TOP), list[str]()
    for title, prefix, unit in panels:
        rows = bars(cells, rounds, prefix, unit)
        if rows:
            body += panel(rows, rounds, title, unit, y)
            y += 40 + ROW * len(rows) + 34
    if not body:
        return ""
    legend = [
        ("ringspan", "ringspan"),
        ("bare", "the limit: bare code that is unsafe to use"),
        ("peer", "other libraries"),
    ]
    keys, at = list[str](), 16
    for name, words in legend:
        keys.append(f'<rect class="{name}" x="{at}" y="16" width="12" height="12" rx="2"/>')
        keys.append(f'<text x="{at + 18}" y="26">{words}</text>')
        at += 40 + 7 * len(words)
    keys.append(f'<text class="note" x="16" y="48">{escape(note)}</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" '
        f'width="{WIDTH}" height="{y:.0f}" role="img" '
        'aria-label="ringspan, bare limits and other libraries, log scale">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *keys, *body, "</svg>", ""])
