"""What `make test` makes of its commands: all that they print, causes of failures, no waiting."""

from __future__ import annotations

import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
pytestmark = pytest.mark.slow


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The runner, which writes its logs elsewhere."""
    monkeypatch.syspath_prepend(TOOLS)
    import runner

    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(runner, "GRACE_SECONDS", 0.5)
    yield runner
    for name in ("runner", "report", "leftovers", "output"):
        sys.modules.pop(name, None)


def run(tools: Any, script: str) -> Any:
    env = {**os.environ, tools.leftovers.MARK: uuid.uuid4().hex}
    return tools.Runner(False, env, "stage").run("bash", "-c", script)


def living(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_output_comes_whole(tools: Any, tmp_path: Path) -> None:
    ran = run(
        tools, "for i in {1..20000}; do echo line $i; done; printf 'gr\\303\\274n \\377'; exit 3"
    )
    assert ran.status == 3 and not ran.well
    lines = [f"line {number}" for number in range(1, 20001)]
    assert ran.output == "\n".join([*lines, "gr\u00fcn \ufffd"])
    assert (tmp_path / "logs" / "stage.log").read_text().endswith(ran.output)


def test_an_early_end_of_the_output_is_not_that_of_the_command(tools: Any) -> None:
    assert run(tools, "exec >&- 2>&-; sleep 0.3; exit 7").status == 7


@pytest.mark.parametrize("session", ["", "setsid"])
def test_what_is_left_running_is_named_and_ended(tools: Any, session: str) -> None:
    ran = run(tools, f"{session} sleep 47 & echo $!")
    assert not ran.well
    number, told = ran.output.splitlines()
    assert told.startswith("left running: process ") and told.rstrip().endswith("sleep 47")
    pid = int(told.split()[3])
    assert session or pid == int(number)
    while living(pid):
        time.sleep(0.01)


def test_who_talks_on_for_ever_is_ended_too(tools: Any) -> None:
    assert "left running: process " in run(tools, "yes & exit 0").output


def test_a_helper_that_ends_a_little_later_is_waited_for(tools: Any) -> None:
    ran = run(tools, "(sleep 0.2; echo late) & echo early")
    assert ran.well and ran.output == "early\nlate\n"


def test_a_command_that_hangs_is_killed(tools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "WATCHDOG_SECONDS", 0.3)
    assert run(tools, "echo begun; sleep 47").status == -9


def test_causes_are_told(tools: Any, tmp_path: Path) -> None:
    output = (
        "test result: ok. 3 passed; 0 failed; 0 ignored\n"
        "WATCHDOG: removal hangs\n"
        "  process didn't exit successfully: `segment` (signal: 6, SIGABRT: process abort signal)\n"
    )
    told = sys.modules["report"]
    cargo = told.read_cargo(output, False)
    assert (cargo.passed, cargo.failed) == (3, 2)
    assert cargo.failures[0] == "WATCHDOG: removal hangs" and "signal: 6" in cargo.failures[1]
    # A run of which nothing is known is no good run.
    assert told.read_cargo("", True).failed == 1
    junit = tmp_path / "junit.xml"
    junit.write_text('<testsuite><testcase classname="a" name="b"/></testsuite>')
    pytest_run = told.read_junit(junit, "left running: process 1 still runs: x\n", False)
    assert (pytest_run.passed, pytest_run.failed) == (1, 1)
    assert pytest_run.failures == ["left running: process 1 still runs: x"]
