"""Compare ringspan, the bare limits and other libraries in one interleaved run.

    python benches/compare/run.py [--rounds 3] [--seconds 0.5] [--only TEXT]... [--quick]
                                  [--svg] [--docs]

Each round measures every cell once, so that a machine which slows down slows all of them; ratios
are taken inside a round and the median ratio is judged. Run it on a machine that does nothing
else. Exit status 1 means that a must was missed, 2 that a cell of ringspan failed.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.util
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import chart
import report
import report_compat
from figures import middle
from gates import Cell, Round

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CELLS = HERE / "target" / "release" / "compare-cells"
PYTHON_CELLS = [sys.executable, str(HERE / "python" / "cells.py")]
#: Python peers: module and what pip installs.
PACKAGES = {
    "numpy": "numpy>=2.2",
    "zmq": "pyzmq==27.3.0",
    "membridge": "membridge==1.0.0",
    "faster_fifo": "faster-fifo==1.5.2",
    "uvloop": "uvloop==0.23.0",
    "filelock": "filelock==4.3.1",
    "msgpack": "msgpack==1.2.4",
    "grpc": "grpcio==1.85.3",
    "rpyc": "rpyc==6.0.2",
    "Pyro5": "Pyro5==5.17",
    "sysframe": "sysframe==0.4.1",
}
CRATES = (
    "tokio", "tokio-util", "interprocess", "iceoryx2", "ipc-channel", "shmem-ipc", "shmring",
    "shaq", "ringfire", "ipmpsc", "parking_lot", "tarpc",
    "tonic", "rmp-serde",
)  # fmt: skip


def build(peers: bool) -> str | None:
    """Build the Rust cells with as many peers as this machine can; says what it left out."""
    command = ["cargo", "build", "--release", "--manifest-path", str(HERE / "Cargo.toml")]
    command += ["--no-default-features", "--features"]
    attempts = {
        "ringspan,peers,iceoryx2": None,
        "ringspan,peers": "iceoryx2 did not build (it needs libclang)",
        "ringspan": "the Rust peers did not build",
    }
    for features, left_out in attempts.items():
        if not peers and features != "ringspan":
            continue
        if subprocess.run([*command, features], check=False).returncode == 0:
            return left_out if peers else None
    raise SystemExit("compare: the cells do not build; cargo says why above")


def install_modules(cells: list[Cell]) -> None:
    """Try to install what the cells need and is not there into this environment, if it is one."""
    if sys.prefix == sys.base_prefix:
        return
    needed = {need.split(".")[0] for c in cells for need in str(c.get("needs", "")).split()}
    for module, package in PACKAGES.items():
        if module in needed and importlib.util.find_spec(module) is None:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, package], stdout=sys.stderr, check=False)
    importlib.invalidate_caches()


def is_there(need: str) -> bool:
    """Whether a module can be imported, and has the name that stands behind a dot."""
    module, _, name = need.partition(".")
    if importlib.util.find_spec(module) is None:
        return False
    return not name or hasattr(importlib.import_module(module), name)


def is_wanted(cell: Cell, only: list[str]) -> bool:
    """Whether a word of the cell's name begins with one of the texts, or there are none."""
    name = str(cell["id"])
    texts = [rf"(?<![a-z0-9]){re.escape(text)}" for text in only]
    return not only or any(re.search(text, name) for text in texts)


def listed(command: list[str]) -> list[Cell]:
    """What a cell program can measure."""
    done = subprocess.run([*command, "list"], check=True, capture_output=True, text=True)
    cells: list[Cell] = json.loads(done.stdout)
    return cells


