"""What a stage of the test run yields: counts, names of skips, time; and how to read them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

# Minutes a clean clone may take on two cores, by group; the sum is the 25 minutes of CONTRIBUTING.
BUDGET = {
    "builds": 8.0,
    "rust": 5.0,
    "loom": 3.0,
    "python": 5.0,
    "lint": 2.0,
    "spare": 2.0,
}
TITLES = {
    "builds": "builds",
    "rust": "Rust tests",
    "loom": "loom",
    "python": "Python tests",
    "lint": "docs, lint, README",
    "spare": "spare",
}


@dataclass
class Outcome:
    """The sum of what was run."""

    passed: int = 0
    failed: int = 0
    skips: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Adds the counts and names of another outcome to this one."""
        self.passed += other.passed
        self.failed += other.failed
        self.skips += other.skips
        self.failures += other.failures


_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)
_IGNORED = re.compile(r"^test (.+?) \.\.\. ignored(?:, (.*))?$", re.MULTILINE)
_FAILED = re.compile(r"^test (.+?) \.\.\. FAILED$", re.MULTILINE)
_BROKEN = re.compile(
    r"^(?:WATCHDOG: .+|left running: .+|error: could not compile .+"
    r"|  process didn't exit successfully: .+\(signal: .+)$",
    re.MULTILINE,
)


def _note_broken(total: Outcome, output: str, unknown: str) -> None:
    """Counts what ended a command besides the failures that it reported, at least one."""
    causes = [line.strip() for line in _BROKEN.findall(output)]
    if not causes and total.failed == 0:
        causes = [unknown]
    total.failed += len(causes)
    total.failures += causes


def read_cargo(output: str, ended_well: bool) -> Outcome:
    """Sums the results of every test binary and doctest run in the output of `cargo test`."""
    total = Outcome()
    results = _RESULT.findall(output)
    for passed, failed, _ in results:
        total.passed += int(passed)
        total.failed += int(failed)
    total.failures += _FAILED.findall(output)
    for name, reason in _IGNORED.findall(output):
        total.skips.append(f"{name}: {reason or 'ignored'}")
    if not (ended_well and results):
        _note_broken(total, output, "did not build, or a test binary was killed")
    return total


def read_skip_file(path: Path, total: Outcome) -> None:
    """Moves tests that wrote `name<TAB>reason` to the file of RINGSPAN_SKIPS to the skips."""
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        name, _, reason = line.partition("\t")
        total.skips.append(f"{name}: {reason}")
        total.passed -= 1
    path.unlink()


def read_junit(path: Path, output: str, ended_well: bool) -> Outcome:
    """Sums the results that pytest wrote as JUnit XML."""
    total = Outcome()
    cases = ET.parse(path).getroot().iter("testcase") if path.is_file() else ()
    for case in cases:
        name = f"{case.get('classname', '')}.{case.get('name', '')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            total.failed += 1
            total.failures.append(name)
        elif skipped is not None and skipped.get("type") != "pytest.xfail":
            total.skips.append(f"{name}: {skipped.get('message', 'no reason given')}")
        else:
            total.passed += 1
    if not ended_well:
        _note_broken(total, output, "pytest ended before it could report")
    return total


def table(spent: dict[str, float]) -> str:
    """Draws the budget beside what was spent, in minutes."""
    rows = [f"{'':<20} {'budget':>8} {'spent':>8}   (minutes)"]
    for group, minutes in BUDGET.items():
        used = spent.get(group, 0.0) / 60
        mark = "  over" if used > minutes and group != "spare" else ""
        rows.append(f"{TITLES[group]:<20} {minutes:>8.1f} {used:>8.1f}{mark}")
    whole, limit = sum(spent.values()) / 60, sum(BUDGET.values())
    rows.append(f"{'total':<20} {limit:>8.1f} {whole:>8.1f}{'  over' if whole > limit else ''}")
    return "\n".join(rows)
