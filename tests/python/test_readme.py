"""Every block of the README (and of docs/*.md) is executed, or checked against what exists.

Blocks are told apart by their language; an HTML comment right before one says more:

    ```python                            runs in a fresh interpreter and must end well;
                                         `await` at the top level is allowed
    <!-- run: pair=sixty role=a -->      before ```python: one side of a pair of programs; all the
                                         roles of a pair run at the same time, each in a process
                                         of its own, started in the order of the page
    <!-- run: pair=p role=b after=/name -->   the same; started once that name exists
    <!-- run: needs=pandas -->           before ```python: skipped where that cannot be imported
    <!-- run: continue -->               before ```python: runs behind the Python block before it,
                                         in the same interpreter
    <!-- expect -->                      before ```text: the exact stdout of the block, or of the
                                         pair (role by role), that stands before it
    <!-- expect: role=b -->              the same for one role of the pair
    ```sh                                every command must exist: make targets, cargo examples,
                                         files, extras of the package
    ```rust                              a doctest: src/lib.rs includes the page

Names of segments in the blocks must be free before, and are removed afterwards.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PATIENCE = 25.0

# Runs a block as `python -m asyncio` would: with `await` at the top level.
DRIVER = """
import ast, asyncio, inspect, sys
for source in sys.argv[1:]:
    code = compile(source, "README block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    space = globals().setdefault("space", {"__name__": "__main__"})
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, space))
    else:
        exec(code, space)
"""


@dataclass
class Block:
    """A fenced block: language, marker before it, text, and where it stands."""

    language: str
    marker: str
    text: str
    place: str


@dataclass
class Program:
    """One or more roles that run at the same time, and what they shall print."""

    place: str
    pair: str | None = None
    roles: dict[str, list[str]] = field(default_factory=dict)
    expected: dict[str | None, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    needs: str | None = None


def blocks(page: str, name: str) -> list[Block]:
    """Cuts a page into its fenced blocks."""
    found: list[Block] = []
    marker, fence, language, start = "", "", "", 0
    body: list[str] = []
    for number, line in enumerate(page.splitlines(), 1):
        opened = re.match(r"^(`{3,})\s*([\w-]*)", line)
        if fence:
            if line.strip() == fence:
                found.append(Block(language, marker, "\n".join(body) + "\n", f"{name}:{start}"))
                marker, fence = "", ""
            else:
                body.append(line)
        elif opened:
            fence, language, start, body = opened[1], opened[2], number, []
        elif line.startswith("<!--"):
            marker = line.removeprefix("<!--").removesuffix("-->").strip()
        elif line.strip():
            marker = ""
    assert not fence, f"{name}:{start}: this block is never closed"
    return found


def options(marker: str) -> dict[str, str]:
    """Reads `word: key=value key=value`; a lone word stands for itself."""
    _, _, rest = marker.partition(":")
    pairs = (part.partition("=") for part in rest.split())
    return {key: value for key, _, value in pairs}


def programs(found: list[Block]) -> list[Program]:
    """Groups the Python blocks into programs, with the text that each shall print."""
    made: list[Program] = []
    for block in found:
        asked = options(block.marker)
        if block.marker.startswith("expect"):
            assert made, f"{block.place}: nothing ran before this <!-- expect -->"
            assert block.language == "text", f"{block.place}: an expected output is a text block"
            role = asked.get("role")
            assert role is None or role in made[-1].roles, f"{block.place}: no role {role}"
            made[-1].expected[role] = block.text
        elif block.language == "python":
            assert not block.marker or block.marker.startswith("run:"), (
                f"{block.place}: the marker `{block.marker}` is unknown"
            )
            if "continue" in asked:
                assert made, f"{block.place}: nothing to continue"
                next(reversed(made[-1].roles.values())).append(block.text)
                continue
            pair, role = asked.get("pair"), asked.get("role", "")
            if not (made and pair is not None and made[-1].pair == pair):
                made.append(Program(block.place, pair))
            assert role not in made[-1].roles, f"{block.place}: role `{role}` stands there twice"
            made[-1].roles[role] = [block.text]
            if "after" in asked:
                made[-1].after[role] = asked["after"]
            made[-1].needs = asked.get("needs", made[-1].needs)
    for program in made:
        one_sided = program.pair is not None and len(program.roles) < 2
        assert not one_sided, f"{program.place}: the pair `{program.pair}` has one role only"
    return made


@contextmanager
def names_removed(sources: list[str]) -> Iterator[None]:
    """Removes the segments that the sources name; they must not exist before."""
    text = "\n".join(sources)
    found = {
        Path("/dev/shm", name) for name in re.findall(r"""["']/([A-Za-z0-9][\w.-]*)["']""", text)
    }
    taken = [str(path) for path in found if path.exists()]
    assert not taken, f"{', '.join(taken)} is in the way: remove it and try again"
    try:
        yield
    finally:
        for path in found:
            path.unlink(missing_ok=True)


