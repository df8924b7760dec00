"""Runs one stage of the test run: a named command with its environment, log and watchdog."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import leftovers
import output
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
        text: list[str] = []
        before = self._living()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"$ {shown}\n")

                def tell(part: str) -> None:
                    text.append(part)
                    file.write(part)
                    if self.verbose:
                        sys.stdout.write(part)

                closed = output.follow(process, tell, WATCHDOG_SECONDS, GRACE_SECONDS)
                left = [] if closed else self._end_those_since(before)
                for line in left:
                    tell(f"left running: {line}\n")
        except BaseException:
            output.kill_group(process.pid)
            raise
        finally:
            with process:
                pass  # closes the output and reaps
        status = process.returncode or int(not closed)
        said = "".join(text)
        if status != 0 and not self.verbose:
            print("".join(said.splitlines(keepends=True)[-80:]), end="", flush=True)
            print(f"   ended with {status}; the whole output is in {log.relative_to(ROOT)}")
        return Ran(status, said, time.monotonic() - started)

    def _living(self) -> dict[int, str]:
        return leftovers.living(self.env[leftovers.MARK])

    def _end_those_since(self, before: Mapping[int, str]) -> list[str]:
        """Ends what a command left running, which holds its output open; what that was."""
        left = {pid: line for pid, line in self._living().items() if pid not in before}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return list(left.values()) or ["a process without our mark"]

    def check(self, what: str, *command: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Runs a command that counts as one test."""
        if self.run(*command, env=env).well:
            return Outcome(passed=1)
        return Outcome(failed=1, failures=[what])


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
