"""Runs one stage of the test run: a named command with its environment, log and watchdog."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import leftovers
from report import Outcome

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "target" / "test-logs"
# Far above any budget: it ends a hang, it judges nothing.
WATCHDOG_SECONDS = 30 * 60
# How long the output may stay open when the command has ended.
GRACE_SECONDS = 10


@dataclass(frozen=True)
class Ran:
    """What a command left: exit status, output, seconds."""

    status: int
    output: str
    seconds: float

    @property
    def well(self) -> bool:
        """Tells whether the command ended with status 0."""
        return self.status == 0


@dataclass(frozen=True)
class Stage:
    """One step: what it is called, what it counts against, what must have gone well before."""

    name: str
    group: str
    work: Callable[[Runner], Outcome]
    needs: tuple[str, ...] = ()


@dataclass
class Runner:
    """Runs commands for the stages and keeps what they said."""

    verbose: bool
    env: dict[str, str]
    stage: str = ""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keeps a line for the end of the run; prints it now."""
        self.notes.append(text)
        print(f"   {text}", flush=True)

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> Ran:
        """Runs a command in the root of the repository; its output goes to the stage's log."""
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{self.stage}.log"
        shown = " ".join([*(f"{k}={v}" for k, v in (env or {}).items()), *command])
        print(f"   $ {shown}", flush=True)
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        watchdog = threading.Timer(WATCHDOG_SECONDS, _kill, (process.pid,))
        watchdog.daemon = True
        watchdog.start()
        lines: list[str] = []
        reader = threading.Thread(target=self._copy, args=(process, shown, log, lines), daemon=True)
        reader.start()
        try:
            status = process.wait()
            reader.join(GRACE_SECONDS)
        except BaseException:
            _kill(process.pid)
            raise
        finally:
            watchdog.cancel()
        if reader.is_alive():
            # It ended, and what it started holds its output open: that would hold up the whole run.
            left = leftovers.living(self.env[leftovers.MARK]) or ["processes without our mark"]
            _kill(process.pid)
            reader.join(GRACE_SECONDS)
            lines += [f"left running: {line}\n" for line in left]
            status = status or 1
        if status != 0 and not self.verbose:
            print("".join(lines[-80:]), end="", flush=True)
            print(f"   ended with {status}; the whole output is in {log.relative_to(ROOT)}")
        return Ran(status, "".join(lines), time.monotonic() - started)

    def _copy(
        self, process: subprocess.Popen[str], shown: str, log: Path, lines: list[str]
    ) -> None:
        assert process.stdout is not None
        with log.open("a") as file:
            file.write(f"$ {shown}\n")
            for line in process.stdout:
                lines.append(line)
                file.write(line)
                if self.verbose:
                    sys.stdout.write(line)

    def check(self, what: str, *command: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Runs a command that counts as one test."""
        if self.run(*command, env=env).well:
            return Outcome(passed=1)
        return Outcome(failed=1, failures=[what])


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def run_stages(stages: list[Stage], runner: Runner, spent: dict[str, float]) -> Outcome:
    """Runs the stages in order; one that failed stops only those that need it."""
    total = Outcome()
    broken: set[str] = set()
    for stage in stages:
        runner.stage = stage.name
        print(f"\n== {stage.name}", flush=True)
        (LOGS / f"{stage.name}.log").unlink(missing_ok=True)
        missing = broken.intersection(stage.needs)
        started = time.monotonic()
        if missing:
            outcome = Outcome(failed=1, failures=[f"not run: {', '.join(missing)} failed"])
        else:
            try:
                outcome = stage.work(runner)
            except (OSError, RuntimeError) as fault:
                outcome = Outcome(failed=1, failures=[str(fault)])
        seconds = time.monotonic() - started
        spent[stage.group] = spent.get(stage.group, 0.0) + seconds
        if outcome.failed:
            broken.add(stage.name)
        outcome.failures = [f"{stage.name}: {name}" for name in outcome.failures]
        outcome.skips = [f"{stage.name}: {name}" for name in outcome.skips]
        word = "FAILED" if outcome.failed else "ok"
        print(
            f"-- {stage.name}: {word}, {outcome.passed} passed, {outcome.failed} failed,"
            f" {len(outcome.skips)} skipped, {seconds:.1f} s",
            flush=True,
        )
        total.add(outcome)
    return total