def await_name(name: str, running: dict[str, subprocess.Popen[str]]) -> None:
    """Waits until the name is there, or those who run have ended."""
    until = time.monotonic() + PATIENCE
    while not Path("/dev/shm", name[1:]).exists() and time.monotonic() < until:
        if all(process.poll() is not None for process in running.values()):
            return
        time.sleep(0.01)


def run_program(program: Program, folder: Path) -> dict[str, str]:
    """Runs all roles at once; returns what each printed; all must end with status 0."""
    running: dict[str, subprocess.Popen[str]] = {}
    said: dict[str, str] = {}
    try:
        for role, sources in program.roles.items():
            if role in program.after:
                await_name(program.after[role], running)
            running[role] = subprocess.Popen(
                [sys.executable, "-X", "dev", "-c", DRIVER, *sources],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
            )
        for role, process in running.items():
            said[role], errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, f"{program.place} {role}: {errors}"
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return said


def check(program: Program, folder: Path) -> None:
    """Runs a program and compares what it printed with what the page shows."""
    with names_removed([text for sources in program.roles.values() for text in sources]):
        said = run_program(program, folder)
    for role, text in program.expected.items():
        got = "".join(said.values()) if role is None else said[role]
        assert got == text, f"{program.place}: printed\n{got}\nbut the page shows\n{text}"


def targets() -> set[str]:
    """Returns the targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def shell_fault(line: str) -> str | None:
    """Returns what is wrong with a command line of a page, or None."""
    words = [word for word in shlex.split(line, comments=True) if not re.match(r"^[A-Z_]+=", word)]
    if not words:
        return None
    command, rest = words[0], words[1:]
    if command == "make":
        bad = [word for word in rest if word not in targets() and not word.startswith("-")]
        return f"make has no target {', '.join(bad)}" if bad else None
    if command == "cargo" and "--example" in rest:
        example = rest[rest.index("--example") + 1]
        there = list(ROOT.glob(f"examples/{example}.rs")) + list(ROOT.glob(f"examples/{example}/"))
        return None if there else f"there is no example {example}"
    if command in {"pip", "python", "python3", "uv"}:
        extras = re.findall(r"ringspan\[([\w,-]+)\]", line)
        manifest = tomllib.loads((ROOT / "pyproject.toml").read_text())
        known = manifest["project"]["optional-dependencies"]
        bad = [e for group in extras for e in group.split(",") if e not in known]
        bad += [w for w in rest if w.endswith(".py") and not (ROOT / w).exists()]
        return f"there is no {', '.join(bad)}" if bad else None
    if command in {"cargo", "cd", "export", "git", "ls", "rm", "source"} or shutil.which(command):
        return None
    return None if (ROOT / command).is_file() else f"there is no command {command}"


FOUND = {page.name: blocks(page.read_text(), page.name) for page in PAGES if page.is_file()}


@pytest.mark.parametrize(
    "program",
    [program for found in FOUND.values() for program in programs(found)],
    ids=lambda program: program.place,
)
def test_python_blocks_run(program: Program, tmp_path: Path) -> None:
    if program.needs is not None:
        pytest.importorskip(program.needs)
    check(program, tmp_path)


def test_commands_exist() -> None:
    faults = []
    for found in FOUND.values():
        for block in found:
            if block.language not in {"sh", "bash", "console", "shell"}:
                continue
            for line in block.text.replace("\\\n", " ").splitlines():
                fault = shell_fault(line.removeprefix("$ "))
                if fault:
                    faults.append(f"{block.place}: `{line}`: {fault}")
    assert not faults, "\n".join(faults)


def test_rust_blocks_are_doctests() -> None:
    code = (ROOT / "src" / "lib.rs").read_text()
    for page, found in FOUND.items():
        rust = [block for block in found if block.language.startswith("rust")]
        if rust:
            assert f'{page}")' in code, f"{rust[0].place}: src/lib.rs does not include {page}"


PLANTED = """
<!-- run: pair=p role=a -->
```python
print("from a")
```
Then, in another terminal:
<!-- run: pair=p role=b -->
```python
import asyncio
await asyncio.sleep(0)
print("from b")
```
<!-- expect: role=b -->
```text
from b
```
<!-- expect -->
```text
from a
from c
```
"""


def test_a_planted_page_is_read_and_a_wrong_output_found(tmp_path: Path) -> None:
    (program,) = programs(blocks(PLANTED, "planted"))
    assert list(program.roles) == ["a", "b"]
    with pytest.raises(AssertionError, match="from c"):
        check(program, tmp_path)
    program.expected[None] = "from a\nfrom b\n"
    check(program, tmp_path)


def test_planted_faults_are_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        check(Program("planted", roles={"": ["1 / 0"]}), tmp_path)
    with pytest.raises(AssertionError, match="never closed"):
        blocks("```python\n", "planted")
    with pytest.raises(AssertionError, match="one role only"):
        programs(blocks("<!-- run: pair=x role=a -->\n```python\n```\n", "planted"))
    assert shell_fault("make no-such-target")
    assert shell_fault("cargo run --example no-such-example")
    assert shell_fault("pip install 'ringspan[nothing]'")
    assert shell_fault("no-such-command-here --x")
    assert shell_fault("make soak MINUTES=3  # long") is None
