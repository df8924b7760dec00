"""What `benches/compare` publishes: nothing of a cell that failed, and no side is always first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[2] / "benches" / "compare"
MARK = "<!-- Compat: written by run.py --docs -->\n\n<!-- end of Compat -->"
#: Good; with other results; failed in all rounds; in two of three; that of the original failed.
ROWS = [
    f"py-compat-multiprocessing-{what}/4096/one"
    for what in ("create", "attach", "create-untracked", "buf-read", "buf-write")
]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The runner of the comparison, with the modules beside it."""
    monkeypatch.syspath_prepend(HERE)
    import run

    yield run
    for name in ("run", "report", "report_compat", "gates", "figures", "chart"):
        sys.modules.pop(name, None)


def cell(row: str, subject: str) -> dict[str, Any]:
    kind, size, pin = row.split("/")
    what = {"id": f"{row}/{subject}", "kind": kind, "size": int(size), "pin": pin}
    return {**what, "subject": subject, "class": "x", "waits": "-"}


CELLS = [cell(row, subject) for row in ROWS for subject in ("original", "ringspan-compat")]


def test_what_failed_is_neither_published_nor_met(
    compare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = 0

    def run_cell(one: dict[str, Any], seconds: float) -> dict[str, float]:
        nonlocal turn
        turn += one is CELLS[0]
        name, (row, ours) = one["id"], (one["id"].rsplit("/", 1)[0], "ringspan" in one["subject"])
        broken = {ROWS[2]: ours, ROWS[3]: ours and turn > 1, ROWS[4]: not ours and turn == 2}
        if broken.get(row):
            raise RuntimeError("failed")
        digest = 2.0 if ours and row == ROWS[1] else 1.0
        return {name: 300.0 if ours else 100.0, f"{name}#digest": digest}

    monkeypatch.setattr(compare, "run_cell", run_cell)
    measured, failed = compare.measure(sorted(CELLS, key=compare.row_of), 3, 0.1)
    failed |= compare.report_compat.disagreements(measured)
    assert len(failed) == 4
    rounds = compare.report_compat.without(measured, failed)
    page = compare.report.document(MARK, "note", CELLS, rounds, compare.report.judge(CELLS, rounds))
    lines = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert [line.split("|")[-2].strip() for line in lines].count("failed") == 4
    assert sum("met" in line for line in lines) == 1
    assert sum(line.count("300 /s") for line in lines) == 6  # of the first and the last row
    assert "1 of all 5 rows whose original is there are met; of 4 a side failed." in page


def test_the_side_that_runs_first_changes(compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(compare, "run_cell", lambda one, _: order.append(one["subject"]) or {})
    compare.measure(CELLS[:2], 4, 0.1)
    ours, theirs = "ringspan-compat", "original"
    assert order == [theirs, ours, ours, theirs, theirs, ours, ours, theirs]
