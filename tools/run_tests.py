"""`make test`: every stage in order, the budget beside what was spent, and one last line.

The last line reads `N passed, N failed, N skipped`; the status is 0 only when nothing failed.
`--only NAME` (repeatable) and `--group GROUP` choose stages, `--list` names them.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import signal
import sys
import tomllib
import uuid
from pathlib import Path

import leftovers
import python_stages
import report
from report import Outcome
from runner import ROOT, Runner, Stage, run_stages

SKIPS = ROOT / "target" / "test-logs" / "skips"
# The binding compiles without looking for a libpython, as maturin does it.
NO_LIBPYTHON = {"PYO3_BUILD_EXTENSION_MODULE": "1"}
# The bans of clippy.toml are for the library; tests, benches and examples are ordinary programs.
UNBANNED = ("-A", "clippy::disallowed_methods", "-A", "clippy::print_stdout")


def has_component(run: Runner, name: str) -> bool:
    """Tells whether cargo has a component; a machine without it skips by name."""
    return shutil.which(f"cargo-{name}") is not None and run.run("cargo", name, "--version").well


def fmt(run: Runner) -> Outcome:
    """Checks the formatting of the Rust code."""
    if not has_component(run, "fmt"):
        return Outcome(skips=["rustfmt is not installed (rustup component add rustfmt)"])
    return run.check("cargo fmt", "cargo", "fmt", "--check")


def clippy(run: Runner) -> Outcome:
    """Runs clippy on the library with its bans, then on everything, with and without Python."""
    if not has_component(run, "clippy"):
        return Outcome(skips=["clippy is not installed (rustup component add clippy)"])
    total = Outcome()
    for features in ([], ["--features", "python,failpoints"]):
        what = f"clippy {' '.join(features) or 'default'}"
        command = ["cargo", "clippy", "--quiet", *features]
        total.add(run.check(what, *command, "--lib", "--", "-D", "warnings", env=NO_LIBPYTHON))
        command += ["--all-targets", "--", "-D", "warnings", *UNBANNED]
        total.add(run.check(f"{what}, all targets", *command, env=NO_LIBPYTHON))
    return total


def features(run: Runner) -> Outcome:
    """Checks the library without features and with each one alone."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    names = ["", *(name for name in manifest["features"] if name != "default")]
    total = Outcome()
    for name in names:
        # `cargo check` by another name, so that the flag reaches this crate alone.
        command = ["cargo", "rustc", "--quiet", "--lib", "--profile", "check"]
        command += ["--no-default-features", *(["--features", name] if name else [])]
        what = f"features: {name or 'none'}"
        total.add(run.check(what, *command, "--", "-D", "warnings", env=NO_LIBPYTHON))
    return total


def fuzz_check(run: Runner) -> Outcome:
    """Checks that the fuzz targets compile; `make fuzz` runs them."""
    if shutil.which("c++") is None:
        return Outcome(skips=["the fuzz targets need a C++ compiler (apt install g++)"])
    command = ["cargo", "check", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]
    return run.check("fuzz targets", *command, env={"RUSTFLAGS": "--cfg fuzzing"})


def rust_build(run: Runner) -> Outcome:
    """Builds the tests and examples, so that the next stage measures the tests alone."""
    return run.check("build", "cargo", "test", "--no-run", "--features", "failpoints")


def cargo_test(run: Runner, *arguments: str, **env: str) -> Outcome:
    """Runs `cargo test` with fail points and counts every test of every binary."""
    SKIPS.unlink(missing_ok=True)
    command = ["cargo", "test", "--no-fail-fast", "--features", "failpoints", *arguments]
    done = run.run(*command, env={**env, "RINGSPAN_SKIPS": str(SKIPS)})
    total = report.read_cargo(done.output, done.well)
    report.read_skip_file(SKIPS, total)
    return total


def rust(run: Runner) -> Outcome:
    """Unit tests, integration tests and doctests (the README's Rust blocks among them)."""
    return cargo_test(run)


def rust_pipe(run: Runner) -> Outcome:
    """The unit and integration tests again, with the doorbell of the other unixes.

    Not the minute of random kills, which `make soak` runs with either doorbell.
    """
    soak = ("--", "--skip", "killed_at_random_moments")
    return cargo_test(run, "--lib", "--tests", *soak, RINGSPAN_DOORBELL="pipe")