def run_cell(cell: Cell, seconds: float) -> Round:
    """Measure one cell once: its figure, and its extra figures under `name#extra`."""
    name = str(cell["id"])
    command = PYTHON_CELLS if str(cell["kind"]).startswith("py-") else [str(CELLS)]
    process = subprocess.Popen(
        [*command, "run", name, "--seconds", str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=150 + 40 * seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    finally:
        # A cell that was killed may leave its files; they carry its pid.
        for left in Path("/dev/shm").glob(f"*ringspan-compare-{process.pid}-*"):
            left.unlink(missing_ok=True)
    if process.returncode != 0:
        last = err.strip().splitlines()[-1:] or ["no output"]
        raise RuntimeError(f"{name} ended with {process.returncode}: {last[0]}")
    found = json.loads(out.strip().splitlines()[-1])
    extra = {f"{name}#{key}": float(value) for key, value in found["more"].items()}
    return {name: float(found["value"]), **extra}


def progress(done: int, total: int, began: float, name: str) -> None:
    """One line on stderr that rewrites itself; plain lines where stderr is no terminal."""
    spent = time.monotonic() - began
    left = f"{spent / done * (total - done):.0f} s left" if done else "starting"
    if sys.stderr.isatty():
        filled = 30 * done // total
        bar = "#" * filled + "." * (30 - filled)
        text = f"\r[{bar}] {done}/{total}, {left:<12} {name:<52.52}"
        sys.stderr.write(text if done < total else text + "\n")
    elif done % 25 == 0 or done == total:
        sys.stderr.write(f"{done}/{total}, {left}\n")
    sys.stderr.flush()


def row_of(cell: Cell) -> tuple[str, int, str]:
    """What the cells of one table or row have in common."""
    return str(cell["kind"]), int(cell["size"]), str(cell["pin"])


def turned(cells: list[Cell]) -> list[Cell]:
    """Sorted cells, those of each row the other way round: nobody is always the first."""
    return [cell for _, row in itertools.groupby(cells, row_of) for cell in reversed(list(row))]


def measure(cells: list[Cell], rounds: int, seconds: float) -> tuple[list[Round], dict[str, str]]:
    """All rounds, interleaved; and what failed, with the last reason."""
    found: list[Round] = []
    failed: dict[str, str] = {}
    began, total = time.monotonic(), rounds * len(cells)
    for turn in range(rounds):
        figures: Round = {}
        for n, cell in enumerate(turned(cells) if turn % 2 else cells):
            progress(turn * len(cells) + n, total, began, str(cell["id"]))
            try:
                figures |= run_cell(cell, seconds)
            except (RuntimeError, ValueError, LookupError) as reason:
                failed[str(cell["id"])] = str(reason)
        found.append(figures)
    progress(total, total, began, "")
    return found, failed


def first_line(path: str, key: str) -> str:
    """The value of `key : value` in a file of /proc, or "unknown"."""
    try:
        text = Path(path).read_text()
    except OSError:
        return "unknown"
    match = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else "unknown"


def machine() -> dict[str, str]:
    """Where this was measured, and with what."""
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False)
    found = {
        "cpu": first_line("/proc/cpuinfo", "model name"),
        "cores allowed": str(len(os.sched_getaffinity(0))),
        "virtual": "yes" if "hypervisor" in first_line("/proc/cpuinfo", "flags") else "no",
        "kernel": platform.release(),
        "rust": rust.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
    lock = HERE / "Cargo.lock"
    text = lock.read_text() if lock.exists() else ""
    for crate in CRATES:
        if match := re.search(rf'name = "{crate}"\nversion = "([^"]+)"', text):
            found[crate] = match[1]
    for package in PACKAGES.values():
        name = re.split("[=>]", package)[0]
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[f"{name} (py)"] = metadata.version(name)
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="at least 3 for a verdict (3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each cell (0.5)")
    parser.add_argument(
        "--only", action="append", default=[], help="cells with a word that begins so"
    )
    parser.add_argument("--quick", action="store_true", help="one round of 0.1 s: does it run?")
    parser.add_argument("--svg", action="store_true", help="draw docs/img/compare.svg and others")
    parser.add_argument("--docs", action="store_true", help="fill in docs/benchmarks.md")
    parser.add_argument("--no-build", action="store_true", help="take the binary that is there")
    parser.add_argument("--no-rust", action="store_true", help="leave the Rust cells out")
    parser.add_argument("--no-python", action="store_true", help="leave the Python cells out")
    parser.add_argument("--no-peers", action="store_true", help="leave the other libraries out")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds = 1, 0.1
    if args.rounds < 1 or args.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    if args.docs and args.rounds < 3:
        parser.error("what stands in a document needs --rounds 3 or more")
    return args


def keep(args: argparse.Namespace, about: str, rows: list[Cell], rounds: list[Round]) -> None:
    """Draw the pictures and fill in the document, as asked."""
    if args.svg:
        pictures = {
            "compare": chart.PANELS,
            "locks": chart.SHARED_PANELS,
            "rpc": chart.RPC_PANELS,
        }
        for name, panels in pictures.items():
            picture = ROOT / "docs" / "img" / f"{name}.svg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            if drawn := chart.draw(rows, rounds, about, panels):
                picture.write_text(drawn)
    if args.docs:
        page = ROOT / "docs" / "benchmarks.md"
        judged = report.judge(rows, rounds)
        page.write_text(report.document(page.read_text(), about, rows, rounds, judged))


def main() -> int:
    args = parse()
    left_out = [] if args.no_build or args.no_rust else [build(not args.no_peers)]
    cells = [] if args.no_rust else listed([str(CELLS)])
    if not args.no_python:
        cells += listed(PYTHON_CELLS)
    if args.no_peers:
        cells = [c for c in cells if c["class"] != "peer"]
    cells = [c for c in cells if is_wanted(c, args.only)]
    install_modules(cells)
    there = functools.cache(is_there)
    for cell in list(cells):
        if gone := [need for need in str(cell.get("needs", "")).split() if not there(need)]:
            left_out.append(f"{cell['id']} ({', '.join(gone)} is not there)")
            cells.remove(cell)
    # Cells of one table run one after the other: a ratio then spans seconds, not the whole round.
    cells.sort(key=row_of)
    if not cells:
        print("no cell has that in its name", file=sys.stderr)
        return 1
    about = machine()
    measured, failed = measure(cells, args.rounds, args.seconds)
    failed |= report_compat.disagreements(measured)
    rounds = report_compat.without(measured, failed)

    print("# Comparison\n")
    print("Pinning: apart = first and second allowed core, same = both on the first.")
    print(f"{args.rounds} interleaved rounds, {args.seconds} s a cell.")
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    busy = float(about["load before"]) > 0.5
    if busy:
        print("\n**The machine was busy before this run: the figures only show that it runs.**")
    print(report.tables(cells, rounds))
    judged = report.judge(cells, rounds)
    print(report.verdicts(judged))
    for line in filter(None, left_out):
        print(f"\nleft out: {line}")
    for name, reason in failed.items():
        print(f"\nfailed: {name}: {reason}")

    out = ROOT / "target" / "compare" / "results.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = {"about": about, "cells": cells, "rounds": measured, "failed": failed}
    out.write_text(json.dumps(kept, indent=1))
    note = f"{about['cpu']}, Linux {about['kernel']}, median and range of {args.rounds} rounds"
    if busy:
        note += f", on a machine that was busy (load {about['load before']})"
    keep(args, note, cells, rounds)
    if any("ringspan-" in name.rsplit("/", 1)[1] for name in failed):
        return 2
    missed = [j for j in judged if j.ratios and "MISSED" in j.gate.verdict(middle(j.ratios))]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
