"""`make test`: every stage in order, the budget beside what was spent, and one last line.

The last line reads `N passed, N failed, N skipped`; the status is 0 only when nothing failed.
`--only NAME` (repeatable) and `--group GROUP` choose stages, `--list` names them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tomllib
import uuid
from pathlib import Path

import environments
import leftovers
import report
from report import Outcome
from runner import ROOT, Runner, Stage, run_stages

VENV_PYTHON = str(environments.python_in(environments.DEV))
WHEELS = ROOT / "target" / "wheels" / "dev"
SKIPS = ROOT / "target" / "test-logs" / "skips"
# The binding compiles without looking for a libpython, as maturin does it.
NO_LIBPYTHON = {"PYO3_BUILD_EXTENSION_MODULE": "1"}
# The bans of clippy.toml are for the library; tests, benches and examples are ordinary programs.
UNBANNED = ("-A", "clippy::disallowed_methods", "-A", "clippy::print_stdout")
# Test files that are the same on every interpreter and doorbell.
ONCE = ("test_readme.py", "test_examples.py")
# Test files about arrays: these run with each generation of numpy and pandas, and not elsewhere.
ARRAYS = ("test_array_*.py", "test_compat_shared_memory_arrays.py")
# The newest CPython that numpy 1.26 has wheels for.
OLDER_ARRAYS_UP_TO = 12


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


def set_up(run: Runner) -> Outcome:
    """Makes `.venv` with the pinned tools."""
    del run
    environments.ensure(environments.DEV, "dev")
    return Outcome(passed=1)


def wheel(run: Runner) -> Outcome:
    """Builds the one wheel that all Python tests use, and installs it."""
    command = [str(environments.DEV / "bin" / "maturin"), "build", "--profile", "dev-wheel"]
    command += ["--features", "python,failpoints", "-o", str(WHEELS), "-i", VENV_PYTHON]
    shutil.rmtree(WHEELS, ignore_errors=True)
    total = run.check("maturin build", *command)
    if not total.failed:
        environments.install_wheel(environments.DEV, one_wheel())
    return total


def one_wheel() -> Path:
    """Returns the wheel that the stage before has built."""
    found = list(WHEELS.glob("ringspan-*.whl"))
    if len(found) != 1:
        raise RuntimeError(f"expected one wheel in {WHEELS}, found {len(found)}")
    return found[0]


def pytest(run: Runner, python: str, *arguments: str, **env: str) -> Outcome:
    """Runs pytest with an interpreter that has the wheel; counts by its JUnit report."""
    junit = ROOT / "target" / "test-logs" / f"{run.stage}.xml"
    junit.unlink(missing_ok=True)
    examples = str(ROOT / "target" / "debug" / "examples")
    command = [python, "-m", "pytest", "-q", f"--junitxml={junit}", *arguments]
    done = run.run(*command, env={"RINGSPAN_EXAMPLES": examples, **env})
    return report.read_junit(junit, done.well)


def again() -> list[str]:
    """Returns the arguments that leave out what one run is enough for."""
    left_out = [f"--ignore-glob=*/{name}" for name in (*ONCE, *ARRAYS)]
    return ["-m", "not slow", *left_out]


def python(run: Runner) -> Outcome:
    """The whole Python suite on the Python that runs this."""
    return pytest(run, VENV_PYTHON, "--deselect=tests/python/test_readme.py")


def python_pipe(run: Runner) -> Outcome:
    """The core of the Python suite with the doorbell of the other unixes."""
    return pytest(run, VENV_PYTHON, *again(), RINGSPAN_DOORBELL="pipe")


def other_pythons(run: Runner) -> Outcome:
    """The core of the Python suite on every other CPython of this machine, with the same wheel."""
    total = Outcome()
    base = run.stage
    for version, path in environments.other_pythons().items():
        if path is None:
            run.note(f"CPython {version}: not found on this machine")
            continue
        run.stage = f"{base}-{version}"
        env = ROOT / f".venv-{version}"
        interpreter = str(environments.ensure(env, "test", path))
        environments.install_wheel(env, one_wheel())
        outcome = pytest(run, interpreter, *again())
        outcome.failures = [f"{version}: {name}" for name in outcome.failures]
        outcome.skips = [f"{version}: {name}" for name in outcome.skips]
        total.add(outcome)
    run.stage = base
    return total


def older_arrays(run: Runner) -> Outcome:
    """What has to do with arrays, with numpy 1.26, pandas 2 and the oldest xarray we take."""
    base = environments.up_to(OLDER_ARRAYS_UP_TO)
    if base is None:
        return Outcome(skips=[f"numpy 1.26 needs a CPython up to 3.{OLDER_ARRAYS_UP_TO}"])
    env = ROOT / ".venv-older-arrays"
    interpreter = str(environments.ensure(env, "older-arrays", base))
    environments.install_wheel(env, one_wheel())
    tests = ROOT / "tests" / "python"
    named = ("test_codec_arrays.py", "test_scalar.py", "test_block.py", *ARRAYS)
    files = [str(path) for name in named for path in sorted(tests.glob(name))]
    total = pytest(run, interpreter, *files)
    pages = ("tests/python/test_readme.py", "-k", "arrays.md or shared_memory.md")
    total.add(pytest(run, interpreter, *pages))
    return total


def readme(run: Runner) -> Outcome:
    """Executes the blocks of the README (its Rust blocks are doctests)."""
    return pytest(run, VENV_PYTHON, "tests/python/test_readme.py")


def ruff(run: Runner) -> Outcome:
    """Lints and checks the formatting of all Python."""
    total = run.check("ruff check", VENV_PYTHON, "-m", "ruff", "check")
    total.add(run.check("ruff format", VENV_PYTHON, "-m", "ruff", "format", "--check"))
    return total


def mypy(run: Runner) -> Outcome:
    """Checks the types of the package, the examples, the tools and the tests' own helpers."""
    total = Outcome()
    places = [["python/ringspan"], ["tools"], ["tests/python/conftest.py"]]
    places += [["tests/python/test_readme.py"], ["tests/python/test_types.py"]]
    places += [[str(path.relative_to(ROOT))] for path in sorted(ROOT.glob("examples/python/*.py"))]
    for place in places:
        if (ROOT / place[0]).exists():
            command = [VENV_PYTHON, "-m", "mypy", "--strict", *place]
            total.add(run.check(f"mypy {place[0]}", *command, env={"MYPYPATH": "tools"}))
    return total


def stubtest(run: Runner) -> Outcome:
    """Compares the stubs with the module that was built."""
    return run.check("stubtest", VENV_PYTHON, "-m", "mypy.stubtest", "ringspan")


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
    Stage("venv", "builds", set_up),
    Stage("wheel", "builds", wheel, ("venv",)),
    Stage("rust", "rust", rust, ("rust-build",)),
    Stage("rust-pipe", "rust", rust_pipe, ("rust-build",)),
    Stage("loom", "loom", loom),
    Stage("python", "python", python, ("wheel",)),
    Stage("python-pipe", "python", python_pipe, ("wheel",)),
    Stage("other-pythons", "python", other_pythons, ("wheel",)),
    Stage("older-arrays", "python", older_arrays, ("wheel",)),
    Stage("readme", "lint", readme, ("wheel",)),
    Stage("ruff", "lint", ruff, ("venv",)),
    Stage("mypy", "lint", mypy, ("wheel",)),
    Stage("stubtest", "lint", stubtest, ("wheel",)),
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