def loom(run: Runner) -> Outcome:
    """The model-checked tests, in a target folder of their own."""
    env = {
        "RUSTFLAGS": "--cfg ringspan_loom",
        "CARGO_TARGET_DIR": "target/loom",
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
        "CARGO_PROFILE_RELEASE_STRIP": "none",
    }
    done = run.run("cargo", "test", "--lib", "--release", "loom_", env=env)
    total = report.read_cargo(done.output, done.well)
    if total.passed + total.failed == 0:
        return Outcome(failed=1, failures=["no test is named loom_*"])
    return total


def docs(run: Runner) -> Outcome:
    """Builds the API documentation; a broken link is an error."""
    env = {"RUSTDOCFLAGS": "-D warnings"}
    return run.check("cargo doc", "cargo", "doc", "--quiet", "--no-deps", env=env)


STAGES = [
    Stage("fmt", "lint", fmt),
    Stage("clippy", "lint", clippy),
    Stage("features", "builds", features),
    Stage("fuzz-check", "builds", fuzz_check),
    Stage("rust-build", "builds", rust_build),
    Stage("venv", "builds", python_stages.set_up),
    Stage("wheel", "builds", python_stages.wheel, ("venv",)),
    Stage("rust", "rust", rust, ("rust-build",)),
    Stage("rust-pipe", "rust", rust_pipe, ("rust-build",)),
    Stage("loom", "loom", loom),
    Stage("python", "python", python_stages.python, ("wheel",)),
    Stage("python-pipe", "python", python_stages.python_pipe, ("wheel",)),
    Stage("other-pythons", "python", python_stages.other_pythons, ("wheel",)),
    Stage("older-arrays", "python", python_stages.older_arrays, ("wheel",)),
    Stage("originals", "python", python_stages.originals, ("wheel",)),
    Stage("readme", "lint", python_stages.readme, ("wheel",)),
    Stage("ruff", "lint", python_stages.ruff, ("venv",)),
    Stage("mypy", "lint", python_stages.mypy, ("wheel",)),
    Stage("stubtest", "lint", python_stages.stubtest, ("wheel",)),
    Stage("docs", "lint", docs),
]


def chosen(only: list[str], group: str | None) -> list[Stage]:
    """Returns the stages asked for, in order, and those that they need."""
    if not only and group is None:
        return STAGES
    wanted = {s.name for s in STAGES if s.name in only or s.group == group}
    for stage in reversed(STAGES):
        if stage.name in wanted:
            wanted.update(stage.needs)
    return [stage for stage in STAGES if stage.name in wanted]


def last_look(run: Runner, before: frozenset[Path], mark: str) -> Outcome:
    """Fails when the run left a file, a door or a process behind."""
    del run
    found = leftovers.processes(mark) + leftovers.compare(before)
    return Outcome(int(not found), int(bool(found)), failures=found)


def main() -> int:
    """Runs what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description="Run the tests of ringspan.")
    names = [stage.name for stage in STAGES]
    parser.add_argument("--only", action="append", default=[], choices=names, metavar="STAGE")
    parser.add_argument("--group", choices=sorted({stage.group for stage in STAGES}))
    parser.add_argument("--list", action="store_true", help="name the stages and leave")
    parser.add_argument("--verbose", action="store_true", help="show all output as it comes")
    options = parser.parse_args()
    if options.list:
        for stage in STAGES:
            print(f"{stage.name:<14} {stage.group:<7} {(stage.work.__doc__ or '').splitlines()[0]}")
        return 0
    if shutil.which("cargo") is None:
        print("no `cargo` on PATH: install a Rust toolchain (https://rustup.rs)", file=sys.stderr)
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # tests print what no terminal needs to have
    # A shell starts what it runs in the background with Ctrl-C ignored, which children inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    mark = uuid.uuid4().hex
    env = {key: value for key, value in os.environ.items() if key != "RUSTFLAGS"}
    runner = Runner(options.verbose, {**env, leftovers.MARK: mark, "CARGO_TERM_COLOR": "never"})
    before = leftovers.snapshot()
    spent: dict[str, float] = {}
    stages = list(chosen(options.only, options.group))
    stages.append(Stage("leftovers", "spare", lambda run: last_look(run, before, mark)))
    total = run_stages(stages, runner, spent)
    print(f"\n{report.table(spent)}\n")
    for title, lines in (("note", runner.notes), ("skipped", total.skips)):
        for line in lines:
            print(f"{title}: {line}")
    for line in total.failures:
        print(f"FAILED: {line}")
    print(f"{total.passed} passed, {total.failed} failed, {len(total.skips)} skipped", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
