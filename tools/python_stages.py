"""The stages of `make test` that need Python packages: environments, the wheel, pytest, lints."""

from __future__ import annotations

import shutil
from pathlib import Path

import environments
import report
from report import Outcome
from runner import ROOT, Runner

VENV_PYTHON = str(environments.python_in(environments.DEV))
WHEELS = ROOT / "target" / "wheels" / "dev"
TESTS = ROOT / "tests" / "python"
# Test files that are the same on every interpreter and doorbell.
ONCE = ("test_readme.py", "test_examples.py")
# Test files about arrays: these run with each generation of numpy and pandas, and not elsewhere.
ARRAYS = (
    "test_array_*.py",
    "test_compat_shared_memory_arrays*.py",
    "conformance/test_shared_memory.py",
)
# The newest CPython that numpy 1.26 has wheels for.
OLDER_ARRAYS_UP_TO = 12


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
    return report.read_junit(junit, done.output, done.well)


def again() -> list[str]:
    """Returns the arguments that leave out what one run is enough for."""
    left_out = [f"--ignore-glob=*/{name}" for name in (*ONCE, *ARRAYS)]
    return ["-m", "not slow", *left_out]


def python(run: Runner) -> Outcome:
    """The whole Python suite on the Python that runs this."""
    return pytest(run, VENV_PYTHON, "--deselect=tests/python/test_readme.py")


def python_pipe(run: Runner) -> Outcome:
    """The core of the Python suite with the doorbell of the other unixes."""
    # The older libraries wait by the objects that the other tests are about.
    left_out = [*again(), "--ignore-glob=*/test_compat_*.py", "--ignore-glob=*/conformance/*"]
    return pytest(run, VENV_PYTHON, *left_out, RINGSPAN_DOORBELL="pipe")


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
    named = ("test_codec_arrays.py", "test_scalar.py", "test_block.py", *ARRAYS)
    files = [str(path) for name in named for path in sorted(TESTS.glob(name))]
    total = pytest(run, interpreter, *files)
    pages = ("tests/python/test_readme.py", "-k", "arrays.md or shared_memory.md")
    total.add(pytest(run, interpreter, *pages))
    return total


def originals(run: Runner) -> Outcome:
    """The conformance tests of older libraries, run against those libraries themselves."""
    env = ROOT / ".venv-originals"
    interpreter = str(environments.ensure(env, "originals"))
    environments.install_wheel(env, one_wheel())
    # The others are not on PyPI, and the details of sysframe are what its bugs break.
    conform = [
        f"conformance/test_{name}.py" for name in ("sysframe", "membridge", "multiprocessing")
    ]
    details = ("membridge", "membridge_ring", "multiprocessing_better", "multiprocessing_list")
    paths = [str(TESTS / name) for name in [*conform, *(f"test_compat_{n}.py" for n in details)]]
    total = pytest(run, interpreter, *paths, RINGSPAN_COMPAT_ORIGINAL="1")
    run.note(f"{len(total.skips)} tests are about what the original lacks or gets wrong")
    total.skips.clear()
    # The documents of membridge are in its package: here they run on ringspan.
    documents = str(TESTS / "conformance" / "test_membridge.py")
    total.add(pytest(run, interpreter, documents, "-k", "snippets or programs"))
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
